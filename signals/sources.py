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
from markets.frames import LEFT, Frame
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
from signals.share import Share
from signals.sieve import Sieve

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


class Moves:
    """Sees which events of a simulated venue have come to a shard, or left it."""

    def __init__(self, share: Share, world: World) -> None:
        self._share = share
        self._world = world
        self._version = share.version
        self._ours = self._owned()

    def left(self) -> list[tuple[int, list[str]]]:
        """Show what has come; return connection and tokens of each event that left."""
        if self._share.version == self._version:
            return []
        self._version = self._share.version
        before, self._ours = self._ours, self._owned()
        self._world.show(sorted(self._ours - before))
        gone = sorted(before - self._ours)
        return [place for event_id in gone if (place := self._world.place_of(event_id))]

    def _owned(self) -> set[str]:
        return {each for each in self._world.stage.events if self._share.owns(each)}


@dataclass(slots=True)
class Simulated:
    """A simulated venue in which bursts are put on while it runs (see `signals.demo`).

    `asked` is called every second, in a thread. `share` is the shard whose events are heard;
    None: all are.
    """

    world: World
    clock: Clock
    asked: Callable[[], Burst | None]
    speed: float = 1.0
    share: Share | None = None

    async def run(self, take: Take) -> None:
        listening = asyncio.create_task(self._listen(take))
        frames = world_frames(self.world)
        if self.share:
            frames = map(Sieve(self.share), frames)
        try:
            await Paced(frames, self.clock, self.speed).run(take)
        finally:
            listening.cancel()

    async def _listen(self, take: Take) -> None:
        moves = Moves(self.share, self.world) if self.share else None
        while True:
            await asyncio.sleep(BURST_SECONDS)
            for conn, tokens in moves.left() if moves else ():
                take(Frame(self.clock.now(), "ws", ",".join(tokens).encode(), conn, LEFT))
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
