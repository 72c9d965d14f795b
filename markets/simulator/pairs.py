"""What is put between two events on purpose: a price that the other one contradicts.

Only who knows how the two are related can tell, so it is there for long enough to be looked at.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from markets.fills import PRICE_ONE
from markets.simulator.plants import Insert, Plan, Planting
from markets.simulator.quoting import CENT
from markets.simulator.stage import MS, SECOND, Stage
from markets.simulator.state import LiveEvent, LiveMarket, Tie, TieKind
from markets.simulator.truth import USD, buy_cost

FIRST = (15.0, 30.0)  # seconds until the first one, from and to
PAUSE = (70.0, 130.0)  # seconds between two
LIFE = (8.0, 25.0)  # seconds that one lives
SHARES = (120.0, 400.0)
MARGIN = (0.015, 0.03)  # USD that a pair of shares earns after fees
ASKS = range(600, 9_000)  # 1e-4 USD: outside, the fees or the smallest order get in the way
GAP = 120 * MS
KINDS: tuple[TieKind, ...] = ("equivalent", "ladder")  # in turn, where there are both


class Pairs:
    """Puts one pair of tied markets after the other out of line."""

    def __init__(self, stage: Stage, planting: Planting, rng: random.Random) -> None:
        self._stage = stage
        self._planting = planting
        self._rng = rng
        self._turn = 0

    def start(self) -> None:
        """Set the clock going."""
        self._stage.after(self._rng.uniform(*FIRST) * SECOND, self._plant)

    def _plant(self) -> None:
        kinds = KINDS if self._turn % 2 == 0 else KINDS[::-1]
        done = any(self._plant_one(kind) for kind in kinds)
        self._turn += done
        wait = self._rng.uniform(*PAUSE) if done else 1.0
        self._stage.after(wait * SECOND, self._plant)

    def _plant_one(self, kind: TieKind) -> bool:
        able = [each for each in self._rested() if each[0].kind == kind]
        return bool(able) and self._carry_out(*self._rng.choice(able))

    def _rested(self) -> Iterator[tuple[Tie, LiveEvent, LiveEvent]]:
        """Yield ties that nothing happens to, with the event that implies and the implied one."""
        rested = self._stage.rested()
        for second in rested:
            for tie in second.ties:
                if tie.second is second and tie.first in rested:
                    yield tie, tie.first, second
                    if tie.kind == "equivalent":
                        yield tie, second, tie.first

    def _carry_out(self, tie: Tie, strong: LiveEvent, weak: LiveEvent) -> bool:
        """Ask a tick less for what is implied, and bid more than that for what implies it."""
        bidden, asked = len(strong.legs) - 1, 0  # of two ladders, the rungs that meet
        ask = weak.legs[asked].book.best_ask - weak.legs[asked].spec.tick
        bid = _bid_against(ask, strong.legs[bidden], strong.rate, self._rng.uniform(*MARGIN))
        if ask not in ASKS or ask <= weak.legs[asked].book.best_bid or bid is None:
            return False
        hold = int(self._rng.uniform(*LIFE) * SECOND)
        for event, insert in (
            (weak, Insert(asked, False, ask, self._shares())),
            (strong, Insert(bidden, True, bid, self._shares())),
        ):
            self._planting.carry_out(event, Plan("planted", tie.kind, (insert,), GAP, hold))
        return True

    def _shares(self) -> int:
        return int(self._rng.uniform(*SHARES) * 100) * CENT


def _bid_against(ask: int, leg: LiveMarket, rate: int, margin: float) -> int | None:
    """Find the least bid that earns `margin` USD with an ask elsewhere; None: there is none."""
    goal = USD - int(margin * USD) - buy_cost(ask, rate)
    tick = leg.spec.tick
    first = max(leg.book.best_bid, ask // tick * tick) + tick
    bids = range(first, PRICE_ONE - 2 * tick, tick)
    return next((bid for bid in bids if buy_cost(PRICE_ONE - bid, rate) <= goal), None)
