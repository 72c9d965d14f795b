"""The market channel: who subscribed what, and who gets which frame."""

from __future__ import annotations

import asyncio
import logging
import socket as sockets
import struct
from collections.abc import Iterable, Sequence

import msgspec
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from markets.frames import Frame
from markets.simulator import wire
from markets.simulator.faults_base import Fault
from markets.simulator.server_clob import Clob

talk_log = logging.getLogger("mock_venue.websockets")
talk_log.setLevel(logging.WARNING)  # nobody needs a line per connection

MESSAGE_MAX = 500_000  # bytes; a larger subscription message ends the connection (10,000 ids did)
SNAPSHOTS_MAX = 500  # assets per connection beyond which the venue forgets to send snapshots
FIRST_MESSAGE_SECONDS = 10
MARKET_AT = slice(11, 77)  # of a message that begins {"market":"0x...
ASSET_KEY = b'","asset_id":"'


class _Asked(msgspec.Struct, frozen=True):
    """A message from a client."""

    assets_ids: list[str] = []
    type: str = ""
    operation: str = ""
    custom_feature_enabled: bool | None = None
    initial_dump: bool = True


class _Shown(msgspec.Struct, frozen=True):
    market: str
    asset_id: str


def text_packet(body: bytes) -> bytes:
    """Frame a text message as a server does: unmasked, so that it fits every connection."""
    size = len(body)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + body
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + body
    return struct.pack("!BBQ", 0x81, 127, size) + body


