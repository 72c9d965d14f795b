"""Made traffic for `bench`: markets, snapshots and frames in the venue's own wire format.

Shape after `performance.md` section 1: activity by a power law, one mirrored
pair of entries per change, a few trades with full books, about a fifth of the
changes at the touch, baskets that pay now and then. Hashes are valid.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from markets.book import PRICE_TEXT, Book
from markets.fills import PRICE_ONE, Fee
from markets.listing import EventTerms, MarketTerms
from markets.polymarket.wire import Change, Message, Side

LEVELS = 18  # per side: about 1.2 kB a snapshot, as measured on the venue
FEE = Fee(Decimal("0.04"))
START_MS = 1_780_000_000_000
BOOKS_PER_FRAME = 50
TICK = 10
BETTER = 0.15  # share of changes that better the touch
THROUGH = 0.002  # share of those that may go through the fair price


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events and the frames about them: first the snapshots, then the messages."""

    events: tuple[EventTerms, ...]
    snapshots: tuple[bytes, ...]
    messages: tuple[bytes, ...]


class Quoted:
    """A book and the price that its quotes stay around."""

    def __init__(self, book: Book, fair: int, rng: random.Random) -> None:
        self.book = book
        self.fair = fair
        for step in range(2, LEVELS + 2):
            book.asks[min(fair + step * TICK, PRICE_ONE - TICK)] = _size(rng)
            book.bids[max(fair - step * TICK, TICK)] = _size(rng)
        book.bid, book.ask = max(book.bids), min(book.asks)
        book.state_note, book.last_trade_price = "", PRICE_TEXT[fair]

    def next_price(self, rng: random.Random, *, buys: bool) -> int:
        """Draw the level that changes next: near the touch, now and then one tick better."""
        best, away = (self.book.bid, -TICK) if buys else (self.book.ask, TICK)
        if rng.random() < BETTER:
            better = best - away
            # Rarely a quote goes through the fair price, which is what opens a basket.
            if abs(better - self.fair) >= TICK * (rng.random() > THROUGH):
                inside = self.book.bid < better < self.book.ask
                return better if inside else best
        depth = min(int(rng.expovariate(0.35)), LEVELS - 1)
        return min(max(best + away * depth, TICK), PRICE_ONE - TICK)


def traffic(*, books: int, messages: int, seed: int = 1) -> Traffic:
    """Make `books` markets, a third of them in neg-risk events, and their messages."""
    rng = random.Random(seed)
    events = tuple(_events(books, rng))
    quoted = []
    for number, event in enumerate(events):
        for market in event.markets:
            total = 0.9 if number == 0 else 1.0  # one YES basket pays all the time
            fair = total / len(event.markets) if event.neg_risk else rng.uniform(0.05, 0.95)
            quoted.append(Quoted(Book(market), min(max(round(fair * 1_000), 4), 960) * 10, rng))
    snapshots = tuple(_snapshot_frames([each.book for each in quoted]))
    rng.shuffle(quoted)
    return Traffic(events, snapshots, tuple(_messages(quoted, messages, rng)))


def _events(books: int, rng: random.Random) -> Iterator[EventTerms]:
    made = 0
    while made < books:
        neg_risk = made < books // 3
        legs = min(rng.choice((3, 4, 5, 8, 12, 30, 55)) if neg_risk else 1, books - made)
        event_id = str(100_000 + made)
        group = f"0x{rng.getrandbits(256):064x}" if neg_risk else None
        markets = tuple(_market(made + leg, event_id, group, leg, rng) for leg in range(legs))
        yield EventTerms(event_id, f"Event {event_id}", neg_risk, False, markets)
        made += legs


def _market(
    number: int, event_id: str, group: str | None, leg: int, rng: random.Random
) -> MarketTerms:
    return MarketTerms(
        market_id=str(500_000 + number),
        condition_id=f"0x{rng.getrandbits(256):064x}",
        question=f"Question {number}?",
        token_ids=(_token(rng), _token(rng)),
        outcomes=("Yes", "No"),
        tick=10,
        min_size=5_000_000,
        fee=FEE,
        untradable=None,
        payout=None,
        end_at=None,
        event_id=event_id,
        neg_risk_id=group,
        leg_number=leg if group else None,
    )


