"""The execution desk in the live path: what the stream calls beside its own work."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from execution.desk import Desk, DeskThread
from markets.books import Books
from signals.episodes import SignalChange
from signals.live import Observer

log = logging.getLogger(__name__)


class DeskFailed(Exception):
    """The desk's thread has ended by a mistake; the stream must not go on as if it were there."""


class LiveDesk:
    """The paper venue on the stream's books, and its thread to the database."""

    def __init__(self, books: Books) -> None:
        self.desk = Desk(books)
        self._thread = DeskThread(self.desk)
        self._thread.start()

    def on_frame(self, t: int) -> None:
        self.desk.on_frame(t)

    def on_signals(self, changes: Sequence[SignalChange]) -> None:
        self.desk.on_signals(changes)

    def on_time(self, now: int) -> None:
        """Raise `DeskFailed` once the thread is dead."""
        if self._thread.failed is not None:
            raise DeskFailed(f"the desk failed: {self._thread.failed}") from self._thread.failed
        self.desk.on_time(now)

    def stop(self) -> None:
        """End after the pass under way; orders that wait are taken up by the next process."""
        if not self._thread.finish():
            log.error("desk.unfinished")


def observers(books: Books) -> Sequence[Observer]:
    """Return what watches the live books, started."""
    return (LiveDesk(books),)
