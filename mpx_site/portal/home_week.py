"""The signals of the last days in numbers: by day, by hour, by rule.

What closed is read from the index `signal_lives`, what is open by its state, so that no
payload is read, however many signals there are. Days and hours are those of UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from django.db.models import Count, Q, Sum, TextField
from django.db.models.functions import Cast, Substr

from mpx_site.portal.pictures import Bar, bars
from rules.models import Rule
from signals.models import Signal

DAYS = 7
HOURS = 24
DAY_DIGITS, HOUR_DIGITS = 10, 13  # of a time as text: "2026-05-01 12:30:00"
P1 = Signal.Level.P1
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a rule found of a level in one hour or day; sums are over what would have paid."""

    slot: str
    rule: int
    level: str
    count: int
    priced: int
    edge_bps: Decimal
    profit: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Series:
    """A figure by day: the days before today, oldest first, and today. None: nothing to count."""

    name: str
    total: Decimal | None
    before: tuple[Decimal | None, ...]
    today: Decimal | None

    @property
    def mean(self) -> Decimal | None:
        """Return the mean of the days before today; None if none of them has a value."""
        known = [value for value in self.before if value is not None]
        return (sum(known, ZERO) / len(known)).quantize(Decimal("0.1")) if known else None

    @property
    def days(self) -> tuple[Decimal, ...]:
        return tuple(value or ZERO for value in (*self.before, self.today))

    @property
    def bars(self) -> tuple[Bar, ...]:
        return bars([float(max(value, ZERO)) for value in self.days])

    @property
    def told(self) -> str:
        """Say the days in words, for who cannot see the bars."""
        every = (*self.before, self.today)
        return ", ".join("none" if each is None else f"{each:f}" for each in every)


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a rule: how many signals, and their mean best edge; None without any."""

    at: datetime
    count: int
    edge_bps: Decimal | None
    x: int
    shade: int  # 0 none to 4 the most


@dataclass(frozen=True, slots=True)
class RuleStrip:
    """A rule over a day. `edge_bps` is the mean best edge of its signals in the last days."""

    code: str
    hours: tuple[Hour, ...]
    week: int
    edge_bps: Decimal | None

    @property
    def day(self) -> int:
        return sum(hour.count for hour in self.hours)

    @property
    def told(self) -> str:
        seen = [f"{hour.at:%H}:00 {hour.count}" for hour in self.hours if hour.count]
        return ", ".join(seen) or "none"


@dataclass(frozen=True, slots=True)
class Week:
    signals: Series
    p1: Series
    gap: Series  # cents missing per USD that is paid back
    strips: tuple[RuleStrip, ...]

    @property
    def by_hour(self) -> tuple[Bar, ...]:
        """Return bars of what all these rules found in each hour of a day."""
        every = zip(*(strip.hours for strip in self.strips), strict=True)
        return bars([sum(hour.count for hour in hours) for hours in every])


def week(codes: Sequence[str], *, at: datetime) -> Week:
    """Return the last days, with a strip for each rule of these codes; five queries."""
    today = at.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [f"{today - timedelta(days=ago):%Y-%m-%d}" for ago in range(DAYS, -1, -1)]
    by_day = _cells(today - timedelta(days=DAYS), DAY_DIGITS)
    hours = [_hour(at, ago) for ago in range(HOURS - 1, -1, -1)]
    by_hour = _cells(hours[0], HOUR_DIGITS)
    return Week(
        signals=_counted("Signals", by_day, days),
        p1=_counted("P1", [cell for cell in by_day if cell.level == P1], days),
        gap=_gaps(by_day, days),
        strips=tuple(
            _strip(code, _of(by_hour, rule), _of(by_day, rule), hours, days)
            for rule, code in Rule.objects.filter(code__in=codes)
            .order_by("code")
            .values_list("id", "code")
        ),
    )


def _cells(since: datetime, digits: int) -> list[Cell]:
    opened = Signal.objects.filter(opened_at__gte=since).order_by()
    slot = Substr(Cast("opened_at", TextField()), 1, digits)
    would_pay = ~Q(verdict="OBSERVED")
    return [
        Cell(*row[:5], *((value or ZERO) for value in row[5:]))
        for part in (opened.filter(closed_at__gte=since), opened.filter(status="OPEN"))
        for row in part.annotate(slot=slot)
        .values_list("slot", "rule", "level")
        .annotate(
            seen=Count("id"),
            priced=Count("id", filter=would_pay),
            edges=Sum("peak_edge_bps", filter=would_pay),
            profits=Sum("peak_profit", filter=would_pay),
            costs=Sum("cost", filter=would_pay),
        )
    ]


def _counted(name: str, cells: Iterable[Cell], days: Sequence[str]) -> Series:
    counts = [Decimal(count) for count in _counts(cells, days)]
    return Series(name, sum(counts[1:], ZERO), tuple(counts[:-1]), counts[-1])


def _counts(cells: Iterable[Cell], slots: Sequence[str]) -> list[int]:
    found: dict[str, int] = defaultdict(int)
    for cell in cells:
        found[cell.slot] += cell.count
    return [found[slot] for slot in slots]


def _gaps(cells: Sequence[Cell], days: Sequence[str]) -> Series:
    by_day = [_gap([cell for cell in cells if cell.slot == day]) for day in days]
    recent = [cell for cell in cells if cell.slot in set(days[1:])]
    return Series("Average gap", _gap(recent), tuple(by_day[:-1]), by_day[-1])


def _gap(cells: Iterable[Cell]) -> Decimal | None:
    listed = list(cells)
    profit = sum((cell.profit for cell in listed), ZERO)
    paid_back = profit + sum((cell.cost for cell in listed), ZERO)
    return _short(profit / paid_back * 100) if paid_back else None


def _strip(
    code: str,
    by_hour: Sequence[Cell],
    by_day: Sequence[Cell],
    hours: Sequence[datetime],
    days: Sequence[str],
) -> RuleStrip:
    slots = _slots(hours)
    counts = _counts(by_hour, slots)
    most = max(counts, default=0)
    recent = [cell for cell in by_day if cell.slot in set(days[1:])]
    return RuleStrip(
        code=code,
        hours=tuple(
            Hour(at, count, _edge([each for each in by_hour if each.slot == slot]), x, shade)
            for x, (at, slot, count) in enumerate(zip(hours, slots, counts, strict=True))
            for shade in [-(-4 * count // most) if most else 0]
        ),
        week=sum(cell.count for cell in recent),
        edge_bps=_edge(recent),
    )


def _edge(cells: Iterable[Cell]) -> Decimal | None:
    listed = list(cells)
    priced = sum(cell.priced for cell in listed)
    return _short(sum((cell.edge_bps for cell in listed), ZERO) / priced) if priced else None


def _of(cells: Iterable[Cell], rule: int) -> list[Cell]:
    return [cell for cell in cells if cell.rule == rule]


def _hour(at: datetime, ago: int) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago)


def _slots(hours: Iterable[datetime]) -> list[str]:
    return [f"{hour:%Y-%m-%d %H}" for hour in hours]


def _short(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.1"), ROUND_HALF_EVEN)
