"""What is put there on purpose: real arbitrages, and decoys that only look like one.

A plant draws the other side of each leg back and posts one level inside the spread, leg by leg.
What lies behind stays as it was, so the plant's own sizes are all there is to take.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator.flow import Flow
from markets.simulator.ladder import Edit
from markets.simulator.quoting import CENT, clear_beyond, draw_size, make_fill, post, trade
from markets.simulator.stage import MS, SECOND, Stage
from markets.simulator.state import LiveEvent
from markets.simulator.truth import USD, no_gain, yes_cost

BATCH_MAX = 6  # more cancellations than this come as a trade through the book instead


@dataclass(frozen=True, slots=True)
class Insert:
    """One level inside the spread of one leg."""

    index: int
    is_bid: bool
    price: int
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A plant to be carried out; `gap` and `hold` in ns."""

    family: str
    kind: str
    inserts: tuple[Insert, ...]
    gap: int
    hold: int
    logged: bool = False  # no honest sum shows it, so it is logged by its own times


def lower_asks(
    event: LiveEvent, enough: Callable[[list[int]], bool], legs: Sequence[int]
) -> list[int] | None:
    """Find asks, lowered tick by tick where they are dearest, that are `enough`; else None."""
    asks = [leg.book.best_ask for leg in event.legs]
    marks = [max(ask, 1) for ask in asks]
    while not enough(asks):
        able = [at for at in legs if asks[at] > 2 * event.legs[at].spec.tick]
        if not able:
            return None
        dearest = max(able, key=lambda at: asks[at] / marks[at])
        asks[dearest] -= event.legs[dearest].spec.tick
    return asks


def raise_bids(event: LiveEvent, enough: Callable[[list[int]], bool]) -> list[int] | None:
    """Find bids, raised tick by tick where they are farthest from certainty, that are `enough`."""
    bids = [leg.book.best_bid for leg in event.legs]
    marks = [PRICE_ONE - bid for bid in bids]
    while not enough(bids):
        able = [at for at, leg in enumerate(event.legs) if bids[at] < PRICE_ONE - 3 * leg.spec.tick]
        if not able:
            return None
        cheapest = max(able, key=lambda at: (PRICE_ONE - bids[at]) / marks[at])
        bids[cheapest] += event.legs[cheapest].spec.tick
    return bids


def free_legs(event: LiveEvent) -> list[int]:
    """The legs that can be quoted: not paused, and not one that nobody touches."""
    return [at for at, leg in enumerate(event.legs) if not (leg.quiet or leg.paused)]


def plan_yes(
    event: LiveEvent, rng: random.Random, *, margin: float, low: float, high: float
) -> tuple[Insert, ...] | None:
    """Plan asks that make one of each YES cost `margin` USD less than it pays, fees included.

    Sizes are drawn between `low` and `high` shares. None: the books leave no room for it.
    """
    goal, legs = USD - int(margin * USD), free_legs(event)
    asks = lower_asks(event, lambda asks: yes_cost(asks, event.rate) <= goal, legs)
    if asks is None:
        return None
    return _inserts(event, {at: asks[at] for at in legs}, rng, low, high)


def plan_no(
    event: LiveEvent, rng: random.Random, *, margin: float, low: float, high: float
) -> tuple[Insert, ...] | None:
    """Plan bids that make one of each NO cost `margin` USD less than it pays, fees included."""
    goal = USD + int(margin * USD)
    bids = raise_bids(event, lambda bids: no_gain(bids, event.rate) >= goal)
    if bids is None:
        return None
    return _inserts(event, dict(enumerate(bids)), rng, low, high, is_bid=True)


def plan_gross(event: LiveEvent, rng: random.Random) -> tuple[Insert, ...] | None:
    """Plan asks that add up to less than one, but to more once the fees are on top."""
    asks_now = [leg.book.best_ask for leg in event.legs]
    fees = yes_cost(asks_now, event.rate) / USD - sum(asks_now) / PRICE_ONE
    goal, legs = PRICE_ONE * (1.0 - 0.4 * fees), free_legs(event)
    asks = lower_asks(event, lambda asks: sum(asks) < goal, legs)
    if asks is None or yes_cost(asks, event.rate) < USD * 1.002:
        return None
    return _inserts(event, {at: asks[at] for at in legs}, rng, 80, 300)


