"""From scores to chances, fitted on samples that the model has not learnt from (pure).

Platt's line never falls (a slope below 0 would turn the model round) and is drawn towards
the identity while samples are few; steps that only rise (isotonic) are used from
`ISOTONIC_FROM` samples on (`detection.md` 4.6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
from scipy.optimize import isotonic_regression, minimize

ISOTONIC_FROM: Final = 1_000
PRIOR: Final = 10.0  # samples' worth of belief that the scores are right as they are
SMALLEST: Final = 1e-6


class Calibration(msgspec.Struct, frozen=True):
    """A rising map of scores from 0 to 1 onto chances. `samples` is how many it was fitted on."""

    method: Literal["platt", "isotonic", "none"]
    samples: int
    slope: float = 1.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    chances: tuple[float, ...] = ()

    def of(self, score: float) -> float:
        """Return the chance that belongs to a score."""
        if self.method == "isotonic":
            return float(np.interp(score, self.scores, self.chances))
        return _sigmoid(self.slope * logit(score) + self.intercept)


def calibrate(scores: Sequence[float], filled: Sequence[bool]) -> Calibration:
    """Fit the map that suits the number of samples; none at all changes nothing."""
    if not scores:
        return Calibration("none", 0)
    both = 0 < sum(filled) < len(filled)
    if len(scores) >= ISOTONIC_FROM and both:
        return _isotonic(scores, filled)
    return _platt(scores, filled)


def logit(chance: float) -> float:
    held = min(max(chance, SMALLEST), 1 - SMALLEST)
    return math.log(held / (1 - held))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _platt(scores: Sequence[float], filled: Sequence[bool]) -> Calibration:
    """Fit Platt's line with his softened targets, slope 0 or more."""
    x = np.array([logit(score) for score in scores])
    hits = sum(filled)
    high, low = (hits + 1) / (hits + 2), 1 / (len(filled) - hits + 2)
    y = np.where(np.array(filled), high, low)

    def cost(line: np.ndarray) -> tuple[float, np.ndarray]:
        z = line[0] * x + line[1]
        away = 1 / (1 + np.exp(-z)) - y
        value = float(np.sum(np.logaddexp(0, z) - y * z)) + PRIOR / 2 * (line[0] - 1) ** 2
        return value, np.array([away @ x + PRIOR * (line[0] - 1), away.sum()])

    found = minimize(cost, np.array([1.0, 0.0]), jac=True, bounds=[(0, None), (None, None)])
    return Calibration("platt", len(scores), float(found.x[0]), float(found.x[1]))


def _isotonic(scores: Sequence[float], filled: Sequence[bool]) -> Calibration:
    """Fit rising steps; no chance is put at 0 or 1, which a finite sample cannot show."""
    order = np.argsort(scores, kind="stable")
    x, y = np.array(scores)[order], np.array(filled, float)[order]
    steps = isotonic_regression(y).x
    edge = 1 / (len(x) + 2)
    places, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    held = np.clip((steps[first] + steps[last]) / 2, edge, 1 - edge)
    return Calibration("isotonic", len(x), 1.0, 0.0, *_thinned(places, held))


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Keep the corners of the steps: what lies between two equal ones says nothing."""
    keep = np.ones(len(y), bool)
    keep[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return tuple(map(float, x[keep])), tuple(map(float, y[keep]))
