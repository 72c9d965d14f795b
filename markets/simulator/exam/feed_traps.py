"""What only looks like an arbitrage in the way it is told: lost, late, twice, for a moment."""

from __future__ import annotations

import msgspec

from markets.frames import CLOSED, OPENED, Frame
from markets.simulator import wire
from markets.simulator.exam.bargains import Offer, lowered, put_up, shares, take_back
from markets.simulator.exam.cases import Case
from markets.simulator.exam.decoys import gross
from markets.simulator.exam.single import (
    begin,
    exclusive,
    hold,
    plan,
    seats_of,
    stakes_of,
    window,
    yes_margin,
)
from markets.simulator.exam.studio import CHARGED, Studio, markets_of
from markets.simulator.quoting import clear_beyond, make_fill
from markets.simulator.stage import MS
from markets.simulator.state import LiveEvent

HOUR_MS = 3_600_000
RISE = 1_200  # 1e-4 USD: what a leg went up by while nobody could hear


def stale_leg(studio: Studio) -> Case | None:
    """A leg's connection is cut; its old price would make the others pay, its new one does not."""
    event = exclusive(studio, studio.rng.randrange(3, 7), floor=0.08)
    index = studio.rng.randrange(len(event.legs))
    leg, far = event.legs[index], studio.conn + 1
    if leg.book.best_ask + RISE > 9_500:
        return None
    studio.open(event, listed_only=True)
    studio.wait(1_000)
    studio.show(event, conns={index: far})
    studio.stir(event, times=1)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=0.03)
    if offers is None:
        return None
    studio.say(CLOSED, b"gone", conn=far)
    studio.silently(event, index, clear_beyond(leg.book.asks, leg.book.best_ask + RISE))
    put_up(studio, [offer for offer in offers if offer.seat.index != index])
    studio.wait(1_500, 3_000)
    studio.say(OPENED, b"", conn=far)
    texts = [wire.book_text(leg.book, outcome) for outcome in (0, 1)]
    studio.send([wire.array(texts)], conn=far)
    studio.wait(1_000)
    take_back(studio, [offer for offer in offers if offer.seat.index != index])
    studio.wait(800)
    return studio.case("stale_leg", trap=True)


def late_mirror(studio: Studio) -> Case | None:
    """A market moves by several cents, and its NO side is told up to 400 ms after its YES side."""
    event = studio.event("binary", [studio.rng.uniform(0.2, 0.8)])
    begin(studio, event, moves=0)
    for _ in range(studio.rng.randrange(6, 12)):
        event.latent.jump(studio.rng)
        bodies = studio.rewrite(event, 0, studio.anew(event, 0))
        studio.send(bodies[:-1])
        studio.wait(20, 400)
        studio.send(bodies[-1:])
        studio.wait(20, 300)
    return studio.case("late_mirror", trap=True)


def crossed_book(studio: Studio) -> Case | None:
    """A book whose bid is above its ask: both its outcomes, or its event, look too cheap."""
    single = studio.rng.random() < 0.5
    event = (
        studio.event("binary", [studio.rng.uniform(0.2, 0.8)])
        if single
        else exclusive(studio, studio.rng.choice((3, 4)))
    )
    begin(studio, event, moves=0)
    index = studio.rng.randrange(len(event.legs))
    leg = event.legs[index]
    beyond = leg.book.best_bid - (600 if not single else 2 * leg.spec.tick)
    if beyond <= leg.spec.tick:
        return None
    studio.change(event, index, [(False, beyond, shares(studio, 100, 400))])
    studio.wait(300, 2_000)
    studio.change(event, index, [(False, beyond, 0)])
    studio.wait(1_000)
    return studio.case("crossed_book", trap=True)


def muddled_frames(studio: Studio) -> Case | None:
    """Frames that come twice, in the wrong order, or with a size that is not the book's."""
    return studio.rng.choice((_twice, _out_of_order, _wrong_size))(studio)


def _twice(studio: Studio) -> Case | None:
    """Every change of a basket that does not pay is told two or three times."""
    event = exclusive(studio, studio.rng.randrange(3, 8), category=studio.rng.choice(CHARGED))
    begin(studio, event)
    seats = seats_of(event, 0)
    prices = gross(studio, seats, pays=1)
    if prices is None:
        return None
    for seat, price in zip(seats, prices, strict=True):
        gone = clear_beyond(seat.market.book.bids, price)
        order = seat.edit(price, shares(studio, 80, 300))
        bodies = studio.change(event, seat.index, [*gone, order])
        studio.wait(0, 40)
        studio.send(bodies * studio.rng.randrange(1, 3))
    studio.wait(2_000)
    return studio.case("muddled_frames", trap=True, stakes=stakes_of(event))


