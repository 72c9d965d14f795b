"""What only looks like an arbitrage, by its prices, its terms or its logic."""

from __future__ import annotations

from collections.abc import Sequence

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator import topics
from markets.simulator.exam.bargains import Offer, lowered, put_up, shares, take_back, total
from markets.simulator.exam.bracket import draw as draw_bracket
from markets.simulator.exam.cases import Case, Stake
from markets.simulator.exam.related import (
    Bundle,
    Related,
    buckets,
    build,
    date_ladder,
    equivalence,
    implication,
    party,
)
from markets.simulator.exam.single import (
    begin,
    exclusive,
    hold,
    least_shares,
    plan,
    seats_of,
    stakes_of,
    window,
)
from markets.simulator.exam.studio import CHARGED, Seat, Studio
from markets.simulator.latent import split_one
from markets.simulator.state import LiveEvent
from markets.simulator.truth import USD

SHORT = 1.0015  # of what a bundle pays: so much at least it costs where it must not pay


def gross(studio: Studio, seats: Sequence[Seat], *, pays: int) -> list[int] | None:
    """Find prices that add up to less than a bundle pays, but to more with the fees on top."""
    prices = lowered(studio, seats, pays=pays, margin=0.004, fees=False)
    if prices is None or total(seats, prices, studio.charges) < SHORT * pays * USD:
        return None
    return prices


def _levels(
    studio: Studio, seats: Sequence[Seat], prices: Sequence[int], low: float, high: float
) -> list[Offer]:
    low = max(low, 1.3 * PRICE_ONE / min(prices))
    return [
        Offer(seat, ((price, shares(studio, low, max(high, 2 * low))),))
        for seat, price in zip(seats, prices, strict=True)
    ]


def _trap(
    studio: Studio, family: str, event: LiveEvent, offers: Sequence[Offer] | None,
    stakes: Sequence[Stake] = (),
) -> Case | None:  # fmt: skip
    if offers is None:
        return None
    window(studio, event, offers)
    return studio.case(family, stakes=stakes, trap=True)


def gross_not_net(studio: Studio) -> Case | None:
    """Asks below a dollar, above it with fees."""
    event = exclusive(studio, category=studio.rng.choice(CHARGED))
    begin(studio, event)
    seats = seats_of(event, 0)
    prices = gross(studio, seats, pays=1)
    offers = prices and _levels(studio, seats, prices, 80, 300)
    return _trap(studio, "gross_not_net", event, offers or None, stakes_of(event))


def free_but_short(studio: Studio) -> Case | None:
    """Free of fees, and still a hair above a dollar."""
    event = exclusive(studio, category=topics.GEOPOLITICS)
    begin(studio, event)
    ticks = max(leg.spec.tick for leg in event.legs) / PRICE_ONE
    offers = plan(studio, seats_of(event, 0), pays=1, margin=-1.2 * ticks, low=300, high=900)
    return _trap(studio, "fee_free", event, offers, stakes_of(event))


def odd_fee(studio: Studio) -> Case | None:
    """Fees on a curve of their own that eat the gap, or fees that nobody states."""
    if studio.rng.random() < 0.5:
        event = exclusive(studio, studio.rng.randrange(3, 6), category=topics.CRYPTO, exponent=2)
        begin(studio, event)
        seats = seats_of(event, 0)
        prices = gross(studio, seats, pays=1)
        offers = prices and _levels(studio, seats, prices, 80, 300)
        return _trap(studio, "legacy_fee", event, offers or None, stakes_of(event))
    event = exclusive(studio, studio.rng.randrange(3, 9), category=studio.rng.choice(CHARGED))
    for leg in event.legs:
        studio.listed[leg.spec.market_id] = {"feeSchedule": None, "feesEnabled": True}
    begin(studio, event)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=0.03)
    return _trap(studio, "legacy_fee", event, offers)


def thin_top(studio: Studio) -> Case | None:
    """Big enough for every minimum, and worth a few cents: under half a dollar."""
    event = exclusive(studio, studio.rng.choice((3, 4)), floor=0.21)
    begin(studio, event)
    seats = seats_of(event, 0)
    prices = lowered(studio, seats, pays=1, margin=0.012)
    offers = prices and _levels(studio, seats, prices, 6.5, 12)
    return _trap(studio, "thin_top", event, offers or None, stakes_of(event))


