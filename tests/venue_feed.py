"""A plain market-channel client for tests of the mock venue: it knows nothing it was not told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from markets.frames import Frame
from tests.test_simulator_wire import Client
from tests.venue import VenueClient

Message = dict[str, Any]


def get(venue: VenueClient, path: str, **query: Any) -> httpx.Response:
    """Ask the venue for something, never through a proxy."""
    return httpx.get(f"{venue.url}{path}", params=query, trust_env=False, timeout=10)


def post(venue: VenueClient, path: str, body: Any) -> httpx.Response:
    """Send the venue something."""
    return httpx.post(f"{venue.url}{path}", json=body, trust_env=False, timeout=10)


def pages(venue: VenueClient, kind: str, **query: Any) -> list[list[Message]]:
    """Walk a keyset listing to its end."""
    found: list[list[Message]] = []
    with httpx.Client(base_url=venue.url, trust_env=False) as http:
        cursor: str | None = ""
        while cursor is not None:
            asked = {**query, **({"after_cursor": cursor} if cursor else {})}
            page = http.get(f"/{kind}/keyset", params=asked).raise_for_status().json()
            found.append(page[kind])
            cursor = page.get("next_cursor")
    return found


def walk(venue: VenueClient, kind: str, **query: Any) -> list[Message]:
    """Give all rows of a keyset listing."""
    return [row for page in pages(venue, kind, **query) for row in page]


class Feed:
    """One connection, subscribed; `books` keeps what its messages lead to."""

    def __init__(
        self,
        venue: VenueClient,
        tokens: Iterable[str],
        *,
        features: bool = False,
        dump: bool = True,
    ) -> None:
        self.books = Client()
        self.books.take(Frame(0, "gamma", get(venue, "/events/keyset", limit=500).content))
        self.texts: list[str] = []  # what was not JSON
        self.first: str = ""
        self._connecting = connect(
            venue.ws_url, max_size=2**26, max_queue=None, close_timeout=1, proxy=None
        )
        self._subscription = {
            "assets_ids": list(tokens),
            "type": "market",
            "custom_feature_enabled": features,
            "initial_dump": dump,
        }

    def __enter__(self) -> Feed:
        self._ws: ClientConnection = self._connecting.__enter__()
        self.say(**self._subscription)
        return self

    def __exit__(self, *error: Any) -> None:
        self._connecting.__exit__(*error)

    def say(self, text: str | None = None, **message: Any) -> None:
        """Send a message, or plain text."""
        self._ws.send(json.dumps(message) if text is None else text)

    def hear(self, seconds: float) -> list[Message] | None:
        """Receive one frame and apply it; None when nothing came. Raises ConnectionClosed."""
        try:
            text = self._ws.recv(timeout=max(seconds, 0.001), decode=True)
        except TimeoutError:
            return None
        self.first = self.first or text
        try:
            json.loads(text)
        except ValueError:
            self.texts.append(text)
            return []
        return self.books.take(Frame(0, "ws", text.encode()))

    def listen(self, seconds: float) -> list[Message]:
        """Receive for a while."""
        return self.until(lambda _: False, seconds=seconds, must=False)

    def until(
        self, done: Callable[[list[Message]], bool], *, seconds: float = 5.0, must: bool = True
    ) -> list[Message]:
        """Receive until it is done, given all messages so far; fails when that takes too long."""
        heard: list[Message] = []
        end = time.monotonic() + seconds
        while not done(heard):
            if time.monotonic() > end:
                assert not must, f"not within {seconds} s; heard {len(heard)} messages"
                break
            heard += self.hear(end - time.monotonic()) or []
        return heard

    def settle(self) -> None:
        """Receive until nothing comes any more (the world stands still)."""
        while self.hear(0.2) is not None:
            pass


def of(kind: str) -> Callable[[list[Message]], bool]:
    """Tell whether a message of a kind is among those heard."""
    return lambda heard: any(message["event_type"] == kind for message in heard)
