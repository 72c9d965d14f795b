"""Ordinary business: the small changes that fill a feed and never open anything."""

from __future__ import annotations

import random
from functools import partial

from markets.simulator import wire
from markets.simulator.ladder import Edit
from markets.simulator.quoting import KEEP, draw_size, make_fill, post, requote, stir, trade
from markets.simulator.stage import SECOND, Stage
from markets.simulator.state import LiveEvent, LiveMarket

FRAMES_PER_ACTION = 1.53  # measured with the shares below
MOODS = ((0.45, 0.5), (1.1, 0.4), (3.3, 0.1))  # activity against the mean, share of the time
MOVE, TRADE, BATCH, REPEAT = 0.16, 0.025, 0.03, 0.008  # shares of all actions


class Flow:
    """Runs each event at its own pace: Poisson actions in regimes of quiet and haste."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng

    def start(self, event: LiveEvent) -> None:
        """Begin business in an event; it ends by itself when the event halts."""
        self._stage.after(self._pause(event), partial(self._act, event))

    def _pause(self, event: LiveEvent) -> float:
        return self._rng.expovariate(event.tempo * event.mood) * SECOND

    def _act(self, event: LiveEvent) -> None:
        if event.halted:
            return
        self._change_mood(event)
        leg = self._pick(event)
        if leg is not None:
            self._do_something(event, leg)
        self._stage.after(self._pause(event), partial(self._act, event))

    def _change_mood(self, event: LiveEvent) -> None:
        if self._stage.now < event.mood_until:
            return
        levels, shares = zip(*MOODS, strict=True)
        event.mood = self._rng.choices(levels, shares)[0]
        event.mood_until = self._stage.now + int(self._rng.expovariate(1 / 25) * SECOND)

    def _pick(self, event: LiveEvent) -> LiveMarket | None:
        draw = self._rng.random() * sum(leg.pull for leg in event.legs)
        for leg in event.legs:
            draw -= leg.pull
            if draw < 0:
                return None if leg.paused else leg
        return None

    def _do_something(self, event: LiveEvent, leg: LiveMarket) -> None:
        chance = self._rng.random() if event.idle else 1.0  # a plant keeps its touch
        if chance < MOVE:
            self._move(event, leg)
        elif chance < MOVE + TRADE:
            self._deal(event, leg)
        elif chance < MOVE + TRADE + BATCH:
            self._edit(event, leg, [stir(leg, self._rng, touch=True) for _ in range(3)])
        else:
            self._edit(event, leg, [stir(leg, self._rng, touch=event.idle)])

    def _move(self, event: LiveEvent, leg: LiveMarket) -> None:
        event.latent.step(self._rng, scale=event.mood, now=self._stage.now)
        self.settle(event, event.legs.index(leg))

    def settle(self, event: LiveEvent, index: int) -> None:
        """Let the makers of one market bring its touch back to where it belongs."""
        leg = event.legs[index]
        edits: list[Edit | None] = list(requote(event, index, self._rng))
        self._edit(event, leg, edits or [stir(leg, self._rng, touch=True)])

    def _edit(self, event: LiveEvent, leg: LiveMarket, drawn: list[Edit | None]) -> None:
        edits = [edit for edit in drawn if edit is not None]
        unique = list({edit[:2]: edit for edit in edits}.values())
        if not unique:
            return
        bodies = post(leg, unique, ms=self._stage.ms, rng=self._rng)
        if self._rng.random() < REPEAT:
            bodies.append(self._again(leg, unique[-1], bodies[-1]))
        self._stage.send(event, leg, bodies)

    def _again(self, leg: LiveMarket, edit: Edit, body: bytes) -> bytes:
        """Send a change twice, as the venue does now and then, sometimes with entries swapped."""
        if self._rng.random() < 0.5:
            return body
        return wire.price_change(leg.book, edit, wire.seal(leg.book), first=self._rng.randrange(2))

    def _deal(self, event: LiveEvent, leg: LiveMarket) -> None:
        """Take part of the best level, or all of it: that only widens the spread."""
        hits_bid = self._rng.random() < 0.5
        side = leg.book.side(hits_bid)
        if len(side) <= KEEP:
            return
        price = side.price(0)
        held = side.size(price)
        size = min(draw_size(leg, self._rng), held)
        fill = make_fill(hits_bid, price, size, self._rng)
        edits = [(hits_bid, price, held - size)]
        self._stage.send(event, leg, trade(leg, edits, fill, ms=self._stage.ms, rng=self._rng))
