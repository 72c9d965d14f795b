"""A desk for browser tests of markets: a past with gaps, groups, and relations that wait.

`serve` wants what `tests.browser.desk` wants.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from functools import partial

from daphne.server import Server
from django.db import connections
from django.utils import timezone

from execution.models import LiveBook
from markets.models import Gap, Market, Tick
from markets.related import Proposal
from markets.relation_models import MarketText, Relation, SynonymGroup, SynonymGroupMember
from markets.relations import propose
from mpx_site.asgi import application
from tests.browser.desk import HOSTILE, Desk, say


class MarketsDesk(Desk):
    def _list(self) -> None:
        super()._list()
        self.market = Market.objects.get(pk="800")
        self._past()
        self._likes()

    def _past(self) -> None:
        """Let bid and ask of a market move for an hour, with a gap in it, and stand deep now."""
        now = timezone.now()
        for minute in range(55, 0, -1):
            bid = Decimal(20 + minute % 9) / 100
            at = now - timedelta(minutes=minute)
            Tick.objects.create(
                market=self.market, at=at, bid=bid, ask=bid + Decimal("0.03"), bid_size=5
            )
        opened = now - timedelta(minutes=30)
        Gap.objects.create(kind="ASSET", subject="800", books=1, opened_at=opened, ending="")
        LiveBook.objects.create(
            market=self.market,
            state="fresh",
            epoch=1,
            bids=[[2800 - 100 * level, (level + 1) * 7_000_000] for level in range(12)],
            asks=[[3000 + 100 * level, (level + 1) * 9_000_000] for level in range(12)],
            changed_at=now,
            seen_at=now + timedelta(hours=1),  # for as long as the test takes
        )
        MarketText.objects.create(market=self.market, rules=HOSTILE * 20, changed_at=now)

    def _likes(self) -> None:
        now = timezone.now()
        for name, state in (("The cup", "PROPOSED"), (HOSTILE[:200], "APPROVED")):
            group = SynonymGroup.objects.create(
                name=name, method="MATCHING", state=state, created_at=now
            )
            for market in Market.objects.order_by("id")[:5]:
                SynonymGroupMember.objects.create(group=group, market=market, why="asks the same")
        pairs = (("800", "801"), ("801", "900"), ("900", "901"))
        found = [Proposal("equivalent", pair, "words", 0.9, ("look twice",)) for pair in pairs]
        propose(found, origin=Relation.Origin.MATCHING, by="matching", at=now)


def serve(port: int) -> None:
    desk = MarketsDesk()
    connections.close_all()
    for work in (desk.obey, desk.keep_beating):
        threading.Thread(target=work, daemon=True).start()
    endpoint = f"tcp:port={port}:interface=127.0.0.1"
    ready = partial(say, "ready")
    Server(application, endpoints=[endpoint], verbosity=0, ready_callable=ready).run()
