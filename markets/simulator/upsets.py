"""What happens to markets out of turn, when somebody asks for it: each method does it once.

What a method sends lies on the stage's tape afterwards, as with everything else.
"""

from __future__ import annotations

import random
from dataclasses import replace

from markets.fills import SIZE_ONE
from markets.simulator import wire
from markets.simulator.ladder import Edit
from markets.simulator.quoting import clear_beyond, opening_edits, rewrite, stir
from markets.simulator.stage import SECOND, Stage
from markets.simulator.state import LiveEvent, LiveMarket
from markets.simulator.truth import USD, yes_cost

TICK_SHOWN_AFTER = SECOND // 2  # between a tick's change and the book that goes with it
BAIT_COST = USD * 97 // 100  # of one of each YES in the middle of a batch, fees included
BAIT_SIZE = 300 * SIZE_ONE
CLEARED = "cleared_book"


class Upsets:
    """Changes the course of events. The events and markets given must be open."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng

    def refine_tick(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Divide a market's tick by ten; its books follow half a second later.

        False: it is as fine as it gets.
        """
        if leg.spec.tick == 1:
            return False
        old, was = leg.book.tick_text, leg.spec
        leg.spec = replace(was, tick=was.tick // 10)
        specs = tuple(leg.spec if spec is was else spec for spec in event.spec.markets)
        event.spec = replace(event.spec, markets=specs)
        leg.book.set_tick(leg.spec.tick)
        leg.book.apply([], ms=max(self._stage.ms, leg.book.ms + 1))
        for outcome in (0, 1):
            self._stage.push(event.conn, wire.tick_size_change(leg.book, outcome, old=old))
        self._stage.after(TICK_SHOWN_AFTER, lambda: self._rewrite(event, leg, []))
        return True

    def clear(self, event: LiveEvent) -> None:
        """Wipe every book of an event, as at the start of a game, and leave it empty."""
        event.cause = CLEARED
        event.ends = self._stage.now + 3_600 * SECOND
        for leg in event.legs:
            levels: list[Edit] = [(True, price, 0) for price, _ in leg.book.bids.levels()]
            levels += [(False, price, 0) for price, _ in leg.book.asks.levels()]
            self._rewrite(event, leg, levels)

    def refill(self, event: LiveEvent) -> None:
        """Quote an event again that was cleared."""
        if event.cause != CLEARED:
            return
        for at, leg in enumerate(event.legs):
            self._rewrite(event, leg, opening_edits(leg, *event.targets(at), self._rng))
        self._stage.release(event)

    def resolve(self, event: LiveEvent, *, halves: bool = False) -> None:
        """End an event without a word on the feed. `halves`: each outcome pays one half."""
        event.halted = True
        for leg, is_true in zip(event.legs, event.latent.outcomes(self._rng), strict=True):
            leg.winner = None if halves else 0 if is_true else 1
        self._stage.close(event)

    def half_batch(self, event: LiveEvent, leg: LiveMarket) -> tuple[list[bytes], list[bytes]]:
        """Change many levels in one millisecond so that half way an arbitrage seems to stand.

        Gives the messages of both halves. Each already tells the hash and touch after the
        whole, which leaves the touch as it was. Both empty: the books leave no room for it.
        """
        price = self._bait(event, leg)
        if price is None:
            return [], []
        bids = clear_beyond(leg.book.bids, price)
        back: list[Edit] = [(True, at, leg.book.bids.size(at)) for _, at, _ in bids]
        there: list[Edit] = [*bids, (False, price, BAIT_SIZE)]
        away: list[Edit] = [(False, price, 0), *back]
        moved = stir(leg, self._rng, touch=False)
        last = [moved] if moved else []
        leg.book.apply(last, ms=max(self._stage.ms, leg.book.ms + 1))
        after = wire.seal(leg.book)
        first, second = (
            [wire.price_change(leg.book, edit, after) for edit in edits]
            for edits in (there, [*away, *last])
        )
        return first, second

    def _bait(self, event: LiveEvent, leg: LiveMarket) -> int | None:
        """Find the ask of one leg that makes one of each YES cheap enough."""
        others = [other.book.best_ask for other in event.legs if other is not leg]
        tick = leg.spec.tick
        price = leg.book.best_ask - tick
        while price > 0 and yes_cost([*others, price], event.rate) > BAIT_COST:
            price -= tick
        return price if price > 0 and not leg.book.asks.size(price) else None

    def _rewrite(self, event: LiveEvent, leg: LiveMarket, edits: list[Edit]) -> None:
        self._stage.send(event, leg, rewrite(leg, edits, ms=self._stage.ms, rng=self._rng))
