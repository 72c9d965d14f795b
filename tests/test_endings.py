"""Events near their end: each has its turn, what is told of them, and when it is taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from markets.book import PRICE_TEXT, Book
from markets.listing import EventTerms
from markets.polymarket.wire import Message, Row
from rules.endings import Endings
from rules.engine import ROUND
from rules.house import HISTORY, history_body
from rules.kernel.endgame import HOUR, History, Observation
from tests.feed_cast import ENDGAME, SECOND, START, Hand, fed, plain, rule
from tests.worlds import event_view, market_terms

NOW = datetime.fromtimestamp(START // SECOND, UTC)
# Half a day before the end, at 0.97: what history is asked for.
LEFT = 12 * HOUR


def ends_in(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(number: int, *, hours: float = 12, **changes: Any) -> dict[str, Any]:
    return plain(number, endDate=ends_in(hours), **changes)


def known(events: int, *, lost: int = 0) -> History:
    seen = (Observation(f"{n}", "other", LEFT, 9_700, n >= lost) for n in range(events))
    return History.of(seen)


def near_certain(history: History | None = None) -> Hand:
    """Return a market that is offered at 0.97 half a day before its end."""
    hand = Hand(ENDGAME)
    if history is not None:
        hand.feed("gamma", history_body(history), HISTORY)
    hand.list(listed(1))
    hand.show(1, 0.96, 0.97)
    return hand


# --- turns ---------------------------------------------------------------------------


def ending(number: int, **changes: Any) -> tuple[EventTerms, Book]:
    terms = market_terms(number, end_at=NOW + timedelta(hours=12), neg_risk_id=None, **changes)
    book = Book(terms)
    bids, asks = [Row(PRICE_TEXT[9_600], "100")], [Row(PRICE_TEXT[9_700], "100")]
    book.snapshot(Message("book", book.condition_id, book.token0, "1", bids=bids, asks=asks), START)
    event = event_view([], event_id=f"e{number}", neg_risk=False).terms
    return replace(event, markets=(terms,), end_at=terms.end_at), book


def endings(count: int) -> Endings:
    made = Endings()
    made.rules = (rule(ENDGAME),)
    for number in range(count):
        event, book = ending(number)
        made.watch(event, [book])
    return made


def a_round(watched: Endings, number: int = 0) -> list[list[Any]]:
    """Look once a second for as long as it takes until every event has had its turn."""
    begun = START + number * ROUND * SECOND
    return [watched.look(begun + n * SECOND, share=ROUND) for n in range(ROUND)]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 25, 101])
def test_every_event_has_its_turn_once_in_a_round(count):
    watched = endings(count)
    a_round(watched)

    for number in range(1, 3):
        seen = [each.subject for turn in a_round(watched, number) for each in turn]
        assert sorted(seen) == sorted(f"e{n}" for n in range(count))


def test_turns_are_spread_over_the_round():
    watched = endings(200)
    a_round(watched)

    assert max(map(len, a_round(watched, 1))) <= 2 * 200 / ROUND


def test_an_event_has_the_same_turn_whatever_else_is_watched():
    many, alone = endings(50), Endings()
    alone.rules = many.rules
    event, book = ending(17)
    alone.watch(event, [book])
    for watched in (many, alone):
        a_round(watched)

    seen = [[each.subject for each in turn] for turn in a_round(many, 1)]
    turn = [bool(each) for each in a_round(alone, 1)].index(True)

    assert "e17" in seen[turn]


def test_seconds_without_a_look_cost_nobody_its_turn():
    watched = endings(40)
    a_round(watched)

    late = watched.look(START + 10 * ROUND * SECOND, share=ROUND)

    assert len({each.subject for each in late}) == 40


def test_an_event_that_is_new_has_its_turn_in_the_next_round():
    watched = endings(10)
    watched.look(START, share=ROUND)
    event, book = ending(77)
    watched.watch(event, [book])

    seen = [each for turn in a_round(watched, 1) for each in turn]

    assert "e77" in {each.subject for each in seen}


def test_events_that_are_over_are_not_looked_at():
    watched = endings(100)
    watched.look(START, share=ROUND)
    for number in range(99):
        event, book = ending(number, untradable="closed")
        watched.watch(event, [book])

    seen = [each for turn in a_round(watched, 1) for each in turn]

    assert {each.subject for each in seen} == {"e99"}


def test_without_a_rule_nothing_is_looked_at():
    watched = endings(3)
    watched.rules = ()

    assert a_round(watched) == [[]] * ROUND


# --- what is told --------------------------------------------------------------------


def test_too_little_history_is_told_on_the_watch_list():
    hand = near_certain()

    hand.sweep(ROUND)

    (change,) = hand.changes
    facts = dict(change.finding.facts)
    assert (change.change, change.level) == ("opened", "P3")
    assert (change.finding.verdict, change.finding.blocked_by) == (
        "OBSERVED",
        ("insufficient_data",),
    )
    assert (facts["price"], facts["events"]) == ("0.9700", "0")
    assert int(facts["events_needed"]) > 100


def test_enough_history_makes_a_bet_of_it_that_is_never_p1():
    hand = near_certain(known(400))

    hand.sweep(2 * ROUND)

    (change,) = hand.changes
    assert (change.level, change.finding.verdict, change.finding.blocked_by) == (
        "P2",
        "OBSERVED",
        (),
    )
    assert change.finding.legs[0].outcome == "Yes"
    assert dict(change.finding.facts)["events"] == "400"


def test_a_history_that_comes_later_counts_from_the_next_turn():
    hand = near_certain()
    hand.sweep(ROUND)

    hand.feed("gamma", history_body(known(400)), HISTORY)
    hand.sweep(ROUND)

    assert hand.told() == [("opened", "P3"), ("updated", "P2")]


def test_what_was_lost_often_enough_is_not_told():
    hand = near_certain(known(400, lost=40))

    assert hand.sweep(2 * ROUND) == []


@pytest.mark.parametrize("hours", [25, -1])
def test_what_ends_later_or_has_ended_is_not_told(hours):
    hand = Hand(ENDGAME)
    hand.list(listed(1, hours=hours))
    hand.show(1, 0.96, 0.97)

    assert hand.sweep(ROUND) == []


# --- what is taken back --------------------------------------------------------------


def test_a_price_that_fell_is_taken_back():
    hand = near_certain()
    hand.sweep(ROUND)

    hand.show(1, 0.60, 0.62)
    hand.sweep(ROUND)

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "edge_gone")


def test_the_end_takes_back_what_was_told():
    hand = Hand(ENDGAME)
    hand.list(listed(1, hours=0.01))  # 36 seconds
    hand.show(1, 0.96, 0.97)
    hand.sweep(ROUND)
    assert hand.told() == [("opened", "P3")]

    hand.sweep(36 + ROUND)

    assert hand.told() == [("opened", "P3"), ("closed", "P3")]


def test_a_market_that_is_over_takes_back_what_was_told():
    hand = near_certain()
    hand.sweep(ROUND)
    paid = {"outcomePrices": '["1", "0"]', "umaResolutionStatus": "resolved"}

    hand.list(listed(1, closed=True, acceptingOrders=False, **paid))
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "market_closed")


def test_an_event_that_left_the_scope_is_taken_back():
    hand = Hand(ENDGAME + "scope: {tags: [politics]}\n")
    event = listed(1)
    hand.list({**event, "tags": [{"slug": "politics"}]})
    hand.show(1, 0.96, 0.97)
    hand.sweep(ROUND)

    hand.list({**event, "tags": [{"slug": "weather"}]})
    hand.sweep(ROUND + 1)

    assert hand.told() == [("opened", "P3"), ("closed", "P3")]


def test_frames_of_endings_give_the_same_digest_again():
    hand = near_certain()
    hand.sweep(ROUND)
    hand.feed("gamma", history_body(known(400)), HISTORY)
    hand.sweep(ROUND)
    hand.show(1, 0.60, 0.62)
    hand.sweep(ROUND)
    hand.pipeline.stop()

    assert hand.pipeline.digest.changes == 3
    assert fed([rule(ENDGAME)], hand.frames) == hand.pipeline.digest.hexdigest()
