"""One socket of the live feed `/ws/v1/feed`: who it is, what it may ask, and when it ends.

The protocol is in `docs/api.md`. `Hub` reads the feed log, `Listener` decides
what one client is told when, `Line` carries it there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog
from django.db import DatabaseError

from alerts.meters import FEED_DROPPED
from mpx_site import feed_ticket, feed_wake
from mpx_site import feed_words as words
from mpx_site.feed_hub import UNAUTHENTICATED, Hub
from mpx_site.feed_line import Line, Receive, Send, line_to
from mpx_site.feed_listener import Listener
from mpx_site.feed_log import FeedLog
from mpx_site.feed_words import CHANNELS, TOLD_LATEST, Request, Told

log = structlog.stdlib.get_logger(__name__)

FRAME_MAX = 4_096  # bytes of one inbound frame
INBOUND_MAX = 20  # inbound messages per second
SUBSCRIBE_SECONDS = 5.0
TICKET_SECONDS = 3_600.0  # then a program shows anew that its token still holds

NOT_SUBSCRIBED = 4400
TOO_MANY_SOCKETS = 4409
TOO_BIG = 4413
TOO_MANY = 4429

hub = Hub(FeedLog(), heed=feed_wake.heed)
feed_wake.begin(hub)


class FeedSocket:
    """One connection, from the handshake to the close."""

    def __init__(self, hub: Hub, scope: MutableMapping[str, Any], send: Send) -> None:
        self.hub = hub
        self.scope = scope
        self._send = send
        self._line: Line = line_to(scope, send)
        loop = asyncio.get_running_loop()
        self.listener = Listener(self._line.write, self.end, now=loop.time)
        self._now = loop.time
        self._heard: deque[float] = deque(maxlen=INBOUND_MAX)
        self._timers: list[asyncio.TimerHandle] = []
        self._ending: asyncio.Task[None] | None = None
        self._ops = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "credit": self._credit,
        }

    async def serve(self, receive: Receive) -> None:
        """Accept first: only an accepted socket can be told why it is closed."""
        try:
            await receive()  # the connect
            await self._send({"type": "websocket.accept"})
            await self._greet()
            while (event := await receive())["type"] != "websocket.disconnect":
                if self._ending is None:
                    await self._hear(event)
        finally:
            self._stop()

    def end(self, code: int) -> None:
        """End the connection from our side; the client may come back and resume."""
        if self._ending is None:
            self._stop()
            FEED_DROPPED.labels(str(code)).inc()
            close = self._send({"type": "websocket.close", "code": code})
            self._ending = asyncio.ensure_future(close)

    async def _greet(self) -> None:
        """Find out who is there; a login hears on while its session lasts."""
        asked = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        if "ticket" in asked:
            await self._greet_ticket(asked["ticket"][0])
        elif self.scope["user"].is_authenticated:
            user = self.scope["user"]
            await self._join(user.pk, await feed_ticket.hearable(user))
            self.listener.session_key = self.scope["session"].session_key
        else:
            self.end(UNAUTHENTICATED)

    async def _greet_ticket(self, ticket: str) -> None:
        holder = await feed_ticket.redeem(ticket)
        if holder is None:
            self.end(UNAUTHENTICATED)
            return
        await self._join(holder.user_id, holder.channels)
        self._after(TICKET_SECONDS, lambda: self.end(UNAUTHENTICATED))

    async def _join(self, user_id: int | None, allowed: Collection[str]) -> None:
        if user_id is not None and self.hub.is_crowded(user_id):
            self.end(TOO_MANY_SOCKETS)
            return
        self.listener.allowed = set(allowed)
        self.listener.user_id = user_id
        await self.hub.join(self.listener)
        if self._ending is None:
            self._after(SUBSCRIBE_SECONDS, self._end_idle)

    def _after(self, seconds: float, what: Any) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, what))

    def _end_idle(self) -> None:
        if not self.listener.subscriptions:
            self.end(NOT_SUBSCRIBED)

    async def _hear(self, event: MutableMapping[str, Any]) -> None:
        text, data = event.get("text"), event.get("bytes")
        if self._is_flood():
            self.end(TOO_MANY)
        elif len(data or (text or "").encode()) > FRAME_MAX:
            self.end(TOO_BIG)
        elif text is None:
            self._say(words.error("bad_json", "Send JSON as text."))
        else:
            await self._obey(text)

    async def _obey(self, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.ValidationError as error:
            self._say(words.error("bad_request", str(error), req=_req_of(text)))
        except (msgspec.DecodeError, RecursionError) as error:
            self._say(words.error("bad_json", str(error)))
        else:
            op = self._ops.get(request.op)
            if op is None:
                self._refuse(request, "unknown_op", words.unknown([request.op], self._ops))
            else:
                await op(request)

    async def _subscribe(self, request: Request) -> None:
        problem = self._problem(request)
        if problem is not None:
            self._refuse(request, *problem)
        elif request.channel in TOLD_LATEST:
            await self._subscribe_latest(request)
        else:
            await self.hub.subscribe(self.listener, request.channel, request)

    async def _subscribe_latest(self, request: Request) -> None:
        try:
            unknown = await self.hub.subscribe_latest(self.listener, request.channel, request)
        except DatabaseError as error:
            log.warning("feed.no_snapshot", error=str(error))
            self.listener.drop(request.channel)
            self._refuse(request, "unavailable", "The database does not answer; try again.")
            return
        if unknown:
            detail = f"There are no such markets: {', '.join(unknown)}."
            self._refuse(request, "unknown_key", detail)

    def _problem(self, request: Request) -> tuple[str, str] | None:
        """Return code and words of what is wrong with a subscription."""
        channel = request.channel
        if channel not in CHANNELS:
            return "unknown_channel", words.unknown([channel], CHANNELS)
        if channel not in self.listener.allowed:
            return "forbidden", f"Your account may not hear {channel}."
        if channel in self.listener.subscriptions:
            return "already_subscribed", f"{channel} is being told already; unsubscribe first."
        return _misfit(request)

    async def _unsubscribe(self, request: Request) -> None:
        if not self.listener.drop(request.channel):
            self._refuse(request, "not_subscribed", f"{request.channel} is not being told.")
            return
        told = {"op": "ack", "channel": request.channel, "mode": "off", "req": request.req}
        self._say(Told(words.encoded(told)))

    async def _credit(self, request: Request) -> None:
        self.listener.credit(request.seq)

    def _refuse(self, request: Request, code: str, detail: str) -> None:
        self._say(words.error(code, detail, req=request.req))

    def _say(self, told: Told) -> None:
        self.listener.say(told)

    def _is_flood(self) -> bool:
        now = self._now()
        flood = len(self._heard) == INBOUND_MAX and now - self._heard[0] < 1.0
        self._heard.append(now)
        return flood

    def _stop(self) -> None:
        """Leave the hub and drop what waits. Harmless when done twice."""
        self.hub.leave(self.listener)
        self.listener.forget()
        self._line.stop()
        for timer in self._timers:
            timer.cancel()


class FeedConsumer:
    """The feed as an ASGI application."""

    def __init__(self, hub: Hub = hub) -> None:
        self.hub = hub

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await FeedSocket(self.hub, scope, send).serve(receive)


def _misfit(request: Request) -> tuple[str, str] | None:
    """Return what a subscription asks of a channel that the channel cannot give."""
    if request.filter != words.EVERYTHING and request.channel != "signals":
        return "bad_request", f"{request.channel} takes no filter."
    unknown = request.filter.level - words.LEVELS
    if unknown:
        return "unknown_level", words.unknown(unknown, words.LEVELS)
    if request.channel == "quotes" and not 0 < len(request.keys) <= words.KEYS_MAX:
        return "bad_request", f"quotes takes 1 to {words.KEYS_MAX} market ids as `keys`."
    if request.channel != "quotes" and request.keys:
        return "bad_request", f"{request.channel} takes no keys."
    return None


def _req_of(text: str) -> int | str | None:
    """Return the `req` of a request that cannot be read as a whole."""
    try:
        req = msgspec.json.decode(text).get("req")
    except (msgspec.DecodeError, AttributeError):
        return None
    return req if isinstance(req, int | str) else None
