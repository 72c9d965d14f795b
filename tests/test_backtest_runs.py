"""Backtests as the desk keeps them: asked for, run by the worker, shown, compared, cancelled."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from execution import tasks
from execution.backtest import runs
from execution.backtest.asking import Asked, read_asked
from execution.backtest.runs import CannotRun, Places, TooManyWaiting
from execution.backtest.terms import FillTerms
from execution.backtest_models import BacktestResult, BacktestRun
from markets.recording import RecordingWriter
from rules.load import publish_dir
from tests import portal_cast as cast
from tests.live_cast import SHIPPED, simulated

State = BacktestRun.State


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    with RecordingWriter(folder / "sim.jsonl.gz", header={}) as writer:
        for frame in simulated(seconds=25):
            writer.write(frame)
    return folder


@pytest.fixture
def places(recordings, tmp_path, settings) -> Places:
    settings.MPX_RECORDINGS, settings.MPX_HOME = recordings, tmp_path
    settings.MPX_KEEP_DIR = tmp_path / "kept"
    return Places(tmp_path / "kept", recordings, tmp_path / "backtests")


def asked(**changes) -> Asked:
    values = {"rules": (SHIPPED.read_text(),), "source": "recording:sim.jsonl.gz"}
    return Asked(**{**values, **changes})


def waiting(places: Places, **changes) -> BacktestRun:
    return runs.ask(asked(**changes), places, by=None, at=timezone.now())


def done(places: Places, **changes) -> BacktestRun:
    run = waiting(places, **changes)
    assert runs.start(run.pk, at=timezone.now())
    runs.run(run.pk, places)
    run.refresh_from_db()
    return run


# --- the row ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_run_keeps_what_it_was_asked_for_what_it_read_and_what_came_of_it(places):
    run = done(places, sets=("dedupe.persist_ms=250,500",))

    results = list(run.results.order_by("place"))
    assert run.state == State.DONE
    assert run.permille == 1000
    assert (run.data["coverage"], run.data["kind"]) == (1.0, "books")
    assert len(run.data["sha256"]) == len(run.fingerprint) == 64
    assert run.code_version
    assert read_asked(run.asked) == asked(sets=("dedupe.persist_ms=250,500",))
    assert [each.label for each in results] == ["dedupe.persist_ms=250", "dedupe.persist_ms=500"]
    assert all(each.signals > 0 for each in results)


@pytest.mark.django_db
def test_only_one_of_the_desk_runs_at_a_time(places):
    first, second = waiting(places), waiting(places)

    assert runs.claim(at=timezone.now()).pk == first.pk
    assert runs.claim(at=timezone.now()) is None
    runs.cancel(first.pk, at=timezone.now())
    assert runs.claim(at=timezone.now()).pk == second.pk


@pytest.mark.django_db
def test_the_queue_has_an_end(places, monkeypatch):
    monkeypatch.setattr(runs, "MOST_WAITING", 2)
    waiting(places), waiting(places)

    with pytest.raises(TooManyWaiting):
        waiting(places)


@pytest.mark.django_db
def test_cancelled_run_stops_and_stores_nothing_and_can_be_started_again(places, monkeypatch):
    run = waiting(places)
    runs.start(run.pk, at=timezone.now())
    monkeypatch.setattr("execution.backtest.jobs.TELL_SECONDS", 0.0)

    told = runs.run(run.pk, places, tell=lambda pace: runs.cancel(run.pk, at=timezone.now()))

    run.refresh_from_db()
    assert told is None
    assert run.state == State.CANCELLED
    assert not run.results.exists()
    assert runs.again(run.pk, at=timezone.now())
    assert runs.claim(at=timezone.now()).pk == run.pk
    assert runs.run(run.pk, places) is not None


@pytest.mark.django_db
def test_run_that_falls_silent_is_said_to_have_died(places):
    run = waiting(places)
    runs.start(run.pk, at=timezone.now() - timedelta(minutes=2))

    assert runs.fail_silent(at=timezone.now()) == 1

    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "Start it again" in run.reason


@pytest.mark.django_db
def test_what_cannot_be_read_is_told_on_the_row(places):
    run = waiting(places, source="recording:../../etc/passwd")
    runs.start(run.pk, at=timezone.now())

    with pytest.raises(CannotRun):
        runs.run(run.pk, places)

    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "no recording" in run.reason


@pytest.mark.django_db
def test_every_try_of_a_directional_rule_counts_for_the_next(places):
    text = (SHIPPED.parent / "trend_breakout.yaml").read_text()
    run = waiting(places, rules=(text,))
    for place, ratio in enumerate((0.1, -0.2, None)):
        BacktestResult.objects.create(
            run=run, place=place, rule="TREND_BREAKOUT", sha256="0" * 64, directional=True,
            signals=0, p1=0, trades=0, captured=0, sharpe=ratio, summary={},
        )  # fmt: skip

    assert runs.trials(asked(rules=(text,))) == {"TREND_BREAKOUT": [-0.2, 0.1]}
    assert runs.trials(asked(rules=(text,)), without=run.pk) == {}


@pytest.mark.django_db
def test_the_worker_starts_what_waits_in_a_process_of_its_own(places, monkeypatch):
    started = []
    monkeypatch.setattr(tasks.children, "start", lambda *words: started.append(words))
    run = waiting(places)

    assert tasks.run_waiting_backtests() == f"started {run.pk}"
    assert tasks.run_waiting_backtests() == "nothing waits"
    assert started == [("run_backtest", str(run.pk))]


# --- commands -----------------------------------------------------------------------------


def said(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.mark.django_db
def test_stored_runs_are_shown_and_compared(places, tmp_path):
    one, two = done(places), done(places, terms=replace_latency(5_000))
    hits = tmp_path / "hits.csv"

    shown = json.loads(said("backtest_show", str(one.pk), "--json", "--csv-out", str(hits)))
    compared = json.loads(said("backtest_compare", str(one.pk), str(two.pk), "--json"))

    assert shown["results"][0]["signals"] == len(hits.read_text().splitlines()) - 1
    assert compared["same_data"]
    assert set(compared["results"][0]["runs"]) == {str(one.pk), str(two.pk)}
    assert "DUTCH_BOOK_DETECT" in said("backtest_show", str(one.pk))
    assert str(one) in said("backtest_show")


def replace_latency(ms: int) -> FillTerms:
    return FillTerms(latency_ms=ms)


# --- portal and API -------------------------------------------------------------------------


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


@pytest.mark.django_db
def test_a_run_is_started_on_the_portal_and_read_there(places, operator):
    publish_dir(SHIPPED.parent)
    form = {
        "rule": ["DUTCH_BOOK_DETECT"], "data": "recording:sim.jsonl.gz",
        "sets": "dedupe.persist_ms=250,500", "latency_ms": "250", "haircut": "0.5",
        "capital": "200",
    }  # fmt: skip

    sent = operator.post("/backtests/", form)

    run = BacktestRun.objects.get()
    assert sent.status_code == 302
    assert sent["Location"] == f"/backtests/{run.pk}/"
    assert "Waiting for its turn" in operator.get(sent["Location"]).content.decode()
    assert operator.get(f"/backtests/{run.pk}/progress/").json()["over"] is False
    runs.claim(at=timezone.now())
    runs.run(run.pk, places)
    page = operator.get(sent["Location"]).content.decode()
    assert "100.0 % covered" in page
    assert "Running gain" in page
    assert "By latency" in page
    assert run.title in operator.get("/backtests/").content.decode()
    lines = b"".join(operator.get(f"/backtests/{run.pk}/episodes.csv").streaming_content)
    assert lines.startswith(b"opened_at,")
    assert lines.count(b"\n") > 5


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": []},
        {"data": "recording:../secret"},
        {"sets": "no.such=1"},
        {"latency_ms": "fast"},
        {"haircut": "0"},
        {"capital": "NaN"},
    ],
)
def test_what_is_wrong_with_a_form_is_said_on_it(places, operator, wrong):
    publish_dir(SHIPPED.parent)
    form = {
        "rule": ["DUTCH_BOOK_DETECT"], "data": "recording:sim.jsonl.gz", "sets": "",
        "latency_ms": "250", "haircut": "0.5", "capital": "200",
    }  # fmt: skip

    sent = operator.post("/backtests/", {**form, **wrong})

    assert sent.status_code == 422
    assert 'role="alert"' in sent.content.decode()
    assert not BacktestRun.objects.exists()


@pytest.mark.django_db
def test_who_may_not_run_backtests_can_read_them(places, client):
    run = done(places)
    client.force_login(cast.viewer())

    assert client.get(f"/backtests/{run.pk}/").status_code == 200
    assert "Start the backtest" not in client.get("/backtests/").content.decode()
    assert client.post("/backtests/", {}).status_code == 403
    assert client.post(f"/backtests/{run.pk}/cancel/").status_code == 403


@pytest.mark.django_db
def test_runs_over_other_data_are_compared_with_a_warning(places, operator):
    one, two = done(places), done(places, terms=replace_latency(5_000))
    other = {**two.data, "sha256": "f" * 64}

    same = operator.get(f"/backtests/compare/?run={one.pk}&run={two.pk}").content.decode()
    BacktestRun.objects.filter(pk=two.pk).update(data=other)
    apart = operator.get(f"/backtests/compare/?run={one.pk}&run={two.pk}").content.decode()

    assert "different data" not in same
    assert "different data" in apart


@pytest.mark.django_db
def test_a_hostile_recording_name_is_text_wherever_it_is_shown(places, operator):
    run = done(places)
    name = "<script>alert(1)</script>"
    BacktestRun.objects.filter(pk=run.pk).update(
        title=name, data={**run.data, "name": name}, notes=[name]
    )

    for address in ("/backtests/", f"/backtests/{run.pk}/", f"/backtests/compare/?run={run.pk}"):
        assert name not in operator.get(address).content.decode()


@pytest.mark.django_db
def test_runs_are_told_over_http(places, operator):
    first, second = done(places), waiting(places)

    listed = operator.get("/api/v1/backtests?page_size=1").json()
    rest = operator.get(listed["next"]).json()
    one = operator.get(f"/api/v1/backtests/{first.pk}").json()

    assert [row["id"] for row in listed["results"]] == [second.pk]
    assert [row["id"] for row in rest["results"]] == [first.pk]
    assert one["read"]["coverage"] == 1.0
    assert one["results"][0]["rule"] == "DUTCH_BOOK_DETECT"
    assert operator.get("/api/v1/backtests/999999").status_code == 404


@pytest.mark.django_db
def test_the_schedule_takes_up_runs_and_who_may_run_what_ifs_may_start_them():
    job = PeriodicTask.objects.get(name="run-backtests")
    may = Group.objects.filter(permissions__codename="run_backtest")

    assert job.task == "execution.tasks.run_waiting_backtests"
    assert job.enabled
    assert set(may.values_list("name", flat=True)) == set(
        Group.objects.filter(permissions__codename="run_whatif").values_list("name", flat=True)
    )
    assert may.exists()


@pytest.mark.django_db
def test_run_command_of_the_worker_writes_the_answer_and_says_what_it_could_not(
    places, monkeypatch
):
    monkeypatch.setattr("os.nice", lambda by: by)  # not of the process that tests
    monkeypatch.setattr("signal.signal", lambda *_: None)
    good, bad = waiting(places), waiting(places, source="recording:gone.jsonl")
    runs.start(good.pk, at=timezone.now())
    BacktestRun.objects.filter(pk=bad.pk).update(by_desk=False)
    runs.start(bad.pk, at=timezone.now())

    call_command("run_backtest", str(good.pk))
    with pytest.raises(SystemExit) as ended:
        call_command("run_backtest", str(bad.pk), stderr=StringIO())

    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, bad.state) == (State.DONE, State.FAILED)
    assert ended.value.code == 4
