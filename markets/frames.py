"""Raw input as it arrived: the one shape that live, simulated and recorded data share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

Channel = Literal["ws", "clob", "gamma"]
# `req` of a "ws" frame that is no message: its connection was opened or closed, tokens (the
# body, comma separated) are not followed any more, or (without a connection) all has ended.
OPENED, CLOSED, LEFT, ENDED = "open", "closed", "left", "ended"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEFT_OUT = "/books?left_out="


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message from the venue.

    `t` is the receive time in unix nanoseconds. `conn` numbers the WebSocket
    connection; `req` is the path and query of a REST answer. A "ws" frame with
    a `req` is no message but tells of the connection itself.
    """

    t: int
    ch: Channel
    body: bytes
    conn: int | None = None
    req: str | None = None


def moment(t: int) -> datetime:
    """Return unix ns as an aware UTC datetime (to the microsecond)."""
    seconds, ns = divmod(t, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=ns // 1_000)


def unix_ns(at: datetime) -> int:
    """Return an aware time (to the microsecond) as frames carry it."""
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def left_out(tokens: Iterable[str]) -> str:
    """Return the `req` that tells which tokens a `/books` answer had nothing about."""
    return LEFT_OUT + ",".join(tokens)


def tokens_left_out(req: str | None) -> list[str]:
    """Read `left_out` back; empty for any other request."""
    if req is None or not req.startswith(LEFT_OUT):
        return []
    return req.removeprefix(LEFT_OUT).split(",")
