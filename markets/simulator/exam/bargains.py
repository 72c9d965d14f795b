"""How an arbitrage is put on: offers lowered, a tick at a time, until a bundle pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markets.simulator.exam.cases import Charge
from markets.simulator.exam.studio import Seat, Studio
from markets.simulator.quoting import CENT, clear_beyond
from markets.simulator.truth import USD

Level = tuple[int, int]  # price in 1e-4 USD, size in 1e-6 shares


@dataclass(frozen=True, slots=True)
class Offer:
    """Levels that are put up for one outcome, the best first."""

    seat: Seat
    levels: tuple[Level, ...]


def total(seats: Sequence[Seat], prices: Sequence[int], charges: Mapping[str, Charge]) -> int:
    """Return what one share of each costs with its fee, in 1e-12 USD."""
    return sum(
        charges[seat.market.spec.market_id].cost(price)
        for seat, price in zip(seats, prices, strict=True)
    )


def lowered(
    studio: Studio, seats: Sequence[Seat], *, pays: int, margin: float, fees: bool = True
) -> list[int] | None:
    """Find prices at which one of each costs `margin` USD less than the bundle `pays`.

    The dearest against where it was gives way first. None: there is no room.
    """
    goal = pays * USD - int(margin * USD)
    prices = [seat.ask for seat in seats]
    marks = [max(price, 1) for price in prices]

    def cost() -> int:
        if not fees:
            return sum(prices) * 10**8
        return total(seats, prices, studio.charges)

    while cost() > goal:
        able = [at for at, seat in enumerate(seats) if prices[at] > 3 * seat.market.spec.tick]
        if not able:
            return None
        dearest = max(able, key=lambda at: prices[at] / marks[at])
        prices[dearest] -= seats[dearest].market.spec.tick
    return prices


def shares(studio: Studio, low: float, high: float) -> int:
    """Draw a size between two numbers of shares, in 1e-6 shares."""
    return int(studio.rng.uniform(low, high) * 100) * CENT


def put_up(studio: Studio, offers: Sequence[Offer], *, gap_ms: float = 80) -> None:
    """Put every offer in place, leg by leg; the one that moves most completes it."""
    for offer in sorted(offers, key=lambda each: each.seat.ask - each.levels[0][0]):
        _put(studio, offer)
        studio.wait(0.2 * gap_ms, gap_ms)


def take_back(studio: Studio, offers: Sequence[Offer], *, gap_ms: float = 30) -> None:
    """Withdraw all offers, leg by leg."""
    for offer in reversed(offers):
        edits = [offer.seat.edit(price, 0) for price, _ in offer.levels]
        studio.change(offer.seat.event, offer.seat.index, edits)
        studio.wait(0.2 * gap_ms, gap_ms)


def _put(studio: Studio, offer: Offer) -> None:
    seat, book = offer.seat, offer.seat.market.book
    orders = [seat.edit(price, size) for price, size in offer.levels]
    is_bid, best, _ = orders[0]
    against = book.side(not is_bid)
    gone = clear_beyond(against, best)
    if len(gone) == len(against):  # nobody would be left on the other side
        tick = seat.market.spec.tick
        gone.append((not is_bid, 10_000 - tick if is_bid else tick, 50 * 10**6))
    studio.change(seat.event, seat.index, gone + orders)
