"""Looking for leaks: what a model must not be able to do (pure; `detection.md` 5, test 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rules.ml import metrics
from rules.ml.features import NAMES, TRENDS, Vector
from rules.ml.samples import Sample
from rules.ml.splits import walk_forward
from rules.ml.training import examine, in_order, with_shuffled_labels

NEAR: Final = 0.03  # how far from 0.5 a shuffled AUC may lie
ROUNDS: Final = 8  # of shuffling
IMPLAUSIBLE: Final = 0.95  # AUC of one feature alone on unseen events and times
LEAST_SAMPLES: Final = 400  # below, the trees of a part could not split anything anyway
LEAST_OF_EACH: Final = 20  # outcomes before an AUC of one feature says anything


@dataclass(frozen=True, slots=True)
class ShuffledAuc:
    """The AUC with outcomes dealt out at random, its 95 % interval, and whether it is near 0.5.

    Near is within 0.03; while the samples are too few to tell that, within the interval.
    `auc` is None where there were too few to examine at all, and then it is not `ok`.
    """

    auc: float | None
    low: float
    high: float
    samples: int
    rounds: int

    @property
    def ok(self) -> bool:
        if self.auc is None:
            return False
        return abs(self.auc - 0.5) <= max(NEAR, (self.high - self.low) / 2)

    @property
    def sharp(self) -> bool:
        """Say whether the samples suffice to tell 0.5 from 0.53."""
        return self.auc is not None and (self.high - self.low) / 2 <= NEAR


@dataclass(frozen=True, slots=True)
class Suspect:
    """A feature that alone tells the outcome too well to be known in time."""

    name: str
    auc: float


def shuffled_auc(
    samples: Sequence[Sample],
    *,
    seed: int = 7,
    rounds: int = ROUNDS,
    names: Sequence[str] = NAMES,
    trends: Sequence[int] = TRENDS,
) -> ShuffledAuc:
    """Learn from outcomes dealt out at random, some times over: nothing may be left to learn."""
    ordered = in_order(samples)
    folds = walk_forward(ordered, blocks=2, groups=2) if len(ordered) >= LEAST_SAMPLES else []
    found = []
    for number in range(rounds):
        dealt = with_shuffled_labels(ordered, seed=seed + number)
        value = examine(dealt, folds, names=names, trends=trends, seed=seed).auc
        found += [] if value is None else [value]
    return _interval(found, samples=len(ordered))


def _interval(found: Sequence[float], *, samples: int) -> ShuffledAuc:
    if len(found) < 2:
        return ShuffledAuc(None, 0.0, 1.0, samples, len(found))
    mean = sum(found) / len(found)
    spread = math.sqrt(sum((each - mean) ** 2 for each in found) / (len(found) - 1))
    half = metrics.Z95 * spread / math.sqrt(len(found))
    return ShuffledAuc(mean, mean - half, mean + half, samples, len(found))


def suspects(
    samples: Sequence[Sample], *, names: Sequence[str] = NAMES, most: float = IMPLAUSIBLE
) -> list[Suspect]:
    """Return the features whose value alone parts filled from not on the purged samples."""
    ordered = in_order(samples)
    places = {place for fold in walk_forward(ordered) for place in fold.test}
    unseen = [ordered[place] for place in sorted(places)]
    filled = [sample.filled for sample in unseen]
    if min(sum(filled), len(filled) - sum(filled)) < LEAST_OF_EACH:
        return []
    found = (
        Suspect(name, _alone([sample.vector[place] for sample in unseen], filled))
        for place, name in enumerate(names)
    )
    return sorted((each for each in found if each.auc >= most), key=lambda each: -each.auc)


def _alone(values: Sequence[float], filled: Sequence[bool]) -> float:
    """Return the AUC of one feature, whichever way it points; not known counts as lowest."""
    known = [value if not math.isnan(value) else -math.inf for value in values]
    order = {value: place for place, value in enumerate(sorted(set(known)))}
    value = metrics.auc([float(order[each]) for each in known], filled)
    return 0.5 if value is None else max(value, 1 - value)


def changed_by_future(
    whole: Mapping[str, tuple[int, Vector]], cut: Mapping[str, tuple[int, Vector]], *, until: int
) -> list[str]:
    """Return the names of features that differ when nothing after `until` (unix ns) is known.

    Both map an episode's key to its moment and vector: of all frames, and of those up to
    `until` only. A moment that one of them has and the other has not is a difference too.
    """
    found: dict[str, None] = {}
    for key, (at, vector) in whole.items():
        if at > until:
            continue
        other = cut.get(key)
        if other is None or other[0] != at:
            found["the moment itself"] = None
            continue
        found |= dict.fromkeys(map(_name, _differing(vector, other[1])))
    return list(found)


def _differing(one: Vector, other: Vector) -> list[int]:
    """Return the places that are not the same; a number that only one of them has is not."""
    both = min(len(one), len(other))
    differ = [place for place in range(both) if not _same(one[place], other[place])]
    return [*differ, *range(both, max(len(one), len(other)))]


def _name(place: int) -> str:
    return NAMES[place] if place < len(NAMES) else f"planted feature {place - len(NAMES) + 1}"


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
