"""Where frames come from: a simulated venue or a recording, each as a paced stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from markets.frames import Frame
from markets.problems import Problems
from markets.recording import Recording
from markets.simulator.world import World
from markets.simulator.world import frames as world_frames

BREATH = 50  # frames without a pause after which other tasks get a turn


class Clock:
    """Receive times: unix ns that never stand still or step back."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last + 1, time.time_ns())
        return self._last


def simulated(*, seed: int, events: int, start: int) -> Iterator[Frame]:
    """Return the frames of a simulated venue whose clock begins at `start` (unix ns)."""
    return world_frames(World(seed=seed, events=events, start=start))


def recorded(path: Path, *, problems: Problems) -> Iterator[Frame]:
    """Return the frames of a recording; raise `NotARecording` for another file."""
    return iter(Recording(path, problems=problems))


async def paced(frames: Iterator[Frame], *, speed: float, clock: Clock) -> AsyncIterator[Frame]:
    """Give each frame when it is due, stamped with the time it is given.

    `speed` 1 keeps the distances between frames, 5 makes them five times
    shorter. The first frame is due at once.
    """
    begun = clock.now()
    first: int | None = None
    for number, frame in enumerate(frames):
        first = frame.t if first is None else first
        wait = (frame.t - first) / speed - (clock.now() - begun)
        if wait > 0:
            await asyncio.sleep(wait / 1e9)
        elif number % BREATH == 0:
            await asyncio.sleep(0)
        yield msgspec.structs.replace(frame, t=clock.now())
