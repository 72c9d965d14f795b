"""Faults of the WebSocket and of the connections themselves.

`target` is a connection's number (as in the stats) where it says so, else a token or condition id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from markets.simulator.faults_base import BadTarget, Fault, Timed, chosen_market
from markets.simulator.server_ws import text_packet

if TYPE_CHECKING:
    from markets.simulator.server_ws import Socket

OVERSIZE = 8 * 1024 * 1024  # bytes
FLAP_SECONDS = 3.0
DUPLICATE_EVERY, SWAP_EVERY = 3, 4
LATE_SECONDS = 0.3  # a message to be swapped waits no longer for the next one
MALFORMED_SECONDS = 0.05  # between two of them
PRICE_CHANGE = b'"price_change"}'


class _OnConnections(Fault):
    """Meets the connections that exist when it begins (or one of them), never later ones.

    If there is none yet, it meets the first that comes.
    """

    async def begin(self) -> None:
        """Choose the connections."""
        numbers = {str(number): number for number in self.venue.hub.sockets}
        if self.target is not None and self.target not in numbers:
            raise BadTarget(f"no connection {self.target}")
        self._met = {numbers[self.target]} if self.target else set(numbers.values())

    def meets(self, socket: Socket) -> bool:
        """Whether this connection is one of them."""
        if not self._met:
            self._met.add(socket.number)
        return socket.number in self._met


class SilentSocket(_OnConnections):
    """Open connections get no more data, yet every PING is answered PONG.

    New connections are well. `target`: one connection's number.

    A good client does not take PONG for life: no data for 30 s, or /books that moved on, makes it
    reconnect; until the new snapshot the books are STALE.
    """

    name = "silent_socket"

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Swallow the message."""
        return () if self.meets(socket) else (body,)


class Blackhole(_OnConnections):
    """Open connections get no more data and no PONG, but stay connected: the wire is dead.

    New connections are well. `target`: one connection's number.

    A good client pings after 10 s without a frame, reconnects after 20 s, shows the feed as
    degraded and approves nothing on books that old.
    """

    name = "blackhole"

    async def end(self) -> None:
        """Hear what the clients said meanwhile."""
        for number in self._met:
            if socket := self.venue.hub.sockets.get(number):
                socket.read_on()

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Swallow the message, and stop to listen."""
        if not self.meets(socket):
            return (body,)
        socket.stop_reading()
        return ()


class DeadAsset(Fault):
    """One market sends nothing any more while all others do; /books shows it moving on.

    Its snapshot still comes on subscribing. `target`: a token or condition id.

    A good client finds it by comparing /books with what it holds, marks it STALE, and evaluates
    it only by what REST just said.
    """

    name = "dead_asset"

    async def begin(self) -> None:
        """Choose the market."""
        _, leg = chosen_market(self.venue, self.target)
        self.target = leg.spec.condition_id

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Swallow the market's messages."""
        return () if market == self.target else (body,)


class ResetMidFrame(_OnConnections):
    """Open connections end with a TCP reset after half of the next message. `target`: one number.

    A good client applies no half message, reconnects within 2 s and notes the gap.
    """

    name = "reset_mid_frame"

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Send half and break off."""
        if not self.meets(socket):
            return (body,)
        packet = text_packet(body)
        socket.reset(packet[: len(packet) // 2])
        return ()


class OversizedFirstFrame(Fault):
    """The frame that answers a subscription is 8 MiB long: valid JSON, mostly spaces.

    A good client allows large frames (the real ones reach megabytes) up to a cap of its own, and
    subscribes in small chunks.
    """

    name = "oversized_first_frame"

    def dump(self, socket: Socket, body: bytes) -> bytes | None:
        """Stretch it."""
        return body[:-1] + b" " * (OVERSIZE - len(body)) + body[-1:]


class NoSnapshot(Fault):
    """Subscriptions are not answered with books; changes come nevertheless.

    A good client drops the changes, keeps the books STALE and takes snapshots from /books.
    """

    name = "no_snapshot"

    def dump(self, socket: Socket, body: bytes) -> bytes | None:
        """Give nothing."""
        return None


class DuplicateFrames(Fault):
    """Every third message comes twice; of a price_change the second has its entries swapped.

    A good client ends with the same books: sizes are totals, not differences.
    """

    name = "duplicate_frames"

    async def begin(self) -> None:
        """Start counting."""
        self._seen = 0

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Repeat some."""
        self._seen += 1
        if not market or self._seen % DUPLICATE_EVERY:
            return (body,)
        return body, _entries_swapped(body) if body.endswith(PRICE_CHANGE) else body


def _entries_swapped(body: bytes) -> bytes:
    message = msgspec.json.decode(body)
    message["price_changes"].reverse()
    return msgspec.json.encode(message)


