"""What must not change a finding, and what may only make it smaller (detection.md 6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.fills import LOT, Fee, Ladder, cost_table
from rules.kernel.baskets import detect_event, detect_market
from rules.kernel.finding import EventView, Finding, Limits, MarketView
from rules.kernel.walks import walk_equal, walk_unequal
from tests.worlds import event_view, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))
RATES = [Fee(Decimal(rate), e) for rate, e in (("0", 1), ("0.04", 1), ("0.07", 1), ("0.25", 2))]

sizes = st.integers(1, 50_000).map(lambda lots: lots * LOT)


@st.composite
def ladders(draw, low: int, high: int) -> Ladder:
    prices = draw(st.lists(st.integers(low, high), max_size=5, unique=True))
    return tuple((price * 10, draw(sizes)) for price in sorted(prices))


@st.composite
def events(draw) -> EventView:
    """Return an event whose YES asks or whose NO asks often pay."""
    count = draw(st.integers(2, 5))
    fair = 1_000 // count
    shift = draw(st.integers(-60, 60))
    markets = []
    for number in range(count):
        middle = min(max(fair + shift, 30), 970)
        asks = draw(ladders(max(1, middle), min(999, middle + 80)))
        no_asks = draw(ladders(max(1, 1_001 - middle), min(999, 1_060 - middle)))
        schedule = draw(st.sampled_from(RATES))
        markets.append(market_view(number, asks, no_asks, fee=schedule, min_size=0))
    return event_view(markets)


def profit(view: EventView) -> float:
    """Return the best profit of either basket in real numbers."""
    tables = [cost_table(market.terms.fee) for market in view.markets]
    yes, no = [m.asks[0] for m in view.markets], [m.asks[1] for m in view.markets]
    long = walk_equal(yes, tables).profit if all(yes) else 0.0
    return max(long, walk_unequal(no, tables).profit)


def found(view: EventView) -> Finding | None:
    findings, _ = detect_event(view, at=AT, limits=ALL)
    return findings[0] if findings else None


def with_markets(view: EventView, markets: list[MarketView]) -> EventView:
    terms = replace(view.terms, markets=tuple(market.terms for market in markets))
    return EventView(terms, tuple(markets))


def each_ladder(view: EventView, change) -> EventView:
    return with_markets(
        view,
        [replace(m, asks=(change(m.asks[0]), change(m.asks[1]))) for m in view.markets],
    )


@given(events(), st.randoms(use_true_random=False))
def test_the_order_of_outcomes_means_nothing(view, random):
    shuffled = list(view.markets)
    random.shuffle(shuffled)

    assert found(with_markets(view, shuffled)) == found(view)


@given(ladders(300, 520), ladders(420, 700), st.sampled_from(RATES))
def test_swapping_the_sides_of_a_market_means_nothing(first, second, schedule):
    market = market_view(0, first, second, fee=schedule, problems=("crossed",))
    terms = market.terms
    swapped = replace(
        market,
        asks=(second, first),
        terms=replace(terms, token_ids=terms.token_ids[::-1], outcomes=terms.outcomes[::-1]),
    )

    seen, same = (detect_market(each, at=AT, limits=ALL) for each in (market, swapped))

    assert seen[1] == same[1]
    assert [f.legs for f in seen[0]] == [f.legs for f in same[0]]
    assert [f.profit for f in seen[0]] == [f.profit for f in same[0]]


@given(events(), st.integers(1, 3))
def test_a_level_in_two_parts_is_the_same_level(view, parts):
    def split(ladder: Ladder) -> Ladder:
        cuts = [(price, size // (parts + 1) // LOT * LOT) for price, size in ladder]
        pairs = zip(ladder, cuts, strict=True)
        return tuple(
            part
            for (price, size), (_, cut) in pairs
            for part in ((price, cut), (price, size - cut))
            if part[1]
        )

    halved = each_ladder(view, split)

    assert profit(halved) == pytest.approx(profit(view), rel=1e-9, abs=1e-9)
    before, after = found(view), found(halved)
    if before and after:
        assert [leg.size for leg in before.legs] == [leg.size for leg in after.legs]
        # Each part rounds its fee up by itself.
        assert 0 <= before.profit - after.profit < Decimal("0.001")


@given(events(), sizes)
def test_a_level_that_costs_a_dollar_or_more_changes_nothing(view, size):
    flat = Fee(Decimal("0.01"), 0)  # one cent a share: 0.999 costs 1.009
    assert cost_table(flat)[9_990] > 1
    dear = with_markets(view, [replace(m, terms=replace(m.terms, fee=flat)) for m in view.markets])

    longer = each_ladder(dear, lambda ladder: (*ladder, (9_990, size)) if ladder else ladder)

    assert profit(longer) == pytest.approx(profit(dear), rel=1e-12, abs=1e-12)
    assert found(longer) == found(dear)


@given(events(), st.integers(2, 9))
def test_profit_grows_with_all_sizes(view, factor):
    larger = each_ladder(view, lambda ladder: tuple((p, size * factor) for p, size in ladder))

    assert profit(larger) == pytest.approx(factor * profit(view), rel=1e-9, abs=1e-9)
    before, after = found(view), found(larger)
    if before and after:
        assert [leg.size * factor for leg in before.legs] == [leg.size for leg in after.legs]


@given(events(), ladders(1, 999))
def test_a_further_outcome_never_raises_the_yes_basket(view, asks):
    if not asks:
        return
    tables = [cost_table(market.terms.fee) for market in view.markets]
    yes = [market.asks[0] for market in view.markets]
    if not all(yes):
        return

    before = walk_equal(yes, tables).profit
    after = walk_equal([*yes, asks], [*tables, tables[0]]).profit

    assert after <= before + 1e-9


@given(events(), st.data())
def test_a_higher_ask_never_raises_profit(view, data):
    number = data.draw(st.integers(0, len(view.markets) - 1))
    side = data.draw(st.integers(0, 1))
    rise = data.draw(st.integers(1, 500))
    market = view.markets[number]
    asks = list(market.asks)
    asks[side] = tuple((min(price + rise, 9_999), size) for price, size in asks[side])
    dearer = [*view.markets]
    dearer[number] = replace(market, asks=(asks[0], asks[1]))

    assert profit(with_markets(view, dearer)) <= profit(view) + 1e-9


@given(events(), st.integers(100, 20_000))
def test_a_budget_never_raises_profit_and_is_never_passed(view, cents):
    capital = Decimal(cents) / 100
    free = found(view)

    findings, _ = detect_event(view, at=AT, limits=replace(ALL, capital=capital))

    for finding in findings:
        assert finding.cost <= capital
        assert free is not None
        assert finding.profit <= free.profit + Decimal("0.05")  # lots and rounded fees


@given(events())
def test_a_finding_adds_up(view):
    finding = found(view)
    if finding is None:
        return

    assert finding.cost == sum(leg.cost for leg in finding.legs)
    assert finding.fees == sum(leg.fee for leg in finding.legs)
    assert finding.profit == finding.min_payoff - finding.cost > 0
    for leg in finding.legs:
        assert leg.size == sum(size for _, size, _ in leg.takes)
        assert leg.size % Decimal("0.01") == 0
        assert leg.limit_price == max(price for price, _, _ in leg.takes)
        gross = sum(price * size for price, size, _ in leg.takes)
        assert leg.cost == gross + leg.fee
