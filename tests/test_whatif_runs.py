"""What-ifs as rows: asked for, taken up once, told how far they are, answered, cancelled."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.core.management import call_command, get_commands
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from markets import children
from markets.past.spans import Span
from markets.recording import RecordingWriter
from mpx_site.celery import app
from rules.dsl import parse_rule
from rules.load import publish
from rules.models import Rule, RuleVersion
from signals import tasks, whatif_runs
from signals.models import Signal
from signals.whatif_models import SILENT, WhatIfQuerySet, WhatIfRun
from signals.whatif_runs import CannotRun, TooManyWaiting
from tests.live_cast import SHIPPED, simulated
from tests.servers import ROOT, settings_for

pytestmark = pytest.mark.django_db

AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
CODE = "DUTCH_BOOK_DETECT"
HIGHER = SHIPPED.read_text().replace("min_profit_usd: 0.50", "min_profit_usd: 3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with half a simulated minute in it."""
    made = tmp_path_factory.mktemp("recordings")
    with RecordingWriter(made / "half.jsonl.gz", header={}) as writer:
        for frame in simulated(seconds=30):
            writer.write(frame)
    return made


@pytest.fixture
def rule() -> Rule:
    text = SHIPPED.read_text()
    publish(parse_rule(text, source="test"), source=text, at=AT)
    return Rule.objects.get(code=CODE)


def asked(rule: Rule, **changed: Any) -> WhatIfRun:
    values = {"source": HIGHER, "version": None, "at": AT, "recording": "half.jsonl.gz"}
    return whatif_runs.ask(rule, by=someone(), **{**values, **changed})


def someone() -> User:
    return User.objects.get_or_create(username="analyst")[0]


def answered(run: WhatIfRun, folder: Path, kept: Path | None = None) -> WhatIfRun:
    taken = whatif_runs.claim(at=timezone.now())
    assert taken and taken.pk == run.pk
    whatif_runs.run(run.pk, kept_folder=kept or folder / "none", recordings_folder=folder)
    run.refresh_from_db()
    return run


# --- from question to answer ---------------------------------------------------------


def test_a_question_over_a_recording_is_answered(rule, folder):
    run = answered(asked(rule), folder)

    assert run.state == "DONE" and run.ended_at and run.permille == 1000
    assert run.live_version == rule.current and run.candidate == "a new text"
    assert run.frames == run.result["frames"] > 3000
    assert run.counts["changed"] > 0 == run.counts["new"]
    assert run.result["notes"] == []
    assert Signal.objects.count() == 0


def test_a_published_version_can_be_the_candidate(rule, folder):
    first = rule.current
    publish(parse_rule(HIGHER, source="test"), source=HIGHER, at=AT)
    rule.refresh_from_db()

    run = answered(asked(rule, source=first.canonical, version=first), folder)

    assert run.live_version.number == 2 and run.candidate == "v1"
    assert run.result["candidate"]["sha256"] == first.sha256
    assert run.result["candidate"]["alerts"] > run.result["live"]["alerts"]


def test_progress_is_told_by_bytes_until_all_are_read(rule, folder, monkeypatch):
    monkeypatch.setattr(whatif_runs, "TELL_SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    tell = whatif_runs._tell

    def noting(run_id: int, share: float, frames: int) -> bool:
        answer = tell(run_id, share, frames)
        row = WhatIfRun.objects.get(pk=run_id)
        told.append((row.permille, row.frames))
        return answer

    monkeypatch.setattr(whatif_runs, "_tell", noting)

    run = answered(asked(rule), folder)

    assert run.state == "DONE"
    assert len(told) > 10 and told == sorted(told)
    # The last look is up to LOOK_EVERY frames before the end; with the answer it is all of it.
    assert 0 < told[0][0] < 500 and 950 < told[-1][0] <= 1000
    assert run.permille == 1000


def test_a_cancelled_one_stops_and_stays_cancelled(rule, folder, monkeypatch):
    monkeypatch.setattr(whatif_runs, "TELL_SECONDS", 0.0)
    run = asked(rule)
    tell = whatif_runs._tell

    def cancelling(run_id: int, share: float, frames: int) -> bool:
        whatif_runs.cancel(run_id, at=AT)
        return tell(run_id, share, frames)

    monkeypatch.setattr(whatif_runs, "_tell", cancelling)

    answered(run, folder)

    assert (run.state, run.result, run.ended_at) == ("CANCELLED", None, AT)
    assert not whatif_runs.cancel(run.pk, at=AT)


def test_what_waits_can_be_cancelled_and_is_then_not_taken_up(rule):
    run = asked(rule)

    assert whatif_runs.cancel(run.pk, at=AT)

    assert whatif_runs.claim(at=AT) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"recording": "", "hours": 6}, "Nothing is kept of the last 6 h."),
        ({"recording": "gone.jsonl"}, "There is no recording gone.jsonl any more."),
        ({"recording": "../half.jsonl.gz"}, "There is no recording ../half.jsonl.gz any more."),
        ({"source": "code: X"}, "missing"),
    ],
)
def test_what_cannot_be_run_says_why(rule, folder, changed, reason):
    run = answered(asked(rule, **changed), folder)

    assert run.state == "FAILED" and run.result is None
    assert reason in run.reason