def _token(rng: random.Random) -> str:
    return str(rng.randrange(10**76, 10**77))


def _size(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return str(rng.randrange(5, 2_000))
    return f"{rng.lognormvariate(4.5, 1.2) + 0.01:.2f}".rstrip("0").rstrip(".")


def _snapshot_frames(books: list[Book]) -> Iterator[bytes]:
    for first in range(0, len(books), BOOKS_PER_FRAME):
        part = books[first : first + BOOKS_PER_FRAME]
        yield _encode([_book_event(book, side, START_MS) for book in part for side in (0, 1)])


def _messages(quoted: list[Quoted], count: int, rng: random.Random) -> Iterator[bytes]:
    now = START_MS
    weights = [1 / (rank + 1) ** 1.05 for rank in range(len(quoted))]
    for each in rng.choices(quoted, weights, k=count):
        book = each.book
        now += rng.random() < 0.7
        draw = rng.random()
        if draw < 0.035:
            yield _encode(_book_event(book, rng.randrange(2), now))
        elif draw < 0.053:
            yield _encode(_trade(book, now, rng))
        else:
            yield _encode(_change(each, now, rng))


def _change(quoted: Quoted, now: int, rng: random.Random) -> dict[str, object]:
    """Change one level, and say so for both outcomes as the venue does."""
    book = quoted.book
    buys = rng.random() < 0.5
    ladder = book.bids if buys else book.asks
    price = quoted.next_price(rng, buys=buys)
    size = "0" if price in ladder and len(ladder) > 8 and rng.random() < 0.4 else _size(rng)
    side: Side = "BUY" if buys else "SELL"
    book.change(
        Message(price_changes=[Change(book.token0, PRICE_TEXT[price], size, side)]),
        0,
        b"",
    )
    return {
        "market": book.condition_id,
        "price_changes": [_entry(book, side, price, size, buys, now) for side in (0, 1)],
        "timestamp": str(now),
        "event_type": "price_change",
    }


def _entry(book: Book, outcome: int, price: int, size: str, buys: bool, now: int) -> dict[str, str]:
    mirrored = outcome == 1
    token = book.token1 if mirrored else book.token0
    return {
        "asset_id": token,
        "price": PRICE_TEXT[PRICE_ONE - price if mirrored else price],
        "size": size,
        "side": "BUY" if buys != mirrored else "SELL",
        "hash": book.digest(token, str(now)),
        "best_bid": PRICE_TEXT[PRICE_ONE - book.ask if mirrored else book.bid],
        "best_ask": PRICE_TEXT[PRICE_ONE - book.bid if mirrored else book.ask],
    }


def _trade(book: Book, now: int, rng: random.Random) -> dict[str, object]:
    return {
        "market": book.condition_id,
        "asset_id": book.token0,
        "price": PRICE_TEXT[book.ask],
        "size": _size(rng),
        "side": "BUY",
        "fee_rate_bps": "0",
        "timestamp": str(now),
        "transaction_hash": f"0x{rng.getrandbits(256):064x}",
        "event_type": "last_trade_price",
    }


def _book_event(book: Book, outcome: int, now: int) -> dict[str, object]:
    token = (book.token0, book.token1)[outcome]
    bids = [(p, book.bids[p]) for p in sorted(book.bids)]
    asks = [(p, book.asks[p]) for p in sorted(book.asks, reverse=True)]
    if outcome == 1:
        bids, asks = (
            [(PRICE_ONE - p, size) for p, size in asks],
            [(PRICE_ONE - p, size) for p, size in bids],
        )
    return {
        "market": book.condition_id,
        "asset_id": token,
        "timestamp": str(now),
        "hash": book.digest(token, str(now)),
        "bids": [{"price": PRICE_TEXT[p], "size": size} for p, size in bids],
        "asks": [{"price": PRICE_TEXT[p], "size": size} for p, size in asks],
        "tick_size": book.tick_size,
        "event_type": "book",
        "last_trade_price": book.last_trade_price,
    }


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
