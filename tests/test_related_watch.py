"""Related markets live: what an approved relation makes of two books, and when it is looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from rules.engine import MOST_WAITING
from rules.kernel.program import SolverFailed
from rules.kernel.relations import Relation, connected_sets
from tests.feed_cast import CROSS, DUTCH, MS, Hand, event_id, fed, market_id, plain, rule
from tests.related import rel
from tests.wire_files import event, market

# By June implies by July: NO of the first at 0.40 and YES of the second at 0.50 pay 1 at least.
IMPLIES = rel("implies", market_id(1), market_id(2))
PROPOSED = rel("implies", market_id(1), market_id(2), approved=False)


def related(*relations: Relation, confirm_terms: bool = False) -> Hand:
    """Return two markets that are listed and related, their books still to come."""
    hand = Hand(CROSS, confirm_terms=confirm_terms)
    hand.list(plain(1), plain(2))
    hand.relate(*relations)
    return hand


def show_gain(hand: Hand, first: int = 1, second: int = 2) -> None:
    hand.show(first, 0.60, 0.65)
    hand.show(second, 0.45, 0.50)


# --- what is found -------------------------------------------------------------------


def test_an_approved_implication_that_pays_is_found_with_its_legs_and_rises():
    hand = related(IMPLIES)

    show_gain(hand)
    (found,) = hand.changes
    hand.sweep()

    finding = found.finding
    assert (finding.kind, finding.verdict, finding.profit) == ("implies", "EXECUTABLE", 10)
    assert [(leg.market_id, leg.outcome, leg.size) for leg in finding.legs] == [
        (market_id(1), "No", 100),
        (market_id(2), "Yes", 100),
    ]
    assert finding.epochs == (hand[1].epoch, hand[2].epoch)
    assert hand.told(at=True) == [("opened", "P2", 0), ("updated", "P1", 250)]


def test_depth_that_moves_under_what_is_too_thin_is_looked_at_ten_times_a_second():
    hand = related(IMPLIES)
    hand.show(1, 0.60, 0.65, sizes=(1, 1))
    hand.show(2, 0.45, 0.50, sizes=(1, 1))  # 0.10 USD: under what the rule asks for
    looks = hand.pipeline.engine.looks

    for number in range(60):
        hand.wait(5)
        hand.show(2, 0.45, 0.50, sizes=(1, 2 + number % 3))

    assert 2 <= hand.pipeline.engine.looks - looks <= 4
    hand.show(1, 0.60, 0.65, sizes=(100, 100))
    hand.show(2, 0.45, 0.50, sizes=(100, 100))
    hand.sweep(2)
    assert [change.level for change in hand.changes][-1] == "P1"


def test_what_pays_no_more_closes():
    hand = related(IMPLIES)
    show_gain(hand)

    hand.wait(400)
    hand.show(2, 0.60, 0.65)
    hand.sweep()

    assert hand.told(at=True)[-1] == ("closed", "P1", 400)
    assert hand.changes[-1].why == "edge_gone"


def test_a_book_that_nobody_keeps_fresh_ends_it():
    hand = related(IMPLIES)
    show_gain(hand)

    hand[2].mark("stale")
    hand.changes += hand.pipeline.episodes.take(
        hand.pipeline.engine.look([hand[2]], at=hand.now), at=hand.now
    )
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "book_stale")


def test_depth_beyond_the_touch_is_looked_at_while_it_pays():
    """A level behind the touch moves no touch, and is more to buy all the same."""
    hand = related(IMPLIES)
    show_gain(hand)
    change = {"asset_id": hand[2].token0, "price": "0.52", "size": "40", "side": "SELL"}
    stated = {"best_bid": "0.45", "best_ask": "0.5", "hash": ""}
    hand.show(1, 0.60, 0.65, sizes=(200, 100))
    before = hand.changes[-1].key

    hand.feed("ws", price_change(hand, 2, {**change, **stated}))
    hand.sweep()

    assert hand.changes[-1].key == before
    assert hand.changes[-1].finding.profit == Decimal("13.2")


def price_change(hand: Hand, number: int, change: dict[str, str]) -> bytes:
    return json.dumps(
        {
            "event_type": "price_change",
            "market": hand[number].condition_id,
            "timestamp": str(hand.now // MS),
            "price_changes": [change],
        }
    ).encode()


def test_order_of_arrival_makes_no_difference():
    """Relations may be known before the markets are listed, and books before both."""
    hand = Hand(CROSS)
    hand.relate(IMPLIES)
    hand.list(plain(1))
    hand.show(1, 0.60, 0.65)
    hand.list(plain(2))
    hand.show(2, 0.45, 0.50)

    assert hand.told() == [("opened", "P2")]
    assert hand.changes[0].finding.verdict == "EXECUTABLE"


def test_relations_that_come_last_are_looked_at_at_once():
    hand = Hand(CROSS)
    hand.list(plain(1), plain(2))
    show_gain(hand)

    (found,) = hand.relate(IMPLIES)

    assert (found.change, found.finding.verdict) == ("opened", "EXECUTABLE")


# --- what nobody approved ------------------------------------------------------------


def test_a_proposed_implication_is_told_as_blocked_and_only_in_its_turn():
    hand = related(PROPOSED)

    show_gain(hand)
    for step in range(20):  # prices that move are no reason to look
        hand.show(2, 0.45, 0.50 - step % 2 / 100)
    looks = hand.pipeline.engine.looks
    hand.sweep()

    assert looks == 0
    assert hand.told() == [("opened", "P3")]
    assert hand.changes[0].finding.blocked_by == ("unapproved_relation",)
    assert hand.pipeline.engine.looks == 1
    assert hand[1].hot == hand[2].hot == 0


def test_the_watch_list_has_its_turns_a_few_sets_a_second():
    pairs = [(number, number + 1) for number in range(1, 51, 2)]
    hand = Hand(CROSS)
    hand.list(*map(plain, range(1, 51)))
    hand.relate(*(rel("implies", *map(market_id, pair), approved=False) for pair in pairs))
    for first, second in pairs:
        show_gain(hand, first, second)

    found = []
    for _ in range(3):
        before = hand.pipeline.engine.looks
        found += hand.sweep()
        assert hand.pipeline.engine.looks - before <= MOST_WAITING

    assert len({change.key for change in found}) == len(pairs)
    assert {change.level for change in found} == {"P3"}


def test_the_same_signal_goes_on_when_its_relation_is_approved():
    hand = related(PROPOSED)
    show_gain(hand)
    hand.sweep()

    hand.relate(IMPLIES)
    hand.sweep()

    assert hand.told() == [("opened", "P3"), ("updated", "P2"), ("updated", "P1")]
    assert len({change.key for change in hand.changes}) == 1
    assert (hand.changes[2].at - hand.changes[1].at) // MS == 250


def test_a_rule_may_leave_the_watch_list_alone():
    hand = Hand(CROSS + "params: {watch_list: false}\n")
    hand.list(plain(1), plain(2))
    hand.relate(PROPOSED)
    show_gain(hand)

    assert hand.sweep(3) == []


def test_a_kind_that_the_rule_does_not_want_is_not_told():
    hand = Hand(CROSS + "params: {kinds: [exclusive]}\n")
    hand.list(plain(1), plain(2))
    hand.relate(IMPLIES)
    show_gain(hand)

    assert hand.sweep(3) == []


def test_one_market_out_of_scope_takes_the_relation_out():
    hand = Hand(CROSS + f'scope: {{events: ["{event_id(1)}"]}}\n')
    hand.list(plain(1), plain(2))
    hand.relate(IMPLIES)
    show_gain(hand)

    assert hand.sweep() == []


# --- relations and terms that change -------------------------------------------------


def test_a_relation_that_is_withdrawn_closes_its_signal():
    hand = related(IMPLIES)
    show_gain(hand)
    hand.wait(300)

    hand.relate()
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "relation_gone")
    assert hand[1].hot == hand[2].hot == 0
    assert hand[1].also == hand[2].also == ()


def test_what_others_relate_does_not_disturb_a_set():
    hand = related(IMPLIES)
    hand.list(plain(3), plain(4))
    (watch,) = hand.pipeline.engine.related_to(market_id(1))

    hand.relate(IMPLIES, rel("implies", market_id(3), market_id(4)))

    assert hand.pipeline.engine.related_to(market_id(1)) == (watch,)
    assert len(hand.pipeline.engine.related_to(market_id(3))) == 1


def test_a_market_that_pauses_blocks_at_the_moment_it_is_listed_so():
    hand = related(IMPLIES)
    show_gain(hand)
    hand.wait(300)

    hand.list(plain(2, acceptingOrders=False))

    assert (hand.changes[-1].level, hand.changes[-1].finding.blocked_by) == (
        "P3",
        ("not_tradable",),
    )


def test_a_fee_that_comes_later_counts():
    hand = related(IMPLIES)
    show_gain(hand)
    fee = {"rate": 0.05, "exponent": 1, "takerOnly": True}

    hand.list(plain(2, feesEnabled=True, feeSchedule=fee))
    hand.sweep()

    assert hand.changes[-1].finding.fees > 0
    assert hand.changes[-1].finding.profit < 10


def test_a_market_that_is_over_ends_what_it_was_part_of():
    hand = related(IMPLIES)
    show_gain(hand)
    paid = {"outcomePrices": '["1", "0"]', "umaResolutionStatus": "resolved"}

    hand.list(plain(2, closed=True, acceptingOrders=False, **paid))
    hand.sweep()

    assert hand.changes[-1].change == "closed"
    assert len(hand.pipeline.episodes) == 0
    assert hand[1].hot == 0


def test_terms_of_both_events_have_to_be_told_after_it_began_to_pay():
    hand = related(IMPLIES, confirm_terms=True)
    hand.wait(10)
    show_gain(hand)
    assert hand.changes[-1].finding.blocked_by == ("unconfirmed_terms",)
    assert hand.changes[-1].level == "P3"

    hand.wait(10)
    hand.list(plain(1))
    assert hand.changes[-1].finding.verdict == "BLOCKED"
    hand.wait(10)
    hand.list(plain(2))
    hand.sweep()

    assert hand.told() == [("opened", "P3"), ("updated", "P2"), ("updated", "P1")]


def test_what_stopped_paying_in_between_is_confirmed_anew():
    hand = related(IMPLIES, confirm_terms=True)
    show_gain(hand)
    hand.wait(10)
    hand.list(plain(1), plain(2))
    assert hand.changes[-1].finding.verdict == "EXECUTABLE"

    hand.wait(10)
    hand.show(2, 0.60, 0.65)
    hand.wait(10)
    hand.show(2, 0.45, 0.50)

    assert hand.changes[-1].finding.blocked_by == ("unconfirmed_terms",)


def test_terms_of_what_is_not_bought_need_not_be_told_again():
    """A set may reach over many events; only those of the legs are asked for."""
    hand = Hand(CROSS, confirm_terms=True)
    hand.list(plain(1), plain(2), plain(3))
    hand.relate(IMPLIES, rel("implies", market_id(2), market_id(3)))
    hand.show(3, 0.70, 0.80)
    hand.wait(10)
    show_gain(hand)
    assert hand.changes[-1].finding.blocked_by == ("unconfirmed_terms",)

    hand.wait(10)
    hand.list(plain(1), plain(2))

    assert hand.changes[-1].finding.verdict == "EXECUTABLE"


def gives_up(*_: Any, **__: Any) -> None:
    raise SolverFailed("numerical difficulties")


def test_a_set_that_cannot_be_solved_ends_no_others(monkeypatch):
    hand = related(IMPLIES)
    show_gain(hand)

    monkeypatch.setattr("rules.related.detect_related", gives_up)
    hand.wait(10)
    hand.show(2, 0.46, 0.51)
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "unsolved")
    assert hand.pipeline.engine.unsolved > 0


# --- who wants every change of a book ------------------------------------------------


def in_one_event(*numbers: int) -> dict:
    return event([market(number) for number in numbers])


def test_a_book_counts_everybody_who_wants_its_every_change():
    """The basket of an event and a relation may both pay at once."""
    hand = Hand(DUTCH, CROSS)
    hand.list(in_one_event(1, 3), plain(2))
    hand.relate(IMPLIES)

    hand.show(1, 0.60, 0.65)
    hand.show(3, 0.20, 0.30)
    assert (hand[1].hot, hand[2].hot, hand[3].hot) == (1, 0, 1)
    hand.show(2, 0.45, 0.50)
    assert (hand[1].hot, hand[2].hot, hand[3].hot) == (2, 1, 1)

    hand.show(3, 0.30, 0.40)  # the basket costs more than 1 again
    assert (hand[1].hot, hand[2].hot, hand[3].hot) == (1, 1, 0)
    hand.relate()
    assert (hand[1].hot, hand[2].hot, hand[3].hot) == (0, 0, 0)


def test_a_basket_that_ends_while_it_pays_wants_no_more_changes():
    hand = Hand(DUTCH)
    hand.list(in_one_event(1, 2))
    hand.show(1, 0.30, 0.35)
    hand.show(2, 0.40, 0.45)
    assert (hand[1].hot, hand[2].hot) == (1, 1)

    apart = [market(number, neg_risk=False) for number in (1, 2)]
    hand.list(event(apart, neg_risk=False))

    assert (hand[1].hot, hand[2].hot) == (0, 0)


steps = some.lists(
    some.one_of(
        some.tuples(some.just("show"), some.integers(1, 4), some.sampled_from([30, 45, 60])),
        some.tuples(some.just("list"), some.integers(1, 4), some.booleans()),
        some.tuples(some.just("relate"), some.sets(some.sampled_from([(1, 2), (2, 3), (4, 2)])),
                    some.booleans()),
        some.tuples(some.just("rules"), some.sampled_from([(DUTCH,), (CROSS,), (DUTCH, CROSS)]),
                    some.none()),
        some.tuples(some.just("sweep"), some.none(), some.none()),
    ),
    max_size=25,
)  # fmt: skip


def step(hand: Hand, what: str, which, how) -> None:
    hand.wait(7)
    if what == "show":
        hand.show(which, how / 100, how / 100 + 0.05)
    elif what == "list" and which in (1, 3):
        hand.list(event([market(1, acceptingOrders=how), market(3, acceptingOrders=how)]))
    elif what == "list":
        hand.list(plain(which, acceptingOrders=how))
    elif what == "relate":
        hand.relate(
            *(rel("implies", *map(market_id, pair), approved=how) for pair in sorted(which))
        )
    elif what == "rules":
        hand.use_rules(*which)
    else:
        hand.sweep()


@given(steps=steps)
@hypothesis(max_examples=60, deadline=None)
def test_counts_of_books_are_those_of_their_watches_whatever_happens(steps):
    hand = Hand(DUTCH, CROSS)
    hand.list(in_one_event(1, 3), plain(2), plain(4))
    for each in steps:
        step(hand, *each)

        engine = hand.pipeline.engine
        for number in range(1, 5):
            book = hand[number]
            others = [watch for watch in engine.related_to(market_id(number)) if watch.hot]
            assert book.hot == bool(book.group and book.group.hot) + len(others)
            assert set(book.also) == set(engine.related_to(market_id(number)))

    hand.changes += hand.relate()
    hand.use_rules()
    assert {hand[number].also for number in range(1, 5)} == {()}
    assert len(hand.pipeline.episodes) == sum(
        {"opened": 1, "closed": -1}.get(change.change, 0) for change in hand.changes
    )


@given(steps=steps)
@hypothesis(max_examples=25, deadline=None)
def test_frames_of_the_venue_and_of_the_desk_give_the_same_digest_again(steps):
    hand = Hand(DUTCH, CROSS)
    hand.list(in_one_event(1, 3), plain(2), plain(4))
    for each in steps:
        step(hand, *each)
    hand.pipeline.stop()

    digest = hand.pipeline.digest.hexdigest()
    assert fed([rule(DUTCH), rule(CROSS)], hand.frames) == digest


# --- connected sets ------------------------------------------------------------------

kinds = some.sampled_from(["exclusive", "exhaustive", "equivalent", "ladder"])
relations_among = some.lists(
    some.builds(
        lambda kind, members: rel(kind, *members),
        kinds,
        some.lists(some.sampled_from("abcdefghij"), min_size=2, max_size=4, unique=True),
    ),
    max_size=12,
)


def slow_sets(relations: Sequence[Relation]) -> list[tuple[Relation, ...]]:
    """Merge two sets that share a market until none do."""
    sets = [[number] for number in range(len(relations))]

    def members(held: list[int]) -> set[str]:
        return {member for number in held for member in relations[number].members}

    merged = True
    while merged:
        merged = False
        for one in sets:
            other = next((s for s in sets if s is not one and members(s) & members(one)), None)
            if other is not None:
                sets.remove(other)
                one += other
                merged = True
                break
    return [tuple(relations[n] for n in sorted(held)) for held in sorted(sets, key=min)]


@given(relations=relations_among)
@hypothesis(max_examples=300, deadline=None)
def test_connected_sets_are_those_that_a_slow_search_finds(relations):
    assert connected_sets(relations) == slow_sets(relations)
