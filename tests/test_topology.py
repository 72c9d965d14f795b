"""The services of compose.yaml as plain processes on a private PostgreSQL and Redis.

So the topology is proven where there is no container engine: the same commands, the same
environment, the same health checks; only hosts, ports and folders are those of this machine.
`make test-faults` (MPX_FAULTS=1) asks every health check and restarts every part; the suite asks
two and restarts the stream.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.compose_file import Place, ours
from tests.servers import CannotStart, Postgres, Redis, accepts, free_port, wait_for

PARTS = ("web", "stream", "worker", "worker-catalogue", "beat")
FULL = bool(os.environ.get("MPX_FAULTS"))
# In the order of `make rolling-restart`.
RESTARTED = ("web", "worker", "worker-catalogue", "beat", "stream") if FULL else ("stream",)
ASKED = PARTS if FULL else ("web", "stream")
MORE = {"SIMULATOR_EVENTS": "20", "MPX_KEEP_HOURS": "0"}

pytestmark = pytest.mark.timeout(600)


class Topology:
    """All parts, each started as compose.yaml says."""

    def __init__(self, place: Place, database: str) -> None:
        self.place, self.database = place, database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}  # monotonic

    def start(self, name: str) -> None:
        self.started[name] = time.monotonic()
        self.processes[name] = self.place.start(name, **MORE)

    def stop(self, name: str) -> int:
        """End a part as the engine does: ask, and wait as long as the file says."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            return process.wait(int(ours()[name]["stop_grace_period"].removesuffix("s")))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def wait_until_alive(self, name: str) -> None:
        """Wait for a sign of life of a part that was just started, without starting a program."""

        def alive() -> bool:
            process = self.processes[name]
            assert process.poll() is None, f"{name} ended: {self.place.log(name)}"
            return self._lives(name)

        wait_for(alive, seconds=120, what=f"a sign of life of {name}")

    def _lives(self, name: str) -> bool:
        if name == "web":
            return accepts(self.place.web_port)
        if name == "worker-catalogue":  # it has no sign of its own; it takes its queue's jobs
            return "ready" in self.place.log(name)
        ago = "SELECT extract(epoch FROM now() - at) FROM alerts_heartbeat WHERE component = "
        age = self.value(f"SELECT coalesce(({ago}'{name}'), 999)")
        return bool(age < time.monotonic() - self.started[name])

    def run(self, *words: str) -> Any:
        """Run a command of ours as `docker compose run migrate` would."""
        return self.place.run("migrate", ["python", "manage.py", *words], **MORE)

    def value(self, sql: str) -> Any:
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql).fetchone()[0]  # type: ignore[index]

    def end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    home = tmp_path_factory.mktemp("topology")
    secrets = home / "secrets"
    secrets.mkdir()
    for name in ("secret_key", "postgres_password", "admin_api_token"):
        (secrets / name).write_text(f"{name}-of-a-test-that-is-long-enough-to-be-taken")
    try:
        postgres = Postgres().start()
        redis = Redis().start()
    except CannotStart as why:
        pytest.skip(str(why))
    place = Place(home, postgres.port, redis.url, free_port(), secrets)
    desk = Topology(place, postgres.url)
    try:
        yield desk
    finally:
        desk.end()
        redis.stop()
        postgres.remove()


def test_desk_comes_up_is_healthy_and_passes_smoke(topology: Topology) -> None:
    prepared = topology.place.run("migrate", ours()["migrate"]["command"], **MORE)
    assert prepared.returncode == 0, prepared.stderr
    assert "Log in as: operator" in prepared.stdout
    assert not topology.place.healthy("stream")  # it would say so

    for name in PARTS:
        topology.start(name)
    for name in PARTS:
        topology.wait_until_alive(name)
    smoke = topology.run("smoke", "--url", f"http://127.0.0.1:{topology.place.web_port}", "--json")

    assert smoke.returncode == 0, smoke.stderr
    told = json.loads(smoke.stdout)
    assert told["ok"] is True
    assert set(told["seconds"]) == {"readyz", "healthz", "markets", "p1_signals"}
    assert [name for name in ASKED if not topology.place.healthy(name)] == []


def test_rolling_restart_loses_nothing(topology: Topology) -> None:
    """Each part is ended and started again while the venue goes on; nothing is half done."""
    before = topology.value("SELECT count(*) FROM signals_signal WHERE level = 'P1'")
    for name in RESTARTED:
        assert topology.stop(name) in (0, -15), topology.place.log(name)
        topology.start(name)
        topology.wait_until_alive(name)
    since = topology.value("SELECT max(id) FROM signals_signal")
    wait_for(
        lambda: topology.value(f"SELECT count(*) FROM signals_signal WHERE id > {since}"),
        seconds=60,
        what="signals after the restart",
    )
    wait_for(
        lambda: (
            not topology.value(
                "SELECT count(*) FROM alerts_outboxentry WHERE state = 'PENDING' "
                "AND due_at < now() - interval '10 seconds'"
            )
        ),
        seconds=60,
        what="all alerts to be told",
    )

    assert topology.value("SELECT count(*) FROM signals_signal WHERE level = 'P1'") >= before
    assert not topology.value(
        "SELECT count(*) FROM signals_signal s WHERE level = 'P1' AND NOT EXISTS "
        "(SELECT 1 FROM alerts_outboxentry o WHERE o.key = 'signal:' || s.key || ':P1')"
    ), "a P1 has no alert"
    told = "SELECT count(*) FROM markets_gap WHERE reason = 'the stream was not running'"
    assert topology.value(told) == 1, "the restart is no gap"
    gapless = "SELECT count(*) FROM (SELECT topic, max(seq) - min(seq) + 1 - count(*) AS holes "
    gapless += "FROM alerts_feedentry GROUP BY topic) AS topics WHERE holes <> 0"
    assert not topology.value(gapless), "the feed has a hole"
    checked = topology.run("invariants")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    verified = topology.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
