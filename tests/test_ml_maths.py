"""Figures, calibration, splits and gates, against slow and obvious ways to do the same."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.ml import metrics
from rules.ml.calibration import ISOTONIC_FROM, calibrate
from rules.ml.checks import shuffled_auc, suspects
from rules.ml.features import NAMES, TRENDS
from rules.ml.gates import gates, passed, why_not
from rules.ml.samples import SECOND, Labels
from rules.ml.splits import EMBARGO_NS, group_of, nested, shuffled, walk_forward
from rules.ml.teaching import train
from rules.ml.training import TooFew, examine, learn, losses_of, with_shuffled_labels
from tests.ml_cast import EDGE, leaking, samples

CHANCES = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=2, max_size=40
)


# --- figures -------------------------------------------------------------------------


@given(CHANCES)
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs):
    hits = [chance for chance, filled in pairs if filled]
    misses = [chance for chance, filled in pairs if not filled]
    found = metrics.auc(*zip(*pairs, strict=True))

    if not hits or not misses:
        assert found is None
        return
    won = sum((a > b) + (a == b) / 2 for a in hits for b in misses)
    assert found == pytest.approx(won / (len(hits) * len(misses)))


@given(CHANCES)
def test_average_precision_is_the_mean_precision_where_something_filled(pairs):
    chances, filled = zip(*pairs, strict=True)
    if not 0 < sum(filled) < len(filled):
        assert metrics.pr_auc(chances, filled) is None
        return
    total = 0.0
    for chance, hit in pairs:
        kept = [each for each in pairs if each[0] >= chance]
        total += hit * sum(each[1] for each in kept) / len(kept)
    assert metrics.pr_auc(chances, filled) == pytest.approx(total / sum(filled))


def test_score_of_honest_chances_has_no_error_and_of_the_base_rate_no_skill():
    rng = random.Random(3)
    chances = [rng.random() for _ in range(30_000)]
    filled = [rng.random() < chance for chance in chances]

    honest = metrics.score(chances, filled)
    assert honest.ece < 0.02
    assert honest.skill > 0.3
    assert len(honest.bins) == 15
    assert {each.count for each in honest.bins} == {2_000}
    flat = metrics.score([sum(filled) / len(filled)] * len(filled), filled)
    assert flat.skill == pytest.approx(0, abs=1e-9)
    assert flat.auc == 0.5


def test_auc_error_is_what_repeated_draws_scatter_by():
    rng = random.Random(4)
    found = []
    for _ in range(300):
        hits = [rng.gauss(0.8, 1) for _ in range(60)]
        misses = [rng.gauss(0, 1) for _ in range(40)]
        found.append(metrics.auc(hits + misses, [True] * 60 + [False] * 40))
    mean = sum(found) / len(found)
    scatter = math.sqrt(sum((each - mean) ** 2 for each in found) / len(found))

    assert metrics.auc_error(mean, 60, 40) == pytest.approx(scatter, rel=0.2)


def test_drift_is_small_for_the_same_numbers_and_large_for_others():
    rng = random.Random(5)
    before = metrics.spread([rng.gauss(0, 1) for _ in range(5_000)])

    assert metrics.psi(before, [rng.gauss(0, 1) for _ in range(2_000)]) < 0.02
    assert metrics.psi(before, [rng.gauss(1, 1) for _ in range(2_000)]) > 0.25
    assert metrics.psi(before, [math.nan] * 500) > 1  # it is not measured any more
    constant = metrics.spread([7.0] * 100)
    assert metrics.psi(constant, [7.0] * 100) == 0
    assert metrics.psi(metrics.spread([]), [1.0]) > 0


# --- calibration ---------------------------------------------------------------------


def overconfident(count: int) -> tuple[list[float], list[bool]]:
    """Return scores near 0 and 1 of what is really 0.3 to 0.7."""
    rng = random.Random(6)
    scores = [rng.random() for _ in range(count)]
    return scores, [rng.random() < 0.3 + 0.4 * score for score in scores]


@pytest.mark.parametrize("count", [300, 5_000])
def test_calibration_makes_chances_of_scores(count):
    scores, filled = overconfident(count)
    fitted = calibrate(scores[: count // 2], filled[: count // 2])
    chances = [fitted.of(score) for score in scores[count // 2 :]]

    before = metrics.score(scores[count // 2 :], filled[count // 2 :])
    after = metrics.score(chances, filled[count // 2 :])
    assert after.brier < before.brier
    assert after.ece < before.ece
    assert fitted.method == ("isotonic" if count // 2 >= ISOTONIC_FROM else "platt")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_never_turns_a_model_round(pairs):
    scores, filled = zip(*pairs, strict=True)
    fitted = calibrate(scores, filled)
    chances = [fitted.of(step / 20) for step in range(21)]

    assert chances == sorted(chances)
    assert all(0 < chance < 1 for chance in chances)


def test_reversed_scores_become_a_flat_line_not_a_falling_one():
    rng = random.Random(8)
    scores = [rng.random() for _ in range(150)]
    fitted = calibrate(scores, [score < 0.5 for score in scores])

    assert fitted.slope == 0
    assert fitted.of(0.1) == fitted.of(0.9)


# --- splits --------------------------------------------------------------------------


def test_folds_never_learn_from_what_they_are_examined_on():
    made = samples(600)
    folds = walk_forward(made)

    assert len(folds) == 16
    for fold in folds:
        tested = [made[place] for place in fold.test]
        begins = min(each.at for each in tested)
        for place in (*fold.train, *fold.calibrate):
            assert made[place].ends + EMBARGO_NS <= begins
        for place in fold.train:
            assert made[place].ends + EMBARGO_NS <= made[fold.calibrate[0]].at
        learnt = {made[place].group for place in (*fold.train, *fold.calibrate)}
        assert not learnt & {each.group for each in tested}
    every = [place for fold in folds for place in fold.test]
    assert sorted(every) == list(range(240, 600))  # each of the last 60 % once


def test_long_labels_are_purged():
    made = [replace(each, ends=each.at + 600 * SECOND) for each in samples(600)]
    [first, *_] = walk_forward(made)
    assert len(walk_forward(samples(600))[0].train) > len(first.train) > 0

    begins = min(made[place].at for place in first.test)
    assert max(made[place].ends for place in first.calibrate) + EMBARGO_NS <= begins


def test_one_event_alone_cannot_be_examined():
    alone = [replace(each, group="only") for each in samples(300)]

    assert walk_forward(alone) == []
    with pytest.raises(TooFew, match="1 events"):
        train(alone, labels=Labels(), censored={})


def test_random_split_has_all_samples_and_mixes_times():
    folds = shuffled(samples(100))

    assert sorted(place for fold in folds for place in fold.test) == list(range(100))
    assert all(min(fold.test) < max(fold.train) for fold in folds)


def test_group_of_an_event_is_always_the_same():
    assert [group_of(name, 4) for name in ("a", "b", "c", "d")] == [2, 2, 2, 1]
    assert nested(samples(3), []) == ((), ())


# --- learning ------------------------------------------------------------------------


@cache
def taught():
    return train(samples(1_600), labels=Labels(), censored={})


def test_what_can_be_learnt_is_learnt_and_passes():
    made = samples(1_600)
    trees, learnt, report = taught()

    assert report.purged_auc > 0.75
    assert report.purged.skill > 0.15
    assert report.purged.ece <= 0.05
    assert passed(report)
    assert why_not(report) == ""
    assert set(list(report.importance)[:2]) == {"edge_bps", "moved_1s"}
    assert set(report.by_rule) == {"DUTCH_BOOK_DETECT", "CROSS_MARKET_MISPRICE"}
    assert report.window.filled == sum(each.filled for each in made)
    again = learn(made)
    assert (again[0].text, again[1]) == (trees.text, learnt)


def test_more_edge_never_makes_a_fill_less_likely():
    trees, _, _ = taught()
    vector = list(samples(1)[0].vector)
    vectors = [(*vector[:EDGE], edge, *vector[EDGE + 1 :]) for edge in range(0, 500, 5)]

    scores = trees.scores(vectors)
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]


def test_gates_turn_off_what_was_learnt_from_shuffled_outcomes():
    dealt = with_shuffled_labels(samples(900), seed=3)
    _, _, report = train(dealt, labels=Labels(), censored={})

    assert not passed(report)
    assert report.purged_auc == pytest.approx(0.5, abs=3 * report.purged_auc_error)
    assert "always saying the base rate" in why_not(report)


def test_gates_ask_for_enough_of_each_outcome():
    made = samples(600)
    few = [each for each in made if each.filled] + [x for x in made if not x.filled][:30]
    few.sort(key=lambda each: each.at)
    _, _, report = train(few, labels=Labels(), censored={})

    assert not gates(report)[0].ok
    assert "only 30 episodes" in why_not(report)


def test_failures_cost_what_they_cost_on_average_and_little_known_rules_what_all_do():
    made = [replace(each, filled=False, loss=5.0, rule="A") for each in samples(200)]
    made += [replace(each, filled=False, loss=0.0, rule="B") for each in samples(1)]
    losses = losses_of(made)

    assert losses.failures == 201
    assert losses.expected("A", 50) == pytest.approx(5.0, rel=0.01)
    assert losses.expected("B", 50) == pytest.approx(4.74, rel=0.01)
    assert losses.expected("never seen", 50) == pytest.approx(losses.share * 50)
    assert losses_of([]).expected("A", 50) == 0


# --- looking for leaks ---------------------------------------------------------------


def test_shuffled_outcomes_teach_nothing():
    told = shuffled_auc(samples(1_200), seed=5)

    assert told.ok
    assert told.sharp
    assert told.low <= told.auc <= told.high


def test_too_few_samples_are_not_called_well():
    assert not shuffled_auc(samples(20)).ok
    assert not shuffled_auc([]).ok


def test_a_feature_that_knows_the_outcome_is_suspected():
    made = samples(800)
    names, trends = (*NAMES, "bait"), (*TRENDS, 0)
    found = suspects(leaking(made), names=names)

    assert suspects(made) == []
    assert [each.name for each in found] == ["bait"]
    assert found[0].auc > 0.95
    folds = walk_forward(made)[-2:]
    baited = examine(leaking(made), folds, names=names, trends=trends)
    assert baited.auc > 0.95 > examine(made, folds).auc
