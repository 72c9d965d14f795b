"""What is told of a trained model: its examination, in numbers a person can check (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from rules.ml import metrics
from rules.ml.features import NAMES
from rules.ml.metrics import Score, Spread

CHANCE: Final = "chance"  # the name of the model's own answer among the spreads


class Window(msgspec.Struct, frozen=True):
    """What was learnt from. Times in unix ns; `censored` counts by why what was dropped."""

    since: int
    until: int
    samples: int
    filled: int
    events: int
    censored: dict[str, int]
    source: str = ""
    notes: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """All figures of a model. `purged_auc` is averaged over folds, as `shuffled_auc` is."""

    window: Window
    latency_ms: int
    hold_s: float
    seed: int
    features: int
    purged: Score
    purged_auc: float | None
    purged_auc_error: float | None
    shuffled_auc: float | None
    shuffled_brier: float | None
    by_rule: dict[str, Score]
    curve: tuple[tuple[float, float], ...]
    importance: dict[str, float]
    spreads: dict[str, Spread]


def drift(
    report: Report, vectors: Sequence[tuple[float, ...]], chances: Sequence[float]
) -> dict[str, float]:
    """Return the PSI of each feature, and of the chance, against the window of learning."""
    found = {
        name: metrics.psi(report.spreads[name], [vector[place] for vector in vectors])
        for place, name in enumerate(NAMES)
        if name in report.spreads
    }
    if chances and CHANCE in report.spreads:
        found[CHANCE] = metrics.psi(report.spreads[CHANCE], chances)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
