"""The cast of the API tests: one event with three markets, one rule, signals by the minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from markets.models import Event, Market, Outcome, Quote, Tick
from rules.models import Rule, RuleVersion
from signals.models import Signal, SignalPoint

NOON = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
OPPORTUNITY = {
    "kind": "yes_basket",
    "event_id": "e1",
    "market_ids": ["m1", "m2", "m3"],
    "legs": [{"token_id": "m1-yes"}, {"token_id": "m2-yes"}],
    "profit": "1.500000",
}


def an_event() -> Event:
    return Event.objects.create(
        id="e1", title="Who wins?", neg_risk=True, tags=["Sports"], seen_at=NOON
    )


def a_market(market_id: str, *, event: Event | None = None, **given: Any) -> Market:
    fields: dict[str, Any] = {
        "id": market_id,
        "event": event,
        "question": f"Does {market_id} win?",
        "state": Market.State.TRADABLE,
        "tick_size": Decimal("0.0100"),
        "min_size": Decimal(5),
        "fee_rate": Decimal("0.040000"),
        "liquidity": Decimal("1000.50"),
        "seen_at": NOON,
    }
    market = Market.objects.create(**fields | given)
    Outcome.objects.create(token_id=f"{market_id}-yes", market=market, index=0, label="Yes")
    Outcome.objects.create(token_id=f"{market_id}-no", market=market, index=1, label="No")
    return market


def a_quote(market: Market, *, bid: str | None, ask: str | None) -> Quote:
    return Quote.objects.create(
        market=market,
        bid=bid and Decimal(bid),
        ask=ask and Decimal(ask),
        bid_size=Decimal(10),
        ask_size=Decimal(20),
        state="fresh",
        at=NOON,
    )


def a_tick(market: Market, *, seconds: int, bid: str, ask: str) -> Tick:
    return Tick.objects.create(
        market=market, at=NOON + timedelta(seconds=seconds), bid=Decimal(bid), ask=Decimal(ask)
    )


def a_rule(code: str = "DUTCH_BOOK_DETECT") -> RuleVersion:
    rule = Rule.objects.create(code=code, title=code.title(), changed_at=NOON)
    return RuleVersion.objects.create(
        rule=rule, number=1, sha256=code.lower(), source="", canonical="", created_at=NOON
    )


def a_signal(version: RuleVersion, *, minutes: int, **given: Any) -> Signal:
    """Open a signal some minutes past noon."""
    opened_at = NOON + timedelta(minutes=minutes)
    fields: dict[str, Any] = {
        "key": f"key-{version.rule.code}-{minutes}-{Signal.objects.count()}",
        "rule": version.rule,
        "rule_version": version,
        "market_ids": ["m1", "m2", "m3"],
        "kind": "yes_basket",
        "level": Signal.Level.P1,
        "verdict": "EXECUTABLE",
        "opened_at": opened_at,
        "changed_at": opened_at,
        "edge_score": Decimal("0.015000"),
        "edge_bps": Decimal("150.00"),
        "peak_edge_bps": Decimal("160.00"),
        "profit": Decimal("1.500000"),
        "peak_profit": Decimal("1.600000"),
        "cost": Decimal(100),
        "payload": OPPORTUNITY,
    }
    return Signal.objects.create(**fields | given)


def a_point(signal: Signal, *, seconds: int, change: str) -> SignalPoint:
    return SignalPoint.objects.create(
        signal=signal,
        at=signal.opened_at + timedelta(seconds=seconds),
        change=change,
        level=signal.level,
        edge_bps=signal.edge_bps,
        profit=signal.profit,
    )