def _inserts(
    event: LiveEvent, prices: dict[int, int], rng: random.Random, low: float, high: float,
    *, is_bid: bool = False,
) -> tuple[Insert, ...]:  # fmt: skip
    """Draw sizes; the leg that moves most comes last, so that it completes the plant."""

    def moves(at: int) -> int:
        book = event.legs[at].book
        return abs(prices[at] - (book.best_bid if is_bid else book.best_ask))

    return tuple(
        Insert(at, is_bid, prices[at], _shares(rng, low, high)) for at in sorted(prices, key=moves)
    )


def _shares(rng: random.Random, low: float, high: float) -> int:
    return int(rng.uniform(low, high) * 100) * CENT


class Planting:
    """Carries plans out and takes them back."""

    def __init__(self, stage: Stage, flow: Flow, rng: random.Random) -> None:
        self._stage = stage
        self._flow = flow
        self._rng = rng
        self._logged: dict[str, int] = {}  # event id: place in the truth log

    def carry_out(self, event: LiveEvent, plan: Plan) -> None:
        """Put every level of a plan in place, hold, and take them back, the last one first."""
        event.cause = plan.family
        delay = 0
        for insert in plan.inserts:
            delay += int(self._rng.uniform(0.2, 1.0) * plan.gap)
            self._stage.after(delay, partial(self._press, event, insert))
        event.ends = self._stage.now + delay + plan.hold + SECOND
        if plan.logged:
            self._stage.after(delay, partial(self._log, event, plan))
        self._stage.after(delay + plan.hold, partial(self._take_back, event, plan))

    def _press(self, event: LiveEvent, insert: Insert) -> None:
        leg = event.legs[insert.index]
        side = leg.book.side(not insert.is_bid)
        gone = clear_beyond(side, insert.price)
        edits = list(gone)
        if len(gone) == len(side):
            edits.append(self._last_resort(event, insert))
        edits.append((insert.is_bid, insert.price, insert.size))
        if len(gone) <= BATCH_MAX:
            bodies = post(leg, edits, ms=self._stage.ms, rng=self._rng)
        else:
            fill = make_fill(not insert.is_bid, gone[-1][1], SIZE_ONE * 40, self._rng)
            bodies = trade(leg, edits, fill, ms=self._stage.ms, rng=self._rng)
        self._stage.send(event, leg, bodies)

    def _last_resort(self, event: LiveEvent, insert: Insert) -> Edit:
        """Keep a side from running empty by an order at the end of the scale."""
        tick = event.legs[insert.index].spec.tick
        price = PRICE_ONE - tick if insert.is_bid else tick
        return not insert.is_bid, price, draw_size(event.legs[insert.index], self._rng)

    def _log(self, event: LiveEvent, plan: Plan) -> None:
        tokens = event.tokens(1 if plan.kind == "no_basket" else 0)
        self._logged[event.spec.event_id] = self._stage.open_window(
            event, plan.family, plan.kind, tokens
        )

    def _take_back(self, event: LiveEvent, plan: Plan) -> None:
        if plan.logged:
            self._stage.close_window(self._logged.pop(event.spec.event_id))
        delay = 0
        for insert in reversed(plan.inserts):
            self._stage.after(delay, partial(self._lift, event, insert))
            delay += int(self._rng.uniform(0.0, 0.5) * min(plan.gap, 60 * MS))
        self._stage.after(delay, partial(self._finish, event))

    def _lift(self, event: LiveEvent, insert: Insert) -> None:
        leg = event.legs[insert.index]
        edits: list[Edit] = [(insert.is_bid, insert.price, 0)]
        self._stage.send(event, leg, post(leg, edits, ms=self._stage.ms, rng=self._rng))

    def _finish(self, event: LiveEvent) -> None:
        """Leave it to ordinary business to restore the spreads."""
        self._stage.release(event)
        for index, leg in enumerate(event.legs):
            if not (leg.quiet or leg.paused):
                wait = self._rng.uniform(0.05, 1.0) * SECOND
                self._stage.after(wait, partial(self._restore, event, index))

    def _restore(self, event: LiveEvent, index: int) -> None:
        if event.idle:
            self._flow.settle(event, index)
