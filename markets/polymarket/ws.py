"""One connection of the market channel: subscribe, keep alive, notice silence, come back.

The feed has no sequence numbers and may go silent while it answers PING
(`polymarket-api.md` 3.4), so a connection is trusted only while data arrive.
Openings and closings are told as frames too (`req` is "open" or "closed"), so
that a recording knows where the gaps were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from markets.frames import CLOSED, OPENED, Frame
from markets.polymarket.turns import Turns

log = logging.getLogger(__name__)

MAX_ASSETS = 200  # beyond about 500 the venue drops snapshots; 200 is what careful clients use
CHUNK = 100  # assets per subscribe message
MAX_FRAME = 64 * 2**20  # a first frame has 4.3 KiB per asset


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take, in seconds."""

    connect: float = 10.0
    ping_every: float = 7.0  # 10 is asked for; a quiet market is heard more often than that
    pong_within: float = 20.0
    data_within: float = 30.0
    backoff_from: float = 0.25
    backoff_to: float = 30.0
    unreachable_to: float = 3.0
    reset_to: float = 5.0
    healthy_after: float = 60.0
    minute: float = 60.0  # in which one connection is opened 12 times at most


class Shard:
    """A connection that follows up to 200 assets and never gives up.

    `emit` gets every frame in order of arrival. `counts` has frames, bytes,
    and closings by reason. `others` are the turns of all connections to that address.
    """

    def __init__(
        self,
        number: int,
        url: str,
        *,
        emit: Callable[[Frame], None],
        clock: Callable[[], int],
        patience: Patience | None = None,
        rng: random.Random | None = None,
        others: list[Turns] | None = None,
    ) -> None:
        self.number = number
        self.url = url
        self.assets: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.open = False
        self.problem = ""  # why it is not open
        self.unreachable = False  # the last try to connect failed
        self._hurry = asyncio.Event()
        self._emit = emit
        self._clock = clock
        self._patience = patience or Patience()
        self._rng = rng or random.Random()
        self._turns = Turns([] if others is None else others, self._patience.minute)
        self._socket: ClientConnection | None = None
        self._data_at = self._pong_at = 0.0
        self.heard_at = 0  # unix ns: data, or a PONG on a connection that has had data

    @property
    def room(self) -> int:
        return MAX_ASSETS - len(self.assets)

    async def follow(self, assets: Iterable[str]) -> None:
        """Add assets; a connection that is open subscribes to them at once."""
        fresh = [asset for asset in assets if asset not in self.assets]
        if len(fresh) > self.room:
            raise ValueError(f"a connection follows at most {MAX_ASSETS} assets")
        self.assets.update(dict.fromkeys(fresh))
        if self._socket and fresh:
            await self._ask(self._socket, "subscribe", fresh)

    async def leave(self, assets: Iterable[str]) -> None:
        """Drop assets."""
        gone = [asset for asset in assets if asset in self.assets]
        for asset in gone:
            del self.assets[asset]
        if self._socket and gone:
            await self._ask(self._socket, "unsubscribe", gone)

    async def again(self, assets: Sequence[str]) -> None:
        """Subscribe anew to assets that went silent alone."""
        await self.leave(assets)
        await self.follow(assets)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        try:
            await self._stay()
        finally:
            self._turns.leave()

    async def _stay(self) -> None:
        loop = asyncio.get_running_loop()
        tries, down_since = 0, loop.time()
        while True:
            await self._turn()
            begun = loop.time()
            reason = await self._session()
            self.counts[f"closed:{reason}"] += 1
            if loop.time() - begun > self._patience.healthy_after:
                tries = 0
            if reason != "unreachable":
                down_since = loop.time()
            await self._pause(tries, loop.time() - down_since, reason)
            if reason != "unreachable":
                tries = min(tries + 1, 16)

    async def _turn(self) -> None:
        """Wait until one more opening is within what an endpoint is asked for in a minute."""
        loop = asyncio.get_running_loop()
        while (wait := self._turns.wait(loop.time())) > 0:
            await asyncio.sleep(wait)
        self._turns.take(loop.time())

    async def _pause(self, tries: int, down: float, reason: str) -> None:
        """Wait with jitter.

        A connection that lived is tried again at once the first time, then
        within 1, 2, 4 and at most 5 s, but not in the first half of that; how
        often in all is up to its turns. A venue that cannot be reached is asked
        again within a quarter of the time that it has been away, so that a
        short outage stays short.
        """
        patience, floor = self._patience, 0.0
        if reason == "unreachable":
            ceiling = min(max(patience.unreachable_to, down / 4), patience.backoff_to)
        else:
            ceiling = min(2.0 ** (tries - 1), patience.reset_to) if tries else patience.backoff_from
            floor = ceiling / 2 if tries else 0.0
        wait = self._rng.uniform(floor, ceiling)
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._hurry.wait()

    def hurry(self) -> None:
        """Try again now: another connection has just reached the venue."""
        if self.unreachable:
            self._hurry.set()

    async def _session(self) -> str:
        """Connect, follow, and return why it ended."""
        patience = self._patience
        try:
            async with asyncio.timeout(patience.connect):
                socket = await connect(
                    self.url,
                    max_size=MAX_FRAME,
                    ping_interval=None,  # the venue has its own PING, as text
                    compression=None,
                    proxy=None,
                    open_timeout=patience.connect,
                    close_timeout=1,
                )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException) as error:
            self.problem, self.unreachable = f"{type(error).__name__}: {error}", True
            self._turns.give_back()
            return "unreachable"
        reason = "cancelled"
        try:
            reason = await self._talk(socket)
        finally:
            self._socket, self.open = None, False
            self._tell(CLOSED, reason.encode())
            socket.transport.abort()  # the other side may never answer a closing handshake
        return reason

    async def _talk(self, socket: ClientConnection) -> str:
        loop = asyncio.get_running_loop()
        self._data_at = self._pong_at = loop.time()
        self._socket, self.open = socket, True
        self.problem, self.unreachable = "", False
        self._turns.reached(loop.time())
        self._tell(OPENED, b"")
        keeping = asyncio.create_task(self._keep_alive(socket))
        reading = asyncio.create_task(self._read(socket))
        try:
            await self._ask(socket, "market", list(self.assets))
            done, _ = await asyncio.wait({keeping, reading}, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        except (OSError, WebSocketException) as error:
            self.problem = f"{type(error).__name__}: {error}"
            return "reset"
        finally:
            keeping.cancel()
            reading.cancel()
            await asyncio.gather(keeping, reading, return_exceptions=True)

    async def _read(self, socket: ClientConnection) -> str:
        loop = asyncio.get_running_loop()
        emit, clock, number = self._emit, self._clock, self.number
        fed = False
        try:
            while True:
                body = await socket.recv(decode=False)
                if body == b"PONG":
                    self._pong_at = loop.time()
                    if fed:
                        self.heard_at = clock()
                    continue
                self._data_at = loop.time()
                fed = True
                self.counts["frames"] += 1
                self.counts["bytes"] += len(body)
                self.heard_at = t = clock()
                emit(Frame(t, "ws", body, number))
        except (OSError, WebSocketException) as error:
            self.problem = f"{type(error).__name__}: {error}"
            return "reset"

    async def _keep_alive(self, socket: ClientConnection) -> str:
        """Send PING and return when something has been silent for too long."""
        patience = self._patience
        loop = asyncio.get_running_loop()
        pinged = loop.time()
        while True:
            await asyncio.sleep(min(1.0, patience.ping_every / 4))
            now = loop.time()
            if now - self._pong_at > patience.pong_within:
                self.problem = f"no PONG for {now - self._pong_at:.0f} s"
                return "no_pong"
            if self.assets and now - self._data_at > patience.data_within:
                self.problem = f"no data for {now - self._data_at:.0f} s"
                return "silent"
            if now - pinged >= patience.ping_every:
                pinged = now
                try:
                    await socket.send("PING")
                except (OSError, WebSocketException):
                    return "reset"

    async def _ask(self, socket: ClientConnection, what: str, assets: list[str]) -> None:
        """Send a subscription in chunks; "market" opens the channel, also without assets."""
        chunks = [assets[i : i + CHUNK] for i in range(0, len(assets), CHUNK)] or [[]]
        for number, chunk in enumerate(chunks):
            message: dict[str, object] = {"assets_ids": chunk, "custom_feature_enabled": True}
            if what == "market" and number == 0:
                message["type"] = "market"
            else:
                message["operation"] = "subscribe" if what == "market" else what
            try:
                await socket.send(json.dumps(message))
            except (OSError, WebSocketException):
                return  # the reader ends this connection; the next one asks for everything

    def _tell(self, what: str, body: bytes) -> None:
        self._emit(Frame(self._clock(), "ws", body, self.number, what))
