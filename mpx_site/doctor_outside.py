"""The doctor's checks of what is reached over the network: the venue, Redis, workers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlsplit

import redis
from django.conf import settings
from kombu.exceptions import OperationalError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from markets.listing import BadListing, decode_page, read_page
from markets.polymarket import wire
from markets.polymarket.clob import Clob
from markets.polymarket.gamma import Gamma
from markets.polymarket.http import NAMES, Patience, Restricted, VenueError, VenueHttp
from markets.polymarket.ws import MAX_FRAME
from mpx_site.celery import app
from mpx_site.doctor_inside import clock_seen
from mpx_site.doctor_words import Seen, fail, ok, warn, why_unreachable

ONCE = Patience(connect=4.0, request=4.0, total=4.0, tries=1)
CONNECT_SECONDS, FRAME_SECONDS = 3.0, 2.5
REDIS_SECONDS = 4.0
NOT_USED = "not used: REDIS_URL is not set, jobs run inside `up`"


# --- the venue -------------------------------------------------------------


def gamma() -> Seen:
    async def look(venue: VenueHttp) -> Seen:
        begun = time.monotonic()
        page = await _first_page(venue)
        events = read_page(decode_page(page), rejected=[])
        told = f"{urlsplit(settings.POLYMARKET_GAMMA_URL).netloc} answers in {_ms(begun)}"
        if not events:
            return warn(f"{told}, but lists nothing", "See whether the venue changed its listing")
        return ok(told)

    return _asked(look)


def clob() -> Seen:
    async def look(venue: VenueHttp) -> Seen:
        begun = time.monotonic()
        told = f"{urlsplit(settings.POLYMARKET_CLOB_URL).netloc} answers in"
        if await Clob(venue).ok():
            return ok(f"{told} {_ms(begun)}")
        return warn(f"{told} {_ms(begun)}, but not that it is well", "See the venue's status page")

    return _asked(look)


def clock_venue() -> Seen:
    async def look(venue: VenueHttp) -> Seen:
        before = time.time()
        theirs = await Clob(venue).time()
        ours = (before + time.time()) / 2
        # Whole seconds: the middle of that second is the best guess.
        return clock_seen(timedelta(seconds=theirs + 0.5 - ours), "the venue's clock")

    return _asked(look)


def websocket() -> Seen:
    """Connect, subscribe to one token and wait for its book."""
    if settings.DATA_SOURCE != "real":
        return _no_venue()
    return asyncio.run(_websocket())


async def _websocket() -> Seen:
    host = urlsplit(settings.POLYMARKET_WS_URL).netloc
    token, begun = await _some_token(), time.monotonic()
    try:
        async with _connecting() as socket:
            if token is None:
                return warn(f"{host} connects; no token to ask for", "See the check: gamma")
            asked = {"assets_ids": [token], "type": "market", "custom_feature_enabled": True}
            await socket.send(json.dumps(asked))
            told = await _answer(socket, token)
    except (OSError, TimeoutError, WebSocketException) as error:
        return _no_feed(host, error)
    if told == "book":
        return ok(f"{host} sent a book after {_ms(begun)}")
    if told:
        todo = "MPX asks for it over REST then; see whether the venue changed its feed"
        return warn(f"{host} sends, but not the book asked for: {told}", todo)
    silent = f"{host} connects, but sends nothing within {FRAME_SECONDS:g} s"
    return fail(silent, "Try again; see the venue's status page", unreachable=True)


async def _answer(socket: ClientConnection, token: str) -> str:
    """Return "book" when the token's book comes, else what came last; "" if nothing did."""
    heard = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(FRAME_SECONDS):
            async for frame in socket:
                heard = _kind_of(frame, token)
                if heard == "book":
                    break
    return heard


def _kind_of(frame: str | bytes, token: str) -> str:
    body = frame.encode() if isinstance(frame, str) else frame
    try:
        decoded = wire.decode_frame(body)
    except wire.DECODE_ERRORS:
        return "what is no message of the feed"
    messages = decoded if isinstance(decoded, list) else [decoded]
    books = [each for each in messages if each.event_type == "book" and each.asset_id == token]
    return "book" if books else "other messages"