def _out_of_order(studio: Studio) -> Case | None:
    """A basket is put up and withdrawn within 100 ms; then the frames that put it up come again."""
    event = exclusive(studio, studio.rng.randrange(3, 6))
    begin(studio, event, moves=0)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=yes_margin(studio))
    if offers is None:
        return None
    first = len(studio.frames)
    put_up(studio, offers, gap_ms=10)
    again = [frame.body for frame in studio.frames[first:]]
    take_back(studio, offers, gap_ms=5)
    studio.wait(700)
    studio.send(again)
    studio.wait(1_500)
    studio.show(event)
    studio.wait(800)
    return studio.case("muddled_frames", trap=True)


def _wrong_size(studio: Studio) -> Case | None:
    """A thin basket is told with a hundred times its size; only the book's hash says so."""
    event = exclusive(studio, studio.rng.choice((3, 4)), floor=0.21)
    begin(studio, event, moves=0)
    seats = seats_of(event, 0)
    prices = lowered(studio, seats, pays=1, margin=0.012)
    if prices is None:
        return None
    for seat, price in zip(seats, prices, strict=True):
        gone = clear_beyond(seat.market.book.bids, price)
        bodies = studio.silently(event, seat.index, [*gone, seat.edit(price, 7_120_000)])
        studio.send([body.replace(b'"size":"7.12"', b'"size":"712"') for body in bodies])
        studio.wait(10, 60)
    studio.wait(2_000)
    return studio.case("muddled_frames", trap=True)


def flicker(studio: Studio) -> Case | None:
    """A basket that is gone before anybody could take it, once or again and again."""
    event = exclusive(studio, studio.rng.randrange(3, 9))
    begin(studio, event)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=yes_margin(studio))
    if offers is None:
        return None
    often = studio.rng.random() < 0.5
    for _ in range(studio.rng.randrange(4, 8) if often else 2):
        put_up(studio, offers, gap_ms=6)
        studio.wait(30, 160)
        take_back(studio, offers, gap_ms=4)
        studio.wait(30 if often else 800, 90 if often else 1_200)
    studio.wait(1_000)
    return studio.case("flicker", trap=True)


def bait(studio: Studio) -> Case | None:
    """Trades from the future and a catalogue that speak of prices no book has."""
    event = exclusive(studio, studio.rng.randrange(3, 8), category=studio.rng.choice(CHARGED))
    begin(studio, event)
    seats = seats_of(event, 0)
    prices = gross(studio, seats, pays=1)
    if prices is None:
        return None
    offers = [
        Offer(seat, ((price, shares(studio, 100, 300)),))
        for seat, price in zip(seats, prices, strict=True)
    ]
    put_up(studio, offers)
    dropped = [frame for leg in range(len(seats)) for frame in _future(studio, event, leg)]
    studio.wait(50)
    dropped.append(_tempting(studio, event))
    hold(studio, event)
    take_back(studio, offers)
    studio.wait(1_500)
    real = plan(studio, seats, pays=1, margin=yes_margin(studio))
    if real is None:
        return None
    window(studio, event, real)
    return studio.case("leakage_bait", trap=True, check="bait", bait=dropped,
                       stakes=stakes_of(event))  # fmt: skip


def _future(studio: Studio, event: LiveEvent, index: int) -> list[Frame]:
    """Report a trade, an hour ahead of time, at a price at which the event would pay."""
    book = event.legs[index].book
    before = book.ms
    book.ms = before + HOUR_MS
    price = max(event.legs[index].spec.tick, book.best_ask * 8 // 10 // 10 * 10)
    fill = make_fill(False, price, 500 * 10**6, studio.rng)
    body = wire.last_trade_price(book, fill)
    book.ms = before
    told = body[:-1] + b',"filled":true,"fill_price":"0.01"}'
    return [Frame(studio.now + index * 1_000, "ws", told, event.conn)]


def _tempting(studio: Studio, event: LiveEvent) -> Frame:
    """List the event with a best ask, a last trade and a fill that are not the book's."""
    page = studio.listing(event)
    for market in markets_of(page):
        market.update(bestAsk=0.01, lastTradePrice=0.01, filled=True, futureFill=1)
    body = msgspec.json.encode({"events": [page]})
    req = f"/events/keyset?limit=100&id={event.spec.event_id}"
    return Frame(studio.now + MS // 2, "gamma", body, req=req)