class SwappedFrames(Fault):
    """Now and then two messages about one market arrive in the wrong order.

    A good client sees by the hash that its book is not the one meant, and takes a new snapshot.
    """

    name = "swapped_frames"

    async def begin(self) -> None:
        """Start counting."""
        self._seen = 0
        self._waiting: dict[tuple[int, str], bytes] = {}

    async def end(self) -> None:
        """Hand out what still waits."""
        for number, market in list(self._waiting):
            self._late(number, market)

    def frames(self, socket: Socket, market: str, body: bytes) -> Sequence[bytes]:
        """Let some wait for the next one."""
        earlier = self._waiting.pop((socket.number, market), None)
        if earlier is not None:
            return body, earlier
        self._seen += 1
        if not body.endswith(PRICE_CHANGE) or self._seen % SWAP_EVERY:
            return (body,)
        self._waiting[socket.number, market] = body
        loop = asyncio.get_running_loop()
        loop.call_later(LATE_SECONDS, self._late, socket.number, market)
        return ()

    def _late(self, number: int, market: str) -> None:
        body = self._waiting.pop((number, market), None)
        socket = self.venue.hub.sockets.get(number)
        if body is not None and socket:
            socket.send(text_packet(body))


class MalformedFrames(Timed):
    """Between the good messages come bad ones: broken JSON, wrong types, impossible numbers.

    Among them NaN, 1e999, a price of 1.7, sizes of 4,301 digits, lists nested 100,000 deep, lone
    surrogates and a title of 1 MB; those about books name markets that are subscribed.

    A good client counts and keeps each one, applies none, and goes on.
    """

    name = "malformed_frames"

    async def run(self) -> None:
        """Send them in turn, for ever."""
        turn = 0
        while True:
            for socket in list(self.venue.hub.sockets.values()):
                token, market = next(iter(socket.tokens.items()), ("1", "0x00"))
                socket.send(text_packet(MALFORMED[turn % len(MALFORMED)](token, market)))
            turn += 1
            await asyncio.sleep(MALFORMED_SECONDS)


def _change(**fields: object) -> Callable[[str, str], bytes]:
    """Make a price_change with one entry, some of whose fields are wrong."""

    def make(token: str, market: str) -> bytes:
        entry = {"asset_id": token, "price": "0.5", "size": "10", "side": "BUY", "hash": "00",
                 "best_bid": "0.5", "best_ask": "0.51", **fields}  # fmt: skip
        message = {"market": market, "price_changes": [entry], "timestamp": "1",
                   "event_type": "price_change"}  # fmt: skip
        return msgspec.json.encode(message)

    return make


def _text(body: bytes) -> Callable[[str, str], bytes]:
    return lambda token, market: body


def _torn(token: str, market: str) -> bytes:
    return f'{{"market":"{market}","asset_id":"{token}","bids":[{{"price":"0.4'.encode()


def _bad_rows(token: str, market: str) -> bytes:
    body = {"market": market, "asset_id": token, "timestamp": "1", "hash": "00", "bids": "none",
            "asks": [{"price": "0.5"}], "event_type": "book"}  # fmt: skip
    return msgspec.json.encode(body)


MALFORMED: tuple[Callable[[str, str], bytes], ...] = (
    _torn,
    _bad_rows,
    _text(b"not json"),
    _text(b""),
    _text(b"null"),
    _text(b'{"event_type":7,"market":[]}'),
    _text(b'{"event_type":"price_change","market":"0x00","price_changes":{}}'),
    _text(b'{"event_type":"book","market":"0x00","asset_id":"1","bids":[NaN],"asks":[1e999]}'),
    _text(b'{"event_type":"from_tomorrow","market":"0x00"}'),
    _change(price="1.7"),
    _change(price="-0"),
    _change(price="NaN"),
    _change(size="1e999"),
    _change(size="-5"),
    _change(size="9" * 4_301),
    _change(size=10),
    _change(side="HOLD"),
    _change(asset_id="no-such-token"),
    _text(b"[" * 100_000 + b"]" * 100_000),
    _text(b'{"event_type":"new_market","id":"1","question":"\\ud800","market":"0x00"}'),
    _text(b'{"event_type":"new_market","id":"2","question":"' + b"A" * 2**20 + b'"}'),
)


class Flapping(Timed):
    """All connections are cut every 3 s; new ones are taken at once.

    A good client lets its backoff grow, stays under 12 reconnects a minute and raises one alert.
    """

    name = "flapping"

    async def run(self) -> None:
        """Cut, wait, cut."""
        while True:
            for socket in list(self.venue.hub.sockets.values()):
                socket.cut()
            await asyncio.sleep(FLAP_SECONDS)


class RefuseConnections(Fault):
    """Nobody listens on the port, and every connection that was open is cut. Give it `seconds`.

    A good client retries with a growing, jittered pause, shows the outage and recovers by itself.
    """

    name = "refuse_connections"

    async def begin(self) -> None:
        """Close the door."""
        if self.seconds is None:
            raise BadTarget("refuse_connections needs seconds: nobody could turn it off")
        self.venue.close_door()

    async def end(self) -> None:
        """Open it again on the same port."""
        await self.venue.open_door()


KINDS = (
    SilentSocket, Blackhole, DeadAsset, ResetMidFrame, OversizedFirstFrame, NoSnapshot,
    DuplicateFrames, SwappedFrames, MalformedFrames, Flapping, RefuseConnections,
)  # fmt: skip
