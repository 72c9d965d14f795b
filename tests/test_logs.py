"""Log lines: one record one line, secrets masked wherever they stand, one id from end to end."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from celery.signals import before_task_publish
from django.test import Client
from django.utils import timezone

from alerts import delivery, trace
from alerts.models import AuditEntry, FeedEntry, OutboxEntry
from mpx_site.celery import app
from mpx_site.logs import Lines
from mpx_site.secret_words import MASK, masked
from signals import store
from tests import canary
from tests.live_cast import run_live, simulated
from tests.servers import ROOT, settings_for
from tests.test_signal_store import KEY, opened, rule  # noqa: F401 - a fixture

SECRET = canary.settings()["ADMIN_API_TOKEN"]
PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"
log = structlog.stdlib.get_logger("tests.logs")


class Written:
    """What the desk's handler writes, as text and line by line."""

    def __init__(self, form: str) -> None:
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(Lines(form))

    @property
    def text(self) -> str:
        return self._text.getvalue()

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    into = Written(getattr(request, "param", "json"))
    logging.getLogger().addHandler(into.handler)
    yield into
    logging.getLogger().removeHandler(into.handler)


both = pytest.mark.parametrize("written", ["json", "text"], indirect=True)


def failing(text: str) -> None:
    raise ValueError(text)


# --- a line ------------------------------------------------------------------------------------


def test_line_names_when_who_and_what(written):
    with trace.tracing(PARENT):
        log.warning("book.stale", market_id="m1", age_seconds=3)

    (line,) = written.lines
    assert str(line.pop("ts")).endswith("Z") and line.pop("component")
    assert line == {
        "level": "warning",
        "logger": "tests.logs",
        "event": "book.stale",
        "trace_id": PARENT,
        "market_id": "m1",
        "age_seconds": 3,
    }


def test_library_goes_the_same_way(written):
    with trace.tracing(PARENT):
        logging.getLogger("library").error("went %s", "wrong")

    (line,) = written.lines
    assert (line["event"], line["level"], line["trace_id"]) == ("went wrong", "error", PARENT)


@both
def test_no_text_forges_a_line(written):
    forged = 'ok\n{"level":"info","event":"forged"}\r\x1b[2K\u2028\u202e'

    logging.getLogger("library").warning("title %s", forged)
    log.warning("title.seen", title=forged)

    assert len(written.text.splitlines()) == 2
    assert not set(written.text) & set("\r\x1b\u2028\u202e")


def test_text_keeps_an_exception_below_its_line():
    written = Written("text")
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "it failed", (), None)
    try:
        failing("first\n2026-11-24T00:00:00.000Z INFO forged")
    except ValueError:
        record.exc_info = sys.exc_info()

    written.handler.handle(record)

    head, *below = written.text.splitlines()
    assert head.endswith("ERROR    x it failed")
    assert below and all(line.startswith("    | ") for line in below)


# --- secrets -----------------------------------------------------------------------------------


@both
def test_secret_is_masked_in_every_form(written):
    told = logging.getLogger("library")
    told.warning("in a message %s", SECRET)
    log.warning("in.a_field", value=SECRET)
    log.warning("in.a_key", **{SECRET: 1})
    log.warning(
        "in.something", nested={"a": [{"b": (SECRET, SECRET.encode())}]}, error=OSError(SECRET)
    )
    try:
        failing(f"no way to {SECRET}")
    except ValueError:
        told.exception("in a traceback")
        log.exception("in.a_traceback")

    assert SECRET not in written.text
    assert written.text.count(MASK) >= 8


@pytest.mark.parametrize("secret", ['a"b\\c/secret', "p@ss word&<more>", "geheim-ü-12345"])
@both
def test_secret_of_any_characters_is_masked(written, settings, secret):
    settings.ADMIN_API_TOKEN = secret

    log.warning("a.field", value=secret, where=f"postgres://x/{secret}", of=[OSError(secret)])

    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert form not in written.text


@pytest.mark.parametrize(
    "text",
    [
        "POST https://api.telegram.org/bot123456789:AAF-abcdefghijklmnopqrstuvwxyz0123/getMe",
        "Bearer mpx_ab12cd34_0123456789abcdefghijklmn",
        "redis://:pass@127.0.0.1:6379/0",
        "postgres://mpx:pass@db/mpx",
    ],
)
def test_what_looks_like_a_secret_is_masked_though_no_setting_has_it(text):
    assert MASK in masked(text)
    assert "AAF-abc" not in masked(text) and "pass@" not in masked(text)
    assert "0123456789abcdef" not in masked(text)


