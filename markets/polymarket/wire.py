"""The venue's wire shapes: Gamma objects, CLOB books and market-channel events (pure).

Shapes and spellings are those of `polymarket-api.md` sections 2 and 3. The hot
path decodes one flat struct, `Message`, for every event about books; its
unused fields are skipped by the decoder, which is what makes it fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import msgspec

# --- market channel -------------------------------------------------------

Side = Literal["BUY", "SELL"]


class Row(msgspec.Struct, frozen=True, gc=False):
    """One level of a book as sent."""

    price: str
    size: str


class Change(msgspec.Struct, frozen=True, gc=False):
    """One entry of a price_change: `size` is the new total at `price`, "0" removes it.

    Its `hash` is left in the frame until somebody asks (see `Stamped`).
    """

    asset_id: str
    price: str
    size: str
    side: Side
    best_bid: str = ""
    best_ask: str = ""


class Message(msgspec.Struct, gc=False):
    """Any market-channel event about books, flat; `event_type` tells which fields count.

    Not frozen and not tracked by the garbage collector: one is made per message.
    """

    event_type: str = ""
    market: str = ""
    asset_id: str = ""
    timestamp: str = ""
    hash: str = ""
    bids: list[Row] | None = None  # None, not []: a default list would be made per message
    asks: list[Row] | None = None
    price_changes: list[Change] | None = None
    price: str = ""
    size: str = ""
    side: str = ""
    best_bid: str = ""
    best_ask: str = ""
    old_tick_size: str = ""
    new_tick_size: str = ""
    tick_size: str = ""
    last_trade_price: str = ""
    min_order_size: str = ""
    neg_risk: bool | None = None
    version: str = ""


class Delta(msgspec.Struct, gc=False, tag_field="event_type", tag="price_change"):
    """A price_change and nothing else: nineteen of twenty messages are one."""

    market: str = ""
    timestamp: str = ""
    price_changes: list[Change] | None = None


class StampedChange(msgspec.Struct, frozen=True, gc=False):
    asset_id: str
    hash: str = ""


class Stamped(msgspec.Struct, frozen=True, gc=False):
    """What a price_change says of the state it leads to."""

    market: str = ""
    timestamp: str = ""
    price_changes: list[StampedChange] | None = None


class NewMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market was listed (sent for the whole venue, not only for what was subscribed)."""

    id: str
    question: str = ""
    market: str = ""
    assets_ids: list[str] = []
    outcomes: list[str] = []
    timestamp: str = ""


class MarketResolved(msgspec.Struct, frozen=True, kw_only=True):
    """A market was resolved; many resolutions are never announced this way."""

    market: str
    winning_asset_id: str = ""
    winning_outcome: str = ""
    assets_ids: list[str] = []
    timestamp: str = ""
    id: str = ""


BOOK_EVENTS = frozenset(
    {"book", "price_change", "last_trade_price", "tick_size_change", "best_bid_ask"}
)
LISTING_EVENTS = frozenset({"new_market", "market_resolved"})

# What each event is known to carry; anything else is counted (see `unknown_fields`).
KNOWN_FIELDS: dict[str, frozenset[str]] = {
    "book": frozenset(
        [
            "event_type",
            "market",
            "asset_id",
            "timestamp",
            "hash",
            "bids",
            "asks",
            "tick_size",
            "last_trade_price",
            "min_order_size",
            "neg_risk",
            "version",
        ]
    ),
    "price_change": frozenset(["event_type", "market", "timestamp", "price_changes"]),
    "last_trade_price": frozenset(
        [
            "event_type",
            "market",
            "asset_id",
            "price",
            "size",
            "side",
            "fee_rate_bps",
            "timestamp",
            "transaction_hash",
        ]
    ),
    "tick_size_change": frozenset(
        ["event_type", "market", "asset_id", "old_tick_size", "new_tick_size", "timestamp"]
    ),
    "best_bid_ask": frozenset(
        ["event_type", "market", "asset_id", "best_bid", "best_ask", "spread", "timestamp"]
    ),
    "new_market": frozenset(
        [
            "event_type",
            "id",
            "question",
            "market",
            "slug",
            "description",
            "assets_ids",
            "outcomes",
            "event_message",
            "timestamp",
            "tags",
            "condition_id",
            "active",
            "clob_token_ids",
            "order_price_min_tick_size",
            "group_item_title",
            "taker_base_fee",
            "fees_enabled",
            "fee_schedule",
            "sports_market_type",
            "line",
            "game_start_time",
        ]
    ),
    "market_resolved": frozenset(
        [
            "event_type",
            "id",
            "market",
            "assets_ids",
            "winning_asset_id",
            "winning_outcome",
            "timestamp",
            "tags",
            "question",
            "slug",
            "description",
            "outcomes",
            "event_message",
        ]
    ),
}

CHANGE_FIELDS = frozenset(
    ["asset_id", "price", "size", "side", "hash", "best_bid", "best_ask"]
)  # of an entry of a price_change

# What the decoders raise for input that cannot be read: malformed or of the wrong shape, text
# that is not UTF-8, nested too deep.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
UNREADABLE = "unreadable"  # stands for a hash that no book can have

decode_frame = msgspec.json.Decoder(Message | list[Message]).decode
decode_deltas = msgspec.json.Decoder(Delta | list[Delta]).decode
decode_message = msgspec.json.Decoder(Message).decode
decode_stamps = msgspec.json.Decoder(Stamped | list[Stamped]).decode
split_frame = msgspec.json.Decoder(list[msgspec.Raw]).decode


