"""Events and markets written as Gamma answers, for pasts that kept no page of the venue (pure)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import Frame

REQUEST = "/events?past="


@dataclass(frozen=True, slots=True)
class ListedMarket:
    """One market as it was known at a moment. A market is `state` TRADABLE or why not.

    `fee` is (rate, exponent), None an unknown schedule. `ids` are made up where unknown
    (`made_ids`): they only have to agree with those in the books that follow.
    """

    market_id: str
    question: str
    ids: tuple[str, str, str]  # condition and both tokens
    outcomes: tuple[str, str] = ("Yes", "No")
    tick: int = 100  # 1e-4 USD
    min_size: int = 5 * SIZE_ONE
    fee: tuple[str, int] | None = ("0", 1)
    state: str = "TRADABLE"
    payout: Decimal | None = None
    end_at: datetime | None = None
    label: str = ""
    other: bool = False
    leg_number: int | None = None


@dataclass(frozen=True, slots=True)
class ListedEvent:
    event_id: str
    title: str
    markets: tuple[ListedMarket, ...]
    neg_risk: bool = False
    augmented: bool = False
    end_at: datetime | None = None
    tags: tuple[str, ...] = ()
    slug: str = ""

    def frame(self, t: int) -> Frame:
        """Return the event as the venue would list it, received at `t` (unix ns)."""
        group = "0x" + _hash(self.event_id)[:62] + "00"
        body = {
            "id": self.event_id,
            "title": self.title,
            "slug": self.slug,
            "negRisk": self.neg_risk,
            "negRiskAugmented": self.augmented,
            "endDate": _time(self.end_at),
            "closed": bool(self.markets) and all(each.state in _OVER for each in self.markets),
            "tags": [{"label": tag, "slug": tag} for tag in self.tags],
            "markets": [_market(each, group if self.neg_risk else None) for each in self.markets],
        }
        return Frame(t, "gamma", json.dumps(body).encode(), req=REQUEST + self.event_id)


_OVER = ("CLOSED", "RESOLVED")


def made_ids(name: str) -> tuple[str, str, str]:
    """Make a condition and two tokens of a name; the same for the same name."""
    digest = _hash(name)
    number = int(digest[:60], 16)
    return f"0x{digest}", f"{number * 2}", f"{number * 2 + 1}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _market(market: ListedMarket, group: str | None) -> dict[str, object]:
    condition, first, second = market.ids
    told: dict[str, object] = {
        "id": market.market_id,
        "question": market.question,
        "conditionId": condition,
        "outcomes": list(market.outcomes),
        "clobTokenIds": [first, second],
        "active": market.state != "PLACEHOLDER",
        "closed": market.state in _OVER,
        "acceptingOrders": market.state == "TRADABLE",
        "enableOrderBook": True,
        "orderPriceMinTickSize": market.tick / PRICE_ONE,
        "orderMinSize": market.min_size / SIZE_ONE,
        "feesEnabled": True,
        "endDate": _time(market.end_at),
        "groupItemTitle": market.label,
        "negRisk": group is not None,
        "negRiskOther": market.other,
    }
    if market.fee is not None:
        rate, exponent = market.fee
        told["feeSchedule"] = {"rate": float(rate), "exponent": exponent}
    if market.payout is not None:
        told |= {"outcomePrices": [f"{market.payout:f}", f"{1 - market.payout:f}"]}
        told |= {"umaResolutionStatus": "resolved", "closed": True}
    if group is not None:
        told["negRiskMarketID"] = group
        if market.leg_number is not None:
            told["questionID"] = f"{group[:-2]}{market.leg_number:02x}"
    return told


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
