"""Single markets live: every change of the touch counts once, gaps start anew, time is swept."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from markets.book import NO_ASK, NO_BID, PRICE_TEXT, Book
from markets.polymarket.wire import Change, Delta, Message, Row
from rules.engine import ActiveRule, Engine
from rules.kernel.finding import Finding
from rules.kernel.imbalance import Imbalance, imbalance_finding
from rules.series import ImbalanceTracker, Series
from tests.feed_cast import DUTCH, SECOND, START, TILT, Hand, fed, plain, rule
from tests.worlds import event_view, market_terms

SPIKE = """
code: SPIKE_DETECT
title: Price spike
detector: spike
params: {threshold: 8, warmup_updates: 10, refractory_updates: 5, min_depth_usd: 0, hold_secs: 30}
"""
TREND = """
code: TREND_BREAKOUT
title: Breakout
detector: trend
params: {bar_secs: 1, bars: 5, min_width_logit: 0, hold_secs: 20}
"""


def show(book: Book, bid: int, ask: int) -> None:
    """Give a book one level a side, prices in 1e-4 USD."""
    bids, asks = [Row(PRICE_TEXT[bid], "100")], [Row(PRICE_TEXT[ask], "100")]
    book.snapshot(Message("book", book.condition_id, book.token0, "1", bids=bids, asks=asks), START)


class Counting:
    """A tracker that counts what it is given and tells of it while `tells` is set."""

    deep = False

    def __init__(self) -> None:
        self.touches: list[tuple[int, int]] = []
        self.restarts = 0
        self.waiting = self.tells = False

    def restart(self) -> None:
        self.restarts += 1
        self.touches = []

    def touched(self, book: Book, at: int) -> None:
        self.touches.append((book.bid, book.ask))

    def finding(self, terms, at: int) -> Finding | None:
        tilt = Imbalance(at, at, 0.9, 1.0, 1.0, 10_000)
        return imbalance_finding(terms, tilt) if self.tells else None


@pytest.fixture
def book() -> Book:
    book = Book(market_terms(0))
    show(book, 4_000, 4_200)
    return book


@pytest.fixture
def tracker() -> Counting:
    return Counting()


@pytest.fixture
def series(book: Book, tracker: Counting) -> Series:
    series = Series(market_terms(0), book)
    series.trackers = [(rule(TILT), tracker)]
    return series


# --- what counts ---------------------------------------------------------------------


def test_the_same_touch_again_counts_once(series, book, tracker):
    for bid in (4_000, 4_000, 4_100, 4_100, 4_000):
        show(book, bid, 4_200)
        series.look(START)
        series.look(START)

    assert tracker.touches == [(4_000, 4_200), (4_100, 4_200), (4_000, 4_200)]


def test_a_sweep_counts_for_what_waits_for_time_and_for_nothing_else(series, tracker):
    other = Counting()
    other.waiting = True
    series.trackers.append((rule(SPIKE), other))
    series.look(START)

    series.look(START + SECOND, swept=True)

    assert len(tracker.touches) == 1
    assert len(other.touches) == 2
    assert series.waiting


def test_a_crossed_book_is_passed_over(series, book, tracker):
    show(book, 4_300, 4_200)

    series.look(START)

    assert (tracker.touches, tracker.restarts) == ([], 0)


@pytest.mark.parametrize("state", ["stale", "awaiting"])
def test_a_gap_starts_everything_anew(series, book, tracker, state):
    tracker.tells = True
    series.look(START)

    book.mark(state)
    tracker.tells = False
    (seen,) = series.look(START)
    restarts = tracker.restarts
    show(book, 4_000, 4_200)  # the price from before the gap
    series.look(START)

    assert (seen.findings, seen.why) == ((), f"book_{state}")
    assert restarts == 1
    assert tracker.touches == [(4_000, 4_200)]


def test_a_gap_that_healed_before_anybody_looked_starts_anew_too(series, book, tracker):
    series.look(START)
    show(book, 4_100, 4_200)
    series.look(START)

    book.mark("stale")
    show(book, 4_100, 4_200)
    series.look(START)

    assert tracker.restarts == 1
    assert tracker.touches == [(4_100, 4_200)]


def test_what_was_told_is_taken_back_once(series, tracker):
    tracker.tells = True
    (told,) = series.look(START)
    tracker.tells = False

    (back,) = series.look(START)

    assert [finding.kind for finding in told.findings] == ["imbalance"]
    assert (back.findings, back.why) == ((), "moved_back")
    assert series.look(START) == []
    assert not series.waiting


# --- in the engine -------------------------------------------------------------------


def test_a_spike_is_told_once_however_often_its_frames_come():
    hands = [Hand(SPIKE), Hand(SPIKE)]
    for times, hand in enumerate(hands, start=1):
        hand.list(plain(1))
        for number in range(40):
            low = 0.40 + (0.01 if number % 2 else 0) + (0.20 if number > 30 else 0)
            for _ in range(times):
                hand.show(1, round(low, 2), round(low + 0.02, 2))
            hand.wait(300)

    once, twice = ([change.line() for change in hand.changes] for hand in hands)
    assert [change.change for change in hands[0].changes] == ["opened"]
    assert dict(hands[0].changes[0].finding.facts)["direction"] == "up"
    assert once == twice


def test_a_spike_that_stands_is_over_after_its_time_though_nothing_comes():
    hand = Hand(SPIKE)
    hand.list(plain(1))
    for number in range(40):
        low = 0.40 + (0.01 if number % 2 else 0) + (0.20 if number > 30 else 0)
        hand.show(1, round(low, 2), round(low + 0.02, 2))
        hand.wait(300)
    opened = hand.changes[0].at

    hand.sweep(40)

    assert hand.told() == [("opened", "P2"), ("closed", "P2")]
    assert 30 <= (hand.changes[1].at - opened) / SECOND <= 32


def test_a_breakout_is_told_and_taken_back_when_the_price_returns():
    hand = Hand(TREND)
    hand.list(plain(1))
    for number in range(8):
        hand.show(1, 0.40 if number % 2 else 0.41, 0.43)
        hand.wait(1_000)
    hand.show(1, 0.50, 0.52)
    hand.wait(100)
    hand.show(1, 0.40, 0.43)
    hand.sweep()

    assert [change.finding.kind for change in hand.changes] == ["breakout", "breakout"]
    assert (hand.changes[1].change, hand.changes[1].why) == ("closed", "moved_back")


def tilted(*texts: str, seconds: int = 5) -> Hand:
    """Return a book whose bids outweigh its asks for a while."""
    hand = Hand(*texts or (TILT,))
    hand.list(plain(1))
    hand.show(1, 0.40, 0.42, sizes=(1_000, 100))
    hand.sweep(seconds)
    return hand


def test_a_tilted_book_is_told_when_it_has_stood_though_nothing_comes():
    hand = tilted(seconds=6)

    assert [change.change for change in hand.changes] == ["opened"]
    assert 3 <= (hand.changes[0].at - START) / SECOND <= 5


def test_a_tilt_that_builds_up_below_an_unmoved_touch_is_told():
    hand = Hand(TILT)
    hand.list(plain(1))
    hand.show(1, 0.40, 0.42)
    book = hand[1]

    hand.wait(10)
    entry = {
        "asset_id": book.token0,
        "price": "0.4",
        "size": "100000",
        "side": "BUY",
        "best_bid": "0.4",
        "best_ask": "0.42",
    }
    message = {
        "event_type": "price_change",
        "market": book.condition_id,
        "price_changes": [entry],
        "timestamp": str(hand.now // 1_000_000),
    }
    hand.feed("ws", json.dumps(message).encode())
    hand.sweep(6)

    assert [change.finding.kind for change in hand.changes] == ["imbalance"]
    hand.use_rules(DUTCH)
    assert book.hot == 0
    assert book.also == ()


def test_a_rule_that_did_not_change_keeps_what_it_knows():
    hand = tilted(TILT)

    changes = hand.use_rules(TILT, DUTCH)
    hand.sweep(2)

    assert changes == []
    assert hand.told() == [("opened", "P2")]


def test_a_rule_that_changed_begins_anew():
    hand = tilted(TILT)

    hand.use_rules(TILT.replace("Book tilted", "Book on one side"))
    soon = hand.sweep(2)
    later = hand.sweep(4)

    assert hand.told()[:2] == [("opened", "P2"), ("closed", "P2")]
    assert hand.changes[1].why == "rule_changed"
    assert soon == []
    assert [change.change for change in later] == ["opened"]


def test_a_rule_that_runs_no_more_leaves_nothing_behind():
    hand = tilted(TILT)

    hand.use_rules(DUTCH)

    assert hand.told()[-1] == ("closed", "P2")
    assert hand[1].also == ()
    assert hand.sweep(6) == []


def test_a_market_that_is_over_takes_back_what_was_told():
    hand = tilted()
    book = hand[1]
    paid = {"outcomePrices": '["1", "0"]', "umaResolutionStatus": "resolved"}

    hand.list(plain(1, closed=True, acceptingOrders=False, **paid))
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "market_closed")
    assert book.also == ()


def test_a_market_that_left_the_scope_takes_back_what_was_told():
    hand = Hand(TILT + "scope: {tags: [politics]}\n")
    listed = plain(1)
    hand.list({**listed, "tags": [{"slug": "politics"}]})
    hand.show(1, 0.40, 0.42, sizes=(1_000, 100))
    hand.sweep(5)

    hand.list({**listed, "tags": [{"slug": "sports"}]})
    hand.sweep()

    assert (hand.changes[-1].change, hand.changes[-1].why) == ("closed", "out_of_scope")


def engine_of(*rules: ActiveRule) -> tuple[Engine, Book]:
    terms = market_terms(0, neg_risk_id=None)
    event = replace(event_view([]).terms, markets=(terms,), neg_risk=False)
    engine, book = Engine(rules), Book(terms)
    engine.watch_event(event, {terms.condition_id: book}, at=START)
    return engine, book


def test_other_terms_that_prices_depend_on_begin_anew():
    engine, book = engine_of(rule(TILT))
    (before,) = book.also
    finer = market_terms(0, neg_risk_id=None, tick=100)

    for terms, same in ((replace(before.terms, question="Another?"), True), (finer, False)):
        event = replace(event_view([]).terms, markets=(terms,), neg_risk=False)
        engine.watch_event(event, {terms.condition_id: book}, at=START)
        (after,) = book.also
        assert (after.trackers[0][1] is before.trackers[0][1]) is same


def test_another_book_of_the_same_market_begins_anew():
    engine, book = engine_of(rule(TILT))
    (before,) = book.also
    another = Book(before.terms)
    event = replace(event_view([]).terms, markets=(before.terms,), neg_risk=False)

    engine.watch_event(event, {before.terms.condition_id: another}, at=START)

    assert book.also == ()
    assert another.also[0].trackers[0][1] is not before.trackers[0][1]


def test_frames_of_single_markets_give_the_same_digest_again():
    hand = tilted(TILT, SPIKE)
    hand.use_rules(SPIKE, TILT.replace("Book tilted", "Book on one side"))
    hand.sweep(6)
    hand.pipeline.stop()

    assert hand.pipeline.digest.changes >= 4
    assert fed([rule(TILT), rule(SPIKE)], hand.frames) == hand.pipeline.digest.hexdigest()


def change_level(book: Book, number: int, side: str, price: int, size: str) -> None:
    """Tell a book of one level, with the touch that this leads to."""
    bids, asks = dict(book.bids), dict(book.asks)
    (bids if side == "BUY" else asks)[price] = size
    bid = max((p for p in bids if bids[p] != "0"), default=NO_BID)
    ask = min((p for p in asks if asks[p] != "0"), default=NO_ASK)
    entry = Change(book.token0, PRICE_TEXT[price], size, side, PRICE_TEXT[bid], PRICE_TEXT[ask])
    book.change(Delta(book.condition_id, f"2{number:04}", [entry]), START, b"")


def test_levels_followed_change_by_change_tilt_as_those_of_a_book_that_is_read_anew():
    rng = random.Random(3)
    book, definition = Book(market_terms(0)), rule(TILT).definition
    show(book, 4_000, 4_200)
    book.hot = 1  # as a series has it that looks below the touch
    along = ImbalanceTracker(market_terms(0), definition)
    along.touched(book, START)
    told = 0
    for number in range(2_000):
        side, size = rng.choice(("BUY", "SELL")), rng.choice(("0", "20", "3000"))
        low = 3_500 if side == "BUY" else 4_200
        change_level(book, number, side, rng.randrange(low, low + 501, 100), size)
        if rng.random() < 0.1:
            continue  # nobody looked
        at = START + number * SECOND
        anew = ImbalanceTracker(market_terms(0), definition)
        along.touched(book, at)
        anew.touched(book, at)
        assert along.waiting == anew.waiting
        told += along.waiting
    assert 200 < told < 1_700


def test_a_side_that_nobody_offers_is_no_tilt_however_near_the_edge_the_touch_is():
    hand = Hand(TILT)
    hand.list(plain(1))
    book = hand[1]
    asks = [Row("0.02", "90000")]
    book.snapshot(Message("book", book.condition_id, book.token0, "1", bids=[], asks=asks), START)

    tracker = ImbalanceTracker(market_terms(0), rule(TILT).definition)
    tracker.touched(book, START)

    assert book.evaluable
    assert not tracker.waiting