def test_a_file_that_is_no_recording_says_so(rule, folder, tmp_path):
    (tmp_path / "half.jsonl.gz").write_bytes(b"no recording")

    run = answered(asked(rule), tmp_path)

    assert run.state == "FAILED"
    assert "No frame could be read" in run.reason and "half.jsonl.gz" in run.reason


def test_a_cut_recording_is_compared_with_a_note(rule, folder, tmp_path):
    whole = (folder / "half.jsonl.gz").read_bytes()
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])

    run = answered(asked(rule), tmp_path)

    assert run.state == "DONE"
    assert any("half.jsonl.gz: truncated" in note for note in run.result["notes"])


def test_a_rule_over_relations_says_when_none_were_recorded(folder, monkeypatch):
    text = (SHIPPED.parent / "cross_market_misprice.yaml").read_text()
    publish(parse_rule(text, source="test"), source=text, at=AT)

    run = answered(asked(Rule.objects.get(), source=text), folder)

    assert run.state == "DONE"
    assert "No relations were recorded" in run.result["notes"][0]


def test_an_error_of_ours_ends_it_and_is_raised(rule, folder, monkeypatch):
    monkeypatch.setattr(whatif_runs, "compare", lambda *_, **__: 1 / 0)
    run = asked(rule)

    with pytest.raises(ZeroDivisionError):
        answered(run, folder)

    run.refresh_from_db()
    assert run.state == "FAILED" and "ZeroDivisionError" in run.reason


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_one_whose_process_is_stopped_says_so(rule, folder, monkeypatch, end):
    def stop(*_: Any, **__: Any) -> None:
        raise end

    monkeypatch.setattr(whatif_runs, "compare", stop)
    run = asked(rule)

    with pytest.raises(type(end)):
        answered(run, folder)

    run.refresh_from_db()
    assert (run.state, run.reason) == ("FAILED", "Its process was stopped. Ask again.")


# --- whose turn it is ----------------------------------------------------------------


def test_one_runs_at_a_time_in_the_order_of_asking(rule):
    second = asked(rule, at=AT + timedelta(seconds=1))
    first = asked(rule)

    taken = whatif_runs.claim(at=AT)
    assert taken == first
    assert whatif_runs.claim(at=AT) is None

    whatif_runs.cancel(first.pk, at=AT)
    assert whatif_runs.claim(at=AT) == second


def test_two_that_look_at_once_start_one(rule, monkeypatch):
    """The second worker looked before the first had started anything."""
    asked(rule), asked(rule, at=AT + timedelta(seconds=1))
    assert whatif_runs.claim(at=AT)
    monkeypatch.setattr(WhatIfQuerySet, "running", WhatIfQuerySet.none)

    assert whatif_runs.claim(at=AT) is None

    states = WhatIfRun.objects.order_by("id").values_list("state", flat=True)
    assert list(states) == ["RUNNING", "WAITING"]


def test_of_those_that_ran_at_once_the_first_goes_on(rule):
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX whatif_one_runs")
    first, second = asked(rule), asked(rule)
    for minutes, run in enumerate((first, second)):
        started_at = AT + timedelta(minutes=minutes)
        WhatIfRun.objects.filter(pk=run.pk).update(state="RUNNING", started_at=started_at)

    import_module("signals.migrations.0003_one_what_if_runs").end_surplus(apps)

    first.refresh_from_db(), second.refresh_from_db()
    assert first.state == "RUNNING"
    assert (second.state, second.reason) == (
        "FAILED",
        "Another ran at the same time. Ask again.",
    )


def test_too_many_questions_are_refused(rule):
    for _ in range(whatif_runs.MOST_WAITING):
        asked(rule)

    with pytest.raises(TooManyWaiting):
        asked(rule)


def test_old_answers_are_forgotten_when_a_new_question_comes(rule):
    old, young = asked(rule), asked(rule)
    whatif_runs.cancel(old.pk, at=AT - timedelta(days=91))
    whatif_runs.cancel(young.pk, at=AT - timedelta(days=89))

    asked(rule)

    assert set(WhatIfRun.objects.values_list("pk", flat=True)) > {young.pk}
    assert not WhatIfRun.objects.filter(pk=old.pk).exists()


def test_one_that_fell_silent_has_died(rule):
    run = asked(rule)
    whatif_runs.claim(at=AT)

    assert whatif_runs.fail_silent(at=AT + SILENT) == 0
    assert whatif_runs.fail_silent(at=AT + SILENT + timedelta(seconds=1)) == 1

    run.refresh_from_db()
    assert run.state == "FAILED" and "without a word" in run.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": 6},
        {"recording": ""},
        {"state": "DONE", "ended_at": AT},
        {"state": "FAILED"},
        {"ended_at": AT},
    ],
)
def test_the_database_refuses_what_cannot_be(rule, wrong):
    run = asked(rule)

    with pytest.raises(IntegrityError), transaction.atomic():
        WhatIfRun.objects.filter(pk=run.pk).update(**wrong)


