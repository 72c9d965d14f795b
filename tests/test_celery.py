"""The schedule and who runs it: the jobs of one process, and real workers on a real Redis."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler
from kombu.utils.imports import symbol_by_name

from alerts.models import AuditEntry
from markets import lease, tasks, tick_room
from markets.models import Event, Lease, Market, Quote, SyncRun, TermsChange, Tick
from mpx_site.celery import app
from mpx_site.jobs import JobsThread
from tests import portal_cast as cast
from tests.servers import ROOT, Redis, manage, settings_for, wait_for
from tests.venue import mock_venue, venue_process

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
schedule = import_module("mpx_site.migrations.0001_schedule")

pytestmark = pytest.mark.django_db


def job(name: str) -> PeriodicTask:
    return PeriodicTask.objects.get(name=name)


# --- the schedule ----------------------------------------------------------


def test_every_job_names_a_task_and_expires_before_the_next() -> None:
    app.loader.import_default_modules()

    seeded = list(PeriodicTask.objects.all())

    assert {name for name, *_ in schedule.JOBS} <= {each.name for each in seeded}
    for each in seeded:
        assert each.task in app.tasks and each.enabled
        assert each.expire_seconds <= each.schedule.run_every.total_seconds()


@pytest.mark.parametrize("row", schedule.JOBS, ids=lambda row: row[0])
def test_a_job_of_the_catalogue_ends_before_the_next(row: tuple[Any, ...]) -> None:
    name, task, *_ = row
    app.loader.import_default_modules()
    limit = app.tasks[task].time_limit or settings.CELERY_TASK_TIME_LIMIT

    assert limit <= job(name).schedule.run_every.total_seconds()


def test_nothing_in_the_settings_overwrites_the_admin() -> None:
    assert not app.conf.beat_schedule
    scheduler = symbol_by_name(app.conf.beat_scheduler)
    assert issubclass(scheduler, DatabaseScheduler)


def test_an_edited_period_survives_the_next_migration() -> None:
    edited = job("catalogue")
    edited.interval = IntervalSchedule.objects.create(every=5, period="minutes")
    edited.enabled = False
    edited.save()

    schedule.install(apps, None)

    kept = job("catalogue")
    assert (kept.interval.every, kept.enabled) == (5, False)
    assert PeriodicTask.objects.filter(task=edited.task).count() == 1


def test_the_schedule_can_be_taken_out_again() -> None:
    schedule.remove(apps, None)

    assert not PeriodicTask.objects.filter(name__in=[name for name, *_ in schedule.JOBS]).exists()


def test_a_worker_without_options_serves_every_queue_of_the_routes() -> None:
    served = {queue.name for queue in settings.CELERY_TASK_QUEUES}
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}

    assert routed | {settings.CELERY_TASK_DEFAULT_QUEUE} == served


# --- in the admin ----------------------------------------------------------


def test_an_edit_in_the_admin_is_audited_and_expires_in_time(client: Client) -> None:
    client.force_login(cast.operator())
    shorter = IntervalSchedule.objects.create(every=20, period="seconds")
    edited = job("catalogue-news")
    address = reverse("admin:django_celery_beat_periodictask_change", args=[edited.pk])
    form = {"name": edited.name, "task": edited.task, "enabled": "on", "interval": shorter.pk,
            "args": "[]", "kwargs": "{}", "expire_seconds": "60"}  # fmt: skip

    response = client.post(address, form)

    assert response.status_code == 302, response.content.decode()
    assert job("catalogue-news").expire_seconds == 20
    told = AuditEntry.objects.latest("id")
    assert (told.kind, told.subject) == ("schedule.changed", "schedule:catalogue-news")
    assert (told.actor, told.data["when"]) == ("operator", "every 20 seconds")


@pytest.mark.parametrize(("action", "enabled"), [("disable_tasks", False), ("toggle_tasks", False)])
def test_switching_jobs_is_audited(client: Client, action: str, enabled: bool) -> None:
    client.force_login(cast.operator())
    address = reverse("admin:django_celery_beat_periodictask_changelist")

    client.post(address, {"action": action, "_selected_action": [job("prune-feed").pk]})

    assert job("prune-feed").enabled is enabled
    assert AuditEntry.objects.latest("id").data["enabled"] is enabled


def test_run_now_makes_a_job_due_where_there_is_no_broker(client: Client) -> None:
    client.force_login(cast.operator())
    PeriodicTask.objects.update(last_run_at=timezone.now())
    address = reverse("admin:django_celery_beat_periodictask_changelist")

    page = client.post(
        address, {"action": "run_tasks", "_selected_action": [job("prune-feed").pk]}, follow=True
    ).content.decode()

    assert "1 job(s) start within a second." in page
    assert due(timezone.now()) == ["prune-feed"]


# --- jobs in one process ---------------------------------------------------


class StillJobs(JobsThread):
    """Jobs that are found due, but not done."""

    def _do(self, job: PeriodicTask) -> None:
        self._running.discard(job.name)


def due(at: datetime, jobs: JobsThread | None = None) -> list[str]:
    """Start what is due; return what of it is in the first schedule."""
    started = (jobs or StillJobs()).start_due(at=at)
    return sorted(name for name, *_ in schedule.JOBS if name in started)


def ran_at(moment: datetime) -> None:
    PeriodicTask.objects.update(last_run_at=moment)


def test_a_new_desk_runs_everything_at_once_and_then_in_time(time_machine_like: Any) -> None:
    start = time_machine_like(NOON)

    assert due(start) == sorted(name for name, *_ in schedule.JOBS)
    assert due(time_machine_like(NOON + timedelta(seconds=59))) == []
    assert due(time_machine_like(NOON + timedelta(seconds=60))) == [
        "catalogue-news", "catalogue-results",
    ]  # fmt: skip
    assert job("catalogue-news").total_run_count == 2


@pytest.fixture
def time_machine_like(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], datetime]:
    """Let Celery's schedules think that it is another time."""

    def turn(to: datetime) -> datetime:
        monkeypatch.setattr(app, "now", lambda: to)
        monkeypatch.setattr("celery.schedules.BaseSchedule.now", lambda self: to)
        return to

    return turn


