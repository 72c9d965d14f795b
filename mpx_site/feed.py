"""The live feed `/ws/v1/feed`: the journal's feed log, told to every connected client.

One `Hub` per web process reads each new entry once, encodes it once and hands
the same text to all clients; nothing goes through a channel layer. The protocol
is in `docs/api.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connections, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from alerts.models import FeedEntry
from mpx_site.metrics import FEED_CLIENTS, FEED_DROPPED

log = logging.getLogger(__name__)

CHANNELS = frozenset({"signals"})
POLL_SECONDS = 0.25
BEAT_SECONDS = 5.0
CHECK_SECONDS = 60.0  # a client who logged out hears nothing after this
RETRY_SECONDS = 1.0
BATCH = 200
REPLAY_MAX = 1_000
REPLAY_AGE = timedelta(minutes=10)

WAITING_MAX = 1_000  # messages queued for one client
FRAME_MAX = 4_096  # bytes of one inbound frame
INBOUND_MAX = 20  # inbound messages per second
# Daphne buffers without bound what a client does not read, and drops it only when
# a ping stays unanswered (up to 50 s). What may be written ahead is bounded here:
# 2 MiB at once, then 1 MiB/s (some 1,700 signal changes a second).
AHEAD_BYTES = 2 << 20
AHEAD_BYTES_PER_SECOND = 1 << 20

UNAUTHENTICATED = 4401
TOO_SLOW = 4408
TOO_BIG = 4413
TOO_MANY = 4429
FAILED = 4500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """One feed entry, encoded for the wire."""

    channel: str
    seq: int
    at: datetime
    text: str


def encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def message_of(entry: FeedEntry) -> Message:
    told = {
        "ch": entry.topic,
        "t": entry.kind,
        "seq": entry.pk,
        "ts": entry.at,
        "d": entry.payload,
    }
    return Message(entry.topic, entry.pk, entry.at, encoded(told))


class FeedLog:
    """The feed log in the database. Ids grow in commit order, so "after N" misses nothing."""

    def position(self) -> int:
        """Return the id of the newest entry; 0 of an empty log."""
        return FeedEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0

    def after(self, seq: int) -> list[Message]:
        """Return the next entries of all topics."""
        return [message_of(entry) for entry in self._entries(seq)[:BATCH]]

    def missed(
        self, channel: str, *, after: int, upto: int, at: datetime
    ) -> tuple[Message, ...] | None:
        """Return what a client who last heard `after` missed; None if it cannot be made good."""
        if after == upto:
            return ()
        if after > upto or not self._reaches_back_to(after):
            return None
        entries = self._entries(after).filter(topic=channel, id__lte=upto)[: REPLAY_MAX + 1]
        found = tuple(message_of(entry) for entry in entries)
        if len(found) > REPLAY_MAX or any(message.at < at - REPLAY_AGE for message in found):
            return None
        return found

    def unwelcome(self, clients: Iterable[Client]) -> set[Client]:
        """Return the clients whose session has ended or whose account was switched off."""
        asked = tuple(clients)
        sessions = set(
            Session.objects.filter(
                session_key__in=[client.session_key for client in asked],
                expire_date__gt=timezone.now(),
            ).values_list("session_key", flat=True)
        )
        users = set(
            User.objects.filter(
                pk__in=[client.user_id for client in asked], is_active=True
            ).values_list("pk", flat=True)
        )
        return {c for c in asked if c.session_key not in sessions or c.user_id not in users}

    @staticmethod
    def _entries(seq: int) -> Any:
        return FeedEntry.objects.filter(id__gt=seq).order_by("id")

    @staticmethod
    def _reaches_back_to(seq: int) -> bool:
        """Say whether nothing after `seq` was pruned (the oldest go first)."""
        oldest = FeedEntry.objects.order_by("id").values_list("id", flat=True).first()
        return oldest is not None and oldest <= seq + 1


class Client(Protocol):
    """Whoever hears the hub. `offer` and `dismiss` return at once."""

    channels: set[str]
    session_key: str | None
    user_id: int | None

    def offer(self, text: str) -> None: ...

    def dismiss(self, code: int) -> None: ...


class Hub:
    """Reads the log while anybody listens. Only `wake` may be called from other threads."""

    def __init__(
        self,
        log: FeedLog,
        *,
        poll_seconds: float = POLL_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self.log = log
        self.seq = 0  # the newest entry of any topic that was read
        self.seqs = dict.fromkeys(CHANNELS, 0)
        self._poll_seconds = poll_seconds
        self._beat_seconds = beat_seconds
        self._check_seconds = check_seconds
        self._clients: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Look at the log now. Safe from any thread, cheap when nobody listens."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._woken.set)

    async def join(self, client: Client) -> None:
        """Add a client; it hears heartbeats, and its channels once it has some."""
        self._clients.add(client)
        FEED_CLIENTS.set(len(self._clients))
        if self._task is None or self._task.done():
            self._start()
        await self._ready.wait()

    def leave(self, client: Client) -> None:
        """Forget a client; the hub rests when the last one is gone."""
        if client in self._clients:
            self._clients.discard(client)
            FEED_CLIENTS.set(len(self._clients))
            self._woken.set()

    def subscribe(self, client: Client, channel: str) -> int:
        """Let a client hear a channel from now on; return the last entry it will not hear."""
        client.channels.add(channel)
        return self.seq

    async def missed(self, channel: str, *, after: int, upto: int) -> tuple[Message, ...] | None:
        """See `FeedLog.missed`."""
        at = timezone.now()
        return await self._ask(lambda: self.log.missed(channel, after=after, upto=upto, at=at))

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._ready = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._beat_due = self._loop.time() + self._beat_seconds
        self._check_due = self._loop.time() + self._check_seconds
        self._task = asyncio.create_task(self._run(), name="feed hub")

    async def _run(self) -> None:
        try:
            while self._clients:
                try:
                    await self._look()
                    await self._pause(self._poll_seconds)
                except DatabaseError as error:
                    log.warning("feed.retry error=%s", error)  # clients miss the heartbeat
                    await self._ask(connections.close_all)
                    await self._pause(RETRY_SECONDS)
        except Exception:
            log.exception("feed.failed")
            raise
        finally:
            self._loop = None
            for client in tuple(self._clients):
                client.dismiss(FAILED)
            self._reader.submit(connections.close_all)
            self._reader.shutdown(wait=False)

    async def _look(self) -> None:
        """Tell what is new, then the time if it is due."""
        if not self._ready.is_set():
            self.seq = await self._ask(self.log.position)
            self.seqs = dict.fromkeys(CHANNELS, self.seq)
            self._ready.set()
        while await self._tell_batch() == BATCH:
            pass
        now = asyncio.get_running_loop().time()
        if now >= self._beat_due:
            self._beat_due = now + self._beat_seconds
            self._beat()
        if now >= self._check_due:
            self._check_due = now + self._check_seconds
            await self._check()

    async def _tell_batch(self) -> int:
        after = self.seq
        messages = await self._ask(lambda: self.log.after(after))
        for message in messages:
            self.seq = message.seq
            if message.channel in CHANNELS:
                self.seqs[message.channel] = message.seq
                self._tell(message)
        return len(messages)

    def _tell(self, message: Message) -> None:
        for client in tuple(self._clients):
            if message.channel in client.channels:
                client.offer(message.text)

    def _beat(self) -> None:
        text = encoded({"op": "hb", "ts": timezone.now(), "seq": self.seqs})
        for client in tuple(self._clients):
            client.offer(text)

    async def _check(self) -> None:
        clients = tuple(self._clients)
        for client in await self._ask(lambda: self.log.unwelcome(clients)):
            client.dismiss(UNAUTHENTICATED)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    async def _ask(self, question: Callable[[], T]) -> T:
        """Ask the database in the hub's own thread, on the one connection it keeps there."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, question)


