"""A mock venue for tests: a real server on a free loopback port, with its faults at hand.

    with mock_venue(events=12) as venue:
        httpx.get(f"{venue.url}/ok")
        venue.fault("rate_limit_429", seconds=2)

The server runs in a thread of its own; `venue_process` starts it as a process, for tests of the
command and for measurements.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from markets.simulator.server import HOST, SOCKET_PATH, Venue, VenueSettings

ROOT = Path(__file__).resolve().parent.parent


class VenueClient:
    """Talks to `/_control` of a running venue. `inside`: the server itself, in thread mode."""

    def __init__(self, port: int, inside: Venue | None = None) -> None:
        self.port = port
        self.inside = inside
        self.url = f"http://{HOST}:{port}"
        self.ws_url = f"ws://{HOST}:{port}{SOCKET_PATH}"
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    @property
    def environment(self) -> dict[str, str]:
        """What points MPX at this venue."""
        return {
            "POLYMARKET_GAMMA_URL": self.url,
            "POLYMARKET_CLOB_URL": self.url,
            "POLYMARKET_WS_URL": self.ws_url,
        }

    def order(self, **order: Any) -> dict[str, Any]:
        """Send an order; httpx.HTTPStatusError when it is refused."""
        answer = self._http.post("/_control", json=order).raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    def fault(self, name: str, *, seconds: float | None = None, target: Any = None) -> None:
        """Turn a fault on, for so many seconds or until `clear`."""
        self.order(fault=name, seconds=seconds, target=target)

    def clear(self) -> None:
        """Turn all faults off."""
        self.order(clear=True)

    def hold(self, still: bool = True) -> None:
        """Let the world stand still, so that books can be compared."""
        self.order(hold=still)

    def books(self, *tokens: str) -> dict[str, dict[str, Any]]:
        """Give the venue's own books by token: those named, or all that trade."""
        books = self.order(books=list(tokens) or True)["books"]
        return {book["asset_id"]: book for book in books}

    def truth(self) -> list[dict[str, Any]]:
        """Give the log of what was, or looked, mispriced."""
        told: list[dict[str, Any]] = self.order(truth=True)["truth"]
        return told

    def stats(self) -> dict[str, Any]:
        """Give what the venue did so far."""
        told: dict[str, Any] = self.order(stats=True)["stats"]
        return told

    def close(self) -> None:
        self._http.close()


@contextmanager
def mock_venue(**settings: Any) -> Iterator[VenueClient]:
    """Run a venue in a thread. Takes the fields of VenueSettings; small by default."""
    chosen = VenueSettings(**{"events": 8, "rate": 200.0, **settings})
    venue, ready = Venue(chosen), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    wrong: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: wrong.append(context))

    def serve() -> None:
        try:
            loop.run_until_complete(venue.run(stop, opened=lambda _: ready.set()))
        finally:
            loop.close()

    thread = threading.Thread(target=serve, name="mock-venue", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the mock venue did not open")
    client = VenueClient(venue.port, venue)
    try:
        yield client
    finally:
        client.close()
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(10)
    assert not wrong, wrong  # the venue's own mistakes fail the test that met them


@contextmanager
def venue_process(*arguments: str) -> Iterator[VenueClient]:
    """Run `manage.py mock_venue` on a free port."""
    command = [sys.executable, "manage.py", "mock_venue", "--port", "0", "--json", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        client = VenueClient(json.loads(process.stdout.readline())["port"])
        yield client
        client.close()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def venue() -> Iterator[VenueClient]:
    """A small venue, new for each test."""
    with mock_venue() as client:
        yield client
