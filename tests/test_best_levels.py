"""The best levels followed change by change are those that sorting the whole book gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from markets.fills import PRICE_ONE
from rules.kernel.best_levels import BestLevels

PRICES = st.integers(1, 12).map(lambda number: number * 700)
SIZES = st.one_of(st.none(), st.integers(1, 9_000_000).map(lambda units: f"{units / 1e6:.6f}"))


def slow(levels: dict[int, str], most: int, *, of_bids: bool) -> tuple[int, int]:
    """Return the size and what is put up of the best levels."""
    best = sorted(levels, reverse=of_bids)[:most]
    sizes = [round(float(levels[price]) * 1e6) for price in best]
    costs = [price if of_bids else PRICE_ONE - price for price in best]
    return sum(sizes), sum(cost * size for cost, size in zip(costs, sizes, strict=True))


@given(
    st.integers(1, 4),
    st.lists(st.tuples(PRICES, st.booleans(), SIZES), max_size=60),
)
def test_every_change_gives_what_reading_anew_gives(most, steps):
    bids: dict[int, str] = {}
    asks: dict[int, str] = {}
    best = BestLevels(most)
    best.read(bids, asks)

    for price, buys, size in steps:
        own, other = (bids, asks) if buys else (asks, bids)
        other.pop(price, None)  # a price has one side
        own.pop(price, None)
        if size is not None:
            own[price] = size

        best.change(price, bids, asks)

        assert (best.bids.size, best.bids.put_up) == slow(bids, most, of_bids=True)
        assert (best.asks.size, best.asks.put_up) == slow(asks, most, of_bids=False)
