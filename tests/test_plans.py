"""Plans: sized by the kernel within the capital, limits that cannot lose, a hash that is signed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from execution.matching import Footprints, Match, NoMatch, Order, match, price_units, reach
from execution.plans import (
    Basis,
    BasisLeg,
    NoPlan,
    Plan,
    Sight,
    basis_of,
    difference,
    excess,
    leg_now,
    make_plan,
    read_plan,
)
from markets.fills import FREE, PRICE_ONE, SIZE_ONE, Fee, Ladder, depth_of
from rules.kernel.baskets import detect_event
from rules.kernel.finding import EventView, Finding, Limits
from tests.worlds import END, bids, event_view, fee, ladder, market_terms, market_view

AT = END - timedelta(days=30)
SLIPPAGE = 10_000  # as good as none


def sights(view: EventView, outcome: int, **changes) -> dict[str, Sight]:
    values = {"book_state": "fresh", "epoch": 1, "age_ms": 10, **changes}
    return {
        market.terms.token_ids[outcome]: Sight(
            terms=market.terms, outcome=outcome, ladder=market.asks[outcome], **values
        )
        for market in view.markets
    }


def found(view: EventView, **limits) -> Finding:
    findings, _ = detect_event(view, at=AT, limits=Limits(**limits))
    return findings[0]


def basis(finding: Finding) -> Basis:
    return basis_of(signal_key="k" * 32, rule="DUTCH", payload=finding.explained())


def plan(view: EventView, outcome: int = 0, *, capital=D(10_000), slippage_bps=SLIPPAGE) -> Plan:
    made = make_plan(
        basis(found(view)), sights(view, outcome), capital=D(capital), slippage_bps=slippage_bps,
        at=AT,
    )  # fmt: skip
    assert isinstance(made, Plan), made
    return made


def yes_event(*levels: Ladder, rate: str = "0.04") -> EventView:
    return event_view(
        [market_view(n, asks, bids((0.01, 50)), fee=fee(rate)) for n, asks in enumerate(levels)]
    )


def no_event(*levels: Ladder, rate: str = "0.04") -> EventView:
    """An event whose NO asks are these."""
    return event_view(
        [market_view(n, ladder((0.99, 5)), no, fee=fee(rate)) for n, no in enumerate(levels)]
    )


YES = yes_event(
    ladder((0.30, 100), (0.32, 400)), ladder((0.30, 80), (0.31, 300)), ladder((0.25, 500))
)
NO = no_event(
    ladder((0.50, 100), (0.60, 300)),
    ladder((0.45, 60)),
    ladder((0.52, 250), (0.56, 100)),
    ladder((0.55, 400)),
)


# --- sizing --------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "outcome"), [(YES, 0), (NO, 1)], ids=["yes", "no"])
def test_plan_without_a_bound_is_the_finding(view, outcome):
    finding = found(view)

    made = plan(view, outcome)

    assert {(leg.token_id, leg.size, leg.limit_price, leg.cost) for leg in made.legs} == {
        (leg.token_id, leg.size, leg.limit_price, leg.cost) for leg in finding.legs
    }
    assert (made.cost, made.fees, made.min_payoff) == (
        finding.cost, finding.fees, finding.min_payoff,
    )  # fmt: skip
    assert (made.profit, made.edge_bps) == (finding.profit, finding.edge_bps)
    assert made.bound_by == "depth"


@pytest.mark.parametrize(("view", "outcome"), [(YES, 0), (NO, 1)], ids=["yes", "no"])
@pytest.mark.parametrize("capital", [25, 60, 200])
def test_plan_within_capital_is_the_kernels_own_optimum(view, outcome, capital):
    """The most it can cost stays within the capital; it earns what the kernel finds there."""
    made = plan(view, outcome, capital=capital)

    best = found(view, capital=made.cost)
    assert made.notional <= capital
    assert made.notional > capital * D("0.97")
    assert made.bound_by == "capital"
    assert made.profit == pytest.approx(best.profit, rel=D("0.005"))
    assert made.profit <= best.profit + D("0.02")


def test_no_basket_keeps_its_unequal_legs_when_capital_binds():
    made = plan(NO, 1, capital=200)

    assert len({leg.size for leg in made.legs}) > 1
    sizes = [leg.size for leg in made.legs]
    assert made.min_payoff == sum(sizes) - max(sizes)


def test_yes_basket_has_the_same_shares_of_every_leg():
    made = plan(YES, capital=60)

    assert len({leg.size for leg in made.legs}) == 1
    assert made.min_payoff == made.legs[0].size


def test_no_leg_under_the_minimum_is_left_out():
    small = no_event(*(ladder((0.55, size)) for size in (100, 60, 3, 80)))
    seen = sights(small, 1)
    legs = tuple(
        BasisLeg(token, sight.terms.market_id, "No", SIZE_ONE) for token, sight in seen.items()
    )
    whole = replace(basis(found(small)), legs=legs)

    made = make_plan(whole, seen, capital=D(1000), slippage_bps=80, at=AT)

    assert isinstance(made, Plan)
    assert [leg.market_id for leg in made.legs] == ["100", "101", "103"]


def test_proportions_are_kept_where_only_they_are_known_to_pay():
    view = YES
    legs = tuple(
        BasisLeg(market.terms.token_ids[0], market.terms.market_id, "Yes", size * SIZE_ONE)
        for market, size in zip(view.markets, (40, 20, 10), strict=True)
    )
    ladder_basis = Basis("k", "R", "lp", None, False, (), "s", 60 * SIZE_ONE, legs)

    made = make_plan(ladder_basis, sights(view, 0), capital=D(15), slippage_bps=80, at=AT)

    assert isinstance(made, Plan) and made.structure == "fixed"
    first, second, third = (leg.size for leg in made.legs)
    assert first == pytest.approx(2 * second, abs=D("0.03"))
    assert second == pytest.approx(2 * third, abs=D("0.03"))
    share = min(first / 40, second / 20, third / 10)
    assert made.min_payoff == pytest.approx(share * 60, abs=D("0.000002"))
    assert made.min_payoff <= share * 60
    assert made.worst_loss == made.notional


# --- limits --------------------------------------------------------------------------


def test_limit_is_the_dearest_level_that_is_taken():
    made = plan(YES)

    assert [leg.limit_price for leg in made.legs] == [D("0.3200"), D("0.3100"), D("0.2500")]


def test_no_level_beyond_the_slippage_is_taken():
    """80 bps above 30 cents are 30.24: of the tick of 0.001 that leaves 30.2."""
    deep = yes_event(
        ladder((0.300, 50), (0.302, 50), (0.303, 500)), ladder((0.3, 500)), ladder((0.3, 500))
    )

    made = plan(deep, slippage_bps=80)

    assert made.legs[0].limit_price == D("0.3020")
    assert {leg.size for leg in made.legs} == {D(100)}


@pytest.mark.parametrize(
    ("touch", "bps", "tick", "highest"),
    [(3000, 80, 10, 3020), (3000, 80, 100, 3000), (3005, 0, 100, 3100), (9900, 500, 100, 9900),
     (100, 80, 100, 100), (5000, 0, 1, 5000)],
)  # fmt: skip
def test_reach_lies_on_the_tick_and_never_under_the_touch(touch, bps, tick, highest):
    assert reach(touch, slippage_bps=bps, tick=tick) == highest


ladders = some.lists(
    some.tuples(some.integers(2, 97), some.integers(1, 300)),
    min_size=1, max_size=4, unique_by=lambda level: level[0],
).map(lambda levels: ladder(*((p / 100, s) for p, s in sorted(levels))))  # fmt: skip
events = some.lists(ladders, min_size=2, max_size=5)
rates = some.sampled_from(["0", "0.03", "0.07"])
capitals = some.integers(5, 500).map(D)
slippages = some.sampled_from([0, 80, 500, 10_000])


@given(asks=events, rate=rates, capital=capitals, slippage=slippages, no=some.booleans())
@hypothesis(max_examples=300, deadline=None)
def test_basket_that_fills_within_its_limits_cannot_lose(asks, rate, capital, slippage, no):
    """Whatever mix of levels it meets: all legs at their limits still cost no more than is paid."""
    view = no_event(*asks, rate=rate) if no else yes_event(*asks, rate=rate)
    findings, _ = detect_event(view, at=AT, limits=Limits(min_profit=D(0), min_edge_bps=D(0)))
    if not findings or findings[0].verdict == "BLOCKED":
        return
    made = make_plan(
        basis(findings[0]), sights(view, int(no)), capital=capital, slippage_bps=slippage, at=AT
    )
    if isinstance(made, NoPlan):
        return

    assert made.notional <= capital
    assert made.cost <= made.notional
    assert made.cost < made.min_payoff
    assert made.payoff_of([leg.size for leg in made.legs]) == made.min_payoff
    rounding = D("0.002") * len(made.legs)  # fees are rounded up on every level
    assert made.notional <= made.min_payoff + rounding
    for leg in made.legs:
        sight = sights(view, int(no))[leg.token_id]
        touch = sight.ladder[0][0]
        assert price_units(leg.limit_price) <= reach(touch, slippage_bps=slippage, tick=10)
        assert leg.size >= 5
    assert D(0) < made.worst_loss <= made.notional


# --- what cannot be planned ----------------------------------------------------------


def refused(view: EventView, seen: dict[str, Sight], **given) -> tuple[str, ...]:
    values = {"capital": D(100), "slippage_bps": 80, "at": AT, **given}
    made = make_plan(basis(found(view)), seen, **values)
    assert isinstance(made, NoPlan)
    assert made.text
    return made.reasons


def test_nothing_is_planned_where_a_leg_is_not_known():
    seen = sights(YES, 0)
    seen.popitem()

    assert refused(YES, seen) == ("no_book",)


def test_nothing_is_planned_on_a_book_that_is_not_fresh():
    assert refused(YES, sights(YES, 0, book_state="stale")) == ("book_not_fresh",)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [({"untradable": "paused"}, "not_tradable"), ({"fee": None}, "unknown_fee"),
     ({"min_size": 400 * SIZE_ONE}, "min_size")],
)  # fmt: skip
def test_market_that_takes_no_such_order_is_named(terms, reason):
    seen = sights(YES, 0)
    first = next(iter(seen))
    seen[first] = replace(seen[first], terms=replace(seen[first].terms, **terms))

    assert refused(YES, seen) == (reason,)


def test_nothing_is_planned_once_the_edge_is_gone():
    dearer = yes_event(ladder((0.4, 100)), ladder((0.4, 100)), ladder((0.4, 100)))

    assert refused(YES, sights(dearer, 0)) == ("edge_gone",)


def test_leg_without_an_offer_is_named():
    seen = sights(YES, 0)
    first = next(iter(seen))
    seen[first] = replace(seen[first], ladder=())

    assert refused(YES, seen) == ("one_sided",)


def test_no_capital_is_no_plan():
    assert refused(YES, sights(YES, 0), capital=D(0)) == ("no_capital",)


# --- what is lost if only some legs fill ---------------------------------------------


def test_yes_basket_loses_most_when_only_the_winner_is_missing():
    made = plan(YES)

    dearest_two = sorted(leg.max_cost for leg in made.legs)[1:]
    assert made.worst_loss == sum(dearest_two)
    assert "all legs fill but" in made.worst_case


def test_no_basket_loses_most_when_only_the_loser_fills():
    made = plan(NO, 1)

    assert made.worst_loss == max(leg.max_cost for leg in made.legs)


# --- the hash ------------------------------------------------------------------------


def test_hash_covers_what_is_ordered_and_not_what_is_expected():
    made = plan(YES)

    expected_cheaper = replace(made, cost=made.cost - 1, legs=tuple(
        replace(leg, avg_price=D("0.1"), touch=D("0.1")) for leg in made.legs))  # fmt: skip
    assert expected_cheaper.hash == made.hash
    for name, value in (("size", D(1)), ("limit_price", D("0.9")), ("token_id", "1")):
        other = replace(made, legs=(replace(made.legs[0], **{name: value}), *made.legs[1:]))
        assert other.hash != made.hash, name
    assert replace(made, notional=made.notional + 1).hash != made.hash


def test_plan_survives_its_way_through_the_database():
    made = plan(NO, 1, capital=100)

    again = read_plan(json.loads(json.dumps(made.row())))

    assert again == made
    assert again.hash == made.hash


def test_canonical_form_is_one_line_of_sorted_json():
    text = plan(YES).canonical()

    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_difference_names_orders_and_amounts():
    large, small = plan(YES), plan(YES, capital=60)

    changes = {each.what: (each.old, each.new) for each in difference(large, small)}

    assert changes["Outcome 0 Yes: size"] == (f"{large.legs[0].size}", f"{small.legs[0].size}")
    assert changes["notional"] == (f"{large.notional:.6f}", f"{small.notional:.6f}")
    assert "Outcome 0 Yes: limit" in changes
    assert difference(large, large) == ()


def test_difference_names_legs_that_come_and_go():
    made = plan(NO, 1)

    fewer = replace(made, legs=made.legs[1:])

    gone = difference(made, fewer)[0]
    assert (gone.what, gone.new) == (made.legs[0].label, "no order")
    assert difference(fewer, made)[-1].old == "no order"


# --- the plan on later books ---------------------------------------------------------


def test_leg_costs_what_the_later_book_asks():
    leg = plan(YES).legs[2]  # all of it at 25 cents
    sight = sights(YES, 0)[leg.token_id]

    assert leg_now(leg, sight).slippage_bps == 0
    assert leg_now(leg, sight).missing == 0
    dearer = replace(sight, ladder=ladder((0.26, 500)))
    assert leg_now(leg, dearer).slippage_bps > 300
    assert leg_now(leg, dearer).missing == leg.size
    assert leg_now(leg, replace(sight, ladder=())).slippage_bps is None


# --- what is kept of an incomplete basket --------------------------------------------


def kept(made: Plan, *sizes: int, price: str = "0.3") -> list[D]:
    filled = {leg.number: D(size) for leg, size in zip(made.legs, sizes, strict=True)}
    paid = {number: size * D(price) for number, size in filled.items()}
    over = excess(made, filled=filled, paid=paid)
    return [filled[number] - over[number] for number in filled]


def test_yes_basket_keeps_its_smallest_leg():
    assert kept(plan(YES), 90, 40, 70) == [40, 40, 40]
    assert kept(plan(YES), 90, 0, 70) == [0, 0, 0]


def test_no_basket_keeps_the_layers_that_pay():
    """Three NO at 60 cents cost 1.80 and pay 2; two cost 1.20 and pay 1."""
    assert kept(plan(NO, 1), 90, 40, 70, 0, price="0.6") == [40, 40, 40, 0]
    assert kept(plan(NO, 1), 90, 0, 70, 0, price="0.45") == [70, 0, 70, 0]
    assert kept(plan(NO, 1), 90, 0, 0, 0, price="0.45") == [0, 0, 0, 0]


@given(
    sizes=some.lists(some.integers(0, 120), min_size=3, max_size=3),
    prices=some.lists(some.integers(30, 90), min_size=3, max_size=3),
    no=some.booleans(),
)
@hypothesis(max_examples=200, deadline=None)  # fmt: skip
def test_what_is_kept_pays_at_least_what_it_cost(sizes, prices, no):
    """Bought within limits; YES legs are cheap enough here to be a basket."""
    made = plan(NO, 1) if no else plan(YES)
    each = [D(price) / (100 if no else 300) for price in prices]
    filled = {leg.number: D(size) for leg, size in zip(made.legs, sizes, strict=False)}
    paid = {number: size * each[number - 1] for number, size in filled.items()}

    over = excess(made, filled=filled, paid=paid)

    rest = [filled.get(leg.number, D(0)) - over[leg.number] for leg in made.legs]
    assert all(D(0) <= over[number] <= filled[number] for number in filled)
    cost = sum(size * each[index] for index, size in enumerate(rest) if size)
    assert made.payoff_of(rest) >= cost - D("0.0001")


# --- matching ------------------------------------------------------------------------

BOOK = ladder((0.30, 10), (0.32, 20), (0.35, 100))


def order(size: float, limit: float, side="BUY", **changes) -> Order:
    values = {"side": side, "size": round(size * SIZE_ONE), "limit": round(limit * PRICE_ONE),
              "tick": 100, "min_size": 5 * SIZE_ONE, "fee": FREE}  # fmt: skip
    return Order(**{**values, **changes})


def test_order_takes_levels_up_to_its_limit():
    got = match(order(50, 0.32), BOOK)

    assert isinstance(got, Match)
    assert (got.size, got.complete) == (30 * SIZE_ONE, False)
    assert got.cash == D("9.4")
    assert got.avg_price == D("0.313333")


def test_sale_takes_bids_down_to_its_limit_and_pays_the_fee_from_what_it_gets():
    best_first = ladder((0.35, 10), (0.32, 20), (0.30, 100))

    got = match(order(50, 0.32, side="SELL", fee=Fee(D("0.04"))), best_first)

    assert isinstance(got, Match)
    assert got.size == 30 * SIZE_ONE
    assert got.fee == D("0.04") * (10 * D("0.35") * D("0.65") + 20 * D("0.32") * D("0.68"))
    assert got.cash == D("9.9") - got.fee


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"limit": 3_050}, "TICK"), ({"size": 4 * SIZE_ONE}, "MIN_SIZE"),
     ({"size": 6 * SIZE_ONE, "limit": 1_000}, "MIN_NOTIONAL"), ({"limit": 2_900}, "NO_DEPTH")],
)  # fmt: skip
def test_order_that_the_venue_would_refuse_gets_nothing(changes, reason):
    assert match(replace(order(50, 0.32), **changes), BOOK) == NoMatch(reason)


@given(
    levels=some.lists(some.tuples(some.integers(1, 98), some.integers(1, 50)),
                      min_size=1, max_size=6, unique_by=lambda level: level[0]),
    size=some.integers(5, 200), limit=some.integers(1, 98), rate=rates,
)  # fmt: skip
@hypothesis(max_examples=200, deadline=None)
def test_match_never_passes_limit_depth_or_cost(levels, size, limit, rate):
    book = ladder(*((p / 100, s) for p, s in sorted(levels)))
    wanted = order(size, limit / 100, fee=fee(rate))

    got = match(wanted, book)

    if isinstance(got, NoMatch):
        return
    within = depth_of(tuple(level for level in book if level[0] <= wanted.limit))
    assert got.size == min(wanted.size, within)
    assert all(take.price <= wanted.limit for take in got.takes)
    assert got.complete is (got.size == wanted.size)
    gross = sum(D(take.price * take.size) for take in got.takes).scaleb(-10)
    assert got.cash == gross + got.fee


# --- our own footprints --------------------------------------------------------------


def left(prints: Footprints, book: Ladder, outcome: int = 0, side="BUY") -> Ladder:
    return prints.left(book, market_id="m", outcome=outcome, side=side)


def eat(prints: Footprints, book: Ladder, size: float, outcome: int = 0, side="BUY") -> None:
    limit = 0.98 if side == "BUY" else 0.01
    got = match(order(size, limit, side), left(prints, book, outcome, side), displayed=book)
    assert isinstance(got, Match)
    prints.leave(got.takes, market_id="m", outcome=outcome, side=side)


def test_displayed_depth_is_taken_once():
    prints = Footprints()

    eat(prints, BOOK, 15)

    assert left(prints, BOOK) == ladder((0.32, 15), (0.35, 100))
    eat(prints, BOOK, 15)
    assert left(prints, BOOK) == ladder((0.35, 100))


def test_level_that_grew_is_a_new_one():
    prints = Footprints()
    eat(prints, BOOK, 10)

    grown = ladder((0.30, 25), (0.32, 20))
    assert left(prints, grown) == grown


def test_level_that_shrank_keeps_our_footprint():
    prints = Footprints()
    eat(prints, BOOK, 6)

    assert left(prints, ladder((0.30, 8))) == ladder((0.30, 2))
    assert left(prints, ladder((0.30, 5))) == ()


def test_level_that_went_away_and_came_back_is_a_new_one():
    prints = Footprints()
    eat(prints, BOOK, 10)

    left(prints, ladder((0.32, 20)))

    assert left(prints, BOOK) == BOOK


def test_both_outcomes_and_sides_share_one_book():
    """Selling YES at 40 cents takes the bid that buying NO at 60 cents would."""
    prints = Footprints()
    yes_bids = ladder((0.40, 10), (0.39, 10))

    eat(prints, yes_bids, 10, outcome=0, side="SELL")

    assert left(prints, ladder((0.60, 10), (0.61, 10)), outcome=1) == ladder((0.61, 10))
    assert left(prints, BOOK) == BOOK


def test_terms_of_the_test_world_are_on_the_tick_that_the_tests_say():
    assert market_terms(0).tick == 10
