"""When things are put on: which plant or decoy, in which event, how often and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator.flow import Flow
from markets.simulator.ladder import Edit
from markets.simulator.pairs import Pairs
from markets.simulator.plants import (
    Insert,
    Plan,
    Planting,
    free_legs,
    plan_gross,
    plan_no,
    plan_yes,
)
from markets.simulator.quoting import draw_size, make_fill, post, trade
from markets.simulator.stage import MS, SECOND, Stage
from markets.simulator.state import LiveEvent

LIVES = ((1, 5, 0.55), (6, 20, 0.2), (30, 120, 0.25))  # seconds from, to, share of plants
LOWEST_LEG = 150  # 1e-4 USD: below, a leg's minimum of one dollar would need a large size
NO_LEGS_MAX = 8  # beyond, a NO basket ties up more than its edge is worth


class Scenes:
    """Puts on plants and decoys on two clocks of their own (mean seconds between starts)."""

    def __init__(
        self, stage: Stage, flow: Flow, rng: random.Random, *, plant_every: float,
        decoy_every: float,
    ) -> None:  # fmt: skip
        self._stage = stage
        self._rng = rng
        self._flow = flow
        self._planting = Planting(stage, flow, rng)
        self._plant_every = plant_every
        self._decoy_every = decoy_every
        self._pairs = Pairs(stage, self._planting, rng)
        self._planted = 0
        self._decoys: tuple[Callable[[], bool], ...] = (
            self._gross_not_net, self._crossed, self._thin_top, self._augmented,
            self._below_min_size, self._empty_leg, self._plain_group, self._paused_leg,
            self._flicker,
        )  # fmt: skip
        self._turn = 0

    def start(self) -> None:
        """Set both clocks going; the first plant comes within seconds."""
        if self._plant_every:
            self._stage.after(self._rng.uniform(2, 7) * SECOND, self._plant)
            self._pairs.start()
        if self._decoy_every:
            self._stage.after(self._rng.uniform(3, 8) * SECOND, self._decoy)

    def _plant(self) -> None:
        done = (self._planted % 3 == 2 and self._plant_no()) or self._plant_yes()
        self._planted += done
        wait = self._rng.uniform(0.67, 1.33) * self._plant_every if done else 1.0
        self._stage.after(wait * SECOND, self._plant)

    def burst(self, plants: int) -> int:
        """Plant so many at once, long enough for a person; return for how many there was room."""
        return sum(
            self._plant_yes(self._long()) or self._plant_no(self._long()) for _ in range(plants)
        )

    def _plant_yes(self, hold: int | None = None) -> bool:
        event = self._choose(lambda event: self._exhaustive(event) and _lowest(event) >= LOWEST_LEG)
        if event is None:
            return False
        low = max(80.0, 1.3 * PRICE_ONE / _lowest(event))
        margin = self._rng.uniform(0.008, 0.03)
        inserts = plan_yes(event, self._rng, margin=margin, low=low, high=4 * low)
        family = "quiet_leg" if any(leg.quiet for leg in event.legs) else "planted"
        return self._go(event, family, "yes_basket", inserts, hold=hold or self._life())

    def _plant_no(self, hold: int | None = None) -> bool:
        event = self._choose(
            lambda event: event.shape == "exclusive" and 3 <= len(event.legs) <= NO_LEGS_MAX
            and not any(leg.quiet for leg in event.legs)
        )  # fmt: skip
        if event is None:
            return False
        margin = max(self._rng.uniform(0.015, 0.03), 0.006 * (len(event.legs) - 1))
        inserts = plan_no(event, self._rng, margin=margin, low=80, high=300)
        return self._go(event, "planted", "no_basket", inserts, hold=hold or self._life())

    def _long(self) -> int:
        low, high, _ = LIVES[-1]
        return int(self._rng.uniform(low, high) * SECOND)

    def _life(self) -> int:
        """Draw how long a plant lives; the first one lives long, for whoever has just come."""
        shares = [share for _, _, share in LIVES]
        low, high, _ = LIVES[-1] if not self._planted else self._rng.choices(LIVES, shares)[0]
        return int(self._rng.uniform(low, high) * SECOND)

    def _decoy(self) -> None:
        for _ in self._decoys:
            put_on = self._decoys[self._turn % len(self._decoys)]
            self._turn += 1
            if put_on():
                break
        wait = self._rng.uniform(0.5, 1.5) * self._decoy_every
        self._stage.after(wait * SECOND, self._decoy)

    def _gross_not_net(self) -> bool:
        event = self._choose(lambda event: self._exhaustive(event) and event.rate >= 300)
        inserts = plan_gross(event, self._rng) if event else None
        return self._go(event, "gross_not_net", "yes_basket", inserts, logged=True)

    def _thin_top(self) -> bool:
        """Enough for every minimum, too little to be worth a signal: under half a dollar."""
        event = self._choose(lambda event: self._exhaustive(event) and _lowest(event) >= 1_900)
        return self._yes(event, "thin_top", margin=0.012, low=6.5, high=9)

    def _below_min_size(self) -> bool:
        event = self._choose(self._exhaustive)
        return self._yes(event, "below_min_size", margin=0.02, low=1, high=4.5)

    def _augmented(self) -> bool:
        event = self._choose(lambda event: event.spec.kind == "augmented")
        return self._yes(event, "augmented", margin=0.03, low=80, high=300, logged=True)

    def _plain_group(self) -> bool:
        event = self._choose(lambda event: event.spec.kind == "plain")
        return self._yes(event, "plain_group", margin=0.03, low=80, high=300, logged=True)

    def _flicker(self) -> bool:
        event = self._choose(lambda event: self._exhaustive(event) and len(event.legs) <= 6)
        hold = int(self._rng.uniform(60, 220) * MS)
        return self._yes(event, "flicker", margin=0.02, low=80, high=200, hold=hold, gap=6 * MS)

    def _paused_leg(self) -> bool:
        event = self._choose(lambda event: self._exhaustive(event) and len(event.legs) > 3)
        if event is None:
            return False
        leg = event.legs[self._rng.choice(free_legs(event))]
        leg.paused = True
        hold = int(self._rng.uniform(4, 12) * SECOND)
        if not self._yes(event, "paused_leg", margin=0.02, low=80, high=300, logged=True,
                         hold=hold, gap=400 * MS):  # fmt: skip
            leg.paused = False
            return False
        self._stage.republish(event)
        self._stage.after(hold + 3 * SECOND, partial(self._resume, event, leg.spec.market_id))
        return True

    def _resume(self, event: LiveEvent, market_id: str) -> None:
        for leg in event.legs:
            if leg.spec.market_id == market_id:
                leg.paused = False
        self._stage.republish(event)

    def _crossed(self) -> bool:
        """Cross one market's own book for a moment: both its tokens look too cheap together."""
        event = self._choose(lambda event: event.spec.kind == "binary")
        if event is None:
            return False
        price = event.legs[0].book.best_ask + event.legs[0].spec.tick
        if price >= PRICE_ONE:
            return False
        event.cause = "crossed"
        self._edit(event, 0, [(True, price, draw_size(event.legs[0], self._rng))])
        wait = int(self._rng.uniform(0.2, 1.5) * SECOND)
        event.ends = self._stage.now + wait
        tokens = event.legs[0].spec.token_ids
        place = self._stage.open_window(event, "crossed", "binary", tokens)
        self._stage.after(wait, partial(self._restore, event, 0, [(True, price, 0)], place))
        return True

    def _empty_leg(self) -> bool:
        """Let a taker buy all there is of one leg: its YES has no ask, its NO no bid."""
        event = self._choose(lambda event: self._exhaustive(event) and len(event.legs) > 2)
        if event is None:
            return False
        index = self._rng.choice(free_legs(event))
        leg = event.legs[index]
        event.cause = "empty_leg"
        levels = leg.book.asks.levels()
        fill = make_fill(False, levels[0][0], 60 * SIZE_ONE, self._rng)
        edits: list[Edit] = [(False, price, 0) for price, _ in levels]
        bodies = trade(leg, edits, fill, ms=self._stage.ms, rng=self._rng)
        self._stage.send(event, leg, bodies)
        hold = int(self._rng.uniform(3, 15) * SECOND)
        event.ends = self._stage.now + hold
        place = self._stage.open_window(event, "empty_leg", "yes_basket", event.tokens(0))
        back: list[Edit] = [(False, price, size) for price, size in levels[:8]]
        self._stage.after(hold, partial(self._restore, event, index, back, place))
        return True

    def _restore(self, event: LiveEvent, index: int, edits: list[Edit], place: int) -> None:
        self._edit(event, index, edits)
        self._stage.close_window(place)
        self._stage.release(event)

    def _edit(self, event: LiveEvent, index: int, edits: list[Edit]) -> None:
        leg = event.legs[index]
        self._stage.send(event, leg, post(leg, edits, ms=self._stage.ms, rng=self._rng))

    def _yes(
        self, event: LiveEvent | None, family: str, *, margin: float, low: float, high: float,
        logged: bool = False, hold: int | None = None, gap: int = 120 * MS,
    ) -> bool:  # fmt: skip
        inserts = plan_yes(event, self._rng, margin=margin, low=low, high=high) if event else None
        return self._go(event, family, "yes_basket", inserts, logged=logged, hold=hold, gap=gap)

    def _go(
        self, event: LiveEvent | None, family: str, kind: str,
        inserts: tuple[Insert, ...] | None, *, logged: bool = False, hold: int | None = None,
        gap: int = 120 * MS,
    ) -> bool:  # fmt: skip
        if event is None or inserts is None:
            return False
        hold = hold or int(self._rng.uniform(2, 12) * SECOND)
        per_leg = min(gap, 400 * MS // len(inserts))
        self._planting.carry_out(event, Plan(family, kind, inserts, per_leg, hold, logged))
        return True

    def _choose(self, fits: Callable[[LiveEvent], bool]) -> LiveEvent | None:
        """Choose an event; what is tied to another one is left to what is planted between them."""
        able = [event for event in self._stage.rested() if not event.ties and fits(event)]
        return self._rng.choice(able) if able else None

    @staticmethod
    def _exhaustive(event: LiveEvent) -> bool:
        return event.spec.kind == "neg_risk"


def _lowest(event: LiveEvent) -> int:
    """Give the cheapest ask among the legs of an event."""
    return min(leg.book.best_ask for leg in event.legs)
