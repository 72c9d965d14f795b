"""ORDER_BOOK_IMBALANCE: one side of a book outweighs the other, and stays so (pure).

`detection.md` 4.4: (Qb - Qa) / (Qb + Qa) over the best levels, because the first holds
only a seventh of the first ten. It says where the next move is likelier to go and is
OBSERVED; a side that nobody offers is no imbalance but a book to pass over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markets.fills import PRICE_ONE, SIZE_ONE, Level
from markets.listing import MarketTerms
from rules.kernel.finding import Finding
from rules.kernel.observed import mid_text, observed

KIND = "imbalance"
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ImbalanceParams:
    """When a book counts as tilted (docs/rules.md)."""

    levels: int = 5
    threshold: float = 0.6  # of the imbalance, between 0 and 1
    rearm_below: float = 0.3  # it must fall below before it is told again
    persist_secs: float = 3.0
    max_spread: int = 300  # 1e-4 USD
    min_depth_usd: float = 500.0  # that both sides together have put up in these levels


@dataclass(frozen=True, slots=True)
class Imbalance:
    """A tilt: positive where buyers outweigh."""

    at: int  # unix ns
    since: int
    value: float
    bid_shares: float
    ask_shares: float
    mid: int  # bid + ask in 1e-4 USD


class ImbalanceWatch:
    """One market's state; `current` is the tilt that is being told."""

    __slots__ = ("_side", "_since", "current", "params")

    def __init__(self, params: ImbalanceParams) -> None:
        self.params = params
        self.restart()

    def restart(self) -> None:
        """Forget everything, as when the continuity of the book was lost."""
        self.current: Imbalance | None = None
        self._since: int | None = None  # unix ns at which it crossed the threshold
        self._side = 0

    @property
    def tilted(self) -> bool:
        """Whether it is above the threshold now, told or not."""
        return self._since is not None

    def update(self, at: int, bids: Sequence[Level], asks: Sequence[Level]) -> Imbalance | None:
        """Take both sides of outcome 0, best first, at a time (unix ns); return a new tilt."""
        if not bids or not asks:
            self.restart()
            return None
        buy = sell = put_up = 0
        for price, size in bids[: self.params.levels]:
            buy += size
            put_up += price * size
        for price, size in asks[: self.params.levels]:
            sell += size
            put_up += (PRICE_ONE - price) * size
        return self.weigh(at, bids[0][0], asks[0][0], buy, sell, put_up)

    def weigh(
        self, at: int, bid: int, ask: int, buy: int, sell: int, put_up: int
    ) -> Imbalance | None:
        """Take a touch (1e-4 USD) and the best levels around it; return a new tilt.

        They are added up: the sizes of either side (1e-6 shares), and what both have put up
        (1e-10 USD). A book that is one-sided, too wide or too thin ends whatever was there.
        """
        params = self.params
        thin = put_up < params.min_depth_usd * PRICE_ONE * SIZE_ONE
        if thin or not buy or not sell or not 0 < ask - bid <= params.max_spread:
            self.restart()
            return None
        value = (buy - sell) / (buy + sell)
        side, tilt = (value > 0) - (value < 0), abs(value)
        if side != self._side or tilt < params.rearm_below:
            self.current, self._side, self._since = None, side, None
        if tilt < params.threshold:
            self._since = None
            return None
        since = self._since = at if self._since is None else self._since
        if self.current is not None or at - since < params.persist_secs * NS:
            return None
        self.current = Imbalance(at, since, value, buy / SIZE_ONE, sell / SIZE_ONE, bid + ask)
        return self.current


def imbalance_finding(terms: MarketTerms, tilt: Imbalance) -> Finding:
    """Return what is told of a tilt; its strength is the imbalance, 0 to 1."""
    return observed(
        KIND,
        terms,
        strength=abs(tilt.value),
        facts={
            "direction": "up" if tilt.value > 0 else "down",
            "imbalance": f"{tilt.value:+.3f}",
            "bid_shares": f"{tilt.bid_shares:.2f}",
            "ask_shares": f"{tilt.ask_shares:.2f}",
            "mid": mid_text(tilt.mid),
            "seconds": f"{(tilt.at - tilt.since) / NS:.3f}",
        },
    )
