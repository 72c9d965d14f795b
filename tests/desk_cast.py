"""The cast of the desk tests: people with roles, an event that pays, its signal and live books."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, User

from execution import intents
from execution.desk import Desk, write_books
from execution.models import OrderIntent
from execution.paper import BookNow, PaperTerms
from markets.books import Books
from markets.fills import PRICE_ONE, SIZE_ONE, Ladder, mirrored
from markets.frames import moment
from markets.listing import MarketTerms
from markets.problems import Problems
from rules.dsl import read_rule
from rules.engine import ActiveRule
from rules.kernel.endgame import HOUR, EndgameParams, History, Observation, detect_endgame
from rules.kernel.finding import EventView, Finding
from rules.load import SHIPPED, publish
from signals.models import Signal
from tests.portal_cast import START, finding_in, list_event, rule, tell, view_of
from tests.worlds import bids, event_view, fee, ladder, market_view

NOW = START + timedelta(seconds=2)
NS = round(NOW.timestamp() * 1e9)
SECOND = 1_000_000_000


def prepare() -> None:
    """Put the rows there that migrations create, which a test that commits has emptied."""
    import_module("risk.migrations.0002_policy_and_switch").create(apps)
    if not Group.objects.filter(name="approver").exists():
        import_module("execution.migrations.0003_roles").create(apps)


def person(name: str, *roles: str) -> User:
    user = User.objects.filter(username=name).first()
    user = user or User.objects.create_user(name)  # no password: hashing one takes longer
    user.groups.add(*Group.objects.filter(name__in=roles))
    return user


def trader(name: str = "trader") -> User:
    return person(name, "trader")


def approver(name: str = "approver") -> User:
    return person(name, "approver")


def basket(
    *asks: float, event_id: str = "7", key: str = "a" * 32, **changes: Any
) -> tuple[EventView, Signal]:
    """Return an event whose YES basket pays (three asks of 30 cents, or those given), signalled."""
    view = view_of(*(asks or (0.30, 0.30, 0.30)), event_id=event_id, **changes)
    list_event(view)
    return view, tell("opened", finding_in(view), rule(), key=key)


def near_end(*levels: tuple[float, float], event_id: str = "7") -> EventView:
    """Return an event of one market that ends in two hours, with these asks of its YES."""
    market = market_view(
        100 * int(event_id), ladder(*(levels or ((0.970, 1000),))), bids((0.965, 1000)),
        fee=fee("0.04"), event_id=event_id, end_at=START + timedelta(hours=2), neg_risk_id=None,
    )  # fmt: skip
    return event_view(
        [market],
        event_id=event_id,
        tags=("politics",),
        neg_risk=False,
        end_at=START + timedelta(hours=2),
    )


def history(events: int = 2000, lost: int = 4) -> History:
    return History.of(
        Observation(f"event {n}", "politics", 2 * HOUR, 9700, n >= lost) for n in range(events)
    )


def certain(view: EventView, known: History | None = None, **params: Any) -> Finding:
    """Return what the endgame rule finds in an event, by a history that supports it."""
    finding = detect_endgame(
        view, at=START, params=EndgameParams(**params), history=known or history()
    )
    assert finding is not None
    return finding


def endgame(
    *levels: tuple[float, float], event_id: str = "7", key: str = "b" * 32, bankroll: float = 60
) -> tuple[EventView, Signal]:
    """Return an event near its end and its signal: a bet of a quarter of the bankroll."""
    view = near_end(*levels, event_id=event_id)
    list_event(view)
    file = read_rule(SHIPPED / "endgame_sweep.yaml")
    publish(file.definition, source=file.text, at=START)
    finding = certain(view, bankroll_usd=bankroll)
    return view, tell("opened", finding, ActiveRule.of(file.definition), key=key)


def show(view: EventView, *, at: datetime = NOW, epoch: int = 1, state: str = "fresh") -> None:
    """Write the event's books as the stream would."""
    write_books(
        [
            BookNow(
                market_id=market.terms.market_id,
                state=state,
                epoch=epoch,
                bids=mirrored(market.asks[1]),
                asks=market.asks[0],
                changed_at=at,
                seen_at=at,
            )
            for market in view.markets
        ]
    )


def close(signal: Signal, *, why: str = "edge_gone", at: datetime = NOW) -> None:
    Signal.objects.filter(pk=signal.pk).update(status="CLOSED", closed_at=at, close_reason=why)


