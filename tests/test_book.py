"""One market's book against a slow oracle that keeps both outcomes apart, in Decimal."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from markets.book import NO_ASK, NO_BID, BadValue, Book, size_units
from markets.fills import PRICE_ONE, SIZE_ONE, mirrored
from markets.polymarket.wire import DECODE_ERRORS, decode_message
from tests.worlds import market_terms

TERMS = market_terms(1)
TOKENS = TERMS.token_ids
T0 = 1_780_000_000_000  # ms
OTHER_SIDE = {"BUY": "SELL", "SELL": "BUY"}
EMPTY = {"BUY": "0", "SELL": "1"}


def message(**fields: Any) -> bytes:
    """Return an event about the market as it comes over the wire."""
    return json.dumps({"market": TERMS.condition_id, **fields}).encode()


def apply(book: Book, body: bytes, received: int = 1) -> bool:
    """Give an event to the book; gives whether its touch or state is another now."""
    event = decode_message(body)
    if event.event_type == "price_change":
        return book.change(event, received, body)
    book.snapshot(event, received)
    return True


def snapshot(
    bids: Any = (), asks: Any = (), *, token: int = 0, at: int = T0, **fields: Any
) -> bytes:
    """Return a `book` event of one outcome; levels are (price, size) texts."""
    sides = {
        name: [{"price": price, "size": size} for price, size in levels]
        for name, levels in (("bids", bids), ("asks", asks))
    }
    return message(
        **{"event_type": "book", "asset_id": TOKENS[token], "timestamp": str(at)} | sides | fields
    )


def entry(token: int, side: str, price: str, size: str, **fields: str) -> dict[str, str]:
    return {"asset_id": TOKENS[token], "side": side, "price": price, "size": size, **fields}


def change(*entries: dict[str, str], at: int = T0 + 1, **fields: Any) -> bytes:
    return message(
        **{"event_type": "price_change", "timestamp": str(at), "price_changes": entries} | fields
    )


def fresh(bids: Any = (("0.4", "10"),), asks: Any = (("0.6", "20"),), **fields: Any) -> Book:
    book = Book(TERMS)
    apply(book, snapshot(bids, asks, **fields))
    return book


# --- the oracle -----------------------------------------------------------


class Oracle:
    """What was said, told to both outcomes: price -> (size, its text) per token and side."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.sides: dict[tuple[int, str], dict[Decimal, tuple[Decimal, str]]] = {
            (token, side): {} for token in (0, 1) for side in ("BUY", "SELL")
        }

    def rest(self, token: int, side: str, price: Decimal, size: str) -> None:
        """An order rests at a price, where its other side can have nothing left."""
        if Decimal(size):
            self.set(token, OTHER_SIDE[side], price, "0")
        self.set(token, side, price, size)

    def set(self, token: int, side: str, price: Decimal, size: str) -> None:
        for outcome, way, level in (
            (token, side, price),
            (1 - token, OTHER_SIDE[side], 1 - price),
        ):
            levels = self.sides[outcome, way]
            levels.pop(level, None)
            if Decimal(size):
                levels[level] = (Decimal(size), size)

    def best(self, token: int, side: str) -> Decimal | None:
        levels = self.sides[token, side]
        if not levels:
            return None
        return max(levels) if side == "BUY" else min(levels)

    def touch(self, token: int) -> dict[str, str]:
        """Return the touch as an entry states it."""
        names = {"BUY": "best_bid", "SELL": "best_ask"}
        stated = {}
        for side, name in names.items():
            best = self.best(token, side)
            stated[name] = EMPTY[side] if best is None else text(best)
        return stated

    def crossed(self) -> bool:
        bid, ask = self.best(0, "BUY"), self.best(0, "SELL")
        return bid is not None and ask is not None and bid >= ask

    def asks(self, token: int) -> list[tuple[int, int]]:
        levels = self.sides[token, "SELL"]
        return [
            (int(price * PRICE_ONE), int(levels[price][0] * SIZE_ONE)) for price in sorted(levels)
        ]

    def digest(self, token: int, *, at: int, last: str) -> str:
        """Return the venue's book hash: sha1 of the compact JSON of `/book` (API page 3.5)."""
        bids, asks = self.sides[token, "BUY"], self.sides[token, "SELL"]
        obj = {
            "market": TERMS.condition_id,
            "asset_id": TOKENS[token],
            "timestamp": str(at),
            "hash": "",
            "bids": [{"price": text(p), "size": bids[p][1]} for p in sorted(bids)],
            "asks": [{"price": text(p), "size": asks[p][1]} for p in sorted(asks, reverse=True)],
            "min_order_size": "5",
            "tick_size": "0.001",
            "neg_risk": True,
            "last_trade_price": last,
        }
        compact = json.dumps(obj, separators=(",", ":"))
        return hashlib.sha1(compact.encode()).hexdigest()


