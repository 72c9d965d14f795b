"""The signals of the last days in numbers: by day, by hour, by rule.

Days are the daily figures (`execution.kpi_store`), the same that the page of KPIs and the API
tell. Of the hours, what closed is read from the index `signal_lives`, what is open by its state,
so that no payload is read, however many signals there are. Days and hours are those of UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from django.db.models import Count, Q, Sum, TextField
from django.db.models.functions import Cast, Substr

from execution import kpi_store
from execution.kpi import Counts, Kpi
from mpx_site.portal.pictures import Bar, bars
from rules.models import Rule
from signals.models import Signal

DAYS = 7
HOURS = 24
HOUR_DIGITS = 13  # of a time as text: "2026-05-01 12:30:00"
ZERO = Decimal(0)
CENTS = Decimal(100)  # in a USD, and per cent


@dataclass(frozen=True, slots=True)
class Cell:
    """What a rule found in one hour; the sum is over what would have paid."""

    slot: str
    rule: str
    count: int
    priced: int
    edge_bps: Decimal


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
    accepted: Series  # per cent of the orders that were decided
    strips: tuple[RuleStrip, ...]

    @property
    def by_hour(self) -> tuple[Bar, ...]:
        """Return bars of what all these rules found in each hour of a day."""
        every = zip(*(strip.hours for strip in self.strips), strict=True)
        return bars([sum(hour.count for hour in hours) for hours in every])


def week(codes: Sequence[str], *, at: datetime) -> Week:
    """Return the last days, with a strip for each rule of these codes; six to eight queries."""
    today = at.date()
    days = [today - timedelta(days=ago) for ago in range(DAYS, -1, -1)]
    kpis = kpi_store.figures(days[0], today)
    hours = [_hour(at, ago) for ago in range(HOURS - 1, -1, -1)]
    by_hour = _cells(hours[0])
    return Week(
        signals=_counted("Signals", [counts.signals for counts in _by_day(kpis, days)]),
        p1=_counted("P1", [counts.p1 for counts in _by_day(kpis, days)]),
        gap=_means("Average gap", kpis, days, gap_cents),
        accepted=_means("Acceptance", kpis, days, accepted_percent),
        strips=tuple(
            _strip(code, [cell for cell in by_hour if cell.rule == code], hours, kpis, days)
            for code in Rule.objects.filter(code__in=codes)
            .order_by("code")
            .values_list("code", flat=True)
        ),
    )


def gap_cents(counts: Counts) -> Decimal | None:
    return None if counts.gap is None else _short(counts.gap * CENTS)


def accepted_percent(counts: Counts) -> Decimal | None:
    return None if counts.acceptance is None else _short(counts.acceptance * CENTS)


def _cells(since: datetime) -> list[Cell]:
    opened = Signal.objects.filter(opened_at__gte=since).order_by()
    slot = Substr(Cast("opened_at", TextField()), 1, HOUR_DIGITS)
    would_pay = ~Q(verdict="OBSERVED")
    return [
        Cell(slot_text, rule, seen, priced, edges or ZERO)
        for part in (opened.filter(closed_at__gte=since), opened.filter(status="OPEN"))
        for slot_text, rule, seen, priced, edges in part.annotate(slot=slot)
        .values_list("slot", "rule__code")
        .annotate(
            seen=Count("id"),
            priced=Count("id", filter=would_pay),
            edges=Sum("peak_edge_bps", filter=would_pay),
        )
    ]


def _by_day(kpis: Iterable[Kpi], days: Sequence[date]) -> list[Counts]:
    found: dict[date, Counts] = defaultdict(Counts)
    for kpi in kpis:
        found[kpi.day] += kpi.counts
    return [found[day] for day in days]


def _counted(name: str, counts: Sequence[int]) -> Series:
    before, today = [Decimal(count) for count in counts[:-1]], Decimal(counts[-1])
    return Series(name, sum(before[1:], today), tuple(before), today)


def _means(
    name: str,
    kpis: Iterable[Kpi],
    days: Sequence[date],
    mean: Callable[[Counts], Decimal | None],
) -> Series:
    """Return a mean of each day, and that of the last `DAYS` together."""
    by_day = _by_day(kpis, days)
    values = [mean(counts) for counts in by_day]
    return Series(name, mean(sum(by_day[1:], Counts())), tuple(values[:-1]), values[-1])


def _counts(cells: Iterable[Cell], slots: Sequence[str]) -> list[int]:
    found: dict[str, int] = defaultdict(int)
    for cell in cells:
        found[cell.slot] += cell.count
    return [found[slot] for slot in slots]


def _strip(
    code: str,
    by_hour: Sequence[Cell],
    hours: Sequence[datetime],
    kpis: Iterable[Kpi],
    days: Sequence[date],
) -> RuleStrip:
    slots = _slots(hours)
    counts = _counts(by_hour, slots)
    most = max(counts, default=0)
    recent = sum(_by_day([kpi for kpi in kpis if kpi.rule == code], days[1:]), Counts())
    return RuleStrip(
        code=code,
        hours=tuple(
            Hour(at, count, _edge([each for each in by_hour if each.slot == slot]), x, shade)
            for x, (at, slot, count) in enumerate(zip(hours, slots, counts, strict=True))
            for shade in [-(-4 * count // most) if most else 0]
        ),
        week=recent.signals,
        edge_bps=None if recent.edge_bps is None else _short(recent.edge_bps),
    )


def _edge(cells: Iterable[Cell]) -> Decimal | None:
    listed = list(cells)
    priced = sum(cell.priced for cell in listed)
    return _short(sum((cell.edge_bps for cell in listed), ZERO) / priced) if priced else None


def _hour(at: datetime, ago: int) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago)


def _slots(hours: Iterable[datetime]) -> list[str]:
    return [f"{hour:%Y-%m-%d %H}" for hour in hours]


def _short(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.1"), ROUND_HALF_EVEN)