def _no_feed(host: str, error: Exception) -> Seen:
    todo = "Check the network and POLYMARKET_WS_URL; a proxy must let WebSocket through"
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        told = f"access denied ({status})" if status in (401, 403, 451) else f"refused ({status})"
        if status in (401, 403, 451):
            todo = "See from this machine whether the venue blocks its country or address"
        return fail(f"{host}: {told}", todo, unreachable=True)
    return fail(f"{host}: {why_unreachable(error)}", todo, unreachable=True)


def _connecting() -> connect:
    return connect(
        settings.POLYMARKET_WS_URL,
        max_size=MAX_FRAME,
        ping_interval=None,
        compression=None,
        proxy=None,
        open_timeout=CONNECT_SECONDS,
        close_timeout=0.5,
    )


async def _some_token() -> str | None:
    """Return a token that trades now; None if the catalogue cannot be read."""
    try:
        async with _venue() as venue:
            events = read_page(decode_page(await _first_page(venue)), rejected=[])
    except (VenueError, BadListing):
        return None
    trading = (m for event in events for m in event.markets if m.untradable is None)
    return next((market.token_ids[0] for market in trading), None)


async def _first_page(venue: VenueHttp) -> bytes:
    pages = Gamma(venue).event_pages(limit=5)
    return await anext(pages)


def _asked(look: Callable[[VenueHttp], Awaitable[Seen]]) -> Seen:
    if settings.DATA_SOURCE != "real":
        return _no_venue()

    async def ask() -> Seen:
        async with _venue() as venue:
            return await look(venue)

    try:
        return asyncio.run(ask())
    except Restricted as error:
        return warn(_told(error), error.advice)
    except VenueError as error:
        return fail(_told(error), error.advice, unreachable=True)
    except BadListing as error:
        return fail(f"the listing cannot be read: {error}", "See whether the venue changed it")


def _told(error: VenueError) -> str:
    return f"{NAMES[error.service]} {error.path}: {error.what}"


def _venue() -> VenueHttp:
    return VenueHttp(
        gamma_url=settings.POLYMARKET_GAMMA_URL,
        clob_url=settings.POLYMARKET_CLOB_URL,
        patience=ONCE,
    )


def _no_venue() -> Seen:
    return ok(f"not used with DATA_SOURCE={settings.DATA_SOURCE}")


def _ms(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1_000:.0f} ms"


# --- Redis and workers -----------------------------------------------------


def redis_server() -> Seen:
    if not settings.REDIS_URL:
        return ok(NOT_USED)
    place = urlsplit(settings.REDIS_URL)
    where = f"{place.hostname}:{place.port or 6379}"
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
    )
    try:
        told = client.info()
    except redis.RedisError as error:
        todo = "Check REDIS_URL and that the server runs; the stream goes on without it"
        return fail(f"{where}: {why_unreachable(error)}", todo, unreachable=True)
    finally:
        client.close()
    if told.get("maxmemory") and told.get("maxmemory_policy") != "noeviction":
        todo = "Set maxmemory-policy noeviction: a full Redis must not drop queued jobs"
        return warn(f"Redis {told['redis_version']} may drop what is queued", todo)
    return ok(f"Redis {told['redis_version']} at {where}")


def celery_workers() -> Seen:
    """Ask all workers through the broker which queues they serve."""
    if not settings.REDIS_URL:
        return ok(NOT_USED)
    try:
        served = app.control.inspect(timeout=3.0).active_queues() or {}
    except (OperationalError, redis.RedisError, OSError) as error:
        return warn(f"not known: {why_unreachable(error)}", "See the check: redis")
    start = "Start `celery -A mpx_site worker -Q house,catalogue`"
    if not served:
        return fail("no worker answers", start)
    queues = {queue["name"] for each in served.values() for queue in each}
    idle = sorted(queue.name for queue in settings.CELERY_TASK_QUEUES if queue.name not in queues)
    if idle:
        return fail(f"nobody serves the queue {' and '.join(idle)}", start)
    return ok(f"{len(served)} answering, serving {', '.join(sorted(queues))}")