def unequal_but_short(studio: Studio) -> Case | None:
    """NO of very different depth whose bids add up to more than a dollar, but not after fees."""
    event = exclusive(studio, studio.rng.randrange(3, 8), category=studio.rng.choice(CHARGED))
    begin(studio, event)
    seats = seats_of(event, 1)
    prices = gross(studio, seats, pays=len(seats) - 1)
    if prices is None:
        return None
    sizes = [shares(studio, 30, 1_500) for _ in seats]
    offers = [
        Offer(seat, ((price, size),))
        for seat, price, size in zip(seats, prices, sizes, strict=True)
    ]
    return _trap(studio, "unequal_depth", event, offers, stakes_of(event))


def below_min_size(studio: Studio) -> Case | None:
    """One leg offers a lot less than the venue's least: 4.99 shares, or 0.99 USD."""
    event = exclusive(studio, studio.rng.choice((3, 4, 5)), floor=0.12)
    begin(studio, event, moves=0)
    seats = seats_of(event, 0)
    prices = lowered(studio, seats, pays=1, margin=0.12)
    if prices is None:
        return None
    offers = _levels(studio, seats, prices, 20, 200)
    short = studio.rng.randrange(len(offers))
    price = prices[short]
    size = max(5 * SIZE_ONE, least_shares(price)) - 10_000
    offers[short] = Offer(seats[short], ((price, size),))
    behind = [
        (False, ask, 0) for ask, _ in seats[short].market.book.asks.levels() if ask < price + 1_600
    ]
    studio.change(event, short, behind)
    return _trap(studio, "below_min_size", event, offers, stakes_of(event))


def empty_leg(studio: Studio) -> Case | None:
    """Nobody sells one of the outcomes."""
    event = exclusive(studio, studio.rng.randrange(3, 13))
    begin(studio, event)
    index = studio.rng.randrange(len(event.legs))
    asks = event.legs[index].book.asks.levels()
    studio.change(event, index, [(False, price, 0) for price, _ in asks])
    others = [seat for seat in seats_of(event, 0) if seat.index != index]
    offers = plan(studio, others, pays=1, margin=0.04 + event.legs[index].book.best_bid / PRICE_ONE)
    if offers is None:
        return None
    window(studio, event, offers)
    studio.change(event, index, [(False, price, size) for price, size in asks])
    studio.wait(300)
    return studio.case("empty_leg", trap=True)


def not_exhaustive(studio: Studio) -> Case | None:
    """The listed outcomes are not all there are: more may come, or one is not shown."""
    count = studio.rng.randrange(4, 11)
    if studio.rng.random() < 0.5:
        event = exclusive(studio, count, kind="augmented", placeholders=2)
    else:
        event = exclusive(studio, count, floor=0.05)
        studio.hidden.add(event.legs[studio.rng.randrange(count - 1)].spec.market_id)
    begin(studio, event)
    shown = [s for s in seats_of(event, 0) if s.market.spec.market_id not in studio.hidden]
    offers = plan(studio, shown, pays=1, margin=0.03)
    return _trap(studio, "not_exhaustive", event, offers)


def outcome_added(studio: Studio) -> Case | None:
    """An outcome joins while the event trades, and the others give way to it.

    Its book comes late or never; without it the rest would pay.
    """
    event = exclusive(studio, studio.rng.randrange(3, 9))
    begin(studio, event)
    fresh = studio.rng.uniform(0.1, 0.25)
    grown = studio.add_market(event, fresh)
    studio.publish(grown)
    studio.wait(20, 400)
    event.latent.p = [chance * (1 - fresh) for chance in event.latent.p]
    for index in range(len(event.legs)):
        studio.send(studio.rewrite(event, index, studio.anew(event, index)))
    studio.wait(20, 400)
    if studio.rng.random() < 0.7:
        studio.show(grown)
    studio.wait(800)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=0.03)
    return _trap(studio, "outcome_added", event, offers)


def plain_group(studio: Studio) -> Case | None:
    """Markets in one event that do not exclude each other, and cost less than a dollar."""
    count = studio.rng.randrange(3, 9)
    event = studio.event("plain", split_one(count, studio.rng, floor=0.03))
    begin(studio, event)
    offers = plan(studio, seats_of(event, 0), pays=1, margin=0.05)
    return _trap(studio, "plain_group", event, offers)


