"""Bets: what history says of a near-certain outcome that may be bought (pure).

All of a bet's cost can be lost. What it returns is an average, at the lower
bound of its history, and counts nowhere as a payoff.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from markets.fills import PRICE_ONE
from rules.kernel.endgame import BANDS, KIND, POST_EVENT

BETS = frozenset({KIND, POST_EVENT})


@dataclass(frozen=True, slots=True)
class Bet:
    """The facts of an endgame's finding, and `limit`: the dearest price that it takes (USD)."""

    facts: Mapping[str, str]

    @property
    def worth(self) -> Decimal:
        """Return what a share returns on average (USD): disputes and carry are taken off."""
        return Decimal(self.facts["cost"]) * (1 + Decimal(self.facts["ev_bps"]) / 10_000)

    def covers(self, price: int) -> bool:
        """Say whether history counts a price (1e-4 USD) as it counted that of the finding."""
        judged = int(Decimal(self.facts["price"]) * PRICE_ONE)
        return bisect_right(BANDS, price) == bisect_right(BANDS, judged)


def bet_of(payload: Mapping[str, Any]) -> Bet | None:
    """Read the bet in a signal's payload; None where its rule sizes none."""
    if payload["kind"] not in BETS or len(payload["legs"]) != 1:
        return None
    return Bet({**payload["facts"], "limit": payload["legs"][0]["limit_price"]})
