"""The live feed through a real daphne, with a client that speaks to it over TCP.

The rows are written by this process into daphne's database, so the server has
to find them by itself, as it must beside a separate `stream` process.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from alerts import feedlog

ROOT = Path(__file__).resolve().parent.parent
PREPARE = """
import django
django.setup()
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
call_command("migrate", verbosity=0)
viewer = User.objects.create_user("viewer")
session = SessionStore()
session[SESSION_KEY] = str(viewer.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = viewer.get_session_auth_hash()
session.create()
print(session.session_key)
"""
MB = 1 << 20
CSRF = "a" * 32


@dataclass(frozen=True)
class Desk:
    """A running web process and its database."""

    port: int
    pid: int
    database: Path
    session: str

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def write(self, number: int = 1, *, at: datetime | None = None, size: int = 0) -> list[int]:
        """Commit feed entries in one transaction; return their numbers."""
        moment = (at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M:%S.%f")
        payload = json.dumps({"key": "k", "pad": "x" * size})
        with closing(sqlite3.connect(self.database, timeout=20)) as connection, connection:
            seqs = [number_taken(connection) for _ in range(number)]
            connection.executemany(
                "INSERT INTO alerts_feedentry (topic, seq, kind, at, payload) "
                "VALUES ('signals', ?, 'updated', ?, ?)",
                [(seq, moment, payload) for seq in seqs],
            )
        return seqs

    def ticket(self) -> str:
        """Ask for a ticket as a logged-in page would."""
        headers = {"Cookie": f"sessionid={self.session}; csrftoken={CSRF}", "X-CSRFToken": CSRF}
        asked = Request(
            f"http://{self.address}/api/v1/ws-ticket", method="POST", headers=headers, data=b""
        )
        with urlopen(asked, timeout=10) as answer:
            return str(json.load(answer)["ticket"])

    def memory(self) -> int:
        """Return the server's resident bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def number_taken(connection: sqlite3.Connection) -> int:
    [(seq,)] = connection.execute(
        feedlog.TAKE_NUMBER.replace("%s", "?"), ("signals", "epoch0")
    ).fetchall()
    return int(seq)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    (home / "static").mkdir()
    environment = os.environ | {
        "MPX_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
        "DATABASE_URL": "",
        "POSTGRES_HOST": "",
        "DATA_SOURCE": "mock",
        "ALLOWED_HOSTS": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    prepared = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert prepared.returncode == 0, prepared.stderr
    port = free_port()
    daphne = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port)]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [*daphne, "mpx_site.asgi:application"],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_served(port, server, home / "log")
        session = prepared.stdout.split()[-1]
        yield Desk(port, server.pid, home / "mpx.sqlite3", session)
    finally:
        server.terminate()
        server.wait(20)
    told = (home / "log").read_text()
    assert "Traceback" not in told, told


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_served(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/livez", timeout=2) as answer:
                assert json.load(answer) == {"status": "ok"}
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"daphne did not start: {log.read_text()}")


