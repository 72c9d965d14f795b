"""Relations between markets: what they leave possible, and what that makes certain to pay."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import numpy as np
import pytest

from rules.kernel.finding import Limits, MarketView
from rules.kernel.known import Contradiction, known_of
from rules.kernel.lp import detect_relations
from rules.kernel.plans import offer
from rules.kernel.program import best_sizes
from rules.kernel.relations import (
    Relation,
    TooManyStates,
    connected_sets,
    kind_of,
    possible_states,
)
from rules.kernel.walks import cost_of
from tests.oracle import best_profit
from tests.worlds import bids, fee, ladder, market_terms, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
LIMITS = Limits()
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))


def rel(kind: str, *members: str, approved: bool = True) -> Relation:
    return Relation(kind, members, approved)


def single(number: int, bid: float, ask: float, size: float = 100, **changes) -> MarketView:
    """Return a market on its own, in its own event."""
    own = {"neg_risk_id": None, "event_id": str(number), **changes}
    return market_view(number, ladder((ask, size)), bids((bid, size)), **own)


def by_id(*markets: MarketView) -> dict[str, MarketView]:
    return {market.terms.market_id: market for market in markets}


def look(relations, *markets: MarketView, limits: Limits = LIMITS):
    return detect_relations(relations, by_id(*markets), at=AT, limits=limits)


def bought(finding) -> dict[tuple[str, str], Decimal]:
    return {(leg.market_id, leg.outcome): leg.size for leg in finding.legs}


# --- states --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("implies", {(0, 0), (0, 1), (1, 1)}),
        ("ladder", {(0, 0), (0, 1), (1, 1)}),
        ("exclusive", {(0, 0), (0, 1), (1, 0)}),
        ("exhaustive", {(0, 1), (1, 0), (1, 1)}),
        ("equivalent", {(0, 0), (1, 1)}),
        ("complement", {(0, 1), (1, 0)}),
    ],
)
def test_a_relation_leaves_exactly_its_states(kind, states):
    assert set(possible_states(("a", "b"), [rel(kind, "a", "b")], {})) == states


def test_states_of_many_relations_are_those_that_break_none():
    members = ("a", "b", "c", "d", "e")
    relations = [
        rel("implies", "a", "b"),
        rel("exclusive", "b", "c", "d"),
        rel("exhaustive", "c", "d", "e"),
        rel("equivalent", "a", "e"),
    ]

    states = possible_states(members, relations, {})

    slow = {
        (a, b, c, d, e)
        for a, b, c, d, e in product((False, True), repeat=5)
        if (not a or b) and b + c + d <= 1 and (c or d or e) and a == e
    }
    assert set(states) == slow
    assert len(states) == len(slow)


def test_at_most_one_market_of_a_neg_risk_event_is_true():
    terms = {name: market_terms(n, market_id=name) for n, name in enumerate("abc")}

    states = possible_states(("a", "b", "c"), [rel("exhaustive", "a", "b")], terms)

    assert set(states) == {(True, False, False), (False, True, False)}


def test_a_member_resolved_to_no_leaves_an_exhaustive_set_and_nothing_else():
    terms = {"c": market_terms(2, market_id="c", payout=Decimal(0), neg_risk_id=None)}

    exhaustive = possible_states(("a", "c"), [rel("exhaustive", "a", "c")], terms)
    implied = possible_states(("a", "c"), [rel("implies", "a", "c")], terms)

    assert {state[0] for state in exhaustive} == {True}
    assert {state[0] for state in implied} == {False, True}


def test_too_many_states_are_refused():
    members = tuple(f"m{n}" for n in range(18))

    with pytest.raises(TooManyStates):
        possible_states(members, [rel("exhaustive", *members)], {})


def test_long_chains_have_few_states():
    members = tuple(f"m{n:02}" for n in range(60))

    assert len(possible_states(members, [rel("ladder", *members)], {})) == 61


def test_relations_are_split_where_they_share_no_market():
    first, second, third = (
        rel("implies", "a", "b"),
        rel("implies", "c", "d"),
        rel("implies", "b", "e"),
    )

    assert connected_sets([first, second, third]) == [(first, third), (second,)]


@pytest.mark.parametrize(
    ("relations", "kind"),
    [
        ([rel("implies", "a", "b")], "implies"),
        ([rel("exclusive", "a", "b", "c")], "exclusive"),
        ([rel("complement", "a", "b")], "lp"),
        ([rel("implies", "a", "b"), rel("implies", "b", "c")], "ladder"),
        ([rel("implies", "a", "b"), rel("implies", "b", "c"), rel("implies", "a", "c")], "ladder"),
        ([rel("implies", "a", "b"), rel("implies", "a", "c")], "lp"),
        ([rel("implies", "a", "b"), rel("exclusive", "b", "c")], "lp"),
    ],
)
def test_the_kind_says_how_the_markets_are_related(relations, kind):
    assert kind_of(relations) == kind


# --- what pays -----------------------------------------------------------------------


def test_an_implication_buys_no_of_the_first_and_yes_of_the_second():
    (finding,) = look([rel("implies", "100", "101")], single(0, 0.50, 0.52), single(1, 0.40, 0.45))

    assert finding.kind == "implies"
    assert finding.verdict == "EXECUTABLE"
    assert bought(finding) == {("100", "No"): 100, ("101", "Yes"): 100}
    assert finding.cost == 95
    assert finding.profit == 5
    assert finding.conditions == ("riskless_given_no_void",)
    assert finding.event_id is None
    assert not finding.instant
    assert finding.annualised_pct == Decimal("64.0351")
    assert finding.certificate.states == 3
    assert finding.certificate.payoff == 100


def test_an_implication_the_other_way_round_is_none():
    assert look([rel("implies", "101", "100")], single(0, 0.50, 0.52), single(1, 0.40, 0.45)) == ()


def test_exclusive_markets_are_sold_together_as_no():
    (finding,) = look([rel("exclusive", "100", "101")], single(0, 0.6, 0.7), single(1, 0.5, 0.6))

    assert finding.kind == "exclusive"
    assert bought(finding) == {("100", "No"): 100, ("101", "No"): 100}
    assert finding.profit == 10


def test_exhaustive_markets_are_bought_together():
    (finding,) = look([rel("exhaustive", "100", "101")], single(0, 0.3, 0.4), single(1, 0.4, 0.5))

    assert finding.kind == "exhaustive"
    assert bought(finding) == {("100", "Yes"): 100, ("101", "Yes"): 100}
    assert finding.profit == 10


def test_of_equivalent_markets_the_cheap_yes_and_the_dear_no_are_bought():
    (finding,) = look([rel("equivalent", "100", "101")], single(0, 0.3, 0.4), single(1, 0.5, 0.6))

    assert finding.kind == "equivalent"
    assert bought(finding) == {("100", "Yes"): 100, ("101", "No"): 100}
    assert finding.profit == 10


def test_a_ladder_pairs_rungs_that_are_not_neighbours():
    rungs = [rel("implies", "100", "101"), rel("implies", "101", "102")]

    (finding,) = look(rungs, single(0, 0.50, 0.55), single(1, 0.46, 0.52), single(2, 0.40, 0.44))

    assert finding.kind == "ladder"
    assert bought(finding) == {("100", "No"): 100, ("102", "Yes"): 100}
    assert finding.market_ids == ("100", "102")


def test_fees_are_inside_the_cost_of_relations_too():
    rate = fee("0.05")

    (finding,) = look(
        [rel("implies", "100", "101")],
        single(0, 0.5, 0.52, fee=rate),
        single(1, 0.4, 0.45, fee=rate),
    )

    assert finding.fees == Decimal("1.25") + Decimal("1.2375")
    assert finding.profit == 5 - finding.fees


def test_the_event_is_named_where_both_markets_are_in_it():
    (finding,) = look(
        [rel("implies", "100", "101")],
        single(0, 0.50, 0.52, event_id="9"),
        single(1, 0.40, 0.45, event_id="9"),
    )

    assert finding.event_id == "9"


def test_a_market_that_is_not_listed_still_links_the_others():
    rungs = [rel("implies", "100", "101"), rel("implies", "101", "102")]

    (finding,) = look(rungs, single(0, 0.50, 0.55), single(2, 0.40, 0.44))

    assert bought(finding) == {("100", "No"): 100, ("102", "Yes"): 100}


def test_capital_bounds_the_cost_of_a_relation():
    markets = single(0, 0.50, 0.52), single(1, 0.40, 0.45)

    (finding,) = look([rel("implies", "100", "101")], *markets, limits=Limits(capital=Decimal(19)))

    assert finding.cost == 19
    assert finding.profit == 1


# --- gates ---------------------------------------------------------------------------


def test_an_unapproved_relation_is_blocked():
    (finding,) = look(
        [rel("implies", "100", "101", approved=False)], single(0, 0.5, 0.52), single(1, 0.4, 0.45)
    )

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == ("unapproved_relation",)
    assert finding.profit == 5


def test_approved_relations_count_without_the_unapproved_ones():
    relations = [rel("implies", "100", "101"), rel("implies", "101", "102", approved=False)]

    (finding,) = look(
        relations, single(0, 0.50, 0.52), single(1, 0.40, 0.45), single(2, 0.10, 0.20)
    )

    assert finding.verdict == "EXECUTABLE"
    assert finding.kind == "implies"
    assert finding.market_ids == ("100", "101")


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"untradable": "paused"}, "not_tradable"),
        ({"fee": None}, "unknown_fee"),
        ({"problems": ("crossed",)}, "crossed"),
        ({"min_size": 101_000_000}, "min_size"),
    ],
)
def test_a_relation_that_needs_a_forbidden_leg_is_blocked(changes, gate):
    (finding,) = look(
        [rel("implies", "100", "101")], single(0, 0.5, 0.52), single(1, 0.4, 0.45, **changes)
    )

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == (gate,)


def test_a_forbidden_leg_is_left_out_where_the_rest_pays():
    relations = [rel("exclusive", "100", "101", "102")]

    (finding,) = look(
        relations,
        single(0, 0.6, 0.7),
        single(1, 0.5, 0.6),
        single(2, 0.4, 0.5, untradable="paused"),
    )

    assert finding.verdict == "EXECUTABLE"
    assert finding.market_ids == ("100", "101")


def test_a_resolved_member_is_never_bought():
    resolved = single(1, 0.4, 0.45, payout=Decimal(1), untradable="resolved")

    assert look([rel("implies", "100", "101")], single(0, 0.5, 0.52), resolved) == ()


def test_relations_that_contradict_each_other_are_refused():
    impossible = [
        rel("equivalent", "100", "101"),
        rel("exclusive", "100", "101"),
        rel("exhaustive", "100", "101"),
    ]

    with pytest.raises(Contradiction):
        look(impossible, single(0, 0.5, 0.52), single(1, 0.4, 0.45))


# --- against the oracle --------------------------------------------------------------


def random_markets(rng: random.Random, count: int) -> list[MarketView]:
    markets = []
    for number in range(count):
        middle = rng.uniform(0.1, 0.9)
        asks = ladder(*((round(middle + 0.01 * k, 2), rng.randint(1, 300)) for k in range(1, 4)))
        offered = bids(*((round(middle - 0.01 * k, 2), rng.randint(1, 300)) for k in range(1, 4)))
        rate = fee(rng.choice(("0", "0.04", "0.07")))
        own = {"neg_risk_id": None, "event_id": str(number), "fee": rate, "min_size": 0}
        markets.append(market_view(number, asks, offered, **own))
    return markets


def random_relations(rng: random.Random, count: int) -> list[Relation]:
    names = [str(100 + number) for number in range(count)]
    relations = [rel(rng.choice(("implies", "exclusive", "exhaustive")), *names[:2])]
    for number in range(2, count):
        kind = rng.choice(("implies", "exclusive", "exhaustive", "equivalent"))
        relations.append(rel(kind, names[rng.randrange(number)], names[number]))
    return relations


def truth(relations, markets, budget=None) -> float:
    names = tuple(market.terms.market_id for market in markets)
    states = possible_states(names, relations, {})
    payoffs = [[*map(int, state), *(1 - int(t) for t in state)] for state in states]
    ladders = [m.asks[0] for m in markets] + [m.asks[1] for m in markets]
    return best_profit(ladders, [m.terms.fee for m in markets] * 2, payoffs, budget)


def solved(relations, markets, budget=None) -> float:
    """Return the profit of the kernel's sizes before lots and minimum sizes."""
    terms = {market.terms.market_id: market.terms for market in markets}
    known = known_of(relations, terms)
    spoken_of = [market for market in markets if market.terms.market_id in known.members]
    offers = [offer(market, outcome, ()) for market in spoken_of for outcome in (0, 1)]
    sizes = best_sizes(known, offers, budget)
    spent = sum(map(cost_of, [o.ladder for o in offers], [o.table for o in offers], sizes))
    states = possible_states(known.members, relations, terms)
    paid = np.array([[int(truth) ^ side for truth in state for side in (0, 1)] for state in states])
    return float((paid @ np.array(sizes)).min()) / 1e6 - spent


