"""Baskets inside one market or event: worked cases and the traps of detection.md 6."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from markets.fills import SIZE_ONE
from rules.kernel.baskets import detect_event, detect_market, missing_legs
from rules.kernel.finding import EventView, Limits
from tests.worlds import bids, event_view, fee, ladder, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)  # 30 days before the markets end
LIMITS = Limits()


def look(view: EventView, limits: Limits = LIMITS):
    return detect_event(view, at=AT, limits=limits)


def three(*asks: float, size: float = 100, **changes) -> list:
    """Return the markets of an event with these YES asks, each bid 2 cents lower."""
    return [
        market_view(n, ladder((ask, size)), bids((ask - 0.02, size)), **changes)
        for n, ask in enumerate(asks)
    ]


def the_finding(view: EventView, limits: Limits = LIMITS):
    (finding,), _ = look(view, limits)
    return finding


# --- one YES of each -----------------------------------------------------------------


def test_yes_basket_buys_the_same_size_of_every_outcome():
    finding = the_finding(event_view(three(0.40, 0.30, 0.25)))

    assert finding.kind == "yes_basket"
    assert finding.verdict == "EXECUTABLE"
    assert [leg.size for leg in finding.legs] == [100, 100, 100]
    assert finding.cost == 95
    assert finding.min_payoff == 100
    assert finding.profit == 5
    assert finding.edge_bps == Decimal("526.32")
    assert finding.annualised_pct == Decimal("64.0351")  # 5/95 over 30 days
    assert not finding.instant
    assert finding.certificate.states == 3
    assert finding.certificate.worst_state == "100=Yes"
    assert finding.market_ids == ("100", "101", "102")
    assert {leg.outcome for leg in finding.legs} == {"Yes"}


def test_a_gross_gain_that_the_fees_eat_is_a_near_miss():
    # detection.md 3: r=.07 at .31 and .66: 3.00c gross, 3.068c of fees
    findings, near = look(event_view(three(0.31, 0.66, fee=fee("0.07"))))

    assert findings == ()
    yes = next(miss for miss in near if miss.kind == "yes_basket")
    assert yes.gross_sum == Decimal("0.97")
    assert yes.net_sum == Decimal("1.000681")
    assert yes.gap_cents == Decimal("0.0681")


def test_the_worked_five_outcome_fee_example_is_no_arbitrage():
    # polymarket-api.md 5.2: cost 1.0055 after a rate of .05
    findings, near = look(event_view(three(0.40, 0.25, 0.15, 0.10, 0.07, fee=fee("0.05"))))

    assert findings == ()
    assert next(m for m in near if m.kind == "yes_basket").net_sum == Decimal("1.005505")


def test_the_same_prices_pay_where_the_category_is_free():
    assert the_finding(event_view(three(0.31, 0.66))).profit == 3


def test_the_old_exponent_two_is_cheaper_and_lets_it_pay():
    linear, _ = look(event_view(three(0.10, 0.87, fee=fee("0.25"))))
    squared, _ = look(event_view(three(0.10, 0.87, fee=fee("0.25", 2))))

    assert linear == ()
    assert squared[0].fees == Decimal("0.5223")  # 25 x (.09^2 + .1131^2), rounded up per leg


def test_profit_behind_a_thin_top_is_taken():
    view = event_view(
        [
            market_view(0, ladder((0.30, 1), (0.31, 400)), ()),
            market_view(1, ladder((0.60, 500), (0.65, 500)), ()),
        ]
    )

    finding = the_finding(view)

    assert [leg.size for leg in finding.legs] == [401, 401]
    assert finding.legs[0].limit_price == Decimal("0.31")
    assert finding.profit == Decimal("401") - Decimal("0.3") - 400 * Decimal("0.31") - Decimal(
        "240.6"
    )


def test_levels_with_a_margin_of_exactly_zero_are_taken_too():
    view = event_view(
        [
            market_view(0, ladder((0.30, 50), (0.40, 50)), ()),
            market_view(1, ladder((0.60, 500)), ()),
        ]
    )

    finding = the_finding(view)

    assert finding.legs[0].size == 100
    assert finding.profit == 5


def test_a_basket_that_only_breaks_even_is_none():
    findings, near = look(event_view(three(0.40, 0.60)))

    assert findings == ()
    assert next(m for m in near if m.kind == "yes_basket").gap_cents == 0


def test_sizes_go_down_to_the_lot():
    finding = the_finding(event_view(three(0.40, 0.30, 0.25, size=20.009)))

    assert {leg.size for leg in finding.legs} == {Decimal("20.00")}


@pytest.mark.parametrize(
    ("asks", "size"),
    [
        ((0.40, 0.30, 0.25), 4.99),  # under five shares
        ((0.90, 0.05), 19.99),  # the five-cent leg is under one dollar
    ],
)
def test_a_leg_under_the_minimum_blocks_the_basket_and_is_not_rounded_up(asks, size):
    finding = the_finding(event_view(three(*asks, size=size)))

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == ("min_size",)
    assert {leg.size for leg in finding.legs} == {Decimal(str(size))}


def test_a_leg_of_exactly_one_dollar_is_allowed():
    assert the_finding(event_view(three(0.90, 0.05, size=20))).verdict == "EXECUTABLE"


def test_small_profits_and_small_edges_are_thin():
    view = event_view(three(0.40, 0.30, 0.25, size=9))  # 0.45 USD

    assert the_finding(view).verdict == "THIN"
    assert the_finding(view, Limits(min_profit=Decimal("0.45"))).verdict == "EXECUTABLE"
    assert the_finding(event_view(three(0.40, 0.599, size=1000))).verdict == "THIN"  # 10 bps


def test_capital_cuts_the_yes_basket_where_the_money_ends():
    finding = the_finding(event_view(three(0.40, 0.30, 0.25)), Limits(capital=Decimal(50)))

    assert {leg.size for leg in finding.legs} == {Decimal("52.63")}
    assert finding.cost == Decimal("49.9985")


def test_fees_rounded_up_never_pass_the_capital():
    view = event_view(three(0.40, 0.30, 0.22, fee=fee("0.05")))

    for cents in range(1_000, 1_050):
        capital = Decimal(cents) / 100
        assert the_finding(view, Limits(capital=capital)).cost <= capital


def test_an_end_that_is_near_counts_as_one_day_and_an_unknown_one_as_none():
    near = three(0.40, 0.30, 0.25, end_at=AT)
    unknown = three(0.40, 0.30, 0.25, end_at=None)

    assert the_finding(event_view(near)).annualised_pct == Decimal("1921.0526")
    assert the_finding(event_view(unknown, end_at=None)).annualised_pct is None
    assert the_finding(event_view(unknown)).annualised_pct == Decimal("64.0351")


# --- gates ---------------------------------------------------------------------------


def test_an_augmented_event_never_makes_a_yes_basket():
    finding = the_finding(event_view(three(0.40, 0.30, 0.25), augmented=True))

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == ("augmented",)
    assert finding.conditions == ("riskless_given_exhaustive",)


def test_a_gap_in_the_leg_numbers_is_a_missing_leg():
    markets = three(0.20, 0.20, 0.20, 0.20)
    view = event_view(markets[:2] + markets[3:])

    assert missing_legs(view.terms) == (2,)
    assert the_finding(view).blocked_by == ("missing_leg",)


def test_an_event_known_only_by_its_markets_may_lack_its_last_leg():
    assert the_finding(event_view(three(0.4, 0.3), complete=False)).blocked_by == ("missing_leg",)


def test_an_event_of_one_market_is_not_a_set():
    assert the_finding(event_view(three(0.6))).blocked_by == ("missing_leg",)


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"untradable": "paused"}, "not_tradable"),
        ({"fee": None}, "unknown_fee"),
        ({"problems": ("crossed",)}, "crossed"),
        ({"problems": ("incoherent_pair",)}, "incoherent_pair"),
    ],
)
def test_a_leg_that_cannot_be_bought_blocks_the_yes_basket_and_is_named(changes, gate):
    markets = three(0.40, 0.30)
    markets.append(market_view(2, ladder((0.25, 100)), bids((0.23, 100)), **changes))

    finding = the_finding(event_view(markets))

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == (gate,)


def test_every_failing_gate_is_named():
    markets = three(0.40, 0.30, size=4)
    markets.append(market_view(2, ladder((0.25, 4)), (), fee=None, untradable="closed"))

    finding = the_finding(event_view(markets, augmented=True))

    assert finding.blocked_by == ("augmented", "min_size", "not_tradable", "unknown_fee")


def test_an_empty_leg_blocks_the_yes_basket():
    markets = [*three(0.40, 0.30), market_view(2, (), bids((0.10, 50)))]

    assert the_finding(event_view(markets)).blocked_by == ("one_sided",)


def test_an_empty_leg_whose_bid_is_high_leaves_no_basket_at_all():
    markets = [*three(0.10, 0.05), market_view(2, (), bids((0.85, 50)))]

    findings, near = look(event_view(markets))

    assert findings == ()
    assert next(m for m in near if m.kind == "yes_basket").blocked_by == ("one_sided",)


def test_a_leg_without_a_book_blocks_the_yes_basket():
    markets = [*three(0.40, 0.30), market_view(2, (), (), problems=("missing_leg",))]

    assert the_finding(event_view(markets)).blocked_by == ("missing_leg",)


def test_a_book_that_is_not_trusted_now_is_no_reason_to_claim_a_profit():
    markets = [*three(0.40, 0.30), market_view(2, (), (), problems=("stale",))]

    findings, near = look(event_view(markets))

    assert findings == ()
    assert "stale" in next(m for m in near if m.kind == "yes_basket").blocked_by


def test_a_set_of_which_most_legs_are_unseen_claims_nothing():
    markets = [market_view(n, (), (), problems=("missing_leg",)) for n in range(1, 5)]

    findings, near = look(event_view([*three(0.1), *markets], augmented=True))

    assert findings == ()
    assert next(m for m in near if m.kind == "yes_basket").blocked_by == (
        "augmented",
        "missing_leg",
    )


def test_legs_resolved_to_no_leave_the_set_exhaustive():
    markets = three(0.50, 0.45)
    markets.append(market_view(2, (), (), payout=Decimal(0), untradable="resolved"))

    finding = the_finding(event_view(markets))

    assert finding.verdict == "EXECUTABLE"
    assert finding.certificate.states == 2


def test_a_leg_resolved_to_yes_ends_the_event():
    markets = three(0.50, 0.45)
    markets.append(market_view(2, (), (), payout=Decimal(1), untradable="resolved"))

    assert look(event_view(markets)) == ((), ())


def test_a_market_that_the_chain_does_not_tie_to_the_event_is_no_leg():
    markets = [*three(0.40, 0.30), *three(0.25, neg_risk_id=None)]
    markets[2] = replace(markets[2], terms=replace(markets[2].terms, market_id="102"))

    assert the_finding(event_view(markets)).blocked_by == ("metadata_conflict",)


def test_markets_of_an_event_without_neg_risk_make_no_basket():
    findings, near = look(event_view(three(0.20, 0.20, 0.20), neg_risk=False))

    assert findings == ()
    assert {miss.kind for miss in near} == {"binary"}
    assert len(near) == 3


# --- NO of any -----------------------------------------------------------------------


def test_no_basket_has_unequal_legs_where_depth_is_unequal():
    view = event_view(
        [
            market_view(0, (), bids((0.50, 1000))),
            market_view(1, (), bids((0.45, 1000))),
            market_view(2, (), bids((0.20, 100))),
        ]
    )

    finding = the_finding(view)

    # Bids are 1.15 while leg 2 lasts, .95 after: all three stop at 100.
    assert {leg.outcome: leg.size for leg in finding.legs} == {"No": 100}
    assert finding.profit == 15

    deeper = event_view(
        [
            market_view(0, (), bids((0.50, 1000))),
            market_view(1, (), bids((0.55, 1000))),
            market_view(2, (), bids((0.20, 100))),
        ]
    )
    finding = the_finding(deeper)

    assert [leg.size for leg in finding.legs] == [1000, 1000, 100]
    assert finding.min_payoff == 1100
    assert finding.profit == Decimal(1100 - 500 - 450 - 80)
    assert finding.instant
    assert finding.annualised_pct is None
    assert finding.certificate.states == 4  # each of three, or none
    assert finding.certificate.worst_state == "100=Yes"


def test_augmented_and_incomplete_events_still_make_a_no_basket():
    markets = [
        market_view(0, (), bids((0.60, 100))),
        market_view(2, (), bids((0.50, 100))),
    ]

    finding = the_finding(event_view(markets, augmented=True, complete=False))

    assert finding.kind == "no_basket"
    assert finding.verdict == "EXECUTABLE"
    assert finding.conditions == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"untradable": "paused"},
        {"fee": None},
        {"problems": ("crossed",)},
        {"problems": ("incoherent_pair",)},
        {"min_size": 101 * SIZE_ONE},
    ],
)
def test_a_no_basket_drops_a_leg_that_cannot_be_bought_and_goes_on(changes):
    markets = [
        market_view(0, (), bids((0.60, 100))),
        market_view(1, (), bids((0.50, 100))),
        market_view(2, (), bids((0.30, 100)), **changes),
    ]

    finding = the_finding(event_view(markets))

    assert finding.verdict == "EXECUTABLE"
    assert finding.market_ids == ("100", "101")
    assert finding.profit == 10


def test_a_no_basket_that_needs_the_forbidden_leg_is_blocked():
    markets = [
        market_view(0, (), bids((0.60, 100))),
        market_view(1, (), bids((0.50, 100)), untradable="closed"),
    ]

    finding = the_finding(event_view(markets))

    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == ("not_tradable",)


def test_a_no_basket_of_legs_that_are_all_too_small_is_blocked():
    markets = [market_view(n, (), bids((0.60, 4))) for n in range(2)]

    assert the_finding(event_view(markets)).blocked_by == ("min_size",)


def test_capital_goes_to_the_no_legs_that_earn_most_per_dollar():
    view = event_view(
        [
            market_view(0, (), bids((0.90, 100))),  # costs .10, gains .90
            market_view(1, (), bids((0.30, 100))),  # costs .70, gains .30
            market_view(2, (), bids((0.05, 100))),  # costs .95, gains .05
        ]
    )
    free = the_finding(view)
    assert (free.cost, free.profit) == (175, 25)

    bound = the_finding(view, Limits(capital=Decimal(80)))

    # Cut short, all three legs would be 45.71 each and gain 11.43.
    assert bound.market_ids == ("100", "101")
    assert (bound.cost, bound.profit) == (80, 20)


def test_at_most_one_of_the_two_baskets_is_told():
    markets = [
        market_view(0, ladder((0.40, 100)), bids((0.60, 100)), problems=("crossed",)),
        market_view(1, ladder((0.30, 100)), bids((0.29, 100))),
        market_view(2, ladder((0.20, 100)), bids((0.19, 100))),
    ]

    findings, near = look(event_view(markets))

    assert [finding.kind for finding in findings] == ["binary"]
    assert {"yes_basket", "no_basket"} == {miss.kind for miss in near}
    assert next(m for m in near if m.kind == "yes_basket").blocked_by == ("crossed",)


# --- both sides of one market --------------------------------------------------------


def test_a_coherent_book_is_only_a_near_miss():
    view = market_view(0, ladder((0.48, 10)), bids((0.47, 10)))

    findings, (miss,) = detect_market(view, at=AT, limits=LIMITS)

    assert findings == ()
    assert miss.kind == "binary"
    assert miss.gross_sum == Decimal("1.01")
    assert miss.gap_cents == 1


@pytest.mark.parametrize("problem", ["crossed", "incoherent_pair"])
def test_two_sides_below_one_dollar_are_an_alarm_and_never_executable(problem):
    view = market_view(0, ladder((0.48, 30)), ladder((0.49, 20)), problems=(problem,))

    (finding,), near = detect_market(view, at=AT, limits=LIMITS)

    assert near == ()
    assert finding.kind == "binary"
    assert finding.verdict == "BLOCKED"
    assert finding.blocked_by == (problem,)
    assert finding.profit == Decimal("0.6")
    assert finding.instant


def test_a_resolved_or_empty_market_is_not_looked_at():
    resolved = market_view(0, ladder((0.4, 9)), ladder((0.4, 9)), payout=Decimal(1))
    empty = market_view(0, ladder((0.4, 9)), ())

    assert detect_market(resolved, at=AT, limits=LIMITS) == ((), ())
    assert detect_market(empty, at=AT, limits=LIMITS) == ((), ())


def test_outcomes_listed_as_no_and_yes_are_told_apart():
    swapped = [
        replace(
            market,
            asks=(market.asks[1], market.asks[0]),
            terms=replace(
                market.terms,
                outcomes=("No", "Yes"),
                token_ids=(market.terms.token_ids[1], market.terms.token_ids[0]),
            ),
        )
        for market in three(0.40, 0.30, 0.25)
    ]

    assert look(event_view(swapped)) == look(event_view(three(0.40, 0.30, 0.25)))
