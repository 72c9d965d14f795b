"""Examine, learn and report: all that makes one model of samples (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from rules.ml import metrics
from rules.ml.features import NAMES
from rules.ml.metrics import Score, Spread
from rules.ml.report import CHANCE, Report, Window
from rules.ml.samples import Labels, Sample
from rules.ml.splits import shuffled
from rules.ml.training import Examined, Learnt, Progress, examine, learn, purged, silent
from rules.ml.trees import SEED, Trees


def train(
    samples: Sequence[Sample],
    *,
    labels: Labels,
    censored: dict[str, int],
    source: str = "",
    notes: tuple[str, ...] = (),
    seed: int = SEED,
    tell: Progress = silent,
) -> tuple[Trees, Learnt, Report]:
    """Examine and learn. `samples` in order of time; raises `TooFew`."""
    honest = examine(samples, purged(samples), seed=seed, tell=tell)
    tell("the same with a random split, to show the difference")
    naive = examine(samples, shuffled(samples, seed=seed), seed=seed)
    tell("the model itself")
    trees, learnt = learn(samples, seed=seed)
    report = Report(
        window=window_of(samples, censored=censored, source=source, notes=notes),
        latency_ms=labels.latency_ms,
        hold_s=labels.hold_s,
        seed=seed,
        features=len(NAMES),
        purged=_score(samples, honest),
        purged_auc=honest.auc,
        purged_auc_error=honest.error,
        shuffled_auc=naive.auc,
        shuffled_brier=_score(samples, naive).brier if naive.places else None,
        by_rule=_by_rule(samples, honest),
        curve=metrics.pr_curve(honest.chances, _filled(samples, honest)),
        importance=trees.gains(),
        spreads=_spreads(samples, trees, learnt),
    )
    return trees, learnt, report


def window_of(
    samples: Sequence[Sample],
    *,
    censored: dict[str, int],
    source: str = "",
    notes: tuple[str, ...] = (),
) -> Window:
    return Window(
        since=min((each.at for each in samples), default=0),
        until=max((each.ends for each in samples), default=0),
        samples=len(samples),
        filled=sum(each.filled for each in samples),
        events=len({each.group for each in samples}),
        censored=dict(sorted(censored.items())),
        source=source,
        notes=notes,
    )


def _filled(samples: Sequence[Sample], examined: Examined) -> list[bool]:
    return [samples[place].filled for place in examined.places]


def _score(samples: Sequence[Sample], examined: Examined) -> Score:
    return metrics.score(examined.chances, _filled(samples, examined))


def _by_rule(samples: Sequence[Sample], examined: Examined) -> dict[str, Score]:
    found: dict[str, tuple[list[float], list[bool]]] = {}
    for place, chance in zip(examined.places, examined.chances, strict=True):
        chances, filled = found.setdefault(samples[place].rule, ([], []))
        chances.append(chance)
        filled.append(samples[place].filled)
    return {rule: metrics.score(*both) for rule, both in sorted(found.items())}


def _spreads(samples: Sequence[Sample], trees: Trees, learnt: Learnt) -> dict[str, Spread]:
    vectors = [sample.vector for sample in samples]
    found = {
        name: metrics.spread([vector[place] for vector in vectors])
        for place, name in enumerate(NAMES)
    }
    found[CHANCE] = metrics.spread([learnt.calibration.of(s) for s in trees.scores(vectors)])
    return found
