"""HTTP/1.1 as far as a client of the venue needs it: requests in, replies out, well or badly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import msgspec

HEAD_MAX = 256 * 1024
BODY_MAX = 1024 * 1024
ENDLESS_PIECE = b" " * 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. Header names are lower case; `raw` is the head as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    raw: bytes
    body: bytes = b""

    def first(self, name: str) -> str | None:
        """Give the first value of a query parameter."""
        return self.query.get(name, [None])[0]

    @property
    def wants_socket(self) -> bool:
        """Whether it asks to become a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def last(self) -> bool:
        """Whether the client means to close after the answer."""
        return self.headers.get("connection", "").lower() == "close"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered, and how badly it is delivered.

    `wait`: seconds before the first byte. `drip`: seconds between single bytes of the body.
    `sent`: how many bytes of the body are sent before the connection breaks. `endless`: after
    the body comes padding that never ends. `over`: when set, drip and padding stop.
    """

    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    wait: float = 0.0
    drip: float = 0.0
    sent: int | None = None
    endless: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Unreadable(Exception):
    """The request is not HTTP, or larger than anyone needs."""


def told(value: object, status: int = 200) -> Reply:
    """Answer with JSON."""
    return Reply(status, msgspec.json.encode(value))


def error(status: int, text: str) -> Reply:
    """Answer with the venue's kind of error."""
    return told({"error": text}, status)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read the next request; None when the client has gone. Raises Unreadable."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
        request = _parse(raw)
        length = int(request.headers.get("content-length", "0"))
        if not 0 <= length <= BODY_MAX:
            raise Unreadable("body too large")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (asyncio.LimitOverrunError, ValueError) as problem:
        raise Unreadable(str(problem)) from None
    return Request(request.method, request.path, request.query, request.headers, request.raw, body)


def _parse(raw: bytes) -> Request:
    first, *rest = raw.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    parts = urlsplit(target)
    pairs = (line.partition(":") for line in rest if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    query = parse_qs(parts.query, keep_blank_values=True)
    return Request(method, parts.path, query, headers, raw)


async def write_reply(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Deliver a reply; False when the connection cannot be used again."""
    await asyncio.sleep(reply.wait)
    if reply.endless:
        writer.write(_head(reply))
        await _pour(writer, reply)
    elif reply.drip:
        writer.write(_head(reply))
        await _drip(writer, reply)
    else:
        writer.write(_head(reply) + reply.body[: reply.sent])
    await writer.drain()
    if reply.sent is not None:
        writer.close()
        return False
    return True


def _head(reply: Reply) -> bytes:
    length = "Transfer-Encoding: chunked" if reply.endless else f"Content-Length: {len(reply.body)}"
    lines = [
        f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
        *([f"Content-Type: {reply.kind}"] if reply.body else []),
        *(f"{name}: {value}" for name, value in reply.headers),
        length,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


async def _drip(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send byte by byte, and what is left at once when it is over."""
    at = 0
    while at < len(reply.body) and not reply.over.is_set():
        writer.write(reply.body[at : at + 1])
        at += 1
        await writer.drain()
        await asyncio.sleep(reply.drip)
    writer.write(reply.body[at:])


async def _pour(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send chunks until it is over, or the client closes: that ends in ConnectionError."""
    piece = reply.body or b" "
    while not reply.over.is_set():
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)  # a fast reader must not keep the others waiting
        piece = ENDLESS_PIECE
    writer.write(b"0\r\n\r\n")
