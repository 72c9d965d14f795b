"""Planted arbitrages inside one event: what has to be found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator import topics
from markets.simulator.catalogue import Kind
from markets.simulator.exam.bargains import Offer, lowered, put_up, shares, take_back
from markets.simulator.exam.cases import Case, Stake
from markets.simulator.exam.studio import Seat, Studio
from markets.simulator.latent import split_one
from markets.simulator.state import LiveEvent
from markets.simulator.topics import Category

MIN_SHARES = 5 * SIZE_ONE
CAPITAL = 200  # USD: the seed's bound of one order


def exclusive(
    studio: Studio, count: int | None = None, *, kind: Kind = "neg_risk",
    category: Category | None = None, exponent: int = 1, settled: int = 0, placeholders: int = 0,
    floor: float | None = None, depth: int | None = None,
) -> LiveEvent:  # fmt: skip
    """Draw an event of which exactly one outcome comes true."""
    count = count or studio.rng.choice((3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 16, 22, 30))
    floor = floor or (0.12 if count == 3 else 0.5 / count**1.5 if count <= 12 else 0.006)
    chances = split_one(count, studio.rng, floor=floor)
    return studio.event(
        kind, chances, category=category, exponent=exponent, settled=settled,
        placeholders=placeholders, depth=depth,
    )  # fmt: skip


def stakes_of(
    event: LiveEvent, *, sides: Sequence[int] = (0, 1), legs: Sequence[int] = ()
) -> list[Stake]:
    """Give the two baskets of an event: YES needs that one comes true, NO that two do not."""
    legs = legs or range(len(event.legs))
    ids = tuple(event.legs[at].spec.market_id for at in legs)
    one = np.eye(len(ids), dtype=np.int8)
    none = np.vstack([one, np.zeros((1, len(ids)), dtype=np.int8)])
    event_id = event.spec.event_id
    both = {
        0: Stake("yes_basket", event_id, ids, (0,), one, ("dutch_book",)),
        1: Stake("no_basket", event_id, ids, (1,), none, ("dutch_book",)),
    }
    return [both[side] for side in sides]


def seats_of(event: LiveEvent, outcome: int) -> list[Seat]:
    """Give one outcome of every open market that trades."""
    return [Seat(event, at, outcome) for at, leg in enumerate(event.legs) if not leg.paused]


def plan(
    studio: Studio, seats: Sequence[Seat], *, pays: int, margin: float, low: float = 80,
    high: float = 300, fees: bool = True,
) -> list[Offer] | None:  # fmt: skip
    """Plan one level for each seat, none of them too small for the venue."""
    prices = lowered(studio, seats, pays=pays, margin=margin, fees=fees)
    if prices is None:
        return None
    low = max(low, 1.3 * PRICE_ONE / min(prices))
    return [
        Offer(seat, ((price, shares(studio, low, max(high, 3 * low))),))
        for seat, price in zip(seats, prices, strict=True)
    ]


def hold(studio: Studio, *events: LiveEvent, low: float = 1.4, high: float = 4.0) -> None:
    """Let seconds pass in which depth changes now and then, but no touch."""
    seconds, steps = studio.rng.uniform(low, high), studio.rng.randrange(2, 6)
    for _ in range(steps):
        studio.wait(1_000 * seconds / steps)
        studio.stir(*events, times=1, gap_ms=1)


def window(studio: Studio, event: LiveEvent, offers: Sequence[Offer], **bounds: float) -> None:
    """Put offers up, let them stand, take them back and let the event come to rest."""
    put_up(studio, offers, gap_ms=min(80, 500 / len(offers)))
    hold(studio, event, **bounds)
    take_back(studio, offers)
    studio.wait(1_300)


def begin(studio: Studio, event: LiveEvent, *, moves: int = 2) -> None:
    """List an event, show it and let it trade a little."""
    studio.open(event)
    studio.move(event, times=studio.rng.randrange(moves + 1))
    studio.stir(event, times=2, gap_ms=60)


def yes_margin(studio: Studio) -> float:
    """Draw what a set of YES earns."""
    return studio.rng.uniform(0.008, 0.03)


def no_margin(studio: Studio, count: int) -> float:
    """Draw what a set of NO earns: enough for the capital that it ties up."""
    return max(studio.rng.uniform(0.01, 0.03), 0.004 * (count - 1))


def yes_basket(studio: Studio) -> Case | None:
    """One YES of each below a dollar, after fees."""
    event = exclusive(studio, settled=studio.rng.choice((0, 0, 0, 1, 2)))
    return _planted(studio, event, "yes_basket", 0, yes_margin(studio))


def no_basket(studio: Studio) -> Case | None:
    """NO of each for less than all but one of them pay."""
    event = exclusive(studio, studio.rng.randrange(3, 13))
    return _planted(studio, event, "no_basket", 1, no_margin(studio, len(event.legs)))


def _planted(
    studio: Studio, event: LiveEvent, family: str, outcome: int, margin: float, *,
    low: float = 80, high: float = 300,
) -> Case | None:  # fmt: skip
    begin(studio, event)
    for _ in range(studio.rng.choice((1, 1, 1, 1, 2))):
        seats = seats_of(event, outcome)
        pays = len(seats) - 1 if outcome else 1
        offers = plan(studio, seats, pays=pays, margin=margin, low=low, high=high)
        if offers is None:
            return None
        window(studio, event, offers)
    return studio.case(family, stakes=stakes_of(event))


def fee_free(studio: Studio) -> Case | None:
    """A small edge that only pays because its category is free of fees."""
    event = exclusive(studio, category=topics.GEOPOLITICS)
    return _planted(studio, event, "fee_free", 0, studio.rng.uniform(0.004, 0.009), low=200,
                    high=500)  # fmt: skip


def squared_fee(studio: Studio) -> Case | None:
    """An edge that pays under the old fee curve and would not under today's."""
    event = exclusive(studio, studio.rng.randrange(3, 6), category=topics.CRYPTO, exponent=2)
    return _planted(studio, event, "legacy_exponent", 0, yes_margin(studio))


