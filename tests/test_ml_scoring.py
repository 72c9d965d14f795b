"""What models say of signals: it orders and holds back, and is never missed (row M1)."""

from __future__ import annotations

import json
import math
import os
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from django.core.management import call_command
from django.test import Client

from alerts.models import OutboxEntry
from markets.frames import moment
from rules import ml_registry
from rules.ml.model_file import sha256, written
from rules.ml.samples import SECOND, Labels
from rules.ml_models import MlModel
from signals import outcomes, store
from signals.models import Signal
from signals.outcome_models import Outcome
from signals.scoring import NO_MODEL, Said, Scoring
from tests import portal_cast as cast
from tests.ml_cast import AT, a_model, sample, samples, taught, told
from tests.test_ml_registry import damaged
from tests.test_signal_store import finding_of, later, opened, rule

__all__ = ["rule"]
pytestmark = pytest.mark.django_db
HORIZON = Labels().horizon_ns


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings) -> Path:
    settings.MPX_MODELS = tmp_path / "models"
    return settings.MPX_MODELS


def active(model: MlModel | None = None, **changes: object) -> MlModel:
    model = model or a_model()
    ml_registry.activate(model, by=None, at=AT)
    if changes:
        MlModel.objects.filter(pk=model.pk).update(**changes)
    return model


def said_of(*each, **how) -> list[Said]:
    return list(Scoring(**how).of(each).values())


# --- what is said --------------------------------------------------------------------


def test_without_a_model_nothing_is_said_and_it_says_so() -> None:
    [said] = said_of(told())

    assert (said.p_fill, said.expected_usd, said.note) == (None, None, NO_MODEL)


def test_likely_signals_are_expected_to_bring_more_and_none_more_than_it_claims() -> None:
    active()
    likely, unlikely = said_of(told(1, edge=380, moved=0), told(2, edge=20, moved=1))

    assert likely.p_fill > Decimal("0.9") > Decimal("0.3") > unlikely.p_fill
    assert unlikely.expected_usd < likely.expected_usd <= 10
    # p x profit - (1 - p) x what unwinding costs on average, here 4 % of the cost
    chance = float(likely.p_fill)
    assert float(likely.expected_usd) == pytest.approx(
        chance * 10 - (1 - chance) * 0.04 * 90, abs=0.01
    )
    assert likely.note == ""


def test_shadow_is_asked_and_counts_for_nothing() -> None:
    shadow = a_model()
    [said] = said_of(told())

    assert (said.p_fill, said.note) == (None, NO_MODEL)
    assert set(said.chances) == {shadow.sha256[:16]}


def test_registry_is_followed_without_a_restart() -> None:
    now = [0.0]
    scoring = Scoring(clock=lambda: now[0])
    assert scoring.of([told()])[told().key].note == NO_MODEL
    model = active()
    now[0] += 6

    assert scoring.of([told()])[told().key].p_fill is not None
    ml_registry.retire(model, by=None, at=AT)
    now[0] += 6
    assert scoring.of([told()])[told().key].note == NO_MODEL


# --- M1: a model that cannot be used -------------------------------------------------


def senseless(model: MlModel) -> MlModel:
    """Give a model a calibration that answers with what is no chance."""
    trees, learnt, _ = taught()
    fitted = msgspec.structs.replace(
        learnt.calibration, method="isotonic", scores=(0.0, 1.0), chances=(2.0, 3.0)
    )
    body = written(trees, msgspec.structs.replace(learnt, calibration=fitted))
    return replaced(model, body)


def nan(model: MlModel) -> MlModel:
    """Give a model trees whose leaves are not numbers."""
    lines = ml_registry.path_of(model).read_bytes().split(b"\n")
    changed = [
        b"leaf_value=" + b" ".join([b"nan"] * len(line.split(b" ")))
        if line.startswith(b"leaf_value=")
        else line
        for line in lines
        if not line.startswith(b"tree_sizes=")
    ]
    return replaced(model, b"\n".join(changed))


def replaced(model: MlModel, body: bytes) -> MlModel:
    MlModel.objects.filter(pk=model.pk).update(sha256=sha256(body))
    model.refresh_from_db()
    ml_registry.path_of(model).write_bytes(body)
    return model


