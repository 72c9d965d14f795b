"""The cast of the portal tests: events, seen and stored by the desk's own code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from alerts import journal
from markets import catalogue, ticks
from markets.frames import unix_ns
from markets.listing import EventTerms
from markets.ticks import Top
from rules.dsl import read_rule
from rules.engine import ActiveRule
from rules.kernel.baskets import detect_event
from rules.kernel.finding import EventView, Finding, Limits
from rules.load import SHIPPED, publish
from signals import store
from signals.episodes import ChangeKind, SignalChange
from signals.models import Signal
from tests.worlds import bids, event_view, fee, ladder, market_view

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
TITLE = "Who wins?"
PASSWORD = "correct horse"


def operator() -> User:
    return User.objects.create_superuser("operator", password=PASSWORD)


def viewer() -> User:
    return User.objects.create_user("viewer", password=PASSWORD)


def view_of(*asks: float, event_id: str = "7", title: str = TITLE, **changes: Any) -> EventView:
    """Return an event whose YES asks are these, 2 cents above the bids, 100 shares deep."""
    first = 100 * int(event_id)
    markets = [
        market_view(
            first + number,
            ladder((ask, 100)),
            bids((ask - 0.02, 100)),
            fee=fee("0.04"),
            event_id=event_id,
            label=f"Outcome {number}",
            leg_number=number,
        )
        for number, ask in enumerate(asks)
    ]
    return event_view(markets, event_id=event_id, title=title, **changes)


def list_event(view: EventView) -> EventTerms:
    catalogue.store([view.terms], seen_at=START)
    return view.terms


def quote(view: EventView, *, at: datetime, state: str = "fresh") -> None:
    """Store the touch of each market as quote and tick."""
    ticks.store([_top(market, at, state) for market in view.markets])


def _top(market: Any, at: datetime, state: str) -> Top:
    ask, size = market.asks[0][0]
    no_ask, no_size = market.asks[1][0]
    return Top(
        market_id=market.terms.market_id,
        t=unix_ns(at),
        state=state,
        bid=10_000 - no_ask,
        ask=ask,
        bid_size=no_size,
        ask_size=size,
    )


def rule() -> ActiveRule:
    """Return the shipped rule for events, published; it is the only one."""
    file = read_rule(SHIPPED / "dutch_book_detect.yaml")
    publish(file.definition, source=file.text, at=START)
    return ActiveRule.of(file.definition)


def finding_in(view: EventView, **limits: Any) -> Finding:
    found, _ = detect_event(view, at=START, limits=Limits(**limits))
    return found[0]


def tell(
    change: ChangeKind,
    finding: Finding,
    active: ActiveRule,
    *,
    key: str = "a" * 32,
    at: datetime = START,
    opened_at: datetime | None = None,
    why: str = "",
) -> Signal:
    """Store one change of a signal and return its row."""
    level = active.definition.outputs.level(finding.verdict)
    ns, opened_ns = (round(moment.timestamp() * 1e9) for moment in (at, opened_at or at))
    changed = SignalChange(
        change=change,
        at=ns,
        key=key,
        rule=active,
        finding=finding,
        level=level,
        opened_at=opened_ns,
        peak_edge_bps=finding.edge_bps,
        peak_profit=finding.profit,
        observations=3,
        why=why,
    )
    store.save([changed])
    return Signal.objects.get(key=key)


def many_signals(count: int, view: EventView, *, first: datetime = START) -> list[Signal]:
    """Open signals one minute apart, each of its own key."""
    active, finding = rule(), finding_in(view)
    return [
        tell("opened", finding, active, key=f"{number:032x}", at=first + timedelta(minutes=number))
        for number in range(count)
    ]


def beat(*, at: datetime, frame_at: datetime | None = None, component: str = "stream") -> None:
    """Let a component be alive at a time; the stream's last frame came then too, or earlier."""
    told = {"last_frame_at": round((frame_at or at).timestamp() * 1000), "walks": 5}
    with transaction.atomic():
        journal.beat(component, at=at, progress=1234, **told)
