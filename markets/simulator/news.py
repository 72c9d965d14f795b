"""News: an event's probabilities jump and its markets follow one by one, not all at once.

Until the slowest has followed, the event may be truly mispriced for some milliseconds.
"""

from __future__ import annotations

import random
from functools import partial

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.simulator.ladder import Edit
from markets.simulator.quoting import clear_beyond, draw_size, make_fill, post, trade
from markets.simulator.stage import MS, SECOND, Stage
from markets.simulator.state import LiveEvent, LiveMarket

DEPTH = (0, 1, 3)  # ticks behind the new touch


class News:
    """Lets events jump; `every` is the mean time between two jumps in seconds, 0 for never."""

    def __init__(self, stage: Stage, rng: random.Random, *, every: float) -> None:
        self._stage = stage
        self._rng = rng
        self._every = every

    def start(self) -> None:
        """Set the clock going."""
        if self._every:
            self._stage.after(self._rng.expovariate(1 / self._every) * SECOND, self._break)

    def _break(self) -> None:
        rested = self._stage.rested()
        able = [event for event in rested if all(kin in rested for kin in event.kin)]
        if able:
            self._jump(self._rng.choice(able))
        self.start()

    def _jump(self, event: LiveEvent) -> None:
        """Tell news that concerns an event and all that it is tied to."""
        event.latent.jump(self._rng)
        told = [event, *event.kin]
        slowest = max(self._spread(each) for each in told)
        for each in told:
            each.cause = "jump"
            each.ends = self._stage.now + slowest + SECOND
            self._stage.after(slowest + 1, partial(self._stage.release, each))

    def _spread(self, event: LiveEvent) -> int:
        """Let each market of an event follow in its own time; gives the longest, in ns."""
        slowest = 0
        for index, leg in enumerate(event.legs):
            if not leg.quiet:
                lag = int(self._rng.uniform(5, 500) * MS)
                self._stage.after(lag, partial(self._follow, event, index))
                slowest = max(slowest, lag)
        return slowest

    def _follow(self, event: LiveEvent, index: int) -> None:
        """Take what is now wrong in one market and quote around the new probability."""
        leg = event.legs[index]
        tick = leg.spec.tick
        bid, ask = event.targets(index)
        bids = clear_beyond(leg.book.bids, bid + tick)
        asks = clear_beyond(leg.book.asks, ask - tick)
        fresh = self._quotes(leg, bid, ask)
        taken = bids or asks
        if not taken:
            bodies = post(leg, fresh, ms=self._stage.ms, rng=self._rng)
        else:
            fill = make_fill(bool(bids), taken[-1][1], 25 * SIZE_ONE, self._rng)
            edits = bids + asks + fresh
            bodies = trade(leg, edits, fill, ms=self._stage.ms, rng=self._rng)
        self._stage.send(event, leg, bodies)

    def _quotes(self, leg: LiveMarket, bid: int, ask: int) -> list[Edit]:
        """Quote a few levels deep, so that the market does not stand on one leg."""
        quotes = [(True, bid - step * leg.spec.tick) for step in DEPTH]
        quotes += [(False, ask + step * leg.spec.tick) for step in DEPTH]
        return [
            (is_bid, price, draw_size(leg, self._rng))
            for is_bid, price in quotes
            if 0 < price < PRICE_ONE
        ]
