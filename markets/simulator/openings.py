"""How an event begins: its hidden probabilities and a full book for each of its markets."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator import latent
from markets.simulator.catalogue import MIX, Catalogue, EventSpec, Kind, MarketSpec
from markets.simulator.gamma import moment
from markets.simulator.ladder import Book
from markets.simulator.latent import Latent, split_one
from markets.simulator.quoting import opening_edits
from markets.simulator.state import LiveEvent, LiveMarket

MINUTES = (5, 5, 15)  # lengths of up/down rounds, by slot
QUIET_SHARE = 0.25  # of the exclusive events that have a leg nobody touches
SURE_SIZE = 500 * SIZE_ONE  # at a quiet leg's touch, so that it never limits a plant


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the listing that events of one kind fill one after the other.

    `weight` is its share of all activity, before scaling.
    """

    number: int
    kind: Kind
    weight: float


class Openings:
    """Opens events into slots."""

    def __init__(self, catalogue: Catalogue, rng: random.Random) -> None:
        self._catalogue = catalogue
        self._rng = rng

    def slots(self, count: int) -> list[Slot]:
        """Plan a listing of `count` events, some of every kind."""
        return [
            Slot(number, MIX[number % len(MIX)], math.exp(self._rng.gauss(0.0, 0.6)))
            for number in range(count)
        ]

    def first(self, slot: Slot, *, now: int, per_weight: float) -> LiveEvent:
        """Open the event that fills a slot when the world begins, with a past behind it."""
        spec = (
            self._round(slot, after=None, now=now)
            if slot.kind == "up_down"
            else self._catalogue.draw(slot.kind, now=moment(now))
        )
        return self._open(spec, now=now, tempo=slot.weight * per_weight, aged=True)

    def next(self, slot: Slot, *, old: LiveEvent, now: int) -> LiveEvent:
        """Open the successor of an event."""
        spec = (
            self._round(slot, after=old.spec.end_at, now=now)
            if slot.kind == "up_down"
            else self._catalogue.draw(slot.kind, now=moment(now))
        )
        return self._open(spec, now=now, tempo=old.tempo, aged=False)

    def _round(self, slot: Slot, *, after: datetime | None, now: int) -> EventSpec:
        order = slot.number // len(MIX) * MIX.count("up_down")
        coin = order + MIX[: slot.number % len(MIX)].count("up_down")
        minutes = MINUTES[coin % len(MINUTES)]
        opens = after or _floor(moment(now), minutes)
        return self._catalogue.up_down(coin, opens=opens, minutes=minutes)

    def _open(self, spec: EventSpec, *, now: int, tempo: float, aged: bool) -> LiveEvent:
        listed = [market for market in spec.markets if not (market.settled or market.placeholder)]
        chances = self._latent(spec, len(listed))
        quiet = self._quiet_leg(spec, chances.p) if aged else None
        if isinstance(chances, latent.Simplex) and quiet is not None:
            chances.fix(quiet)
        legs = [
            self._market(spec, market, now=now, aged=aged, quiet=at == quiet)
            for at, market in enumerate(listed)
        ]
        event = LiveEvent(spec, legs, chances, tempo=tempo)
        for at, leg in enumerate(legs):
            self._fill(event, at, leg)
        return event

    def _quiet_leg(self, spec: EventSpec, p: list[float]) -> int | None:
        if spec.kind != "neg_risk" or len(p) < 4 or self._rng.random() > QUIET_SHARE:
            return None
        able = [at for at, chance in enumerate(p) if 0.03 < chance < 0.6]
        return self._rng.choice(able) if able else None

    def _latent(self, spec: EventSpec, count: int) -> Latent:
        rng, tick = self._rng, spec.markets[0].tick
        floor = 1.5 * tick / PRICE_ONE
        if spec.neg_risk_id:
            floor = 0.2 if count == 3 else 0.015 if count <= 12 else 0.004
            return latent.Simplex(split_one(count, rng, floor=floor), floor=floor)
        if spec.kind == "date_ladder":
            return latent.ByDate(count, rng, floor=floor)
        if spec.kind == "threshold_ladder":
            return latent.Above(count, rng, floor=floor)
        if spec.starts_at:
            opens, closes = (int(at.timestamp()) * 10**9 for at in (spec.starts_at, spec.end_at))
            return latent.UpDown(opens=opens, closes=closes, floor=floor)
        spread = (0.12, 0.45) if count > 1 else (0.05, 0.95)
        return latent.Independent([rng.uniform(*spread) for _ in range(count)], floor=floor)

    def _market(
        self, spec: EventSpec, market: MarketSpec, *, now: int, aged: bool, quiet: bool
    ) -> LiveMarket:
        rng = self._rng
        age = rng.expovariate(1 / 400) + (7_200 if quiet else 0) if aged else 0.0
        book = Book(
            condition_id=market.condition_id, token_ids=market.token_ids, tick=market.tick,
            neg_risk=spec.neg_risk_id is not None, ms=now // 10**6 - int(age * 1_000),
        )  # fmt: skip
        return LiveMarket(
            market, book, loose=math.exp(rng.gauss(-0.5, 0.35)),
            median=math.exp(rng.uniform(math.log(15), math.log(150))),
            depth=rng.randrange(9, 19), pull=0.0 if quiet else rng.expovariate(1.0) + 0.1,
            quiet=quiet, volume=10 ** rng.uniform(3.5, 6.5) if aged else 0.0,
        )  # fmt: skip

    def _fill(self, event: LiveEvent, index: int, leg: LiveMarket) -> None:
        bid, ask = event.targets(index)
        leg.book.apply(opening_edits(leg, bid, ask, self._rng), ms=leg.book.ms)
        if leg.quiet:
            leg.book.apply([(True, bid, SURE_SIZE), (False, ask, SURE_SIZE)], ms=leg.book.ms)
        if leg.volume:
            leg.book.last_trade = leg.price_text(self._rng.choice((bid, ask)))


def _floor(at: datetime, minutes: int) -> datetime:
    return at.replace(second=0, microsecond=0) - timedelta(minutes=at.minute % minutes)