def unequal_depth(studio: Studio) -> Case | None:
    """A NO basket whose unlikely legs offer little: the rest pays on without them.

    Equal legs leave money behind here: they stop where the first one runs dry.
    """
    event = exclusive(studio, studio.rng.randrange(4, 11), floor=0.015)
    seats = seats_of(event, 1)
    begin(studio, event)
    margin = 0.03 + 0.01 * len(seats)
    prices = lowered(studio, seats, pays=len(seats) - 1, margin=margin)
    if prices is None:
        return None
    shallow = [PRICE_ONE - price < 0.6 * margin * PRICE_ONE for price in prices]
    if not 0 < sum(shallow) < len(seats) - 1:
        return None
    offers = [
        Offer(seat, ((price, shares(studio, *((15, 60) if few else (150, 700)))),))
        for seat, price, few in zip(seats, prices, shallow, strict=True)
    ]
    window(studio, event, offers)
    return studio.case("unequal_depth", stakes=stakes_of(event))


def thin_top_deep(studio: Studio) -> Case | None:
    """A best level of a few shares with real size one tick behind: both pay."""
    event = exclusive(studio, studio.rng.randrange(3, 9), depth=5)
    begin(studio, event)
    seats = seats_of(event, 0)
    ticks = sum(seat.market.spec.tick for seat in seats) / PRICE_ONE
    prices = lowered(studio, seats, pays=1, margin=1.2 * ticks + studio.rng.uniform(0.01, 0.02))
    if prices is None:
        return None
    low = max(80, 1.3 * PRICE_ONE / min(prices))
    offers = [
        Offer(seat, (
            (price, shares(studio, 1, 4)),
            (price + seat.market.spec.tick, shares(studio, low, 4 * low)),
        ))
        for seat, price in zip(seats, prices, strict=True)
    ]  # fmt: skip
    window(studio, event, offers)
    return studio.case("thin_top_deep", stakes=stakes_of(event))


