"""How long one statement of a page may take, so that a slow query ends with a page that says so.

What comes by HTTP is a page; what asks otherwise (the stream, jobs, commands) has no limit here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings
from django.db import connections

from mpx_site.db.lanes import PATIENCE_SECONDS

EXPORT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks the database.

    A page waits behind others, all its waits `until` one moment (monotonic); None: each as
    long as it takes. Its statements have `limit_ms`; None: no limit of ours.
    """

    page: bool = False
    limit_ms: int | None = None
    until: float | None = None


def _page() -> Asker:
    limit_ms = settings.MPX_PAGE_QUERY_SECONDS * 1_000 or None
    return Asker(page=True, limit_ms=limit_ms, until=time.monotonic() + PATIENCE_SECONDS)


_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)


def asker() -> Asker:
    return _asker.get() or Asker()


@contextmanager
def ahead() -> Iterator[None]:
    """Let what asks meanwhile not wait behind pages: a probe that waits tells nothing."""
    with _asking(replace(asker(), page=False, until=None)):
        yield


@contextmanager
def patient() -> Iterator[None]:
    """Give the next step of an export its own time, where pages have a limit at all."""
    who = asker()
    if who.page and who.limit_ms is not None:
        who = replace(_page(), limit_ms=EXPORT_SECONDS * 1_000)
    with _asking(who):
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
        _asker.set(_page())
        await self._application(scope, receive, send)
