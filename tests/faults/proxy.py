"""A wire between two programs on loopback that can be cut, slowed or swallow what is sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 65_536


class Proxy:
    """Forwards TCP to `target`. Its switches may be turned by any thread at any time.

    `blackhole`: connections stay open, new ones are taken, and nothing comes through.
    `late`: seconds by which each piece is held back.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.blackhole = False
        self.late = 0.0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def reset(self) -> None:
        """Cut all connections as a router does: with a reset, in the middle of whatever."""
        assert self._loop

        def cut() -> None:
            for writer in tuple(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(cut)

    async def serve(self, stop: asyncio.Event, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.05)  # for their readers to end

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers |= {writer, far_writer}
            try:
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
            finally:
                for each in (writer, far_writer):
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(CHUNK):
                if self.late:
                    await asyncio.sleep(self.late)
                while self.blackhole:
                    await asyncio.sleep(0.02)
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """Run a proxy before a port of loopback, in a thread of its own."""
    proxy, ready, stop = Proxy(target), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(proxy.serve(stop, ready)), daemon=True
    )
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
