"""Wire shapes on their own: what is decoded, what is known, what the venue's digest is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.polymarket import wire

MARKET = "0x" + "ab" * 32


def event(**fields: Any) -> bytes:
    return json.dumps({"market": MARKET, **fields}).encode()


def test_an_event_is_decoded_whatever_else_it_carries() -> None:
    message = wire.decode_message(event(event_type="book", colour={"deep": [1, None, "x"]}))

    assert (message.event_type, message.market, message.bids) == ("book", MARKET, None)


def test_a_frame_is_one_event_or_many() -> None:
    one = wire.decode_frame(event(event_type="book"))
    many = wire.decode_frame(b"[" + event() + b", " + event() + b"]\n")

    assert isinstance(one, wire.Message)
    assert isinstance(many, list)
    assert len(many) == 2


@pytest.mark.parametrize("digits", [1, 76, 77, 78])
def test_token_ids_stay_text_whatever_their_length(digits: int) -> None:
    token = "9" * digits

    message = wire.decode_message(event(asset_id=token))

    assert message.asset_id == token


def test_a_number_is_not_taken_for_text() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.decode_message(b'{"asset_id": 123}')


# --- the state that a change leads to -------------------------------------


def change(*entries: tuple[str, str], market: str = MARKET, at: str = "5") -> dict[str, Any]:
    return {
        "event_type": "price_change",
        "market": market,
        "timestamp": at,
        "price_changes": [{"asset_id": asset, "hash": digest} for asset, digest in entries],
    }


def test_the_last_entry_of_a_market_tells_the_state() -> None:
    other = "0x" + "cd" * 32
    frame = [
        change(("1", "a"), ("2", "b"), at="5"),
        change(("1", "c"), ("2", "d"), at="6"),
        change(("9", "z"), market=other, at="7"),
        {"event_type": "book", "market": MARKET, "hash": "x"},
    ]

    assert wire.last_stamp(json.dumps(frame).encode(), MARKET) == ("2", "d", "6")
    assert wire.last_stamp(json.dumps(frame).encode(), other) == ("9", "z", "7")
    assert wire.last_stamp(json.dumps(frame[0]).encode(), MARKET) == ("2", "b", "5")


@pytest.mark.parametrize(
    "frame",
    [
        [],
        change(),
        change(("1", "a"), market="0xother"),
        {"market": MARKET, "price_changes": None},
        {"market": MARKET, "timestamp": "5", "price_changes": [{"asset_id": "1"}]},
    ],
)
def test_no_hash_is_empty(frame: Any) -> None:
    assert wire.last_stamp(json.dumps(frame).encode(), MARKET)[1] == ""


@pytest.mark.parametrize("body", [b"", b"{", b"5", b'{"price_changes": 5}', b"[" * 100_000])
def test_what_cannot_be_read_is_no_hash_that_could_hold(body: bytes) -> None:
    assert wire.last_stamp(body, MARKET)[1] == wire.UNREADABLE


# --- what we know of fields -----------------------------------------------


def test_unknown_fields_are_named_by_event() -> None:
    frame = [
        {"event_type": "book", "market": MARKET, "bids": [], "depth": 5},
        {"event_type": "last_trade_price", "fee_rate_bps": "0", "maker": "x"},
        {"event_type": "comet", "tail": 1},  # an unknown event is counted as one, once
        change(("1", "a")) | {"seq": 4},
        5,
    ]

    assert wire.unknown_fields(json.dumps(frame).encode()) == [
        "book.depth",
        "last_trade_price.maker",
        "price_change.seq",
    ]


def test_unknown_fields_of_entries_are_named_once() -> None:
    frame = change(("1", "a"), ("2", "b"))
    for entry in frame["price_changes"]:
        entry["order_id"] = "x"

    assert wire.unknown_fields(json.dumps(frame).encode()) == [
        "price_change.price_changes.order_id"
    ]


@pytest.mark.parametrize(
    "body",
    [b"5", b'"x"', b"null", b"[[]]", b'{"event_type": ["book"]}', b'{"event_type": {}}']
    + [b'{"event_type": "price_change", "price_changes": %s}' % odd for odd in (b"5", b"[5]")],
)
def test_odd_shapes_have_no_unknown_fields(body: bytes) -> None:
    assert wire.unknown_fields(body) == []


def test_every_event_about_books_has_its_known_fields() -> None:
    assert wire.KNOWN_FIELDS.keys() == wire.BOOK_EVENTS | wire.LISTING_EVENTS
    assert all("event_type" in names for names in wire.KNOWN_FIELDS.values())


# --- the digest -----------------------------------------------------------

level = st.tuples(st.sampled_from(["0.1", "0.25", "0.999"]), st.sampled_from(["5", "12.34"]))


@given(
    bids=st.lists(level, max_size=4),
    asks=st.lists(level, max_size=4),
    neg_risk=st.booleans(),
    last=st.sampled_from(["", "0.5", "0.980"]),
    version=st.sampled_from(["", "v2"]),
)
def test_the_digest_is_the_sha1_of_the_compact_answer(
    bids: Any, asks: Any, neg_risk: bool, last: str, version: str
) -> None:
    answer = {
        "market": MARKET,
        "asset_id": "7",
        "timestamp": "1780000000000",
        "hash": "",
        "bids": [{"price": price, "size": size} for price, size in bids],
        "asks": [{"price": price, "size": size} for price, size in asks],
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": neg_risk,
        "last_trade_price": last,
        **({"version": version} if version else {}),
    }

    digest = wire.book_hash(
        market=MARKET,
        asset_id="7",
        timestamp="1780000000000",
        bids=[wire.row_head(price) + size for price, size in bids],
        asks=[wire.row_head(price) + size for price, size in asks],
        min_order_size="5",
        tick_size="0.01",
        neg_risk=neg_risk,
        last_trade_price=last,
        version=version,
    )

    compact = json.dumps(answer, separators=(",", ":")).encode()
    assert digest == hashlib.sha1(compact).hexdigest()
