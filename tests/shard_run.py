"""A stream process over a simulated venue whose time goes as fast as it can: for tests.

    python -m tests.shard_run SHARDS SEED SECONDS

It is `stream` itself, but for its source and its clock: the venue begins at a time of its own,
the same in every process, and frames are taken as soon as they can be.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import django

django.setup()

from markets.books import Books  # noqa: E402
from markets.frames import Frame  # noqa: E402
from markets.simulator import World, frames  # noqa: E402
from signals import running  # noqa: E402
from signals.commands import run_until_stopped  # noqa: E402
from signals.share import Share  # noqa: E402
from signals.sharing import Sharing  # noqa: E402
from signals.sieve import Sieve  # noqa: E402
from signals.sources import Take  # noqa: E402
from tests.live_cast import START  # noqa: E402

SECOND = 1_000_000_000
BREATH = 200


class VenueClock:
    """The time of the frame that was taken last."""

    def __init__(self) -> None:
        self.t = START

    def now(self) -> int:
        return self.t


@dataclass
class Hurried:
    """Gives frames as they are, without a pause."""

    told: Iterator[Frame]
    clock: Any

    async def run(self, take: Take) -> None:
        for number, frame in enumerate(self.told):
            self.clock.t = max(self.clock.t, frame.t)
            take(frame)
            if number % BREATH == 0:
                await asyncio.sleep(0)

    def confirm(self, event_id: str) -> None: ...

    def vital_signs(self) -> dict[str, object]:
        return {}


def main(shards: int, seed: int, seconds: int) -> int:
    def source_of(name: str, *, clock: Any, books: Books, share: Share) -> Hurried:
        world = World(seed=seed, events=20, start=START, plant_every=3, decoy_every=2)
        told = frames(world, until=START + seconds * SECOND)
        return Hurried(told if share.alone else map(Sieve(share), told), clock)

    vars(running).update(source_of=source_of, Clock=VenueClock)
    sharing = Sharing(shards, lambda share: running.LiveThread("mock", share=share))
    run_until_stopped(sharing, seconds=None)
    return 1 if sharing.failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
