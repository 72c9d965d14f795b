"""All books fed with whatever a connection may bring: counted, named, and nothing else stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.book import Book
from markets.books import Books
from markets.fills import PRICE_ONE
from markets.listing import MarketTerms
from markets.problems import Problem, Problems
from tests.worlds import market_terms

T0 = 1_780_000_000_000
ALPHA = market_terms(1, token_ids=("1" * 77, "2" * 78))  # as long as the venue's longest
BETA = market_terms(2, token_ids=("3" * 76, "4" * 78))


def levels(*rows: tuple[str, str]) -> list[dict[str, str]]:
    return [{"price": price, "size": size} for price, size in rows]


def snapshot(terms: MarketTerms = ALPHA, *, at: int = T0, **changes: Any) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": terms.condition_id,
        "asset_id": terms.token_ids[0],
        "timestamp": str(at),
        "hash": "",
        "bids": levels(("0.3", "7"), ("0.4", "10")),
        "asks": levels(("0.7", "9"), ("0.6", "20")),
        **changes,
    }


def change(
    terms: MarketTerms = ALPHA,
    price: str = "0.45",
    size: str = "5",
    *,
    at: int = T0 + 1,
    **changes: Any,
) -> dict[str, Any]:
    entry = {"asset_id": terms.token_ids[0], "price": price, "size": size, "side": "BUY"}
    return {
        "event_type": "price_change",
        "market": terms.condition_id,
        "timestamp": str(at),
        "price_changes": [entry | changes],
    }


def encoded(*events: dict[str, Any]) -> bytes:
    return json.dumps(events[0] if len(events) == 1 else events).encode()


@pytest.fixture
def books() -> Books:
    return two_books()


def two_books() -> Books:
    """Return books of two markets, both fresh at 0.4 / 0.6."""
    books = Books(Problems())
    for terms in (ALPHA, BETA):
        books.add(terms)
    books.feed(encoded(snapshot(ALPHA), snapshot(BETA)), 1)
    books.take_moved()
    return books


def alpha(books: Books) -> Book:
    return books.by_market[ALPHA.condition_id]


def beta(books: Books) -> Book:
    return books.by_market[BETA.condition_id]


def only_problem(books: Books) -> Problem:
    (problem,) = books.problems.drain()
    return problem


# --- frames that cannot be read -------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
UNREADABLE = {
    "empty": b"",
    "garbage": bytes(range(256)),
    "zeros": b"\x00" * 4_000,
    "cut": encoded(change())[:-7],
    "not JSON": b"PONGPONG",
    "null": b"null",
    "number": b"12",
    "text": b'"book"',
    "NaN": b'{"market": NaN}',
    "nested arrays": b"[[[]]]",
    "deep array": DEEP,
    "deep field": b'{"market": "x", "extra": ' + DEEP + b"}",
    "deep piece": b'[{"market": "x", "extra": ' + DEEP + b"}]",
    "not UTF-8": encoded(change()).replace(b'"BUY"', b'"B\xff"'),
    "lone surrogate": encoded(change()).replace(b'"BUY"', rb'"\udc00"'),
    "half a pair": encoded(change()).replace(b'"BUY"', rb'"\ud83d"'),
    "number for text": encoded(change()).replace(b'"5"', b"5"),
    "null for text": encoded(change()).replace(b'"5"', b"null"),
    "huge number": encoded(change()).replace(b'"5"', b"9" * 5_000),
    "list for object": encoded(change()).replace(b"{", b"[").replace(b"}", b"]"),
    "entry without a size": encoded(change()).replace(b'"size"', b'"sise"'),
    "level without a price": encoded(snapshot()).replace(b'"price"', b'"prize"', 1),
    "huge": b'{"market": "' + b"x" * 5_000_000,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_frame_that_cannot_be_read_is_counted_with_a_sample(books: Books, name: str) -> None:
    body = UNREADABLE[name]

    books.feed(body, 5)

    problem = only_problem(books)
    assert (problem.source, problem.reason, problem.count) == ("ws", "bad_frame", 1)
    assert problem.detail
    assert problem.sample in body.decode(errors="replace")
    assert len(problem.sample) in (len(body), len(body) - 2, 2_000)  # -2: an array's one element
    assert problem.first_at == problem.last_at == 5


@pytest.mark.parametrize("name", UNREADABLE)
def test_the_next_frame_applies_after_one_that_cannot_be_read(books: Books, name: str) -> None:
    books.feed(UNREADABLE[name], 5)

    books.feed(encoded(change(BETA, "0.45")), 6)

    assert (beta(books).bid, beta(books).state) == (4_500, "fresh")
    books.feed(encoded(snapshot(ALPHA, at=T0 + 9)), 7)
    assert (alpha(books).bid, alpha(books).state) == (4_000, "fresh")


NAMING = ("cut", "not UTF-8", "lone surrogate", "half a pair", "number for text", "null for text")
NAMING += ("huge number", "entry without a size", "level without a price", "list for object")


@pytest.mark.parametrize("name", NAMING)
def test_a_book_that_an_unreadable_frame_names_is_stale_and_looked_at(
    books: Books, name: str
) -> None:
    looked_at = books.feed(UNREADABLE[name], 5)

    assert (alpha(books).state, alpha(books).evaluable) == ("stale", False)
    assert list(looked_at) == books.take_moved() == [alpha(books)]
    assert alpha(books).received == 5
    assert beta(books).state == "fresh"


def test_an_unreadable_frame_may_name_a_book_by_its_token_only(books: Books) -> None:
    body = encoded(change()).replace(ALPHA.condition_id.encode(), b"0xNOT")[:-3]

    assert list(books.feed(body, 5)) == [alpha(books)]

    assert alpha(books).state == "stale"


def test_one_bad_element_harms_no_other(books: Books) -> None:
    bad = change(ALPHA)
    del bad["price_changes"][0]["side"]
    array = json.dumps([None, 5, bad, change(BETA, "0.45"), "x", [change(BETA, "0.5")]])

    looked_at = books.feed(array.encode(), 5)

    assert list(looked_at) == [alpha(books), beta(books)]
    assert alpha(books).state == "stale"
    assert beta(books).bid == 4_500
    problem = only_problem(books)
    assert (problem.reason, problem.count) == ("bad_frame", 5)


def test_an_element_cannot_be_read_and_its_neighbours_say_it_is_stale_no_more(books: Books) -> None:
    cut = json.dumps([5, snapshot(ALPHA, at=T0 + 5)])

    books.feed(encoded(change(ALPHA, "0.45"))[:-4], 4)
    books.feed(cut.encode(), 5)

    assert (alpha(books).state, alpha(books).bid) == ("fresh", 4_000)


# --- values that cannot be ------------------------------------------------

BAD_VALUES = {
    "price over 1": change(price="1.5"),
    "price of 1": change(price="1"),
    "price of 0": change(price="0"),
    "negative price": change(price="-0.1"),
    "price off the grid": change(price="0.12345"),
    "NaN price": change(price="NaN"),
    "endless price": change(price="1e99999999999"),
    "price of no number": change(price="cheap"),
    "NaN size": change(size="NaN"),
    "endless size": change(size="1e999"),
    "negative size": change(size="-5"),
    "size of no number": change(size="many"),
    "no size": change(size=""),
    "foreign asset": change(asset_id="9" * 78),
    "asset of another market": change(asset_id=BETA.token_ids[0]),
    "snapshot with a bad level": snapshot(bids=levels(("0.4", "10"), ("1.4", "10"))),
    "snapshot of a foreign asset": snapshot(asset_id="9" * 78),
    "snapshot without asks": snapshot(asks=None),
    "snapshot without a time": snapshot(timestamp=""),
    "change without entries": {**change(), "price_changes": None},
}


@pytest.mark.parametrize("name", BAD_VALUES)
@pytest.mark.timeout(5)
def test_a_value_that_cannot_be_is_counted_and_leaves_its_book_stale(
    books: Books, name: str
) -> None:
    body = encoded(BAD_VALUES[name])

    looked_at = books.feed(body, 5)

    problem = only_problem(books)
    assert (problem.source, problem.reason) == ("ws", "bad_value")
    assert problem.subject == ALPHA.market_id
    assert problem.sample == body.decode()
    assert (alpha(books).state, alpha(books).evaluable) == ("stale", False)
    assert list(looked_at) == books.take_moved() == [alpha(books)]
    assert alpha(books).received == 5
    assert beta(books).state == "fresh"


def test_a_side_that_is_neither_is_named_and_leaves_its_book_stale(books: Books) -> None:
    books.feed(encoded(change(side="HOLD")), 5)

    problem = only_problem(books)
    assert (problem.source, problem.reason) == ("ws", "bad_frame")
    assert "'HOLD' - at `$.price_changes[0].side`" in problem.detail
    assert (alpha(books).state, beta(books).state) == ("stale", "fresh")


def test_a_bad_first_frame_is_dated_when_it_came(books: Books) -> None:
    gamma = market_terms(3)
    books.add(gamma)

    books.feed(encoded(snapshot(gamma, bids=levels(("7", "1")))), 5)

    assert books.by_market[gamma.condition_id].received == 5


def test_a_known_asset_under_an_unknown_market_leaves_its_book_stale(books: Books) -> None:
    body = encoded({**change(), "market": "0x" + "f" * 64})

    assert list(books.feed(body, 5)) == [alpha(books)]

    assert alpha(books).state == "stale"
    problem = only_problem(books)
    assert (problem.reason, problem.subject) == ("bad_value", ALPHA.market_id)


# --- what we do not know --------------------------------------------------


def test_an_unknown_event_is_counted_by_name(books: Books) -> None:
    event = {"event_type": "comet", "market": ALPHA.condition_id}

    assert not books.feed(encoded(event, {"event_type": "comet"}), 5)

    problem = only_problem(books)
    assert (problem.reason, problem.subject, problem.count) == ("unknown_event", "comet", 2)
    assert books.counts["unknown_event"] == 2
    assert alpha(books).state == "fresh"


@pytest.mark.parametrize("body", [b"{}", b"[{}]", b'{"event_type": ""}'])
def test_an_object_without_a_type_is_an_unknown_event(books: Books, body: bytes) -> None:
    books.feed(body, 5)

    assert only_problem(books).subject == "(none)"


def test_an_unknown_market_is_counted_and_is_no_problem(books: Books) -> None:
    stranger = market_terms(9)

    assert not books.feed(encoded(snapshot(stranger), change(stranger)), 5)

    assert books.counts["unknown_market"] == 2
    assert not books.problems.drain()


def test_an_empty_array_says_nothing(books: Books) -> None:
    assert not books.feed(b"[]\n", 5)

    assert not books.problems.drain()


def test_unknown_fields_are_counted(books: Books) -> None:
    event = {**change(), "colour": "red"}
    event["price_changes"][0]["shade"] = "dark"

    books.feed(encoded(event), 5)
    books.look_for_unknown_fields(encoded(event), 5)

    found = {(problem.reason, problem.subject) for problem in books.problems.drain()}
    assert found == {
        ("unknown_field", "price_change.colour"),
        ("unknown_field", "price_change.price_changes.shade"),
    }
    assert alpha(books).state == "fresh"


def test_looking_for_unknown_fields_survives_what_cannot_be_read(books: Books) -> None:
    for body in UNREADABLE.values():
        books.feed(body, 5)
        books.look_for_unknown_fields(body, 5)

    subjects = {problem.subject for problem in books.problems.drain()}
    assert subjects == {"", "price_change.price_changes.sise"}


def test_listing_events_go_to_whoever_listens(books: Books) -> None:
    heard: list[tuple[str, bytes, int]] = []
    books.on_listing = lambda *what: heard.append(what)
    new = encoded({"event_type": "new_market", "id": "7"})
    resolved = encoded({"event_type": "market_resolved", "market": ALPHA.condition_id})

    books.feed(new, 5)
    books.feed(resolved, 6)

    assert heard == [("new_market", new, 5), ("market_resolved", resolved, 6)]
    assert books.counts["new_market"] == books.counts["market_resolved"] == 1


# --- known events that are not about levels -------------------------------


def test_a_tick_size_change_drops_the_book_until_its_snapshot(books: Books) -> None:
    event = {
        "event_type": "tick_size_change",
        "market": ALPHA.condition_id,
        "asset_id": ALPHA.token_ids[0],
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
        "timestamp": str(T0 + 1),
    }

    assert list(books.feed(encoded(event), 5)) == [alpha(books)]
    books.feed(encoded(change(at=T0 + 2)), 6)
    assert (alpha(books).state, alpha(books).tick_size) == ("awaiting", "0.001")
    assert alpha(books).received == 5

    books.feed(encoded(snapshot(at=T0 + 3, tick_size="0.001")), 7)
    assert (alpha(books).state, alpha(books).bid) == ("fresh", 4_000)


@pytest.mark.parametrize("event", ["last_trade_price", "best_bid_ask"])
def test_trades_and_touches_change_no_book(books: Books, event: str) -> None:
    body = {"event_type": event, "market": ALPHA.condition_id, "price": "7", "best_bid": "0.99"}

    assert not books.feed(encoded(body), 5)

    assert books.counts[event] == 1
    assert (alpha(books).bid, alpha(books).state) == (4_000, "fresh")


# --- which books are looked at --------------------------------------------


def test_only_books_whose_touch_or_trust_moved_are_looked_at(books: Books) -> None:
    assert not books.feed(encoded(change(price="0.1")), 5)
    assert list(books.feed(encoded(change(), change(BETA, "0.1")), 6)) == [alpha(books)]

    beta(books).hot = True

    assert list(books.feed(encoded(change(BETA, "0.2")), 7)) == [beta(books)]
    assert books.take_moved() == [alpha(books)]
    assert books.take_moved() == []


def test_a_book_in_one_frame_twice_is_looked_at_once(books: Books) -> None:
    assert list(books.feed(encoded(change(), change(price="0.5")), 5)) == [alpha(books)]


# --- which books there are ------------------------------------------------


def test_adding_a_market_again_keeps_its_book(books: Books) -> None:
    assert books.add(ALPHA) is alpha(books)
    assert alpha(books).state == "fresh"


def test_a_market_with_other_tokens_gets_another_book(books: Books) -> None:
    old = alpha(books)
    renewed = market_terms(1, token_ids=("5" * 77, "6" * 77))

    book = books.add(renewed)

    assert book is not old
    assert book.state == "awaiting"
    assert [books.by_token.get(token) for token in ALPHA.token_ids] == [None, None]
    assert [books.by_token.get(token) for token in renewed.token_ids] == [book, book]


def test_a_market_that_has_no_condition_yet_is_named_by_no_frame(books: Books) -> None:
    first = books.add(market_terms(8, condition_id=""))
    second = books.add(market_terms(9, condition_id=""))

    books.feed(encoded({**snapshot(), "market": ""}), 5)

    assert first is not second
    assert first.state == second.state == "awaiting"
    assert len(books) == 2


def test_a_dropped_market_is_unknown(books: Books) -> None:
    books.drop(ALPHA.condition_id)
    books.drop("0xnever")

    books.feed(encoded(change()), 5)

    assert books.counts["unknown_market"] == 1
    assert len(books) == 1
    assert set(books.by_token) == set(BETA.token_ids)


# --- connections and answers ----------------------------------------------


def test_a_cut_connection_leaves_its_own_books_stale(books: Books) -> None:
    books.feed(encoded(snapshot(ALPHA)), 2, conn=1)
    books.feed(encoded(snapshot(BETA)), 3, conn=2)

    assert list(books.closed(1, at=9)) == [alpha(books)]
    assert (alpha(books).state, beta(books).state) == ("stale", "fresh")

    books.opened(1)
    books.feed(encoded(change()), 4, conn=1)
    assert alpha(books).state == "stale"
    books.feed(encoded(snapshot(ALPHA, at=T0 + 5)), 5, conn=1)
    assert alpha(books).state == "fresh"


def answer_of(*terms: MarketTerms) -> list[dict[str, Any]]:
    """Return a `/books` answer: like book events, without their type."""
    rows = [snapshot(each, at=T0 + 5) for each in terms]
    for row in rows:
        del row["event_type"]
    return rows


def test_an_answer_heals_the_books_it_names() -> None:
    books = Books(Problems())
    for terms in (ALPHA, BETA):
        books.add(terms)

    healed = books.answer(json.dumps(answer_of(ALPHA, market_terms(9))).encode(), 5)

    assert list(healed) == [alpha(books)]
    assert (alpha(books).state, beta(books).state) == ("fresh", "awaiting")
    assert books.counts["answer:healed"] == books.counts["answer:unknown_market"] == 1


@pytest.mark.parametrize(
    "bad", [None, 5, "x", {"market": ALPHA.condition_id, "asset_id": 5, "bids": []}]
)
def test_one_bad_book_in_an_answer_harms_no_other(bad: object) -> None:
    books = Books(Problems())
    for terms in (ALPHA, BETA):
        books.add(terms)

    books.answer(json.dumps([bad, *answer_of(BETA)]).encode(), 5)

    assert beta(books).state == "fresh"
    assert only_problem(books).reason == "bad_answer"


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_counted(books: Books, name: str) -> None:
    books.answer(UNREADABLE[name], 5)

    assert {problem.reason for problem in books.problems.drain()} <= {"bad_answer", "bad_value"}
    assert (alpha(books).state, beta(books).state) == ("fresh", "fresh")


def test_an_error_object_is_no_book(books: Books) -> None:
    assert not books.answer(b'{"error": "No orderbook exists for the requested token id"}', 5)

    assert alpha(books).state == "fresh"


# --- anything at all ------------------------------------------------------

GOOD = (
    encoded(snapshot(ALPHA, hash="a" * 40, tick_size="0.01", last_trade_price="0.5")),
    encoded(snapshot(ALPHA, at=T0 + 1, asset_id=ALPHA.token_ids[1]), snapshot(BETA)),
    encoded(change(ALPHA, hash="b" * 40, best_bid="0.45", best_ask="0.6")),
    encoded(change(ALPHA, "0.3", "0", at=T0 + 2), change(BETA, at=T0 + 3)),
    encoded({"event_type": "tick_size_change", "market": ALPHA.condition_id}),
)
NASTY = (b"null", b"-1", b"1e999", b'"NaN"', b'"1e99999"', b"[]", b"{}", b"\xff", b"\\ud800", b"")
NASTY += (b'"', b"}", b"]", b"[" * 2_000, b"9" * 400, b'"0.5"', b'"0"', b"\x00", b'"book"')


@st.composite
def mutated(draw: Any) -> bytes:
    """A good frame with bytes cut, put in, doubled or exchanged."""
    body = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        to = min(len(body), at + draw(st.integers(0, 30)))
        put = draw(st.sampled_from(NASTY) | st.binary(max_size=4) | st.just(body[at:to] * 2))
        body = body[:at] + put + body[to:]
    return body


def holds_together(book: Book) -> None:
    """Check what must be true of any book that may be evaluated."""
    assert book.bid == max(book.bids, default=0)
    assert book.ask == min(book.asks, default=PRICE_ONE)
    assert all(0 < price < PRICE_ONE for price in (*book.bids, *book.asks))
    for outcome in (0, 1):
        ladder = book.asks_of(outcome)
        assert list(ladder) == sorted(ladder)
        assert all(size > 0 for _, size in ladder)
    assert book.evaluable is (book.state == "fresh")
    book.hash_holds()


@settings(max_examples=400, deadline=None)
@given(bodies=st.lists(mutated() | st.binary(max_size=60), min_size=1, max_size=5))
def test_no_frame_stops_the_next(bodies: list[bytes]) -> None:
    books = two_books()

    for number, body in enumerate(bodies, start=10):
        for book in books.feed(body, number):
            assert book in (alpha(books), beta(books))
        for book in (alpha(books), beta(books)):
            holds_together(book)
    books.feed(encoded(snapshot(ALPHA, at=T0 + 10**6), snapshot(BETA, at=T0 + 10**6)), 90)
    books.feed(encoded(change(BETA, at=T0 + 10**6 + 1)), 91)

    assert (alpha(books).state, alpha(books).bid) == ("fresh", 4_000)
    assert (beta(books).state, beta(books).bid) == ("fresh", 4_500)


@settings(max_examples=150, deadline=None)
@given(bodies=st.lists(mutated() | st.binary(max_size=60), min_size=1, max_size=4))
def test_no_answer_stops_the_next(bodies: list[bytes]) -> None:
    books = two_books()

    for number, body in enumerate(bodies, start=10):
        books.answer(body, number)
        for book in (alpha(books), beta(books)):
            holds_together(book)
    books.feed(encoded(snapshot(ALPHA, at=T0 + 10**6), snapshot(BETA, at=T0 + 10**6)), 90)

    assert alpha(books).state == beta(books).state == "fresh"
