"""The desk in the live path: `up` and `stream` fill what was approved, on the books of now."""

from __future__ import annotations

import http.cookiejar
import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from execution.desk import Desk
from markets.books import Books
from markets.problems import Problems
from mpx_site.desk import DeskFailed, LiveDesk
from tests.servers import manage, settings_for
from tests.test_up import Desk as Up
from tests.test_up import start

pytestmark = pytest.mark.timeout(180)


class Browser:
    """A person at the portal's address: cookies, CSRF, JSON."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.jar = http.cookiejar.CookieJar()
        self.opener = build_opener(HTTPCookieProcessor(self.jar))

    def login(self, password: str) -> None:
        page = self.opener.open(f"{self.base}/login/").read().decode()
        token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
        form = {"username": "operator", "password": password, "csrfmiddlewaretoken": token}
        self.opener.open(f"{self.base}/login/", urlencode(form).encode())

    def get(self, path: str) -> Any:
        with self.opener.open(f"{self.base}{path}", timeout=20) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any], *, key: str) -> Any:
        token = next(c.value for c in self.jar if c.name == "csrftoken")
        headers = {"Content-Type": "application/json", "X-CSRFToken": str(token),
                   "Referer": self.base, "Idempotency-Key": key}  # fmt: skip
        request = Request(f"{self.base}{path}", json.dumps(body).encode(), headers)
        try:
            with self.opener.open(request, timeout=20) as answer:
                return json.load(answer)
        except HTTPError as refusal:
            return json.load(refusal)


@pytest.fixture
def desks() -> Iterator[list[Up]]:
    started: list[Up] = []
    yield started
    for desk in started:
        if desk.process.poll() is None:
            desk.end(signal.SIGKILL)


def test_newcomer_walks_from_signal_to_fill_alone(desks: list[Up], tmp_path: Path) -> None:
    desk = start(desks, tmp_path)
    said = "".join(desk.said)
    operator = Browser(desk.port)
    operator.login(re.findall(r"password: (\S+)", said)[0])

    filled, deadline, tried = None, time.monotonic() + 90, 0
    while filled is None and time.monotonic() < deadline:
        for row in operator.get("/api/v1/signals?status=OPEN&page_size=20")["results"]:
            if row["level"] == "P3":
                continue
            tried += 1
            made = operator.post("/api/v1/intents", {"signal": row["key"]}, key=f"s{tried}")
            if made.get("status") != "SUGGESTED":
                continue
            signed = operator.post(
                f"/api/v1/intents/{made['intent']}/approve",
                {"plan_hash": made["plan_hash"]},
                key=f"a{tried}",
            )
            if signed.get("applied"):
                filled = _done(operator, made["intent"])
                break
        time.sleep(0.5)

    assert filled is not None, f"{tried} signals were tried"
    assert filled["single_operator"] is True
    assert {fill["book"]["basis"] for fill in filled["fills"]} <= {"frame", "quiet"}
    assert operator.get("/api/v1/risk")["single_operator"] is True
    assert "working" in _beat(desk)

    assert desk.end(signal.SIGINT) < 20
    errors = "".join(desk.errors)
    assert "Traceback" not in errors and "desk." not in errors, errors
    told = manage("invariants", "--json", env=settings_for(tmp_path))
    assert json.loads(told.stdout)["broken"] == [], told.stdout


def _done(operator: Browser, number: int) -> Any:
    """Wait until the desk is done with an order; return it if something was filled."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        intent = operator.get(f"/api/v1/intents/{number}")
        if intent["status"] not in ("SUGGESTED", "APPROVED"):
            return intent if intent["fills"] else None
        time.sleep(0.2)
    raise AssertionError(f"intent {number} was never answered: {intent}")


def _beat(desk: Up) -> Any:
    address = f"file:{desk.home / 'mpx.sqlite3'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=20)) as database:
        sql = "SELECT detail FROM alerts_heartbeat WHERE component = 'desk'"
        return json.loads(database.execute(sql).fetchone()[0])


def test_stream_beats_for_the_desk_and_ends_in_time(tmp_path: Path) -> None:
    env = settings_for(tmp_path)
    assert manage("migrate", env=env).returncode == 0

    ended = manage("stream", "--source", "mock", "--seconds", "8", env=env)

    assert ended.returncode == 0, ended.stderr
    told = manage("doctor", "--json", "--only", "stream,invariants", env=env)
    states = {each["name"]: each["state"] for each in json.loads(told.stdout)["checks"]}
    assert states["invariants"] == "ok", told.stdout
    with closing(sqlite3.connect(tmp_path / "mpx.sqlite3")) as database:
        names = {row[0] for row in database.execute("SELECT component FROM alerts_heartbeat")}
    assert {"stream", "desk"} <= names


# --- the observer --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_mistake_in_the_desk_ends_the_stream_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it moved while we held it")

    monkeypatch.setattr(Desk, "work", fail)
    watching = LiveDesk(Books(Problems()))

    deadline = time.monotonic() + 10
    with pytest.raises(DeskFailed, match="it moved while we held it"):
        while time.monotonic() < deadline:
            watching.on_time(1)
            time.sleep(0.05)
    watching.stop()
