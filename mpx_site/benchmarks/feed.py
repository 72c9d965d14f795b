"""`bench feed`: one daphne with many clients, beside Channels' `group_send` in the same run.

Server CPU is what the kernel booked on the daphne process, user and system,
from the first message until every client has the last; the journal's writes
and the hub's reads are in it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER = "mpx_site.benchmarks.feed_server"
START_SECONDS = 60.0
SOCKETS_PER_USER = 5
SIZE = 450  # bytes of one payload: a change of a signal
MESSAGES, PAUSE = 200, 0.025
GROUP_MESSAGES, GROUP_PAUSE = 40, 0.15  # a round of group_send takes that long for 500
BURST = 600  # in transactions of 200
CREDIT_AFTER, CREDIT_BYTES = 100, 100_000
STUCK_BYTES, STUCK_SIZE = 128 << 20, 8_000
MB = 1 << 20


def run(*, clients: int) -> dict[str, object]:
    """Return the result object of `bench feed`."""
    with tempfile.TemporaryDirectory() as home, daphne(Path(home), clients) as server:
        return asyncio.run(_run(server, clients))


@dataclass(frozen=True)
class Daphne:
    """The server under test."""

    port: int
    pid: int
    sessions: list[str]

    @property
    def tick(self) -> float:
        """The least time that the kernel books on a process, in seconds."""
        return 1 / os.sysconf("SC_CLK_TCK")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * self.tick

    def memory(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def headers(self, number: int) -> dict[str, str]:
        return {"Cookie": f"sessionid={self.sessions[number // SOCKETS_PER_USER]}"}


@contextmanager
def daphne(home: Path, clients: int) -> Iterator[Daphne]:
    """Start a desk of its own: SQLite in a new folder, one process."""
    (home / "static").mkdir()
    environment = os.environ | {
        "MPX_HOME": str(home),
        "DATABASE_URL": "",
        "POSTGRES_HOST": "",
        "REDIS_URL": "",
        "DATA_SOURCE": "mock",
        "ALLOWED_HOSTS": "127.0.0.1",
        "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
    }
    users = str(clients // SOCKETS_PER_USER + 2)
    prepared = subprocess.run(  # noqa: S603  (our own module)
        [sys.executable, "-m", SERVER, users],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    port = _free_port()
    command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(  # noqa: S603
        [*command, f"{SERVER}:application"],
        env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port)
        yield Daphne(port, process.pid, prepared.stdout.split())
    finally:
        process.kill()
        process.wait()


@dataclass
class Crowd:
    """Many clients of one address, and how much they heard."""

    server: Daphne
    path: str
    heard: int = 0
    writes: int = 0  # of the server since the last count
    delays: list[float] = field(default_factory=list)  # of the first client, seconds
    connections: list[ClientConnection] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def gather(self, clients: int) -> None:
        for number in range(clients):
            connection = await _connected(self.server, self.path, number)
            self.connections.append(connection)
            if self.path == FEED:
                await connection.send('{"op":"subscribe","channel":"signals"}')
            self.tasks.append(asyncio.create_task(self._hear(connection, first=number == 0)))

    async def until(self, deliveries: int) -> None:
        async with asyncio.timeout(120):
            while self.heard < deliveries:
                await asyncio.sleep(0.01)

    async def part(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(_cut(each) for each in self.connections))
        await asyncio.sleep(0.5)  # for the server to see it

    async def _hear(self, connection: ClientConnection, *, first: bool) -> None:
        told = size = 0
        async for text in connection:
            if text[:5] not in ('{"ch"', b'{"ch"'):
                continue
            self.heard += 1
            told, size = told + 1, size + len(text)
            if first:
                self.delays.append(time.time() - _moment(json.loads(text)["ts"]))
            if self.path == FEED and (told >= CREDIT_AFTER or size >= CREDIT_BYTES):
                told, size, seq = 0, 0, json.loads(text)["seq"]
                await connection.send(json.dumps({"op": "credit", "seq": {"signals": seq}}))


FEED, GROUP, CONTROL = "/ws/v1/feed", "/bench/group", "/bench/control"


async def _run(server: Daphne, clients: int) -> dict[str, object]:
    control = await _connected(server, CONTROL, clients)
    try:
        return await _measured(server, control, clients)
    finally:
        await _cut(control)


async def _measured(server: Daphne, control: ClientConnection, clients: int) -> dict[str, object]:
    group, _ = await _told(server, control, GROUP, clients, do="group", number=GROUP_MESSAGES,
                           pause=GROUP_PAUSE)  # fmt: skip
    single, crowd = await _told(
        server, control, FEED, clients, do="feed", number=MESSAGES, pause=PAUSE
    )
    burst, _ = await _told(
        server, control, FEED, clients, do="feed", number=BURST, pause=1.0, together=200
    )
    grown, let_go = await _stuck(server, control, clients)
    delays = sorted(crowd.delays)
    return {
        "bench": "feed",
        "ratios": {"vs_group_send": round(single / group, 2)},
        "figures": {
            "deliveries_per_cpu_s": round(single),
            "group_send_deliveries_per_cpu_s": round(group),
            "messages_per_write": round(clients * MESSAGES / crowd.writes, 2),
            "burst_deliveries_per_cpu_s": round(burst),
            "clients": clients,
            "p50_ms": round(statistics.median(delays) * 1_000, 1),
            "p99_ms": round(delays[int(len(delays) * 0.99)] * 1_000, 1),
            "stuck_client_mb": round(grown / MB, 1),
            "stuck_client_told_mb": STUCK_BYTES // MB,
            "stuck_client_let_go": let_go,
        },
    }


async def _told(
    server: Daphne, control: ClientConnection, path: str, clients: int, **asked: object
) -> tuple[float, Crowd]:
    """Return deliveries per CPU second of the server while a crowd is told something."""
    crowd = Crowd(server, path)
    expected = clients * int(str(asked["number"]))
    try:
        await crowd.gather(clients)
        await asyncio.sleep(1)
        before = server.cpu_seconds()
        await control.send(json.dumps(asked | {"size": SIZE}))
        await control.recv()
        await crowd.until(expected)
        used = max(server.cpu_seconds() - before, server.tick)  # booked in whole ticks
        await control.send('{"do":"count"}')
        crowd.writes = int(await control.recv())
    finally:
        await crowd.part()
    return expected / used, crowd


async def _stuck(server: Daphne, control: ClientConnection, number: int) -> tuple[int, int]:
    """Return by how much the server grew over a client that reads nothing, and how many it let go.

    The same amount is told to a client that reads first, so that what the server needs for
    that anyway is not booked on the other.
    """
    told = {"do": "feed", "number": STUCK_BYTES // STUCK_SIZE, "size": STUCK_SIZE,
            "pause": 0.005, "together": 20}  # fmt: skip
    crowd = Crowd(server, FEED)
    await crowd.gather(1)
    await _peak(
        server, lambda: _ordered(control, told | {"number": STUCK_BYTES // STUCK_SIZE // 8})
    )
    before = server.memory()
    stuck = _unread_socket(server, number)
    peak = await _peak(server, lambda: _ordered(control, told))
    await crowd.part()
    stuck.close()
    return peak - before, await asyncio.to_thread(_let_go, server)


async def _ordered(control: ClientConnection, told: dict[str, object]) -> None:
    await control.send(json.dumps(told))
    await control.recv()


async def _peak(server: Daphne, work: Callable[[], Awaitable[None]]) -> int:
    task = asyncio.ensure_future(work())
    peak = server.memory()
    while not task.done():
        await asyncio.wait([task], timeout=0.05)
        peak = max(peak, server.memory())
    await task
    return peak


def _unread_socket(server: Daphne, number: int) -> socket.socket:
    """Return a subscribed client whose window is as small as the kernel lets it be."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    line.connect(("127.0.0.1", server.port))
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    head = [
        f"GET {FEED} HTTP/1.1", f"Host: 127.0.0.1:{server.port}",
        f"Origin: http://127.0.0.1:{server.port}", f"Cookie: {server.headers(number)['Cookie']}",
        "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13", "", "",
    ]  # fmt: skip
    line.sendall("\r\n".join(head).encode())
    line.recv(4_096)  # the handshake is all it ever reads
    asked = b'{"op":"subscribe","channel":"signals"}'
    line.sendall(bytes([0x81, 0x80 | len(asked), 0, 0, 0, 0]) + asked)  # masked with zeros
    time.sleep(0.5)
    return line


def _let_go(server: Daphne) -> int:
    """Return how many clients the server closed for being too slow, by its own count."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:  # nosec B310
        told = re.search(r'mpx_ws_dropped_total\{class="4408"\} (\d+)', answer.read().decode())
    return int(told[1]) if told else 0


async def _cut(connection: ClientConnection) -> None:
    """End a connection without a handshake, which a loaded server would take long over."""
    connection.transport.abort()
    await connection.wait_closed()


async def _connected(server: Daphne, path: str, number: int) -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{server.port}{path}",
        origin=f"http://127.0.0.1:{server.port}",  # type: ignore[arg-type]  # a NewType of str
        additional_headers=server.headers(number),
        compression=None,
        max_size=None,
        ping_interval=None,
    )


def _moment(told: object) -> float:
    return datetime.fromisoformat(told).timestamp() if isinstance(told, str) else float(str(told))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"daphne did not start within {START_SECONDS:.0f} s")
        time.sleep(0.1)
