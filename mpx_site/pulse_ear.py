"""What hears the pulse in a web process: the end of its way through the desk."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from markets.connections import drop_dead_connections
from mpx_site import feed_wake
from signals import pulse_rows

log = structlog.stdlib.get_logger(__name__)

PATIENCE_SECONDS: Final = 1.0  # without being woken
APART_SECONDS: Final = 0.1  # between two looks, however much is told
RETRY_SECONDS: Final = 2.0


class Ear:
    """Hears the feed as the hub does: woken by whoever wrote, by Redis, or by its own patience."""

    def __init__(self) -> None:
        self.heard = 0
        self._woken = threading.Event()
        self._halt = threading.Event()
        self._news: Any = None
        self._thread = threading.Thread(target=self._run, name="pulse ear", daemon=True)

    def start(self) -> Ear:
        feed_wake.begin(self)
        self._thread.start()
        return self

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._halt.set()
        self._woken.set()
        self._thread.join(PATIENCE_SECONDS + RETRY_SECONDS)

    def listen_once(self) -> bool:
        """Take note of a pulse that came; say whether one did."""
        entry = pulse_rows.newest_after(self.heard)
        if entry is None:
            return False
        pulse_rows.heard(entry, at=timezone.now())
        self.heard = entry.seq
        return True

    def _run(self) -> None:
        while not self._halt.is_set():
            drop_dead_connections()
            try:
                self.listen_once()
            except (DatabaseError, InterfaceError) as error:
                log.warning("pulse.no_database", error=str(error))
                self._halt.wait(RETRY_SECONDS)
            except Exception:  # whatever it is, the next one may be heard
                log.exception("pulse.unheard")
                self._halt.wait(RETRY_SECONDS)
            self._wait()
            self._halt.wait(APART_SECONDS)
        connections.close_all()

    def _wait(self) -> None:
        """Wait for news, but not for long: what wakes may be away."""
        if not settings.REDIS_URL:
            self._woken.wait(PATIENCE_SECONDS)
            self._woken.clear()
            return
        try:
            self._hear_redis()
        except (redis.RedisError, OSError):
            self._news = None
            self._halt.wait(PATIENCE_SECONDS)

    def _hear_redis(self) -> None:
        if self._news is None:
            client = redis.Redis.from_url(
                settings.REDIS_URL, socket_connect_timeout=PATIENCE_SECONDS, socket_timeout=5
            )
            self._news = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            self._news.subscribe(feed_wake.CHANNEL)
        self._news.get_message(timeout=PATIENCE_SECONDS)


_lock = threading.Lock()
_ears: dict[int, Ear] = {}  # by process


def listen() -> None:
    """Hear the pulse from now on in this process; cheap to call again."""
    if not settings.MPX_PULSE_SECONDS or os.getpid() in _ears:
        return
    with _lock:
        if os.getpid() not in _ears:
            _ears[os.getpid()] = Ear().start()


class Listening:
    """An ASGI application whose process hears the pulse, from its first request on."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        listen()
        await self._application(scope, receive, send)
