"""Where frames come from: the live venue, a simulated one or a recording."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from markets.books import Books
from markets.frames import Frame
from markets.ingest import Followed, Ingest, Pace
from markets.polymarket.clob import Clob
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.polymarket.ws import Patience
from markets.problems import Problems
from markets.recording import Recording
from markets.simulator import World
from markets.simulator import frames as world_frames
from rules.house import is_ours

BURST_SECONDS = 1.0  # how often it is asked for bursts
BREATH = 50  # frames without a pause after which other tasks get a turn

Take = Callable[[Frame], None]


class Source(Protocol):
    """Gives frames, in order and stamped with their receive time, until it ends."""

    async def run(self, take: Take) -> None: ...

    def confirm(self, event_id: str) -> None:
        """A signal was opened on this event: make sure of its terms."""

    def vital_signs(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Burst:
    """How many arbitrages to plant at once; `done` is told how many there was room for."""

    plants: int
    done: Callable[[int], None]


class Clock:
    """Receive times: unix ns that never stand still or step back."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last + 1, time.time_ns())
        return self._last


def recorded(path: Path, *, problems: Problems) -> Iterator[Frame]:
    """Return what the venue sent in a recording; raise `NotARecording` for another file.

    What the desk of then knew is left out: this desk has rules and relations of its own.
    """
    frames = Recording(path, problems=problems)
    return (frame for frame in frames if not is_ours(frame.req))


@dataclass(slots=True)
class Paced:
    """Gives each frame when it is due, stamped with the time it is given.

    `speed` 1 keeps the distances between frames, 5 makes them five times
    shorter. The first frame is due at once.
    """

    frames: Iterator[Frame]
    clock: Clock
    speed: float = 1.0

    async def run(self, take: Take) -> None:
        begun, first = self.clock.now(), None
        for number, frame in enumerate(self.frames):
            first = frame.t if first is None else first
            wait = (frame.t - first) / self.speed - (self.clock.now() - begun)
            if wait > 0:
                await asyncio.sleep(wait / 1e9)
            elif number % BREATH == 0:
                await asyncio.sleep(0)
            take(msgspec.structs.replace(frame, t=self.clock.now()))

    def confirm(self, event_id: str) -> None:
        """Ask nothing: what is simulated or recorded comes by itself."""

    def vital_signs(self) -> dict[str, object]:
        return {}


@dataclass(slots=True)
class Simulated:
    """A simulated venue in which bursts are put on while it runs (see `signals.demo`).

    `asked` is called every second, in a thread.
    """

    world: World
    clock: Clock
    asked: Callable[[], Burst | None]
    speed: float = 1.0

    async def run(self, take: Take) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            await Paced(world_frames(self.world), self.clock, self.speed).run(take)
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(BURST_SECONDS)
            burst = await asyncio.to_thread(self.asked)
            if burst is not None:
                await asyncio.to_thread(burst.done, self.world.burst(burst.plants))

    def confirm(self, event_id: str) -> None:
        """Ask nothing: what is simulated comes by itself."""

    def vital_signs(self) -> dict[str, object]:
        return {}


@dataclass(slots=True)
class Venue:
    """Follows the live venue (or a local one that stands in) as `watched` says."""

    gamma_url: str
    clob_url: str
    ws_url: str
    clock: Clock
    books: Books
    watched: Callable[[Sequence[Followed]], Awaitable[Sequence[Followed]]]
    pace: Pace | None = None
    patience: Patience | None = None
    ingest: Ingest | None = None

    async def run(self, take: Take) -> None:
        async with VenueHttp(gamma_url=self.gamma_url, clob_url=self.clob_url) as http:
            self.ingest = Ingest(
                gamma=Gamma(http),
                clob=Clob(http),
                ws_url=self.ws_url,
                books=self.books,
                watched=self.watched,
                take=take,
                clock=self.clock.now,
                pace=self.pace,
                patience=self.patience,
            )
            await self.ingest.run()

    def confirm(self, event_id: str) -> None:
        if self.ingest:
            self.ingest.confirm(event_id)

    def vital_signs(self) -> dict[str, object]:
        return self.ingest.vital_signs() if self.ingest else {}
