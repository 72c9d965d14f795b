"""One book per market, kept in the space of outcome 0 (pure).

Outcome 1 is the mirror: its ask is 1 - bid, with the same size. Prices are
ints in 1e-4 USD; sizes stay the strings the venue sent, which keeps its book
hash checkable and costs nothing until a ladder is walked. Sizes are absolute,
so applying a frame twice is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from markets.listing import MarketTerms
from markets.polymarket.wire import Change, Delta, Message, Row, book_hash, last_stamp, row_head

NO_BID = 0
NO_ASK = PRICE_ONE
MAX_WAITING = 500  # changes kept for a snapshot that is under way
MAX_SIZE = 1e12  # shares; far above all money there is
LEAST_SIZE = 1 / SIZE_ONE  # shares; a level of less is none

# Prices in 1e-4 USD, what most markets use first: made in this order, the few texts and numbers
# that nearly all frames speak of lie together in memory and stay in the cache.
_PRICES = [*range(0, PRICE_ONE + 1, 10), *(p for p in range(PRICE_ONE) if p % 10)]
_SPELLED = {p: f"{p / PRICE_ONE:.4f}".rstrip("0").rstrip(".") for p in _PRICES}
PRICE_TEXT = tuple(_SPELLED[p] for p in range(PRICE_ONE + 1))
_ROW_HEADS = tuple(map(row_head, PRICE_TEXT))
# Levels lie strictly between 0 and 1. One table for all ticks and both sides.
_LEVEL = {text: p for p, text in _SPELLED.items() if 0 < p < PRICE_ONE}
_MIRROR = {text: PRICE_ONE - p for text, p in _LEVEL.items()}

# Sizes from 1 share up to a trillion, a comma after each.
_PLAIN_SIZES = re.compile(r"(?:[1-9][0-9]{0,11}+(?:\.[0-9]++)?,)++").fullmatch

Stamp = tuple[str, str, str]  # token, hash, venue time in ms
Answered = Literal["healed", "agreed", "doubted", "drifted", "ignored"]


class BadValue(Exception):
    """A price or size that cannot be; `field` and `value` name it."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"{field}={value[:40]!r}")
        self.field = field
        self.value = value


class _Touched:
    """What most frames read and write, side by side in memory: a subclass's slots come after."""

    __slots__ = (
        "also",
        "ask",
        "asks",
        "bid",
        "bids",
        "cost",
        "evaluable",
        "gain",
        "group",
        "hot",
        "inverted",
        "leg",
        "moved",
        "received",
        "settled",
        "split",
        "stamp",
        "state_note",
        "table",
        "token0",
        "token1",
        "told_at",
    )


