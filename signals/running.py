"""Starting and stopping the live path: which source, which rules, one loop in one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DatabaseError,
    InterfaceError,
    close_old_connections,
    connections,
    transaction,
)

from markets import gap_rows, watch
from markets.books import Books
from markets.ingest import Followed
from markets.recording import PART_BYTES, Recording
from markets.simulator import World
from rules.engine import ActiveRule
from rules.ml.samples import Labels
from signals import demo, store
from signals.house import House
from signals.kept import Keeping
from signals.live import FINISH_SECONDS, Live, Observer
from signals.share import STREAM, Share
from signals.sieve import Sieve
from signals.sources import Clock, Paced, Simulated, Source, Venue, recorded
from signals.writer import Writer

log = structlog.stdlib.get_logger(__name__)


def check_source(name: str) -> None:
    """Raise `ImproperlyConfigured` for what is no source.

    Raises `NotARecording` or OSError for a file that cannot be replayed.
    """
    if name.startswith("replay:"):
        Recording(Path(name.removeprefix("replay:")))
    elif name not in ("mock", "real"):
        raise ImproperlyConfigured(f"DATA_SOURCE={name!r} must be mock, real or replay:FILE")


def source_of(name: str, *, clock: Clock, books: Books, share: Share | None = None) -> Source:
    """Open `mock`, `real` or `replay:FILE`; of a shard only what is in it."""
    part = None if share is None or share.alone else share
    if name == "mock":
        world = World(
            seed=settings.SIMULATOR_SEED, events=settings.SIMULATOR_EVENTS, start=clock.now()
        )
        return Simulated(world, clock, demo.next_burst, share=part)
    if name.startswith("replay:"):
        frames = recorded(Path(name.removeprefix("replay:")), problems=books.problems)
        return Paced(map(Sieve(part), frames) if part else frames, clock)
    return Venue(
        gamma_url=settings.POLYMARKET_GAMMA_URL,
        clob_url=settings.POLYMARKET_CLOB_URL,
        ws_url=settings.POLYMARKET_WS_URL,
        clock=clock,
        books=books,
        watched=_PartWatched(part) if part else _watched,
    )


async def _watched(now: Sequence[Followed]) -> Sequence[Followed]:
    """Read the watch list; a database that is away changes nothing about it for now."""
    try:
        return await asyncio.to_thread(_read_watched, {each.event_id for each in now})
    except (DatabaseError, InterfaceError) as error:
        log.warning("watch.unreadable", error=str(error))
        return now


class _PartWatched:
    """Reads a shard's part of the watch list, which is one for all shards."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._whole: Sequence[Followed] = ()  # as read last: what has its place keeps it

    async def __call__(self, now: Sequence[Followed]) -> Sequence[Followed]:
        self._whole = await _watched(self._whole or now)
        return tuple(each for each in self._whole if self._share.owns(each.event_id))


def _read_watched(following: set[str]) -> tuple[Followed, ...]:
    try:
        return tuple(
            Followed(event.event_id, tuple(market.token_ids for market in event.markets))
            for event in watch.watched(following=following)
        )
    finally:
        close_old_connections()  # whichever thread this was, it may not be asked again


def _keeping(share: Share | None) -> Keeping | None:
    """Return where the last hours are kept; None where they are not to be."""
    hours = settings.MPX_KEEP_HOURS
    if not hours:
        return None
    if share is None:
        return Keeping(settings.MPX_KEEP_DIR, hours, settings.MPX_KEEP_MB)
    folder = share.folder(settings.MPX_KEEP_DIR)
    return Keeping(folder, hours, max(settings.MPX_KEEP_MB // share.shards, 1))


class LiveThread(threading.Thread):
    """The live path in a thread of its own, with its writer.

    `failed` is the exception that ended it, if one did. `observe` is given the books and
    returns what works beside the pipeline on them. `share` is the shard that it holds;
    None: it has everything, and nobody else may run on the same database.
    """

    def __init__(
        self,
        source: str,
        *,
        recording: Path | None = None,
        part_bytes: int = PART_BYTES,
        store: bool = True,
        observe: Callable[[Books], Sequence[Observer]] | None = None,
        share: Share | None = None,
    ) -> None:
        super().__init__(name=share.name if share else STREAM, daemon=True)
        self.source = source
        self.recording = recording
        self.part_bytes = part_bytes
        self.failed: BaseException | None = None
        self.live: Live | None = None
        self._observe = observe
        self._house = House()
        self._share = share
        self._writer = Writer(share=share) if store else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._ready = threading.Event()

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # told to whoever started the thread
            self.failed = error
            log.exception("stream.failed")
        finally:
            self._ready.set()
            if self._writer and not self._writer.finish(timeout=FINISH_SECONDS):
                log.error("writer.unfinished")

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        check_source(self.source)  # before anything is written
        rules = await asyncio.to_thread(self._prepare)
        clock = Clock()
        self.live = Live(
            rules,
            clock=clock,
            writer=self._writer,
            recording=self.recording,
            part_bytes=self.part_bytes,
            confirm_terms=self.source == "real",
            house=self._house if self._writer else None,
            keeping=_keeping(self._share) if self._writer else None,
            pulse_seconds=settings.MPX_PULSE_SECONDS,
            observe=self._observe,
            labels=Labels(latency_ms=settings.PAPER_LATENCY_MS) if self._writer else None,
        )
        books = self.live.pipeline.books
        source = source_of(self.source, clock=clock, books=books, share=self._share)
        self._ready.set()
        await self.live.run(source, stop=self._stopping)

    def _prepare(self) -> tuple[ActiveRule, ...]:
        try:
            if self._writer:
                self._begin_anew(at=datetime.now(UTC))
                self._writer.start()
            return self._house.rules()
        finally:
            connections.close_all()  # this thread is not ours and needs none again

    def _begin_anew(self, *, at: datetime) -> None:
        """Close what whoever ran before left open."""
        if self._share is None:
            store.close_lost(at=at)
            gap_rows.close_lost()
            return
        with transaction.atomic():
            self._share.confirm()
            store.close_lost(at=at, among=self._share.left_open())
            gap_rows.close_lost(but_of=self._share.others)

    def stop(self) -> None:
        """Ask the thread to end; it stores what it has first. Join it to wait."""
        self._ready.wait(FINISH_SECONDS)
        if self._loop:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