def text(price: Decimal) -> str:
    return f"{price.normalize():f}"


# Few prices, so that the same level is hit again and books cross now and then.
PRICES = tuple(map(Decimal, ("0.001", "0.3", "0.45", "0.5", "0.5025", "0.55", "0.7", "0.9999")))
SPELLINGS = (str, lambda p: f"{p}0", lambda p: str(p).removeprefix("0"), lambda p: f"{p:.6f}")
SIZES = ("0", "0.00", "0.000000", "5", "5.0", "12.34", "0.01", "0.000001", "5579792.8", "1e3")

prices = st.sampled_from(PRICES)
spelled = st.sampled_from(SPELLINGS)
sizes = st.sampled_from(SIZES)
tokens = st.sampled_from((0, 1))
ways = st.sampled_from(("BUY", "SELL"))
levels = st.dictionaries(prices, st.tuples(sizes, spelled), max_size=6)
# One change: who speaks of it, in which order, and how the price is spelled.
told = st.tuples(
    tokens, ways, prices, sizes, spelled, st.sampled_from(("both", "swapped", "one", "twice"))
)


def entries_of(told_changes: list[Any], oracle: Oracle) -> list[dict[str, str]]:
    """Tell the oracle a frame's changes and return its entries, their touch still open."""
    entries = []
    for token, side, price, size, spell, shape in told_changes:
        oracle.rest(token, side, price, size)
        own = entry(token, side, spell(price), size)
        other = entry(1 - token, OTHER_SIDE[side], text(1 - price), size)
        entries += {
            "both": [own, other],
            "swapped": [other, own],
            "one": [own],
            "twice": [own, other, own, other],
        }[shape]
    return entries


def state_touch(entries: list[dict[str, str]], oracle: Oracle) -> None:
    """Write what the oracle holds now into the entries."""
    for each in entries:
        each |= oracle.touch(TOKENS.index(each["asset_id"]))


