"""The engine: nothing that the kernel would find is missed, nothing is seen in a broken book."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from markets.book import PRICE_TEXT, Book
from markets.books import Books
from markets.fills import FREE, PRICE_ONE, Fee
from markets.frames import Frame
from markets.listing import EventTerms, MarketTerms
from markets.polymarket.wire import Message, Row
from markets.problems import Problems
from markets.simulator.world import World, frames
from rules.dsl import parse_rule
from rules.engine import ActiveRule, Engine, Sighting
from rules.kernel.finding import Finding
from rules.watch import REFRESH, Watch
from signals.pipeline import Pipeline
from tests.worlds import event_view, market_terms

START = 1_770_000_000_000_000_000
SECOND = 1_000_000_000
RULE_TEXT = """
code: DUTCH_BOOK_DETECT
title: Dutch book
detector: dutch_book
"""


def a_rule(more: str = "") -> ActiveRule:
    return ActiveRule.of(parse_rule(RULE_TEXT + more, source="test"))


def terms_of(*legs: MarketTerms, **changes: Any) -> EventTerms:
    return replace(event_view([]).terms, markets=legs, **changes)


def show(book: Book, *, bid: int | None, ask: int | None, size: str = "100") -> None:
    """Give a book one level a side, prices in 1e-4 USD; None leaves a side empty."""
    bids = [] if bid is None else [Row(PRICE_TEXT[bid], size)]
    asks = [] if ask is None else [Row(PRICE_TEXT[ask], size)]
    message = Message("book", book.condition_id, book.token0, "1", bids=bids, asks=asks)
    book.snapshot(message, START)


class Desk:
    """An engine with the books of one event."""

    def __init__(self, terms: EventTerms, *rules: ActiveRule) -> None:
        self.engine = Engine(rules or (a_rule(),))
        self.books = {leg.condition_id: Book(leg) for leg in terms.markets}
        self.list(terms)

    def list(self, terms: EventTerms) -> list[Sighting]:
        """Take over terms and return what is seen at once."""
        seen = self.engine.watch_event(terms, self.books, at=START)
        self.watches = list(self.engine.watches.values())
        return seen

    def __getitem__(self, number: int) -> Book:
        return self.books[f"0x{number:064x}"]

    def show(self, number: int, *, bid: int | None, ask: int | None) -> list[Finding]:
        """Give a leg a new touch and return what is found then."""
        show(self[number], bid=bid, ask=ask)
        return self.look(number)

    def look(self, *numbers: int) -> list[Finding]:
        seen = self.engine.look([self[number] for number in numbers], at=START)
        return [finding for sighting in seen for finding in sighting.findings]


def legs(count: int, **changes: Any) -> list[MarketTerms]:
    return [market_terms(number, **changes) for number in range(count)]


# --- the sums ------------------------------------------------------------------------

cents = some.integers(1, 99).map(lambda cent: cent * 100)
touches = some.tuples(
    some.integers(0, 3), cents | some.none(), cents | some.none(), some.integers(0, 9)
)


def costs(watch: Watch) -> list[float]:
    return [book.cost for book in watch.books]


def gains(watch: Watch) -> list[float]:
    return [book.gain for book in watch.books]


@given(moves=some.lists(touches, max_size=60))
@hypothesis(max_examples=150, deadline=None)
def test_running_sums_equal_sums_from_scratch(moves):
    event = terms_of(
        market_terms(0, fee=Fee(Decimal("0.04"))),
        market_terms(1, outcomes=("No", "Yes")),
        market_terms(2, fee=None),
        market_terms(3, untradable="resolved", payout=Decimal(0)),
    )
    desk = Desk(event)

    for number, bid, ask, luck in moves:
        show(desk[number], bid=bid, ask=ask)
        if luck == 0:
            desk[number].mark("stale")
        desk.look(number)

    (watch,) = desk.watches
    ran = costs(watch), gains(watch)
    afresh = Watch(event, event.markets)
    afresh.hold(watch.books)
    assert watch.total == pytest.approx(afresh.total, abs=1e-9)
    assert watch.gain == pytest.approx(afresh.gain, abs=1e-9)
    assert ran == (costs(afresh), gains(afresh))


def test_sums_do_not_drift():
    desk = Desk(terms_of(*legs(3, fee=Fee(Decimal("0.0375")))))
    (watch,) = desk.watches

    for step in range(3 * REFRESH + 7):
        desk.show(step % 3, bid=100 + step % 900, ask=3_000 + 7 * step % 3_000)

    assert watch.total == pytest.approx(sum(costs(watch)), abs=1e-12)
    assert watch.gain == pytest.approx(sum(gains(watch)), abs=1e-12)


# --- nothing is missed ---------------------------------------------------------------

leg_terms = some.fixed_dictionaries(
    {
        "untradable": some.sampled_from([None] * 6 + ["paused", "placeholder", "closed"]),
        "fee": some.sampled_from([FREE, FREE, Fee(Decimal("0.04")), None]),
        "outcomes": some.sampled_from([("Yes", "No"), ("Yes", "No"), ("No", "Yes")]),
        "tick": some.sampled_from([10, 100]),
    }
) | some.fixed_dictionaries(
    {
        "untradable": some.just("resolved"),
        "payout": some.sampled_from([Decimal(0), Decimal(0), Decimal("0.5"), Decimal(1)]),
    }
)
# Cheap enough that sets of three to five come near 1 from both sides.
touch = some.one_of(
    some.tuples(some.integers(1, 30), some.integers(1, 4)),
    some.tuples(some.integers(55, 90), some.integers(1, 4)),
    some.tuples(some.integers(1, 40), some.none()),
    some.tuples(some.none(), some.integers(1, 40)),
    some.none(),
)


def show_touch(desk: Desk, leg: MarketTerms, touch: tuple[int | None, int | None] | None) -> None:
    if touch is None or leg.untradable in ("resolved", "closed"):
        return  # no book has come, or none is kept
    low, spread = touch
    bid = None if low is None else 100 * low
    ask = None if spread is None else min(100 * ((low or 0) + spread), PRICE_ONE - 100)
    show(desk.books[leg.condition_id], bid=bid, ask=ask)


@given(
    terms=some.lists(leg_terms, min_size=2, max_size=5),
    shown=some.lists(touch, min_size=5, max_size=5),
    augmented=some.booleans(),
    stale=some.none() | some.integers(0, 4),
)
@hypothesis(max_examples=600, deadline=None)
def test_sums_let_everything_through_that_the_kernel_finds(terms, shown, augmented, stale):
    markets = [market_terms(number, **given) for number, given in enumerate(terms)]
    event = terms_of(*markets, augmented=augmented)
    desk = Desk(event)
    everything = Watch(event, event.markets)  # kept by hand: an event that is over has none
    everything.books = list(desk.books.values())

    for leg, told in zip(markets, shown, strict=False):
        show_touch(desk, leg, told)
    if stale is not None and stale < len(markets):
        desk[stale].mark("stale")
    found = desk.look(*range(len(markets)))

    truth, _ = desk.engine.detect(everything, a_rule().limits, at=START)
    assert [replace(finding, epochs=()) for finding in found] == list(truth)


def essence(findings: Any) -> list[tuple[Any, ...]]:
    return [(f.kind, f.legs, f.cost, f.min_payoff, f.verdict, f.blocked_by) for f in findings]


def subjects_of(frame: Frame, pipeline: Pipeline) -> Iterator[str]:
    """Yield the watches that a frame says something about."""
    if frame.ch != "ws":
        yield from pipeline.engine.watches
        return
    told = json.loads(frame.body)
    for message in told if isinstance(told, list) else [told]:
        book = pipeline.books.by_market.get(message.get("market", ""))
        if book and isinstance(book.group, Watch):
            yield book.group.subject


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_every_frame_leaves_what_the_kernel_would_see(seed):
    """After each frame, ask the kernel about every event that the frame spoke of."""
    rule = a_rule()
    pipeline = Pipeline([rule])
    engine, look_at = pipeline.engine, pipeline.engine.look_at
    last: dict[str, list[tuple[Any, ...]]] = {}

    def note(watch: Watch, *, at: int) -> list[Sighting]:
        seen = look_at(watch, at=at)
        last[watch.subject] = essence(finding for each in seen for finding in each.findings)
        return seen

    engine.look_at = note
    world = World(seed=seed, events=40, start=START, plant_every=4, decoy_every=2, jump_every=4)
    findings = 0

    for frame in frames(world, until=START + 60 * SECOND):
        pipeline.feed(frame)
        for subject in set(subjects_of(frame, pipeline)):
            truth, _ = engine.detect(engine.watches[subject], rule.limits, at=frame.t)
            findings += len(truth)
            assert last.get(subject, []) == essence(truth), (frame.body, subject)

    assert findings > 100


# --- legs that are special -----------------------------------------------------------


def test_basket_below_one_is_found_when_its_last_leg_moves():
    desk = Desk(terms_of(*legs(3)))

    assert desk.show(0, bid=2_900, ask=3_000) == []
    assert desk.show(1, bid=2_900, ask=3_000) == []
    (found,) = desk.show(2, bid=2_900, ask=3_500)

    assert (found.kind, found.verdict, found.profit) == ("yes_basket", "EXECUTABLE", 5)


def test_basket_of_no_is_found_when_bids_add_up_to_more_than_one():
    desk = Desk(terms_of(*legs(3), augmented=True))

    for number in range(2):
        desk.show(number, bid=4_000, ask=4_500)
    (found,) = desk.show(2, bid=4_000, ask=4_500)

    assert (found.kind, found.verdict, found.profit) == ("no_basket", "EXECUTABLE", 20)


def test_leg_resolved_to_no_need_not_be_bought():
    settled = market_terms(2, untradable="resolved", payout=Decimal(0))
    desk = Desk(terms_of(*legs(2), settled))

    desk.show(0, bid=4_000, ask=4_500)
    (found,) = desk.show(1, bid=4_000, ask=4_500)

    assert (found.verdict, found.market_ids) == ("EXECUTABLE", ("100", "101"))


def test_leg_resolved_to_yes_ends_the_event():
    settled = market_terms(2, untradable="resolved", payout=Decimal(1))
    desk = Desk(terms_of(*legs(2), settled))

    desk.show(0, bid=4_000, ask=4_500)

    assert desk.show(1, bid=4_000, ask=4_500) == []


def test_leg_that_is_not_named_yet_blocks_the_basket_and_says_so():
    placeholder = market_terms(2, untradable="placeholder")
    desk = Desk(terms_of(*legs(2), placeholder, augmented=True))

    desk.show(0, bid=3_000, ask=4_500)
    (found,) = desk.show(1, bid=3_000, ask=4_500)

    assert found.verdict == "BLOCKED"
    assert found.blocked_by == ("augmented", "missing_leg", "not_tradable")


def test_leg_sold_out_blocks_the_basket_and_says_so():
    desk = Desk(terms_of(*legs(3)))

    desk.show(0, bid=2_900, ask=3_000)
    desk.show(1, bid=2_900, ask=3_000)
    (found,) = desk.show(2, bid=3_000, ask=None)

    assert (found.verdict, found.blocked_by) == ("BLOCKED", ("one_sided",))


def test_outcomes_named_the_other_way_round_are_bought_on_their_own_side():
    """Outcome 0 of the second market is "No": its YES is bought at 1 - bid."""
    inverted = market_terms(1, outcomes=("No", "Yes"))
    desk = Desk(terms_of(market_terms(0), inverted))

    desk.show(0, bid=2_900, ask=3_000)
    (found,) = desk.show(1, bid=3_500, ask=3_600)

    assert (found.kind, found.profit) == ("yes_basket", 5)
    assert [leg.outcome for leg in found.legs] == ["Yes", "Yes"]
    assert found.legs[1].token_id == inverted.token_ids[1]


def test_markets_of_a_plain_event_are_no_basket():
    desk = Desk(terms_of(*legs(3, neg_risk_id=None), neg_risk=False))

    for number in range(3):
        assert desk.show(number, bid=100, ask=200) == []

    assert [watch.subject for watch in desk.watches] == ["100", "101", "102"]


def test_crossed_book_is_no_finding():
    """A snapshot that is crossed on its own and would make the basket pay."""
    desk = Desk(terms_of(*legs(2)))

    desk.show(0, bid=2_900, ask=3_000)

    assert desk.show(1, bid=5_000, ask=4_000) == []
    assert costs(desk.watches[0])[1] > 1


# --- terms that change ---------------------------------------------------------------


def paying() -> Desk:
    """Two outcomes for 0.95 together."""
    desk = Desk(terms_of(*legs(2)))
    desk.show(0, bid=4_000, ask=4_500)
    desk.show(1, bid=4_500, ask=5_000)
    return desk


def looked_at_anew(desk: Desk, terms: EventTerms) -> Sighting:
    (seen,) = desk.list(terms)
    return seen


def test_fee_that_comes_later_counts():
    desk = paying()

    assert desk.look(0)[0].profit == 5
    seen = looked_at_anew(desk, terms_of(*legs(2, fee=Fee(Decimal("0.04")))))

    assert seen.findings[0].fees > 0
    assert seen.findings[0].profit < 5


def test_event_that_becomes_augmented_is_blocked():
    seen = looked_at_anew(paying(), terms_of(*legs(2), augmented=True))

    assert seen.findings[0].blocked_by == ("augmented",)


def test_new_leg_takes_the_basket_away_until_its_book_is_there():
    desk = paying()
    desk.books[f"0x{2:064x}"] = Book(market_terms(2))

    seen = looked_at_anew(desk, terms_of(*legs(3)))
    (found,) = desk.show(2, bid=200, ask=300)

    assert (seen.findings, seen.why) == ((), "book_awaiting")
    assert found.profit == 2


def test_leg_that_left_the_event_speaks_for_it_no_more():
    desk = Desk(terms_of(*legs(3)))
    for number in range(3):
        desk.show(number, bid=4_000, ask=4_500)

    desk.list(terms_of(*legs(2)))

    assert desk.show(2, bid=100, ask=200) == []
    assert not desk[2].hot


def test_event_that_left_the_scope_is_seen_no_more():
    rule = a_rule("scope: {min_liquidity_usd: 100}")
    desk = Desk(terms_of(*legs(2, liquidity=Decimal(60))), rule)
    desk.show(0, bid=4_000, ask=4_500)
    assert desk.show(1, bid=4_500, ask=5_000)

    seen = looked_at_anew(desk, terms_of(*legs(2, liquidity=Decimal(40))))

    assert (seen.rule, seen.findings, seen.why) == (rule, (), "out_of_scope")
    assert desk.look(0, 1) == []


def test_event_that_is_over_is_watched_no_more():
    desk = paying()
    over = legs(2, untradable="resolved", payout=Decimal(1))

    seen = looked_at_anew(desk, terms_of(*over, closed=True))

    assert (seen.findings, seen.why) == ((), "market_closed")
    assert desk.engine.watches == {}


@pytest.mark.parametrize(("state", "why"), [("stale", "book_stale"), ("awaiting", "book_awaiting")])
def test_distrusted_leg_is_named(state, why):
    desk = paying()
    desk.look(0)

    desk[1].mark(state)
    (seen,) = desk.engine.look([desk[1]], at=START)

    assert (seen.findings, seen.why) == ((), why)


# --- hashes --------------------------------------------------------------------------


def wire(event: str, book: Book, **fields: Any) -> bytes:
    return json.dumps({"event_type": event, "market": book.condition_id, **fields}).encode()


def snapshot_frame(book: Book, bids: dict[int, str], asks: dict[int, str]) -> bytes:
    rows = {
        "bids": [{"price": PRICE_TEXT[price], "size": bids[price]} for price in sorted(bids)],
        "asks": [
            {"price": PRICE_TEXT[price], "size": asks[price]}
            for price in sorted(asks, reverse=True)
        ],
    }
    return wire("book", book, asset_id=book.token0, timestamp="1000", **rows)


def change_frame(book: Book, price: int, size: str, side: str, stated: dict[str, str]) -> bytes:
    change = {"asset_id": book.token0, "price": PRICE_TEXT[price], "size": size, "side": side}
    return wire("price_change", book, timestamp="2000", price_changes=[{**change, **stated}])


def test_hash_of_a_half_told_batch_hides_the_basket_until_the_rest_is_told():
    """The second frame of the millisecond moves no touch, and yet the basket is there then."""
    first, second = legs(2)
    books = Books(Problems())
    engine = Engine([a_rule()])
    for terms in (first, second):
        books.add(terms)
    engine.watch_event(terms_of(first, second), books.by_market)
    book, other = (books.by_market[terms.condition_id] for terms in (first, second))
    rows = {4_000: "100"}, {6_000: "100", 7_000: "50"}
    engine.look(books.feed(snapshot_frame(other, {4_000: "100"}, {4_500: "100"}), START), at=START)
    engine.look(books.feed(snapshot_frame(book, *rows), START), at=START)
    after = Book(first)
    after.bids, after.asks = {4_000: "100"}, {5_000: "100", 6_000: "100", 7_000: "80"}
    stated = {"hash": after.digest(book.token0, "2000"), "best_bid": "0.4", "best_ask": "0.5"}

    halfway = engine.look(
        books.feed(change_frame(book, 5_000, "100", "SELL", stated), START + 1), at=START + 1
    )
    touched = books.feed(change_frame(book, 7_000, "80", "SELL", stated), START + 2)
    whole = engine.look(touched, at=START + 2)

    assert [seen.findings for seen in halfway] == [()]
    assert halfway[0].why == "book_batch"
    assert [finding.profit for seen in whole for finding in seen.findings] == [5]
