"""HTTP to the venue: our own pace, total deadlines, capped bodies, errors that carry the decision.

Everything here reads; nothing here can place an order. Hosts, clocks and
randomness are passed in. The facts about limits and refusals are those of
`polymarket-api.md` sections 1.1 and 1.2.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from markets.frames import Frame
from markets.polymarket.wire import DECODE_ERRORS

Service = Literal["gamma", "clob"]
Mode = Literal["restarting", "cancel_only", "post_only"]
Query = Sequence[tuple[str, str]]  # a list goes as repeated names

NAMES: dict[Service, str] = {"gamma": "Gamma", "clob": "CLOB"}
BATCH_READS = frozenset({"/books"})  # POSTs that change nothing at the venue
BODY_CAP = 32_000_000  # bytes; the largest page seen, 100 events, was about 2 MB
REFUSAL_CAP = 16_384  # bytes of a refusal that are looked at
LONGEST_PAUSE = 300.0  # seconds; more than this nobody is believed when asking us to wait
HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",  # 194 kB of gzip may be 200 MB of text
    "user-agent": "MarketPulse-X (read only)",
}

# --- errors ---------------------------------------------------------------


class VenueError(Exception):
    """The venue gave no usable answer; the attributes say what can be done about it.

    `permanent`: the same request will be refused again, so do not repeat it as
    it is. `retry_after`: seconds before which asking again is pointless; None
    means nobody said. `mode`: what the venue's engine is in, if it told.
    `status`: the HTTP status; None if there was none. The text is for
    operators and never has the query in it.
    """

    kind: ClassVar[str] = "failed"
    permanent: ClassVar[bool] = False
    advice: ClassVar[str] = "MPX tries again by itself"

    def __init__(
        self,
        service: Service,
        path: str,
        what: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(service, path, what)
        self.service = service
        self.path = path
        self.what = what
        self.status = status
        self.retry_after = retry_after
        self.mode = mode

    def __str__(self) -> str:
        return f"{NAMES[self.service]} {self.path}: {self.what}. {self.advice}."


class NotFound(VenueError):
    kind = "not_found"
    permanent = True
    advice = "The id is not listed yet or has ended; Gamma can tell by id"


class BadRequest(VenueError):
    kind = "bad_request"
    permanent = True
    advice = "Drop the id, or see whether the venue changed its interface"


class RateLimited(VenueError):
    kind = "rate_limited"
    advice = "MPX slows down by itself; see whether others use the venue from this address"


class Restarting(VenueError):
    kind = "restarting"
    advice = "The matching engine restarts; MPX tries again by itself"


class Restricted(VenueError):
    """The venue takes no normal orders at the moment; `mode` says which it still takes."""

    kind = "restricted"
    advice = "Do not approve trades until it is over; monitoring goes on"


class Blocked(VenueError):
    kind = "blocked"
    advice = "See from this machine whether the venue blocks its country or address"


class ServerFault(VenueError):
    kind = "server_fault"


class Unreachable(VenueError):
    kind = "unreachable"
    advice = "Check the network and POLYMARKET_GAMMA_URL or POLYMARKET_CLOB_URL"


class TooSlow(VenueError):
    kind = "too_slow"


class CutShort(VenueError):
    kind = "cut_short"


class NotJson(VenueError):
    kind = "not_json"
    advice = "A proxy or a maintenance page may have answered; MPX tries again by itself"


class Unexpected(VenueError):
    """The answer is JSON, but not of the documented shape."""

    kind = "unexpected"
    permanent = True
    advice = "See whether the venue changed its interface"


class TooLarge(VenueError):
    kind = "too_large"
    permanent = True
    advice = "Ask for less at a time; nothing of the answer was used"


class Compressed(VenueError):
    kind = "compressed"
    permanent = True
    advice = "Plain text was asked for; see whether a proxy compresses answers"


class Redirected(VenueError):
    kind = "redirected"
    permanent = True
    advice = "Redirects are not followed; check POLYMARKET_GAMMA_URL or POLYMARKET_CLOB_URL"


# --- our pace -------------------------------------------------------------

WINDOW_SECONDS = 10.0
SHARE = 3  # we use at most one part in three of what is documented
DOCUMENTED: dict[tuple[Service, str], int] = {  # requests per 10 s, by first part of the path
    ("gamma", ""): 4000,
    ("gamma", "events"): 500,
    ("gamma", "markets"): 300,  # a third of both is also below a third of their joint 900
    ("clob", ""): 9000,
    ("clob", "book"): 1500,
    ("clob", "books"): 500,
    ("clob", "ok"): 100,
}
SLOTS = 8  # requests of one route that are under way at the same time


class Pace:
    """A token bucket: lets at most `allowed` pass in any 10 s, however they are asked for.

    Kept as the moment at which the bucket would be full again. Times are
    seconds of one monotonic clock; `allowed` is at least 2.
    """

    def __init__(self, allowed: int) -> None:
        burst = max(1, allowed // 10)
        self._interval = WINDOW_SECONDS / (allowed - burst)
        self._slack = (burst - 1) * self._interval
        self._full_at = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until the next one may pass; 0 means now."""
        return max(0.0, self._full_at - self._slack - now)

    def take(self, now: float) -> None:
        self._full_at = max(self._full_at, now) + self._interval

    def hold(self, until: float) -> None:
        """Let none pass before `until`, and no burst just after it."""
        self._full_at = max(self._full_at, until + self._slack)


