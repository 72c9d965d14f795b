"""A feed log without a database, and a client that speaks ASGI to a hub over it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from channels.testing import WebsocketCommunicator
from django.db import OperationalError

from alerts.feedlog import Place, Position
from alerts.models import FeedEntry
from mpx_site import feed_log, feed_ticket
from mpx_site.feed import FeedConsumer
from mpx_site.feed_hub import Hub
from mpx_site.feed_log import FeedLog, message_of
from mpx_site.feed_words import CHANNELS, TOLD_IN_FULL, Message

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class MemoryLog(FeedLog):
    """May be told to fail, to keep a reader waiting, to lose its entries or to go back in time."""

    def __init__(self) -> None:
        self.entries: list[FeedEntry] = []
        self.heads: dict[str, Place] = {}
        self.last_id = 0
        self.failures = 0
        self.asked = 0
        self.hold: threading.Event | None = None
        self.logged_out: set[Any] = set()
        self.desk: set[Any] = {1}
        self.epochs = 0

    def add(self, number: int = 1, *, topic: str = "signals", size: int = 0) -> None:
        for _ in range(number):
            self.tell("opened", {"key": "k", "pad": "x" * size}, topic=topic)

    def tell(self, kind: str, payload: dict[str, Any], *, topic: str = "signals") -> None:
        place = self._head(topic)
        self.heads[topic] = Place(place.epoch, place.seq + 1)
        self.last_id += 1
        self.entries.append(
            FeedEntry(id=self.last_id, topic=topic, seq=place.seq + 1, kind=kind, at=NOON,
                      payload=payload)
        )  # fmt: skip

    def settle(self) -> Position:
        for channel in TOLD_IN_FULL:
            self._head(channel)
        return self.position()

    def position(self) -> Position:
        return Position(self.last_id, dict(self.heads))

    def begin_epoch(self, channel: str, *, instead_of: str) -> None:
        if self.heads[channel].epoch == instead_of:
            self.heads[channel] = Place(self._drawn(), self.heads[channel].seq)

    def after(self, last_id: int, epochs: Mapping[str, str]) -> list[tuple[int, Message]]:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise OperationalError("gone")
        found = [each for each in self.entries if each.pk > last_id][: feed_log.BATCH]
        return [(each.pk, message_of(each, epochs.get(each.topic, ""))) for each in found]

    def between(
        self, channel: str, *, after: int, place: Place, at: datetime
    ) -> list[Message] | None:
        if self.hold:
            assert self.hold.wait(5)
        if place.seq - after > feed_log.REPLAY_MAX:
            return None
        found = [
            message_of(each, place.epoch)
            for each in self.entries
            if each.topic == channel and after < each.seq <= place.seq
        ]
        return found if len(found) == place.seq - after else None

    def unwelcome(self, accounts: Iterable[Any]) -> set[Any]:
        return {each for each in accounts if each.user_id in self.logged_out}

    def see_the_desk(self) -> set[int]:
        return self.desk

    def _head(self, topic: str) -> Place:
        return self.heads.setdefault(topic, Place(self._drawn(), 0))

    def _drawn(self) -> str:
        self.epochs += 1
        return f"e{self.epochs}"


@dataclass
class Viewer:
    pk: int = 1
    is_authenticated: bool = True
    sees_the_desk: bool = True

    def has_perm(self, permission: str) -> bool:
        return self.sees_the_desk


@dataclass
class Session:
    session_key: str = "s"


class Socket(WebsocketCommunicator):
    """A client. `inbox` bounds what it takes without reading; None takes everything."""

    def __init__(self, hub: Hub, *, user: object = None, inbox: int | None = None) -> None:
        super().__init__(FeedConsumer(hub), "/ws/v1/feed")
        self.scope |= {"user": user or Viewer(), "session": Session()}
        self._output_queue = asyncio.Queue(inbox or 0)

    async def say(self, **told: object) -> None:
        await self.send_json_to(told)

    async def subscribe(self, channel: str = "signals", **more: object) -> dict[str, Any]:
        await self.say(op="subscribe", channel=channel, **more)
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = await self.receive_json_from(timeout=3)
        return heard

    async def hear_seqs(self, number: int) -> list[int]:
        return [(await self.hear())["seq"] for _ in range(number)]

    async def closed(self) -> int:
        """Return the code of the close, past anything said before it."""
        while True:
            output = await self.receive_output(timeout=3)
            if output["type"] == "websocket.close":
                return int(output["code"])


@asynccontextmanager
async def connected(hub: Hub, **given: Any) -> AsyncIterator[Socket]:
    socket = Socket(hub, **given)
    accepted, _ = await socket.connect(timeout=3)
    assert accepted
    try:
        yield socket
    finally:
        await socket.disconnect(timeout=3)


async def until(condition: Callable[[], bool], *, seconds: float = 3) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def hearable_without_database(user: Any) -> tuple[str, ...]:
    """Stand in for `feed_ticket.hearable`, which asks in a thread with a connection."""
    assert set(feed_ticket.CHANNELS) == set(CHANNELS)
    return tuple(feed_ticket.hearable_now(user))
