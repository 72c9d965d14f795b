"""Gamma objects and CLOB books in the venue's own shape, small, for scan tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

GROUP = "0x" + "5c" * 31
END = "2026-07-01T00:00:00Z"
T0 = 1_780_272_000_000  # 2026-06-01T00:00:00Z in ms

Levels = Sequence[tuple[float, float]]


def condition(number: int) -> str:
    return f"0x{number:064x}"


def tokens(number: int) -> tuple[str, str]:
    """Return the ids of YES and NO: as long as the venue's longest."""
    return f"{10**77 + number}", f"{2 * 10**77 + number}"


def market(number: int, *, neg_risk: bool = True, group: str = GROUP, **changes: Any) -> dict:
    obj: dict[str, Any] = {
        "id": str(500 + number),
        "question": f"Will {number} win?",
        "conditionId": condition(number),
        "slug": f"will-{number}-win",
        "endDate": END,
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0.5", "0.5"]',
        "clobTokenIds": json.dumps(tokens(number)),
        "active": True,
        "closed": False,
        "archived": False,
        "acceptingOrders": True,
        "enableOrderBook": True,
        "orderPriceMinTickSize": 0.01,
        "orderMinSize": 5,
        "groupItemTitle": f"Number {number}",
        "feesEnabled": False,
        "negRisk": neg_risk,
        "questionID": f"{group}{number:02x}" if neg_risk else condition(900 + number),
        "updatedAt": "2026-06-01T00:00:00Z",
    }
    if neg_risk:
        obj["negRiskMarketID"] = f"{group}00"
    return {**obj, **changes}


def event(markets: Sequence[dict], *, neg_risk: bool = True, **changes: Any) -> dict:
    obj: dict[str, Any] = {
        "id": "77",
        "title": "Who wins?",
        "slug": "who-wins",
        "endDate": END,
        "active": True,
        "closed": False,
        "negRisk": neg_risk,
        "enableNegRisk": neg_risk,
        "negRiskAugmented": False,
        "markets": list(markets),
        "updatedAt": "2026-06-01T00:00:00Z",
    }
    return {**obj, **changes}


def book(number: int, asks: Levels, bids: Levels = (), *, outcome: int = 0, **changes: Any) -> dict:
    """Return a `/book` answer: worst level first, numbers as text."""

    def side(levels: Levels, *, rising: bool) -> list[dict[str, str]]:
        ordered = sorted(levels, reverse=not rising)
        return [{"price": f"{price:.4f}".rstrip("0"), "size": f"{size}"} for price, size in ordered]

    obj: dict[str, Any] = {
        "market": condition(number),
        "asset_id": tokens(number)[outcome],
        "timestamp": str(T0),
        "hash": "",
        "bids": side(bids, rising=True),
        "asks": side(asks, rising=False),
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": True,
        "last_trade_price": "",
    }
    return {**obj, **changes}


def mirror(number: int, asks: Levels, bids: Levels, **changes: Any) -> dict:
    """Return the NO book that agrees with these YES levels."""
    flipped = [(round(1 - price, 4), size) for price, size in bids]
    offered = [(round(1 - price, 4), size) for price, size in asks]
    return book(number, flipped, offered, outcome=1, **changes)
