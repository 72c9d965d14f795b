"""A desk on which something of everything has happened, for a walk through all pages.

People: `vic` views, `dana` trades, `avi` approves, `olga` may do all. Orders: one waits, one
was filled, one was rejected. Nothing is obeyed; the books go on.
"""

from __future__ import annotations

import threading
import time
from functools import partial

from daphne.server import Server
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from alerts import journal
from alerts.models import OutboxEntry
from execution import intents
from execution.models import OrderIntent
from markets.models import Gap, Quarantine
from markets.relation_models import SynonymGroup, SynonymGroupMember
from mpx_site.asgi import application
from rules.load import publish_missing
from signals.models import Signal
from tests import portal_cast as cast
from tests import relation_cast
from tests.browser import orders_desk
from tests.browser.desk import say
from tests.desk_cast import approver, person, suggested, trader


class Desk(orders_desk.Desk):
    def __init__(self) -> None:
        super().__init__()
        publish_missing()
        for user in (person("vic", "viewer"), User.objects.create_superuser("olga")):
            user.set_password(cast.PASSWORD)
            user.save()
        for key in ("waits", "fills", "rejects", "ends"):
            self.signal(key)
        self.relate()
        self.trouble()
        self.end("ends")

    def end(self, key: str) -> None:
        """Close a signal."""
        view = cast.view_of(0.30, 0.30, 0.30, event_id=str(self.events), title=f"Who wins {key}?")
        finding, at = cast.finding_in(view), timezone.now()
        cast.tell("closed", finding, self.rule, key=key, at=at, why="edge_gone")

    def relate(self) -> None:
        one, other = relation_cast.two_deals()
        relation_cast.proposed([one, other])
        group = SynonymGroup.objects.create(
            name="Iran signs a deal", method="KEYWORD", keywords=["iran"], created_at=timezone.now()
        )
        for market_id in (one, other):
            SynonymGroupMember.objects.create(group=group, market_id=market_id)

    def trouble(self) -> None:
        at = timezone.now()
        Gap.objects.create(kind="CONNECTION", subject="1", reason="reset", books=12, opened_at=at)
        Quarantine.objects.create(
            source="ws", reason="bad_frame", subject=orders_desk.HOSTILE[:120],
            detail="expected `array`", sample="{", count=3, first_at=at, last_at=at,
        )  # fmt: skip
        journal.alert(key="drill", kind="test", payload={"text": orders_desk.HOSTILE}, at=at)
        OutboxEntry.objects.update(state="FAILED", reason="Forbidden: blocked")

    def order(self) -> None:
        """Make orders once the books live: one waits, one fills, one is rejected."""
        dana, avi = trader("dana"), approver("avi")
        made = {key: self._suggested(key, dana) for key in ("waits", "fills", "rejects")}
        at = timezone.now()
        intents.approve(made["fills"].pk, by=avi, at=at, plan_hash=made["fills"].plan_hash)
        intents.reject(made["rejects"].pk, by=avi, at=at, reason="drill")

    def _suggested(self, key: str, by: User) -> OrderIntent:
        for _ in range(50):
            try:
                return suggested(Signal.objects.get(key=key), by, at=timezone.now())
            except AssertionError:  # its books are not shown yet
                time.sleep(0.2)
        raise TimeoutError(key)


def serve(port: int) -> None:
    desk = Desk()
    connections.close_all()
    for work in (desk.obey, desk.stream):
        threading.Thread(target=work, daemon=True).start()
    desk.thread.start()
    desk.order()
    connections.close_all()
    endpoint = f"tcp:port={port}:interface=127.0.0.1"
    ready = partial(say, "ready")
    Server(application, endpoints=[endpoint], verbosity=0, ready_callable=ready).run()
