"""How an event ends: trading stops, an outcome wins, and the next event takes its slot."""

from __future__ import annotations

import random
from functools import partial

from markets.simulator import wire
from markets.simulator.flow import Flow
from markets.simulator.openings import Openings, Slot
from markets.simulator.stage import SECOND, Stage
from markets.simulator.state import LiveEvent

ANNOUNCED = 0.75  # of all resolutions; the others show only in the catalogue, as on the venue
BOOKS_PER_FRAME = 100


class Rounds:
    """Moves each slot from one event to the next."""

    def __init__(self, stage: Stage, openings: Openings, flow: Flow, rng: random.Random) -> None:
        self._stage = stage
        self._openings = openings
        self._flow = flow
        self._rng = rng

    def begin(self, slot: Slot, event: LiveEvent) -> None:
        """Open an event for business and set its end."""
        self._stage.admit(event)
        self._flow.start(event)
        left = int(event.spec.end_at.timestamp()) * SECOND - self._stage.now
        lead = self._rng.uniform(8, 25) * SECOND
        self._stage.after(max(left - lead, SECOND), partial(self._announce, slot, event))
        self._stage.after(max(left, 2 * SECOND), partial(self._halt, event))

    def _announce(self, slot: Slot, old: LiveEvent) -> None:
        """Tell of the successor some seconds before it can be traded."""
        event = self._openings.next(slot, old=old, now=self._stage.now)
        for leg in event.legs:
            self._stage.broadcast(wire.new_market(event.spec, leg.spec, ms=self._stage.ms))
        self._stage.after(self._rng.uniform(1, 4) * SECOND, partial(self._introduce, slot, event))

    def _introduce(self, slot: Slot, event: LiveEvent) -> None:
        self.begin(slot, event)
        self._stage.republish(event)
        self.show_books([event])

    def show_books(self, events: list[LiveEvent]) -> None:
        """Answer a subscription: the full books of all tokens, connection by connection."""
        for conn in sorted({event.conn for event in events}):
            texts = [
                wire.book_text(leg.book, outcome)
                for event in events
                if event.conn == conn
                for leg in event.legs
                for outcome in (0, 1)
            ]
            for first in range(0, len(texts), BOOKS_PER_FRAME):
                self._stage.push(conn, wire.array(texts[first : first + BOOKS_PER_FRAME]))

    def _halt(self, event: LiveEvent) -> None:
        if event.resolved:  # ahead of its time
            return
        if not event.idle:  # a plant or a jump is still in it
            self._stage.after(SECOND / 2, partial(self._halt, event))
            return
        event.halted = True
        self._stage.republish(event)
        self._stage.after(self._rng.uniform(2, 8) * SECOND, partial(self._resolve, event))

    def _resolve(self, event: LiveEvent) -> None:
        won = event.latent.outcomes(self._rng)
        announced = self._rng.random() < ANNOUNCED
        for leg, is_true in zip(event.legs, won, strict=True):
            leg.winner = 0 if is_true else 1
            if announced:
                body = wire.market_resolved(event.spec, leg.spec, leg.winner, ms=self._stage.ms)
                self._stage.broadcast(body)
        self._stage.close(event)
