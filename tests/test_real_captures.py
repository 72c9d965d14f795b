"""What the real venue sent, through the same code: hashes and touches must come out as its own.

The data are not part of the product; they are looked for at `../shared/data`.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from markets.book import PRICE_TEXT, Book
from markets.books import Books
from markets.fills import PRICE_ONE
from markets.polymarket.wire import decode_message
from markets.problems import Problems
from rules.dsl import DutchBookRule
from rules.engine import ActiveRule
from signals.pipeline import Pipeline
from tests.nhl import Night, Said, stated_before_told
from tests.wire_files import condition
from tests.worlds import market_terms

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="real data (../shared/data) are not here")

FIXTURES = DATA / "fixtures"
REST = (
    "fed_june_2026/clob-books",
    "polyarb/clob_book_binary",
    "polyarb/clob_book_negrisk_outcome",
)


def recorded(name: str) -> Any:
    with gzip.open(FIXTURES / f"{name}.json.gz") as file:
        return json.load(file)


def rest_books() -> Iterator[dict[str, Any]]:
    for name in REST:
        found = recorded(name)
        yield from found if isinstance(found, list) else [found]


def book_for(obj: dict[str, Any], *other: dict[str, Any]) -> Book:
    """Return an empty book for a recorded one; `other` is of its market's other outcome."""
    tokens = [obj["asset_id"], *(each["asset_id"] for each in other), "1"][:2]
    terms = market_terms(
        1, condition_id=obj["market"], token_ids=(tokens[0], tokens[1]), neg_risk_id=None
    )
    return Book(terms)


# --- hashes ---------------------------------------------------------------


def test_every_recorded_answer_has_the_hash_of_its_own_levels() -> None:
    checked = 0
    for obj in rest_books():
        book = book_for(obj)
        book.answer(decode_message(json.dumps(obj)), 1)

        assert book.hash_holds() is True
        assert book.digest(obj["asset_id"], obj["timestamp"]) == obj["hash"]
        checked += 1

    assert checked == 12


def test_one_outcomes_answer_gives_the_others_hash_too() -> None:
    """Ten Fed books are five markets: what we hold of one side must have the other's hash."""
    objects = recorded("fed_june_2026/clob-books")
    checked = 0
    for obj in objects:
        (other,) = (o for o in objects if o["market"] == obj["market"] and o is not obj)
        book = book_for(obj, other)
        book.answer(decode_message(json.dumps(obj)), 1)

        assert obj["timestamp"] == other["timestamp"]
        assert book.digest(other["asset_id"], other["timestamp"]) == other["hash"]
        checked += 1

    assert checked == 10


def capture_books() -> tuple[Books, list[bytes]]:
    """Return the three recorded books' two markets, still empty, and the recorded frames."""
    frames = recorded("polyarb/ws_market_capture")
    books = Books(Problems())
    by_market: dict[str, list[str]] = {}
    for event in frames[0]:
        by_market.setdefault(event["market"], []).append(event["asset_id"])
    for number, (market, tokens) in enumerate(by_market.items()):
        first, second = [*tokens, "1"][:2]
        books.add(
            market_terms(number, condition_id=market, token_ids=(first, second), neg_risk_id=None)
        )
    return books, [json.dumps(frame).encode() for frame in frames]


def test_recorded_frames_give_the_hashes_that_they_state() -> None:
    """3 of 3 books of the first frame, then 8 of 8 entries of four price_changes."""
    books, bodies = capture_books()
    book_hashes = delta_hashes = 0

    for number, body in enumerate(bodies):
        books.feed(body, number)
        frame = json.loads(body)
        for event in frame if isinstance(frame, list) else [frame]:
            book = books.by_market[event["market"]]
            for said in event.get("price_changes", [event]):
                digest = book.digest(said["asset_id"], event["timestamp"])
                assert digest == said["hash"], (number, said["asset_id"])
                book_hashes += event["event_type"] == "book"
                delta_hashes += event["event_type"] == "price_change"
        assert all(book.hash_holds() for book in books.by_market.values())

    assert (book_hashes, delta_hashes) == (3, 8)
    assert [book.state for book in books.by_market.values()] == ["fresh", "fresh"]
    assert books.problems.total == 0


