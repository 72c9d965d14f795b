"""A client of the live feed that writes down all it hears, in a thread of its own."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class FeedEar:
    """`with FeedEar(port, cookie) as ear`: hears `signals` from the moment it is entered."""

    def __init__(self, port: int, cookie: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self.beats = 0
        headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}"}
        address = f"ws://127.0.0.1:{port}/ws/v1/feed"
        self._open = ExitStack()
        self._connecting = connect(address, additional_headers=headers, proxy=None)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> FeedEar:
        self._socket = self._open.enter_context(self._connecting)
        self._socket.send(json.dumps({"op": "subscribe", "channel": "signals", "req": 1}))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._thread.join(10)

    def _listen(self) -> None:
        with suppress(ConnectionClosed):
            for text in self._socket:
                told = json.loads(text)
                if told.get("op") == "hb":
                    self.beats += 1
                    self._socket.send(json.dumps({"op": "credit", "seq": told["seq"]}))
                else:
                    self.heard.append(told)

    def shout(self) -> None:
        """Send more than the feed takes, for which it closes."""
        self._socket.send("x" * 8_000)

    def holes(self) -> list[tuple[int, int]]:
        """Return the numbers that are missing without having been announced as missing."""
        found, last = [], None
        for told in self.heard:
            if told.get("op") in ("ack", "gap", "skip"):
                last = told.get("to", told["seq"])
            elif "seq" in told:
                if last is not None and told["seq"] != last + 1:
                    found.append((last, told["seq"]))
                last = told["seq"]
        return found
