"""The stream looks after the rest of the desk, in a thread that waits for nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import httpx
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.utils import timezone

from alerts import broker, clocks, watchdog
from alerts.lifeline import Lifeline
from alerts.meters import INGEST_LATENCY_MS
from mpx_site import flapping
from signals.episodes import SignalChange

log = structlog.stdlib.get_logger(__name__)

LOOK_SECONDS: Final = 2.0
ENDS_SECONDS: Final = 12.0  # a message of the lifeline takes ten seconds at most
DEADMAN_SECONDS: Final = 60.0
DEADMAN_TIMEOUT: Final = 3.0
SAMPLE: Final = 31  # one frame in 32 is measured


class Deadman:
    """Calls an alarm clock outside, which rings once this stops calling."""

    def __init__(self, url: str, *, every: float = DEADMAN_SECONDS) -> None:
        self._url = url
        self._every = every
        self._called_at: float | None = None

    def call(self, *, evaluated_at: float, now: float) -> None:
        """Call if it is time, and rules were evaluated within the last minute (unix seconds)."""
        if not self._url or now - evaluated_at > self._every:
            return
        if self._called_at is not None and now - self._called_at < self._every:
            return
        self._called_at = now
        try:
            httpx.post(self._url, timeout=DEADMAN_TIMEOUT, trust_env=False)
        except httpx.HTTPError as error:  # its text would have the address, a secret
            log.warning("deadman.unreachable", error=type(error).__name__)


class LiveWatch:
    """Looks at the broker and at every part's signs of life; tells when the database is away."""

    def __init__(self) -> None:
        self._frames = 0
        self._evaluated_at = 0  # unix ns
        source, _, _ = str(settings.DATA_SOURCE).partition(":")
        self._latency = INGEST_LATENCY_MS.labels(source)
        self._lifeline = Lifeline(at=timezone.now())
        self._deadman = Deadman(settings.MPX_DEADMAN_URL)
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._halt.wait(LOOK_SECONDS):
            try:
                self._look()
                self._deadman.call(evaluated_at=self._evaluated_at / 1e9, now=time.time())
            except Exception:  # whatever it is: the next look tries again
                log.exception("watch.failed")
        connections.close_all()

    def _look(self) -> None:
        try:
            at = clocks.look()  # ours may be wrong, and others are judged by it
            broker.look(at=at)
            watchdog.watch(at=at)
            flapping.watch(at=at)
            self._lifeline.alive(at=timezone.now())
        except (DatabaseError, InterfaceError) as error:
            log.warning("watch.no_database", error=str(error))
            self._lifeline.lost(at=timezone.now())
        finally:
            close_old_connections()  # not each thread of many shards can keep one

    def on_frame(self, t: int) -> None:
        """Note that rules were evaluated; measure one frame in 32, for this is the hot path."""
        self._frames += 1
        if not self._frames & SAMPLE:
            self._latency.observe((time.time_ns() - t) / 1e6)
        self._evaluated_at = t

    def on_signals(self, changes: Sequence[SignalChange]) -> None: ...

    def on_time(self, now: int) -> None: ...

    def stop(self) -> None:
        """End after the look under way; whoever is alive goes on watching."""
        self._halt.set()
        self._thread.join(ENDS_SECONDS)
