"""Which samples learn, which calibrate, which examine: in time order, purged, by event (pure).

A sample looks ahead as far as its label (`Sample.ends`). What looks into a later part, or
ends less than `embargo_ns` before it, is left out of the earlier one. The events are split
into `groups`: a model is examined only on events it has never seen.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rules.ml.samples import SECOND, Sample

EMBARGO_NS: Final = 60 * SECOND
BLOCKS: Final = 4
GROUPS: Final = 4
FIRST_SHARE: Final = 0.4  # of the samples: only learnt from
CALIBRATE_SHARE: Final = 0.25  # of what lies before an examination


@dataclass(frozen=True, slots=True)
class Fold:
    """Places of samples in the list that was split."""

    train: tuple[int, ...]
    calibrate: tuple[int, ...]
    test: tuple[int, ...]


def walk_forward(
    samples: Sequence[Sample],
    *,
    blocks: int = BLOCKS,
    groups: int = GROUPS,
    embargo_ns: int = EMBARGO_NS,
) -> list[Fold]:
    """Split samples that are in order of time; no fold where there is one event alone."""
    of = [group_of(sample.group, groups) for sample in samples]
    if len(set(of)) < 2:
        return []
    folds = []
    for first, last in _blocks(len(samples), blocks):
        past = before(samples, range(first), samples[first].at, embargo_ns=embargo_ns)
        for group in sorted(set(of)):
            known = [place for place in past if of[place] != group]
            test = tuple(place for place in range(first, last) if of[place] == group)
            train, calibrate = nested(samples, known, embargo_ns=embargo_ns)
            if train and calibrate and test:
                folds.append(Fold(train, calibrate, test))
    return folds


def nested(
    samples: Sequence[Sample], places: Sequence[int], *, embargo_ns: int = EMBARGO_NS
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split places in time order into what learns and, later, what calibrates."""
    cut = len(places) - int(len(places) * CALIBRATE_SHARE)
    calibrate = tuple(places[cut:])
    if not calibrate:
        return (), ()
    since = samples[calibrate[0]].at
    return tuple(before(samples, places[:cut], since, embargo_ns=embargo_ns)), calibrate


def before(
    samples: Sequence[Sample], places: Sequence[int], since: int, *, embargo_ns: int
) -> list[int]:
    """Keep the places whose labels end long enough before a time (unix ns)."""
    return [place for place in places if samples[place].ends + embargo_ns <= since]


def shuffled(samples: Sequence[Sample], *, folds: int = 5, seed: int = 7) -> list[Fold]:
    """Split at random, as one should not: shown beside the honest split."""
    places = list(range(len(samples)))
    random.Random(seed).shuffle(places)
    made = []
    for number in range(folds):
        test = tuple(sorted(places[number::folds]))
        rest = sorted(set(places) - set(test))
        cut = [place for at, place in enumerate(rest) if at % 4 == 3]
        train = tuple(place for at, place in enumerate(rest) if at % 4 != 3)
        if train and cut and test:
            made.append(Fold(train, tuple(cut), test))
    return made


def group_of(event: str, groups: int) -> int:
    """Say which of the groups an event belongs to, always the same one."""
    return int.from_bytes(hashlib.sha256(event.encode()).digest()[:8], "big") % groups


def _blocks(count: int, blocks: int) -> Iterator[tuple[int, int]]:
    start = int(count * FIRST_SHARE)
    edges = [start + (count - start) * number // blocks for number in range(blocks + 1)]
    for first, last in pairwise(edges):
        if last > first > 0:
            yield first, last
