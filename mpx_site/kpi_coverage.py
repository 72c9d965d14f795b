"""How much of each day the desk knew the books, so that figures are not taken for the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db.models import Q

from execution.kpi_count import midnight
from markets.models import Gap

DAY = timedelta(days=1)
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Covered:
    """The share of a day in which no connection was cut; None of a day that is yet to come."""

    share: Decimal | None

    @property
    def told(self) -> str | None:
        return None if self.share is None else f"{self.share:.4f}"


def coverage(first: date, last: date, *, at: datetime) -> dict[date, Covered]:
    """Return the coverage of each day up to now; one query."""
    start, end = midnight(first), min(midnight(last) + DAY, at)
    gaps = Gap.objects.filter(kind=Gap.Kind.CONNECTION, opened_at__lt=end)
    rows = gaps.filter(Q(healed_at__gt=start) | Q(ending="")).values_list("opened_at", "healed_at")
    blind = [(opened, healed or at) for opened, healed in rows.order_by("opened_at", "id")]
    days = [first + n * DAY for n in range((last - first).days + 1)]
    return {day: _of_day(midnight(day), min(midnight(day) + DAY, at), blind) for day in days}


def _of_day(start: datetime, end: datetime, blind: Iterable[Span]) -> Covered:
    if end <= start:
        return Covered(None)
    dark, seen = timedelta(0), start
    for opened, healed in blind:
        since, until = max(opened, seen), min(healed, end)
        if until > since:
            dark, seen = dark + (until - since), until
    return Covered(1 - Decimal(dark / (end - start)))