hub = Hub(FeedLog())


def _wake_after_commit(*, using: str, **_: object) -> None:
    transaction.on_commit(hub.wake, using=using)


post_save.connect(_wake_after_commit, sender=FeedEntry, dispatch_uid="feed.wake")


class Request(msgspec.Struct, frozen=True):
    """What a client may send; unknown fields are left to later versions."""

    op: str
    channel: str = ""
    after: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Ahead:
    """How far a client's socket may be written ahead of what it is known to take."""

    def __init__(self) -> None:
        self._bytes = 0.0
        self._at = 0.0

    def delay(self, size: int, *, at: float) -> float:
        """Book `size` bytes at a time in seconds; return for how long to hold the next ones."""
        drained = (at - self._at) * AHEAD_BYTES_PER_SECOND
        self._bytes = max(0.0, self._bytes - drained) + size
        self._at = at
        return max(0.0, self._bytes - AHEAD_BYTES) / AHEAD_BYTES_PER_SECOND


class FeedConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One client of the feed. A single writer sends; a full queue ends the connection."""

    def __init__(self, hub: Hub = hub) -> None:
        super().__init__()
        self.hub = hub
        self.channels: set[str] = set()
        self.session_key: str | None = None
        self.user_id: int | None = None
        self._waiting: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)
        self._turn = asyncio.Lock()  # a replay is not interrupted by newer messages
        self._ahead = Ahead()
        self._heard: deque[float] = deque(maxlen=INBOUND_MAX)
        self._writer: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._ops = {"subscribe": self._subscribe}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stop()

    async def connect(self) -> None:
        """Accept first: only an accepted socket can be told why it is closed."""
        await self.accept()
        user, session = self.scope["user"], self.scope["session"]
        if not user.is_authenticated:
            await self.close(code=UNAUTHENTICATED)
            return
        self.user_id, self.session_key = user.pk, session.session_key
        self._writer = asyncio.create_task(self._write(), name="feed writer")
        await self.hub.join(self)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._writer is None or self._ending is not None:
            return
        if self._is_flood():
            self.dismiss(TOO_MANY)
        elif len(bytes_data or (text_data or "").encode()) > FRAME_MAX:
            self.dismiss(TOO_BIG)
        elif text_data is None:
            await self._refuse("bad_json", "Send JSON as text.")
        else:
            await self._obey(text_data)

    async def _obey(self, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.ValidationError as error:
            await self._refuse("bad_request", str(error))
        except (msgspec.DecodeError, RecursionError) as error:
            await self._refuse("bad_json", str(error))
        else:
            op = self._ops.get(request.op)
            if op is None:
                await self._refuse("unknown_op", f"Known: {', '.join(self._ops)}.")
            else:
                await op(request)

    async def _subscribe(self, request: Request) -> None:
        channel = request.channel
        if channel not in CHANNELS:
            await self._refuse("unknown_channel", f"Known: {', '.join(sorted(CHANNELS))}.")
        elif channel in self.channels:
            await self._refuse("already_subscribed", f"{channel} is being told already.")
        else:
            await self._begin(channel, request.after)

    async def _begin(self, channel: str, after: int | None) -> None:
        """Acknowledge, tell what was missed, then let the live messages through."""
        async with self._turn:
            seq = self.hub.subscribe(self, channel)
            await self._say(encoded({"op": "ack", "channel": channel, "seq": seq}))
            if after is None:
                return
            missed = await self._missed(channel, after=after, upto=seq)
            if missed is None:
                await self._say(encoded({"op": "gap", "channel": channel}))
                return
            for message in missed:
                await self._say(message.text)

    async def _missed(self, channel: str, *, after: int, upto: int) -> tuple[Message, ...] | None:
        """Return what to replay; None, a gap, also when the database does not answer."""
        try:
            return await self.hub.missed(channel, after=after, upto=upto)
        except DatabaseError as error:
            log.warning("feed.no_replay error=%s", error)
            return None

    async def _refuse(self, code: str, detail: str) -> None:
        await self._say(encoded({"op": "error", "code": code, "detail": detail}))

    def _is_flood(self) -> bool:
        now = asyncio.get_running_loop().time()
        flood = len(self._heard) == INBOUND_MAX and now - self._heard[0] < 1.0
        self._heard.append(now)
        return flood

    def offer(self, text: str) -> None:
        """Queue a message; a client that lets a thousand pile up is too slow for a live feed."""
        try:
            self._waiting.put_nowait(text)
        except asyncio.QueueFull:
            self.dismiss(TOO_SLOW)

    def dismiss(self, code: int) -> None:
        """End the connection from our side; the client may come back and resume."""
        if self._ending is None:
            self._stop()
            FEED_DROPPED.labels(str(code)).inc()
            self._ending = asyncio.create_task(self.close(code=code))

    async def _write(self) -> None:
        while True:
            text = await self._waiting.get()
            async with self._turn:
                await self._say(text)

    async def _say(self, text: str) -> None:
        if self._ending is not None:
            return
        await self.send(text_data=text)
        wait = self._ahead.delay(len(text), at=asyncio.get_running_loop().time())
        if wait:
            await asyncio.sleep(wait)

    def _stop(self) -> None:
        """Leave the hub and drop what waits. Harmless when done twice."""
        self.hub.leave(self)
        if self._writer is not None:
            self._writer.cancel()
        self._waiting = asyncio.Queue(WAITING_MAX)
