"""One id from what begins something to all that it leads to: log lines, audit, feed, alerts.

An id is 32 hex digits, as in W3C's `traceparent`. A signal's id is its key, which is made of
its rule, its legs and the frame that it was first seen in: so the hot path makes none.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

FIELD = "trace_id"


def new_id() -> str:
    return secrets.token_hex(16)


def current() -> str:
    """Return the id of what is under way; "" where nothing has begun."""
    return str(structlog.contextvars.get_contextvars().get(FIELD, ""))


@contextmanager
def tracing(trace_id: str, **fields: object) -> Iterator[None]:
    """Give all that is logged and written down inside this id, and these fields to its lines."""
    with structlog.contextvars.bound_contextvars(**{FIELD: trace_id}, **fields):
        yield


def traced(data: dict[str, Any]) -> dict[str, Any]:
    """Return data with the id of what is under way, if there is one and it names none."""
    trace_id = current()
    return {FIELD: trace_id, **data} if trace_id else data
