"""Telling hubs that there is something new: in this process at once, in others through Redis.

Without Redis, and while it is away, other processes find it when they poll.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import Protocol

import redis
import redis.asyncio
import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_save

from alerts.models import FeedEntry

log = structlog.stdlib.get_logger(__name__)

CHANNEL = "mpx.feed.wake"
TIMEOUT_SECONDS = 1.0
RETRY_SECONDS = 2.0


class Wakeable(Protocol):
    def wake(self) -> None: ...


_hubs: weakref.WeakSet[Wakeable] = weakref.WeakSet()


def begin(hub: Wakeable) -> None:
    """Wake this hub from now on."""
    _hubs.add(hub)


def wake_all() -> None:
    """Wake the hubs of this process and, where there is Redis, those of the others."""
    for hub in tuple(_hubs):
        hub.wake()
    if settings.REDIS_URL:
        _announcer().poke()


def _wake_after_commit(*, using: str, **_: object) -> None:
    transaction.on_commit(wake_all, using=using)


post_save.connect(_wake_after_commit, sender=FeedEntry, dispatch_uid="feed.wake")


class Announcer:
    """Publishes from a thread of its own: no writer ever waits for Redis."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._poked = threading.Event()
        threading.Thread(target=self._run, name="feed announcer", daemon=True).start()

    def poke(self) -> None:
        self._poked.set()  # many before it is heard are one

    def _run(self) -> None:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
        )
        while self._poked.wait():
            self._poked.clear()
            try:
                client.publish(CHANNEL, b"")
            except redis.RedisError as error:
                log.warning("feed.not_announced", error=type(error).__name__)
                threading.Event().wait(RETRY_SECONDS)


_lock = threading.Lock()
_running: list[Announcer] = []


def _announcer() -> Announcer:
    """Return this process's announcer; a forked worker has its parent's in name only."""
    with _lock:
        if not _running or _running[0].pid != os.getpid():
            _running[:] = [Announcer()]
        return _running[0]


async def heed() -> None:
    """Wake this process's hubs whenever another process tells of something new."""
    while settings.REDIS_URL:
        try:
            await _listen()
        except (redis.RedisError, OSError) as error:
            log.warning("feed.not_heeding", error=type(error).__name__)
        await asyncio.sleep(RETRY_SECONDS)


async def _listen() -> None:
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client, client.pubsub() as news:
        await news.subscribe(CHANNEL)
        async for _ in news.listen():
            for hub in tuple(_hubs):
                hub.wake()