def test_an_edited_period_counts_at_once(time_machine_like: Any) -> None:
    ran_at(NOON)
    edited = job("prune-feed")
    edited.interval = IntervalSchedule.objects.create(every=10, period="seconds")
    edited.save()

    assert due(time_machine_like(NOON + timedelta(seconds=11))) == ["prune-feed"]


def test_jobs_at_a_time_of_day_are_done_too(time_machine_like: Any) -> None:
    ran_at(NOON)
    edited = job("prune-feed")
    edited.interval = None
    edited.crontab = CrontabSchedule.objects.create(hour="4", minute="30", timezone="UTC")
    edited.save()
    PeriodicTask.objects.exclude(name="prune-feed").update(enabled=False)

    assert due(time_machine_like(NOON + 16 * HOUR)) == []
    assert due(time_machine_like(NOON + 17 * HOUR)) == ["prune-feed"]


def test_what_is_switched_off_or_not_begun_is_left_alone() -> None:
    PeriodicTask.objects.exclude(name__startswith="prune").update(enabled=False)
    PeriodicTask.objects.filter(name="prune-feed").update(start_time=NOON + HOUR)
    PeriodicTask.objects.filter(name="prune-ticks").update(expires=NOON)

    assert due(NOON) == ["prune-catalogue"]


def test_a_job_that_still_runs_is_not_started_again() -> None:
    jobs = StillJobs()
    jobs._running.add("catalogue")

    assert "catalogue" not in due(NOON, jobs)


