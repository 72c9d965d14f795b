"""How a log line is written: one record, one line, no secret in it, whoever logged it.

Servers write JSON, a person at a terminal gets text (`LOG_FORMAT`). Our own lines come from
structlog as a constant event and fields; those of libraries go through the same processors.
"""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from mpx_site.secret_words import masked

DEEPEST: Final = 6  # levels of a field's value; what lies deeper is written as text
FIRST: Final = ("ts", "level", "logger", "event", "trace_id", "component")
FOLDED: Final = ("exception", "stack")  # of many lines; in text they stand below the line
SERVERS: Final = {"celery": "worker", "daphne": "web"}

log = structlog.stdlib.get_logger(__name__)


def configure(settings: dict[str, Any]) -> None:
    """Set up all logging of this process (Django's LOGGING_CONFIG)."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_COMMON,
            structlog.processors.format_exc_info,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(settings)
    sys.excepthook = _ended_by
    threading.excepthook = _thread_ended_by


_COMMON: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
]


class Lines(ProcessorFormatter):
    """Writes a record as one line of JSON, or as `text` for people."""

    def __init__(self, form: str = "json") -> None:
        super().__init__(
            processors=[_stamp, _mask, _as_text if form == "text" else _as_json],
            foreign_pre_chain=[*_COMMON, structlog.processors.format_exc_info],
        )

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. One that cannot be is named, not shown: what is in it is not known."""
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001  (a log line never stops what it tells of)
            why = {"why": type(error).__name__, "logger": record.name, "file": record.pathname}
            return json.dumps({"level": "error", "event": "log.unwritable", **why})


def component() -> str:
    """Return what this process is: a command's name, `worker`, `beat` or `web`."""
    program, *words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    if program == "manage.py" and words:
        return words[0]
    named = [word for word in words if word in ("worker", "beat")]
    return named[0] if named else SERVERS.get(program, program)


def _stamp(_logger: Any, _name: str, told: EventDict) -> EventDict:
    record: logging.LogRecord = told.pop("_record")
    told.pop("_from_structlog")
    at = datetime.fromtimestamp(record.created, UTC)
    told["ts"] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told["component"] = component()
    first = {key: told.pop(key) for key in FIRST if key in told}
    return {**first, **told}


def _mask(_logger: Any, _name: str, told: EventDict) -> EventDict:
    return {masked(str(key)): _plain(value, DEEPEST) for key, value in told.items()}


def _plain(value: object, depth: int) -> object:
    """Return a value as JSON has it, without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {masked(str(key)): _plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    return masked(value if isinstance(value, str) else _told(value))


def _told(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (a broken __str__ must not cost the line)
        return f"<{type(value).__name__}>"


def _as_json(_logger: Any, _name: str, told: EventDict) -> str:
    """Write one line: JSON escapes every line break and every character that is not ASCII."""
    return json.dumps(told, separators=(",", ":"))


def _as_text(_logger: Any, _name: str, told: EventDict) -> str:
    head = f"{told.pop('ts')} {told.pop('level').upper():8} {told.pop('logger')}"
    event = _visible(str(told.pop("event")))
    folded = [str(told.pop(key)) for key in FOLDED if told.get(key)]
    told.pop("component")
    fields = [f"{_visible(key)}={_worded(value)}" for key, value in told.items()]
    below = [f"    | {_visible(line)}" for text in folded for line in text.splitlines()]
    return "\n".join([" ".join([head, event, *fields]), *below])


def _worded(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    bare = text and not set(text) & set(" =\"'")
    return _visible(text if bare or not isinstance(value, str) else json.dumps(text))


def _visible(text: str) -> str:
    """Escape what breaks a line, turns its direction or moves a terminal's cursor."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _ended_by(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("process.failed", exc_info=(kind, error, trace))


def _thread_ended_by(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return
    name = args.thread.name if args.thread else ""
    told = (args.exc_type, args.exc_value, args.exc_traceback)
    log.critical("thread.failed", thread=name, exc_info=told)
