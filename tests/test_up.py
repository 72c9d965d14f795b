"""`up`: a desk from nothing, on one command, that ends as cleanly as it began."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.servers import accepts, free_port, manage, settings_for, start_manage, wait_for

FIRST_SIGNAL_SECONDS = 30.0
STOP_SECONDS = 20.0

pytestmark = pytest.mark.timeout(180)


class Desk:
    """A running `up` and what it says."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self.port = free_port()
        self.env = settings_for(home)
        self.process = start_manage(
            "up", "--port", str(self.port), "--no-browser", *words, env=self.env
        )
        self.said: list[str] = []
        self.errors: list[str] = []
        pipes = (self.process.stdout, self.said), (self.process.stderr, self.errors)
        self._readers = [threading.Thread(target=_collect, args=pipe) for pipe in pipes]
        for reader in self._readers:
            reader.start()

    def wait_until_served(self) -> None:
        def served() -> bool:
            assert self.process.poll() is None, "".join(self.errors)
            return accepts(self.port)

        wait_for(served, seconds=60, what="the portal")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def ask(self, sql: str) -> list[Any]:
        address = f"file:{self.home / 'mpx.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=20)) as database:
            return database.execute(sql).fetchall()

    def end(self, number: signal.Signals) -> float:
        """Send a signal, wait for the end and return how many seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS + 10)
        for reader in self._readers:
            reader.join()
        return time.monotonic() - begun


def _collect(pipe: Any, lines: list[str]) -> None:
    with pipe:
        lines.extend(pipe)


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    """Desks that are gone afterwards, whatever happened."""
    started: list[Desk] = []
    yield started
    for desk in started:
        if desk.process.poll() is None:
            desk.end(signal.SIGKILL)


def start(desks: list[Desk], home: Path, *words: str) -> Desk:
    desk = Desk(home, *words)
    desks.append(desk)
    desk.wait_until_served()
    return desk


def test_desk_from_nothing_shows_signals_and_ends_cleanly(desks, tmp_path):
    home, recording = tmp_path / "home", tmp_path / "up.jsonl.gz"
    begun = time.monotonic()

    desk = start(desks, home, "--record", str(recording))

    assert desk.get("/login")[0] == 200
    health = json.loads(desk.get("/api/healthz")[1])
    assert health["db"] == "ok"
    wait_for(
        lambda: desk.ask("SELECT 1 FROM signals_signal"),
        seconds=FIRST_SIGNAL_SECONDS - (time.monotonic() - begun), what="a signal",
    )  # fmt: skip
    assert desk.ask("SELECT COUNT(*) FROM markets_event")[0][0] >= 60
    assert desk.ask("SELECT username, is_superuser FROM auth_user") == [("operator", 1)]

    assert desk.end(signal.SIGINT) < STOP_SECONDS

    said, errors = "".join(desk.said), "".join(desk.errors)
    assert desk.process.returncode == 0, errors
    (password,) = re.findall(r"Log in as: operator   password: (\S+)", said)
    assert len(password) >= 12
    assert f"http://127.0.0.1:{desk.port}/  (mock;" in said
    assert password not in errors
    assert "Traceback" not in errors, errors
    assert "ERROR" not in errors, errors
    assert errors.rstrip().endswith("Stopped.")
    assert not desk.ask("SELECT key FROM signals_signal WHERE status = 'OPEN'")
    assert not accepts(desk.port)

    (digest,) = re.findall(r'"recording\.closed".*"digest":"([^"]+)"', errors)
    replayed = manage("replay", str(recording), "--json", env=desk.env)
    assert json.loads(replayed.stdout.splitlines()[-1])["digest"] == digest

    ended = desk.ask("SELECT key, closed_at, close_reason FROM signals_signal ORDER BY id")
    again = start(desks, home)
    wait_for(
        lambda: again.ask("SELECT 1 FROM alerts_heartbeat WHERE progress > 0"),
        seconds=20, what="the stream",
    )  # fmt: skip
    assert again.end(signal.SIGTERM) < STOP_SECONDS
    assert again.process.returncode == 0
    assert "password" not in "".join(again.said)
    kept = again.ask("SELECT key, closed_at, close_reason FROM signals_signal ORDER BY id")
    assert kept[: len(ended)] == ended
    assert "process_lost" not in {reason for _, _, reason in kept}
    assert manage("check", env=again.env).returncode == 0


def test_desk_that_was_killed_closes_at_its_next_start_what_it_left_open(desks, tmp_path):
    killed = start(desks, tmp_path)
    wait_for(
        lambda: killed.ask("SELECT key FROM signals_signal WHERE status = 'OPEN'"),
        seconds=FIRST_SIGNAL_SECONDS, what="an open signal",
    )  # fmt: skip
    killed.end(signal.SIGKILL)
    left = killed.ask("SELECT key, changed_at FROM signals_signal WHERE status = 'OPEN'")

    again = start(desks, tmp_path)
    wait_for(
        lambda: again.ask("SELECT key FROM signals_signal WHERE close_reason = 'process_lost'"),
        seconds=20, what="the lost signals to be closed",
    )  # fmt: skip

    lost = again.ask(
        "SELECT key, closed_at FROM signals_signal WHERE close_reason = 'process_lost'"
    )
    assert sorted(lost) == sorted(left)
    again.end(signal.SIGINT)
    assert again.process.returncode == 0


def test_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = manage("up", "--port", str(port), "--no-browser", env=settings_for(tmp_path))

    assert ended.returncode == 3
    assert f"port {port} cannot be used" in ended.stderr
    assert not (tmp_path / "mpx.sqlite3").exists()


@pytest.mark.parametrize(
    "words",
    [["--port", "65536"], ["--source", "moon"], ["--record", "nowhere/r.jsonl"]],
    ids=" ".join,
)
def test_word_that_cannot_be_is_refused_before_anything_is_made(tmp_path, words):
    ended = manage("up", "--no-browser", *words, env=settings_for(tmp_path))

    assert ended.returncode == 2
    assert words[1] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "mpx.sqlite3").exists()


def test_recording_that_is_none_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "none.jsonl").write_text("hello\n")
    words = ["--source", f"replay:{tmp_path / 'none.jsonl'}", "--port", str(free_port())]

    ended = manage("up", "--no-browser", *words, env=settings_for(tmp_path))

    assert ended.returncode == 4
    assert "none.jsonl" in ended.stderr
    assert not (tmp_path / "mpx.sqlite3").exists()


def test_desk_ends_when_its_stream_fails(tmp_path):
    """A portal that goes on serving old prices would look alive."""
    words = ["--record", str(tmp_path), "--port", str(free_port())]

    ended = manage("up", "--no-browser", *words, env=settings_for(tmp_path))

    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith("CommandError: the stream failed: ")
