"""What is sent: the venue's own messages, key order and spelling included.

Key orders follow real captures: `event_type` is last in price_change and best_bid_ask, but not
in book, last_trade_price and new_market.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from markets.fills import PRICE_ONE
from markets.simulator.catalogue import EventSpec, MarketSpec
from markets.simulator.ladder import PRICE_TEXT, Book, Edit, size_text


@dataclass(frozen=True, slots=True)
class Seal:
    """What every message of one batch says about the state after it, per outcome."""

    ms: str
    digests: tuple[str, str]
    touches: tuple[tuple[str, str], tuple[str, str]]


def seal(book: Book) -> Seal:
    """Look at a book once for all the messages of a batch."""
    return Seal(str(book.ms), (book.digest(0), book.digest(1)), (book.touch(0), book.touch(1)))


def _entry(book: Book, outcome: int, is_bid: bool, price: int, size: str, after: Seal) -> str:
    bid, ask = after.touches[outcome]
    return (
        f'{{"asset_id":"{book.token_ids[outcome]}","price":"{PRICE_TEXT[price]}","size":"{size}",'
        f'"side":"{"BUY" if is_bid else "SELL"}","hash":"{after.digests[outcome]}",'
        f'"best_bid":"{bid}","best_ask":"{ask}"}}'
    )


def price_change(book: Book, edit: Edit, after: Seal, *, first: int = 0) -> bytes:
    """One level, as both outcomes see it; `first` is the outcome that was ordered."""
    is_bid, price, size = edit
    text = size_text(size)
    entries = (
        _entry(book, 0, is_bid, price, text, after),
        _entry(book, 1, not is_bid, PRICE_ONE - price, text, after),
    )
    return (
        f'{{"market":"{book.condition_id}","price_changes":[{entries[first]},{entries[1 - first]}],'
        f'"timestamp":"{after.ms}","event_type":"price_change"}}'
    ).encode()


def best_bid_ask(book: Book, outcome: int, *, ms: int) -> bytes:
    """Announce the touch of one outcome."""
    bid, ask = book.touch(outcome)
    return (
        f'{{"market":"{book.condition_id}","asset_id":"{book.token_ids[outcome]}",'
        f'"best_bid":"{bid}","best_ask":"{ask}",'
        f'"spread":"{PRICE_TEXT[abs(book.best_ask - book.best_bid)]}",'
        f'"timestamp":"{ms}","event_type":"best_bid_ask"}}'
    ).encode()


def book_text(book: Book, outcome: int) -> str:
    """A full book as the WebSocket sends it: without minimum size and neg-risk flag."""
    return (
        f'{{"market":"{book.condition_id}","asset_id":"{book.token_ids[outcome]}",'
        f'"timestamp":"{book.ms}","hash":"{book.digest(outcome)}",{book.lists(outcome)}],'
        f'"tick_size":"{book.tick_text}","event_type":"book",'
        f'"last_trade_price":"{book.last_trade}"}}'
    )


def book_answer(book: Book, outcome: int) -> dict[str, object]:
    """A full book as `/book` answers it."""
    answer: dict[str, object] = msgspec.json.decode(book.answer(outcome, book.digest(outcome)))
    return answer


def tick_size_change(book: Book, outcome: int, *, old: str) -> bytes:
    """Announce a new grid for one outcome; `old` is the tick it had."""
    return (
        f'{{"market":"{book.condition_id}","asset_id":"{book.token_ids[outcome]}",'
        f'"old_tick_size":"{old}","new_tick_size":"{book.tick_text}",'
        f'"timestamp":"{book.ms}","event_type":"tick_size_change"}}'
    ).encode()


@dataclass(frozen=True, slots=True)
class Fill:
    """A trade: the outcome and price the taker dealt in, size in 1e-6 shares."""

    outcome: int
    is_buy: bool
    price: int
    size: int
    transaction: str


def last_trade_price(book: Book, fill: Fill) -> bytes:
    """Report a trade."""
    return (
        f'{{"market":"{book.condition_id}","asset_id":"{book.token_ids[fill.outcome]}",'
        f'"price":"{PRICE_TEXT[fill.price]}","size":"{size_text(fill.size)}","fee_rate_bps":"0",'
        f'"side":"{"BUY" if fill.is_buy else "SELL"}","timestamp":"{book.ms}",'
        f'"event_type":"last_trade_price","transaction_hash":"{fill.transaction}"}}'
    ).encode()


def fee_schedule(event: EventSpec) -> dict[str, str | bool] | None:
    """The fee terms in the spelling of the WebSocket."""
    category = event.category
    if not category.rate:
        return None
    return {
        "exponent": "1",
        "rate": f"{category.rate / PRICE_ONE:g}",
        "taker_only": True,
        "rebate_rate": f"{category.rebate:g}",
    }


def new_market(event: EventSpec, market: MarketSpec, *, ms: int) -> bytes:
    """Announce a market that will open."""
    body: dict[str, Any] = {
        "id": market.market_id,
        "question": market.question,
        "market": market.condition_id,
        "slug": market.slug,
        "description": event.description,
        "assets_ids": market.token_ids,
        "outcomes": market.outcomes,
        "event_message": {
            "id": event.event_id,
            "ticker": event.slug,
            "slug": event.slug,
            "title": event.title,
            "description": event.description,
        },
        "timestamp": str(ms),
        "event_type": "new_market",
        "tags": [tag.lower().replace(" ", "-") for tag in event.category.tags],
        "condition_id": market.condition_id,
        "active": False,
        "clob_token_ids": market.token_ids,
        "sports_market_type": "",
        "line": "",
        "game_start_time": "",
        "order_price_min_tick_size": PRICE_TEXT[market.tick],
        "group_item_title": market.label,
        "taker_base_fee": "1000" if event.category.rate else "0",
        "fees_enabled": bool(event.category.rate),
    }
    schedule = fee_schedule(event)
    return msgspec.json.encode(body | ({"fee_schedule": schedule} if schedule else {}))


def market_resolved(event: EventSpec, market: MarketSpec, winner: int, *, ms: int) -> bytes:
    """Announce the outcome that won."""
    return msgspec.json.encode(
        {
            "id": market.market_id,
            "market": market.condition_id,
            "assets_ids": market.token_ids,
            "winning_asset_id": market.token_ids[winner],
            "winning_outcome": market.outcomes[winner],
            "timestamp": str(ms),
            "event_type": "market_resolved",
            "tags": [tag.lower().replace(" ", "-") for tag in event.category.tags],
        }
    )


def array(texts: Sequence[str]) -> bytes:
    """Join messages into the one frame that answers a subscription."""
    return f"[{','.join(texts)}]".encode()