_decode_resolved = msgspec.json.Decoder(MarketResolved).decode


def last_stamp(body: bytes, market: str) -> tuple[str, str, str]:
    """Return (asset id, hash, timestamp) of a market's last entry in a price_change frame.

    The hash is "" where the feed gives none, and `UNREADABLE` where it is no text.
    """
    try:
        decoded = decode_stamps(body)
    except DECODE_ERRORS:
        return ("", UNREADABLE, "")
    found = ("", "", "")
    for message in decoded if isinstance(decoded, list) else (decoded,):
        if message.market == market and message.price_changes:
            last = message.price_changes[-1]
            found = (last.asset_id, last.hash, message.timestamp)
    return found


def tokens_resolved(body: bytes) -> list[str]:
    """Return the tokens of the markets that a frame says are resolved; none if it is unreadable."""
    try:
        pieces = split_frame(body) if body.lstrip()[:1] == b"[" else [body]
        told = [_decode_resolved(piece) for piece in pieces if b'"market_resolved"' in bytes(piece)]
    except DECODE_ERRORS:
        return []
    return [token for each in told for token in each.assets_ids]


def unknown_fields(body: bytes) -> list[str]:
    """Return the fields of a frame that this client does not know, as `event.field`."""
    decoded = msgspec.json.decode(body)
    found = []
    for item in decoded if isinstance(decoded, list) else [decoded]:
        event = str(item.get("event_type", "")) if isinstance(item, dict) else ""
        known = KNOWN_FIELDS.get(event)
        if known is not None:
            found += [f"{event}.{name}" for name in item if name not in known]
            found += [f"{event}.price_changes.{name}" for name in _unknown_in_entries(item)]
    return found


def _unknown_in_entries(item: dict[str, object]) -> list[str]:
    entries = item.get("price_changes")
    names = [
        name
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
        for name in entry
    ]
    return [name for name in dict.fromkeys(names) if name not in CHANGE_FIELDS]


# --- book hash ------------------------------------------------------------


def book_hash(
    *,
    market: str,
    asset_id: str,
    timestamp: str,
    bids: Sequence[str],
    asks: Sequence[str],
    min_order_size: str,
    tick_size: str,
    neg_risk: bool,
    last_trade_price: str,
    version: str = "",
) -> str:
    """Return the venue's digest of a book: sha1 of its compact JSON in a fixed key order.

    Rows are `row_head` of the price and the size as sent, in wire order (worst first). Key
    order and separators: `polymarket-api.md` 3.5.
    """
    tail = f',"version":"{version}"' if version else ""
    body = (
        f'{{"market":"{market}","asset_id":"{asset_id}","timestamp":"{timestamp}","hash":"",'
        f'"bids":[{_rows(bids)}],"asks":[{_rows(asks)}],'
        f'"min_order_size":"{min_order_size}","tick_size":"{tick_size}",'
        f'"neg_risk":{"true" if neg_risk else "false"},'
        f'"last_trade_price":"{last_trade_price}"{tail}}}'
    )
    return hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()


def row_head(price: str) -> str:
    """Return the text of a row up to its size, for `book_hash`."""
    return f'{{"price":"{price}","size":"'


def _rows(rows: Sequence[str]) -> str:
    return '"},'.join(rows) + '"}' if rows else ""


# --- Gamma ----------------------------------------------------------------

Number = Decimal | None


class FeeSchedule(msgspec.Struct, frozen=True, rename="camel"):
    rate: Decimal
    exponent: Decimal = Decimal(1)
    taker_only: bool = True


class GammaTag(msgspec.Struct, frozen=True):
    label: str | None = None
    slug: str | None = None


class GammaEventHead(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The event as it is nested inside a market object."""

    id: str
    title: str | None = None
    slug: str | None = None
    end_date: str | None = None
    closed: bool | None = None
    neg_risk: bool | None = None
    enable_neg_risk: bool | None = None
    neg_risk_augmented: bool | None = None
    tags: list[GammaTag] | None = None


class GammaMarket(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A Gamma market object. Lists may come as JSON inside a string."""

    id: str
    question: str | None = None
    slug: str | None = None
    condition_id: str | None = None
    question_id: str | None = msgspec.field(default=None, name="questionID")
    outcomes: str | list[str] | None = None
    outcome_prices: str | list[str] | None = None
    clob_token_ids: str | list[str] | None = None
    position_ids: str | list[str] | None = None
    version: str | None = None
    active: bool | None = None
    closed: bool | None = None
    archived: bool | None = None
    accepting_orders: bool | None = None
    enable_order_book: bool | None = None
    order_price_min_tick_size: Number = None
    order_min_size: Number = None
    fees_enabled: bool | None = None
    fee_type: str | None = None
    fee_schedule: FeeSchedule | None = None
    neg_risk: bool | None = None
    neg_risk_market_id: str | None = msgspec.field(default=None, name="negRiskMarketID")
    neg_risk_other: bool | None = None
    group_item_title: str | None = None
    end_date: str | None = None
    uma_resolution_status: str | None = None
    liquidity_num: Number = None
    volume_num: Number = None
    events: list[GammaEventHead] | None = None


class GammaEvent(GammaEventHead, frozen=True, rename="camel", kw_only=True):
    """A Gamma event object; its markets are left undecoded, so that one bad one harms no other."""

    neg_risk_market_id: str | None = msgspec.field(default=None, name="negRiskMarketID")
    markets: list[object] | None = None
