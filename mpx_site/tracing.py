"""Where a trace begins: with a request or with a task; `alerts.trace` has what it is.

A caller's own id is taken over (W3C Trace Context, `traceparent`), and each answer names it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final

import structlog
from asgiref.sync import iscoroutinefunction
from celery.signals import before_task_publish, task_postrun, task_prerun
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from alerts import trace

HEADER: Final = "X-Trace-Id"
TASK_HEADER: Final = "mpx_trace"
# version, trace id, span id, flags; all zeros is no id, and version ff is none
_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
SAFE: Final = ("GET", "HEAD", "OPTIONS")

log = structlog.stdlib.get_logger(__name__)
_Answer = Callable[[HttpRequest], HttpResponseBase]
_Promise = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def traced(get_response: Any) -> Any:
    """Give each request an id, and a line in the log: reads at DEBUG, all else at INFO."""
    return _promised(get_response) if iscoroutinefunction(get_response) else _answered(get_response)


def _answered(get_response: _Answer) -> _Answer:
    def answer(request: HttpRequest) -> HttpResponseBase:
        begun = time.monotonic()
        with trace.tracing(_id_for(request)):
            return _done(request, get_response(request), begun)

    return answer


def _promised(get_response: _Promise) -> _Promise:
    async def answer(request: HttpRequest) -> HttpResponseBase:
        begun = time.monotonic()
        with trace.tracing(_id_for(request)):
            return _done(request, await get_response(request), begun)

    return answer


def _id_for(request: HttpRequest) -> str:
    sent = _PARENT.fullmatch(request.headers.get("traceparent", ""))
    return sent.group(1) if sent else trace.new_id()


def _done(request: HttpRequest, response: HttpResponseBase, begun: float) -> HttpResponseBase:
    response.headers[HEADER] = trace.current()
    say = log.debug if request.method in SAFE and response.status_code < 500 else log.info
    say(
        "request.done",
        method=request.method,
        path=request.path,
        status=response.status_code,
        user=_name_of(request),
        duration_ms=round((time.monotonic() - begun) * 1_000),
    )
    return response


def _name_of(request: HttpRequest) -> str:
    """Return who asked, if a view wanted to know; the log line asks no database."""
    user = getattr(request, "_cached_user", None)
    return user.get_username() if user is not None else ""


_running: dict[str, ExitStack] = {}  # by task id


def _hand_over(headers: dict[str, Any], **_: Any) -> None:
    """Let a task go on under the id of what asked for it."""
    if trace.current():
        headers[TASK_HEADER] = trace.current()


def _begin_task(task_id: str, task: Any, **_: Any) -> None:
    asked = task.request.get(TASK_HEADER) or (task.request.headers or {}).get(TASK_HEADER)
    _running[task_id] = ExitStack()
    _running[task_id].enter_context(trace.tracing(asked or trace.new_id(), task=task.name))


def _end_task(task_id: str, **_: Any) -> None:
    if task_id in _running:
        _running.pop(task_id).close()


before_task_publish.connect(_hand_over)
task_prerun.connect(_begin_task)
task_postrun.connect(_end_task)