def test_line_that_cannot_be_written_names_its_logger_only(written, capsys):
    logging.getLogger("library").warning("%d", SECRET)

    (line,) = written.lines
    assert (line["event"], line["logger"]) == ("log.unwritable", "library")
    assert SECRET not in written.text + capsys.readouterr().err


def test_what_ends_a_process_is_logged_without_secrets(tmp_path):
    code = (
        "import django; django.setup()\n"
        "from threading import Thread\n"
        "from django.conf import settings\n"
        "def fail(): raise OSError('no ' + settings.ADMIN_API_TOKEN)\n"
        "thread = Thread(target=fail, name='poller'); thread.start(); thread.join()\n"
        "fail()\n"
    )
    env = settings_for(tmp_path, DJANGO_SETTINGS_MODULE="mpx_site.settings")

    ended = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["thread.failed", "process.failed"]
    assert ended.returncode == 1
    assert all("OSError: no [secret]" in line["exception"] for line in lines)


def test_worker_and_beat_leave_the_handler_alone():
    root = logging.getLogger()
    before = list(root.handlers)

    assert app.log.setup_logging_subsystem(loglevel="DEBUG")
    assert root.handlers == before


@pytest.mark.parametrize("debug", [True, False])
def test_error_page_tells_no_secret(client, settings, debug, written):
    settings.DEBUG = debug
    client.raise_request_exception = False
    settings.LOGIN_URL = "no-such-name-" + SECRET  # reversing it fails, and names it

    response = client.get("/")

    assert response.status_code == 500
    assert SECRET not in response.content.decode() + written.text
    trace_id = response["X-Trace-Id"]
    assert any(line["level"] == "error" and line["trace_id"] == trace_id for line in written.lines)
    if not debug:
        assert trace_id in response.content.decode()


# --- one id from end to end --------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"00-{PARENT}-00f067aa0ba902b7-01", True),
        (f"00-{PARENT.upper()}-00f067aa0ba902b7-01", False),
        (f"ff-{PARENT}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{PARENT}-00f067aa0ba902b7-01\n", False),
        ("nonsense", False),
    ],
)
def test_request_goes_on_under_its_callers_id(sent, kept):
    answered = Client().get("/api/v1/signals", headers={"traceparent": sent})

    told = answered["X-Trace-Id"]
    assert (told == PARENT) is kept
    assert len(told) == 32 and int(told, 16)
    assert answered.json()["trace_id"] == told
    assert trace.current() == ""


@pytest.mark.django_db
def test_request_that_changes_something_is_a_line(written):
    answered = Client().post("/api/v1/signals", {"token": SECRET})

    (line,) = written.of("request.done")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/signals", 401)
    assert line["trace_id"] == answered["X-Trace-Id"]


def test_task_goes_on_under_the_id_of_who_asked_for_it():
    seen: list[str] = []

    @app.task(name="tests.trace_of_task", ignore_result=True)
    def note() -> None:
        seen.append(trace.current())

    headers: dict[str, object] = {}
    with trace.tracing(PARENT):
        before_task_publish.send("tests.trace_of_task", headers=headers)
    note.apply(headers=headers)
    note.apply()

    assert seen[0] == PARENT
    assert seen[1] not in ("", PARENT)
    assert trace.current() == ""


@pytest.mark.django_db(transaction=True)
def test_one_id_leads_from_a_signal_to_its_alert(written, rule):  # noqa: F811
    store.save([opened(rule)])
    delivery.deliver(at=timezone.now())

    events = [line["event"] for line in written.lines if line.get("trace_id") == KEY]
    assert events == ["signal.opened", "alert.queued", "alert.dry_run", "alert.sent"]
    told = (AuditEntry.objects.latest("id").data, FeedEntry.objects.latest("id").payload)
    assert {each["trace_id"] for each in told} == {KEY}
    assert OutboxEntry.objects.latest("id").payload["trace_id"] == KEY


def test_frame_that_began_a_signal_is_named_under_its_id(written, tmp_path):
    run_live(tmp_path / "r.jsonl", feed=simulated(seconds=15))

    found = written.of("frame.found")
    assert found
    for line in found:
        assert line["t"] and line["channel"] in ("ws", "clob", "gamma")
        assert len(str(line["trace_id"])) == 32
