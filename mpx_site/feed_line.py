"""How a text reaches one client: straight into daphne's socket, or over ASGI elsewhere.

ASGI has each server encode and frame each text anew for each client. Daphne is
what we run: its transport takes the frame that was made once for all.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from daphne.server import Server
from twisted.internet import tcp

from mpx_site.feed_words import Told

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SCOPE_KEY = "mpx.daphne"


class Line(Protocol):
    """Writes to one client. `write` returns at once; `stop` ends it."""

    def write(self, texts: Sequence[Told]) -> None: ...

    def stop(self) -> None: ...


def told_apart(application: Application) -> Application:
    """Note daphne's own connection in the scope, before any middleware wraps `send`."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if isinstance(send, functools.partial) and isinstance(
            getattr(send.func, "__self__", None), Server
        ):
            scope = {**scope, SCOPE_KEY: send.args[0]}
        await application(scope, receive, send)

    return app


def line_to(scope: MutableMapping[str, Any], send: Send) -> Line:
    """Return the shortest way to a client."""
    connection = scope.get(SCOPE_KEY)
    transport = getattr(connection, "transport", None)
    if isinstance(transport, tcp.Connection) and not getattr(transport, "TLS", False):
        return DaphneLine(connection, transport)
    return AsgiLine(send)


class DaphneLine:
    """Writes frames to daphne's TCP transport, into the kernel at once where it takes them."""

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection
        self._transport = transport
        self._stopped = False

    def write(self, texts: Sequence[Told]) -> None:
        connection, transport = self._connection, self._transport
        if self._stopped or connection.state != connection.STATE_OPEN:
            return
        frames = texts[0].frame if len(texts) == 1 else b"".join(each.frame for each in texts)
        # Nothing is left over from before and daphne has nothing queued: no detour by the reactor.
        if not (transport.dataBuffer or transport._tempDataBuffer or connection.send_queue):
            sent = transport.writeSomeData(frames)
            if isinstance(sent, int):
                frames = frames[sent:]
        if frames:
            connection.sendData(frames)

    def stop(self) -> None:
        self._stopped = True


class AsgiLine:
    """Writes over ASGI, one text after the other, from a task of its own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._texts: asyncio.Queue[Told] = asyncio.Queue()  # the listener's window bounds it
        self._task = asyncio.create_task(self._run(), name="feed line")

    def write(self, texts: Sequence[Told]) -> None:
        for told in texts:
            self._texts.put_nowait(told)

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            told = await self._texts.get()
            await self._send({"type": "websocket.send", "text": told.text})
