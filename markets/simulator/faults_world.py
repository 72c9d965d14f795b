"""Faults of the markets themselves. `target` is a token or condition id, or None for any that fits.

Those that need a market at rest wait until it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from markets.simulator import wire
from markets.simulator.faults_base import BadTarget, Fault, Timed, chosen_market
from markets.simulator.server_clob import NO_BOOK
from markets.simulator.server_http import Reply, Request, error
from markets.simulator.stage import SECOND
from markets.simulator.state import LiveEvent, LiveMarket

if TYPE_CHECKING:
    from markets.simulator.server_ws import Socket

AGAIN_SECONDS = 0.05  # before looking again whether a market is at rest
BATCH_SECONDS = 1.0  # between two batches
HALF_SECONDS = 0.08  # between the halves of one
SKEW_SECONDS = 90


def _exclusive(event: LiveEvent) -> bool:
    return event.spec.kind == "neg_risk"


def _single(event: LiveEvent) -> bool:
    return event.spec.kind == "binary"


def _lasting(event: LiveEvent) -> bool:
    return event.spec.kind != "up_down"


class _OnMarket(Timed):
    """Does something to one market, once nothing else goes on in its event."""

    hit: tuple[LiveEvent, LiveMarket] | None = None  # the market, once it is done

    def fits(self, event: LiveEvent) -> bool:
        """Whether it can be done to an event."""
        return _lasting(event)

    async def begin(self) -> None:
        """Look whether there is such a market, and wait for it."""
        chosen_market(self.venue, self.target, self.fits)
        await super().begin()

    async def run(self) -> None:
        """Wait for the market to be at rest, then do it."""
        while not self.hit:
            try:
                event, leg = chosen_market(self.venue, self.target, self.fits)
            except BadTarget:  # it resolved while we waited
                return
            if event in self.venue.world.stage.rested() and self.act(event, leg):
                self.hit = event, leg
                self.target = leg.spec.condition_id
                self.venue.flush()
            await asyncio.sleep(AGAIN_SECONDS)

    def act(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Do it; False: not possible here, look again."""
        raise NotImplementedError


