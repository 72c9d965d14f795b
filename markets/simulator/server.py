"""The mock venue: a simulated world behind real HTTP and WebSocket, on one loopback port."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from markets.simulator.faults import Switchboard
from markets.simulator.server_clob import Clob
from markets.simulator.server_control import PATH as CONTROL_PATH
from markets.simulator.server_control import control
from markets.simulator.server_gamma import Gamma
from markets.simulator.server_http import (
    HEAD_MAX,
    Reply,
    Request,
    Unreadable,
    error,
    read_request,
    write_reply,
)
from markets.simulator.server_ws import Hub
from markets.simulator.shelf import Shelf
from markets.simulator.world import World

HOST = "127.0.0.1"  # never anything else: it lies on request
SOCKET_PATH = "/ws/market"
PACE_SECONDS = 0.004  # between two looks at the clock
FRAMES_PER_TURN = 250  # before others get their turn, when the world has fallen behind


@dataclass(frozen=True, slots=True)
class VenueSettings:
    """How a venue is started.

    `port` 0: any free one. `rate`: mean WebSocket messages per second of the world's `events`.
    `markets`: how many are listed beside it that never move, `churn`: percent of them that a
    control call changes. `queue_bytes`: what a slow client may leave unread. `faults` are on from
    the start. `duration` in seconds; None: until stopped.
    """

    port: int = 0
    events: int = 60
    seed: int = 1
    rate: float = 150.0
    markets: int = 0
    churn: float = 1.0
    queue_bytes: int = 16 * 1024 * 1024
    faults: tuple[str, ...] = ()
    duration: float | None = None


class Venue:
    """A venue that is open between `open` and `shut`; `run` does both."""

    def __init__(self, settings: VenueSettings) -> None:
        start = time.time_ns()
        self.settings = settings
        self.port = settings.port
        self.world = World(
            seed=settings.seed, events=settings.events, start=start, rate=settings.rate,
            latency=False,
        )  # fmt: skip
        self.shelf = Shelf(
            seed=settings.seed, count=settings.markets, start=start,
            template=self.world.gamma_events()[0],
        )  # fmt: skip
        self.clob = Clob(self.world, self.shelf)
        self.gamma = Gamma(self.world, self.shelf)
        self.hub = Hub(self.clob, queue_bytes=settings.queue_bytes)
        self.switchboard = Switchboard(self)
        self.requests: Counter[str] = Counter()
        self._behind = time.time_ns() - time.monotonic_ns()  # monotonic to venue time
        self._held_at: int | None = None  # venue time at which it stands still
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._controls: set[asyncio.Task[None]] = set()

    # --- the clock --------------------------------------------------------

    @property
    def now(self) -> int:
        """Venue time by the wall clock, unix ns."""
        return self._held_at or time.monotonic_ns() + self._behind

    def hold(self, still: bool) -> None:
        """Let the world stand still where it is, or go on from there."""
        if still:
            self._held_at = self.world.now
        elif self._held_at is not None:
            self._behind = self._held_at - time.monotonic_ns()
            self._held_at = None

    def skip(self, seconds: float) -> None:
        """Let the world catch up with a clock that is put forward."""
        self._behind += int(seconds * 10**9)

    async def _live(self) -> None:
        """Let the world happen as time passes."""
        self.world.open_frames()  # to nobody: every client gets its own on subscribing
        since = 0
        while True:
            frames = self.world.advance(self.now)
            if frames is None:
                await asyncio.sleep(PACE_SECONDS)
                continue
            self.hub.deliver(frames)
            since += len(frames) or 1
            if since > FRAMES_PER_TURN:
                since = 0
                await asyncio.sleep(0)

    def flush(self) -> None:
        """Send what was done to the world out of turn."""
        self.hub.deliver(self.world.stage.collect())

    # --- the door ---------------------------------------------------------

    async def open_door(self) -> None:
        """Take connections, always on the same port. Raises OSError when it is taken."""
        self._server = await asyncio.start_server(
            self._greet, HOST, self.port, limit=HEAD_MAX, reuse_address=True, backlog=512
        )
        self.port = self.address[1]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens. Raises RuntimeError when it does not."""
        if not self._server or not self._server.sockets:
            raise RuntimeError("the door is closed")
        host, port = self._server.sockets[0].getsockname()
        return host, port

    def close_door(self) -> None:
        """Refuse new connections and cut all that exist, except who gives the orders."""
        if self._server:
            self._server.close()
        for task, writer in self._talks.items():
            if task not in self._controls:
                writer.transport.abort()

    async def run(
        self, stop: asyncio.Event, *, opened: Callable[[Venue], None] | None = None
    ) -> None:
        """Be open until `stop` or the end of the duration. Raises UnknownFault, BadTarget."""
        await self.open_door()
        try:
            for name in self.settings.faults:
                await self.switchboard.on(name, seconds=None, target=None)
            if opened:
                opened(self)
            await self._be_open(stop)
        finally:
            await self._shut()

    async def _be_open(self, stop: asyncio.Event) -> None:
        live = asyncio.create_task(self._live())
        ended = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait(
                {live, ended}, timeout=self.settings.duration, return_when=asyncio.FIRST_COMPLETED
            )
            if live in done:
                live.result()
        finally:
            for task in (live, ended):
                task.cancel()

    async def _shut(self) -> None:
        await self.switchboard.clear()
        if self._server:
            self._server.close()
        talks = list(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    # --- one connection ---------------------------------------------------

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._talks[task] = writer
        try:
            await self._converse(reader, writer, task)
        except Unreadable as problem:
            await write_reply(writer, error(400, str(problem)))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the venue shuts
        finally:
            del self._talks[task]
            self._controls.discard(task)
            writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        while request := await read_request(reader):
            self.requests["/".join(request.path.split("/", 2)[:2])] += 1
            if request.path == CONTROL_PATH:
                self._controls.add(task)
                reply = await control(self, request)
            else:
                reply = self._answer(request)
                if request.wants_socket and request.path == SOCKET_PATH and reply.status == 101:
                    await self.hub.serve(reader, writer, request.raw)
                    return
            if not await write_reply(writer, reply) or request.last:
                return

    def _answer(self, request: Request) -> Reply:
        """Answer as a healthy venue would, then as the faults that are on will have it."""
        if request.wants_socket and request.path == SOCKET_PATH:
            reply = Reply(101, b"")
        else:
            reply = (
                self.clob.answer(request) or self.gamma.answer(request) or error(404, "not found")
            )
        for fault in self.switchboard.active:
            reply = fault.rest(request, reply)
        return reply

    def stats(self) -> dict[str, object]:
        """Tell what the venue did so far and who is connected."""
        return {
            "now": self.now,
            "markets": len(self.world.token_ids()) // 2,
            "shelf": self.shelf.count,
            "delivered": self.hub.delivered,
            "behind_ms": (self.now - self.world.now) // 10**6,
            "opened": self.hub.opened,
            "overflowed": self.hub.overflowed,
            "sockets": [
                {"conn": one.number, "tokens": len(one.tokens), "sent": one.sent,
                 "queued": one.queued}
                for one in self.hub.sockets.values()
            ],
            "requests": dict(self.requests),
            "faults_on": [fault.name for fault in self.switchboard.active],
            "outages": self.switchboard.told(),
        }  # fmt: skip
