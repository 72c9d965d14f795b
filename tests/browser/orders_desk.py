"""A desk for browser tests of orders: people with roles, books that live, the paper venue.

`serve` wants what `tests.browser.desk` wants, and obeys `signal KEY`: an event that pays is
listed, followed and signalled.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial

from daphne.server import Server
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from execution.desk import DeskThread
from mpx_site.asgi import application
from tests import portal_cast as cast
from tests.browser.desk import HOSTILE, say
from tests.desk_cast import Venue, approver, trader

PACE = 0.2  # seconds from frame to frame


class LiveVenue(Venue):
    """The venue of the desk's tests at the time of the clock."""

    def send(self, body: bytes) -> None:
        self.at = time.time_ns() - 1_000_000
        super().send(body)


class Desk:
    """People, books, and what a test may order."""

    def __init__(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        for user in (trader("dana"), approver("avi"), approver("bo")):
            user.set_password(cast.PASSWORD)
            user.save()
        self.rule = cast.rule()
        self.venue = LiveVenue([])
        self.thread = DeskThread(self.venue.desk)
        self.lock = threading.Lock()
        self.events = 10
        self.signal("hostile", title=HOSTILE)
        self.beat()

    def signal(self, key: str, title: str = "") -> None:
        """Let an event pay: three YES of 30 cents each, 100 shares deep."""
        self.events += 1
        view = cast.view_of(
            0.30, 0.30, 0.30, event_id=str(self.events), title=title or f"Who wins {key}?"
        )
        cast.list_event(view)
        with self.lock:
            for market in view.markets:
                self.venue.markets[market.terms.market_id] = market.terms
                self.venue.books.add(market.terms)
            self.venue.at = time.time_ns()
            self.venue.open(view)
        cast.quote(view, at=timezone.now())
        cast.tell("opened", cast.finding_in(view), self.rule, key=key, at=timezone.now())

    def beat(self) -> None:
        cast.beat(at=timezone.now())

    def stream(self) -> None:
        """Send frames that change nothing that matters, as the stream's process would hear."""
        beaten = 0.0
        while True:
            time.sleep(PACE)
            with self.lock:
                self.venue.nudge()
                self.venue.desk.on_time(time.time_ns())
            if time.monotonic() - beaten > 1:
                beaten = time.monotonic()
                self.beat()

    def obey(self) -> None:
        for line in sys.stdin:
            order, _, word = line.strip().partition(" ")
            if order != "signal":
                raise ValueError(order)
            self.signal(word)
            say("done")
        connections.close_all()
        os._exit(0)


def serve(port: int) -> None:
    desk = Desk()
    connections.close_all()
    for work in (desk.obey, desk.stream):
        threading.Thread(target=work, daemon=True).start()
    desk.thread.start()
    endpoint = f"tcp:port={port}:interface=127.0.0.1"
    ready = partial(say, "ready")
    Server(application, endpoints=[endpoint], verbosity=0, ready_callable=ready).run()
