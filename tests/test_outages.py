"""What the stream does while its servers are away: real ones, really stopped.

The venue is the mock venue over a socket, `stream` and the Celery worker are processes of
their own. By default Redis is away for 8 s; with MPX_TEST_SLOW=1 for a minute.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from markets.models import Quarantine
from markets.recording import Recording
from signals import store, writer
from signals.management.commands.replay import changes_of, rules_of
from signals.models import Signal
from signals.pipeline import Pipeline
from signals.writer import Batch, Writer
from tests.servers import (
    ROOT,
    CannotStart,
    Postgres,
    Redis,
    manage,
    settings_for,
    wait_for,
)
from tests.test_signal_store import NOON_NS, opened, publish_rule
from tests.venue import VenueClient, mock_venue

log = logging.getLogger(__name__)

REDIS_AWAY_SECONDS = 60.0 if os.environ.get("MPX_TEST_SLOW") else 8.0
DATABASE_AWAY_SECONDS = 3.0
BACK_SECONDS = 15.0
PREPARE = """
import django
django.setup()
from datetime import UTC, datetime
from django.core.management import call_command
from rules.load import publish_missing
call_command("migrate", verbosity=0)
publish_missing(at=datetime.now(UTC))
call_command("catalogue", "sync")
"""


@dataclass(slots=True)
class Desk:
    """The servers of a desk and the environment that names them."""

    postgres: Postgres
    redis: Redis
    venue: VenueClient
    home: Path

    @property
    def env(self) -> dict[str, str]:
        return settings_for(
            self.home, DJANGO_SETTINGS_MODULE="mpx_site.settings", DATA_SOURCE="real",
            DATABASE_URL=self.postgres.url, REDIS_URL=self.redis.url, **self.venue.environment,
        )  # fmt: skip

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(sql, values).fetchall()

    def count(self, sql: str, *values: object) -> int:
        return int(self.rows(f"select count(*) from {sql}", *values)[0][0])

    def beats_after(self, moment: float) -> bool:
        """Say whether the stream gave a sign of life after a moment (unix seconds)."""
        sql = "alerts_heartbeat where component = 'stream' and at > to_timestamp(%s)"
        return self.count(sql, moment) > 0

    @contextmanager
    def stream(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `stream` until it has signals; end it by SIGTERM."""
        begun = time.time()
        known = self.count("signals_signal")
        log_file = self.home / "stream.log"  # a pipe would fill up
        command = [sys.executable, "manage.py", "stream", *words]
        with (
            log_file.open("wb") as out,
            subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=out, stderr=out) as process,
        ):
            try:
                wait_for(lambda: self.beats_after(begun), seconds=40, what="the stream")
                found = "signals_signal offset %s"
                wait_for(
                    lambda: self.rows(f"select 1 from {found}", known), seconds=40, what="signals"
                )
                yield process
                assert process.poll() is None, log_file.read_text()
                process.terminate()
                assert process.wait(20) == 0, log_file.read_text()
            finally:
                process.kill()

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Celery worker until it is there; its log lies in the home."""
        log = self.home / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", "mpx_site", "worker", "--concurrency=1",
                   "--loglevel=INFO"]  # fmt: skip
        with (
            log.open("wb") as out,
            subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=out, stderr=out) as process,
        ):
            try:
                wait_for(lambda: " ready." in log.read_text(), seconds=40, what="the worker")
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    try:
        postgres, redis = Postgres().start(), Redis().start()
    except CannotStart as missing:
        pytest.skip(f"no servers of our own: {missing}")
    with mock_venue(events=40, rate=200.0, seed=5) as venue:
        started = Desk(postgres, redis, venue, tmp_path_factory.mktemp("home"))
        # As on any real server; our own is started with `off`, which may lose what it confirmed.
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("alter database postgres set synchronous_commit = on")
        subprocess.run([sys.executable, "-c", PREPARE], env=started.env, cwd=ROOT, check=True)
        yield started
    redis.stop()
    postgres.remove()


# --- Redis and the worker ------------------------------------------------------------


@pytest.mark.timeout(240)
def test_stream_goes_on_without_redis_and_worker(desk: Desk) -> None:
    with desk.stream() as stream:
        with desk.worker() as worker:
            worker.kill()
            worker.wait()
            desk.redis.stop()
        away_since = time.time()
        time.sleep(REDIS_AWAY_SECONDS)
        # The venue opens something every 15 s or so, not within every few seconds.
        since = "where opened_at > to_timestamp(%s)"
        wait_for(
            lambda: desk.count(f"signals_signal {since}", away_since) > 0,
            seconds=90,
            what="a signal while Redis is away",
        )
        away_until = time.time()

        span = "between to_timestamp(%s) and to_timestamp(%s)"
        stored = desk.count(f"signals_signal where opened_at {span}", away_since, away_until)
        ticks = desk.count(f"markets_tick where at {span}", away_since, away_until)
        log.info("outage.redis seconds=%.0f signals=%d ticks=%d", REDIS_AWAY_SECONDS, stored, ticks)
        assert stored > 0
        assert ticks > 10
        assert desk.beats_after(away_until - 3)  # it is not one that was stored and then stuck
        desk.redis.start()
        assert stream.poll() is None


# --- PostgreSQL ----------------------------------------------------------------------


def end_states(recording: Recording) -> dict[str, tuple[Any, ...]]:
    """Return what each signal of a recording came to, by its key, as a replay sees it."""
    pipeline = Pipeline(rules_of(recording), confirm_terms=True)
    last = {change.key: change for change in changes_of(pipeline, iter(recording))}
    return {
        key: ("CLOSED", change.why[:40], change.level, change.observations)
        for key, change in last.items()
    }


def changed_since(file: Path, moment: float) -> set[str]:
    """Return the kinds of change since a moment (unix seconds), by what is recorded so far."""
    recording = Recording(file)
    pipeline = Pipeline(rules_of(recording), confirm_terms=True)
    steps = (pipeline.feed(frame).changes for frame in recording)
    return {each.change for step in steps for each in step if each.at > moment * 10**9}


@pytest.mark.timeout(240)
def test_postgresql_may_crash_while_signals_open_and_close(desk: Desk, tmp_path: Path) -> None:
    """Away for 3 s at least: the stream is back by itself, and the rows are the replay's."""
    file = tmp_path / "night.jsonl.gz"
    begun = time.time()
    with desk.stream("--record", str(file)) as stream:
        assert desk.postgres.process
        desk.postgres.process.send_signal(signal.SIGQUIT)  # as `pg_ctl stop -m immediate`
        desk.postgres.process.wait(10)
        away_since = time.time()
        time.sleep(DATABASE_AWAY_SECONDS)
        wait_for(
            lambda: {"opened", "closed"} <= changed_since(file, away_since),
            seconds=60, what="signals that open and close while the database is away",
        )  # fmt: skip
        assert stream.poll() is None
        desk.postgres.start()
        there_again = time.time()
        wait_for(lambda: desk.beats_after(there_again), seconds=BACK_SECONDS, what="the stream")
        log.info("outage.healed seconds=%.1f", time.time() - there_again)
        wait_for(
            lambda: desk.count("signals_signal where opened_at > to_timestamp(%s)", there_again),
            seconds=40, what="a signal after the crash",
        )  # fmt: skip

    expected = end_states(Recording(file))
    rows = desk.rows(
        "select key, status, close_reason, level, observations, opened_at from signals_signal"
        " where opened_at > to_timestamp(%s)", begun,
    )  # fmt: skip
    assert {key: tuple(state) for key, *state, _ in rows} == expected
    assert len(rows) == len(expected)  # how many there are is the venue's and the machine's matter
    assert any(away_since <= row[5].timestamp() <= there_again for row in rows)
    assert told_more_than_once(desk) == []
    audited = manage("audit", "verify", env=desk.env)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def told_more_than_once(desk: Desk) -> list[tuple[Any, ...]]:
    """Return what has two rows where there must be one."""
    return [
        *desk.rows(
            "select signal_id, change from signals_signalpoint where change <> 'updated'"
            " group by 1, 2 having count(*) > 1"
        ),
        *desk.rows(
            "select signal_id, at, edge_bps from signals_signalpoint where change = 'updated'"
            " group by 1, 2, 3 having count(*) > 1"
        ),
        *desk.rows(
            "select payload->>'key', kind from alerts_feedentry where topic = 'signals'"
            " and kind <> 'updated' group by 1, 2 having count(*) > 1"
        ),
        *desk.rows(
            "select subject, kind from alerts_auditentry where kind like 'signal.%%'"
            " group by 1, 2 having count(*) > 1"
        ),
    ]


