"""A desk as it really runs: database, Redis, web, stream, worker and beat, each to be killed.

Everything is private and on loopback. A part that is started logs into the desk's home.
"""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.bot_api import CHAT, TOKEN, BotApi
from tests.servers import (
    ROOT,
    Postgres,
    Redis,
    accepts,
    free_port,
    manage,
    settings_for,
    wait_for,
)

PASSWORD = "a-long-password-of-a-test"
PREPARE = """
import django
django.setup()
from datetime import UTC, datetime
from django.contrib.auth.models import User
from django.core.management import call_command
from rules.load import publish_missing
call_command("migrate", verbosity=0)
publish_missing(at=datetime.now(UTC))
User.objects.create_superuser("olga", password=PASSWORD)
"""
PARTS = {
    "web": ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", "{port}",
            "mpx_site.asgi:application"],
    "web2": ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", "{port2}",
             "mpx_site.asgi:application"],
    "stream": ["manage.py", "stream"],
    "stream2": ["manage.py", "stream"],
    "worker": ["-m", "celery", "-A", "mpx_site", "worker", "--concurrency=2"],
    "worker2": ["-m", "celery", "-A", "mpx_site", "worker", "--concurrency=2", "-n", "two@%h"],
    "beat": ["-m", "celery", "-A", "mpx_site", "beat"],
    "beat2": ["-m", "celery", "-A", "mpx_site", "beat"],
}  # fmt: skip
PROGRAMS = ("web", "stream", "worker", "beat")
GET_SECONDS = 20.0


class Person:
    """Somebody with a browser at the portal."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self._jar = http.cookiejar.CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._jar))

    @property
    def cookie(self) -> str:
        return "; ".join(f"{each.name}={each.value}" for each in self._jar)

    def login(self) -> None:
        _, page = self.get("/login/")
        token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[0]
        form = {"username": "olga", "password": PASSWORD, "csrfmiddlewaretoken": token}
        self.get("/login/", urlencode(form).encode())

    def get(self, path: str, data: bytes | None = None) -> tuple[int, str]:
        """Return status and body; status 0 while nobody answers."""
        return self.send(path, data, {})

    def send(self, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
        """Ask with headers of one's own; as `get`."""
        asked = Request(self.base + path, data, headers)
        try:
            with self._opener.open(asked, timeout=GET_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except (URLError, OSError):
            return 0, ""


@dataclass
class Desk:
    """`with Desk.up(home) as desk`: all parts run, the stream has signals, Olga is logged in."""

    home: Path
    postgres: Postgres
    redis: Redis
    bot: BotApi
    port: int = field(default_factory=free_port)
    port2: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def up(
        cls,
        home: Path,
        *,
        parts: Sequence[str] = PROGRAMS,
        disk: Path | None = None,
        **more: str,
    ) -> Iterator[Desk]:
        """Start the parts; `disk` is where the database keeps its data."""
        with contextlib.ExitStack() as stack:
            postgres = Postgres(disk).start()
            stack.callback(postgres.remove)
            redis = Redis().start()
            stack.callback(redis.stop)
            desk = cls(home, postgres, redis, stack.enter_context(BotApi()), more=more)
            stack.callback(desk.end)
            desk.prepare()
            for part in parts:
                desk.start(part)
            desk.wait_until_well()
            yield desk

    @property
    def env(self) -> dict[str, str]:
        ours = {
            "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "DATA_SOURCE": "mock",
            "SIMULATOR_EVENTS": "20",
            "TELEGRAM_ENABLED": "true",
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_CHAT_ID": CHAT,
            "TELEGRAM_API_URL": self.bot.url,
        }
        return settings_for(self.home, **{**ours, **self.more})

    def prepare(self) -> None:
        # As on any real server; ours is started with `off`, which may lose what it confirmed.
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute("alter database postgres set synchronous_commit = on")
        code = f"PASSWORD = {PASSWORD!r}\n{PREPARE}"
        subprocess.run([sys.executable, "-c", code], env=self.env, cwd=ROOT, check=True)
        if self.env["DATA_SOURCE"] == "real":
            listed = manage("catalogue", "sync", env=self.env)
            assert listed.returncode == 0, listed.stderr

    def start(self, part: str, *before: str) -> None:
        """Start a part; `before` is a program that starts it, with its options."""
        if part == "database":
            self.postgres.start()
        elif part == "redis":
            self.redis.start()
        else:
            words = [word.format(port=self.port, port2=self.port2) for word in PARTS[part]]
            with (self.home / f"{part}.log").open("ab") as log:
                self.processes[part] = subprocess.Popen(
                    [*before, sys.executable, *words],
                    env=self.env,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )

    def kill(self, part: str) -> None:
        """End a part without any warning; a worker with its children, as when memory is out."""
        process = self.process(part)
        if part == "database":
            process.send_signal(signal.SIGQUIT)  # as `pg_ctl stop -m immediate`
        else:
            for child in children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, signal.SIGKILL)
            process.kill()
        process.wait(20)

    def process(self, part: str) -> subprocess.Popen[bytes]:
        found = {"database": self.postgres.process, "redis": self.redis.process}.get(part)
        return found or self.processes[part]

    def is_alive(self, part: str) -> bool:
        return self.process(part).poll() is None

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 15
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- looking ---------------------------------------------------------------

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.url, connect_timeout=5) as connection:
            return connection.execute(sql, values).fetchall()

    def count(self, sql: str, *values: object) -> int:
        return int(self.rows(f"select count(*) from {sql}", *values)[0][0])

    def health(self) -> dict[str, Any]:
        """Return `/api/healthz`; empty while nobody answers."""
        status, body = Person(self.port).get("/api/healthz")
        return json.loads(body) if status in (200, 503) else {}

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        """Return a metric's samples of that very name by their labels' values."""
        _, body = Person(self.port).get("/metrics")
        families = text_string_to_metric_families(body)
        samples = [each for family in families for each in family.samples if each.name == name]
        return {tuple(each.labels.values()): each.value for each in samples}

    def wait_until_well(self, *, seconds: float = 90) -> None:
        wait_for(lambda: accepts(self.port), seconds=40, what="the portal")

        def well() -> bool:
            for part in self.processes:
                assert self.is_alive(part), self.log(part)
            found = self.health()
            all_there = {"stream", "desk", "worker", "beat", "broker", "pulse"} <= set(
                found.get("components", {})
            )
            return all_there and found["status"] == "ok"

        wait_for(well, seconds=seconds, what="a desk that is well")

    def log(self, part: str) -> str:
        return (self.home / f"{part}.log").read_text()[-4_000:]


def children(pid: int) -> list[int]:
    """Return handles on the processes that a process has started, and theirs."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += children(int(child))
                found.append(_handle(int(child)))
    return found


def _handle(pid: int) -> int:
    return os.pidfd_open(pid)


def seconds_until(look: Callable[[], bool], *, within: float, since: float) -> float | None:
    """Return how long after `since` (monotonic) something was true; None if it never was."""
    while time.monotonic() - since < within:
        if look():
            return round(time.monotonic() - since, 1)
        time.sleep(0.25)
    return None