def frozen_after_end(studio: Studio) -> Case | None:
    """The event is over, and its books still show a basket."""
    event = exclusive(studio, studio.rng.randrange(3, 9))
    begin(studio, event)
    winner = studio.rng.randrange(len(event.legs))
    for index, leg in enumerate(event.legs):
        leg.winner = 0 if index == winner else 1
    event.halted, event.resolved_at = True, studio.now
    studio.publish(event)
    studio.wait(50, 800)
    return _trap(studio, "post_event", event, plan(studio, seats_of(event, 0), pays=1, margin=0.04))


def not_accepting(studio: Studio) -> Case | None:
    """One market, or all of them, take no orders."""
    event = exclusive(studio, studio.rng.randrange(3, 10))
    begin(studio, event)
    seats = seats_of(event, 0)
    if studio.rng.random() < 0.3:
        event.halted = True
    else:
        studio.rng.choice(event.legs).paused = True
    studio.publish(event)
    studio.wait(20, 400)
    return _trap(studio, "not_accepting", event, plan(studio, seats, pays=1, margin=0.03))


# --- across markets ------------------------------------------------------------------


def _related_trap(
    studio: Studio, family: str, related: Related, offers: Sequence[Offer] | None, *,
    approved: bool = True, blocked_by: Sequence[str] = (), stakes: Sequence[Stake] = (),
) -> Case | None:  # fmt: skip
    if offers is None:
        return None
    put_up(studio, offers)
    hold(studio, *related.events)
    take_back(studio, offers)
    studio.wait(1_300)
    rows = related.rows(approved=approved, blocked_by=blocked_by)
    return studio.case(family, trap=True, relations=rows, stakes=stakes)


def swapped(studio: Studio) -> Case | None:
    """An implication whose reverse would pay: the wider claim is dearer, as it should be."""
    related = build(studio, implication())
    studio.open(*related.events)
    seats = [Seat(*related.places[0], 0), Seat(*related.places[1], 1)]
    offers = plan(studio, seats, pays=1, margin=0.03)
    return _related_trap(studio, "swapped_implication", related, offers, stakes=[related.stake()])


def other_cut_off(studio: Studio) -> Case | None:
    """A date ladder whose cut-offs or time zones do not fit: its relation is blocked."""
    return _blocked(studio, "cut_off_conflict", build(studio, date_ladder(3), together=True))


def other_source(studio: Studio) -> Case | None:
    """Two questions that sound alike and settle by different sources, or wait for approval."""
    return _blocked(studio, "paraphrase", build(studio, equivalence()))


def _blocked(studio: Studio, family: str, related: Related) -> Case | None:
    studio.open(*related.events)
    bundle = studio.rng.choice(related.logic.bundles)
    offers = plan(studio, related.seats(bundle), pays=bundle.pays, margin=0.03)
    approved = studio.rng.random() < 0.6
    blocked_by = ("metadata_conflict",) if approved or studio.rng.random() < 0.5 else ()
    return _related_trap(studio, family, related, offers, approved=approved, blocked_by=blocked_by)


def short_buckets(studio: Studio) -> Case | None:
    """Thresholds and ranges that pay before fees only."""
    related = build(studio, buckets(studio.rng.randrange(2, 4)))
    return _short(studio, "short_buckets", related)


def bracket_in_order(studio: Studio) -> Case | None:
    """A bracket of 64 markets that pays before fees only."""
    return _short(studio, "bracket_in_order", draw_bracket(studio))


def _short(studio: Studio, family: str, related: Related) -> Case | None:
    studio.open(*related.events)
    bundle = studio.rng.choice(related.logic.bundles)
    seats = related.seats(bundle)
    prices = gross(studio, seats, pays=bundle.pays)
    offers = prices and _levels(studio, seats, prices, 80, 300)
    return _related_trap(studio, family, related, offers or None, stakes=[related.stake()])


def unlisted_candidate(studio: Studio) -> Case | None:
    """All listed candidates against their party: somebody else may win for it."""
    count = studio.rng.randrange(2, 5)
    related = build(studio, party(count))
    studio.open(*related.events)
    bundle = Bundle(((0, 1), *((at, 0) for at in range(1, count + 1))), 1)
    offers = plan(studio, related.seats(bundle), pays=1, margin=0.03)
    return _related_trap(studio, "unlisted_candidate", related, offers, stakes=[related.stake()])