# --- what never heals ----------------------------------------------------------------

KEYS = tuple(f"{number:032x}" for number in range(4))


def store_but(bad: str, error: Exception, times: int | None = None) -> Any:
    """Return a `store.save` that fails with an error on one key, for ever or so many times."""
    save, failures = store.save, iter(range(times) if times else iter(int, 1))

    def save_others(changes: Any, **told: Any) -> None:
        if any(change.key == bad for change in changes) and next(failures, None) is not None:
            raise error
        save(changes, **told)

    return save_others


def kept_and_refused(monkeypatch: pytest.MonkeyPatch, save: Any) -> tuple[list[str], int]:
    """Store four changes through a writer; return the keys kept and the number refused."""
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.02)
    rule = publish_rule()
    started = Writer()
    monkeypatch.setattr(store, "save", save)
    started.start()
    for key in KEYS:
        started.put(Batch(NOON_NS, changes=[opened(rule, key=key)]))
    assert started.finish(timeout=10)
    return list(Signal.objects.order_by("id").values_list("key", flat=True)), started.refused


def too_complex() -> OperationalError:
    """Return what Django makes of PostgreSQL's refusal of a value that no index can hold."""
    try:
        try:
            raise psycopg.errors.ProgramLimitExceeded("index row size exceeds maximum")
        except psycopg.Error as cause:
            raise OperationalError(str(cause)) from cause
    except OperationalError as error:
        return error


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error",
    [IntegrityError("x"), DataError("x"), ProgrammingError("x"), KeyError("x"), too_complex()],
    ids=lambda error: type(error).__name__,
)
def test_what_never_heals_is_kept_apart_and_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    kept, refused = kept_and_refused(monkeypatch, store_but(KEYS[1], error))

    assert kept == [KEYS[0], KEYS[2], KEYS[3]]
    assert refused == 1
    row = Quarantine.objects.get(source="writer")
    assert (row.reason, row.subject, row.count) == ("refused", "SignalChange", 1)
    assert KEYS[1] in row.sample
    assert "writer.refused" in caplog.text


def broken_meanwhile() -> ProgrammingError:
    """Return what Django says when a connection breaks inside a transaction."""
    try:
        try:
            raise OperationalError("server closed the connection")
        except OperationalError:
            raise ProgrammingError("Cannot open a new connection in an atomic block.")  # noqa: B904
    except ProgrammingError as error:
        return error


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "error", [OperationalError("x"), InterfaceError("x"), broken_meanwhile()], ids=repr
)
def test_what_heals_is_waited_for_in_its_order(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    kept, refused = kept_and_refused(monkeypatch, store_but(KEYS[1], error, times=3))

    assert (kept, refused) == (list(KEYS), 0)
    assert not Quarantine.objects.exists()
