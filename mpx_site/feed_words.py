"""What goes over the wire of the live feed. Each text is encoded once, whoever hears it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec

from alerts.feedlog import Place
from mpx_site.roles import SEE_DESK

# Kept in the feed log: told in full, or the client hears of the gap. Each with what it takes
# to hear it; None is any account, as for the pages that show the same.
TOLD_IN_FULL: dict[str, str | None] = {
    "signals": None,
    "intents": SEE_DESK,
    "positions": SEE_DESK,
    "risk": SEE_DESK,
}
# Only the latest matters: what a client is too slow for is replaced by what came after.
TOLD_LATEST: dict[str, str | None] = {"health": None, "quotes": None}
CHANNELS = TOLD_IN_FULL | TOLD_LATEST

LEVELS = frozenset({"P1", "P2", "P3"})
KEYS_MAX = 50  # markets in one subscription
UNKNOWN = "?"  # the level before, where nobody has seen it


class Resume(msgspec.Struct, frozen=True):
    """Where a client was when it lost its socket."""

    epoch: Annotated[str, msgspec.Meta(max_length=40)]
    seq: Annotated[int, msgspec.Meta(ge=0)]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which signals a client wants; empty is all of them."""

    level: frozenset[str] = frozenset()
    rule: frozenset[str] = frozenset()


EVERYTHING = Choice()


class Request(msgspec.Struct, frozen=True):
    """What a client may send; unknown fields are left to later versions."""

    op: str
    req: int | str | None = None
    channel: str = ""
    filter: Choice = EVERYTHING
    keys: tuple[str, ...] = ()
    resume: Resume | None = None
    seq: dict[str, int] = {}


class Told:
    """One text for the wire, kept as the WebSocket frame that is made once for all who hear it."""

    __slots__ = ("_head", "channel", "frame", "seq")

    def __init__(self, text: bytes, *, channel: str = "", seq: int = 0) -> None:
        self.frame = framed(text)
        self._head = len(self.frame) - len(text)
        self.channel = channel  # empty where no credit is asked for
        self.seq = seq

    @property
    def text(self) -> str:
        """Return it as other servers want it; each frames it anew."""
        return self.frame[self._head :].decode()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a channel, and what a client's filter asks of it."""

    told: Told
    at: datetime
    kind: str = ""
    key: str = ""
    level: str = ""
    rule: str = ""
    before: str = ""  # the level it had

    @property
    def channel(self) -> str:
        return self.told.channel

    @property
    def seq(self) -> int:
        return self.told.seq


def chosen(choice: Choice, message: Message) -> bool:
    """Say whether a client wants a message. What leaves its levels is told once more."""
    if choice.rule and message.rule not in choice.rule:
        return False
    if not choice.level or message.level in choice.level:
        return True
    return message.before == UNKNOWN or message.before in choice.level


def encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def framed(payload: bytes) -> bytes:
    """Return the payload as one unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x81, 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 127, size)
    return head + payload


def message(
    *, channel: str, kind: str, place: Place, at: datetime, payload: Mapping[str, Any]
) -> Message:
    text = encoded(
        {
            "ch": channel,
            "t": kind,
            "epoch": place.epoch,
            "seq": place.seq,
            "ts": at,
            "d": payload,
        }
    )
    facts = {name: str(payload.get(name) or "") for name in ("key", "level", "rule")}
    before = "" if kind == "opened" else UNKNOWN
    return Message(Told(text, channel=channel, seq=place.seq), at, kind, before=before, **facts)


def ack(channel: str, *, req: int | str | None, place: Place, mode: str) -> Told:
    told = {"op": "ack", "channel": channel, "epoch": place.epoch, "seq": place.seq, "mode": mode}
    return Told(encoded(_answering(told, req)))


def error(code: str, detail: str, *, req: int | str | None = None, **more: object) -> Told:
    return Told(encoded(_answering({"op": "error", "code": code, "detail": detail} | more, req)))


def gap(channel: str, *, after: int | None, place: Place) -> Told:
    """Say that what came after `after` will not be told; None where the epoch is another."""
    first = None if after is None else after + 1
    told = {"op": "gap", "channel": channel, "epoch": place.epoch, "seq": place.seq}
    return Told(encoded(told | {"from": first, "to": place.seq}))


def skip(channel: str, *, after: int, place: Place) -> Told:
    """Say that the messages after `after` were not for this client's filter."""
    told = {"op": "skip", "channel": channel, "epoch": place.epoch, "seq": place.seq}
    return Told(encoded(told | {"from": after + 1, "to": place.seq}))


def heartbeat(places: Mapping[str, Place], *, at: datetime) -> Told:
    told = {
        "op": "hb",
        "ts": at,
        "epoch": {channel: place.epoch for channel, place in places.items()},
        "seq": {channel: place.seq for channel, place in places.items()},
    }
    return Told(encoded(told))


def unknown(names: Iterable[str], known: Iterable[str]) -> str:
    return f"Not known: {', '.join(sorted(names))}. Known: {', '.join(sorted(known))}."


def _answering(told: dict[str, Any], req: int | str | None) -> dict[str, Any]:
    return told if req is None else told | {"req": req}
