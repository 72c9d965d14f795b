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
from markets.simulator.latent import Common, Latent, split_one
from markets.simulator.quoting import opening_edits
from markets.simulator.state import LiveEvent, LiveMarket, TieKind, tie
from markets.simulator.topics import COINS

MINUTES = (5, 5, 15)  # lengths of up/down rounds, by slot
LONGER = (10, 15, 30, 60)  # of those on coins that have a round already; then whole hours
COMPANION = 13  # of each MIX of slots, the one whose event is tied to an earlier one
COMPANION_RUNGS = 2  # dates that such an event adds to a ladder
DAY = timedelta(days=1)
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
        self._origins: list[LiveEvent] = []  # events that another one may be tied to

    def slots(self, count: int) -> list[Slot]:
        """Plan a listing of `count` events, some of every kind."""
        return [
            Slot(number, MIX[number % len(MIX)], math.exp(self._rng.gauss(0.0, 0.6)))
            for number in range(count)
        ]

    def first(self, slot: Slot, *, now: int, per_weight: float) -> LiveEvent:
        """Open the event that fills a slot when the world begins, with a past behind it."""
        return self._fill_slot(slot, now=now, tempo=slot.weight * per_weight, old=None)

    def next(self, slot: Slot, *, old: LiveEvent, now: int) -> LiveEvent:
        """Open the successor of an event."""
        return self._fill_slot(slot, now=now, tempo=old.tempo, old=old)

    def _fill_slot(self, slot: Slot, *, now: int, tempo: float, old: LiveEvent | None) -> LiveEvent:
        if slot.kind == "up_down":
            spec = self._round(slot, after=old.spec.end_at if old else None, now=now)
            return self._open(spec, now=now, tempo=tempo, aged=old is None)
        kind: TieKind = "ladder" if slot.number // len(MIX) % 2 else "equivalent"
        if slot.number % len(MIX) == COMPANION and (origin := self._origin(kind, now)):
            return self._companion(kind, origin, now=now, tempo=tempo, aged=old is None)
        spec = self._catalogue.draw(slot.kind, now=moment(now))
        event = self._open(spec, now=now, tempo=tempo, aged=old is None)
        if spec.kind in ("binary", "date_ladder"):
            self._origins.append(event)
        return event

    def _origin(self, kind: TieKind, now: int) -> LiveEvent | None:
        """Choose an event that goes on for some time and that nothing else is tied to."""
        self._origins = [event for event in self._origins if not (event.halted or event.ties)]
        wanted = "binary" if kind == "equivalent" else "date_ladder"
        able = [
            event
            for event in self._origins
            if event.spec.kind == wanted
            and not isinstance(event.latent, latent.Part)
            and event.spec.end_at > moment(now) + DAY
        ]
        return self._rng.choice(able) if able else None

    def _companion(
        self, kind: TieKind, origin: LiveEvent, *, now: int, tempo: float, aged: bool
    ) -> LiveEvent:
        """Open an event that asks the same as another one, or of later dates."""
        whole, count = origin.latent, len(origin.legs)
        common, first = Common(whole), 0
        if isinstance(whole, latent.ByDate):
            spec, first = self._catalogue.later(origin.spec, COMPANION_RUNGS), count
            whole.extend(COMPANION_RUNGS)
        else:
            spec = self._catalogue.again(origin.spec)
        origin.latent = common.part(slice(count))
        legs = [
            self._market(spec, market, now=now, aged=aged, quiet=False) for market in spec.markets
        ]
        part = common.part(slice(first, first + len(legs)))
        event = LiveEvent(spec, legs, part, tempo=tempo)
        tie(kind, origin, event)
        for at, leg in enumerate(legs):
            self._fill(event, at, leg)
        return event

    def _round(self, slot: Slot, *, after: datetime | None, now: int) -> EventSpec:
        order = slot.number // len(MIX) * MIX.count("up_down")
        coin = order + MIX[: slot.number % len(MIX)].count("up_down")
        minutes = _minutes(coin)
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
        tick = leg.spec.tick
        while not event.may_bid(index, bid):  # a tied market may be behind its time
            bid -= tick
        while not event.may_ask(index, ask):
            ask += tick
        leg.book.apply(opening_edits(leg, bid, ask, self._rng), ms=leg.book.ms)
        if leg.quiet:
            leg.book.apply([(True, bid, SURE_SIZE), (False, ask, SURE_SIZE)], ms=leg.book.ms)
        if leg.volume:
            leg.book.last_trade = leg.price_text(self._rng.choice((bid, ask)))


def _minutes(coin: int) -> int:
    """Give a length that no other round on the same coin has."""
    again = coin // len(COINS)
    if not again:
        return MINUTES[coin % len(MINUTES)]
    longer = [each for each in LONGER if each != _minutes(coin % len(COINS))]
    return longer[again - 1] if again <= len(longer) else 60 * (again - len(longer) + 1)


def _floor(at: datetime, minutes: int) -> datetime:
    return at.replace(second=0, microsecond=0) - timedelta(minutes=at.minute % minutes)
