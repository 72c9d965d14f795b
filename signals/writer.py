"""The thread that stores what the live path found, beside it and in its order."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db import DatabaseError, close_old_connections, connections, transaction

from alerts import journal
from markets import catalogue, ticks
from markets.frames import moment
from markets.listing import EventTerms
from markets.problems import Problem
from markets.ticks import Top
from signals import store
from signals.episodes import SignalChange

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_WAITING = 10_000  # batches; beyond it the oldest tops are dropped, never signals


@dataclass(slots=True)
class Batch:
    """What is to be stored together, in the order of the fields."""

    at: int  # unix ns
    events: list[EventTerms] = field(default_factory=list)
    changes: list[SignalChange] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    beat: dict[str, object] | None = None
    progress: int = 0

    def __bool__(self) -> bool:
        return bool(
            self.events or self.changes or self.tops or self.problems or self.beat is not None
        )


class Writer(threading.Thread):
    """Stores batches one after the other; a database that is away is waited for."""

    def __init__(self, *, component: str = "stream") -> None:
        super().__init__(name="writer", daemon=True)
        self.component = component
        self.dropped_tops = 0
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._halt = threading.Event()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; never waits."""
        if self._queue.qsize() > MAX_WAITING and batch.tops:
            self.dropped_tops += len(batch.tops)
            batch.tops = []
        if batch:
            self._queue.put(batch)

    def finish(self, *, timeout: float) -> bool:
        """Store what is waiting and end; False if that took too long."""
        self._queue.put(None)
        self.join(timeout)
        self._halt.set()
        return not self.is_alive()

    def run(self) -> None:
        while (batch := self._queue.get()) is not None:
            self._store_all(batch)
        connections.close_all()

    def _store_all(self, batch: Batch) -> None:
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("events", lambda: catalogue.store(batch.events, seen_at=moment(batch.at))),
            ("changes", lambda: store.save(batch.changes)),
            ("tops", lambda: ticks.store(batch.tops)),
            ("problems", lambda: ticks.quarantine(batch.problems)),
            ("beat", lambda: self._beat(batch)),
        )
        for name, step in steps:
            if getattr(batch, name):
                self._until_stored(name, step)

    def _until_stored(self, name: str, step: Callable[[], object]) -> None:
        while not self._halt.is_set():
            close_old_connections()
            try:
                step()
                return
            except DatabaseError as error:
                log.error("writer.retry what=%s error=%s", name, error)
                time.sleep(RETRY_SECONDS)

    @transaction.atomic
    def _beat(self, batch: Batch) -> None:
        journal.beat(
            self.component,
            at=datetime.now(UTC),
            progress=batch.progress,
            waiting=self._queue.qsize(),
            dropped_tops=self.dropped_tops,
            **(batch.beat or {}),
        )
