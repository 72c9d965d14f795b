"""What a rule found and what became of it, in whole numbers that can be added up (pure).

Averages are never stored: they are a sum over a count, so that those of any days and rules are
exact. Units: edges in hundredths of a basis point, gaps in 1e-9 USD per USD that is paid back,
money in 1e-6 USD, lifetimes in ms.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from itertools import accumulate

CENTI, GIGA, MICRO = Decimal(100), Decimal(10**9), Decimal(10**6)
WHOLE = 1_000_000  # an edge of 10,000 bps in hundredths: as much again as it costs
PERCENTS = (50, 90, 99)

# Edges of the bins of lifetimes in ms: 20 a decade from 1 ms to 30 days, each at most 12.3 % above
# the one before it where they are 100 ms or more (whole ms are coarser below that).
EDGES = tuple(sorted({round(10 ** (n / 20)) for n in range(189)} | {2_592_000_000}))


def gap_of(edge: int) -> int:
    """Return what is missing per USD that is paid back, from profit over cost; rounded up.

    An edge of -10,000 bps or less pays nothing back and has no gap.
    """
    return 10**9 - 10**15 // (edge + WHOLE)


def bin_of(ms: int) -> int:
    """Return the bin of a lifetime: bin n holds what is at least edge n-1 and below edge n."""
    return bisect_right(EDGES, ms)


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile of lifetimes: between two durations in ms, which are equal where it is exact.

    `high` is None for what lived longer than all edges.
    """

    low: int
    high: int | None

    @property
    def exact(self) -> bool:
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Lives:
    """Lifetimes of signals that closed: by bin, and exact percentiles while it is one group.

    Lives of several groups add up; their percentiles are then known to within a bin.
    """

    bins: Mapping[int, int] = field(default_factory=dict)
    exact: tuple[int, ...] = ()  # of `PERCENTS`; empty: not known exactly

    @classmethod
    def of(cls, lifetimes: Mapping[int, int]) -> Lives:
        """Count lifetimes in ms, given with how often each was seen."""
        bins: dict[int, int] = {}
        for ms, count in lifetimes.items():
            bins[bin_of(ms)] = bins.get(bin_of(ms), 0) + count
        ordered = sorted(lifetimes)
        up_to = list(accumulate(lifetimes[ms] for ms in ordered))
        exact = tuple(ordered[_nearest(up_to, percent)] for percent in PERCENTS if ordered)
        return cls(bins, exact)

    @property
    def closed(self) -> int:
        return sum(self.bins.values())

    def __add__(self, other: Lives) -> Lives:
        if not self.bins or not other.bins:
            return self if self.bins else other
        both = self.bins.keys() | other.bins.keys()
        return Lives({n: self.bins.get(n, 0) + other.bins.get(n, 0) for n in both})

    def percentile(self, percent: int) -> Percentile | None:
        """Return one of `PERCENTS` by nearest rank; None if nothing has closed."""
        if not self.bins:
            return None
        if self.exact:
            value = self.exact[PERCENTS.index(percent)]
            return Percentile(value, value)
        ordered = sorted(self.bins)
        number = ordered[_nearest(list(accumulate(self.bins[n] for n in ordered)), percent)]
        low = EDGES[number - 1] if number else 0
        return Percentile(low, EDGES[number] if number < len(EDGES) else None)


def _nearest(up_to: Sequence[int], percent: int) -> int:
    """Return the place of the nearest rank among counts that are added up."""
    rank = -(-up_to[-1] * percent // 100)
    return next(place for place, seen in enumerate(up_to) if seen >= rank)


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted of the signals of some days and rules; it adds up.

    Everything counts for the day on which its signal opened. Levels and verdicts are those last
    seen. `priced` are signals that something is sure to be paid for: no directions, no bets; only
    these have an edge and a gap, at their best moment. `missed` are P1 that closed without an
    order approved. `captured` is what kept baskets pay at worst and what was sold, less what was
    spent; bets are left out. `still_open` counts signals and orders that may change these figures.
    """

    signals: int = 0
    p1: int = 0
    p2: int = 0
    p3: int = 0
    priced: int = 0
    edge_sum: int = 0
    gap_sum: int = 0
    p1_profit: int = 0
    missed: int = 0
    missed_profit: int = 0
    suggested: int = 0
    waiting: int = 0
    approved: int = 0
    filled: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0
    captured: int = 0
    still_open: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTED))

    @property
    def edge_bps(self) -> Decimal | None:
        """Return the mean edge; None where nothing is priced."""
        return Decimal(self.edge_sum) / self.priced / CENTI if self.priced else None

    @property
    def gap(self) -> Decimal | None:
        """Return the mean gap in USD per USD paid back; None where nothing is priced."""
        return Decimal(self.gap_sum) / self.priced / GIGA if self.priced else None

    @property
    def decided(self) -> int:
        return self.suggested - self.waiting

    @property
    def acceptance(self) -> Decimal | None:
        """Return the approved share of the orders that were decided; None of none."""
        return Decimal(self.approved) / self.decided if self.decided else None

    @property
    def captured_usd(self) -> Decimal:
        return self.captured / MICRO

    @property
    def missed_usd(self) -> Decimal:
        return self.missed_profit / MICRO

    @property
    def p1_usd(self) -> Decimal:
        return self.p1_profit / MICRO


COUNTED = tuple(each.name for each in fields(Counts))


@dataclass(frozen=True, slots=True)
class Kpi:
    """The figures of one rule and UTC day."""

    rule: str
    day: date
    counts: Counts
    lives: Lives = field(default_factory=Lives)


def together(kpis: Iterable[Kpi]) -> tuple[Counts, Lives]:
    """Add up any days and rules."""
    counts, lives = Counts(), Lives()
    for each in kpis:
        counts, lives = counts + each.counts, lives + each.lives
    return counts, lives
