"""Learning from samples: examine honestly first, then make the model that may serve (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from rules.ml import metrics
from rules.ml.calibration import Calibration, calibrate
from rules.ml.features import NAMES, TRENDS
from rules.ml.samples import Sample
from rules.ml.splits import EMBARGO_NS, Fold, nested, walk_forward
from rules.ml.trees import SEED, Trees, grow

LOSS_PRIOR: Final = 20.0  # failures' worth of belief that a rule loses as all do
Progress = Callable[[str], None]


def silent(text: str) -> None:
    """Say nothing of how far it is."""


class TooFew(Exception):
    """There is nothing to learn from; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Chances of samples that the model behind each had not seen, fold by fold.

    `auc` is averaged over the folds, weighted by their pairs: chances of different models
    are not compared with each other. `error` is its standard error. None: no fold had both
    outcomes.
    """

    places: tuple[int, ...]
    chances: tuple[float, ...]
    auc: float | None
    error: float | None


class Losses(msgspec.Struct, frozen=True):
    """What unwinding costs when not all legs were had, as a share of the basket's cost."""

    failures: int
    share: float
    by_rule: dict[str, float]

    def expected(self, rule: str, cost: float) -> float:
        """Return USD; 0 or more."""
        return max(self.by_rule.get(rule, self.share) * cost, 0.0)


class Learnt(msgspec.Struct, frozen=True):
    """A model as it serves, besides its trees."""

    calibration: Calibration
    losses: Losses


def examine(
    samples: Sequence[Sample],
    folds: Iterable[Fold],
    *,
    names: Sequence[str] = NAMES,
    trends: Sequence[int] = TRENDS,
    seed: int = SEED,
    tell: Progress = silent,
) -> Examined:
    """Learn and be examined fold by fold."""
    places: list[int] = []
    chances: list[float] = []
    pairs: list[tuple[float, float, float]] = []  # AUC, weight, variance
    for number, fold in enumerate(folds, 1):
        tell(f"fold {number}: {len(fold.train)} learn, {len(fold.test)} examine")
        found = _chances(samples, fold, names=names, trends=trends, seed=seed)
        places += fold.test
        chances += found
        pairs += _pairs(found, [samples[place].filled for place in fold.test])
    value, error = _averaged(pairs)
    return Examined(tuple(places), tuple(chances), value, error)


def _chances(
    samples: Sequence[Sample],
    fold: Fold,
    *,
    names: Sequence[str],
    trends: Sequence[int],
    seed: int,
) -> list[float]:
    learn = [samples[place] for place in fold.train]
    check = [samples[place] for place in fold.calibrate]
    trees = grow(
        [each.vector for each in learn],
        [each.filled for each in learn],
        names=names,
        trends=trends,
        seed=seed,
    )
    scores = trees.scores([each.vector for each in check])
    fitted = calibrate(scores, [each.filled for each in check])
    found = trees.scores([samples[place].vector for place in fold.test])
    return [fitted.of(score) for score in found]


def _pairs(chances: Sequence[float], filled: Sequence[bool]) -> list[tuple[float, float, float]]:
    value = metrics.auc(chances, filled)
    if value is None:
        return []
    hits = sum(filled)
    misses = len(filled) - hits
    return [(value, float(hits * misses), metrics.auc_error(value, hits, misses) ** 2)]


def _averaged(pairs: Sequence[tuple[float, float, float]]) -> tuple[float | None, float | None]:
    whole = sum(weight for _, weight, _ in pairs)
    if not whole:
        return None, None
    value = sum(each * weight for each, weight, _ in pairs) / whole
    variance = sum((weight / whole) ** 2 * spread for _, weight, spread in pairs)
    return value, variance**0.5


def with_shuffled_labels(samples: Sequence[Sample], *, seed: int) -> list[Sample]:
    """Return the samples with their outcomes dealt out at random."""
    filled = [sample.filled for sample in samples]
    random.Random(seed).shuffle(filled)
    return [replace(each, filled=y) for each, y in zip(samples, filled, strict=True)]


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples in order of time, one an episode."""
    by_key = {sample.key: sample for sample in samples}
    return sorted(by_key.values(), key=lambda sample: (sample.at, sample.key))


def learn(samples: Sequence[Sample], *, seed: int = SEED) -> tuple[Trees, Learnt]:
    """Make the model that may serve: the newest quarter calibrates it.

    Raises `TooFew` where nothing is left to learn from.
    """
    train, check = nested(samples, range(len(samples)), embargo_ns=EMBARGO_NS)
    if not train:
        raise TooFew(f"{len(samples)} samples leave none to learn from before the newest quarter")
    trees = grow(
        [samples[place].vector for place in train],
        [samples[place].filled for place in train],
        seed=seed,
    )
    scores = trees.scores([samples[place].vector for place in check])
    fitted = calibrate(scores, [samples[place].filled for place in check])
    return trees, Learnt(fitted, losses_of(samples))


def losses_of(samples: Iterable[Sample]) -> Losses:
    """Estimate what a failure costs, by rule, each drawn towards the mean of all."""
    shares: dict[str, list[float]] = {}
    for sample in samples:
        if sample.loss is not None and sample.cost > 0:
            shares.setdefault(sample.rule, []).append(sample.loss / sample.cost)
    every = [share for found in shares.values() for share in found]
    mean = sum(every) / len(every) if every else 0.0
    by_rule = {
        rule: (sum(found) + LOSS_PRIOR * mean) / (len(found) + LOSS_PRIOR)
        for rule, found in sorted(shares.items())
    }
    return Losses(len(every), mean, by_rule)


def purged(samples: Sequence[Sample]) -> list[Fold]:
    """Return the honest folds, or raise `TooFew`."""
    folds = walk_forward(samples)
    if not folds:
        raise TooFew(
            f"{len(samples)} samples of {len({each.group for each in samples})} events leave no "
            "way to examine on events and times that were not learnt from"
        )
    return folds
