"""The thread that stores what the live path found, beside it and in its order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from django.db import close_old_connections, connections, transaction

from alerts import shared_beats
from alerts.models import Heartbeat
from markets import catalogue, gap_rows, ticks
from markets.connections import is_away
from markets.frames import moment
from markets.gaps import Break, HealedGap
from markets.lease import LeaseLost
from markets.listing import EventTerms
from markets.problems import SAMPLE_BYTES, Problem
from markets.relation_changes import note_texts
from markets.texts import TextsTold
from markets.ticks import Top
from rules.ml.samples import Sample
from signals import outcomes, pulse_rows, store
from signals.episodes import SignalChange
from signals.pulse import Beat
from signals.samples import Told
from signals.scoring import Scoring
from signals.share import STREAM, Share

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 1.0
CUT_OFF = "25P03"  # by PostgreSQL, because the process stood still in a transaction
MAX_WAITING = 10_000  # batches; beyond it the oldest tops are dropped, never signals


@dataclass(slots=True)
class Batch:
    """What is to be stored together, in the order of the fields."""

    at: int  # unix ns
    events: list[EventTerms] = field(default_factory=list)
    pages: list[bytes] = field(default_factory=list)  # listings as received: have the rules' texts
    changes: list[SignalChange] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    healed: list[HealedGap] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    pulses: list[Beat] = field(default_factory=list)
    beat: dict[str, object] | None = None
    progress: int = 0
    told: list[Told] = field(default_factory=list)  # of `changes`: what a model may be asked
    samples: list[Sample] = field(default_factory=list)  # whose outcome is known now
    dropped: list[str] = field(default_factory=list)  # keys of those that never will be
    horizon_ns: int = 0  # how far an outcome looks

    def __bool__(self) -> bool:
        return bool(
            self.events
            or self.pages
            or self.changes
            or self.tops
            or self.breaks
            or self.healed
            or self.problems
            or self.pulses
            or self.beat is not None
            or self.samples
            or self.dropped
        )


class Writer(threading.Thread):
    """Stores batches one after the other; a database that is away is waited for.

    `refused` counts what the database will never take: it is left out alone,
    logged and put into the quarantine. `lost` counts what was still waiting
    when `finish` ran out of time, or the share was lost: then nothing more is stored.
    """

    def __init__(self, *, share: Share | None = None) -> None:
        super().__init__(name="writer", daemon=True)
        self._share = share
        self._stream = share.name if share else STREAM
        self.dropped_tops = 0
        self.refused = 0
        self.lost = 0
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._halt = threading.Event()
        self._texts = TextsTold()
        self._scoring = Scoring()
        self._restart = Restart(self._stream)

    def put(self, batch: Batch) -> None:
        """Hand over a batch; never waits."""
        if self._queue.qsize() > MAX_WAITING and batch.tops:
            self.dropped_tops += len(batch.tops)
            batch.tops = []
        if batch:
            self._queue.put(batch)

    def finish(self, *, timeout: float) -> bool:
        """Store what is waiting and end; False if that took longer than `timeout` seconds."""
        if self.ident is None:
            return self._queue.empty()  # never started
        self._queue.put(None)
        self.join(timeout)
        done = not self.is_alive()
        self._halt.set()
        self.join(RETRY_SECONDS)
        return done

    def run(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._store_all(batch)
            close_old_connections()  # not each thread of many shards can keep one
        if self.lost:
            log.error("writer.gave_up", lost=self.lost)
        connections.close_all()

    def _store_all(self, batch: Batch) -> None:
        at = moment(batch.at)
        self._store(batch.events, lambda events: catalogue.store(events, seen_at=at))
        self._store(self._texts.news_in(batch.pages), lambda texts: note_texts(texts, at=at))
        said = self._scoring.of(batch.told)
        save = partial(store.save, said=said, stream=self._stream)
        self._store(batch.changes, save)
        horizon = batch.horizon_ns
        self._store(batch.told, lambda told: outcomes.begin(told, said, horizon_ns=horizon))
        self._store(batch.samples, outcomes.settle)
        self._store(batch.dropped, outcomes.drop)
        self._store(batch.tops, ticks.store)
        self._store(batch.breaks, partial(gap_rows.opened, stream=self._stream))
        self._store(batch.healed, partial(gap_rows.healed, stream=self._stream))
        self._store(batch.problems, ticks.quarantine)
        self._store(batch.pulses, pulse_rows.store)
        if batch.beat is not None:
            self._store([batch], self._restart.note)  # before it beats over the last one
            self._store([batch], self._beat)

    def _store(self, items: list[T], step: Callable[[list[T]], object]) -> None:
        """Store items, however long it takes until the database is there."""
        if not items:
            return
        while not self._halt.is_set():
            close_old_connections()
            try:
                self._take(step, items)
            except LeaseLost:
                log.error("writer.not_ours", stream=self._stream, items=len(items))
                self._halt.set()  # whoever has the shard now tells of it
            except Exception as error:
                if not _is_away(error):
                    log.exception("writer.refused", items=len(items))
                    self._refused(items, step, error)
                    return
                log.error("writer.retry", items=len(items), error=str(error))
                connections.close_all()  # a session that was opened read-only stays so
                self._halt.wait(RETRY_SECONDS)
            else:
                return
        self.lost += len(items)

    def _take(self, step: Callable[[list[T]], object], items: list[T]) -> None:
        """Store items together with the proof that they are ours to tell."""
        if self._share is None:
            step(items)
            return
        with transaction.atomic():
            self._share.confirm()
            step(items)

    def _refused(self, items: list[T], step: Callable[[list[T]], object], error: Exception) -> None:
        """Find the item that cannot be stored, keep a note of it, and store the others."""
        half = len(items) // 2
        if half:
            self._store(items[:half], step)
            self._store(items[half:], step)
            return
        self.refused += 1
        if step != ticks.quarantine:
            self._store([_problem(items[0], error)], ticks.quarantine)

    @transaction.atomic
    def _beat(self, batches: list[Batch]) -> None:
        (batch,) = batches
        number, shards = (self._share.number, self._share.shards) if self._share else (0, 1)
        shared_beats.beat_part(
            STREAM,
            number,
            shards,
            at=datetime.now(UTC),
            progress=batch.progress,
            waiting=self._queue.qsize(),
            dropped_tops=self.dropped_tops,
            refused=self.refused,
            **(batch.beat or {}),
        )


class Restart:
    """The time from the last beat of the process before this one until books are known again."""

    def __init__(self, component: str) -> None:
        self._component = component
        self._since: datetime | None = None
        self._looked = self._over = False

    def note(self, batches: list[Batch]) -> None:
        """Store that time as a gap, once, when a beat tells of fresh books."""
        (batch,) = batches
        if not self._looked:
            last = Heartbeat.objects.filter(pk=self._component).values_list("at", flat=True)
            self._since, self._looked = last.first(), True
        states = (batch.beat or {}).get("books")
        if self._over or not isinstance(states, dict) or not states.get("fresh"):
            return
        if self._since is not None:
            books = sum(states.values())
            until = datetime.now(UTC)
            gap_rows.not_running(self._since, until, books=books, stream=self._component)
        self._over = True


def _is_away(error: BaseException | None) -> bool:
    """Say whether the database, and not what is to be stored, is the reason of a failure.

    What fails because a connection broke meanwhile has that break as its context.
    """
    while error is not None:
        if getattr(error.__cause__, "sqlstate", None) == CUT_OFF:
            return True
        if is_away(error):
            return not _is_beyond_limits(error)
        error = error.__context__
    return False


def _is_beyond_limits(error: BaseException) -> bool:
    """Say whether PostgreSQL called an item too large or too complex: that never heals."""
    state = getattr(error.__cause__, "sqlstate", None) or ""
    return state.startswith("54")  # program_limit_exceeded


def _problem(item: object, error: Exception) -> Problem:
    now = time.time_ns()
    sample = repr(item)[:SAMPLE_BYTES]
    return Problem("writer", "refused", type(item).__name__, str(error)[:500], sample, 1, now, now)
