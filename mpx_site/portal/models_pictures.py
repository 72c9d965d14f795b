"""Geometry of the pictures of a model: calibration, and precision over recall (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rules.ml.metrics import Bin

WIDTH: Final = 600
HEIGHT: Final = 280
PAD: Final = 8
SMALLEST, LARGEST = 3.0, 8.0  # radius of a dot


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A dot a bin: to the right what was said, upwards what happened, in size how many."""

    dots: tuple[Dot, ...]
    bins: tuple[Bin, ...]
    diagonal: str


@dataclass(frozen=True, slots=True)
class Point:
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A line from few to all; `base` is the height of what guessing gives."""

    line: str
    base: float
    rows: tuple[Point, ...]


def calibration(bins: Sequence[Bin]) -> Calibration:
    most = max((each.count for each in bins), default=1)
    return Calibration(
        dots=tuple(
            Dot(
                _x(each.said),
                _y(each.happened),
                round(SMALLEST + (LARGEST - SMALLEST) * (each.count / most) ** 0.5, 1),
            )
            for each in bins
        ),
        bins=tuple(bins),
        diagonal=f"M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}",
    )


def curve(points: Sequence[tuple[float, float]], *, base: float) -> Curve | None:
    """Draw precision over recall; None without points."""
    if not points:
        return None
    line = "L".join(f"{_x(recall)} {_y(precision)}" for recall, precision in points)
    step = max(1, len(points) // 10)
    return Curve(f"M{line}", _y(base), tuple(Point(*each) for each in points[::step]))


def _x(share: float) -> float:
    return round(PAD + share * (WIDTH - 2 * PAD), 1)


def _y(share: float) -> float:
    return round(HEIGHT - PAD - share * (HEIGHT - 2 * PAD), 1)
