"""What a fault is: hooks into an otherwise healthy venue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from markets.simulator.server_http import Reply, Request
from markets.simulator.state import LiveEvent, LiveMarket

if TYPE_CHECKING:
    from markets.simulator.server import Venue
    from markets.simulator.server_ws import Socket


class BadTarget(Exception):
    """The fault cannot hit what it was aimed at."""


class Fault:
    """One way in which a venue misbehaves, from `begin` to `end`.

    `target` narrows it: a path prefix for REST faults, a connection's number or a token or
    condition id for the others. None: everything, or one that the fault picks. `seconds`: how
    long it is meant to last; None: until told.
    """

    name: ClassVar[str]

    def __init__(self, venue: Venue, target: str | None, seconds: float | None) -> None:
        self.venue = venue
        self.target = target
        self.seconds = seconds

    async def begin(self) -> None:
        """Start. Raises BadTarget."""

    async def end(self) -> None:
        """Let the venue be well again."""

    def rest(self, request: Request, reply: Reply) -> Reply:
        """Change the answer to a REST call."""
        return reply

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Change what one message becomes on a connection. `market` "": sent to everyone."""
        return (body,)

    def dump(self, socket: Socket, body: bytes) -> bytes | None:
        """Change the answer to a subscription; None: there is none."""
        return body


class Timed(Fault):
    """A fault that keeps doing something by itself."""

    _task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start doing it."""
        self._task = asyncio.create_task(self.run())

    async def end(self) -> None:
        """Stop doing it. Raises what went wrong meanwhile."""
        if self._task and not self._task.cancel():
            self._task.result()

    async def run(self) -> None:
        """Do it until cancelled."""
        raise NotImplementedError


def anything(event: LiveEvent) -> bool:
    """Fit every event."""
    return True


def chosen_market(
    venue: Venue, target: str | None, fits: Callable[[LiveEvent], bool] = anything
) -> tuple[LiveEvent, LiveMarket]:
    """Find the market that is meant: by a token or condition id, or the best one to hit.

    That is one somebody listens to, in an event at rest, and the busiest of those. Raises
    BadTarget when there is none.
    """
    stage = venue.world.stage
    able = [
        (event, leg)
        for event in stage.events.values()
        if fits(event)
        for leg in event.legs
        if target is None or target in (leg.spec.condition_id, *leg.spec.token_ids)
    ]
    if not able:
        raise BadTarget(f"no open market fits{f' {target}' if target else ''}")
    rested = {id(event) for event in stage.rested()}

    def worth(pair: tuple[LiveEvent, LiveMarket]) -> tuple[bool, bool, float]:
        event, leg = pair
        heard = venue.hub.is_heard(leg.spec.condition_id)
        return heard, id(event) in rested, event.tempo * leg.pull

    return max(able, key=worth)