class _Route:
    """Requests that share a limit: their own pace, the service's, and their slots."""

    def __init__(self, *paces: Pace) -> None:
        self.paces = paces
        self.slots = asyncio.Semaphore(SLOTS)

    def wait(self, now: float) -> float:
        return max(pace.wait(now) for pace in self.paces)

    def take(self, now: float) -> None:
        for pace in self.paces:
            pace.take(now)

    def hold(self, until: float) -> None:
        self.paces[0].hold(until)


def _routes() -> dict[tuple[Service, str], _Route]:
    paces = {key: Pace(limit // SHARE) for key, limit in DOCUMENTED.items()}
    return {
        (service, part): _Route(pace, paces[service, ""]) if part else _Route(pace)
        for (service, part), pace in paces.items()
    }


# --- patience -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try, in seconds.

    `request` bounds one try from connecting to its last byte. No try is begun
    once `total` has passed since the request was made.
    """

    connect: float = 5.0
    request: float = 8.0
    total: float = 30.0
    tries: int = 4
    backoff: float = 1.0
    backoff_cap: float = 30.0


def backoff(tried: int, *, first: float, cap: float, draw: Callable[[], float]) -> float:
    """Return the seconds to wait after the `tried`-th try: full jitter below a doubling bound.

    `draw` gives a number in [0, 1).
    """
    return draw() * min(cap, first * 2.0 ** min(tried - 1, 30))


def pause_of(value: str | None, *, now: float) -> float | None:
    """Read a `Retry-After`: seconds or an HTTP date, against `now` in unix seconds.

    Returns seconds between 0 and `LONGEST_PAUSE`; None if absent or unreadable.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_PAUSE)


# --- refusals -------------------------------------------------------------


class _Words(msgspec.Struct, frozen=True):
    """What a refusal may say."""

    error: str = ""
    code: str = ""
    retry_after_seconds: float | None = None


_decode_words = msgspec.json.Decoder(_Words).decode

_BY_STATUS: dict[int, tuple[type[VenueError], str]] = {
    400: (BadRequest, "it does not understand the request (400)"),
    404: (NotFound, "not found (404)"),
    408: (ServerFault, "it gave up waiting for the request (408)"),
    422: (BadRequest, "it does not accept the parameters (422)"),
    425: (Restarting, "restarting (425)"),
    429: (RateLimited, "too many requests (429)"),
}


def _refusal(ask: _Ask, status: int, body: bytes, pause: str | None, now: float) -> VenueError:
    words = _words(body)
    retry_after = pause_of(pause, now=now)
    if retry_after is None and words.retry_after_seconds is not None:
        retry_after = pause_of(str(words.retry_after_seconds), now=now)
    mode = _mode(status, words)
    kind, what = _kind(status, mode)
    return kind(ask.service, ask.path, what, status=status, retry_after=retry_after, mode=mode)


def _words(body: bytes) -> _Words:
    try:
        return _decode_words(body)
    except DECODE_ERRORS:
        return _Words()  # a page for people


def _mode(status: int, words: _Words) -> Mode | None:
    if status == 425:
        return "restarting"
    if status != 503:
        return None
    if words.code == "post_only_mode" or "post-only" in words.error.lower():
        return "post_only"
    return "cancel_only" if "cancel-only" in words.error.lower() else None


def _kind(status: int, mode: Mode | None) -> tuple[type[VenueError], str]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if mode:
        return Restricted, f"{mode.replace('_', '-')} mode ({status})"
    if 300 <= status < 400:
        return Redirected, f"it points elsewhere ({status})"
    if status >= 500:
        return ServerFault, f"it failed ({status})"
    return BadRequest, f"it refused ({status})"


def _blocked(ask: _Ask, response: httpx.Response) -> Blocked:
    """Name who refused us, by the headers alone: the page itself is for people."""
    headers = response.headers
    wall = "cloudflare" in headers.get("server", "").lower() or "cf-mitigated" in headers
    page = "html" in headers.get("content-type", "")
    what = f"access denied ({response.status_code})"
    if wall or page:
        what += f" by {'Cloudflare' if wall else 'an HTML page'} in front of the venue"
    return Blocked(
        ask.service, ask.path, what, status=response.status_code, retry_after=LONGEST_PAUSE
    )


def _why(error: httpx.TransportError) -> str:
    """Say why no answer came, by what lies under httpx's error."""
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection within the time allowed"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"no trusted connection (TLS: {cause.reason or 'failed'})"
        if isinstance(cause, socket.gaierror):
            return "its name is not found (DNS)"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return "the connection was cut before an answer came"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


# --- the client -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ask:
    service: Service
    method: str
    path: str
    query: str
    content: bytes | None = None

    @property
    def req(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def route(self) -> tuple[Service, str]:
        key = (self.service, self.path.split("/")[1])
        return key if key in DOCUMENTED else (self.service, "")


class VenueHttp:
    """Reads from the venue's two HTTP services; use it as an async context manager.

    `on_answer` is given every good JSON body at once, as a frame. `wall` tells
    unix ns, `monotonic` and `sleep` are in seconds, `draw` gives a number in
    [0, 1). `counts` has, per service: `gamma.requests` (tries), `gamma.answers`,
    `gamma.retries` and `gamma.errors.<kind>`.
    """

    def __init__(
        self,
        *,
        gamma_url: str,
        clob_url: str,
        on_answer: Callable[[Frame], None] | None = None,
        patience: Patience | None = None,
        body_cap: int = BODY_CAP,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._bases: dict[Service, str] = {"gamma": _base(gamma_url), "clob": _base(clob_url)}
        self._on_answer = on_answer
        self._patience = patience or Patience()
        self._body_cap = body_cap
        self._wall, self._monotonic, self._sleep, self._draw = wall, monotonic, sleep, draw
        self._routes = _routes()
        self._client = httpx.AsyncClient(
            headers=HEADERS,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(None, connect=self._patience.connect),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=2 * SLOTS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, service: Service, path: str, query: Query = ()) -> bytes:
        """Return the JSON body of a GET. Raises VenueError."""
        ask = _Ask(service, "GET", path, urlencode(query))
        return await self._persist(ask, self._json)

    async def get_text(self, service: Service, path: str) -> str:
        """Return the body of a GET that need not be JSON; it is no frame. Raises VenueError."""
        body = await self._persist(_Ask(service, "GET", path, ""), self._body)
        return body.decode("utf-8", errors="replace").strip()

    async def post(self, service: Service, path: str, content: bytes) -> bytes:
        """Return the JSON body of one of the venue's batch reads. Raises VenueError."""
        if path not in BATCH_READS:
            raise ValueError(f"POST {path} is not known to change nothing at the venue")
        return await self._persist(_Ask(service, "POST", path, "", content), self._json)

    async def _persist(self, ask: _Ask, once: Callable[[_Ask], Awaitable[bytes]]) -> bytes:
        """Try until there is an answer, or trying again makes no sense or takes too long."""
        route = self._routes[ask.route]
        ends_at = self._monotonic() + self._patience.total
        for tried in itertools.count(1):
            try:
                async with route.slots:
                    await self._turn(ask, route)
                    return await once(ask)
            except VenueError as error:
                self.counts[f"{ask.service}.errors.{error.kind}"] += 1
                delay = max(error.retry_after or 0.0, self._backoff(tried))
                now = self._monotonic()
                if isinstance(error, RateLimited):
                    route.hold(now + delay)  # the others of this route wait too
                if error.permanent or tried == self._patience.tries or now + delay > ends_at:
                    raise
            self.counts[f"{ask.service}.retries"] += 1
            await self._sleep(delay)
        raise AssertionError("unreachable")

    def _backoff(self, tried: int) -> float:
        patience = self._patience
        return backoff(tried, first=patience.backoff, cap=patience.backoff_cap, draw=self._draw)

    async def _turn(self, ask: _Ask, route: _Route) -> None:
        """Wait for our turn; refuse at once where the venue asked for a longer pause than that."""
        while (wait := route.wait(self._monotonic())) > 0:
            if wait > self._patience.total:
                raise RateLimited(ask.service, ask.path, "it asked us to pause", retry_after=wait)
            await self._sleep(wait)
        route.take(self._monotonic())

    async def _json(self, ask: _Ask) -> bytes:
        body = await self._body(ask)
        received = self._wall()
        try:
            msgspec.json.decode(body, type=msgspec.Raw)  # walks all of it, builds nothing
        except DECODE_ERRORS:
            raise NotJson(ask.service, ask.path, "the answer is not JSON", status=200) from None
        if self._on_answer:
            self._on_answer(Frame(received, ask.service, body, None, ask.req))
        return body

    async def _body(self, ask: _Ask) -> bytes:
        """Return the body of one try, whole and within its deadline."""
        self.counts[f"{ask.service}.requests"] += 1
        url = self._bases[ask.service] + ask.req
        try:
            async with (
                asyncio.timeout(self._patience.request),
                self._client.stream(ask.method, url, content=ask.content) as response,
            ):
                body = await self._accepted(ask, response)
        except TimeoutError:
            what = f"no full answer within {self._patience.request:g} s"
            raise TooSlow(ask.service, ask.path, what) from None
        except httpx.TransportError as error:
            what = f"{urlsplit(url).netloc}: {_why(error)}"
            raise Unreachable(ask.service, ask.path, what) from error
        self.counts[f"{ask.service}.answers"] += 1
        return body

    async def _accepted(self, ask: _Ask, response: httpx.Response) -> bytes:
        if response.status_code in (401, 403, 451):
            raise _blocked(ask, response)
        if not response.is_success:
            body = await _short_body(response)
            pause, now = response.headers.get("retry-after"), self._wall() / 1e9
            raise _refusal(ask, response.status_code, body, pause, now)
        if _is_coded(response):
            raise Compressed(ask.service, ask.path, "the answer is compressed", status=200)
        try:
            return await self._capped(ask, response)
        except httpx.TransportError as error:
            raise CutShort(ask.service, ask.path, "the answer broke off", status=200) from error

    async def _capped(self, ask: _Ask, response: httpx.Response) -> bytes:
        body = bytearray()
        announced = int(response.headers.get("content-length", 0))
        if announced <= self._body_cap:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._body_cap:
                    break
            else:
                return bytes(body)
        what = f"the answer is larger than {self._body_cap:,} bytes"
        raise TooLarge(ask.service, ask.path, what, status=200)


def _base(url: str) -> str:
    parts = urlsplit(url)
    odd = not parts.hostname or parts.username or parts.query or parts.fragment
    if odd or parts.scheme not in ("http", "https"):
        raise ValueError("the address of a venue's service must be http(s)://host[:port][/path]")
    return url.rstrip("/")


def _is_coded(response: httpx.Response) -> bool:
    coding: str = response.headers.get("content-encoding", "identity")
    return coding.strip().lower() != "identity"


async def _short_body(response: httpx.Response) -> bytes:
    """Return what a refusal says; b"" where that is long, compressed or cut."""
    body = b""
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > REFUSAL_CAP:
                return b""
    except httpx.TransportError:
        return b""
    return b"" if _is_coded(response) else body
