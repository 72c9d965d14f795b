"""What a check says, and the plain words for why something cannot be reached."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

State = Literal["ok", "warn", "fail"]
MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check saw. `todo` is one line, "" where nothing is to be done.

    `unreachable`: it failed because something that MPX depends on gives no usable answer.
    """

    state: State
    text: str
    todo: str = ""
    unreachable: bool = False


def ok(text: str) -> Seen:
    return Seen("ok", text)


def warn(text: str, todo: str) -> Seen:
    return Seen("warn", text, todo)


def fail(text: str, todo: str, *, unreachable: bool = False) -> Seen:
    return Seen("fail", text, todo, unreachable)


def first_line(error: BaseException) -> str:
    """Return an error's first line, fit to be shown."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return "".join(char if char.isprintable() else "?" for char in line)[:MOST_TEXT]


def why_unreachable(error: BaseException) -> str:
    """Say why no connection came about, by what lies under the error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"no trusted connection (TLS: {_tls_reason(cause)})"
        if isinstance(cause, socket.gaierror):
            return "its name is not found (DNS)"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(cause, TimeoutError):
            return "no answer within the time allowed"
    return first_line(error)


def _tls_reason(error: ssl.SSLError) -> str:
    told = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    return str(told or "failed").lower().replace("_", " ")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


def span(time: timedelta) -> str:
    """Return a length of time as one number and its unit."""
    seconds = time.total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