def test_recorded_frames_state_the_touch_that_we_hold() -> None:
    books, bodies = capture_books()
    compared = 0

    for number, body in enumerate(bodies):
        books.feed(body, number)
        frame = json.loads(body)
        for entry in frame["price_changes"] if isinstance(frame, dict) else []:
            book = books.by_token[entry["asset_id"]]
            bid, ask = book.bid, book.ask
            if entry["asset_id"] == book.token1:
                bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
            assert (PRICE_TEXT[bid], PRICE_TEXT[ask]) == (entry["best_bid"], entry["best_ask"])
            compared += 1

    assert compared == 8


def test_recorded_frames_apply_the_same_twice_and_in_any_half() -> None:
    once, bodies = capture_books()
    twice, _ = capture_books()

    for number, body in enumerate(bodies):
        once.feed(body, number)
        twice.feed(body, number)
        twice.feed(body, number)
        swapped = json.loads(body)
        if isinstance(swapped, dict):
            swapped["price_changes"].reverse()
            twice.feed(json.dumps(swapped).encode(), number)

    for market, book in once.by_market.items():
        again = twice.by_market[market]
        assert (book.bids, book.asks, book.bid, book.ask) == (
            again.bids,
            again.asks,
            again.bid,
            again.ask,
        )


# --- a whole night --------------------------------------------------------


@pytest.fixture(scope="module")
def night() -> Night:
    return Night(DATA / "ws")


@pytest.fixture(scope="module")
def messages(night: Night) -> list[Said]:
    return list(night.messages())


def pipeline_for(night: Night) -> Pipeline:
    rule = DutchBookRule(code="DUTCH_BOOK_DETECT", title="night", detector="dutch_book")
    pipeline = Pipeline((ActiveRule.of(rule),))
    pipeline.feed(night.listing())
    return pipeline


def units(price: Decimal | None) -> int:
    assert price is not None
    return int(price * PRICE_ONE)


def test_the_rows_are_what_they_are_said_to_be(night: Night, messages: list[Said]) -> None:
    """Rows by type; every entry has its mirror beside it; the venue's times go on per market."""
    changes = [said for said in messages if said.bid is not None]
    newest: dict[int, int] = {}
    back = 0
    for said in changes:
        back += said.ts_ms < newest.get(said.market, 0)
        newest[said.market] = max(said.ts_ms, newest.get(said.market, 0))

    assert Counter(row.type for row in night.rows) == {"P": 357_274, "T": 838}
    assert (len(night.rows), len(changes), len(messages)) == (358_112, 178_637, 179_475)
    assert back == 0  # only between markets and between trades and changes do times step back
    assert len(stated_before_told(messages)) == 13


@pytest.mark.timeout(60)
def test_a_whole_night_has_the_feeds_own_touch_after_every_change(
    night: Night, messages: list[Said]
) -> None:
    """All 358,112 rows through the pipeline, compared with the touch that each change states.

    The recording has no snapshots, so each book opens with what the feed itself
    says was there: the 13 levels that it states as best before it told of an
    order at them, with a size of one share, because the size was never told.
    With these, the level that a change states as best is always one that can be
    known, and all 178,637 changes (357,274 entries, which state the same touch
    for both outcomes) are compared: our best bid and ask must be the stated ones.

    They may differ only inside a batch of the same millisecond, where every
    frame already states the touch after the whole batch; then the book must not
    be evaluable, and must be right after the batch's last frame.
    """
    pipeline = pipeline_for(night)
    for frame in night.opening(stated_before_told(messages)):
        pipeline.feed(frame)
    last_of_batch = _last_of_batch(messages)
    counts: Counter[str] = Counter()

    for number, said in enumerate(messages):
        pipeline.feed(said.frame)
        if said.bid is None:
            counts["trades"] += 1
            continue
        book = pipeline.books.by_market[condition(said.market)]
        equal = (book.bid, book.ask) == (units(said.bid), units(said.ask))
        assert book.evaluable is equal
        if equal:
            counts["equal"] += 1
        else:
            assert number not in last_of_batch, said
            counts["inside a batch"] += 1

    assert counts == {"equal": 178_371, "inside a batch": 266, "trades": 838}
    assert pipeline.problems.total == 0
    assert pipeline.frames == 1 + 6 + 179_475
    assert pipeline.stop() == []  # one book a market: no phantom all night