class BookMachine(RuleBasedStateMachine):
    """Frames of every shape; after each, the book must say what the oracle says."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(TERMS)
        self.oracle = Oracle()
        self.note = "awaiting"  # why deltas are not applied, or ""
        self.now = T0
        self.said_at = T0  # venue time of the state that is held
        self.last = b""
        self.received = 0

    def apply(self, body: bytes) -> None:
        self.received += 1
        self.last, self.said_at = body, self.now
        apply(self.book, body, self.received)

    @initialize()
    def starts_without_a_snapshot(self) -> None:
        assert self.book.state == "awaiting"
        assert not self.book.evaluable

    @rule(token=tokens, bids=levels, asks=levels)
    def snapshot(self, token: int, bids: Any, asks: Any) -> None:
        self.now += 1
        self.oracle.clear()
        for side, rows in (("BUY", bids), ("SELL", asks)):
            for price, (size, _) in rows.items():
                self.oracle.set(token, side, price, size)
        self.note = ""
        self.apply(
            snapshot(
                [(spell(p), size) for p, (size, spell) in sorted(bids.items())],
                [(spell(p), size) for p, (size, spell) in sorted(asks.items(), reverse=True)],
                token=token,
                at=self.now,
                hash="",
                last_trade_price="0.5",
            )
        )

    @precondition(lambda self: not self.note)
    @rule(
        changes=st.lists(told, min_size=1, max_size=4),
        stated=st.booleans(),
        later=st.integers(0, 2),
    )
    def change(self, changes: list[Any], stated: bool, later: int) -> None:
        self.now += later  # 0: a delta with the snapshot's own time may follow it
        entries = entries_of(changes, self.oracle)
        if stated:
            state_touch(entries, self.oracle)
        self.apply(change(*entries, at=self.now))

    @precondition(lambda self: not self.note)
    @rule(frames=st.lists(st.lists(told, min_size=1, max_size=2), min_size=2, max_size=4))
    def batch(self, frames: list[list[Any]]) -> None:
        """All frames of one millisecond state the touch after the last of them."""
        self.now += 1
        told_frames = [entries_of(changes, self.oracle) for changes in frames]
        for entries in told_frames:
            state_touch(entries, self.oracle)
        touch = self.oracle.touch(0)
        for entries in told_frames:
            self.apply(change(*entries, at=self.now))
            held = {"best_bid": text_of(self.book.bid), "best_ask": text_of(self.book.ask)}
            if held != touch:
                assert not self.book.evaluable, "evaluated in the middle of a batch"
                assert self.book.state in ("batch", "crossed")

    @precondition(lambda self: self.last and not self.note)
    @rule(times=st.integers(1, 2))
    def repeat_the_last_frame(self, times: int) -> None:
        for _ in range(times):
            assert not apply(self.book, self.last) or b'"book"' in self.last

    @precondition(lambda self: not self.note)
    @rule(why=st.sampled_from(("stale", "awaiting")))
    def distrust(self, why: str) -> None:
        self.note = why
        self.book.mark(why)

    @precondition(lambda self: self.note)
    @rule(changes=st.lists(told, min_size=1, max_size=3))
    def change_without_trust(self, changes: list[Any]) -> None:
        before = (dict(self.book.bids), dict(self.book.asks))

        moved = apply(self.book, change(*entries_of(changes, Oracle()), at=self.now))

        assert not moved
        assert (self.book.bids, self.book.asks) == before

    @precondition(lambda self: not self.note and b'"book"' in self.last)
    @rule(changes=st.lists(told, min_size=1, max_size=3))
    def change_older_than_the_snapshot(self, changes: list[Any]) -> None:
        assert not apply(self.book, change(*entries_of(changes, Oracle()), at=self.now - 1))

    @invariant()
    def is_what_the_oracle_says(self) -> None:
        if self.note:
            assert self.book.state == self.note
            assert not self.book.evaluable
            return
        book, oracle = self.book, self.oracle
        assert text_of(book.bid) == oracle.touch(0)["best_bid"]
        assert text_of(book.ask) == oracle.touch(0)["best_ask"]
        for token in (0, 1):
            assert list(book.asks_of(token)) == oracle.asks(token)
            expected = oracle.digest(token, at=self.said_at, last=book.last_trade_price)
            assert book.digest(TOKENS[token], str(self.said_at)) == expected
        bids = tuple((p, size_units(s)) for p, s in sorted(book.bids.items(), reverse=True))
        assert mirrored(book.asks_of(1)) == bids
        assert all(size > 0 for _, size in (*book.asks_of(0), *book.asks_of(1)))
        assert book.state == ("crossed" if oracle.crossed() else "fresh")
        assert book.evaluable is (book.state == "fresh")


def text_of(price: int) -> str:
    return text(Decimal(price) / PRICE_ONE) if price else "0"


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)


# --- every small frame ----------------------------------------------------

SMALL = tuple(product((0, 1), ("BUY", "SELL"), ("0.4", "0.6"), ("0", "10")))


@pytest.mark.parametrize("levels", [((), ()), ((("0.4", "10"),), (("0.6", "10"),))])
def test_every_frame_of_three_entries_does_what_each_entry_says(levels: Any) -> None:
    for entries in product(SMALL, repeat=3):
        book, oracle = fresh(*levels), Oracle()
        for side, rows in zip(("BUY", "SELL"), levels, strict=True):
            for price, size in rows:
                oracle.set(0, side, Decimal(price), size)
        for token, side, price, size in entries:
            oracle.rest(token, side, Decimal(price), size)

        apply(book, change(*(entry(*each) for each in entries)))

        assert list(book.asks_of(0)) == oracle.asks(0), entries
        assert list(book.asks_of(1)) == oracle.asks(1), entries
        assert (text_of(book.bid), text_of(book.ask)) == tuple(oracle.touch(0).values()), entries


# --- values that cannot be ------------------------------------------------

IMPOSSIBLE_PRICES = (
    "0",
    "1",
    "1.0",
    "-0.5",
    "1.5",
    "",
    "abc",
    "NaN",
    "sNaN",
    "Infinity",
    "0.12345",
)
IMPOSSIBLE_PRICES += ("1e999", "1e999990", "1e99999999999", "-1e999990", "1e-99999999999")
IMPOSSIBLE_SIZES = ("-1", "", "abc", "NaN", "inf", "-inf", "1e999", "1e13", "0x10", "5 shares")


@pytest.mark.timeout(5)
@pytest.mark.parametrize("price", IMPOSSIBLE_PRICES)
@pytest.mark.parametrize("token", [0, 1])
def test_a_price_that_cannot_be_is_named_at_once(price: str, token: int) -> None:
    level = ((price, "10"),)

    with pytest.raises(BadValue) as in_change:
        apply(fresh(), change(entry(token, "BUY", price, "10")))
    with pytest.raises(BadValue) as in_snapshot:
        apply(fresh(), snapshot(bids=level, token=token))

    assert in_change.value.field == in_snapshot.value.field == "price"
    assert in_change.value.value == in_snapshot.value.value == price


@pytest.mark.parametrize("size", IMPOSSIBLE_SIZES)
@pytest.mark.parametrize("token", [0, 1])
def test_a_size_that_cannot_be_is_named(size: str, token: int) -> None:
    book = fresh()

    with pytest.raises(BadValue) as in_change:
        apply(book, change(entry(token, "SELL", "0.7", size)))
    with pytest.raises(BadValue) as in_snapshot:
        apply(book, snapshot(asks=(("0.7", "5"), ("0.8", size)), token=token))

    assert in_change.value.field == in_snapshot.value.field == "size"
    assert in_change.value.value == in_snapshot.value.value == size


def test_a_snapshot_that_is_refused_changes_nothing() -> None:
    book = fresh()

    with pytest.raises(BadValue):
        apply(book, snapshot(bids=(("0.1", "5"),), asks=(("0.2", "-5"),), at=T0 + 9))

    assert (book.bid, book.ask, book.state) == (4_000, 6_000, "fresh")
    assert book.bids == {4_000: "10"}


def test_an_asset_of_another_market_is_named() -> None:
    foreign = {"asset_id": "9" * 78, "side": "BUY", "price": "0.5", "size": "1"}

    with pytest.raises(BadValue, match="asset_id='9999"):
        apply(fresh(), change(foreign))
    with pytest.raises(BadValue, match="asset_id='9999"):
        apply(fresh(), snapshot(asset_id="9" * 78))


def test_a_side_that_is_neither_is_named() -> None:
    with pytest.raises(DECODE_ERRORS, match=r"'HOLD' - at `\$.price_changes\[0\].side`"):
        apply(fresh(), change(entry(0, "HOLD", "0.5", "1")))


def test_less_than_the_smallest_size_is_no_level() -> None:
    book = fresh(bids=(("0.5", "0.0000004"), ("0.4", "10")))
    apply(book, change(entry(1, "BUY", "0.45", "0.0000009"), at=T0 + 1))

    assert (book.bid, book.ask) == (4_000, 6_000)
    assert all(size > 0 for _, size in (*book.asks_of(0), *book.asks_of(1)))


@pytest.mark.parametrize("missing", ["bids", "asks"])
def test_a_snapshot_without_one_of_its_lists_is_no_snapshot(missing: str) -> None:
    body = json.loads(snapshot((("0.4", "1"),), (("0.6", "1"),)))
    del body[missing]

    with pytest.raises(BadValue, match="levels"):
        apply(fresh(), json.dumps(body).encode())


def test_a_change_that_says_nothing_is_no_change() -> None:
    with pytest.raises(BadValue, match="price_changes"):
        apply(fresh(), message(event_type="price_change", timestamp=str(T0 + 1)))


@pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1.78e12"])
def test_a_time_that_cannot_be_is_named(timestamp: str) -> None:
    with pytest.raises(BadValue, match="timestamp"):
        apply(fresh(), snapshot(timestamp=timestamp))
    with pytest.raises(BadValue, match="timestamp"):
        apply(fresh(), change(entry(0, "BUY", "0.5", "1"), timestamp=timestamp))


# --- the venue's own digest -----------------------------------------------


def hashed(oracle: Oracle, told_changes: Any, *, at: int, last: str = "") -> bytes:
    """Tell the oracle changes and return their frame with the hashes of the state after it."""
    entries = entries_of(told_changes, oracle)
    state_touch(entries, oracle)
    for each in entries:
        each["hash"] = oracle.digest(TOKENS.index(each["asset_id"]), at=at, last=last)
    return change(*entries, at=at)


def one(price: str, size: str, *, side: str = "BUY", token: int = 0, shape: str = "both") -> Any:
    return (token, side, Decimal(price), size, str, shape)


def with_oracle() -> tuple[Book, Oracle]:
    """Return a fresh book with a verified hash, and the oracle that agrees with it."""
    oracle = Oracle()
    oracle.set(0, "BUY", Decimal("0.4"), "10")
    oracle.set(0, "SELL", Decimal("0.6"), "20")
    book = fresh(hash=oracle.digest(0, at=T0, last="0.5"), last_trade_price="0.5")
    assert book.hash_holds()
    return book, oracle


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.lists(told, min_size=1, max_size=3), min_size=1, max_size=6))
def test_the_hash_holds_after_every_frame_that_tells_the_truth(frames: Any) -> None:
    book, oracle = with_oracle()

    for number, changes in enumerate(frames, start=1):
        apply(book, hashed(oracle, changes, at=T0 + number, last="0.5"))

        assert book.hash_holds() is True


@given(lost=st.integers(0, 3))
def test_the_hash_does_not_hold_once_a_frame_is_lost(lost: int) -> None:
    book, oracle = with_oracle()
    frames = [
        hashed(oracle, [one("0.1", f"{7 + n}")], at=T0 + n + 1, last="0.5") for n in range(3)
    ] + [hashed(oracle, [one("0.2", "9")], at=T0 + 4, last="0.5")]
    for number, frame in enumerate(frames):
        if number != lost:
            apply(book, frame)

    assert book.hash_holds() is (lost != 2)  # 0 and 1 are overwritten by 2; 3 is yet to come


def test_a_frame_without_a_hash_can_neither_hold_nor_fail() -> None:
    book, _ = with_oracle()

    apply(book, change(entry(0, "BUY", "0.3", "5")))

    assert book.hash_holds() is None


def test_a_change_that_comes_behind_a_newer_one_is_not_believed() -> None:
    book, oracle = with_oracle()
    early = hashed(oracle, [one("0.3", "5")], at=T0 + 1, last="0.5")
    late = hashed(oracle, [one("0.2", "6")], at=T0 + 2, last="0.5")
    apply(book, early)
    apply(book, late)

    apply(book, early)  # it could undo what came since, and its own hash would fit

    assert book.state == "stale"


def test_a_hash_that_holds_again_ends_the_doubt() -> None:
    book, oracle = with_oracle()
    whole = hashed(oracle, [one("0.3", "5")], at=T0 + 1, last="0.5")
    apply(book, whole)
    assert book.hash_holds()
    torn = json.loads(whole)
    torn["price_changes"] = [entry(0, "BUY", "0.35", "1", hash="f" * 40)]
    apply(book, json.dumps(torn).encode())
    assert book.hash_holds() is False

    apply(book, change(entry(0, "BUY", "0.35", "0"), at=T0 + 1))
    apply(book, whole)

    assert book.hash_holds()
    assert not book.unproven


@pytest.mark.parametrize("odd", [b"null", b"5", b'"\xff"', b'["a"]', b"{}"])
def test_a_hash_that_is_no_text_does_not_hold(odd: bytes) -> None:
    book = fresh()
    body = change(entry(0, "BUY", "0.3", "5", hash="HASH")).replace(b'"HASH"', odd)

    apply(book, body)

    assert book.hash_holds() is False


def test_the_hash_knows_neg_risk_from_the_answer_where_there_is_one() -> None:
    plain = Book(market_terms(1, neg_risk_id=None))
    body = snapshot((("0.4", "10"),), (("0.6", "20"),), neg_risk=True)
    oracle = with_oracle()[1]

    apply(plain, body)

    assert plain.digest(TOKENS[0], str(T0)) == oracle.digest(0, at=T0, last="")


# --- states ---------------------------------------------------------------

TOUCH = {"best_bid": "0.4", "best_ask": "0.6"}


def test_a_book_is_not_evaluable_before_its_first_snapshot() -> None:
    book = Book(TERMS)
    apply(book, change(entry(0, "BUY", "0.5", "5")))
    assert (book.state, book.evaluable, book.bid) == ("awaiting", False, NO_BID)

    apply(book, snapshot((("0.4", "1"),), (("0.6", "1"),)))

    assert (book.state, book.evaluable, book.epoch) == ("fresh", True, 1)


@pytest.mark.parametrize("why", ["stale", "awaiting"])
def test_a_distrusted_book_is_fresh_again_with_its_next_snapshot(why: str) -> None:
    book = fresh()
    book.mark(why)
    apply(book, change(entry(0, "BUY", "0.5", "5")))
    assert (book.state, book.evaluable, book.bid) == (why, False, 4_000)

    apply(book, snapshot((("0.3", "1"),), (("0.6", "1"),), at=T0 + 2))

    assert (book.state, book.evaluable, book.bid) == ("fresh", True, 3_000)
    assert book.epoch == 2


def test_a_snapshot_of_a_trusted_book_ends_no_gap() -> None:
    book = fresh()

    apply(book, snapshot((("0.3", "1"),), (("0.6", "1"),), at=T0 + 2))

    assert book.epoch == 1


def test_a_side_can_be_empty_and_says_so() -> None:
    book = fresh((), ())
    assert (book.bid, book.ask, book.state) == (NO_BID, NO_ASK, "fresh")
    assert book.asks_of(0) == book.asks_of(1) == ()

    for bid, ask in (("0", "1"), ("", ""), ("", "0"), ("0.00", "1.0")):
        apply(book, change(entry(1, "SELL", "0.9", "0", best_bid=bid, best_ask=ask)))
        assert book.state == "fresh"


def test_bid_at_or_over_ask_is_crossed_until_it_is_not() -> None:
    book = fresh()

    assert apply(book, change(entry(0, "BUY", "0.7", "5")))
    assert (book.state, book.evaluable) == ("crossed", False)

    assert apply(book, change(entry(1, "BUY", "0.4", "0", best_bid="0", best_ask="0.3")))
    assert (book.state, book.evaluable, book.ask) == ("fresh", True, NO_ASK)


@pytest.mark.parametrize(
    ("entries", "touch"),
    [
        ([(0, "BUY", "0.6", "5")], (6_000, 6_500)),
        ([(1, "SELL", "0.4", "5"), (0, "BUY", "0.6", "5")], (6_000, 6_500)),
        ([(0, "SELL", "0.4", "5")], (3_500, 4_000)),
        ([(0, "SELL", "0.4", "5"), (0, "BUY", "0.4", "0")], (3_500, 4_000)),
        ([(0, "SELL", "0.4", "5"), (0, "BUY", "0.4", "1")], (4_000, 6_000)),
    ],
)
def test_an_order_that_takes_a_whole_level_rests_at_its_price(
    entries: list[tuple[int, str, str, str]], touch: tuple[int, int]
) -> None:
    book = fresh((("0.35", "5"), ("0.4", "10")), (("0.65", "3"), ("0.6", "20")))

    apply(book, change(*(entry(*each) for each in entries)))

    assert (book.bid, book.ask, book.state) == (*touch, "fresh")
    assert not book.bids.keys() & book.asks.keys()


def test_a_crossed_snapshot_is_not_evaluable() -> None:
    book = fresh((("0.6", "1"),), (("0.6", "1"),))

    assert (book.state, book.evaluable) == ("crossed", False)


def test_a_batch_heals_on_its_last_frame() -> None:
    book = fresh()
    final = {"best_bid": "0.45", "best_ask": "0.55"}

    assert apply(book, change(entry(0, "BUY", "0.45", "5", **final)))
    assert (book.state, book.evaluable) == ("batch", False)
    assert apply(book, change(entry(0, "SELL", "0.55", "5", **final)))
    assert (book.state, book.evaluable) == ("fresh", True)


def test_a_batch_may_state_its_touch_for_either_outcome() -> None:
    book = fresh()

    apply(book, change(entry(1, "SELL", "0.55", "5", best_bid="0.4", best_ask="0.55")))

    assert (book.bid, book.ask, book.state) == (4_500, 6_000, "fresh")


def test_a_change_tells_whether_the_touch_or_trust_moved() -> None:
    book = fresh()
    deep, better = entry(0, "BUY", "0.3", "5"), entry(0, "BUY", "0.42", "5")

    assert not apply(book, change({**deep, **TOUCH}))
    assert apply(book, change(better))
    assert not apply(book, change(better))
    assert apply(book, change({**deep, **TOUCH}, at=T0 + 2))  # it states another touch


def test_changes_older_than_the_snapshot_are_left_out() -> None:
    book = fresh()

    assert not apply(book, change(entry(0, "BUY", "0.5", "5"), at=T0 - 1))

    assert (book.bid, book.state) == (4_000, "fresh")


def test_an_unusual_spelling_of_the_touch_is_the_same_touch() -> None:
    book = fresh()

    apply(book, change(entry(0, "BUY", "0.3", "5", best_bid="0.40", best_ask=".600")))

    assert book.state == "fresh"


# --- answers over REST ----------------------------------------------------


def answer(book: Book, body: bytes, received: int = 9) -> str:
    return book.answer(decode_message(body), received)


def test_an_answer_heals_a_book_and_keeps_the_changes_that_came_meanwhile() -> None:
    book = Book(TERMS)
    for at, price in ((T0 - 5, "0.45"), (T0, "0.41"), (T0 + 5, "0.42")):
        apply(book, change(entry(0, "BUY", price, "5"), at=at))

    assert answer(book, snapshot((("0.4", "10"),), (("0.6", "20"),))) == "healed"

    assert book.bids == {4_000: "10", 4_100: "5", 4_200: "5"}
    assert (book.bid, book.state) == (4_200, "fresh")


def test_a_change_that_cannot_be_among_those_that_waited_leaves_the_book_stale() -> None:
    book = Book(TERMS)
    apply(book, change(entry(0, "BUY", "0.41", "-5")))
    apply(book, change(entry(0, "BUY", "0.42", "5")))

    with pytest.raises(BadValue):
        answer(book, snapshot((("0.4", "10"),), (("0.6", "20"),)))

    assert (book.state, book.evaluable) == ("stale", False)


def test_an_answer_older_than_a_trusted_book_changes_nothing() -> None:
    book = fresh()
    apply(book, change(entry(0, "BUY", "0.5", "5", best_bid="0.5", best_ask="0.6")))

    assert answer(book, snapshot((("0.4", "10"),), (("0.6", "20"),))) == "agreed"

    assert (book.bid, book.state) == (5_000, "fresh")


def test_a_book_whose_connection_is_cut_takes_no_answer() -> None:
    book = fresh()
    book.offline = True
    book.mark("stale")

    assert answer(book, snapshot((("0.3", "10"),), (("0.6", "20"),), at=T0 + 1)) == "ignored"

    assert book.state == "stale"


def test_an_answer_of_the_same_time_with_another_touch_is_drift() -> None:
    book = fresh()

    assert answer(book, snapshot((("0.4", "10"),), (("0.6", "20"),))) == "agreed"
    assert answer(book, snapshot((("0.6", "1"),), (("0.7", "1"),), token=1)) == "drifted"


def test_a_newer_answer_is_doubted_once_and_then_believed() -> None:
    book = fresh()
    newer = snapshot((("0.3", "10"),), (("0.6", "20"),), at=T0 + 50, hash="a" * 40)

    assert answer(book, newer) == "doubted"
    assert answer(book, newer) == "drifted"


def test_a_newer_answer_is_forgotten_once_the_feed_caught_up() -> None:
    book = fresh()
    newer = snapshot((("0.3", "10"),), (("0.6", "20"),), at=T0 + 50, hash="a" * 40)
    assert answer(book, newer) == "doubted"

    apply(book, change(entry(0, "BUY", "0.3", "10", hash="a" * 40), at=T0 + 50))

    assert answer(book, newer) == "agreed"
    assert not book.needs_answer
