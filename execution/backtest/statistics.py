"""Figures of a series of gains (pure): drawdown, quantiles, the deflated Sharpe ratio.

Returns are clustered by event: what was gained on one event is one draw, however many
trades it took. Sharpe ratios are per trade, not per year.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

EULER = 0.5772156649
NEEDED = 0.95  # a deflated Sharpe ratio under it is no evidence
_NORMAL = NormalDist()


def drawdown(series: Sequence[float]) -> float:
    """Return the deepest fall of a running sum below its peak before, in its unit; 0 or more."""
    peak = worst = 0.0
    for value in series:
        peak = max(peak, value)
        worst = max(worst, peak - value)
    return worst


def running(values: Sequence[float]) -> list[float]:
    """Return the running sums."""
    total, sums = 0.0, []
    for value in values:
        total += value
        sums.append(total)
    return sums


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return a quantile of sorted values by rank; None for none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def sharpe(returns: Sequence[float]) -> float | None:
    """Return mean over standard deviation; None where there is no deviation."""
    if len(returns) < 2:
        return None
    spread = stdev(returns)
    return fmean(returns) / spread if spread > 0 else None


@dataclass(frozen=True, slots=True)
class Deflated:
    """A Sharpe ratio against the best of so many tries of nothing.

    `probability` that the true ratio is above `threshold`; None where there is too little.
    """

    sharpe: float | None
    threshold: float
    probability: float | None
    draws: int
    trials: int

    def row(self) -> dict[str, object]:
        return {
            "sharpe": _rounded(self.sharpe),
            "threshold": _rounded(self.threshold),
            "probability": _rounded(self.probability),
            "draws": self.draws,
            "trials": self.trials,
            "evidence": self.probability is not None and self.probability >= NEEDED,
        }


def deflated(returns: Sequence[float], trials: Sequence[float]) -> Deflated:
    """Deflate by the Sharpe ratios of every configuration that was tried, this one included.

    `detection.md` 5: SR0 = sd(trials) [(1-g) Z(1-1/N) + g Z(1-1/(N e))], and
    DSR = Phi((SR-SR0) sqrt(T-1) / sqrt(1 - sk SR + (ku-1)/4 SR^2)).
    """
    own, count = sharpe(returns), max(1, len(trials))
    threshold = _threshold(trials)
    if own is None or len(returns) < 3:
        return Deflated(own, threshold, None, len(returns), count)
    skew, kurtosis = _moments(returns)
    variance = 1 - skew * own + (kurtosis - 1) / 4 * own**2
    if variance <= 0:
        return Deflated(own, threshold, None, len(returns), count)
    z = (own - threshold) * math.sqrt(len(returns) - 1) / math.sqrt(variance)
    return Deflated(own, threshold, _NORMAL.cdf(z), len(returns), count)


def _threshold(trials: Sequence[float]) -> float:
    """Return the Sharpe ratio that the best of so many useless tries would show."""
    count = len(trials)
    if count < 2:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / count)
    second = _NORMAL.inv_cdf(1 - 1 / (count * math.e))
    return stdev(trials) * ((1 - EULER) * first + EULER * second)


def _moments(returns: Sequence[float]) -> tuple[float, float]:
    """Return skewness and kurtosis (3 for a normal distribution)."""
    mean = fmean(returns)
    second = fmean((each - mean) ** 2 for each in returns)
    if second <= 0:
        return 0.0, 3.0
    third = fmean((each - mean) ** 3 for each in returns)
    fourth = fmean((each - mean) ** 4 for each in returns)
    return third / second**1.5, fourth / second**2


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
