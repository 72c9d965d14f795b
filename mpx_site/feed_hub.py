"""The hub of the live feed: reads each new entry once and tells it to all who listen.

One per web process. Everything here runs in the event loop; the database is
asked in one thread, on the one connection it keeps there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from django.db import DatabaseError, connections
from django.utils import timezone

from alerts.feedlog import Place, Position
from alerts.meters import FEED_CLIENTS
from mpx_site import feed_words as words
from mpx_site.feed_latest import Latest
from mpx_site.feed_listener import Listener, Subscription
from mpx_site.feed_log import BATCH, REPLAY_MAX, FeedLog, with_levels
from mpx_site.feed_words import CHANNELS, TOLD_IN_FULL, Message, Resume

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS = 0.25  # also how often a price may change for a client
BEAT_SECONDS = 5.0
CHECK_SECONDS = 60.0  # a client who logged out hears nothing after this
RETRY_SECONDS = 1.0
SOCKETS_PER_USER = 5

UNAUTHENTICATED = 4401
FAILED = 4500

T = TypeVar("T")


class Hub:
    """Reads the log while anybody listens. Only `wake` may be called from other threads."""

    def __init__(
        self,
        log: FeedLog,
        latest: Latest | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        check_seconds: float = CHECK_SECONDS,
        heed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`heed` waits for news from other processes; None where there are none."""
        self.log = log
        self.latest = latest or Latest()
        self.places: dict[str, Place] = {}
        self.last_id = 0  # the newest entry of any topic that was read
        self._poll_seconds = poll_seconds
        self._beat_seconds = beat_seconds
        self._check_seconds = check_seconds
        self._heed = heed
        self._listeners: dict[Listener, None] = {}  # in the order they came
        self._levels: dict[str, str] = {}
        self._epochs: set[tuple[str, str]] = set()  # all that were ever told, by channel
        self._settled = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Look at the log now. Safe from any thread, cheap when nobody listens."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._woken.set)

    async def join(self, listener: Listener) -> None:
        """Add a client; it hears heartbeats, and its channels once it has some."""
        self._listeners[listener] = None
        FEED_CLIENTS.set(len(self._listeners))
        if self._task is None or self._task.done():
            self._start()
        await self._ready.wait()

    def leave(self, listener: Listener) -> None:
        """Forget a client; the hub rests when the last one is gone."""
        if listener in self._listeners:
            del self._listeners[listener]
            FEED_CLIENTS.set(len(self._listeners))
            self._woken.set()

    def is_crowded(self, user_id: int) -> bool:
        """Say whether a user has as many sockets here as one may have."""
        mine = sum(1 for each in self._listeners if each.user_id == user_id)
        return mine >= SOCKETS_PER_USER

    async def subscribe(self, listener: Listener, channel: str, request: words.Request) -> None:
        """Let a client hear a channel: first what it missed, then what comes."""
        heard = request.resume
        missed = None if heard is None else await self._missed(channel, heard)
        # From here on nothing waits, so nothing can come between the replay and what is live.
        place = self.places[channel]
        mode = "live" if heard is None else "gap" if missed is None else "replay"
        ack = words.ack(channel, req=request.req, place=place, mode=mode)
        listener.begin(channel, Subscription(place, request.filter), ack, missed or ())
        if heard is not None and missed is None:
            after = heard.seq if heard.epoch == place.epoch and heard.seq < place.seq else None
            listener.say(words.gap(channel, after=after, place=place))

    async def subscribe_latest(
        self, listener: Listener, channel: str, request: words.Request
    ) -> tuple[str, ...]:
        """Let a client hear values, what is known of them first; return keys nobody knows."""
        keys = frozenset(request.keys)
        strangers = await self.ask(lambda: self.latest.strangers(channel, keys))
        if strangers:
            return strangers
        ack = words.ack(channel, req=request.req, place=self.latest.place, mode="snapshot")
        listener.begin(channel, Subscription(self.latest.place, keys=keys), ack)
        # Asked for after it listens: a change is in the snapshot or comes after it.
        listener.take_latest(await self.ask(lambda: self.latest.snapshot(channel, keys)))
        return ()

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the database in the hub's own thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, question)

    async def _missed(self, channel: str, heard: Resume) -> list[Message] | None:
        """Return what to replay; None, a gap, also when the database does not answer."""
        found: list[Message] = []
        after = heard.seq
        while (place := self.places[channel]).seq != after:
            if heard.epoch != place.epoch or after > place.seq or len(found) > REPLAY_MAX:
                return None
            try:
                more = await self._between(channel, after, place)
            except DatabaseError as error:
                log.warning("feed.no_replay", error=str(error))
                return None
            if more is None:
                return None
            found, after = found + more, place.seq
        return with_levels(found, {}) if heard.epoch == place.epoch else None

    async def _between(self, channel: str, after: int, place: Place) -> list[Message] | None:
        at = timezone.now()
        return await self.ask(lambda: self.log.between(channel, after=after, place=place, at=at))

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._ready = asyncio.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._beat_due = self._loop.time() + self._beat_seconds
        self._check_due = self._loop.time() + self._check_seconds
        self.places = {}
        self._levels = {}
        self._settled = False
        self._task = asyncio.create_task(self._run(), name="feed hub")

    async def _run(self) -> None:
        heeding = asyncio.ensure_future(self._heed()) if self._heed else None
        try:
            while self._listeners:
                await self._turn()
        except Exception:
            log.exception("feed.failed")
            raise
        finally:
            if heeding is not None:
                heeding.cancel()
            self._loop = None
            for listener in tuple(self._listeners):
                listener.end(FAILED)
            self._reader.submit(connections.close_all)
            self._reader.shutdown(wait=False)

    async def _turn(self) -> None:
        try:
            await self._look()
            await self._pause(self._poll_seconds)
        except DatabaseError as error:
            log.warning("feed.retry", error=str(error))  # clients miss the heartbeat
            await self.ask(connections.close_all)
            await self._pause(RETRY_SECONDS)
            self._settled = False  # what comes back may be another database

    async def _look(self) -> None:
        """Tell what is new, then the time if it is due."""
        if not self._settled:
            await self._settle()
        while await self._tell_batch() == BATCH:
            pass
        await self._tell_latest()
        now = asyncio.get_running_loop().time()
        for listener in tuple(self._listeners):
            listener.check(now)
        if now >= self._beat_due:
            self._beat_due = now + self._beat_seconds
            await self._beat()
        if now >= self._check_due:
            self._check_due = now + self._check_seconds
            await self._check()

    async def _settle(self) -> None:
        """Find one's place in the log; what is new since an outage is read from where it was."""
        found = await self.ask(self.log.settle)
        if not self._ready.is_set():
            self._adopt(found)
        elif self._went_back(found):
            await self._resettle()
        self._settled = True
        self._ready.set()

    async def _tell_batch(self) -> int:
        after, epochs = self.last_id, {name: place.epoch for name, place in self.places.items()}
        rows = await self.ask(lambda: self.log.after(after, epochs))
        fresh: list[Message] = []
        whole = True
        for entry_id, message in rows:
            self.last_id = entry_id
            told = self.places.get(message.channel)
            if told is None or message.seq <= told.seq:
                continue  # no channel of ours, or within the place that was begun at
            whole = message.seq == told.seq + 1
            if not whole:
                break
            self.places[message.channel] = Place(told.epoch, message.seq)
            fresh.append(message)
        self._tell(fresh)
        if not whole:
            await self._resettle()
        return len(rows)

    def _tell(self, messages: Sequence[Message]) -> None:
        if messages:
            told = with_levels(messages, self._levels)
            for listener in tuple(self._listeners):
                listener.take(told)

    async def _tell_latest(self) -> None:
        wanted: dict[str, frozenset[str]] = {}
        for listener in self._listeners:
            for channel, subscription in listener.subscriptions.items():
                if channel in words.TOLD_LATEST:
                    wanted[channel] = wanted.get(channel, frozenset()) | subscription.keys
        if not wanted:
            return
        changes = await self.ask(lambda: self.latest.changes(wanted))
        for listener in tuple(self._listeners) if changes else ():
            listener.take_latest(changes)

    async def _beat(self) -> None:
        found = await self.ask(self.log.position)
        if self._went_back(found):
            await self._resettle()
        told = words.heartbeat(self.places, at=timezone.now())
        for listener in tuple(self._listeners):
            listener.beat(told)

    def _went_back(self, found: Position) -> bool:
        """Say whether the log is another than the one that was told."""
        return any(
            (place := found.places.get(channel)) is None
            or place.epoch != told.epoch
            or place.seq < told.seq
            for channel, told in self.places.items()
        )

    async def _resettle(self) -> None:
        """Begin anew where the log is; a topic that lost what was told gets another epoch."""
        found = await self.ask(self.log.settle)
        for channel, told in self.places.items():
            place = found.places[channel]
            comes_again = place.epoch != told.epoch and (channel, place.epoch) in self._epochs
            if comes_again or (place.epoch == told.epoch and place.seq < told.seq):
                await self.ask(self._epoch_after(channel, place.epoch))
        self._adopt(await self.ask(self.log.settle))

    def _epoch_after(self, channel: str, epoch: str) -> Callable[[], None]:
        return lambda: self.log.begin_epoch(channel, instead_of=epoch)

    def _adopt(self, found: Position) -> None:
        """Take the log's places for the hub's; tell of what lies between."""
        before = self.places
        self.last_id = found.last_id
        self.places = {channel: found.places[channel] for channel in TOLD_IN_FULL}
        self._epochs |= {(channel, place.epoch) for channel, place in self.places.items()}
        for channel, told in before.items():
            if told != self.places[channel]:
                self._levels = {}
                for listener in tuple(self._listeners):
                    listener.gap(channel, self.places[channel])

    async def _check(self) -> None:
        """Look again at who may hear what."""
        listeners = tuple(self._listeners)
        for account in await self.ask(lambda: self.log.unwelcome(listeners)):
            account.end(UNAUTHENTICATED)
        allowed = await self.ask(self.log.see_the_desk)
        for listener in listeners:
            if listener.user_id is not None and listener.user_id not in allowed:
                self._hush(listener, [name for name, needs in CHANNELS.items() if needs])

    def _hush(self, listener: Listener, channels: Sequence[str]) -> None:
        listener.allowed -= set(channels)
        for channel in channels:
            if listener.drop(channel):
                detail = f"You may not hear {channel} any more."
                listener.say(words.error("forbidden", detail, channel=channel))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()