# --- the task and its process --------------------------------------------------------


def test_the_task_starts_the_next_one_in_a_process(rule, monkeypatch):
    run = asked(rule)
    started: list[list[str]] = []

    class Child:
        def __init__(self, words: list[str], **_: Any) -> None:
            started.append(words)

        def poll(self) -> int | None:
            return None

    monkeypatch.setattr(subprocess, "Popen", Child)

    assert tasks.run_waiting_whatifs() == f"started {run.pk}"
    assert tasks.run_waiting_whatifs() == "nothing waits"

    assert started == [[sys.executable, str(ROOT / "manage.py"), "run_whatif", str(run.pk)]]
    children._running.clear()


def test_one_that_cannot_be_started_has_failed(rule, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("out of memory")

    run = asked(rule)
    monkeypatch.setattr(subprocess, "Popen", refuse)

    with pytest.raises(OSError, match="out of memory"):
        tasks.run_waiting_whatifs()

    run.refresh_from_db()
    assert run.state == "FAILED" and "out of memory" in run.reason


def test_the_schedule_looks_every_two_seconds():
    import_module("mpx_site.migrations.0005_whatif").install(apps, None)
    app.loader.import_default_modules()

    job = PeriodicTask.objects.get(name="run-whatifs")

    assert job.task in app.tasks
    assert job.expire_seconds == job.schedule.run_every.total_seconds() == 2


def test_who_judges_or_acts_may_run_them():
    import_module("execution.migrations.0003_roles").create(apps)
    import_module("mpx_site.migrations.0006_whatif_roles").grant(apps)

    may = Group.objects.filter(permissions__codename="run_whatif")

    assert set(may.values_list("name", flat=True)) == {"analyst", "trader", "approver", "admin"}


# --- what may be read ----------------------------------------------------------------


def test_recordings_are_offered_newest_first_without_parts(tmp_path):
    for name in ("a.jsonl", "a.part-0002.jsonl", "b.jsonl.gz", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.jsonl").mkdir()

    assert {path.name for path in whatif_runs.recordings(tmp_path)} == {"a.jsonl", "b.jsonl.gz"}
    assert whatif_runs.recordings(tmp_path / "none") == []


def test_kept_hours_that_are_not_there_cannot_be_run(tmp_path):
    Span.new(tmp_path, start=1, session="0123abcd", number=1)

    with pytest.raises(CannotRun, match="MPX_KEEP_HOURS"):
        whatif_runs.of_last_hours(tmp_path, hours=1, at=timezone.now())


# --- the command ---------------------------------------------------------------------


def run_command(*words: str) -> str:
    out = StringIO()
    call_command("rules", "whatif", *words, stdout=out)
    return out.getvalue()


def test_our_rules_command_is_the_one_that_runs():
    assert get_commands()["rules"] == "mpx_site"


def test_the_command_compares_a_file_with_what_runs(rule, folder, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(HIGHER)
    recording = str(folder / "half.jsonl.gz")

    told = json.loads(run_command(str(file), "--recording", recording, "--json"))
    text = run_command(str(file), "--recording", recording)

    assert told["rule"] == CODE and told["counts"]["changed"] > 0
    assert told["live"]["sha256"] == RuleVersion.objects.get().sha256
    assert f"{told['counts']['changed']} changed" in text
    assert WhatIfRun.objects.count() == 0


def test_the_command_names_what_is_wrong_with_a_file(rule, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(HIGHER.replace("min_profit_usd: 3", "min_profit_usd: 1e-3"))
    out = StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("rules", "whatif", str(file), stdout=out)

    assert ended.value.code == 1
    assert "1e-3" in out.getvalue() and str(file) in out.getvalue()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("gone.yaml",), 2),
        ((str(SHIPPED), "--recording", "gone.jsonl"), 4),
        ((str(SHIPPED), "--recording", str(SHIPPED)), 4),
        ((str(SHIPPED), "--hours", "1"), 4),
    ],
)
def test_the_command_says_by_its_code_what_is_missing(rule, settings, tmp_path, words, code):
    settings.MPX_KEEP_DIR = tmp_path

    with pytest.raises(CommandError) as refused:
        run_command(*words)

    assert refused.value.returncode == code


def test_the_other_acts_are_still_there(rule, tmp_path):
    out = StringIO()

    call_command("rules", "list", stdout=out)

    assert CODE in out.getvalue()


def test_a_rule_that_is_not_published_is_all_new(folder, tmp_path):
    told = json.loads(
        run_command(str(SHIPPED), "--recording", str(folder / "half.jsonl.gz"), "--json")
    )

    assert told["live"] is None and told["counts"]["new"] > 0


def test_settings_name_where_hours_are_kept(tmp_path):
    env = {**settings_for(tmp_path), "MPX_KEEP_HOURS": "-1"}

    ran = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True
    )

    assert ran.returncode == 2
    assert "MPX_KEEP_HOURS" in ran.stderr
