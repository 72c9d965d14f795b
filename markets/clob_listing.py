"""What the CLOB says about markets, in Gamma's spelling, so that one reader serves both (pure).

Its `/markets` objects know who won, but neither events, fee schedules nor
Gamma's ids: a market known only from here goes by its condition id.
"""

from __future__ import annotations

from typing import TypeGuard

import msgspec

from markets.listing import BadListing

Json = dict[str, object]

# The CLOB's name of a field, and Gamma's for the same thing.
_SAME = {
    "condition_id": "conditionId",
    "question_id": "questionID",
    "question": "question",
    "market_slug": "slug",
    "active": "active",
    "closed": "closed",
    "archived": "archived",
    "accepting_orders": "acceptingOrders",
    "enable_order_book": "enableOrderBook",
    "minimum_order_size": "orderMinSize",
    "minimum_tick_size": "orderPriceMinTickSize",
    "end_date_iso": "endDate",
    "neg_risk": "negRisk",
    "neg_risk_market_id": "negRiskMarketID",
}


class _Token(msgspec.Struct, frozen=True):
    token_id: str = ""
    outcome: str = ""
    winner: bool = False


def is_clob_page(page: object) -> TypeGuard[Json]:
    """Tell a page of the CLOB, or a single object of it, from what Gamma answers."""
    if not isinstance(page, dict):
        return False
    return isinstance(page.get("data"), list) or {"condition_id", "tokens"} <= page.keys()


def as_gamma(page: Json, *, rejected: list[BadListing]) -> list[Json]:
    """Return the page's markets as Gamma would spell them; what cannot be goes to `rejected`."""
    data = page.get("data")
    spelled = []
    for obj in data if isinstance(data, list) else [page]:
        try:
            spelled.append(_spelled(obj))
        except BadListing as bad:
            rejected.append(bad)
    return spelled


def _spelled(obj: object) -> Json:
    condition = obj.get("condition_id") if isinstance(obj, dict) else None
    if not isinstance(obj, dict) or not isinstance(condition, str) or not condition:
        raise BadListing("condition_id", "is missing or empty")
    try:
        tokens = msgspec.convert(obj.get("tokens"), list[_Token])
    except msgspec.ValidationError as error:
        raise BadListing("tokens", str(error), market_id=condition) from None
    return {
        **{name: obj[own] for own, name in _SAME.items() if own in obj},
        "id": condition,
        "clobTokenIds": [token.token_id for token in tokens],
        "outcomes": [token.outcome for token in tokens],
        "outcomePrices": _prices(tokens, fifty_fifty=obj.get("is_50_50_outcome") is True),
        "umaResolutionStatus": "resolved",  # where there are prices, they are what was paid
        # The base fee is an old marker and no rate: 0 is free, anything else is not known here.
        "feesEnabled": obj.get("taker_base_fee") != 0,
    }


def _prices(tokens: list[_Token], *, fifty_fifty: bool) -> list[str]:
    """Return what the outcomes paid; nothing while nobody has won."""
    winners = [token.winner for token in tokens]
    if sum(winners) == 1:
        return [str(int(won)) for won in winners]
    return ["0.5"] * len(tokens) if fifty_fifty and not any(winners) else []