@pytest.mark.parametrize("budget", [None, 50.0])
def test_random_relations_pay_what_the_oracle_says(budget):
    paid = 0
    for seed in range(150):
        rng = random.Random(seed)
        count = rng.randint(2, 6)
        markets, relations = random_markets(rng, count), random_relations(rng, count)
        best = truth(relations, markets, budget)

        # A size may be 1e-4 share too large, so as not to lose a lot to the solver's floats.
        assert solved(relations, markets, budget) == pytest.approx(best, rel=1e-6, abs=2e-3), seed
        paid += best > 1
    assert paid > 60


@pytest.mark.parametrize("capital", [None, Decimal(50)])
def test_random_relations_are_never_overstated(capital):
    executable = 0
    for seed in range(150):
        rng = random.Random(seed)
        count = rng.randint(2, 6)
        markets, relations = random_markets(rng, count), random_relations(rng, count)
        best = truth(relations, markets, None if capital is None else float(capital))

        for finding in look(relations, *markets, limits=replace(ALL, capital=capital)):
            assert finding.profit <= Decimal(best) + Decimal("1e-6"), seed
            assert worst_payoff(finding, relations, markets) >= finding.min_payoff
            assert finding.certificate.payoff == finding.min_payoff
            assert capital is None or finding.cost <= capital
            executable += finding.verdict == "EXECUTABLE"
    assert executable > 60


def worst_payoff(finding, relations, markets) -> Decimal:
    names = tuple(market.terms.market_id for market in markets)
    states = possible_states(names, relations, {})
    return min(
        sum(
            leg.size
            for leg in finding.legs
            if state[names.index(leg.market_id)] == (leg.outcome == "Yes")
        )
        for state in states
    )


def test_sets_with_many_states_are_solved_with_the_few_that_matter():
    rng = random.Random(7)
    markets = random_markets(rng, 12)
    names = [market.terms.market_id for market in markets]
    relations = [rel("implies", names[0], name) for name in names[1:]]
    best = truth(relations, markets)

    (finding,) = look(relations, *markets, limits=ALL)

    assert finding.certificate.states == 2**11 + 1
    assert best > 1
    assert float(finding.profit) == pytest.approx(best, abs=1.5)
    assert finding.profit <= Decimal(best) + Decimal("1e-6")
    assert worst_payoff(finding, relations, markets) == finding.min_payoff


def test_a_further_state_never_raises_profit():
    for seed in range(60):
        rng = random.Random(seed)
        markets = random_markets(rng, 4)
        relations = random_relations(rng, 4)

        assert solved(relations[:-1], markets) <= solved(relations, markets) + 2e-3
