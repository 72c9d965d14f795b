"""How good chances are, against what happened (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

BINS: Final = 15  # of equal mass
CURVE: Final = 40  # points of a curve that is shown
DRIFT_BINS: Final = 10
SMALLEST: Final = 1e-6
Z95: Final = 1.96


class Bin(msgspec.Struct, frozen=True):
    """Samples with about the same chance: how many, what was said and what happened."""

    count: int
    said: float
    happened: float


class Score(msgspec.Struct, frozen=True):
    """All figures of one set of chances; an AUC is None without both outcomes."""

    samples: int
    filled: int
    base_rate: float
    log_loss: float
    brier: float
    skill: float  # 1 - Brier / Brier of always saying the base rate
    ece: float
    auc: float | None
    pr_auc: float | None
    bins: tuple[Bin, ...]


def score(chances: Sequence[float], filled: Sequence[bool]) -> Score:
    """Measure chances; raise ValueError for none."""
    if not chances:
        raise ValueError("no chances to measure")
    p, y = np.array(chances, float), np.array(filled, float)
    base = float(y.mean())
    brier, flat = float(np.mean((p - y) ** 2)), base * (1 - base)
    held = np.clip(p, SMALLEST, 1 - SMALLEST)
    bins = reliability(chances, filled)
    return Score(
        samples=len(p),
        filled=int(y.sum()),
        base_rate=base,
        log_loss=float(-np.mean(y * np.log(held) + (1 - y) * np.log(1 - held))),
        brier=brier,
        skill=1 - brier / flat if flat else 0.0,
        ece=sum(each.count * abs(each.said - each.happened) for each in bins) / len(p),
        auc=auc(chances, filled),
        pr_auc=pr_auc(chances, filled),
        bins=bins,
    )


def reliability(
    chances: Sequence[float], filled: Sequence[bool], *, bins: int = BINS
) -> tuple[Bin, ...]:
    """Sort chances into bins of equal mass."""
    p, y = np.array(chances, float), np.array(filled, float)
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return tuple(
        Bin(len(part), float(p[part].mean()), float(y[part].mean())) for part in parts if len(part)
    )


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    held: np.ndarray = (ends - (counts - 1) / 2)[inverse]
    return held


def auc(chances: Sequence[float], filled: Sequence[bool]) -> float | None:
    """Return the chance that a filled one ranks above one that was not; None without both."""
    y = np.array(filled, bool)
    hits, misses = int(y.sum()), int((~y).sum())
    if not hits or not misses:
        return None
    total = float(ranks(np.array(chances, float))[y].sum())
    return (total - hits * (hits + 1) / 2) / (hits * misses)


def auc_error(value: float, hits: int, misses: int) -> float:
    """Return the standard error of an AUC (Hanley and McNeil 1982)."""
    if not hits or not misses:
        return math.inf
    one, two = value / (2 - value), 2 * value**2 / (1 + value)
    spread = (hits - 1) * (one - value**2) + (misses - 1) * (two - value**2)
    return math.sqrt(max(value * (1 - value) + spread, 0.0) / (hits * misses))


def pr_auc(chances: Sequence[float], filled: Sequence[bool]) -> float | None:
    """Return the average precision; None without both outcomes."""
    if not 0 < sum(filled) < len(filled):
        return None
    recall, precision = _pr(chances, filled)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def pr_curve(chances: Sequence[float], filled: Sequence[bool]) -> tuple[tuple[float, float], ...]:
    """Return points (recall, precision) to draw; none without both outcomes."""
    if not 0 < sum(filled) < len(filled):
        return ()
    recall, precision = _pr(chances, filled)
    keep = np.unique(np.linspace(0, len(recall) - 1, min(CURVE, len(recall))).astype(int))
    return tuple((float(recall[at]), float(precision[at])) for at in keep)


def _pr(chances: Sequence[float], filled: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision where the threshold passes each distinct chance."""
    p, y = np.array(chances, float), np.array(filled, float)
    order = np.argsort(-p, kind="stable")
    p, hits = p[order], np.cumsum(y[order])
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    return hits[last] / y.sum(), hits[last] / (last + 1)


# --- drift ---------------------------------------------------------------------------


class Spread(msgspec.Struct, frozen=True):
    """How a number was distributed: edges of bins of about equal mass and their shares.

    The last share is of what was not known.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread:
    """Describe a distribution so that a later one can be held against it."""
    known = np.array([value for value in values if not math.isnan(value)], float)
    cuts = np.linspace(0, 1, DRIFT_BINS + 1)[1:-1]
    edges = tuple(map(float, np.unique(np.quantile(known, cuts)))) if len(known) else ()
    return Spread(edges, _shares(values, edges))


def psi(before: Spread, values: Sequence[float]) -> float:
    """Return the population stability index of values; above 0.25 is usually called drift."""
    now = _shares(values, before.edges)
    floor = 1 / (2 * max(len(values), 1))
    pairs = [
        (max(old, floor), max(new, floor)) for old, new in zip(before.shares, now, strict=True)
    ]
    return sum((new - old) * math.log(new / old) for old, new in pairs)


def _shares(values: Sequence[float], edges: Sequence[float]) -> tuple[float, ...]:
    counts = [0] * (len(edges) + 2)
    for value in values:
        place = -1 if math.isnan(value) else int(np.searchsorted(edges, value, side="right"))
        counts[place] += 1
    return tuple(count / max(len(values), 1) for count in counts)
