"""Small markets and events for kernel tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from markets.fills import FREE, PRICE_ONE, SIZE_ONE, Fee, Ladder
from markets.listing import EventTerms, MarketTerms
from rules.kernel.finding import EventView, MarketView

END = datetime(2026, 7, 1, tzinfo=UTC)
GROUP = "0x" + "ab" * 31 + "00"


def ladder(*levels: tuple[float, float]) -> Ladder:
    """Return a ladder from (USD, shares) pairs."""
    return tuple((round(price * PRICE_ONE), round(size * SIZE_ONE)) for price, size in levels)


def bids(*levels: tuple[float, float]) -> Ladder:
    """Return the NO asks that these YES bids are."""
    return ladder(*((1 - price, size) for price, size in levels))


def market_terms(number: int, **changes: Any) -> MarketTerms:
    values: dict[str, Any] = {
        "market_id": str(100 + number),
        "condition_id": f"0x{number:064x}",
        "question": f"Will {number} happen?",
        "token_ids": (str(10_000 + number), str(20_000 + number)),
        "outcomes": ("Yes", "No"),
        "tick": 10,
        "min_size": 5 * SIZE_ONE,
        "fee": FREE,
        "untradable": None,
        "payout": None,
        "end_at": END,
        "event_id": "7",
        "neg_risk_id": GROUP,
        "leg_number": number,
        "label": f"Outcome {number}",
    }
    return MarketTerms(**{**values, **changes})


def market_view(
    number: int,
    asks: Ladder,
    no_asks: Ladder,
    *,
    problems: tuple[str, ...] = (),
    **changes: Any,
) -> MarketView:
    return MarketView(market_terms(number, **changes), (asks, no_asks), problems)


def event_view(markets: Sequence[MarketView], **changes: Any) -> EventView:
    values: dict[str, Any] = {
        "event_id": "7",
        "title": "Who wins?",
        "neg_risk": True,
        "augmented": False,
        "markets": tuple(market.terms for market in markets),
        "end_at": END,
    }
    return EventView(EventTerms(**{**values, **changes}), tuple(markets))


def fee(rate: str, exponent: int = 1) -> Fee:
    return Fee(Decimal(rate), exponent)