def least_size(studio: Studio) -> Case | None:
    """Orders of exactly the least that the venue takes: 5 shares, or 1 USD."""
    event = exclusive(studio, studio.rng.choice((3, 4)), floor=0.21)
    begin(studio, event, moves=0)
    seats = seats_of(event, 0)
    prices = lowered(studio, seats, pays=1, margin=0.115)
    if prices is None:
        return None
    least = max(MIN_SHARES, *(least_shares(price) for price in prices))
    offers = [Offer(seat, ((price, least),)) for seat, price in zip(seats, prices, strict=True)]
    window(studio, event, offers)
    return studio.case("least_size", stakes=stakes_of(event))


def least_shares(price: int) -> int:
    """Return the least whole lots worth one dollar at a price."""
    lots = -(-(PRICE_ONE * SIZE_ONE) // (price * 10_000))
    return lots * 10_000


def augmented_no(studio: Studio) -> Case | None:
    """Outcomes may be added, so YES proves nothing; NO of those listed still pays."""
    event = exclusive(studio, studio.rng.randrange(4, 9), kind="augmented", placeholders=3)
    case = _planted(studio, event, "augmented_no", 1, no_margin(studio, len(event.legs)))
    return case and studio.case("augmented_no", stakes=stakes_of(event, sides=(1,)))


def paused_leg_no(studio: Studio) -> Case | None:
    """One market takes no orders; NO of the others still pays."""
    event = exclusive(studio, studio.rng.randrange(4, 9))
    paused = studio.rng.randrange(len(event.legs))
    event.legs[paused].paused = True
    begin(studio, event, moves=0)
    seats = seats_of(event, 1)
    offers = plan(studio, seats, pays=len(seats) - 1, margin=no_margin(studio, len(seats)))
    if offers is None:
        return None
    window(studio, event, offers)
    others = [at for at in range(len(event.legs)) if at != paused]
    return studio.case("paused_leg_no", stakes=stakes_of(event, sides=(1,), legs=others))


def bounded_no(studio: Studio) -> Case | None:
    """A NO basket that needs more money than the rule may spend: which legs matters."""
    event = exclusive(studio, studio.rng.randrange(4, 9))
    begin(studio, event)
    seats = seats_of(event, 1)
    margin = studio.rng.uniform(0.03, 0.06) + 0.008 * len(seats)
    prices = lowered(studio, seats, pays=len(seats) - 1, margin=margin)
    if prices is None:
        return None
    offers = [
        Offer(seat, ((price, shares(studio, size, 2 * size)),))
        for seat, price in zip(seats, prices, strict=True)
        for size in [60 * math.exp(studio.rng.uniform(0, 2))]
    ]
    window(studio, event, offers)
    return studio.case("bankroll_limited", stakes=stakes_of(event), trap=True,
                       check="over_capital", capital=CAPITAL)  # fmt: skip


def bounded_yes(studio: Studio) -> Case | None:
    """A YES basket cut where the rule's money ends."""
    event = exclusive(studio, studio.rng.randrange(3, 9))
    case = _planted(studio, event, "bounded_yes", 0, yes_margin(studio), low=250, high=900)
    return case and studio.case("bounded_yes", stakes=stakes_of(event), capital=CAPITAL)


def many_snapshots(studio: Studio) -> Case | None:
    """One basket that stands while its books are shown over and over: one signal."""
    event = exclusive(studio, studio.rng.randrange(3, 7))
    begin(studio, event)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=yes_margin(studio))
    if offers is None:
        return None
    put_up(studio, offers)
    for _ in range(studio.rng.randrange(15, 40)):
        studio.send(studio.rewrite(event, studio.rng.randrange(len(event.legs)), []))
        studio.wait(20, 250)
    take_back(studio, offers)
    studio.wait(1_300)
    return studio.case("many_snapshots", stakes=stakes_of(event), trap=True, check="one_signal")