@pytest.mark.django_db(transaction=True)
def test_a_failing_or_impossible_job_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr("mpx_site.jobs.LOOK_SECONDS", 0.05)
    monkeypatch.setattr(tasks.prune_ticks, "run", lambda **_: 1 / 0)
    monkeypatch.setattr(tasks.prune_catalogue, "run", lambda **_: done.set())
    PeriodicTask.objects.filter(name="prune-feed").update(task="no.such.task")
    PeriodicTask.objects.filter(name="catalogue").update(kwargs="{not json")

    with running_jobs():
        assert done.wait(10)
        wait_for(lambda: job("prune-ticks").total_run_count, seconds=5, what="the failing job")
        assert threads_of_jobs()


@pytest.mark.django_db(transaction=True)
def test_an_ending_process_drops_what_asks_the_venue(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpx_site.jobs.LOOK_SECONDS", 0.05)
    settings.DATA_SOURCE = "real"
    with mock_venue(events=1, markets=2_000) as venue:
        settings.POLYMARKET_GAMMA_URL = venue.url
        venue.fault("drip")
        with running_jobs() as jobs:
            wait_for(SyncRun.objects.filter(kind="FULL").exists, seconds=10, what="a pass")
            begun = time.monotonic()
            jobs.stop()
            jobs.join(10)
            assert not jobs.is_alive() and time.monotonic() - begun < 5
    assert "the process ended" in SyncRun.objects.get(kind="FULL").error
    assert not Lease.objects.filter(until__gt=timezone.now()).exists()


@contextmanager
def running_jobs() -> Iterator[JobsThread]:
    jobs = JobsThread()
    jobs.start()
    try:
        yield jobs
    finally:
        jobs.stop()
        jobs.join(10)
        tasks.going_down.clear()


def threads_of_jobs() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "jobs"]


# --- tasks -----------------------------------------------------------------


@pytest.mark.parametrize("task", [tasks.catalogue_sync, tasks.reconcile, tasks.resolutions])
@pytest.mark.parametrize("source", ["mock", "replay:some.jsonl"])
def test_without_a_venue_a_task_does_nothing_and_says_so(
    settings: Any, task: Any, source: str
) -> None:
    settings.DATA_SOURCE = source

    told = task.apply(kwargs={"sent_by": "a newer caller"}).get()

    assert told == f"nothing done: DATA_SOURCE is {source}, so there is no venue to ask"
    assert not SyncRun.objects.exists()


def test_the_tasks_follow_a_venue(settings: Any) -> None:
    settings.DATA_SOURCE = "real"
    with mock_venue(events=2, rate=1.0, markets=100) as venue:
        settings.POLYMARKET_GAMMA_URL = venue.url
        first = tasks.catalogue_sync.apply().get()
        venue.order(churn=20)
        second = tasks.reconcile.apply().get()
        third = tasks.resolutions.apply().get()

    assert "0 objects rejected" in first and "0 objects rejected" in second
    assert set(SyncRun.objects.values_list("kind", "error")) == {
        ("FULL", ""), ("NEWS", ""), ("RESULTS", ""),
    }  # fmt: skip
    assert Market.objects.filter(state="RESOLVED").exists(), "one of the watched ones closed"
    assert third.startswith("0 events")


def test_a_venue_that_is_away_fails_the_task_and_leaves_the_reason(settings: Any) -> None:
    settings.DATA_SOURCE = "real"
    settings.POLYMARKET_GAMMA_URL = "http://127.0.0.1:9"

    result = tasks.reconcile.apply()

    assert result.failed()
    assert "Gamma /markets/keyset" in SyncRun.objects.get().error
    assert not Lease.objects.filter(until__gt=timezone.now()).exists()


def test_while_one_is_at_it_a_second_does_nothing(settings: Any) -> None:
    settings.DATA_SOURCE = "real"

    with lease.held("catalogue_sync", seconds=60) as ours:
        assert ours
        told = tasks.catalogue_sync.apply().get()

    assert told == "nothing done: another is at it"
    assert not SyncRun.objects.exists()


