"""Gamma, the venue's catalogue: listings by keyset, and single objects.

Pages come as raw bodies; what they mean is for `markets.listing`. Both
protocol versions are always asked for, because the server hides the second one
from those who do not name it (`polymarket-api.md` 0.1 and 2.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from markets.polymarket.http import BadRequest, Query, Unexpected, VenueError, VenueHttp
from markets.polymarket.wire import DECODE_ERRORS

PAGE = 100  # the most `/markets/keyset` gives, and about 2 MB of events
LIST = 100  # values a repeated parameter may have
MAX_PAGES = 10_000  # 160,000 active markets are 1,600 pages, all of history about 4,000
VERSIONS: Query = (("version", "v1"), ("version", "v2"))
EVENTS, MARKETS = "/events/keyset", "/markets/keyset"


class ListingLoops(VenueError):
    """A listing gives a cursor for the second time, or does not end."""

    kind = "listing_loops"
    permanent = True
    advice = "The rest of the listing is unknown; see whether the venue changed its paging"


class _Page(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw] | None = None
    markets: list[msgspec.Raw] | None = None
    next_cursor: str | None = None


class _Named(msgspec.Struct, frozen=True):
    id: str


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_named = msgspec.json.Decoder(_Named).decode


def cursor_after(page: bytes) -> str | None:
    """Return the cursor from which a listing goes on after this page; None at its end."""
    return _decode_page(page).next_cursor or None


class Gamma:
    def __init__(self, http: VenueHttp) -> None:
        self._http = http

    def event_pages(
        self,
        *,
        closed: bool = False,
        limit: int = PAGE,
        after: str | None = None,
        filters: Query = (),
    ) -> AsyncIterator[bytes]:
        """Walk the events, page by page; `after` is a `cursor_after` of an earlier walk.

        `filters` are further parameters of the route; a cursor is only good
        for the filters it came with. Raises VenueError.
        """
        return self._walk(EVENTS, _listing(closed, limit, filters), after=after)

    def market_pages(
        self,
        *,
        closed: bool = False,
        limit: int = PAGE,
        after: str | None = None,
        filters: Query = (),
    ) -> AsyncIterator[bytes]:
        """Walk the markets, page by page, as `event_pages` does the events."""
        return self._walk(MARKETS, _listing(closed, limit, filters), after=after)

    async def events_by_id(self, ids: Iterable[str]) -> AsyncIterator[bytes]:
        """Yield pages with these events, open or closed; unknown ones are left out.

        What the default listing leaves out is asked for among the closed events.
        """
        for chunk in _chunks(ids):
            left = dict.fromkeys(chunk)
            for query in (VERSIONS, (("closed", "true"), *VERSIONS)):
                wanted = [("id", each) for each in left]
                async for page in self._walk(EVENTS, (*wanted, *_limit(LIST), *query)):
                    for each in _event_ids(page):
                        left.pop(each, None)
                    yield page
                if not left:
                    break

    async def markets_by_condition(
        self, ids: Iterable[str], *, closed: bool = True
    ) -> AsyncIterator[bytes]:
        """Yield pages with the closed (or the open) ones among these conditions' markets."""
        for chunk in _chunks(ids):
            wanted = tuple(("condition_ids", each) for each in chunk)
            async for page in self._walk(MARKETS, _listing(closed, LIST, wanted)):
                yield page

    async def event(self, event_id: str) -> bytes:
        """Return one event with its markets. Raises NotFound or another VenueError."""
        return await self._http.get("gamma", f"/events/{_plain(event_id, '/events')}")

    async def market(self, market_id: str) -> bytes:
        """Return one market. Raises NotFound or another VenueError."""
        return await self._http.get("gamma", f"/markets/{_plain(market_id, '/markets')}")

    async def _walk(
        self, path: str, query: Query, *, after: str | None = None
    ) -> AsyncIterator[bytes]:
        seen = {after}
        cursor = after
        for _ in range(MAX_PAGES):
            step = (("after_cursor", cursor),) if cursor else ()
            body = await self._http.get("gamma", path, (*query, *step))
            cursor = _next(path, body)
            if cursor and cursor in seen:
                raise ListingLoops("gamma", path, "its pages go in a circle")
            yield body
            if not cursor:
                return
            seen.add(cursor)
        raise ListingLoops("gamma", path, f"no end after {MAX_PAGES:,} pages")


def _listing(closed: bool, limit: int, filters: Query) -> Query:
    state = ("closed", "true" if closed else "false")
    return (state, *_limit(limit), *VERSIONS, *filters)


def _limit(limit: int) -> Query:
    return (("limit", str(limit)),)


def _next(path: str, body: bytes) -> str | None:
    try:
        page = _decode_page(body)
    except DECODE_ERRORS:
        raise Unexpected("gamma", path, "the page is not as documented", status=200) from None
    rows = page.events if path == EVENTS else page.markets
    if rows is None:
        raise Unexpected("gamma", path, "the page has no list", status=200)
    return page.next_cursor or None


def _event_ids(page: bytes) -> Iterator[str]:
    for row in _decode_page(page).events or ():
        with contextlib.suppress(msgspec.DecodeError):  # a row without an id is not ours to judge
            yield _decode_named(row).id


def _chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    left = iter(dict.fromkeys(ids))
    while chunk := tuple(islice(left, LIST)):
        yield chunk


def _plain(given: str, path: str) -> str:
    """Return an id that may stand in a path. Raises BadRequest for anything else."""
    if given.isascii() and given.isdigit() and len(given) <= 20:
        return given
    raise BadRequest("gamma", path, "not an id of the venue; not asked for")
