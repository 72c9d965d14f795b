"""A desk for browser tests of signals: some open on live books, many closed, some looked after.

`serve` wants what `tests.browser.desk` wants, and obeys `open KEY` and `touch KEY` (its edge
changes).
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from daphne.server import Server
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from mpx_site.asgi import application
from rules.dsl import read_rule
from rules.load import SHIPPED, publish
from rules.models import Rule
from signals import handling
from signals.models import Signal, SignalPoint, SignalStep
from tests import portal_cast as cast
from tests.browser.desk import HOSTILE, say
from tests.desk_cast import person, show
from tests.worlds import bids, event_view, fee, ladder, market_view

CLOSED = 300
LEVELS = ((0.30, 20), (0.305, 60), (0.32, 200), (0.34, 400))


def deep_view() -> Any:
    """Return an event of three outcomes with four levels of offers each."""
    markets = [
        market_view(
            1100 + number,
            ladder(*LEVELS),
            bids((0.27, 100)),
            fee=fee("0.04"),
            event_id="11",
            label=f"Outcome {number}",
            leg_number=number,
        )
        for number in range(3)
    ]
    return event_view(markets, event_id="11", title="Who wins the final?")


class Desk:
    def __init__(self) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        for name, role in (("dana", "trader"), ("vic", "viewer")):
            user = person(name, role)
            user.set_password(cast.PASSWORD)
            user.save()
        self.dana = person("dana")
        self.active = cast.rule()
        self.view = deep_view()
        self.finding = cast.finding_in(self.view)
        self._list()
        self.beat()

    def _list(self) -> None:
        now = timezone.now()
        hostile = cast.view_of(*[0.03] * 24, event_id="8", title=HOSTILE, augmented=True)
        for view in (self.view, hostile):
            cast.list_event(view)
            cast.quote(view, at=now)
        show(self.view, at=now)
        cast.tell("opened", cast.finding_in(hostile), self.active, key="hostile", at=now)
        self._close_many(now)
        for key in ("live1", "live2", "live3", "live4"):
            self.open(key)
        self._handle(now)

    def open(self, key: str) -> None:
        now = timezone.now()
        seen = cast.tell("opened", self.finding, self.active, key=key, at=now)
        self._points(seen, [500, 520, 480, 610, 590])

    def touch(self, key: str) -> None:
        now = timezone.now()
        finding = replace(self.finding, edge_bps=self.finding.edge_bps + 1)
        opened = Signal.objects.get(key=key).opened_at
        Signal.objects.filter(key=key).update(observations=1)
        cast.tell("updated", finding, self.active, key=key, at=now, opened_at=opened)

    def _points(self, signal: Signal, edges: list[int]) -> None:
        SignalPoint.objects.bulk_create(
            SignalPoint(
                signal=signal,
                at=signal.opened_at - timedelta(seconds=len(edges) - number),
                change="updated",
                level=signal.level,
                edge_bps=edge,
                profit=1,
            )
            for number, edge in enumerate(edges)
        )

    def _close_many(self, now: Any) -> None:
        """Close signals of two rules over a day: of all lifetimes, sizes and edges."""
        draw = random.Random(7)
        file = read_rule(SHIPPED / "cross_market_misprice.yaml")
        publish(file.definition, source=file.text, at=cast.START)
        rules = list(Rule.objects.order_by("code"))
        first = cast.tell("opened", self.finding, self.active, key="closed", at=now)
        rows = [self._closed(first, number, draw, rules, now) for number in range(CLOSED)]
        Signal.objects.bulk_create(rows)
        Signal.objects.filter(pk=first.pk).update(
            status="CLOSED", closed_at=now, close_reason="edge_gone"
        )
        self._points(first, [300, 420, 280])

    def _closed(self, like: Signal, number: int, draw: Any, rules: list[Rule], now: Any) -> Signal:
        closed = now - timedelta(seconds=draw.uniform(60, 86_000))
        rule = draw.choice(rules)
        edge = Decimal(round(10 ** draw.gauss(1.9, 0.5), 2)).quantize(Decimal("0.01"))
        cost = Decimal(round(10 ** draw.gauss(1.6, 0.6), 2)).quantize(Decimal("0.01"))
        return Signal(
            key=f"closed{number}",
            rule=rule,
            rule_version=rule.versions.first(),
            event=like.event,
            market_ids=like.market_ids,
            kind="yes_basket",
            level=draw.choice(["P1", "P2", "P2", "P3"]),
            status="CLOSED",
            verdict="EXECUTABLE",
            opened_at=closed - timedelta(seconds=10 ** draw.gauss(0.9, 0.9)),
            changed_at=closed,
            closed_at=closed,
            close_reason="edge_gone",
            edge_score=edge / 10_000,
            edge_bps=edge,
            peak_edge_bps=edge,
            profit=cost * edge / 10_000,
            peak_profit=cost * edge / 10_000,
            cost=cost,
            payload=like.payload,
        )

    def _handle(self, now: Any) -> None:
        act = SignalStep.Act
        handling.take(["live1"], act.ACK, by=self.dana, at=now)
        handling.take(["live2"], act.SNOOZE, by=self.dana, at=now, snooze=timedelta(hours=1))
        handling.take(["closed"], act.DISMISS, by=self.dana, at=now, text="seen it yesterday")
        handling.take(["live1"], act.COMMENT, by=self.dana, at=now, text="<b>thin</b> behind 31¢")

    def beat(self) -> None:
        cast.beat(at=timezone.now())

    def obey(self) -> None:
        orders: dict[str, Callable[[str], None]] = {"open": self.open, "touch": self.touch}
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
