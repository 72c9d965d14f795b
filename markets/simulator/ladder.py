"""Depth: one market's book, kept in the space of outcome 0 as the very text the wire shows.

Prices are ints in 1e-4 USD, sizes ints in 1e-6 shares, as everywhere in the hot parts.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left

from markets.fills import PRICE_ONE, SIZE_ONE

Edit = tuple[bool, int, int]  # is it a bid, its price, the new total size (0 removes)
MIN_ORDER_SIZE = "5"


def _price_text(price: int) -> str:
    whole, rest = divmod(price, PRICE_ONE)
    return f"{whole}.{rest:04d}".rstrip("0") if rest else str(whole)


PRICE_TEXT = tuple(_price_text(price) for price in range(PRICE_ONE + 1))


def size_text(size: int) -> str:
    """Write a size as the venue does: no exponent, no trailing zeros."""
    whole, rest = divmod(size, SIZE_ONE)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else str(whole)


class Side:
    """One side of a book, worst price first: `sign` is 1 for bids and -1 for asks.

    `own` and `mirror` hold each level as JSON, as outcome 0 and outcome 1 see it. Both read in
    the same order, because the mirror of the worst bid is the worst ask.
    """

    __slots__ = ("keys", "mirror", "own", "sign", "sizes")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.sizes: list[int] = []
        self.own: list[str] = []
        self.mirror: list[str] = []

    def __len__(self) -> int:
        return len(self.keys)

    def price(self, rank: int) -> int:
        """Give the price `rank` levels behind the best."""
        return self.sign * self.keys[-1 - rank]

    def size(self, price: int) -> int:
        """Give the size at a price, 0 where there is no level."""
        at = bisect_left(self.keys, self.sign * price)
        return self.sizes[at] if self._holds(at, price) else 0

    def levels(self) -> list[tuple[int, int]]:
        """List (price, size), best first."""
        return [(self.sign * key, size) for key, size in zip(self.keys, self.sizes, strict=True)][
            ::-1
        ]

    def set(self, price: int, size: int) -> None:
        """Set the total size at a price; 0 removes the level."""
        at = bisect_left(self.keys, self.sign * price)
        held = self._holds(at, price)
        if not size:
            if held:
                del self.keys[at], self.sizes[at], self.own[at], self.mirror[at]
            return
        if not held:
            self.keys.insert(at, self.sign * price)
            self.sizes.insert(at, 0)
            self.own.insert(at, "")
            self.mirror.insert(at, "")
        rest = f'","size":"{size_text(size)}"}}'
        self.sizes[at] = size
        self.own[at] = f'{{"price":"{PRICE_TEXT[price]}{rest}'
        self.mirror[at] = f'{{"price":"{PRICE_TEXT[PRICE_ONE - price]}{rest}'

    def _holds(self, at: int, price: int) -> bool:
        return at < len(self.keys) and self.keys[at] == self.sign * price


class Book:
    """Both sides of one market. `ms` is the time of its last change, in unix milliseconds."""

    __slots__ = ("_heads", "_neg_risk", "_tail", "asks", "bids", "condition_id", "last_trade", "ms",
                 "tick_text", "token_ids")  # fmt: skip

    def __init__(
        self, *, condition_id: str, token_ids: tuple[str, str], tick: int, neg_risk: bool, ms: int
    ) -> None:
        self.condition_id = condition_id
        self.token_ids = token_ids
        self._neg_risk = neg_risk
        self.ms = ms
        self.last_trade = ""
        self.bids = Side(1)
        self.asks = Side(-1)
        self._heads = tuple(
            f'{{"market":"{condition_id}","asset_id":"{token}","timestamp":"' for token in token_ids
        )
        self.set_tick(tick)

    def set_tick(self, tick: int) -> None:
        """Change the grid. The levels already there must lie on it."""
        self.tick_text = PRICE_TEXT[tick]
        self._tail = (
            f'],"min_order_size":"{MIN_ORDER_SIZE}","tick_size":"{self.tick_text}",'
            f'"neg_risk":{"true" if self._neg_risk else "false"},"last_trade_price":"'
        )

    @property
    def best_bid(self) -> int:
        """The best bid of outcome 0; 0 where nobody bids."""
        return self.bids.keys[-1] if self.bids.keys else 0

    @property
    def best_ask(self) -> int:
        """The best ask of outcome 0; one dollar where nobody asks."""
        return -self.asks.keys[-1] if self.asks.keys else PRICE_ONE

    def side(self, is_bid: bool) -> Side:
        """Pick a side of outcome 0."""
        return self.bids if is_bid else self.asks

    def apply(self, edits: list[Edit], *, ms: int) -> None:
        """Make several changes that the venue stamps with one time."""
        for is_bid, price, size in edits:
            self.side(is_bid).set(price, size)
        self.ms = ms

    def touch(self, outcome: int) -> tuple[str, str]:
        """Best bid and ask of an outcome as text; an empty side reads "0" or "1"."""
        bid, ask = self.best_bid, self.best_ask
        if outcome:
            bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
        return PRICE_TEXT[bid], PRICE_TEXT[ask]

    def lists(self, outcome: int) -> str:
        """The part of a book message between its hash and its trading terms."""
        bids = self.asks.mirror if outcome else self.bids.own
        asks = self.bids.mirror if outcome else self.asks.own
        return f'"bids":[{",".join(bids)}],"asks":[{",".join(asks)}'

    def answer(self, outcome: int, digest: str) -> str:
        """Write the book as `/book` answers it. With an empty digest: the text that is hashed."""
        return (
            f'{self._heads[outcome]}{self.ms}","hash":"{digest}",{self.lists(outcome)}'
            f'{self._tail}{self.last_trade}"}}'
        )

    def digest(self, outcome: int) -> str:
        """Hash one outcome's book as the venue does (polymarket-api.md 3.5)."""
        return hashlib.sha1(self.answer(outcome, "").encode(), usedforsecurity=False).hexdigest()
