"""A quiet market never looks dead, and a dead feed never looks quiet.

A real venue on loopback behind a wire of our own. The patience of its connection is a tenth of
that of a desk, so seconds here are tens of seconds there, and are shown as such on the pages.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from alerts import journal
from execution.sights import data_age
from markets.ingest import Followed
from markets.listing import read_page
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import VenueHttp
from markets.polymarket.ws import Patience
from mpx_site import health
from mpx_site.portal import health_table
from mpx_site.portal.desk import Desk
from signals.live import Live
from signals.sources import Clock, Venue
from signals.writer import Writer
from tests.faults.proxy import proxied
from tests.servers import wait_for
from tests.venue import VenueClient, mock_venue

FASTER = 10
PATIENCE = Patience(connect=1.0, ping_every=1.0, pong_within=2.0, data_within=3.0, reset_to=0.5)


def data_seconds(live: Live) -> float:
    """Return for how long nothing was heard of the venue, as the heartbeat tells it."""
    told = live.vital_signs()["last_frame_at"]
    assert isinstance(told, int)
    return time.time() - told / 1_000


async def follow(
    venue: VenueClient, port: int, act: Callable[[Live], None], *, writer: Writer | None = None
) -> None:
    """Run the live path on a venue behind a port until `act` is done."""
    clock, stop = Clock(), asyncio.Event()
    live = Live((), clock=clock, writer=writer)
    url, ws_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws/market"
    async with VenueHttp(gamma_url=venue.url, clob_url=venue.url) as http:
        pages = [body async for body in Gamma(http).event_pages()]
    events = [each for body in pages for each in read_page(json.loads(body), rejected=[])]
    followed = [
        Followed(event.event_id, pairs)
        for event in events
        if (pairs := tuple(m.token_ids for m in event.markets if m.untradable is None))
    ]

    async def everything(_: Sequence[Followed]) -> Sequence[Followed]:
        return followed

    source = Venue(url, url, ws_url, clock, live.pipeline.books, everything, patience=PATIENCE)
    running = asyncio.create_task(live.run(source, stop=stop))
    try:
        await asyncio.to_thread(act, live)
    finally:
        stop.set()
        await running


def ages(live: Live, *, seconds: float) -> list[float]:
    """Look for a while; return how old what is known of the venue was at each look."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found.append(data_seconds(live))
        time.sleep(0.05)
    return found


def fresh_books(live: Live) -> int:
    return sum(book.state == "fresh" for book in tuple(live.pipeline.books.by_market.values()))


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What a desk knew of a venue that was quiet for a while, and then gone for a while."""
    found: dict[str, Any] = {}

    def watch(live: Live) -> None:
        wait_for(lambda: fresh_books(live) > 20, seconds=30, what="fresh books")
        venue.hold()
        time.sleep(0.5)
        books = fresh_books(live)
        found["quiet"] = ages(live, seconds=2.5 * PATIENCE.data_within)
        found["quiet_books"] = fresh_books(live) / books
        wire.blackhole = True
        found["dead"] = ages(live, seconds=2.5 * PATIENCE.data_within)
        found["dead_books"] = fresh_books(live)
        wire.blackhole = False
        wait_for(lambda: data_seconds(live) < 1, seconds=20, what="the venue again")
        wait_for(lambda: fresh_books(live) == books, seconds=20, what="fresh books again")

    with mock_venue(events=6) as venue, proxied(venue.port) as wire:
        asyncio.run(follow(venue, wire.port, watch))
    return found


def test_venue_that_has_nothing_to_say_is_heard_all_the_time(seen: dict[str, Any]) -> None:
    assert max(seen["quiet"]) < PATIENCE.pong_within
    assert seen["quiet_books"] == 1


def test_venue_that_is_gone_grows_older_all_the_time(seen: dict[str, Any]) -> None:
    """Connections that open and close again meanwhile are no news of the venue."""
    dead = seen["dead"]

    assert all(later > earlier for earlier, later in pairwise(dead))
    assert dead[-1] > 2 * PATIENCE.data_within
    assert seen["dead_books"] == 0


@pytest.mark.django_db
@pytest.mark.parametrize(("how", "is_fresh"), [("quiet", True), ("dead", False)])
def test_pages_and_breaker_tell_them_apart(
    seen: dict[str, Any], client: Client, how: str, is_fresh: bool
) -> None:
    client.force_login(User.objects.create_superuser("olga"))
    at, age = timezone.now(), seen[how][-1] * FASTER
    told = (at - timedelta(seconds=age)).timestamp() * 1_000
    journal.beat("stream", at=at, progress=1, last_frame_at=told, frames=1, books={"fresh": 1})
    health.checkup.forget()
    health_table.forget()

    rows = json.loads(b"".join(client.get("/health/?format=json").streaming_content))
    rows = rows["rows"] if isinstance(rows, dict) else rows
    (row,) = [each for each in rows if each["component"] == "Market data"]
    home = client.get("/").content.decode()
    known = data_age(at)

    assert Desk(at=at).data.trusted is is_fresh
    assert (row["state"] != "down") is is_fresh
    assert ("No, stale" in home) is not is_fresh
    assert known is not None
    assert (known < 30) is is_fresh
    health_table.forget()
