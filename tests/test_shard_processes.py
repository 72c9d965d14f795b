"""Several `stream` processes on one PostgreSQL: they share the venue, and replace each other."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from markets.shards import shard_of
from signals.sharing import HOW_MANY, LEASE_SECONDS, SHARD, THERE
from tests.servers import ROOT, CannotStart, Postgres, manage, settings_for, wait_for

log = logging.getLogger(__name__)

pytestmark = pytest.mark.timeout(240)

TAKEN_OVER_SECONDS = 10.0
PREPARE = """
import django
django.setup()
from datetime import UTC, datetime
from django.core.management import call_command
from rules.load import publish_missing
call_command("migrate", verbosity=0)
publish_missing(at=datetime.now(UTC))
"""


long = pytest.mark.skipif(not os.environ.get("MPX_SOAK"), reason="takes long: MPX_SOAK=1")


@dataclass(slots=True)
class Fleet:
    """A database, and the `stream` processes on it."""

    postgres: Postgres
    home: Path
    running: ExitStack

    def env(self, shards: int, **more: str) -> dict[str, str]:
        return settings_for(
            self.home, DJANGO_SETTINGS_MODULE="mpx_site.settings", DATA_SOURCE="mock",
            DATABASE_URL=self.postgres.url, REDIS_URL="", MPX_STREAM_SHARDS=str(shards),
            MPX_PULSE_SECONDS="0", MPX_KEEP_HOURS="0", **more,
        )  # fmt: skip

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: object) -> None:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(sql, values)

    def start(self, shards: int, *program: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a stream, or another program; what it says goes into a file of its own."""
        number = len(list(self.home.glob("*.log")))
        out = self.running.enter_context((self.home / f"{number}.log").open("wb"))
        command = [sys.executable, *(program or ("manage.py", "stream"))]
        process = subprocess.Popen(
            command, env=self.env(shards, **more), cwd=ROOT, stdout=out, stderr=out
        )
        self.running.callback(_end, process)
        return process

    def holders(self) -> dict[int, int]:
        """Return which process has which shard now."""
        sql = "select name, holder from markets_lease where name like %s and until > now()"
        found = self.rows(sql, f"{SHARD}%")
        return {int(name.removeprefix(SHARD)): int(holder.split(":")[1]) for name, holder in found}

    def there(self) -> int:
        sql = "select 1 from markets_lease where name like %s and until > now()"
        return len(self.rows(sql, f"{THERE}%"))

    def have(self, held: dict[int, int]) -> None:
        wait_for(lambda: self.holders() == held, seconds=40, what=f"{held}, not {self.holders()}")

    def beats(self, name: str, since: float) -> bool:
        sql = "select 1 from alerts_heartbeat where component = %s and at > to_timestamp(%s)"
        return bool(self.rows(sql, name, since))

    def signals(self, name: str, since: float) -> int:
        sql = "select 1 from signals_signal where stream = %s and opened_at > to_timestamp(%s)"
        return len(self.rows(sql, name, since))

    def takeover(self, shard: int, since: float) -> float:
        """Wait until somebody new tells of a shard; return for how long (seconds)."""
        name = f"stream-{shard}" if shard >= 0 else "stream"
        wait_for(lambda: self.beats(name, since + 1.5), seconds=30, what=f"{name} to be taken over")
        return time.time() - since


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    try:
        postgres = Postgres().start()
    except CannotStart as missing:
        pytest.skip(f"no PostgreSQL of our own: {missing}")
    env = Fleet(postgres, tmp_path_factory.mktemp("home"), ExitStack()).env(1)
    subprocess.run([sys.executable, "-c", PREPARE], env=env, cwd=ROOT, check=True)
    yield postgres
    postgres.remove()


