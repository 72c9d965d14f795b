"""How much of each day the desk knew the books, so that figures are not taken for the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from django.db.models import Q

from execution.kpi_count import midnight
from markets.models import Gap

DAY = timedelta(days=1)
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Covered:
    """How long a day has been so far, and for how much of that no connection was cut."""

    length: timedelta
    known: timedelta

    @property
    def share(self) -> Decimal | None:
        """Return the known share; None of a day that is yet to come."""
        return Decimal(self.known / self.length) if self.length else None

    @property
    def told(self) -> str | None:
        """Write the share with four places, rounded down: 1 means that nothing is missing."""
        share = self.share
        return None if share is None else str(share.quantize(Decimal("0.0001"), ROUND_DOWN))

    @property
    def percent(self) -> Decimal | None:
        told = self.told
        return None if told is None else Decimal(told) * 100

    @property
    def thin(self) -> bool:
        return self.known < self.length


def of_days(days: Iterable[Covered]) -> Covered:
    """Return the coverage of several days together."""
    every = list(days)
    nothing = timedelta(0)
    return Covered(
        sum((day.length for day in every), nothing), sum((day.known for day in every), nothing)
    )


def coverage(first: date, last: date, *, at: datetime) -> dict[date, Covered]:
    """Return the coverage of each day up to now; one query."""
    start, end = midnight(first), min(midnight(last) + DAY, at)
    gaps = Gap.objects.filter(kind=Gap.Kind.CONNECTION, opened_at__lt=end)
    rows = gaps.filter(Q(healed_at__gt=start) | Q(ending="")).values_list("opened_at", "healed_at")
    blind = [(opened, healed or at) for opened, healed in rows.order_by("opened_at", "id")]
    days = [first + n * DAY for n in range((last - first).days + 1)]
    return {day: _of_day(midnight(day), min(midnight(day) + DAY, at), blind) for day in days}


def _of_day(start: datetime, end: datetime, blind: Iterable[Span]) -> Covered:
    length = max(end - start, timedelta(0))
    dark, seen = timedelta(0), start
    for opened, healed in blind:
        since, until = max(opened, seen), min(healed, end)
        if until > since:
            dark, seen = dark + (until - since), until
    return Covered(length, length - dark)
