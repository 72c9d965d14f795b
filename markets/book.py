"""One book per market, kept in the space of outcome 0 (pure).

Outcome 1 is the mirror: its ask is 1 - bid, with the same size. Prices are
ints in 1e-4 USD; sizes stay the strings the venue sent, which keeps its book
hash checkable and costs nothing until a ladder is walked. Sizes are absolute,
so applying a frame twice is harmless.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from markets.listing import MarketTerms
from markets.polymarket.wire import Message, Row, book_hash

NO_BID = 0
NO_ASK = PRICE_ONE

PRICE_TEXT = tuple(f"{p / PRICE_ONE:.4f}".rstrip("0").rstrip(".") for p in range(PRICE_ONE + 1))
# Price text to 1e-4 USD, and to its mirror 1 - p. Levels lie strictly between 0 and 1.
_LEVEL = {PRICE_TEXT[p]: p for p in range(1, PRICE_ONE)}
_MIRROR = {text: PRICE_ONE - p for text, p in _LEVEL.items()}
# The touch as the feed states it: an empty side is "0" for the bid, "1" for the ask, or "".
_BID = {**_LEVEL, "0": NO_BID, "": NO_BID}
_ASK = {**_LEVEL, "1": NO_ASK, "0": NO_ASK, "": NO_ASK}


class BadValue(Exception):
    """A price or size that cannot be; `field` and `value` name it."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"{field}={value[:40]!r}")
        self.field = field
        self.value = value


