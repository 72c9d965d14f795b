"""A venue of one test: a server on 127.0.0.1 that answers as the test says, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from markets.polymarket.http import VenueHttp


@dataclass(frozen=True)
class Heard:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


# Gives the bytes to answer with; or writes by itself, gives None, and is hung up on.
Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[bytes | None]]


def reply(body: bytes = b"{}", *, status: int = 200, headers: Sequence[str] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class TinyVenue:
    url: str
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0


@contextlib.asynccontextmanager
async def tiny_venue(answer: Answer) -> AsyncIterator[TinyVenue]:
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        venue.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await _converse(venue, answer, reader, writer)
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    venue = TinyVenue(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield venue
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next round


async def _converse(
    venue: TinyVenue, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while (heard := await _request(reader)) is not None:
        venue.heard.append(heard)
        said = await answer(heard, writer)
        if said is None:
            return
        writer.write(said)
        await writer.drain()


async def _request(reader: asyncio.StreamReader) -> Heard | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    method, target, _ = first.split(" ")
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Heard(method, target, headers, body)


def says(*answers: bytes) -> Answer:
    """Answer with these in turn, and with the last one for ever."""
    left = list(answers)

    async def answer(_heard: Heard, _writer: asyncio.StreamWriter) -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


class FakeTime:
    """A clock that moves only when somebody sleeps; `slept` has how long, in order."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def wall(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def client(url: str, clock: FakeTime | None = None, **options: object) -> VenueHttp:
    """A client that asks one server for both services, in time that costs nothing."""
    clock = clock or FakeTime()
    given = {
        "gamma_url": url,
        "clob_url": url,
        "wall": clock.wall,
        "monotonic": clock.monotonic,
        "sleep": clock.sleep,
        "draw": lambda: 0.5,
    }
    return VenueHttp(**{**given, **options})
