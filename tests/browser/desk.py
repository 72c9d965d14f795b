"""A small desk for browser tests: the real app on a port, with a few rows and orders by line.

`serve` wants Django set up and a fresh MPX_HOME. It says `ready`, then obeys lines on its
standard input and answers each with `done`: `open KEY`, `raise KEY` (P2, then P1), `close KEY`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from daphne.server import Server
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from mpx_site.asgi import application
from tests import portal_cast as cast

HOSTILE = '</bdi><script>alert(1)</script>"><img src=x onerror=alert(1)>' + "W" * 150


class Desk:
    """The rows, and what may be done to them while pages are open."""

    def __init__(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        cast.operator()
        self.view = cast.view_of(0.30, 0.30, 0.30, title="Who wins the cup?")
        self.active = cast.rule()
        self.finding = cast.finding_in(self.view)
        self._list()
        self.beat()

    def _list(self) -> None:
        now = timezone.now()
        hostile = cast.view_of(*[0.03] * 24, event_id="8", title=HOSTILE, augmented=True)
        for view in (self.view, hostile):
            cast.list_event(view)
            cast.quote(view, at=now)
        for number in range(11):
            self.open(f"first{number}")
        cast.tell("opened", cast.finding_in(hostile), self.active, key="hostile", at=now)
        self.close("first3")

    def open(self, key: str) -> None:
        cast.tell("opened", self.finding, self.active, key=key, at=timezone.now())

    def lift(self, key: str) -> None:
        now, thin = timezone.now(), replace(self.finding, verdict="THIN")
        cast.tell("opened", thin, self.active, key=key, at=now)
        cast.tell("updated", self.finding, self.active, key=key, at=timezone.now(), opened_at=now)

    def close(self, key: str) -> None:
        now = timezone.now()
        cast.tell("closed", self.finding, self.active, key=key, at=now, why="edge_gone")

    def beat(self) -> None:
        cast.beat(at=timezone.now())

    def obey(self) -> None:
        """Do what the lines say until there are no more, then end the process."""
        orders: dict[str, Callable[[str], None]] = {
            "open": self.open,
            "raise": self.lift,
            "close": self.close,
        }
        for line in sys.stdin:
            order, _, word = line.strip().partition(" ")
            orders[order](word)
            say("done")
        connections.close_all()
        os._exit(0)

    def keep_beating(self) -> None:
        while True:
            time.sleep(1)
            self.beat()


def serve(port: int) -> None:
    desk = Desk()
    connections.close_all()
    for work in (desk.obey, desk.keep_beating):
        threading.Thread(target=work, daemon=True).start()
    endpoint = f"tcp:port={port}:interface=127.0.0.1"
    ready = partial(say, "ready")
    Server(application, endpoints=[endpoint], verbosity=0, ready_callable=ready).run()


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