class Book(_Touched):
    """Both ladders of one market and how far they can be trusted.

    `bid` and `ask` are the touch of outcome 0 (`NO_BID`, `NO_ASK` when the
    side is empty). `state` says whether it may be evaluated:

    - `awaiting`: no snapshot yet, or dropped by a tick size change
    - `stale`: the connection was cut or a frame about it was bad; deltas wait for
      the next snapshot
    - `crossed`: bid >= ask
    - `batch`: the last frame speaks of a touch that we do not hold yet, so more
      frames of the same millisecond are to come
    - `fresh`: none of these
    """

    __slots__ = (
        "changed",
        "changes",
        "condition_id",
        "conn",
        "doubt",
        "epoch",
        "last_trade_price",
        "market_id",
        "min_order_size",
        "neg_risk",
        "offline",
        "tick_size",
        "traded",
        "unproven",
        "verified",
        "version",
        "waiting",
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
        # What the venue says of this state: (token, hash, its time), or the frame that says it.
        self.stamp: Stamp | bytes = ("", "", "")
        self.verified: Stamp | None = None  # the stamp whose hash held
        self.unproven = False  # the hash did not hold when it was last compared
        self.told_at = ""  # venue time (ms) of the newest snapshot or change
        self.settled = False  # nothing newer than the last snapshot came
        self.last_trade_price = ""
        self.received = 0  # unix ns of the last frame that moved its top or state
        self.state_note = "awaiting"  # "" while deltas may be applied
        self.changes = 0  # how often anything in it changed, while it is `hot`
        self.changed = 0  # the one price of outcome 0 that the last change concerned; 0: several
        self.evaluable = False  # `state` is fresh
        self.split = False  # the last frame spoke of a touch we do not hold
        self.conn: int | None = None  # the connection that its frames come by
        self.offline = False  # that connection is cut
        self.doubt = ""  # venue time of an answer that was newer than what we hold
        self.waiting: list[tuple[Delta | Message, bytes]] | None = (
            None  # changes before the snapshot
        )
        self.epoch = 0  # grows with every snapshot that ended a gap
        self.group: Any = None  # what the engine watches it for
        self.also: tuple[Any, ...] = ()  # and what else does (see `rules.engine`)
        self.leg, self.inverted = 0, False
        self.table: Sequence[float] = ()  # what it counts with there, by price
        self.cost = self.gain = 0.0
        self.moved = False  # its top changed since it was last taken (see `Books.take_moved`)
        self.hot = 0  # how many want every change, not only of the touch
        self.traded = 0  # 1e-6 shares since it is kept

    def __repr__(self) -> str:
        return f"<Book {self.market_id} {PRICE_TEXT[self.bid]}/{PRICE_TEXT[self.ask]} {self.state}>"

    @property
    def state(self) -> str:
        if self.state_note:
            return self.state_note
        if self.bid >= self.ask:
            return "crossed"
        return "batch" if self.split else "fresh"

    def mark(self, state: str) -> None:
        """Distrust the book (`stale` or `awaiting`) until its next snapshot."""
        self.state_note = state
        self.evaluable = False
        self.waiting = None

    def snapshot(self, message: Message, received: int) -> None:
        """Replace both ladders by a full book of either outcome, as the feed sent it."""
        self._replace(message, received)
        self.waiting = None
        self.offline = False

    def count_trade(self, size: str) -> None:
        """Add a trade to `traded`; raise `BadValue` for what is no size."""
        if size and not _is_zero(size):
            self.traded += size_units(size)

    @property
    def needs_answer(self) -> bool:
        """Say whether only a REST answer can tell what the book is."""
        unclear = self.split or self.unproven or self.bid >= self.ask
        followed = not self.offline or bool(self.waiting)
        return followed and bool(self.state_note or self.doubt or unclear)

    def answer(self, message: Message, received: int) -> Answered:
        """Take a book that was asked for over REST: heal with it, or check against it.

        A book that awaits its snapshot takes it, and the changes that came
        meanwhile on top; not while its connection is cut, because nothing would
        keep it fresh. Otherwise the two are compared.
        """
        if self.offline and not self.waiting:
            return "ignored"
        if self.state_note:
            self._heal(message, received)
            return "healed"
        if self.split or self.unproven or self.bid >= self.ask:
            if message.timestamp < self._stated()[2]:
                return "doubted"  # an answer from before what we could not make sense of
            self._heal(message, received)
            return "healed"
        return self._compare(message)

    def _heal(self, message: Message, received: int) -> None:
        waiting, self.waiting = self.waiting or [], None
        later = [each for each in waiting if each[0].timestamp >= message.timestamp]
        self._replace(message, received)
        try:
            for change, body in later:
                self.change(change, received, body)
        except BadValue:
            self.mark("stale")
            raise

    def _compare(self, message: Message) -> Answered:
        """Say whether an answer agrees; one that is newer than what we hold is asked again."""
        _, stated, timestamp = self._stated()
        if (stated and message.hash == stated) or message.timestamp < timestamp:
            self.doubt = ""
            return "agreed"
        if self.doubt and timestamp < self.doubt:
            return "drifted"  # the venue moved on long ago and nobody told us
        if message.timestamp == timestamp and self._same_touch(message):
            return "agreed"  # the other outcome's hash, or a hash we have not seen
        if message.timestamp == timestamp:
            return "drifted"
        self.doubt = self.doubt or message.timestamp
        return "doubted"

    def _same_touch(self, message: Message) -> bool:
        prices = _LEVEL if message.asset_id == self.token0 else _MIRROR
        bids, asks = _ladder(message.bids, prices), _ladder(message.asks, prices)
        if prices is _MIRROR:
            bids, asks = asks, bids
        return (max(bids, default=NO_BID), min(asks, default=NO_ASK)) == (self.bid, self.ask)

    def _wait(self, message: Delta | Message, body: bytes) -> bool:
        """Keep a change for the snapshot to come, the newest ones if there are too many."""
        self.waiting = [*(self.waiting or ())[-MAX_WAITING:], (message, body)]
        return False

    def _replace(self, message: Message, received: int) -> None:
        if message.asset_id == self.token0:
            bids, asks = _ladder(message.bids, _LEVEL), _ladder(message.asks, _LEVEL)
        elif message.asset_id == self.token1:
            bids, asks = _ladder(message.asks, _MIRROR), _ladder(message.bids, _MIRROR)
        else:
            raise BadValue("asset_id", message.asset_id)
        if not message.timestamp.isdecimal():
            raise BadValue("timestamp", message.timestamp)
        if self.state_note:
            self.epoch += 1
        self.doubt, self.unproven = "", False
        self.bids, self.asks = bids, asks
        self.changes, self.changed = self.changes + 1, 0
        self.bid, self.ask = max(bids, default=NO_BID), min(asks, default=NO_ASK)
        self.last_trade_price = message.last_trade_price
        if message.tick_size:
            self.tick_size = message.tick_size
        if message.min_order_size:
            self.min_order_size = message.min_order_size
        if message.neg_risk is not None:
            self.neg_risk = message.neg_risk
        self.version = message.version
        self.told_at, self.settled = message.timestamp, True
        self.state_note, self.split = "", False
        self.evaluable = self.bid < self.ask
        self.stamp = (message.asset_id, message.hash, message.timestamp)
        self.received = received

    def change(self, message: Delta | Message, received: int, body: bytes) -> bool:
        """Apply the entries of one price_change; both outcomes' entries say the same thing.

        Return whether the touch, or whether it may be evaluated, is another now.
        `body` is the frame, kept for its hash until the next one.
        """
        if self.state_note:
            return self._wait(message, body)
        timestamp = message.timestamp
        if timestamp != self.told_at:
            if not timestamp.isdecimal():
                raise BadValue("timestamp", timestamp)
            if timestamp < self.told_at:
                return self._stepped_back(received)
            self.told_at, self.settled = timestamp, False
        entries: Sequence[Change] | None = message.price_changes
        if entries is None:
            raise BadValue("price_changes", "")
        token = self.token0
        if len(entries) == 2:
            first, second = entries
            if (
                first.size == second.size
                and first.side != second.side
                and PRICE_TEXT[PRICE_ONE - _LEVEL.get(first.price, 0)] == second.price
                and first.asset_id == token
                and second.asset_id == self.token1
            ):
                entries = (first,)  # the other says the same of the other outcome
        best_bid, best_ask = self.bid, self.ask
        change = None
        for change in entries:
            price, size = _LEVEL.get(change.price) or _level(change.price), change.size
            if change.asset_id == self.token0:
                token, buys = self.token0, change.side == "BUY"
            elif change.asset_id == self.token1:
                price, token, buys = PRICE_ONE - price, self.token1, change.side == "SELL"
            else:
                raise BadValue("asset_id", change.asset_id)
            try:
                gone = not LEAST_SIZE <= float(size) < MAX_SIZE and _is_zero(size)
            except ValueError:
                raise BadValue("size", size) from None
            if gone:
                if buys:
                    if self.bids.pop(price, None) is not None and price == best_bid:
                        best_bid = max(self.bids, default=NO_BID)
                elif self.asks.pop(price, None) is not None and price == best_ask:
                    best_ask = min(self.asks, default=NO_ASK)
            # A price has one side: an order may take a level whole and rest there with
            # what is left, which the venue tells by this one entry.
            elif buys:
                self.bids[price] = size
                if price > best_bid:
                    best_bid = price
                if price >= best_ask and self.asks.pop(price, None) is not None:
                    best_ask = min(self.asks, default=NO_ASK)
            else:
                self.asks[price] = size
                if price < best_ask:
                    best_ask = price
                if price <= best_bid and self.bids.pop(price, None) is not None:
                    best_bid = max(self.bids, default=NO_BID)
        if change is None:
            return False
        if self.hot:
            self.changes += 1
            self.changed = price if len(entries) == 1 else 0
        # Every frame of a same-millisecond batch states the touch after the whole batch.
        bid, ask = best_bid, best_ask
        if token is not self.token0:
            bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
        agrees = change.best_bid == PRICE_TEXT[bid] and change.best_ask == PRICE_TEXT[ask]
        moved = best_bid != self.bid or best_ask != self.ask
        if moved:
            self.bid, self.ask = best_bid, best_ask
        self.stamp = body
        split = not agrees and not self._states_no_more(change, token)
        if not moved and split is self.split:
            return False
        self.split, self.received = split, received
        self.evaluable = not split and best_bid < best_ask
        return True

    def _stepped_back(self, received: int) -> bool:
        """Take a change from before what was told last.

        A snapshot holds it already. Behind a newer change it may undo what that one did, and
        its hash would fit: nothing is sure any more. The venue never steps back within a
        market (357,274 real changes, none), a connection that repeats itself would.
        """
        if self.settled:
            return False
        self.mark("stale")
        self.received = received
        return True

    def _states_no_more(self, change: Change, token: str) -> bool:
        """Say whether an entry agrees after all: an empty side has several spellings."""
        if not change.best_bid and not change.best_ask:
            return True  # this feed does not state the touch
        bid, ask = _touch(change.best_bid, NO_BID), _touch(change.best_ask, NO_ASK)
        if token != self.token0:
            bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
        return bid == self.bid and ask == self.ask

    def asks_of(self, outcome: int) -> Ladder:
        """Return what can be bought of an outcome, best price first."""
        if outcome == 0:
            asks = self.asks
            return tuple([(p, size_units(asks[p])) for p in sorted(asks)])
        bids = self.bids
        return tuple([(PRICE_ONE - p, size_units(bids[p])) for p in sorted(bids, reverse=True)])

    def hash_holds(self) -> bool | None:
        """Compare with the venue's own digest; None when the last frame carried none."""
        stamp = self._stated()
        token, stated, timestamp = stamp
        if not stated:
            return None
        # The same hash may come again with an old frame, onto another state: compare anew.
        if stamp is not self.verified:
            self.unproven = self.digest(token, timestamp) != stated
            if self.unproven:
                return False
            self.verified = stamp
        return True

    @property
    def is_proven(self) -> bool:
        """Say whether nothing came since the hash was last seen to hold."""
        return self.stamp is self.verified

    def _stated(self) -> Stamp:
        if isinstance(self.stamp, bytes):
            self.stamp = last_stamp(self.stamp, self.condition_id)
        return self.stamp

    def digest(self, token: str, timestamp: str) -> str:
        """Return the venue's book hash of one outcome, from what we hold."""
        bids, asks, heads = self.bids, self.asks, _ROW_HEADS
        rising, falling = sorted(bids), sorted(asks, reverse=True)
        if token == self.token1:
            low = [heads[PRICE_ONE - p] + asks[p] for p in falling]
            high = [heads[PRICE_ONE - p] + bids[p] for p in rising]
        else:
            low = [heads[p] + bids[p] for p in rising]
            high = [heads[p] + asks[p] for p in falling]
        return book_hash(
            market=self.condition_id,
            asset_id=token,
            timestamp=timestamp,
            bids=low,
            asks=high,
            min_order_size=self.min_order_size,
            tick_size=self.tick_size,
            neg_risk=self.neg_risk,
            last_trade_price=self.last_trade_price,
            version=self.version,
        )


def size_units(size: str) -> int:
    """Return a size in 1e-6 shares (sizes have at most 6 decimals; floats carry them exactly)."""
    return round(float(size) * SIZE_ONE)


def _ladder(rows: list[Row] | None, prices: dict[str, int]) -> dict[int, str]:
    """Read one side of a snapshot; levels of size zero are left out."""
    if rows is None:
        raise BadValue("levels", "")  # not the same as an empty side
    if not rows:
        return {}
    try:
        ladder = {prices[row.price]: row.size for row in rows}
    except KeyError:
        return _odd_ladder(rows, prices)
    # One search is cheaper than a float of each; what is below 1 share is for the other reader.
    sizes = ",".join(ladder.values())
    return ladder if _PLAIN_SIZES(f"{sizes},") else _odd_ladder(rows, prices)


def _odd_ladder(rows: list[Row], prices: dict[str, int]) -> dict[int, str]:
    """Read a side that has a phantom level or an unusual spelling; raise `BadValue`."""
    ladder = {}
    for row in rows:
        level = prices.get(row.price) or _level(row.price)
        if prices is _MIRROR and row.price not in prices:
            level = PRICE_ONE - level
        if not _is_zero(row.size):
            ladder[level] = row.size
    return ladder


def _touch(text: str, empty: int) -> int:
    """Read a stated best price; an empty side is "", "0" or "1"."""
    try:
        return _level(text)
    except BadValue:
        return empty


def _level(text: str) -> int:
    """Read a price that is not spelled the usual way ("0.50", ".5")."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise BadValue("price", text) from None
    # The range comes first: an int of "1e999990" takes most of a minute.
    if price.is_finite() and 0 < price < 1:
        units = price * PRICE_ONE
        level = int(units)
        if level and level == units:
            return level
    raise BadValue("price", text)


def _is_zero(size: str) -> bool:
    """Say whether a level is gone; raise `BadValue` for what is no size."""
    try:
        value = float(size)
    except ValueError:
        raise BadValue("size", size) from None
    if not 0 <= value < MAX_SIZE:
        raise BadValue("size", size)
    return value < LEAST_SIZE
