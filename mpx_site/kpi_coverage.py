"""How much of each day the desk knew the books, so that figures are not taken for the whole.

What is known is the ledger's to say (`markets.ledger`); a day without any gap is not asked about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from django.db.models import Q

from alerts.models import Trouble
from execution.kpi_count import midnight
from markets.ledger import STREAM, coverage_of
from markets.models import Gap, Quote

DAY = timedelta(days=1)
NOTHING = timedelta(0)
Span = tuple[datetime, datetime | None]


@dataclass(frozen=True, slots=True)
class Covered:
    """How long books were to be known on a day so far, and for how much of that they were."""

    length: timedelta
    known: timedelta

    @property
    def share(self) -> Decimal | None:
        """Return the known share; None of a day on which no book was followed."""
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
    return Covered(
        sum((day.length for day in every), NOTHING), sum((day.known for day in every), NOTHING)
    )


def coverage(first: date, last: date, *, at: datetime) -> dict[date, Covered]:
    """Return the coverage of each day up to now; three queries, and four a day with gaps."""
    followed_since = _followed_since()
    spans = _dark_spans(midnight(first), midnight(last) + DAY)
    days = [first + n * DAY for n in range((last - first).days + 1)]
    return {day: _of_day(day, spans, followed_since, at) for day in days}


def _followed_since() -> datetime | None:
    first = Quote.objects.order_by("market__created_at").values_list("market__created_at").first()
    return None if first is None else first[0]


def _dark_spans(start: datetime, end: datetime) -> list[Span]:
    """Return when something was not known; None: it still is not."""
    gaps = Gap.objects.filter(opened_at__lt=end)
    gaps = gaps.filter(Q(healed_at__gt=start) | Q(ending="") | Q(opened_at__gte=start))
    silent = Trouble.objects.filter(component=STREAM, since__lt=end)
    silent = silent.filter(Q(ended_at=None) | Q(ended_at__gt=start))
    return [
        *((opened, None if not ending else healed or opened)
          for opened, healed, ending in gaps.values_list("opened_at", "healed_at", "ending")),
        *silent.values_list("since", "ended_at"),
    ]  # fmt: skip


def _of_day(day: date, spans: Iterable[Span], since: datetime | None, at: datetime) -> Covered:
    start, end = midnight(day), min(midnight(day) + DAY, at)
    if since is None or max(start, since) >= end:
        return Covered(NOTHING, NOTHING)
    length = end - max(start, since)
    if not any(dark < end and (light is None or light >= start) for dark, light in spans):
        return Covered(length, length)
    share = coverage_of(start, end).share
    return Covered(NOTHING, NOTHING) if share is None else Covered(length, length * share)