FAULTS = {
    "missing": (lambda model: damaged(model, "missing"), "its file is missing"),
    "changed": (lambda model: damaged(model, "changed"), "its file was changed"),
    "features": (lambda model: damaged(model, "features"), "trained on other features"),
    "senseless": (senseless, "a number that is no chance"),
    "nan": (nan, "a number that is no chance"),
    "slow": (lambda model: model, "it took"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_model_that_cannot_be_used_leaves_the_rules_own_edge(fault: str, rule) -> None:
    damage, why = FAULTS[fault]
    damage(active())
    change = opened(rule)
    scoring = Scoring(budget=0.0) if fault == "slow" else Scoring()

    said = scoring.of([told(key=change.key)])
    store.save([change], said)

    signal = Signal.objects.get()
    assert signal.ml_note.startswith("ML off: ") and why in signal.ml_note
    assert (signal.p_fill, signal.expected_usd) == (None, None)
    assert (signal.level, signal.verdict, signal.profit) == ("P1", "EXECUTABLE", 10)
    assert signal.edge_score == Decimal("0.111111")
    assert OutboxEntry.objects.get().state == "PENDING"


def test_slow_model_rests_and_is_asked_again() -> None:
    active()
    ticks = iter(range(10_000))
    now, slow = [0.0], [True]

    def clock() -> float:
        return now[0] + (next(ticks) if slow[0] else 0)

    scoring = Scoring(clock=clock)
    assert "it took" in scoring.of([told()])[told().key].note
    slow[0] = False
    assert "it took" in scoring.of([told()])[told().key].note  # it rests
    now[0] += 200
    assert scoring.of([told()])[told().key].p_fill is not None


def test_file_that_is_there_again_serves_again() -> None:
    model = active()
    path = ml_registry.path_of(model)
    body = path.read_bytes()
    path.unlink()
    now = [0.0]
    scoring = Scoring(clock=lambda: now[0])
    assert "missing" in scoring.of([told()])[told().key].note
    path.write_bytes(body)
    now[0] += 6

    assert scoring.of([told()])[told().key].note == ""


# --- what signals make of it ---------------------------------------------------------


def weighed(p_fill: str, expected: str, **more: object) -> Said:
    return Said(Decimal(p_fill), Decimal(expected), "", **more)


def test_chance_lessens_the_score_and_changes_nothing_else(rule) -> None:
    change = opened(rule)
    store.save([change], {change.key: weighed("0.4000", "3")})
    weighed_row = Signal.objects.values().get()
    Signal.objects.all().delete()
    OutboxEntry.objects.all().delete()
    store.save([change])

    plain = Signal.objects.values().get()
    assert weighed_row["edge_score"] == Decimal("0.033333") < plain["edge_score"]
    own = {"id", "edge_score", "p_fill", "expected_usd", "ml_note"}
    assert {k: v for k, v in weighed_row.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }


def test_what_is_said_can_never_enlarge_a_signal(rule) -> None:
    change = opened(rule)
    store.save([change], {change.key: weighed("1.0000", "99")})

    assert Signal.objects.get().edge_score == Decimal("0.111111")


def test_end_of_a_signal_keeps_what_was_said_last(rule) -> None:
    first = opened(rule)
    end = later(first, "closed", seconds=3, why="edge_gone")
    store.save([first, end], {first.key: weighed("0.8000", "7")})

    signal = Signal.objects.get()
    assert (signal.status, signal.p_fill, signal.expected_usd) == ("CLOSED", Decimal("0.8"), 7)
    assert signal.edge_score == Decimal("0.077778")


def test_what_cannot_be_executed_any_more_has_no_chance(rule) -> None:
    first = opened(rule)
    blocked = finding_of("12", verdict="BLOCKED", blocked_by=("min_size",))
    store.save([first], {first.key: weighed("0.8000", "7")})
    store.save([later(first, "updated", seconds=1, finding=blocked)])

    signal = Signal.objects.get()
    assert (signal.p_fill, signal.expected_usd, signal.ml_note) == (None, None, "")


def test_unlikely_p1_stays_p1_and_its_alert_is_held_back_until_it_is_likely(rule) -> None:
    first = opened(rule)
    store.save([first], {first.key: weighed("0.1000", "1", unlikely=True)})

    assert Signal.objects.get().level == "P1"
    alert = OutboxEntry.objects.get()
    assert (alert.state, alert.reason) == ("SUPPRESSED", "unlikely to fill")
    second = later(first, "updated", seconds=1, finding=finding_of("12"))
    store.save([second], {first.key: weighed("0.9000", "9")})
    alert.refresh_from_db()
    assert (alert.state, alert.reason, alert.due_at) == ("PENDING", "", moment(second.at))


def test_threshold_of_the_active_model_says_what_is_unlikely() -> None:
    active(suppress_below=Decimal("0.5"))

    likely, unlikely = said_of(told(1, edge=380), told(2, edge=20, moved=1))
    assert (likely.unlikely, unlikely.unlikely) == (False, True)


def test_list_is_ordered_by_what_is_to_be_expected(rule, client: Client) -> None:
    two, five, ten, none = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
    store.save([opened(rule, key=two)], {two: weighed("0.5000", "2")})
    store.save([opened(rule, key=five, at=1)], {five: weighed("0.5000", "5")})
    store.save([opened(rule, key=ten, at=2)])  # as claimed
    blocked = finding_of("99", verdict="BLOCKED", blocked_by=("min_size",))
    store.save([opened(rule, blocked, key=none, at=3)])

    ordered = Signal.objects.all().sorted_by("expected").values_list("key", flat=True)
    assert list(ordered) == [ten, five, two, none]
    client.force_login(cast.viewer())
    assert client.get("/signals/?sort=expected").status_code == 200


def test_page_of_a_signal_tells_its_chance_or_why_there_is_none(rule, client: Client) -> None:
    client.force_login(cast.viewer())
    first = opened(rule)
    store.save([first], {first.key: weighed("0.8350", "7.25")})
    page = client.get(f"/signals/{first.key}/").content.decode()
    assert "Chance to fill" in page and "83.5 <small>%</small>" in page and "$7.25" in page

    Signal.objects.update(p_fill=None, expected_usd=None, ml_note="ML off: its file is missing")
    page = client.get(f"/signals/{first.key}/").content.decode()
    assert "ML off: its file is missing" in page


# --- what became of signals ----------------------------------------------------------


def test_outcomes_are_kept_and_read_back_as_samples() -> None:
    shadow = a_model()
    made = samples(3)
    asked = [told(number) for number in range(3)]
    outcomes.begin(asked, Scoring().of(asked), horizon_ns=HORIZON)
    outcomes.begin(asked, {}, horizon_ns=HORIZON)  # told twice
    outcomes.settle([made[0], made[1]])
    outcomes.drop([made[2].key])
    outcomes.settle([made[2]])  # too late: it was given up

    rows = list(Outcome.objects.order_by("at"))
    wanted = ["FILLED" if each.filled else "MISSED" for each in made[:2]]
    assert [row.state for row in rows] == [*wanted, "DROPPED"]
    assert all(shadow.sha256[:16] in row.chances for row in rows)
    assert [each.key for each in outcomes.samples(most=10)] == [each.key for each in made[:2]]
    assert [each.filled for each in outcomes.samples(most=10)] == [x.filled for x in made[:2]]
    assert outcomes.samples(most=1)[0].vector == asked[1].vector
    assert outcomes.censored() == {"dropped": 1}


def test_unknown_numbers_stay_unknown() -> None:
    one = told()
    values = (math.nan, *one.vector[1:])
    outcomes.begin([replace(one, vector=values)], {}, horizon_ns=HORIZON)
    outcomes.settle([sample(0, random.Random(0))])

    [back] = outcomes.samples(most=1)
    assert math.isnan(back.vector[0])
    assert back.vector[1:] == values[1:]


def test_old_outcomes_go_and_lost_ones_are_given_up() -> None:
    asked = [told(number) for number in range(2)]
    outcomes.begin(asked, {}, horizon_ns=HORIZON)

    assert outcomes.prune(at=moment(asked[1].at) + timedelta(hours=2)) == 0
    assert set(Outcome.objects.values_list("state", flat=True)) == {"DROPPED"}
    assert outcomes.prune(at=moment(asked[1].at) + timedelta(days=91)) == 2


# --- the page and the command --------------------------------------------------------


def known(count: int, *, since: int = 0) -> None:
    """Keep made outcomes as a desk would."""
    scoring = Scoring()
    for made in samples(count):
        if made.at < since:
            continue
        asked = [told_of(made)]
        outcomes.begin(asked, scoring.of(asked), horizon_ns=HORIZON)
        outcomes.settle([made])


def told_of(made):
    one = told(key=made.key)
    return replace(one, rule=made.rule, group=made.group, at=made.at, vector=made.vector)


def page(client: Client, query: str = "") -> str:
    client.force_login(cast.viewer())
    return client.get(f"/models/{query}").content.decode()


def test_page_without_a_model_says_what_would_fill_it(client: Client) -> None:
    told_page = page(client)

    assert "No model has been trained yet." in told_page
    assert "ML off" in told_page and "python manage.py train_model" in told_page


def test_page_shows_gates_pictures_importance_and_the_gap(client: Client, monkeypatch) -> None:
    model = active()
    last = samples(200)[-1].at
    monkeypatch.setattr("django.utils.timezone.now", lambda: moment(last + 10 * SECOND))
    known(200)
    shown = page(client)

    for text in (
        f"Model {model.pk}", "Brier skill", "Enough episodes", "AUC, honest split",
        "AUC, random split", "Does it keep its word?", "Precision over recall", "edge_bps",
        "model.activated", "made episodes", "3 stale", "200 signals",
    ):  # fmt: skip
        assert text in shown, text
    assert "its weight is 0" not in shown.lower()


def test_page_says_in_words_why_a_model_has_no_weight(client: Client) -> None:
    model = a_model(learnable=False)
    shown = page(client, f"?model={model.pk}")

    assert "Its weight is 0" in shown and "always saying the base rate" in shown
    assert page_of_nobody(client)


def page_of_nobody(client: Client) -> bool:
    client.logout()
    return client.get("/models/").status_code == 302


@pytest.mark.parametrize("query", ["?model=999", "?model=x", "?model=-1", "?model=9" + "9" * 30])
def test_page_of_a_model_that_is_not_there_shows_the_one_that_counts(
    client: Client, query: str
) -> None:
    model = active()

    assert f"Model {model.pk}</h2>" in page(client, query)


def test_page_says_that_a_model_cannot_serve(client: Client) -> None:
    damaged(active(), "missing")

    assert "It cannot serve: its file is missing" in page(client)


def command(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("train_model", *arguments, stdout=out, stderr=StringIO())
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_command_has_too_little_to_learn_from() -> None:
    assert command()[0] == 4
    assert command("--plant-leak")[0] == 2
    assert command("--check", "--plant-leak")[0] == 2
    assert command("--from-recording", "/nowhere")[0] == 4


def test_command_learns_from_the_desks_own_outcomes() -> None:
    known(900)
    code, said = command("--json")
    answer = json.loads(said)

    assert code == (0 if answer["passed"] else 1)
    model = MlModel.objects.get()
    assert (answer["model"]["id"], model.state) == (model.pk, "SHADOW")
    assert answer["report"]["window"]["samples"] == 900
    assert answer["report"]["purged_auc"] > 0.7
    shuffled = json.loads(command("--shuffle-labels", "--json")[1])
    assert not shuffled["passed"] and shuffled["model"] is None
    assert command("--scheduled")[0] == 0  # nothing is new
    assert MlModel.objects.count() == 1


def test_command_says_when_frames_are_too_few_to_look_for_leaks() -> None:
    where = ("--simulate", "5", "--minutes", "2", "--dense", "--check")

    assert command(*where) == (4, "")


@pytest.mark.skipif("MPX_SOAK" not in os.environ, reason="minutes: set MPX_SOAK=1 to run it")
@pytest.mark.timeout(1_200)
def test_command_finds_a_planted_leak_and_none_without() -> None:
    where = ("--simulate", "21", "--minutes", "45", "--dense", "--check", "--json")

    code, said = command(*where)
    assert code == 0
    assert all(check["ok"] for check in json.loads(said)["checks"])
    code, said = command(*where, "--plant-leak")
    assert code == 1
    found = [check["answer"] for check in json.loads(said)["checks"] if not check["ok"]]
    assert len(found) == 2
    assert all("planted feature 1" in answer for answer in found)
