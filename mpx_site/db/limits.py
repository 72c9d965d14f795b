"""How long one statement of a page may take, so that a slow query ends with a page that says so.

What comes by HTTP is a page; what asks otherwise (the stream, jobs, commands) has no limit here.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings
from django.db import connections

EXPORT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks the database: whether it waits behind others, and its statements' time in ms."""

    page: bool = False
    limit_ms: int | None = None


_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)


def asker() -> Asker:
    return _asker.get() or Asker()


@contextmanager
def ahead() -> Iterator[None]:
    """Let what asks meanwhile not wait behind pages: a probe that waits tells nothing."""
    with _asking(replace(asker(), page=False)):
        yield


@contextmanager
def patient(seconds: int = EXPORT_SECONDS) -> Iterator[None]:
    """Give statements more time where a page has a limit at all."""
    now = asker()
    with _asking(now if now.limit_ms is None else replace(now, limit_ms=seconds * 1_000)):
        yield


@contextmanager
def _asking(who: Asker) -> Iterator[None]:
    before = _asker.set(who)
    try:
        _heed()
        yield
    finally:
        _asker.reset(before)
        _heed()


def _heed() -> None:
    """Let connections that are open already have the limit of who asks now."""
    for connection in connections.all(initialized_only=True):
        if heed := getattr(connection, "heed_limit", None):
            heed()


class Pages:
    """An ASGI application of which everything that comes by HTTP is a page."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        seconds = settings.MPX_PAGE_QUERY_SECONDS
        _asker.set(Asker(page=True, limit_ms=seconds * 1_000 or None))
        await self._application(scope, receive, send)