def suggested(signal: Signal, by: User, *, at: datetime = NOW, **given: Any) -> OrderIntent:
    answer = intents.suggest(signal, by=by, at=at, **given)
    assert answer.applied and answer.intent, answer.reasons
    return answer.intent


def approved(
    signal: Signal, by: User, second: User, *, at: datetime = NOW, **given: Any
) -> OrderIntent:
    intent = suggested(signal, by, at=at, **given)
    answer = intents.approve(intent.pk, by=second, at=at, plan_hash=intent.plan_hash)
    assert answer.applied and answer.intent, answer.reasons
    return answer.intent


# --- live books ----------------------------------------------------------------------


class Venue:
    """Books that are fed wire frames, with the desk's paper broker on them."""

    def __init__(self, views: Sequence[EventView], **terms: Any) -> None:
        self.books = Books(Problems())
        self.markets = {m.terms.market_id: m.terms for view in views for m in view.markets}
        for each in self.markets.values():
            self.books.add(each)
        self.terms = PaperTerms(**{"latency_ms": 100, "leg_gap_ms": 10, **terms})
        self.desk = Desk(self.books, terms=self.terms, started=0)
        self.at = NS
        for view in views:
            self.open(view)

    def restart(self) -> None:
        """Let the process die: a new desk knows only what the database does."""
        self.desk = Desk(self.books, terms=self.terms, started=self.at)

    @property
    def now(self) -> datetime:
        return moment(self.at)

    def open(self, view: EventView) -> None:
        """Send snapshots of all markets of an event."""
        for market in view.markets:
            self.snapshot(market.terms, asks=market.asks[0], bids=mirrored(market.asks[1]))

    def snapshot(self, terms: MarketTerms, *, asks: Ladder, bids: Ladder) -> None:
        self.send(book_frame(terms, asks=asks, bids=bids, at=self.at))

    def send(self, body: bytes) -> None:
        self.at += 1_000_000
        self.books.feed(body, self.at, 1)
        self.desk.on_frame(self.at)

    def change(self, market_id: str, side: str, price: float, size: float) -> None:
        """Set one level of outcome 0 (`BUY` a bid, `SELL` an ask); no touch is stated."""
        terms = self.markets[market_id]
        change = {
            "asset_id": terms.token_ids[0],
            "price": _price(round(price * PRICE_ONE)),
            "size": f"{size:g}",
            "side": side,
            "hash": "",
            "best_bid": "",
            "best_ask": "",
        }
        body = {
            "event_type": "price_change",
            "market": terms.condition_id,
            "timestamp": str(self.at // 1_000_000),
            "price_changes": [change],
        }
        self.send(json.dumps(body).encode())

    def cut(self) -> None:
        """Lose the connection that all books come by."""
        self.books.closed(1, at=self.at)

    def wait(self, seconds: float) -> None:
        """Let time pass in steps of 50 ms, without frames."""
        until = self.at + round(seconds * SECOND)
        while self.at < until:
            self.at = min(self.at + 50_000_000, until)
            self.desk.on_time(self.at)

    def nudge(self) -> None:
        """Send a frame about every market that changes nothing that matters: a far bid."""
        for number, market_id in enumerate(self.markets):
            self.change(market_id, "BUY", 0.01, 1_000 + number + self.at % 1_000)

    def watched(self) -> Venue:
        """Let the desk learn which books somebody looks at, and write them."""
        self.work()
        self.wait(0.6)
        self.work()
        return self

    def work(self) -> int:
        self.desk.on_time(self.at)
        return self.desk.work(at=self.now)

    def fill(self) -> None:
        """Let orders that wait reach the venue, be filled and be stored, unwinding too."""
        for _ in range(3):
            self.work()
            self.wait(0.3)
            self.nudge()
        self.work()


def book_frame(terms: MarketTerms, *, asks: Ladder, bids: Ladder, at: int) -> bytes:
    def rows(levels: Ladder) -> list[dict[str, str]]:
        return [{"price": _price(p), "size": f"{s / SIZE_ONE:g}"} for p, s in reversed(levels)]

    body = {
        "event_type": "book",
        "market": terms.condition_id,
        "asset_id": terms.token_ids[0],
        "timestamp": str(at // 1_000_000),
        "hash": "",
        "bids": rows(bids),
        "asks": rows(asks),
    }
    return json.dumps(body).encode()


def _price(price: int) -> str:
    return f"{price / PRICE_ONE:.4f}".rstrip("0").rstrip(".")
