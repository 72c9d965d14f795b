"""Keeping the catalogue equal to the venue's: all of it now and then, the news between.

A pass holds one page in memory at a time and writes only what differs. What
the venue has stopped listing is asked for by id, never just forgotten.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Protocol, TypeVar

from asgiref.sync import sync_to_async
from django.db import DataError, IntegrityError, OperationalError
from django.utils import timezone

from markets import catalogue
from markets.clob_listing import as_gamma, is_clob_page
from markets.connections import drop_dead_connections
from markets.listing import BadListing, EventTerms, decode_page, read_page
from markets.models import Market, SyncRun
from markets.relation_changes import invalidate_changed, note_listing

T = TypeVar("T")

AT_ONCE = 500  # markets written in one transaction: others get their turn between
ASKED_AT_ONCE = 100  # ids in one question to the venue
MOST_REASONS = 40  # kinds of rejection kept apart
MOST_NEWS_PAGES = 20  # more new markets than these hold is work for a full pass
DUE_AT_ONCE = 1_000  # markets asked for a result in one pass


class Venue(Protocol):
    """What a sync asks the venue; `markets.polymarket.gamma.Gamma` is one."""

    def event_pages(self) -> AsyncIterator[bytes]: ...
    def market_pages(self, *, filters: Sequence[tuple[str, str]]) -> AsyncIterator[bytes]: ...
    def events_by_id(self, ids: Iterable[str]) -> AsyncIterator[bytes]: ...
    def markets_by_condition(self, ids: Iterable[str], *, closed: bool) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What one pass did.

    `events` and `markets` are those the venue told of, each counted once, and
    `repeated` markets told of again; `stored` are the rows written for them.
    `rejected` are objects that could not be stored, by reason; `vanished` the
    markets that were not listed any more, by what asking for them by id gave.
    `invalidated` counts relations that rested on something that is different now.
    """

    kind: str
    pages: int
    events: int
    markets: int
    repeated: int
    stored: int
    unchanged: int
    changes: int
    rejected: Mapping[str, int]
    vanished: Mapping[str, int]
    invalidated: int = 0

    def __str__(self) -> str:
        told = (
            f"{self.events} events and {self.markets} markets on {self.pages} pages: "
            f"{self.stored} rows stored, {self.unchanged} markets unchanged, "
            f"{sum(self.rejected.values())} objects rejected"
        )
        gone = f", {sum(self.vanished.values())} markets vanished" if self.vanished else ""
        out = f", {self.invalidated} relations invalidated" if self.invalidated else ""
        return told + gone + out


class Tally:
    """Stores what pages tell and counts what came of it. Every market is taken once a pass."""

    def __init__(self, kind: str, *, at: datetime) -> None:
        self.kind = kind
        self.at = at
        self.events: set[str] = set()
        self.markets: set[str] = set()
        self.unreadable: set[str] = set()  # ids of markets whose object could not be understood
        self.rejected: Counter[str] = Counter()
        self.vanished: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._differing: set[str] = set()  # on the page at hand

    def result(self) -> SyncResult:
        counts = self._counts
        return SyncResult(
            kind=self.kind,
            pages=counts["pages"],
            events=len(self.events),
            markets=len(self.markets),
            repeated=counts["repeated"],
            stored=counts["stored"],
            unchanged=counts["unchanged"],
            changes=counts["changes"],
            rejected=dict(self.rejected),
            vanished=dict(self.vanished),
            invalidated=counts["invalidated"],
        )

    def take(self, body: bytes) -> None:
        """Store what one body tells: a page of Gamma's events or markets, or of the CLOB's."""
        self.take_page(self.decoded(body))

    def take_page(self, page: object) -> None:
        """Store what a page tells for the first time in this pass."""
        drop_dead_connections()
        self._counts["pages"] += 1
        self._differing.clear()
        for group in _groups(self._fresh(self.read(page))):
            self._write(group)
        self._counts["invalidated"] += len(
            _once_more(lambda: note_listing(page, self._differing, at=self.at))
        )

    def decoded(self, body: bytes) -> object:
        """Return the page, or an empty one where the body is none; that is counted."""
        try:
            return decode_page(body)
        except BadListing as bad:
            self.reject([bad])
            return []

    def read(self, page: object) -> tuple[EventTerms, ...]:
        """Return the page's events; what cannot be understood is counted."""
        rejected: list[BadListing] = []
        try:
            if is_clob_page(page):
                spelled = as_gamma(page, rejected=rejected)
                return self._settle_known(read_page(spelled, rejected=rejected))
            return read_page(page, rejected=rejected)
        except BadListing as bad:
            rejected.append(bad)
            return ()
        finally:
            self.reject(rejected)

    def _settle_known(self, events: tuple[EventTerms, ...]) -> tuple[EventTerms, ...]:
        """Take only results for markets that Gamma has told more of; return the others."""
        conditions = [market.condition_id for event in events for market in event.markets]
        known = catalogue.known_conditions(conditions)
        found: dict[str, Decimal | None] = {}
        others = []
        for event in events:
            kept = [market for market in event.markets if market.condition_id not in known]
            for market in event.markets:
                if market.condition_id in known:
                    found[known[market.condition_id]] = market.payout
            if kept:
                others.append(replace(event, markets=tuple(kept)))
        settled = catalogue.settle(found, at=self.at)
        self.markets |= found.keys()
        self._differing |= {pk for pk, payout in found.items() if payout is not None}
        self._counts.update(stored=settled, unchanged=len(found) - settled)
        return tuple(others)

    def reject(self, found: Iterable[BadListing]) -> None:
        for bad in found:
            self.rejected[self._reason(bad)] += 1
            if bad.market_id:
                self.unreadable.add(bad.market_id)

    def gone(self, market_ids: Sequence[str], *, called: str) -> None:
        self.vanished[called] += len(market_ids)
        self._counts["stored"] += catalogue.unlist(market_ids, at=self.at)
        self._counts["invalidated"] += len(invalidate_changed(market_ids, at=self.at))

    def _reason(self, bad: BadListing) -> str:
        """Name a reason without the value at fault, so that equal ones count together."""
        what = re.sub(r"'[^']*'|\"[^\"]*\"", "…", bad.reason)
        reason = f"{bad.field}: {what}"[:120]
        full = len(self.rejected) >= MOST_REASONS and reason not in self.rejected
        return "(others)" if full else reason

    def _fresh(self, events: Iterable[EventTerms]) -> Iterator[EventTerms]:
        """Leave out what this pass has had: a row may move between two pages of a walk."""
        for event in events:
            ids = {market.market_id for market in event.markets}
            self._counts["repeated"] += len(event.markets) - len(ids - self.markets)
            if event.event_id in self.events and ids <= self.markets:
                continue
            self.events.add(event.event_id)
            self.markets |= ids
            yield event

    def _write(self, events: tuple[EventTerms, ...]) -> None:
        """Write events together; what the database refuses is found by writing them apart."""
        try:
            written = _once_more(lambda: catalogue.write(events, seen_at=self.at))
        except (DataError, IntegrityError, ValueError, OverflowError) as error:
            if len(events) == 1:
                self.markets -= {market.market_id for market in events[0].markets}
                self.reject(_refused(events[0], error))
                return
            for event in events:
                self._write((event,))
            return
        self.markets -= {bad.market_id for bad in written.refused}
        self.reject(written.refused)
        self._differing |= written.differing
        self._counts.update(
            stored=written.rows, unchanged=written.unchanged, changes=written.changes
        )