class Socket:
    """One client. `tokens`: what it subscribed, each with its market ("" while unknown)."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, *, queue_bytes: int) -> None:
        self.number = number
        self.tokens: dict[str, str] = {}
        self.features = False
        self.sent = 0
        self.overflowed = False
        self._writer = writer
        self._queue_bytes = queue_bytes

    @property
    def queued(self) -> int:
        """How many bytes wait for the client to read."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, packet: bytes) -> None:
        """Queue a packet; a client that does not keep up is cut off."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._queue_bytes:
            self.overflowed = True
            transport.abort()
            return
        transport.write(packet)
        self.sent += 1

    def stop_reading(self) -> None:
        """Leave what the client says in its socket, pings included."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_on(self) -> None:
        """Answer what has piled up meanwhile."""
        if not self._writer.transport.is_closing():
            self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def cut(self) -> None:
        """End the connection without a word."""
        self._writer.transport.abort()

    def reset(self, packet: bytes = b"") -> None:
        """Send a last piece and end the connection with a TCP reset."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        transport.write(packet)
        plain = self._writer.get_extra_info("socket")
        plain.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
        asyncio.get_running_loop().call_later(0.02, transport.abort)


class Hub:
    """Hands the world's frames to the connections that subscribed to their markets."""

    def __init__(self, clob: Clob, *, queue_bytes: int) -> None:
        self.sockets: dict[int, Socket] = {}
        self.faults: Sequence[Fault] = ()
        self.opened = self.overflowed = self.delivered = 0
        self._clob = clob
        self._queue_bytes = queue_bytes
        self._by_market: dict[str, dict[int, Socket]] = {}
        self._held: dict[str, list[bytes]] = {}

    # --- from the world ---------------------------------------------------

    def deliver(self, frames: Iterable[Frame]) -> None:
        """Send what the world sent to those who asked for it."""
        for frame in frames:
            if frame.ch == "ws":
                self._route(frame)

    def _route(self, frame: Frame) -> None:
        body = frame.body
        if body.startswith(b'{"market":"'):
            self.send(body[MARKET_AT].decode(), body)
        elif body.startswith(b"["):
            self._introduce(body)
        elif frame.conn == 0:  # the world tells each of its connections, we have our own
            self._broadcast(body)

    def send(self, market: str, body: bytes) -> None:
        """Send a message about one market."""
        held = self._held.get(market)
        if held is not None:
            held.append(body)
            return
        listeners = self._by_market.get(market)
        if not listeners:
            return
        asset = _asset(body)
        extra = body.endswith(b'"best_bid_ask"}')
        packet = text_packet(body)
        for socket in list(listeners.values()):
            if (asset and asset not in socket.tokens) or (extra and not socket.features):
                continue
            self._pass(socket, market, body, packet)

    def is_heard(self, market: str) -> bool:
        """Whether somebody subscribed to a market."""
        return market in self._by_market

    def hold(self, market: str, seconds: float) -> None:
        """Keep back what is sent about a market for a while; nothing is lost or reordered."""
        self._held.setdefault(market, [])
        asyncio.get_running_loop().call_later(seconds, self._release, market)

    def _release(self, market: str) -> None:
        for body in self._held.pop(market, ()):
            self.send(market, body)

    def _broadcast(self, body: bytes) -> None:
        packet = text_packet(body)
        for socket in list(self.sockets.values()):
            if socket.features and socket.tokens:
                self._pass(socket, "", body, packet)

    def _pass(self, socket: Socket, market: str, body: bytes, packet: bytes) -> None:
        self.delivered += 1
        if not self.faults:
            socket.send(packet)
            return
        bodies: Sequence[bytes] = (body,)
        for fault in self.faults:
            bodies = [out for one in bodies for out in fault.frames(socket, market, one)]
        for out in bodies:
            socket.send(text_packet(out))

    def _introduce(self, body: bytes) -> None:
        """Books of a new event: those who subscribed ahead of it get them now."""
        shown = msgspec.json.decode(body, type=list[_Shown])
        for socket in list(self.sockets.values()):
            early = [one.asset_id for one in shown if socket.tokens.get(one.asset_id) == ""]
            if early:
                self._subscribe(socket, early, dump=True)

    # --- from the clients -------------------------------------------------

    def _hear(self, socket: Socket, text: str) -> None:
        if text == "PING":
            socket.send(text_packet(b"PONG"))
            return
        try:
            asked = msgspec.json.decode(text, type=_Asked)
        except msgspec.MsgspecError:
            socket.send(text_packet(b"INVALID OPERATION"))
            return
        if asked.custom_feature_enabled is not None:
            socket.features = asked.custom_feature_enabled
        if asked.operation == "unsubscribe":
            self._unsubscribe(socket, asked.assets_ids)
        elif asked.operation == "subscribe" or asked.type == "market":
            self._subscribe(socket, asked.assets_ids, dump=asked.initial_dump)
        else:
            socket.send(text_packet(b"INVALID OPERATION"))

    def _subscribe(self, socket: Socket, tokens: Sequence[str], *, dump: bool) -> None:
        texts = []
        for token in dict.fromkeys(tokens):
            found = self._clob.book(token)
            market = found[0].condition_id if found else ""
            socket.tokens[token] = market
            if market:
                self._by_market.setdefault(market, {})[socket.number] = socket
            if found and len(socket.tokens) <= SNAPSHOTS_MAX:
                texts.append(wire.book_text(*found))
        if dump:
            self._dump(socket, texts)

    def _dump(self, socket: Socket, texts: list[str]) -> None:
        body: bytes | None = wire.array(texts)
        for fault in self.faults:
            body = fault.dump(socket, body) if body is not None else None
        if body is not None:
            # Some of the venue's answers end with a newline; here those on odd connections do.
            socket.send(text_packet(body + b"\n" * (socket.number % 2)))

    def _unsubscribe(self, socket: Socket, tokens: Sequence[str]) -> None:
        left = {socket.tokens.pop(token, "") for token in tokens}
        for market in left - set(socket.tokens.values()):
            self._forget(socket, market)

    def _forget(self, socket: Socket, market: str) -> None:
        listeners = self._by_market.get(market, {})
        listeners.pop(socket.number, None)
        if not listeners:
            self._by_market.pop(market, None)

    # --- a connection's life ----------------------------------------------

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        """Shake hands over a request head already read, then talk until either side ends it."""
        protocol = ServerProtocol(max_size=4 * MESSAGE_MAX, logger=talk_log)
        protocol.receive_data(head)
        for event in protocol.events_received():
            if isinstance(event, Handshake):
                protocol.send_response(protocol.accept(event))
        _flush(protocol, writer)
        if protocol.state is not State.OPEN:
            return
        self.opened += 1
        socket = Socket(self.opened, writer, queue_bytes=self._queue_bytes)
        self.sockets[socket.number] = socket
        try:
            await self._talk(socket, protocol, reader, writer)
        finally:
            del self.sockets[socket.number]
            self.overflowed += socket.overflowed
            for market in set(socket.tokens.values()):
                self._forget(socket, market)

    async def _talk(
        self, socket: Socket, protocol: ServerProtocol, reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        parts: list[bytes] = []
        late = asyncio.get_running_loop().call_later(FIRST_MESSAGE_SECONDS, socket.cut)
        try:
            while data := await reader.read(65_536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, WireFrame) and event.opcode in _TEXT:
                        late.cancel()
                        self._collect(socket, parts, event)
                _flush(protocol, writer)
                if protocol.state is State.CLOSED:
                    return
        finally:
            late.cancel()

    def _collect(self, socket: Socket, parts: list[bytes], frame: WireFrame) -> None:
        parts.append(bytes(frame.data))
        if sum(map(len, parts)) > MESSAGE_MAX:
            socket.cut()
        elif frame.fin:
            text = b"".join(parts).decode(errors="replace")
            parts.clear()
            self._hear(socket, text)


_TEXT = (Opcode.TEXT, Opcode.CONT)


def _flush(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> None:
    for data in protocol.data_to_send():
        if data:
            writer.write(data)
        else:
            writer.close()


def _asset(body: bytes) -> str:
    """Give the asset a message is about; "" when it is about both of its market."""
    if not body.startswith(ASSET_KEY, MARKET_AT.stop):
        return ""
    first = MARKET_AT.stop + len(ASSET_KEY)
    return body[first : body.index(b'"', first)].decode()