class TickSizeChange(_OnMarket):
    """A market's tick is divided by ten: tick_size_change, and half a second later its books.

    What changes in between is already on the new grid.

    A good client drops the book, evaluates nothing of the market until the new snapshot, and
    stores the new tick.
    """

    name = "tick_size_change"

    def fits(self, event: LiveEvent) -> bool:
        """Whether one of its ticks can become finer."""
        return any(leg.spec.tick > 1 for leg in event.legs)

    def act(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Change it."""
        return self.venue.world.upsets.refine_tick(event, leg)


class ClearedBook(_OnMarket):
    """At the start of a game all books of an event are wiped; they are quoted again at the end.

    A good client sees empty sides, not prices of 0 and 1, and makes no set with such a leg.
    """

    name = "cleared_book"

    def act(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Wipe them."""
        self.venue.world.upsets.clear(event)
        return True

    async def end(self) -> None:
        """Quote them again."""
        await super().end()
        if self.hit:
            self.venue.world.upsets.refill(self.hit[0])
            self.venue.flush()


class ResolutionWithoutEvent(_OnMarket):
    """An event resolves and the feed says nothing: only Gamma, by id or closed=true, shows it.

    Its books are gone (404, missing from /books) and its tokens stay silent.

    A good client asks Gamma about markets that fell silent or out of the listing, closes what was
    open on them with the reason, and does not count them as stale.
    """

    name = "resolution_without_event"

    def act(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Resolve it."""
        self.venue.world.upsets.resolve(event)
        return True


class Resolution5050(_OnMarket):
    """A single market resolves to one half each, without a word on the feed.

    Gamma shows outcomePrices 0.5 and 0.5, the CLOB is_50_50_outcome and no winner.

    A good client pays both outcomes one half, and neither zero nor one.
    """

    name = "resolution_50_50"

    def fits(self, event: LiveEvent) -> bool:
        """Whether it is a market by itself: in a group a half is not possible."""
        return _single(event)

    def act(self, event: LiveEvent, leg: LiveMarket) -> bool:
        """Resolve it."""
        self.venue.world.upsets.resolve(event, halves=True)
        return True


class SameMsBatch(Timed):
    """Once a second a leg of a group changes many levels in one millisecond, sent in two halves.

    80 ms lie between them, and after the first half a whole set seems to cost 0.97. Every message
    carries the hash and the touch of the state after the last one.

    A good client evaluates no book whose hash does not match: there is no signal from half a batch.
    """

    name = "same_ms_batch"

    async def begin(self) -> None:
        """Look whether there is such a leg."""
        chosen_market(self.venue, self.target, _exclusive)
        await super().begin()

    async def run(self) -> None:
        """Send them for ever."""
        while True:
            self._send_one()
            await asyncio.sleep(BATCH_SECONDS)

    def _send_one(self) -> None:
        able = [(event, leg) for event in self.venue.world.stage.rested() if _exclusive(event)
                for leg in event.legs if not leg.quiet and self._meant(leg)]  # fmt: skip
        random.shuffle(able)
        for event, leg in able:
            first, second = self.venue.world.upsets.half_batch(event, leg)
            if first:
                self._send(leg.spec.condition_id, first, second)
                return

    def _meant(self, leg: LiveMarket) -> bool:
        own = (leg.spec.condition_id, *leg.spec.token_ids)
        return self.target in own if self.target else self.venue.hub.is_heard(own[0])

    def _send(self, market: str, first: list[bytes], second: list[bytes]) -> None:
        for body in first:
            self.venue.hub.send(market, body)
        self.venue.hub.hold(market, HALF_SECONDS)
        for body in second:
            self.venue.hub.send(market, body)


class MissingLeg(Fault):
    """One leg of a group is listed but has no book: 404, missing from /books, silent on the feed.

    A good client makes no YES basket of the rest, says missing_leg, and still makes NO baskets.
    """

    name = "missing_leg"

    async def begin(self) -> None:
        """Choose the leg."""
        _, leg = chosen_market(self.venue, self.target, _exclusive)
        self.target = leg.spec.condition_id
        self._tokens = leg.spec.token_ids
        self._mark = f'"market":"{self.target}"'.encode()

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Hide its books."""
        if request.path == "/book" and request.first("token_id") in self._tokens:
            return error(404, NO_BOOK)
        if request.path == "/books" and reply.status == 200:
            return replace(reply, body=self._without(reply.body))
        return reply

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Swallow its messages."""
        return () if market == self.target else (body,)

    def dump(self, socket: Socket, body: bytes) -> bytes | None:
        """Hide its books."""
        return self._without(body)

    def _without(self, body: bytes) -> bytes:
        books = msgspec.json.decode(body, type=list[msgspec.Raw])
        return msgspec.json.encode([book for book in books if self._mark not in bytes(book)])


class ClockSkew(Fault):
    """The venue's clock is 90 s ahead: every timestamp and /time.

    At the end it jumps back, and books stamped ahead of time are sent again.

    A good client orders by receive time and hash, measures the skew by /time and shows it, and
    does not take books for fresher than they are.
    """

    name = "clock_skew"

    async def begin(self) -> None:
        """Put the clock forward."""
        self.venue.world.stage.skew = SKEW_SECONDS * SECOND

    async def end(self) -> None:
        """Put it right."""
        stage = self.venue.world.stage
        stage.skew = 0
        legs = {id(leg): leg for leg, _ in stage.places.values() if leg.book.ms > stage.ms}
        for leg in legs.values():
            leg.book.ms = stage.ms
            for outcome in (0, 1):
                body = wire.book_text(leg.book, outcome).encode()
                self.venue.hub.send(leg.spec.condition_id, body)


KINDS = (
    SameMsBatch, MissingLeg, TickSizeChange, ClearedBook, ResolutionWithoutEvent, Resolution5050,
    ClockSkew,
)  # fmt: skip