def _once_more(step: Callable[[], T]) -> T:
    """Do a step; do it again where two processes have locked each other out."""
    try:
        return step()
    except OperationalError:
        drop_dead_connections()
        return step()


def _refused(event: EventTerms, error: Exception) -> Iterator[BadListing]:
    reason = f"the database refuses it ({type(error).__name__})"
    for market in event.markets:
        yield BadListing("event", reason, market_id=market.market_id)
    if not event.markets:
        yield BadListing("event", reason)


def _groups(events: Iterable[EventTerms]) -> Iterator[tuple[EventTerms, ...]]:
    """Cut into groups of whole events with about `AT_ONCE` markets."""
    group: list[EventTerms] = []
    size = 0
    for event in events:
        group.append(event)
        size += len(event.markets)
        if size >= AT_ONCE:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


# --- passes ----------------------------------------------------------------


async def full(venue: Venue, *, at: datetime) -> SyncResult:
    """Take over everything the venue lists as open, and find out about what it lists no more.

    Raises VenueError where a listing breaks off; what came before it is stored,
    and nothing is taken for vanished.
    """
    async with _run(SyncRun.Kind.FULL, at) as tally:
        async for page in _ahead(venue.event_pages()):
            await in_database(tally.take, page)
        missing = await in_database(_unlisted_now, tally)
        await _look_up(venue, missing, tally)
    return tally.result()


async def news(venue: Venue, *, watched: Sequence[str], at: datetime) -> SyncResult:
    """Take over what was listed since the last look, and see which watched conditions closed.

    A new market comes with its whole event, whose other outcomes it may change.
    """
    async with _run(SyncRun.Kind.NEWS, at) as tally:
        events = await _new_events(venue, tally)
        async for page in venue.events_by_id(events):
            await in_database(tally.take, page)
        async for page in venue.markets_by_condition(watched, closed=True):
            await in_database(tally.take, page)
    return tally.result()


async def results(venue: Venue, *, at: datetime) -> SyncResult:
    """Ask for the markets past their end: what the feed does not tell is only seen this way."""
    async with _run(SyncRun.Kind.RESULTS, at) as tally:
        due = await in_database(_due, at)
        conditions = list(due.values())
        async for page in venue.markets_by_condition(conditions, closed=True):
            await in_database(tally.take, page)
        await in_database(_checked, list(due), at)
    return tally.result()


async def files(pages: Iterable[object], *, at: datetime) -> SyncResult:
    """Take over pages that were kept: lists of objects of Gamma, or pages of the CLOB."""
    async with _run(SyncRun.Kind.FILES, at) as tally:
        for page in pages:
            await in_database(tally.take_page, page)
    return tally.result()


