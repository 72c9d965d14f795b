"""Endgames: what is near-certain is bought only where history says that it is worth it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from math import comb

import pytest

from rules.kernel.endgame import (
    DAY,
    HOUR,
    EndgameParams,
    History,
    Observation,
    Record,
    category_of,
    cell_of,
    detect_endgame,
)
from tests.resolved import games, history_of, resolved_events
from tests.worlds import END, bids, event_view, fee, ladder, market_view

PLAIN = EndgameParams(dispute_pct=0, capital_rate_pct=0, min_ev_bps=0)
SOON = END - timedelta(hours=2)


def event(*tops: tuple[float, float], size: float = 1000, tags=("politics",), **changes):
    """Return an event whose markets have these bids and asks, at no fee unless said."""
    markets = [
        market_view(n, ladder((ask, size)), bids((bid, size)), **changes)
        for n, (bid, ask) in enumerate(tops)
    ]
    return event_view(markets, tags=tags)


def history(events: int, lost: int = 0, *, price=9700, left=2 * HOUR, category="politics"):
    return History.of(
        Observation(f"event {n}", category, left, price, n >= lost) for n in range(events)
    )


def look(view, known: History, params: EndgameParams = PLAIN, at=SOON):
    return detect_endgame(view, at=at, params=params, history=known)


def facts(finding) -> dict[str, str]:
    return dict(finding.facts)


# --- the lower bound -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "needed"),
    [(0.95, 61), (0.97, 103), (0.98, 155), (0.99, 311), (0.995, 623), (0.999, 3120)],
)
def test_the_events_that_it_takes_are_those_of_the_reference(price, needed):
    """Without a loss, at a fee rate of 0.04, for a lower bound of 95 % above the break-even."""
    view = event((price - 0.002, price), fee=fee("0.04"))

    finding = look(view, History({}))

    assert int(facts(finding)["events_needed"]) == pytest.approx(needed, rel=0.005)


@pytest.mark.parametrize(("events", "lost"), [(10, 0), (10, 1), (60, 3), (200, 0), (5, 5)])
def test_the_bound_is_the_chance_at_which_so_many_wins_were_a_1_in_20_luck(events, lost):
    won = events - lost
    bound = Record(events, won).lower_bound(0.95)

    luck = sum(
        comb(events, k) * bound**k * (1 - bound) ** (events - k) for k in range(won, events + 1)
    )
    assert bound == 0 if won == 0 else luck == pytest.approx(0.05)


def test_markets_of_one_event_count_as_one():
    many = [Observation("one event", "politics", HOUR / 2, 9700, True) for _ in range(500)]
    split = [Observation("another", "politics", HOUR / 2, 9700, won) for won in (True, False)]

    record = History.of([*many, *split]).record("politics", HOUR / 2, 9700)

    assert (record.events, record.won) == (2, 1.5)


@pytest.mark.parametrize(
    ("left", "price", "same"),
    [
        (1.5 * HOUR, 9700, True),
        (5.9 * HOUR, 9799, True),
        (0.5 * HOUR, 9700, False),  # nearer
        (2 * DAY, 9700, False),  # further
        (-60, 9700, False),  # after the end
        (2 * HOUR, 9800, False),  # dearer
        (2 * HOUR, 8000, False),  # not near-certain
    ],
)
def test_only_like_is_compared_with_like(left, price, same):
    record = history(40).record("politics", left, price)

    assert record.events == (40 if same else 0)
    assert history(40).record("sports", 2 * HOUR, 9700).events == 0


def test_a_price_of_one_or_a_likely_one_is_no_bet():
    assert cell_of("other", HOUR, 10_000) is None
    assert cell_of("other", HOUR, 8_999) is None


# --- what is told --------------------------------------------------------------------


def test_enough_history_makes_a_bet_with_its_numbers():
    finding = look(event((0.96, 0.97)), history(1000, 5), replace(PLAIN, bankroll_usd=100))

    told = facts(finding)
    assert finding.verdict == "OBSERVED"
    assert finding.blocked_by == ()
    assert (told["events"], told["won"]) == ("1000", "995.00")
    assert 0.985 < float(told["lower_bound"]) < 0.995
    assert float(told["ev_bps"]) == pytest.approx(
        (float(told["lower_bound"]) / 0.97 - 1) * 1e4, 0.01
    )
    assert finding.strength == pytest.approx(Decimal(told["ev_bps"]), abs=Decimal("0.1"))
    (leg,) = finding.legs
    assert leg.limit_price == Decimal("0.97")
    assert leg.cost <= 25  # a quarter of the bankroll at most
    assert (finding.min_payoff, finding.profit, finding.edge_bps) == (0, 0, 0)
    assert finding.cost == leg.cost


def test_too_little_history_is_said_with_how_little():
    finding = look(event((0.96, 0.97)), history(40))

    told = facts(finding)
    assert finding.verdict == "OBSERVED"
    assert finding.blocked_by == ("insufficient_data",)
    assert (told["events"], told["events_needed"]) == ("40", "99")
    assert finding.legs == ()


def test_no_history_is_insufficient_too_unless_nobody_wants_to_hear_it():
    quiet = replace(PLAIN, tell_insufficient=False)

    assert facts(look(event((0.96, 0.97)), History({})))["events"] == "0"
    assert look(event((0.96, 0.97)), History({}), quiet) is None


def test_history_that_shows_it_is_not_worth_it_is_the_end_of_it():
    assert look(event((0.96, 0.97)), history(1000, 40)) is None


@pytest.mark.parametrize(
    "dearer",
    [
        {"dispute_pct": 10.0, "flip_pct": 50.0},
        {"capital_rate_pct": 500.0, "settle_hours": 240.0},
        {"dispute_pct": 5.0, "dispute_days": 365.0, "capital_rate_pct": 100.0},
        {"confidence": 0.9999},
    ],
)
def test_what_is_feared_lowers_what_is_expected(dearer):
    known = history(1000, 5)

    free = look(event((0.96, 0.97)), known)
    feared = look(event((0.96, 0.97)), known, replace(PLAIN, **dearer))

    assert feared is None or feared.strength < free.strength


def test_the_fee_is_inside_what_is_expected():
    known = history(1000, 5)

    free, charged = (look(event((0.96, 0.97), fee=fee(r)), known) for r in ("0", "0.05"))

    assert free.strength - charged.strength == pytest.approx(15, abs=1)  # 0.05 x 0.03 of 0.97


def test_the_dearer_levels_are_left_once_they_earn_nothing():
    view = event((0.96, 0.97))
    deep = replace(view.markets[0], asks=(ladder((0.97, 100), (0.975, 100), (0.989, 100)), ()))
    known = history(2000, 30)  # at least 0.98

    finding = look(replace(view, markets=(deep,)), known, replace(PLAIN, bankroll_usd=100_000))

    assert finding.legs[0].size == 200


def test_the_unlikely_side_is_bought_as_no():
    finding = look(event((0.03, 0.04)), history(1000, 0))

    assert facts(finding)["outcome"] == "No"
    assert finding.legs[0].outcome == "No"


def test_an_event_is_one_bet_the_best():
    view = event((0.955, 0.965), (0.02, 0.03), (0.025, 0.04))
    known = History({**history(1000).cells, **history(1000, price=9600).cells})

    finding = look(view, known)

    assert finding.market_ids == ("100",)


@pytest.mark.parametrize(
    "changes", [{"untradable": "paused"}, {"fee": None}, {"problems": ("stale",)}, {"end_at": None}]
)
def test_what_cannot_be_traded_or_has_no_end_is_no_bet(changes):
    view = event((0.96, 0.97), **changes)
    view = replace(view, terms=replace(view.terms, end_at=None))

    assert look(view, history(1000)) is None


def test_a_bet_under_the_minimum_is_told_without_an_order():
    finding = look(event((0.96, 0.97), size=3), history(1000))

    assert (finding.blocked_by, finding.legs) == (("min_size",), ())


# --- when ----------------------------------------------------------------------------


def test_sports_are_left_alone_before_they_end():
    known = history(1000, category="sports")
    allowed = replace(PLAIN, sports_before_close=True)
    game = event((0.96, 0.97), tags=("nba", "politics"))

    assert look(game, known) is None
    assert look(game, known, allowed) is not None


def test_only_the_last_minutes_count():
    known = history(1000)

    assert look(event((0.96, 0.97)), known, replace(PLAIN, minutes_to_end=119)) is None
    assert look(event((0.96, 0.97)), known, replace(PLAIN, minutes_to_end=120)) is not None


def test_past_the_end_is_a_rule_of_its_own():
    known = history(5000, left=-HOUR, price=9950, category="sports")
    game = event((0.99, 0.995), tags=("nba",))
    after = END + timedelta(hours=1)
    on = replace(PLAIN, post_event=True)

    assert look(game, known, at=after) is None
    assert look(game, known, on, at=after).kind == "post_event"
    assert look(game, known, on, at=END + timedelta(hours=73)) is None
    assert look(event((0.96, 0.97)), known, on, at=after) is None  # not certain enough


def test_categories_come_from_tags():
    assert category_of(("breaking", "nhl", "politics")) == "sports"
    assert category_of(("crypto",)) == "crypto"
    assert category_of(("something-else",)) == "other"
    assert category_of(()) == "other"


# --- over what really happened -------------------------------------------------------


def test_real_history_is_too_little_for_any_bet():
    known = history_of([*resolved_events(), *games()])

    assert sum(record.events for record in known.cells.values()) > 200
    for (category, _, _), record in known.cells.items():
        assert record.won <= record.events
        # 103 events without a loss would be needed at 0.97; there are fewer of any kind.
        assert record.lower_bound(0.95) < 0.99, category
