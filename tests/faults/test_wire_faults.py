"""A connection that never lives long, and a venue whose clock is wrong (N9, K2).

The short form of N9 has a tenth of a desk's patience, so its six seconds stand for a minute.
"""

from __future__ import annotations

import asyncio
import random
import time

from markets.frames import CLOSED, Frame
from markets.polymarket.ws import Patience, Shard
from signals.live import Live
from tests.faults.proxy import proxied
from tests.servers import wait_for
from tests.test_quiet_or_dead import data_seconds, follow, fresh_books
from tests.venue import mock_venue

LIVES, LASTS = 0.3, 6.0
PATIENCE = Patience(backoff_from=0.025, reset_to=0.5, unreachable_to=0.3, healthy_after=6.0)
MOST_A_MINUTE = 12


def test_connection_that_lives_for_3_s_is_tried_12_times_a_minute_at_most() -> None:
    frames: list[Frame] = []

    async def flap(url: str) -> None:
        shard = Shard(
            0, url, emit=frames.append, clock=time.time_ns, patience=PATIENCE, rng=random.Random(7)
        )
        running = asyncio.create_task(shard.run())
        end = time.monotonic() + LASTS
        while time.monotonic() < end:
            await asyncio.sleep(0.02)
            if shard.open:
                await asyncio.sleep(LIVES)
                wire.reset()
                while shard.open:
                    await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with mock_venue(events=2) as venue, proxied(venue.port) as wire:
        asyncio.run(flap(f"ws://127.0.0.1:{wire.port}/ws/market"))
        tries = wire.connections

    closed = [frame for frame in frames if frame.req == CLOSED]
    assert 3 <= tries <= MOST_A_MINUTE
    assert len(closed) >= tries - 1  # each is told, so each is a gap


def test_venue_whose_clock_is_90_s_ahead_and_jumps_back_makes_nothing_older_or_younger() -> None:
    found: dict[str, list[float]] = {"age": [], "books": []}

    def look(live: Live) -> None:
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            found["age"].append(data_seconds(live))
            found["books"].append(fresh_books(live))
            time.sleep(0.05)

    def skew(live: Live) -> None:
        wait_for(lambda: fresh_books(live) > 10, seconds=30, what="fresh books")
        venue.fault("clock_skew")
        look(live)
        venue.clear()
        look(live)

    with mock_venue(events=4) as venue:
        asyncio.run(follow(venue, venue.port, skew))

    assert min(found["age"]) >= 0
    assert max(found["age"]) < 5
    assert min(found["books"]) >= 0.8 * max(found["books"])
