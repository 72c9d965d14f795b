"""Geometry of the small pictures: step lines and bars as SVG path text (pure).

A picture is drawn in a box of `WIDTH` x `HEIGHT` units that the page stretches to
its place. A value of None is a gap, and a gap stays empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH = 600
HEIGHT = 120
PAD = 6  # keeps a line at the edge of the box from being cut

Point = tuple[datetime, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment worth a dot: its place and what happened there."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn picture with the values at its edges."""

    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    low: float
    high: float
    start: datetime
    end: datetime
    threshold: float | None = None  # height of the threshold line in the box
    band: str = ""  # the area between two of its lines
    holes: tuple[Bar, ...] = ()  # times in which something was not known


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    seconds: float
    low: float
    span: float

    def x(self, at: datetime) -> float:
        return round((at - self.start).total_seconds() / self.seconds * WIDTH, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - PAD - (value - self.low) / self.span * (HEIGHT - 2 * PAD), 1)


def chart(
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    start: datetime,
    end: datetime,
    marks: Iterable[tuple[str, datetime, float]] = (),
    threshold: float | None = None,
    band: bool = False,
    holes: Iterable[tuple[datetime, datetime]] = (),
) -> Chart | None:
    """Draw step lines between two times; None when there is nothing to draw.

    `band` fills the area between the first two series, which have points at the same times.
    """
    values = [value for _, points in series for _, value in points if value is not None]
    if not values:
        return None
    wanted = values if threshold is None else [*values, threshold]
    low, high = min(wanted), max(wanted)
    scale = _Scale(start, max((end - start).total_seconds(), 1e-3), low, (high - low) or 1.0)
    return Chart(
        lines=tuple(Line(name, _steps(points, scale, end)) for name, points in series),
        marks=tuple(Mark(scale.x(at), scale.y(value), name) for name, at, value in marks),
        low=low,
        high=high,
        start=start,
        end=end,
        threshold=None if threshold is None else scale.y(threshold),
        band=_band(series[0][1], series[1][1], scale, end) if band else "",
        holes=tuple(_hole(since, until, scale, end) for since, until in holes),
    )


def _band(upper: Sequence[Point], lower: Sequence[Point], scale: _Scale, end: datetime) -> str:
    """Fill each step between two lines; of the steps that share a column the last is drawn."""
    steps = {
        int(scale.x(at)): (at, top, low) for (at, top), (_, low) in zip(upper, lower, strict=True)
    }
    starts = sorted(steps.values(), key=lambda step: step[0])
    ends = [at for at, _, _ in starts[1:]] + [end]
    return "".join(
        f"M{scale.x(at)} {scale.y(top)}H{scale.x(until)}V{scale.y(low)}H{scale.x(at)}Z"
        for (at, top, low), until in zip(starts, ends, strict=True)
        if top is not None and low is not None
    )


def _hole(since: datetime, until: datetime, scale: _Scale, end: datetime) -> Bar:
    first, last = scale.x(max(since, scale.start)), scale.x(min(until, end))
    return Bar(x=first, y=0, width=round(max(last - first, 1.0), 1), height=HEIGHT)


def _steps(points: Sequence[Point], scale: _Scale, end: datetime) -> str:
    """Hold each value until the next one; lift the pen over a gap."""
    parts: list[str] = []
    down = False
    for x, y in _thinned([(scale.x(at), _height(value, scale)) for at, value in points]):
        if down:
            parts.append(f"H{x}")
        if y is not None:
            parts.append(f"V{y}" if down else f"M{x} {y}")
        down = y is not None
    if down:
        parts.append(f"H{scale.x(end)}")
    return "".join(parts)


def _height(value: float | None, scale: _Scale) -> float | None:
    return None if value is None else scale.y(value)


def _thinned(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Keep, of the points that share a column, first, lowest, highest, last and any gap."""
    kept: list[tuple[float, float | None]] = []
    column: list[tuple[float, float | None]] = []
    for point in points:
        if column and int(point[0]) != int(column[0][0]):
            kept += _extremes(column)
            column = []
        column.append(point)
    return kept + _extremes(column)


def _extremes(column: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    if len(column) <= 4:
        return column
    drawn = {i: y for i, (_, y) in enumerate(column) if y is not None}
    wanted = {0, len(column) - 1, *(i for i, (_, y) in enumerate(column) if y is None)}
    if drawn:
        wanted |= {min(drawn, key=drawn.__getitem__), max(drawn, key=drawn.__getitem__)}
    return [column[i] for i in sorted(wanted)]


def bars(counts: Sequence[int | float]) -> tuple[Bar, ...]:
    """Draw one bar for each count; an empty count leaves its place empty."""
    if not counts or not max(counts):
        return ()
    step = WIDTH / len(counts)
    unit = (HEIGHT - PAD) / max(counts)
    return tuple(
        Bar(
            x=round(number * step + step * 0.1, 1),
            y=round(HEIGHT - count * unit, 1),
            width=round(step * 0.8, 1),
            height=round(count * unit, 1),
        )
        for number, count in enumerate(counts)
        if count
    )
