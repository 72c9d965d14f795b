"""Geometry of the pictures of lifetimes, sizes and hours (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from mpx_site.portal.pictures import Bar
from signals.opportunities import LIFE_MS, Lives, Spot

STEP = 30  # units of a bin
WIDTH = STEP * (len(LIFE_MS) + 1)
HEIGHT = 120
PAD = 6
AXIS = tuple(LIFE_MS[::3])  # every third edge has its name below the picture

DOTS_WIDTH, DOTS_HEIGHT = 600, 280
DECADES = 4  # of USD and of bps: from 1 to 10,000
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def duration(ms: int) -> str:
    """Write a duration with the largest unit that it is a whole number of."""
    for size, unit in _UNITS:
        if ms >= size and ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms / 1000:g} s" if ms >= 1_000 else f"{ms} ms"


@dataclass(frozen=True, slots=True)
class LifeRow:
    """A bin in words: how many lived so long, and what share of all lived at least so long."""

    name: str
    count: int
    share: float  # percent
    profit: Decimal


@dataclass(frozen=True, slots=True)
class LifePicture:
    """Bars of how many lived how long, and the line of how many were still there.

    `marker` is where a duration lies on the axis; None without one.
    """

    bars: tuple[Bar, ...]
    line: str
    marker: float | None
    rows: tuple[LifeRow, ...]
    most: int
    axis: tuple[str, ...]


def life_picture(lives: Lives, *, marker_ms: int | None = None) -> LifePicture | None:
    """Draw lifetimes; None when there are none."""
    if not lives.total:
        return None
    shares = [100.0, *(100 * each.count / lives.total for each in lives.reaches)]
    most = max(lives.counts)
    return LifePicture(
        bars=tuple(_bar(n, count, most) for n, count in enumerate(lives.counts) if count),
        line="M" + "L".join(f"{n * STEP} {_height(share)}" for n, share in enumerate(shares)),
        marker=None if marker_ms is None else place(marker_ms),
        rows=tuple(
            LifeRow(bin_name(n), count, round(shares[n], 1), lives.profits[n])
            for n, count in enumerate(lives.counts)
        ),
        most=most,
        axis=tuple(duration(edge) for edge in AXIS),
    )


def _bar(number: int, count: int, most: int) -> Bar:
    height = round((HEIGHT - PAD) * count / most, 1)
    return Bar(number * STEP + 3, round(HEIGHT - height, 1), STEP - 6, height)


def _height(share: float) -> float:
    return round(HEIGHT - (HEIGHT - PAD) * share / 100, 1)


def place(ms: int) -> float:
    """Return where a duration lies: by its logarithm within its bin."""
    number = bin_of(ms)
    if number == 0:
        return round(STEP * max(ms, 0) / LIFE_MS[0], 1)
    if number == len(LIFE_MS):
        return float(WIDTH - STEP / 2)
    low, high = LIFE_MS[number - 1], LIFE_MS[number]
    return round(STEP * (number + math.log(ms / low) / math.log(high / low)), 1)


def bin_of(ms: int) -> int:
    """Return the number of the bin that a duration falls into."""
    return sum(edge <= ms for edge in LIFE_MS)


def bin_name(number: int) -> str:
    if number == 0:
        return f"under {duration(LIFE_MS[0])}"
    if number == len(LIFE_MS):
        return f"{duration(LIFE_MS[-1])} or longer"
    return f"{duration(LIFE_MS[number - 1])} to {duration(LIFE_MS[number])}"


# --- edge by size --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    level: str


@dataclass(frozen=True, slots=True)
class DotRow:
    """A field of the picture in words."""

    cost: str
    edge: str
    count: int
    executable: int


@dataclass(frozen=True, slots=True)
class DotPicture:
    dots: tuple[Dot, ...]
    rows: tuple[DotRow, ...]
    lines: tuple[float, ...]  # across, at each power of ten of the edge
    columns: tuple[float, ...]


def dot_picture(spots: Sequence[Spot]) -> DotPicture | None:
    """Draw edge over size, both by their logarithms; None without signals."""
    if not spots:
        return None
    return DotPicture(
        dots=tuple(_dot(spot) for spot in spots),
        rows=tuple(_dot_rows(spots)),
        lines=tuple(DOTS_HEIGHT * n / DECADES for n in range(1, DECADES)),
        columns=tuple(DOTS_WIDTH * n / DECADES for n in range(1, DECADES)),
    )


def _dot(spot: Spot) -> Dot:
    x, y = _log(spot.cost) * DOTS_WIDTH, (1 - _log(spot.edge_bps)) * DOTS_HEIGHT
    return Dot(_inside(x, DOTS_WIDTH), _inside(y, DOTS_HEIGHT), spot.level)


def _log(amount: Decimal) -> float:
    """Return where an amount lies between 1 and 10,000, from 0 to 1; beyond is at the end."""
    return min(math.log10(max(float(amount), 1.0)) / DECADES, 1.0)


def _inside(at: float, most: int) -> float:
    return round(min(max(at, 5.0), most - 5.0), 1)


def _dot_rows(spots: Iterable[Spot]) -> Iterable[DotRow]:
    fields: dict[tuple[int, int], list[Spot]] = {}
    for spot in spots:
        fields.setdefault((_decade(spot.cost), _decade(spot.edge_bps)), []).append(spot)
    for (cost, edge), inside in sorted(fields.items()):
        executable = sum(spot.level == "P1" for spot in inside)
        yield DotRow(_between(cost), _between(edge), len(inside), executable)


def _decade(amount: Decimal) -> int:
    return min(max(int(math.log10(max(float(amount), 0.1)) // 1), -1), DECADES)


def _between(decade: int) -> str:
    if decade < 0:
        return "under 1"
    if decade == DECADES:
        return "10,000 or more"
    return f"{10**decade:,} to {10 ** (decade + 1):,}"


# --- edge at several order sizes -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class SizePicture:
    """The edge at each size, evenly spaced; where there is no plan the line has a gap."""

    line: str
    dots: tuple[tuple[float, float], ...]
    threshold: float
    low: float
    high: float


def size_picture(edges: Sequence[float | None], *, threshold: float) -> SizePicture | None:
    """Draw edges in bps; None where no size has one."""
    known = [edge for edge in edges if edge is not None]
    if not known:
        return None
    low, high = min(*known, threshold, 0.0), max(*known, threshold)
    span, step = (high - low) or 1.0, DOTS_WIDTH / len(edges)

    def y(value: float) -> float:
        return round(HEIGHT - PAD - (value - low) / span * (HEIGHT - 2 * PAD), 1)

    places = [
        None if edge is None else (round((n + 0.5) * step, 1), y(edge))
        for n, edge in enumerate(edges)
    ]
    return SizePicture(_joined(places), tuple(filter(None, places)), y(threshold), low, high)


def _joined(places: Sequence[tuple[float, float] | None]) -> str:
    """Return the path through places, lifted where one is missing."""
    before: Sequence[tuple[float, float] | None] = [None, *places]
    return "".join(
        f"{'M' if last is None else 'L'}{place[0]} {place[1]}"
        for last, place in zip(before, places, strict=False)
        if place is not None
    )


# --- hours ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a rule; `shade` is from 0 to 1 of the busiest hour of all."""

    hour: int
    count: int
    shade: float


@dataclass(frozen=True, slots=True)
class HourRow:
    rule: str
    total: int
    hours: tuple[Hour, ...]
    peak: Hour


def hour_rows(counted: Mapping[str, Sequence[int]], *, busiest: int) -> tuple[HourRow, ...]:
    """Draw the hours of each rule in shades that can be compared between rules."""
    return tuple(_hour_row(rule, counts, max(busiest, 1)) for rule, counts in counted.items())


def _hour_row(rule: str, counts: Sequence[int], busiest: int) -> HourRow:
    hours = tuple(
        Hour(number, count, round(0.15 + 0.85 * count / busiest, 2) if count else 0.0)
        for number, count in enumerate(counts)
    )
    return HourRow(rule, sum(counts), hours, max(hours, key=lambda hour: hour.count))
