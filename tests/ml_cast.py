"""Made samples: of some of them the outcome can be learnt, of others there is nothing to learn."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache

import msgspec

from rules.ml.features import NAMES
from rules.ml.report import Report
from rules.ml.samples import SECOND, Labels, Sample
from rules.ml.teaching import train
from rules.ml.training import Learnt
from rules.ml.trees import Trees
from rules.ml_models import MlModel
from rules.ml_registry import register
from signals.samples import Told

START = 1_780_272_000 * SECOND
AT = datetime(2026, 6, 2, 12, 0, tzinfo=UTC)
EDGE, MOVED = NAMES.index("edge_bps"), NAMES.index("moved_1s")


def sample(number: int, rng: random.Random, *, learnable: bool = True, every: int = 15) -> Sample:
    """Return an episode: filled more often the larger its edge and the quieter its legs."""
    values = [rng.random() for _ in NAMES]
    values[NAMES.index("kind")] = float(rng.randrange(2, 4))
    values[EDGE] = rng.uniform(0, 400)
    pull = 2.4 * (values[EDGE] / 400 - values[MOVED]) + 0.8 if learnable else 0.8
    at = START + number * every * SECOND
    filled = rng.random() < 1 / (1 + math.exp(-2 * pull))
    return Sample(
        key=f"{number:032x}",
        rule="DUTCH_BOOK_DETECT" if number % 3 else "CROSS_MARKET_MISPRICE",
        group=f"event {rng.randrange(40)}",
        at=at,
        ends=at + Labels().horizon_ns,
        vector=tuple(values),
        filled=filled,
        profit=1.0 + values[EDGE] / 100,
        cost=50.0,
        loss=None if filled else 2.0,
    )


def samples(count: int, *, seed: int = 1, learnable: bool = True) -> list[Sample]:
    rng = random.Random(seed)
    return [sample(number, rng, learnable=learnable) for number in range(count)]


def leaking(made: list[Sample]) -> list[Sample]:
    """Return the samples with one more feature, which knows the outcome."""
    rng = random.Random(9)
    return [
        replace(each, vector=(*each.vector, each.filled + rng.uniform(-0.4, 0.4))) for each in made
    ]


@cache
def taught(*, learnable: bool = True) -> tuple[Trees, Learnt, Report]:
    """Train once; it takes seconds."""
    made = samples(1_300 if learnable else 700, learnable=learnable)
    return train(made, labels=Labels(), censored={"stale": 3}, source="made episodes")


def a_model(variant: int = 0, *, learnable: bool = True) -> MlModel:
    """Keep a trained model as a shadow; needs a database and MPX_MODELS.

    Another variant is another file with the same trees.
    """
    trees, learnt, report = taught(learnable=learnable)
    losses = msgspec.structs.replace(learnt.losses, failures=learnt.losses.failures + variant)
    return register(trees, msgspec.structs.replace(learnt, losses=losses), report, at=AT)


def told(number: int = 0, *, edge: float = 300, moved: float = 0.0, key: str = "") -> Told:
    """Return a change that a model is asked about; quiet legs and much edge fill."""
    made = sample(number, random.Random(number))
    values = list(made.vector)
    values[EDGE], values[MOVED] = edge, moved
    return Told(
        key=key or made.key,
        rule=made.rule,
        group=made.group,
        at=made.at,
        vector=tuple(values),
        profit=Decimal("10"),
        cost=Decimal("90"),
        sampled=True,
    )
