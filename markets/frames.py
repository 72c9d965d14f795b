"""Raw input as it arrived: the one shape that live, simulated and recorded data share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

Channel = Literal["ws", "clob", "gamma"]


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message from the venue.

    `t` is the receive time in unix nanoseconds. `conn` numbers the WebSocket
    connection; `req` is the path and query of a REST answer.
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
