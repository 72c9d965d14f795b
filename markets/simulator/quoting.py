"""What makers and takers do to one book, and the messages that follow."""

from __future__ import annotations

import math
import random

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator import wire
from markets.simulator.ladder import Edit, Side
from markets.simulator.state import LiveEvent, LiveMarket
from markets.simulator.wire import Fill

CENT = SIZE_ONE // 100
KEEP = 3  # levels that ordinary business leaves on a side
REACH = 4  # levels a maker withdraws at once


def draw_size(leg: LiveMarket, rng: random.Random) -> int:
    """Draw a level's size: lognormal around the market's own median, often a round number."""
    shares = leg.median * math.exp(rng.gauss(0.0, 0.9))
    if rng.random() < 0.5:
        return max(5, round(shares / 5) * 5) * SIZE_ONE
    return max(1, round(shares * 100)) * CENT


def opening_edits(leg: LiveMarket, bid: int, ask: int, rng: random.Random) -> list[Edit]:
    """Build a whole book around a touch: even depth with gaps, and old orders far out."""
    edits: list[Edit] = []
    for is_bid, price in ((True, bid), (False, ask)):
        for _ in range(leg.depth):
            if not 0 < price < PRICE_ONE:
                break
            edits.append((is_bid, price, draw_size(leg, rng)))
            gap = leg.spec.tick * (1 + int(rng.expovariate(0.9)))
            price += -gap if is_bid else gap
        edits += [(is_bid, far, 20 * draw_size(leg, rng)) for far in _far_prices(is_bid, price)]
    return edits


def _far_prices(is_bid: bool, beyond: int) -> list[int]:
    if is_bid:
        return [price for price in (100, 500, 1_000) if price < beyond]
    return [price for price in (9_900, 9_500, 9_000) if price > beyond]


def post(leg: LiveMarket, edits: list[Edit], *, ms: int, rng: random.Random) -> list[bytes]:
    """Change levels in one batch; every message already tells the state after all of it."""
    book, before = leg.book, leg.touch
    book.apply(edits, ms=_stamp(leg, ms))
    after = wire.seal(book)
    bodies = _touch_news(leg, before, rng)
    for edit in edits:
        bodies.append(wire.price_change(book, edit, after, first=rng.random() < 0.5))
    return bodies


def trade(
    leg: LiveMarket, edits: list[Edit], fill: Fill, *, ms: int, rng: random.Random
) -> list[bytes]:
    """Let a taker deal: the trade, then the book of each outcome as it leaves it."""
    book, before = leg.book, leg.touch
    book.apply(edits, ms=_stamp(leg, ms))
    price = PRICE_ONE - fill.price if fill.outcome else fill.price
    book.last_trade = leg.price_text(price)
    leg.volume += fill.size * fill.price / SIZE_ONE / PRICE_ONE
    bodies = _touch_news(leg, before, rng)
    bodies.append(wire.last_trade_price(book, fill))
    return bodies + [wire.book_text(book, outcome).encode() for outcome in (0, 1)]


def rewrite(leg: LiveMarket, edits: list[Edit], *, ms: int, rng: random.Random) -> list[bytes]:
    """Change levels and show the whole book of each outcome instead of the changes."""
    before = leg.touch
    leg.book.apply(edits, ms=_stamp(leg, ms))
    bodies = _touch_news(leg, before, rng)
    return bodies + [wire.book_text(leg.book, outcome).encode() for outcome in (0, 1)]


def _stamp(leg: LiveMarket, ms: int) -> int:
    """Give each batch of a market a millisecond of its own, so that its hash is unambiguous."""
    return max(ms, leg.book.ms + 1)


def _touch_news(leg: LiveMarket, before: tuple[int, int], rng: random.Random) -> list[bytes]:
    """Announce a new touch ahead of the change that made it, at times stamped 1 ms later."""
    if leg.touch == before:
        return []
    ms = leg.book.ms + (rng.random() < 0.2)
    return [wire.best_bid_ask(leg.book, outcome, ms=ms) for outcome in (0, 1)]


def make_fill(hits_bid: bool, price: int, size: int, rng: random.Random) -> Fill:
    """Name the taker's side: hitting a bid is selling outcome 0 or buying outcome 1."""
    outcome = int(rng.random() < 0.4)
    return Fill(
        outcome=outcome,
        is_buy=hits_bid == bool(outcome),
        price=PRICE_ONE - price if outcome else price,
        size=size,
        transaction=f"0x{rng.getrandbits(256):064x}",
    )


def stir(leg: LiveMarket, rng: random.Random, *, touch: bool) -> Edit | None:
    """Change depth without moving the touch.

    `touch` False: leave the best level alone, and add none, which a plant could leave behind.
    """
    is_bid = rng.random() < 0.5
    side = leg.book.side(is_bid)
    if len(side) < 2:
        return None
    if len(side) > leg.depth + 6:
        return is_bid, side.price(len(side) - 1), 0
    if touch and len(side) < leg.depth and rng.random() < 0.5:
        return _add_behind(leg, side, rng)
    rank = min(int(rng.expovariate(0.3)) + (not touch), len(side) - 1)
    gone = rank and len(side) > KEEP and rng.random() < 0.12
    return is_bid, side.price(rank), 0 if gone else draw_size(leg, rng)


def _add_behind(leg: LiveMarket, side: Side, rng: random.Random) -> Edit | None:
    away = leg.spec.tick * (1 + int(rng.expovariate(0.08)))
    price = side.price(0) - side.sign * away
    return (side.sign > 0, price, draw_size(leg, rng)) if 0 < price < PRICE_ONE else None


def requote(event: LiveEvent, index: int, rng: random.Random) -> list[Edit]:
    """Move one market's touch towards where it belongs, retreating before improving.

    An improvement that would leave something to take in the event is not made.
    """
    leg = event.legs[index]
    bid, ask = event.targets(index)
    edits, best_bid = _retreat(leg.book.bids, bid)
    gone, best_ask = _retreat(leg.book.asks, ask)
    edits += gone
    ask = max(ask, best_bid + leg.spec.tick)  # levels too few to withdraw stand in the way
    if best_ask > ask and event.may_ask(index, ask):
        edits.append((False, ask, draw_size(leg, rng)))
        best_ask = ask
    bid = min(bid, best_ask - leg.spec.tick)
    if best_bid < bid and event.may_bid(index, bid):
        edits.append((True, bid, draw_size(leg, rng)))
    return edits


def _retreat(side: Side, target: int) -> tuple[list[Edit], int]:
    """Withdraw the levels that are better than a target; with the best price that is left."""
    rank = 0
    while rank < min(REACH, len(side) - KEEP) and side.sign * side.price(rank) > side.sign * target:
        rank += 1
    best = side.price(rank) if side.keys else (0 if side.sign > 0 else PRICE_ONE)
    return [(side.sign > 0, side.price(at), 0) for at in range(rank)], best


def clear_beyond(side: Side, price: int) -> list[Edit]:
    """Withdraw every level of a side that an order at `price` on the other side would meet."""
    return [
        (side.sign > 0, level, 0)
        for level, _ in side.levels()
        if side.sign * level >= side.sign * price
    ]