class Client:
    """A client of the feed: remembers the epoch it heard."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.epoch = ""

    async def say(self, **told: object) -> None:
        await self.connection.send(json.dumps(told))

    async def hear(self) -> dict[str, Any]:
        """Return the next message that is not a heartbeat."""
        async with asyncio.timeout(10):
            while True:
                heard: dict[str, Any] = json.loads(await self.connection.recv())
                if heard.get("op") != "hb":
                    return heard

    async def subscribe(self, after: tuple[str, int] | None = None) -> int:
        resume = after and {"epoch": after[0], "seq": after[1]}
        await self.say(op="subscribe", channel="signals", resume=resume)
        ack = await self.hear()
        assert (ack["op"], ack["channel"]) == ("ack", "signals")
        self.epoch = ack["epoch"]
        seq: int = ack["seq"]
        return seq

    async def hear_seqs(self, number: int) -> list[int]:
        return [(await self.hear())["seq"] for _ in range(number)]


@asynccontextmanager
async def client(desk: Desk, **given: Any) -> AsyncIterator[Client]:
    options: dict[str, Any] = {
        "origin": f"http://{desk.address}",
        "additional_headers": {"Cookie": f"sessionid={desk.session}"},
    }
    async with connect(f"ws://{desk.address}/ws/v1/feed", **options | given) as connection:
        yield Client(connection)


async def test_what_another_process_commits_is_heard_within_a_second(desk: Desk) -> None:
    async with client(desk) as viewer:
        await viewer.subscribe()
        written = time.monotonic()
        ids = desk.write(3)

        assert await viewer.hear_seqs(3) == ids
        assert time.monotonic() - written < 1


async def test_client_that_was_cut_off_resumes_without_a_gap_or_a_repetition(desk: Desk) -> None:
    heard: list[int] = []
    ids: list[int] = []
    async with client(desk) as viewer:
        last = await viewer.subscribe()
        ids += desk.write(5)
        heard += await viewer.hear_seqs(2)
        epoch = viewer.epoch
        viewer.connection.transport.abort()
    ids += desk.write(5)

    async with client(desk) as viewer:
        assert await viewer.subscribe(after=(epoch, heard[-1])) == ids[-1]
        heard += await viewer.hear_seqs(8)
        ids += desk.write(2)
        heard += await viewer.hear_seqs(2)

    assert heard == ids
    assert ids[0] > last


async def test_client_that_was_away_too_long_is_told_of_the_gap(desk: Desk) -> None:
    [before, *_] = desk.write()
    async with client(desk) as viewer:
        await viewer.subscribe()
        epoch = viewer.epoch
    desk.write(at=datetime.now(UTC) - timedelta(minutes=11))
    [last] = desk.write()

    async with client(desk) as viewer:
        assert await viewer.subscribe(after=(epoch, before)) == last
        gap = await viewer.hear()
        assert (gap["op"], gap["epoch"], gap["from"], gap["to"]) == ("gap", epoch, before + 1, last)
        ids = desk.write(2)
        assert await viewer.hear_seqs(2) == ids


async def test_heartbeat_comes_every_five_seconds(desk: Desk) -> None:
    [last] = desk.write()
    async with client(desk) as viewer, asyncio.timeout(7):
        await viewer.subscribe()
        beat = json.loads(await viewer.connection.recv())

    assert (beat["op"], beat["seq"]["signals"]) == ("hb", last)
    assert beat["epoch"]["signals"] == viewer.epoch


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
async def test_socket_from_a_foreign_page_is_refused(desk: Desk, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client(desk, origin=origin):
            pass

    assert refused.value.response.status_code == 403


async def test_program_with_a_ticket_needs_no_origin_and_the_ticket_opens_one_socket(
    desk: Desk,
) -> None:
    address = f"ws://{desk.address}/ws/v1/feed?ticket={await asyncio.to_thread(desk.ticket)}"
    async with connect(address) as connection:
        program = Client(connection)
        await program.subscribe()
        written = desk.write()
        assert await program.hear_seqs(1) == written
    async with connect(address) as again:
        with pytest.raises(ConnectionClosed) as closed:
            await again.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_ticket_does_not_open_the_door_to_a_foreign_page(desk: Desk) -> None:
    address = f"ws://{desk.address}/ws/v1/feed?ticket={await asyncio.to_thread(desk.ticket)}"

    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, origin="http://evil.example"):
            pass

    assert refused.value.response.status_code == 403


async def test_socket_to_another_path_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{desk.address}/ws/v2/feed", origin=f"http://{desk.address}"):
            pass

    assert refused.value.response.status_code == 403


async def test_anonymous_is_closed_with_4401(desk: Desk) -> None:
    async with client(desk, additional_headers={}) as viewer:
        with pytest.raises(ConnectionClosed) as closed:
            await viewer.connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_frame_that_is_too_big_closes_with_4413(desk: Desk) -> None:
    async with client(desk) as viewer:
        await viewer.connection.send("x" * 5_000)
        with pytest.raises(ConnectionClosed) as closed:
            await viewer.connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4413


async def test_reader_that_stops_reading_cannot_fill_the_servers_memory(desk: Desk) -> None:
    size, number = 4_000, 10_000  # 40 MB
    async with client(desk, max_queue=1) as stuck:
        await stuck.subscribe()
        before, peak = desk.memory(), 0
        for _ in range(20):
            desk.write(number // 20, size=size)
            await asyncio.sleep(0.1)
            peak = max(peak, desk.memory())

        assert peak - before < 20 * MB
        code, heard = await read_to_the_end(stuck)
        assert code in (4408, None)  # None: the line was cut, for the close was not read either
        assert heard * size < MB


async def read_to_the_end(viewer: Client) -> tuple[int | None, int]:
    """Return the code of the server's close, and how many messages came before it."""
    heard = 0
    async with asyncio.timeout(10):
        try:
            while True:
                await viewer.connection.recv()
                heard += 1
        except ConnectionClosed as closed:
            return (closed.rcvd.code if closed.rcvd else None), heard


def test_metrics_and_health_are_served_by_the_same_process(desk: Desk) -> None:
    with urlopen(f"http://{desk.address}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    with urlopen(f"http://{desk.address}/api/healthz", timeout=5) as answer:
        told = json.load(answer)

    assert "mpx_requests_total " in text
    assert "mpx_health 0.0" in text
    assert (told["status"], told["db"]) == ("degraded", "ok")