def _last_of_batch(messages: list[Said]) -> set[int]:
    """Return the numbers of changes that no other of their market and millisecond follows."""
    last: dict[tuple[int, int], int] = {}
    for number, said in enumerate(messages):
        if said.bid is not None:
            last[said.market, said.ts_ms] = number
    return set(last.values())


@pytest.mark.timeout(60)
def test_a_whole_night_from_empty_books_never_betters_the_feed(
    night: Night, messages: list[Said]
) -> None:
    """The same from empty books, nothing taken from the future.

    After the last change of every millisecond of a market, each side is compared
    where it can be: once the feed has told of an order at the level that it
    states as best. Until then the best that we know must be worse than the
    stated one, because what is really there can only be more.
    """
    pipeline = pipeline_for(night)
    for frame in night.opening():
        pipeline.feed(frame)
    last_of_batch = _last_of_batch(messages)
    told: set[tuple[int, bool, Decimal]] = set()
    counts: Counter[str] = Counter()

    for number, said in enumerate(messages):
        pipeline.feed(said.frame)
        if said.bid is None or said.ask is None:
            continue
        told.add((said.market, said.buys, said.price))
        if number not in last_of_batch:
            continue
        book = pipeline.books.by_market[condition(said.market)]
        for buys, stated, ours in ((True, said.bid, book.bid), (False, said.ask, book.ask)):
            if (said.market, buys, stated) in told:
                assert ours == units(stated), said
                counts["equal"] += 1
            else:
                assert ours < units(stated) if buys else ours > units(stated), said
                counts["not yet known"] += 1

    assert counts == {"equal": 296_193, "not yet known": 939}  # sides of 148,566 changes


@pytest.mark.timeout(60)
def test_a_night_told_twice_ends_the_same(night: Night, messages: list[Said]) -> None:
    """Every change of one busy market twice in a row: absolute sizes make that harmless."""
    part = [said for said in messages if said.market == 0 and said.bid is not None][:20_000]
    once, twice = pipeline_for(night), pipeline_for(night)
    for pipeline, times in ((once, 1), (twice, 2)):
        for frame in night.opening():
            pipeline.feed(frame)
        for said in part:
            for _ in range(times):
                pipeline.feed(said.frame)

    first, second = (each.books.by_market[condition(0)] for each in (once, twice))
    assert (first.bids, first.asks, first.state) == (second.bids, second.asks, second.state)


def test_a_level_taken_whole_is_often_told_by_what_rests_there(messages: list[Said]) -> None:
    """Why a price can have one side only (`Book.change`).

    38 times that night an order took all that was offered at a price and rested
    there with what was left of it. 28 times an entry of the same millisecond
    removes the level that was taken; 10 times none does, and only the trade, told
    at most 30 ms later, shows that it was.
    """
    changes = [said for said in messages if said.bid is not None]
    trades = [said for said in messages if said.bid is None]
    removed = {
        (said.market, said.ts_ms, said.buys, said.price) for said in changes if not said.size
    }
    held: set[tuple[int, bool, Decimal]] = set()
    silent: list[Said] = []
    flips = 0
    for said in changes:
        level, other = ((said.market, side, said.price) for side in (said.buys, not said.buys))
        if not said.size:
            held.discard(level)
            continue
        held.add(level)
        if other in held:
            held.remove(other)
            flips += 1
            if (said.market, said.ts_ms, not said.buys, said.price) not in removed:
                silent.append(said)

    assert (flips, len(silent)) == (38, 10)
    for said in silent:
        assert any(
            (trade.market, trade.buys, trade.price) == (said.market, said.buys, said.price)
            and 0 <= trade.ts_ms - said.ts_ms <= 30
            for trade in trades
        ), said
