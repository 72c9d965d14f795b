"""A connection that never lives long, and a venue whose clock is wrong (N9, K2).

N9 has a tenth of a desk's patience here, so its six seconds stand for a minute.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.frames import CLOSED, OPENED, Frame
from markets.polymarket.turns import Turns
from markets.polymarket.ws import Patience, Shard
from signals.live import Live
from tests.faults.proxy import Proxy, proxied
from tests.servers import wait_for
from tests.test_quiet_or_dead import data_seconds, follow, fresh_books
from tests.venue import mock_venue

LIVES, LASTS, MINUTE = 0.3, 9.0, 6.0
PATIENCE = Patience(
    backoff_from=0.025, reset_to=0.5, unreachable_to=0.3, healthy_after=6.0, minute=MINUTE
)
MOST_A_MINUTE = 12
Cut = Callable[[Shard, Proxy], Awaitable[None]]


async def after_it_lived(shard: Shard, wire: Proxy) -> None:
    """Cut a connection when it has lived for so long."""
    await asyncio.sleep(0.02)
    if shard.open:
        await asyncio.sleep(LIVES)
        wire.reset()


async def by_a_clock(shard: Shard, wire: Proxy) -> None:
    """Cut whatever there is at each stroke of a clock."""
    await asyncio.sleep(LIVES)
    wire.reset()


async def at_once(shard: Shard, wire: Proxy) -> None:
    """Cut a connection as soon as it is open."""
    await asyncio.sleep(0.005)
    if shard.open:
        wire.reset()


@pytest.mark.parametrize("cut", [after_it_lived, by_a_clock, at_once])
def test_connection_is_opened_12_times_a_minute_at_most_whichever_clock_cuts_it(cut: Cut) -> None:
    frames: list[Frame] = []

    async def flap(url: str) -> None:
        shard = Shard(
            0, url, emit=frames.append, clock=time.time_ns, patience=PATIENCE, rng=random.Random(7)
        )
        running = asyncio.create_task(shard.run())
        end = time.monotonic() + LASTS
        while time.monotonic() < end:
            await cut(shard, wire)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with mock_venue(events=2) as venue, proxied(venue.port) as wire:
        asyncio.run(flap(f"ws://127.0.0.1:{wire.port}/ws/market"))
        tries = wire.connections

    opened = [frame.t / 1e9 for frame in frames if frame.req == OPENED]
    closed = [frame for frame in frames if frame.req == CLOSED]
    assert 6 <= tries <= math.ceil(LASTS / MINUTE) * MOST_A_MINUTE
    assert most_within(opened, MINUTE) <= MOST_A_MINUTE
    assert len(closed) >= tries - 1  # each is told, so each is a gap


def most_within(times: Sequence[float], span: float) -> int:
    """Return how many of the times lie in the fullest span; a millisecond is no clock's fault."""
    return max(sum(0 <= each - start < span - 0.001 for each in times) for start in times)


@given(st.lists(st.floats(0, 20), min_size=40, max_size=40), st.integers(1, 4))
def test_turns_bound_one_connection_and_all_of_a_process(lives: list[float], number: int) -> None:
    everybody: list[Turns] = []
    each = [Turns(everybody, 60.0) for _ in range(number)]
    now = [0.0] * number
    opened: list[list[float]] = [[] for _ in each]
    for life in lives:
        mine = min(range(number), key=lambda which: now[which])
        while (wait := each[mine].wait(now[mine])) > 0:
            now[mine] += wait
            mine = min(range(number), key=lambda which: now[which])
        each[mine].take(now[mine])
        opened[mine].append(now[mine])
        now[mine] += life

    for times in opened:
        assert not times or most_within(times, 60.0) <= 12
    assert most_within([time for times in opened for time in times], 60.0) <= 2 * number + 10


def test_process_that_loses_all_its_connections_at_once_has_them_back_at_once() -> None:
    everybody: list[Turns] = []
    each = [Turns(everybody, 60.0) for _ in range(100)]
    for moment in (0.0, 5.0):
        for turns in each:
            assert turns.wait(moment) == 0
            turns.take(moment)


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