class Book:
    """Both ladders of one market and how far they can be trusted.

    `bid` and `ask` are the touch of outcome 0 (`NO_BID`, `NO_ASK` when the
    side is empty). `state` says whether it may be evaluated:

    - `awaiting`: no snapshot yet, or dropped by a tick size change
    - `stale`: the connection was cut or a frame about it was bad; deltas are
      ignored until the next snapshot
    - `crossed`: bid >= ask
    - `batch`: the last frame speaks of a touch that we do not hold yet, so more
      frames of the same millisecond are to come
    - `fresh`: none of these
    """

    __slots__ = (
        "ask",
        "asks",
        "bid",
        "bids",
        "condition_id",
        "epoch",
        "group",
        "hash",
        "hash_token",
        "last_trade_price",
        "leg",
        "market_id",
        "min_order_size",
        "neg_risk",
        "received",
        "snapshot_at",
        "split",
        "state_note",
        "tick_size",
        "timestamp",
        "token0",
        "token1",
        "verified_hash",
        "version",
    )

    def __init__(self, terms: MarketTerms) -> None:
        self.market_id = terms.market_id
        self.condition_id = terms.condition_id
        self.token0, self.token1 = terms.token_ids
        self.tick_size = PRICE_TEXT[terms.tick]
        self.min_order_size = f"{Decimal(terms.min_size) / SIZE_ONE:f}"
        self.neg_risk = terms.neg_risk_id is not None
        self.version = ""
        self.bids: dict[int, str] = {}
        self.asks: dict[int, str] = {}
        self.bid, self.ask = NO_BID, NO_ASK
        self.hash = self.hash_token = self.verified_hash = ""
        self.timestamp = self.snapshot_at = ""
        self.last_trade_price = ""
        self.received = 0  # unix ns of the last frame about it
        self.state_note = "awaiting"  # "" while deltas may be applied
        self.split = False  # the last frame spoke of a touch we do not hold
        self.epoch = 0  # grows with every snapshot that ended a gap
        self.group: object = None  # what the engine watches it for
        self.leg = 0

    def __repr__(self) -> str:
        return f"<Book {self.market_id} {PRICE_TEXT[self.bid]}/{PRICE_TEXT[self.ask]} {self.state}>"

    @property
    def state(self) -> str:
        if self.state_note:
            return self.state_note
        if self.bid >= self.ask:
            return "crossed"
        return "batch" if self.split else "fresh"

    @property
    def evaluable(self) -> bool:
        return not self.state_note and not self.split and self.bid < self.ask

    def mark(self, state: str) -> None:
        """Distrust the book (`stale` or `awaiting`) until its next snapshot."""
        self.state_note = state

    def snapshot(self, message: Message, *, received: int) -> None:
        """Replace both ladders by a full book of either outcome."""
        if message.asset_id == self.token0:
            bids, asks = _ladder(message.bids, _LEVEL), _ladder(message.asks, _LEVEL)
        elif message.asset_id == self.token1:
            bids, asks = _ladder(message.asks, _MIRROR), _ladder(message.bids, _MIRROR)
        else:
            raise BadValue("asset_id", message.asset_id)
        if self.state_note:
            self.epoch += 1
        self.bids, self.asks = bids, asks
        self.bid, self.ask = max(bids, default=NO_BID), min(asks, default=NO_ASK)
        self.last_trade_price = message.last_trade_price
        if message.tick_size:
            self.tick_size = message.tick_size
        if message.min_order_size:
            self.min_order_size = message.min_order_size
        self.version = message.version
        self.snapshot_at = message.timestamp
        self.state_note, self.split = "", False
        self._stamp(message.asset_id, message.hash, message.timestamp, received)

    def change(self, message: Message, *, received: int) -> None:
        """Apply the entries of one price_change; both outcomes' entries say the same thing."""
        if self.state_note or message.timestamp < self.snapshot_at:
            return  # waiting for a snapshot, or older than the one we have
        bids, asks, token0 = self.bids, self.asks, self.token0
        change = None
        for change in message.price_changes:
            size = change.size
            if change.asset_id == token0:
                price = _LEVEL.get(change.price) or _level(change.price)
                buys = change.side == "BUY"
            elif change.asset_id == self.token1:
                price = _MIRROR.get(change.price) or PRICE_ONE - _level(change.price)
                buys = change.side == "SELL"
            else:
                raise BadValue("asset_id", change.asset_id)
            if not buys and change.side not in ("BUY", "SELL"):
                raise BadValue("side", change.side)
            gone = size == "0" if size.isdigit() else _is_zero(size)
            if buys:
                if gone:
                    if bids.pop(price, None) is not None and price == self.bid:
                        self.bid = max(bids, default=NO_BID)
                else:
                    bids[price] = size
                    if price > self.bid:
                        self.bid = price
            elif gone:
                if asks.pop(price, None) is not None and price == self.ask:
                    self.ask = min(asks, default=NO_ASK)
            else:
                asks[price] = size
                if price < self.ask:
                    self.ask = price
        if change is None:
            return
        # Every frame of a same-millisecond batch states the touch after the whole batch.
        if not change.best_bid and not change.best_ask:
            self.split = False
        elif change.asset_id == token0:
            self.split = (
                _BID.get(change.best_bid) != self.bid or _ASK.get(change.best_ask) != self.ask
            )
        else:
            self.split = (
                _BID.get(change.best_bid) != PRICE_ONE - self.ask
                or _ASK.get(change.best_ask) != PRICE_ONE - self.bid
            )
        self._stamp(change.asset_id, change.hash, message.timestamp, received)

    def _stamp(self, token: str, digest: str, timestamp: str, received: int) -> None:
        self.hash_token, self.hash = token, digest
        self.timestamp, self.received = timestamp, received

    def asks_of(self, outcome: int) -> Ladder:
        """Return what can be bought of an outcome, best price first."""
        if outcome == 0:
            return tuple((p, size_units(self.asks[p])) for p in sorted(self.asks))
        return tuple(
            (PRICE_ONE - p, size_units(self.bids[p])) for p in sorted(self.bids, reverse=True)
        )

    def hash_holds(self) -> bool | None:
        """Compare with the venue's own digest; None when the last frame carried none."""
        if not self.hash:
            return None
        if self.verified_hash == self.hash:
            return True
        if self.digest(self.hash_token) != self.hash:
            return False
        self.verified_hash = self.hash
        return True

    def digest(self, token: str) -> str:
        """Return the venue's book hash of one outcome, from what we hold."""
        bids = [(PRICE_TEXT[p], self.bids[p]) for p in sorted(self.bids)]
        asks = [(PRICE_TEXT[p], self.asks[p]) for p in sorted(self.asks, reverse=True)]
        if token == self.token1:
            mirrored = [(PRICE_TEXT[PRICE_ONE - p], self.bids[p]) for p in sorted(self.bids)]
            bids = [
                (PRICE_TEXT[PRICE_ONE - p], self.asks[p]) for p in sorted(self.asks, reverse=True)
            ]
            asks = mirrored
        return book_hash(
            market=self.condition_id,
            asset_id=token,
            timestamp=self.timestamp,
            bids=bids,
            asks=asks,
            min_order_size=self.min_order_size,
            tick_size=self.tick_size,
            neg_risk=self.neg_risk,
            last_trade_price=self.last_trade_price,
            version=self.version,
        )


def size_units(size: str) -> int:
    """Return a size in 1e-6 shares (sizes have at most 6 decimals; floats carry them exactly)."""
    return round(float(size) * SIZE_ONE)


def _ladder(rows: list[Row], prices: dict[str, int]) -> dict[int, str]:
    ladder = {}
    for row in rows:
        price = prices.get(row.price)
        if price is None:
            price = _level(row.price) if prices is _LEVEL else PRICE_ONE - _level(row.price)
        if not _is_zero(row.size):
            ladder[price] = row.size
    return ladder


def _level(text: str) -> int:
    """Read a price that is not spelled the usual way ("0.50", ".5")."""
    try:
        price = Decimal(text) * PRICE_ONE
    except InvalidOperation:
        raise BadValue("price", text) from None
    if not price.is_finite() or price != int(price) or not 0 < price < PRICE_ONE:
        raise BadValue("price", text)
    return int(price)


def _is_zero(size: str) -> bool:
    whole, _, part = size.partition(".")
    digits = whole + part
    if not (digits.isdigit() and digits.isascii()):
        raise BadValue("size", size)
    return not digits.strip("0")
