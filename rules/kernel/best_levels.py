"""The best levels of a book and what they add up to, followed change by change (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markets.book import size_units
from markets.fills import PRICE_ONE, Level

Levels = Mapping[int, str]  # size as the venue sent it, by price in 1e-4 USD


class Side:
    """One side's best levels, by what a share of it costs those who offer (1e-4 USD).

    That is the price of a bid, and what is left of 1 USD for an ask: more is better.
    """

    __slots__ = ("_last", "_most", "_sizes", "put_up", "size")

    def __init__(self, most: int) -> None:
        self._most = most
        self.read(())

    def read(self, levels: Iterable[Level]) -> None:
        """Take these levels (cost, 1e-6 shares) instead, best first."""
        sizes = self._sizes = dict(tuple(levels)[: self._most])
        self.size = sum(sizes.values())  # 1e-6 shares
        self.put_up = sum([cost * size for cost, size in sizes.items()])  # 1e-10 USD
        self._note_last()

    def change(self, cost: int, text: str | None) -> bool:
        """Take a level's new size (None: it is gone); say whether that was possible.

        Where one of the best is gone, only the whole side knows which comes after the last.
        """
        if cost < self._last:
            return True
        before = self._sizes.get(cost)
        if text is None:
            return before is None
        size = self._sizes[cost] = size_units(text)
        more = size - (before or 0)
        self.size += more
        self.put_up += cost * more
        if before is None:
            if len(self._sizes) > self._most:
                self._drop(min(self._sizes))
            self._note_last()
        return True

    def _drop(self, cost: int) -> None:
        size = self._sizes.pop(cost)
        self.size -= size
        self.put_up -= cost * size

    def _note_last(self) -> None:
        """What costs less is none of ours; a side that has fewer levels takes whatever comes."""
        self._last = min(self._sizes) if len(self._sizes) == self._most else 0


class BestLevels:
    """Both sides of outcome 0, so many levels each at most."""

    __slots__ = ("_most", "asks", "bids")

    def __init__(self, most: int) -> None:
        self._most = most
        self.bids, self.asks = Side(most), Side(most)

    def read(self, bids: Levels, asks: Levels) -> None:
        """Read both sides anew."""
        self._read_bids(bids)
        self._read_asks(asks)

    def change(self, price: int, bids: Levels, asks: Levels) -> None:
        """Take a book in which one price has changed since it was last read."""
        if not self.bids.change(price, bids.get(price)):
            self._read_bids(bids)
        if not self.asks.change(PRICE_ONE - price, asks.get(price)):
            self._read_asks(asks)

    def _read_bids(self, bids: Levels) -> None:
        best = sorted(bids)[: -self._most - 1 : -1]
        self.bids.read([(price, size_units(bids[price])) for price in best])

    def _read_asks(self, asks: Levels) -> None:
        best = sorted(asks)[: self._most]
        self.asks.read([(PRICE_ONE - price, size_units(asks[price])) for price in best])