@asynccontextmanager
async def _run(kind: SyncRun.Kind, at: datetime) -> AsyncIterator[Tally]:
    """Keep a row about a pass, whatever becomes of it."""
    tally = Tally(kind, at=at)
    run = await in_database(_begin, kind, at)
    try:
        yield tally
    except BaseException as error:
        cut = isinstance(error, asyncio.CancelledError)
        told = "it took too long, or the process ended" if cut else f"{error}"
        # A database that is away cannot be told; what is raised then says so.
        with suppress(OperationalError):
            await asyncio.shield(in_database(_end, run, tally, told or type(error).__name__))
        raise
    await in_database(_end, run, tally, "")


def _begin(kind: SyncRun.Kind, at: datetime) -> SyncRun:
    return SyncRun.objects.create(kind=kind, started_at=at)


def _end(run: SyncRun, tally: Tally, error: str) -> None:
    drop_dead_connections()
    result = tally.result()
    run.ended_at = timezone.now()
    run.pages, run.events, run.markets = result.pages, result.events, result.markets
    run.stored, run.unchanged, run.changes = result.stored, result.unchanged, result.changes
    run.rejected, run.vanished = dict(result.rejected), dict(result.vanished)
    run.error = error[:2_000]
    run.save()


# --- what vanished ---------------------------------------------------------


def _unlisted_now(tally: Tally) -> dict[str, str]:
    """Return the condition of each stored market that should be listed as open and was not."""
    stored = Market.objects.unfinished().values_list("id", "condition_id")
    return {pk: condition for pk, condition in stored.iterator(5_000) if pk not in tally.markets}


async def _look_up(venue: Venue, missing: Mapping[str, str], tally: Tally) -> None:
    """Ask for markets by id, among the closed ones first; what nobody knows is unlisted."""
    for chunk in _chunks(missing, ASKED_AT_ONCE):
        left = {pk: missing[pk] for pk in chunk if missing[pk]}
        for closed in (True, False):
            async for page in venue.markets_by_condition(left.values(), closed=closed):
                await in_database(tally.take, page)
            left = {pk: c for pk, c in left.items() if pk not in tally.markets}
            if not left:
                break
        await in_database(_settle, chunk, tally)


def _settle(asked: Sequence[str], tally: Tally) -> None:
    told = [pk for pk in asked if pk in tally.markets]
    for state in Market.objects.filter(pk__in=told).values_list("state", flat=True):
        tally.vanished[state.lower()] += 1
    spoilt = [pk for pk in asked if pk not in tally.markets and pk in tally.unreadable]
    unknown = [pk for pk in asked if pk not in tally.markets and pk not in tally.unreadable]
    if spoilt:
        tally.gone(spoilt, called="unreadable")
    if unknown:
        tally.gone(unknown, called="unknown")
    _checked(asked, tally.at)


def _checked(market_ids: Sequence[str], at: datetime) -> None:
    Market.objects.filter(pk__in=market_ids).update(checked_at=at)


# --- what is new or due ----------------------------------------------------

NEWEST_FIRST = (("order", "createdAt"), ("ascending", "false"))


async def _new_events(venue: Venue, tally: Tally) -> list[str]:
    """Walk the newest markets until a page has only known ones; return the new ones' events.

    A market without an event is stored at once.
    """
    events: dict[str, None] = {}
    number = 0
    async for page in venue.market_pages(filters=NEWEST_FIRST):
        number += 1
        found, alone = await in_database(_unknown, page, tally)
        events.update(dict.fromkeys(found))
        if not (found or alone) or number == MOST_NEWS_PAGES:
            break
    return list(events)


def _unknown(body: bytes, tally: Tally) -> tuple[list[str], bool]:
    """Return the events of the page's markets that are not stored, and whether any has none."""
    page = tally.decoded(body)
    events = tally.read(page)
    ids = {market.market_id: market.event_id for event in events for market in event.markets}
    stored = set(Market.objects.filter(pk__in=ids).values_list("id", flat=True))
    new = {pk: event_id for pk, event_id in ids.items() if pk not in stored}
    alone = any(event_id is None for event_id in new.values())
    if alone:
        tally.take_page(page)
    return list(dict.fromkeys(event_id for event_id in new.values() if event_id)), alone


def _due(at: datetime) -> dict[str, str]:
    due = Market.objects.due_for_resolution(at).values_list("id", "condition_id")
    return dict(due[:DUE_AT_ONCE])


# --- plumbing --------------------------------------------------------------

in_database = sync_to_async(lambda step, *given: step(*given), thread_sensitive=True)


async def _ahead(pages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Fetch the next page while this one is stored; never more than one is waiting."""
    coming = asyncio.ensure_future(_next(pages))
    try:
        while (page := await coming) is not None:
            coming = asyncio.ensure_future(_next(pages))
            yield page
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming


async def _next(pages: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pages, None)


def _chunks(values: Iterable[str], size: int) -> Iterator[list[str]]:
    left = iter(values)
    while chunk := list(islice(left, size)):
        yield chunk