@pytest.fixture
def fleet(database: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as running:
        fleet = Fleet(database, tmp_path, running)
        fleet.run("delete from markets_lease")
        fleet.run("delete from alerts_heartbeat")
        yield fleet


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let a process stand still."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def pair(fleet: Fleet, start: Callable[..., subprocess.Popen[bytes]]) -> Any:
    """Start two streams for two shards, one after the other; return who has shard 0 and 1."""
    expect_another(fleet)
    first = start(2)
    fleet.have({0: first.pid})
    second = start(2)
    fleet.have({0: first.pid, 1: second.pid})
    return first, second


def expect_another(fleet: Fleet) -> None:
    """Say for another process that it is there, so that the first one leaves it its part."""
    fleet.run(
        "insert into markets_lease (name, holder, until) values (%s, '', now() + interval '60 s')",
        f"{THERE}another",
    )


def audit_holds(fleet: Fleet) -> None:
    verified = manage("audit", "verify", env=fleet.env(2))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_another_takes_the_shard_of_one_that_was_killed(fleet: Fleet) -> None:
    first, second = pair(fleet, fleet.start)
    wait_for(lambda: fleet.beats("stream", 0), seconds=30, what="both shards to beat")
    fleet.run("delete from markets_lease where name = %s", f"{THERE}another")

    second.kill()
    killed_at = time.time()

    seconds = fleet.takeover(1, killed_at)
    log.info("shard.taken_over after=%.1f", seconds)
    assert fleet.holders() == {0: first.pid, 1: first.pid}
    assert seconds < TAKEN_OVER_SECONDS
    wait_for(lambda: fleet.signals("stream-1", killed_at), seconds=60, what="a signal of shard 1")
    told = fleet.rows("select distinct stream, event_id from signals_signal where event_id <> ''")
    assert all(shard_of(event_id, 2) == int(name[-1]) for name, event_id in told if name)
    ended = "select ending, healing_seconds from markets_gap where subject = 'stream-1'"
    ((ending, healing),) = wait_for(lambda: fleet.rows(ended), seconds=30, what="the gap's row")
    assert ending == "HEALED"
    assert 0 < healing < TAKEN_OVER_SECONDS + 5  # until its books are known, not just it
    audit_holds(fleet)


def test_one_that_stood_still_stores_nothing_of_what_was_taken_from_it(fleet: Fleet) -> None:
    first, second = pair(fleet, fleet.start)
    fleet.run("delete from markets_lease where name = %s", f"{THERE}another")
    wait_for(lambda: fleet.beats("stream-1", 0), seconds=30, what="shard 1 to beat")

    with stopped(second):
        still_at = time.time()
        seconds = fleet.takeover(1, still_at)
        log.info("shard.taken_over after=%.1f (one stands still)", seconds)
        assert seconds < TAKEN_OVER_SECONDS + LEASE_SECONDS  # it may stand in a transaction
        assert fleet.holders() == {0: first.pid, 1: first.pid}
    woken_at = time.time()
    last = fleet.home / "1.log"
    wait_for(lambda: b"shard.lost" in last.read_bytes() or b"not_ours" in last.read_bytes(),
             seconds=20, what="it to notice")  # fmt: skip
    wait_for(lambda: b"shard.left" in last.read_bytes(), seconds=30, what="it to let go")

    assert second.poll() is None
    # It is a process like another again: what the first has too much comes back to it.
    wait_for(lambda: sorted(fleet.holders().values()) == sorted((first.pid, second.pid)),
             seconds=40, what="each to have one")  # fmt: skip
    log.info("shard.rejoined after=%.1f", time.time() - woken_at)
    doubled = fleet.rows(
        "select rule_id, market_ids::text, count(*) from signals_signal where status = 'OPEN'"
        " group by 1, 2 having count(*) > 1"
    )
    assert doubled == []
    audit_holds(fleet)


@long
def test_a_third_process_waits_and_takes_over_at_once_from_one_that_ends(fleet: Fleet) -> None:
    first, second = pair(fleet, fleet.start)
    third = fleet.start(2)
    wait_for(lambda: b"stream.waits" in (fleet.home / "2.log").read_bytes(),
             seconds=40, what="the third to wait")  # fmt: skip
    assert fleet.holders() == {0: first.pid, 1: second.pid}

    first.terminate()
    ended_at = time.time()
    first.wait(20)
    log.info("shard.ended after=%.1f", time.time() - ended_at)
    gone_at = time.time()
    fleet.have({0: third.pid, 1: second.pid})
    log.info("shard.handed_over after=%.1f", time.time() - gone_at)

    assert first.returncode == 0
    assert time.time() - gone_at < LEASE_SECONDS  # it gave its lease back
    lost = "close_reason = 'process_lost' and closed_at > to_timestamp(%s)"
    assert fleet.rows(f"select 1 from signals_signal where {lost}", ended_at) == []


@long
def test_without_shards_the_second_stream_is_a_spare(fleet: Fleet) -> None:
    first = fleet.start(1)
    fleet.have({0: first.pid})
    second = fleet.start(1)
    wait_for(lambda: b"stream.waits" in (fleet.home / "1.log").read_bytes(),
             seconds=40, what="the second to wait")  # fmt: skip
    wait_for(lambda: fleet.beats("stream", 0), seconds=30, what="the stream to beat")
    components = {name for (name,) in fleet.rows("select component from alerts_heartbeat")}
    assert not any(name.startswith(("stream-", "desk-")) for name in components)

    first.kill()
    killed_at = time.time()

    seconds = fleet.takeover(-1, killed_at)
    log.info("spare.took_over after=%.1f", seconds)
    assert seconds < TAKEN_OVER_SECONDS
    assert fleet.holders() == {0: second.pid}


@long
def test_a_process_that_counts_shards_differently_takes_nothing(fleet: Fleet) -> None:
    first = fleet.start(1)
    fleet.have({0: first.pid})
    other = fleet.start(2)
    wait_for(lambda: b"another MPX_STREAM_SHARDS" in (fleet.home / "1.log").read_bytes(),
             seconds=40, what="it to wait")  # fmt: skip
    assert fleet.holders() == {0: first.pid}

    first.terminate()

    fleet.have({0: other.pid, 1: other.pid})
    assert fleet.rows("select holder from markets_lease where name = %s", HOW_MANY) == [("2",)]


SEED, VENUE_SECONDS = 7, int(os.environ.get("MPX_SHARD_SECONDS", "40"))


def test_two_processes_find_together_what_one_finds(fleet: Fleet) -> None:
    def found() -> set[tuple[Any, ...]]:
        return set(fleet.rows("select key, close_reason, observations, level from signals_signal"))

    program = ("-m", "tests.shard_run")
    empty_out(fleet)
    alone = fleet.start(1, *program, "1", str(SEED), str(VENUE_SECONDS))
    assert alone.wait(120) == 0
    expected = found()

    empty_out(fleet)
    expect_another(fleet)
    two = [fleet.start(2, *program, "2", str(SEED), str(VENUE_SECONDS)) for _ in range(2)]
    assert [process.wait(120) for process in two] == [0, 0]

    assert len(expected) > 10
    assert found() == expected
    by_stream = dict(fleet.rows("select stream, count(*) from signals_signal group by 1"))
    log.info("shards.equal signals=%d by_stream=%s", len(expected), by_stream)
    assert by_stream.keys() == {"stream-0", "stream-1"}
    audit_holds(fleet)


def empty_out(fleet: Fleet) -> None:
    fleet.run("delete from markets_lease")
    fleet.run("truncate signals_signal cascade")
