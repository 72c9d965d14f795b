"""What was known of signals, what models said, and what became of them: stored and read back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db import transaction

from markets.frames import unix_ns
from rules.ml.features import FEATURES_SHA, UNKNOWN, Vector
from rules.ml.samples import Sample
from signals.outcome_models import Outcome
from signals.samples import Told
from signals.scoring import NOTHING_SAID, Said

NEW_OUTCOMES: Final = 100  # since the newest model, before it is worth training again
KEPT: Final = timedelta(days=90)
LOST_AFTER: Final = timedelta(hours=1)  # a process that ended without a word waits for nothing
USD: Final = Decimal("0.000001")


@transaction.atomic
def begin(told: Iterable[Told], said: Mapping[str, Said], *, horizon_ns: int) -> None:
    """Keep the moments that are learnt from, with what models say; the same one twice is one."""
    for each in told:
        if each.sampled:
            Outcome.objects.get_or_create(
                key=each.key,
                defaults={
                    "rule": each.rule,
                    "group": each.group,
                    "at": each.at,
                    "ends": each.at + horizon_ns,
                    "features_sha256": FEATURES_SHA,
                    "vector": [None if math.isnan(value) else value for value in each.vector],
                    "profit": each.profit,
                    "cost": each.cost,
                    "chances": dict(said.get(each.key, NOTHING_SAID).chances),
                },
            )


@transaction.atomic
def settle(samples: Iterable[Sample]) -> None:
    """Note what became of moments."""
    waiting = Outcome.objects.filter(state=Outcome.State.WAITING)
    for sample in samples:
        state = Outcome.State.FILLED if sample.filled else Outcome.State.MISSED
        loss = None if sample.loss is None else Decimal(sample.loss).quantize(USD)
        waiting.filter(key=sample.key).update(state=state, ends=sample.ends, loss=loss)


def drop(keys: Sequence[str]) -> None:
    """Note of which moments it will never be known."""
    waiting = Outcome.objects.filter(state=Outcome.State.WAITING, key__in=keys)
    waiting.update(state=Outcome.State.DROPPED)


def prune(*, at: datetime) -> int:
    """Delete what is old, and give up what still waits long after; return how many went."""
    lost = Outcome.objects.filter(state=Outcome.State.WAITING, ends__lt=unix_ns(at - LOST_AFTER))
    lost.update(state=Outcome.State.DROPPED)
    gone, _ = Outcome.objects.filter(at__lt=unix_ns(at - KEPT)).delete()
    return gone


def samples(*, most: int) -> list[Sample]:
    """Return the newest outcomes that are known as samples, oldest first."""
    known = Outcome.objects.known().of_features(FEATURES_SHA).newest()[:most]
    return [_sample(row) for row in reversed(known)]


def censored() -> dict[str, int]:
    """Count what was dropped of the present features."""
    dropped = Outcome.objects.of_features(FEATURES_SHA).filter(state=Outcome.State.DROPPED)
    count = dropped.count()
    return {"dropped": count} if count else {}


def vector_of(row: Outcome) -> Vector:
    return tuple(UNKNOWN if value is None else float(value) for value in row.vector)


def _sample(row: Outcome) -> Sample:
    return Sample(
        key=row.key,
        rule=row.rule,
        group=row.group,
        at=row.at,
        ends=row.ends,
        vector=vector_of(row),
        filled=row.state == Outcome.State.FILLED,
        profit=float(row.profit),
        cost=float(row.cost),
        loss=None if row.loss is None else float(row.loss),
    )
