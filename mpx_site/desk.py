"""The execution desk in the live path: what the stream calls beside its own work."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone

from alerts import delivery
from execution.desk import Desk, DeskThread
from markets.books import Books
from mpx_site.desk_watch import LiveWatch
from signals.episodes import SignalChange
from signals.live import Observer
from signals.share import Share

log = structlog.stdlib.get_logger(__name__)

VOICE_SECONDS = 2.0
VOICE_ENDS = 12.0  # a message takes ten seconds at most


class DeskFailed(Exception):
    """The desk's thread has ended by a mistake; the stream must not go on as if it were there."""


class LiveDesk:
    """The paper venue on the stream's books, and its thread to the database."""

    def __init__(self, books: Books, share: Share | None = None) -> None:
        self.desk = Desk(books, share=share)
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


class LiveVoice:
    """Tells alerts from the stream too: what is urgent does not wait for a broker or a worker."""

    def __init__(self) -> None:
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="voice", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._halt.wait(VOICE_SECONDS):
            try:
                delivery.deliver(at=timezone.now())
            except DatabaseError as error:
                log.warning("voice.no_database", error=str(error))
            except Exception:  # whatever it is: the next pass tries again
                log.exception("voice.failed")
            close_old_connections()  # not each thread of many shards can keep one
        connections.close_all()

    def on_frame(self, t: int) -> None: ...

    def on_signals(self, changes: Sequence[SignalChange]) -> None: ...

    def on_time(self, now: int) -> None: ...

    def stop(self) -> None:
        """End after the message under way; whoever is alive goes on with the rest."""
        self._halt.set()
        self._thread.join(VOICE_ENDS)


def observers(books: Books, *, share: Share | None = None) -> Sequence[Observer]:
    """Return what goes on beside the live books of a share, started."""
    return (LiveDesk(books, share), LiveVoice(), LiveWatch())
