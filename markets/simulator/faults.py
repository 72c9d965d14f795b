"""All faults by name, and the switchboard that turns them on and off."""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from markets.simulator import faults_rest, faults_world, faults_ws
from markets.simulator.faults_base import Fault

if TYPE_CHECKING:
    from markets.simulator.server import Venue

KINDS: tuple[type[Fault], ...] = (*faults_ws.KINDS, *faults_rest.KINDS, *faults_world.KINDS)
FAULTS = {fault.name: fault for fault in KINDS}


class UnknownFault(Exception):
    """There is no fault of that name."""


@dataclass(slots=True)
class Outage:
    """When a fault was on; unix ns. `ended` None: it still is."""

    name: str
    target: str | None
    began: int
    ended: int | None = None


def table() -> list[dict[str, str]]:
    """Tell of each fault what it does and what a good client does about it."""
    rows = []
    for name, fault in FAULTS.items():
        told = inspect.getdoc(fault) or ""
        does, _, client = told.partition("\n\nA good client ")
        rows.append({"fault": name, "does": " ".join(does.split()),
                     "a_good_client": " ".join(client.split())})  # fmt: skip
    return rows


class Switchboard:
    """Turns faults on and off, one of each name at a time, and remembers when."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._active: dict[str, tuple[Fault, Outage]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.outages: list[Outage] = []

    @property
    def active(self) -> tuple[Fault, ...]:
        """The faults that are on, the oldest first."""
        return tuple(fault for fault, _ in self._active.values())

    async def on(self, name: str, *, seconds: float | None, target: str | None) -> None:
        """Turn a fault on, for so many seconds or until told. Raises UnknownFault, BadTarget."""
        if name not in FAULTS:
            raise UnknownFault(name)
        await self.off(name)
        fault = FAULTS[name](self._venue, target, seconds)
        await fault.begin()
        outage = Outage(name, fault.target, time.time_ns())
        self.outages.append(outage)
        self._active[name] = (fault, outage)
        self._venue.hub.faults = self.active
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(seconds, self._expire, name)

    def _expire(self, name: str) -> None:
        task = asyncio.create_task(self.off(name))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def off(self, name: str) -> None:
        """Turn a fault off, if it is on."""
        if timer := self._timers.pop(name, None):
            timer.cancel()
        fault, outage = self._active.pop(name, (None, None))
        self._venue.hub.faults = self.active
        if fault and outage:
            await fault.end()
            outage.target = fault.target
            outage.ended = time.time_ns()

    async def clear(self) -> None:
        """Turn all faults off."""
        for name in list(self._active):
            await self.off(name)

    def told(self) -> list[dict[str, object]]:
        """Tell when which fault was on; a fault that chose its target shows it."""
        for fault, outage in self._active.values():
            outage.target = fault.target
        return [asdict(outage) for outage in self.outages]
