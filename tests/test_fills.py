"""What an order costs: fee vectors of the venue, rounding, ticks, lots and the exact walk."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.fills import (
    FREE,
    Fee,
    NotEnoughDepth,
    buy,
    cost_table,
    depth_of,
    down_to_lot,
    fee_charged,
    gross_of,
    left_after,
    mirrored,
    on_tick,
    take,
    too_small,
    up_to_tick,
)
from tests.oracle import share_cost
from tests.worlds import fee, ladder

SHARE = 1_000_000

levels = st.lists(
    st.tuples(st.integers(1, 9_999), st.integers(1, 10**12)), min_size=1, max_size=8
).map(lambda rows: tuple(sorted(dict(rows).items())))
fees = st.builds(
    Fee, st.decimals("0", "0.3", places=4, allow_nan=False, allow_infinity=False), st.integers(1, 2)
)


@pytest.mark.parametrize(
    ("shares", "price", "rate", "charged"),
    [
        (100, 5_000, "0.07", "1.75"),
        (100, 1_000, "0.07", "0.63"),
        (100, 9_800, "0.05", "0.098"),
        (5, 10, "0.04", "0.0002"),  # 0.0001998, rounded up
    ],
)
def test_fee_matches_the_venues_worked_vectors(shares, price, rate, charged):
    assert fee_charged(price, shares * SHARE, fee=fee(rate)) == Decimal(charged)


def test_fee_of_the_old_exponent_two_is_smaller_away_from_the_middle():
    assert fee_charged(5_000, 100 * SHARE, fee=fee("0.25", 2)) == Decimal("1.5625")
    assert fee_charged(1_000, 100 * SHARE, fee=fee("0.25", 2)) == Decimal("0.2025")


def test_a_free_market_charges_nothing():
    assert fee_charged(5_000, 10**12, fee=FREE) == 0


@given(fees, st.integers(1, 9_999), st.integers(1, 10**12))
def test_fee_is_rounded_up_by_less_than_one_step(schedule, price, size):
    exact = (Decimal(str(share_cost(price, schedule))) - Decimal(price) / 10_000) * size / SHARE

    charged = fee_charged(price, size, fee=schedule)

    # share_cost is a float: its error grows with the size.
    slack = Decimal(size) / SHARE * Decimal("1e-15")
    assert -slack <= charged - exact < Decimal("0.00001") + slack
    assert charged == charged.quantize(Decimal("0.00001"))


@given(fees)
def test_cost_table_holds_the_cost_of_a_share_at_every_price(schedule):
    table = cost_table(schedule)

    assert len(table) == 10_001
    assert table[0] == 0
    assert table[10_000] == 1
    for price in (1, 70, 3_100, 5_000, 6_600, 9_999):
        assert table[price] == pytest.approx(share_cost(price, schedule), abs=1e-15)
    assert cost_table(schedule) is table


def test_walking_a_ladder_prices_each_level_and_limits_at_the_last():
    asks = ladder((0.31, 10), (0.32, 20), (0.35, 100))

    fill = buy(asks, 25 * SHARE, fee=fee("0.07"), tick=100)

    assert fill.size == 25
    assert fill.limit_price == Decimal("0.32")
    assert fill.avg_price == Decimal("0.316")  # (3.1 + 4.8) / 25
    assert fill.takes == (
        (Decimal("0.31"), Decimal(10), Decimal("0.14973")),
        (Decimal("0.32"), Decimal(15), Decimal("0.22848")),
    )
    assert fill.fee == Decimal("0.37821")
    assert fill.cost == Decimal("7.9") + fill.fee


@given(levels, fees, st.data())
def test_the_walk_loses_no_share_and_no_money(asks, schedule, data):
    size = data.draw(st.integers(1, depth_of(asks)))

    fill = buy(asks, size, fee=schedule, tick=1)

    gross = sum(price * amount for price, amount, _ in fill.takes)
    assert sum(amount for _, amount, _ in fill.takes) == fill.size == Decimal(size) / SHARE
    assert sum(charged for _, _, charged in fill.takes) == fill.fee
    assert 0 <= fill.cost - fill.fee - gross < Decimal("0.000001")
    assert fill.takes[0][0] <= fill.avg_price + Decimal("0.000001")
    assert fill.avg_price <= fill.limit_price == fill.takes[-1][0]
    assert gross_of(asks, size) == gross * 10**10


@given(levels, st.data())
def test_what_is_left_and_what_is_taken_are_the_whole_ladder(asks, data):
    size = data.draw(st.integers(1, depth_of(asks)))

    amounts = dict(left_after(asks, size))
    for price, amount in take(asks, size):
        amounts[price] = amounts.get(price, 0) + amount

    assert tuple(sorted(amounts.items())) == asks


def test_asking_for_more_than_there_is_says_how_much_is_missing():
    with pytest.raises(NotEnoughDepth) as caught:
        buy(ladder((0.5, 10)), 12 * SHARE, fee=FREE, tick=100)

    assert caught.value.missing == 2 * SHARE


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        take(ladder((0.5, 10)), 0)


def test_limit_prices_go_up_to_the_tick():
    assert up_to_tick(3_123, 10) == 3_130
    assert up_to_tick(3_120, 10) == 3_120


def test_ticks_run_from_one_tick_to_one_less_a_tick():
    assert on_tick(100, 100)
    assert on_tick(9_900, 100)
    assert not on_tick(9_950, 100)
    assert not on_tick(10_000, 100)
    assert not on_tick(0, 100)


def test_lots_are_a_hundredth_of_a_share_and_round_down():
    assert down_to_lot(12_345_678) == 12_340_000


@pytest.mark.parametrize(
    ("shares", "price", "refused"),
    [
        (5, 2_000, False),  # exactly 5 shares for exactly 1 USD
        (4.99, 9_000, True),  # under the market's minimum
        (100, 99, True),  # 0.99 USD
    ],
)
def test_orders_under_the_minimum_size_or_one_dollar_are_too_small(shares, price, refused):
    size = round(shares * SHARE)

    assert too_small(size, price * size, min_size=5 * SHARE) is refused


def test_the_other_outcome_is_offered_at_one_less_the_bid():
    assert mirrored(ladder((0.42, 7), (0.40, 9))) == ladder((0.58, 7), (0.60, 9))