def test_old_ticks_and_history_go_and_the_rest_stays(settings: Any) -> None:
    settings.TICKS_KEPT_DAYS = 7
    now = timezone.now()
    old, new = now - timedelta(days=100), now - timedelta(days=1)
    Event.objects.create(id="1", seen_at=now)
    for number in range(tick_room.DELETED_AT_ONCE + 1):
        market = Market.objects.create(id=f"m{number}", event_id="1", state="TRADABLE",
                                       tick_size=1, min_size=5, seen_at=now)  # fmt: skip
        Quote.objects.create(market=market, state="fresh", at=now)
        for at in (old, new):
            Tick.objects.create(market=market, at=at)
            TermsChange.objects.create(market=market, at=at, field="STATE")
            SyncRun.objects.create(kind="NEWS", started_at=at)
    count = tick_room.DELETED_AT_ONCE + 1

    assert tasks.prune_ticks.apply().get() == count
    assert tasks.prune_catalogue.apply().get() == 2 * count

    assert Tick.objects.filter(at=new).count() == Tick.objects.count() == count
    assert TermsChange.objects.count() == SyncRun.objects.count() == count


# --- leases ----------------------------------------------------------------


def test_a_lease_that_ran_out_can_be_taken_and_its_old_holder_changes_nothing() -> None:
    assert lease.take("work", holder="first", at=NOON, until=NOON + HOUR)
    assert not lease.take("work", holder="second", at=NOON + HOUR / 2, until=NOON + 2 * HOUR)
    assert lease.take("work", holder="second", at=NOON + HOUR, until=NOON + 2 * HOUR)

    lease.give_back("work", holder="first", at=NOON + HOUR)

    assert Lease.objects.get().holder == "second"
    assert not lease.take("work", holder="third", at=NOON + HOUR, until=NOON + 3 * HOUR)


def test_an_error_gives_the_lease_back() -> None:
    with pytest.raises(ZeroDivisionError), lease.held("work", seconds=60):
        _ = 1 / 0

    with lease.held("work", seconds=60) as ours:
        assert ours


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_that_want_a_lease_at_once_one_gets_it() -> None:
    won: list[int] = []
    ready = threading.Barrier(8)

    def want(number: int) -> None:
        ready.wait()
        if lease.take("work", holder=str(number), at=NOON, until=NOON + HOUR):
            won.append(number)
        connections.close_all()

    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(won) == 1
    assert Lease.objects.get().holder == str(won[0])


# --- real workers ----------------------------------------------------------


@contextmanager
def celery(*words: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "-A", "mpx_site", *words, "--loglevel=INFO"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def rows(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{home}/mpx.sqlite3?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


@pytest.mark.timeout(180)
def test_beat_and_a_worker_fill_the_catalogue_through_a_redis_that_restarts(tmp_path: Path) -> None:
    redis = Redis().start()
    with venue_process("--events", "4", "--rate", "1", "--markets", "200") as venue:
        env = settings_for(tmp_path, REDIS_URL=redis.url, DATA_SOURCE="real", **venue.environment)
        assert manage("migrate", env=env).returncode == 0
        worker_log, beat_log = tmp_path / "worker.log", tmp_path / "beat.log"

        def finished(kind: str) -> int:
            sql = f"select count(*) from markets_syncrun where kind='{kind}' and error='' "
            return int(rows(tmp_path, f"{sql} and ended_at is not null")[0][0])

        with (
            celery("worker", "--concurrency=2", env=env, log=worker_log) as worker,
            celery("beat", env=env, log=beat_log),
        ):
            wait_for(lambda: finished("FULL"), seconds=60, what="the first full pass")
            assert rows(tmp_path, "select count(*) from markets_market")[0][0] >= 200

            redis.stop()
            redis.start()
            before = finished("NEWS")
            send(env, "markets.tasks.reconcile")
            wait_for(lambda: finished("NEWS") > before, seconds=60, what="a task after the restart")
            assert worker.poll() is None, worker_log.read_text()
    redis.stop()


def send(env: dict[str, str], task: str) -> None:
    """Publish a task as any process of the desk would."""
    code = f"from mpx_site.celery import app; app.send_task('{task}', queue='catalogue')"
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, timeout=30)
