"""What a taker order gets from a book: limits, minimum, fee, and our own footprints (pure).

One way for paper fills, unwinding and backtests (`detection.md` 5). Units as in
`markets.fills`: prices in 1e-4 USD, sizes in 1e-6 shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any, Literal

from markets.fills import (
    MICRO,
    MIN_NOTIONAL,
    PRICE_ONE,
    SIZE_ONE,
    Fee,
    Ladder,
    Level,
    fee_charged,
    mirrored,
    on_tick,
    shares,
    usd_price,
)

Side = Literal["BUY", "SELL"]
MAX_LEVELS = 100  # an order eats no deeper; it bounds what rounding of fees can add

REASONS = {
    "TICK": "the limit is not on the market's tick any more",
    "MIN_SIZE": "under the market's minimum size",
    "MIN_NOTIONAL": "under 1 USD",
    "NO_DEPTH": "nothing offered within the limit",
    "NO_BOOK": "no book arrived in time",
    "REFUSED": "the venue refused the order",
}


@dataclass(frozen=True, slots=True)
class Order:
    """A fill-and-kill order for one outcome."""

    side: Side
    size: int
    limit: int
    tick: int
    min_size: int
    fee: Fee


@dataclass(frozen=True, slots=True)
class Take:
    """What was taken of one level, and what the level displayed."""

    price: int
    size: int
    fee: Decimal
    displayed: int

    def row(self) -> list[str]:
        return [
            str(usd_price(self.price)),
            str(shares(self.size)),
            str(self.fee),
            str(shares(self.displayed)),
        ]


@dataclass(frozen=True, slots=True)
class Match:
    """What the order got. `cash` is USD paid with fees (BUY) or got after fees (SELL)."""

    side: Side
    takes: tuple[Take, ...]
    size: int
    fee: Decimal
    cash: Decimal
    complete: bool

    def row(self) -> dict[str, object]:
        return {
            "side": self.side,
            "size": self.size,
            "fee": str(self.fee),
            "cash": str(self.cash),
            "complete": self.complete,
            "takes": [[t.price, t.size, str(t.fee), t.displayed] for t in self.takes],
        }

    @property
    def avg_price(self) -> Decimal:
        """Return USD a share, without fee."""
        gross = sum(take.price * take.size for take in self.takes)
        return (Decimal(gross).scaleb(-10) / shares(self.size)).quantize(MICRO, ROUND_HALF_UP)


def read_match(row: Mapping[str, Any]) -> Match:
    """Return a stored match as it was."""
    takes = tuple(
        Take(price, size, Decimal(fee), shown) for price, size, fee, shown in row["takes"]
    )
    fee, cash = Decimal(row["fee"]), Decimal(row["cash"])
    return Match(row["side"], takes, row["size"], fee, cash, row["complete"])


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Why the order got nothing; a key of `REASONS`."""

    reason: str


def match(order: Order, ladder: Ladder, *, displayed: Ladder | None = None) -> Match | NoMatch:
    """Fill what the ladder (best price first) offers within the limit.

    `displayed` are the same levels as the venue shows them, for the record.
    """
    refusal = _refused(order)
    if refusal:
        return NoMatch(refusal)
    shown = dict(displayed or ladder)
    takes: list[Take] = []
    left = order.size
    for price, available in ladder[:MAX_LEVELS]:
        beyond = price > order.limit if order.side == "BUY" else price < order.limit
        if beyond or not left:
            break
        amount = min(left, available)
        fee = fee_charged(price, amount, fee=order.fee)
        takes.append(Take(price, amount, fee, shown.get(price, available)))
        left -= amount
    if not takes:
        return NoMatch("NO_DEPTH")
    if sum(take.price * take.size for take in takes) < MIN_NOTIONAL and order.side == "SELL":
        return NoMatch("MIN_NOTIONAL")
    return _matched(order, tuple(takes), left)


def _refused(order: Order) -> str:
    if not on_tick(order.limit, order.tick):
        return "TICK"
    if order.size < order.min_size:
        return "MIN_SIZE"
    small = order.side == "BUY" and order.size * order.limit < MIN_NOTIONAL
    return "MIN_NOTIONAL" if small else ""


def _matched(order: Order, takes: tuple[Take, ...], left: int) -> Match:
    gross = Decimal(sum(take.price * take.size for take in takes)).scaleb(-10)
    fee = sum((take.fee for take in takes), Decimal(0))
    if order.side == "BUY":
        cash = gross.quantize(MICRO, ROUND_CEILING) + fee
    else:
        cash = gross.quantize(MICRO, ROUND_FLOOR) - fee
    return Match(order.side, takes, order.size - left, fee, cash, complete=not left)


def sale_ladder(asks_of_other: Ladder) -> Ladder:
    """Return the bids of an outcome, best first, from the asks of the other one."""
    return mirrored(asks_of_other)


def thinned(ladder: Ladder, share: Decimal) -> Ladder:
    """Return a ladder of which only a share of each size is counted on."""
    if share == 1:
        return ladder
    over, under = share.as_integer_ratio()
    return tuple((price, size * over // under) for price, size in ladder if size * over // under)


def lowest_limit(tick: int) -> int:
    """Return the limit of a sale at any price."""
    return tick


def reach(touch: int, *, slippage_bps: int, tick: int) -> int:
    """Return the highest limit on the tick that lies within the slippage above the touch.

    Never under the touch itself.
    """
    most = touch * (10_000 + slippage_bps) // 10_000
    up = -(-touch // tick) * tick
    return min(max(most - most % tick, up), PRICE_ONE - tick)


_Place = tuple[str, bool]  # market id, whether it is the ask side of outcome 0


class Footprints:
    """What we have taken of displayed levels and the venue still shows.

    A level counts as taken until it is refreshed: it went away, or grew.
    """

    def __init__(self) -> None:
        self._taken: dict[_Place, dict[int, tuple[int, int]]] = {}  # price: displayed, taken
        self.marks: Counter[str] = Counter()  # by market: grows with each order of ours

    def left(self, ladder: Ladder, *, market_id: str, outcome: int, side: Side) -> Ladder:
        """Return what a displayed ladder still offers to us; learn which levels were refreshed."""
        place = _place(market_id, outcome, side)
        taken = self._taken.get(place)
        if not taken:
            return ladder
        rest: list[Level] = []
        kept: dict[int, tuple[int, int]] = {}
        for price, size in ladder:
            key = _price0(price, outcome)
            displayed, gone = taken.get(key, (0, 0))
            if key in taken and size <= displayed:
                kept[key] = (size, gone)
                size -= gone
            if size > 0:
                rest.append((price, size))
        self._taken[place] = kept
        return tuple(rest)

    def leave(self, takes: tuple[Take, ...], *, market_id: str, outcome: int, side: Side) -> None:
        """Remember what we have just taken."""
        self.marks[market_id] += 1
        taken = self._taken.setdefault(_place(market_id, outcome, side), {})
        for take in takes:
            key = _price0(take.price, outcome)
            _, gone = taken.get(key, (0, 0))
            taken[key] = (take.displayed, gone + take.size)


def _place(market_id: str, outcome: int, side: Side) -> _Place:
    return market_id, (side == "BUY") is (outcome == 0)


def _price0(price: int, outcome: int) -> int:
    return price if outcome == 0 else PRICE_ONE - price


def size_units(size: Decimal) -> int:
    """Return shares in 1e-6 shares."""
    return int(size * SIZE_ONE)


def price_units(price: Decimal) -> int:
    """Return USD in 1e-4 USD."""
    return int(price * PRICE_ONE)
