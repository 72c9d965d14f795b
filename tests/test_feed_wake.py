"""Hubs of other processes are woken through Redis, and without it nothing waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mpx_site import feed_wake
from tests.servers import CannotStart, Redis


class Hearer:
    """A hub that counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    try:
        redis = Redis().start()
    except CannotStart as why:
        pytest.skip(str(why))
    yield redis
    redis.stop()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_wake, "_running", [])
    monkeypatch.setattr(feed_wake, "RETRY_SECONDS", 0.1)


async def poked(announcer: feed_wake.Announcer, hearer: Hearer, *, seconds: float = 10) -> None:
    """Poke until it is heard: a subscription takes a moment."""
    before = hearer.woken
    async with asyncio.timeout(seconds):
        while hearer.woken == before:
            announcer.poke()
            await asyncio.sleep(0.05)


async def test_poke_is_heard_through_redis_also_after_it_was_away(
    server: Redis, settings: Any
) -> None:
    settings.REDIS_URL = server.url
    hearer, announcer = Hearer(), feed_wake.Announcer()
    feed_wake.begin(hearer)
    heeding = asyncio.create_task(feed_wake.heed())
    try:
        await poked(announcer, hearer)
        await asyncio.to_thread(server.stop)
        announcer.poke()
        await asyncio.to_thread(server.start)
        await poked(announcer, hearer)
    finally:
        heeding.cancel()
        await asyncio.gather(heeding, return_exceptions=True)


def test_writer_never_waits_for_a_redis_that_is_away(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    hearer = Hearer()
    feed_wake.begin(hearer)
    begun = time.monotonic()

    for _ in range(100):
        feed_wake.wake_all()

    assert time.monotonic() - begun < 0.5
    assert hearer.woken == 100


def test_without_redis_there_is_no_announcer(settings: Any) -> None:
    settings.REDIS_URL = ""
    feed_wake.wake_all()

    assert feed_wake._running == []
    asyncio.run(asyncio.wait_for(feed_wake.heed(), 1))  # and nothing to heed
