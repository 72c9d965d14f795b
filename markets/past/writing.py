"""What a columnar store is written from: a day of ticks, or a recording."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from django.db.models import Min

from markets.book import NO_ASK, NO_BID, Book
from markets.books import Books
from markets.fills import SIZE_ONE
from markets.frames import Frame, moment, unix_ns
from markets.listing import OVER, BadListing, decode_page, page_items, read_page
from markets.models import Tick
from markets.past.listed import REQUEST
from markets.past.parquet import DAY_NS, start_of
from markets.past.store import Source, Written, write_frames, write_tops
from markets.past.terms import terms_between
from markets.past.ticks import SILENCE_NS, gap_rows, tops_between
from markets.past.tops import Top, unknown, with_breaks
from markets.past.value import Gap, NotAPast, Past
from markets.problems import Problems

TICKS = "ticks of this desk"


def write_day_of_ticks(folder: Path, day: date) -> Written | None:
    """Write one UTC day of the database's ticks; None if there is none. Can be repeated."""
    since = start_of(day)
    until = since + DAY_NS
    seen = (
        Tick.objects.filter(at__gte=moment(since), at__lt=moment(until))
        .values_list("market_id")
        .annotate(first=Min("at"))
    )
    first_seen = {pk: unix_ns(first) for pk, first in seen}
    terms = terms_between(since, until, first_seen=first_seen)
    whole, single = gap_rows(since, until)
    silences = _Silences()
    rows = (top for top in silences.watch(tops_between(since, until)) if top.market_id in terms.ids)
    source = Source(TICKS, "", lambda: [*whole, *silences.found])
    written = write_tops(folder, terms.pages, with_breaks(rows, single), kind="tops", source=source)
    return next(iter([*written]), None) if first_seen else None


class _Silences:
    """Notes while ticks go by where there was none of any market for too long."""

    def __init__(self) -> None:
        self.found: list[Gap] = []

    def watch(self, tops: Iterable[Top]) -> Iterator[Top]:
        last = 0
        for top in tops:
            if last and top.t - last > SILENCE_NS:
                self.found.append(Gap(last + SILENCE_NS, top.t, "no tick of any market"))
            last = top.t
            yield top


def write_recording(folder: Path, past: Past, *, tops: bool = False) -> Iterator[Written]:
    """Write the days of a recording: its frames as they are, or with `tops` its touch alone."""
    if past.kind != "books":
        raise NotAPast("is no recording: there is no depth in it", past.name)
    source = Source(past.name, past.sha256, lambda: past.gaps)
    if not tops:
        yield from write_frames(folder, past.frames(), source=source)
        return
    rows = _Touches().of(past.frames())
    yield from write_tops(folder, (), rows, kind="tops", source=source)


def _own_pages(frame: Frame) -> Iterator[Frame]:
    """Yield what a page lists, one event a frame, so that the newest of each can be told again."""
    if (frame.req or "").startswith("house/"):
        return
    try:
        objects = page_items(decode_page(frame.body))
    except BadListing:
        return  # whoever replays the recording counts it
    for each in objects:
        if isinstance(each, dict) and "id" in each:
            req = f"{REQUEST}{each['id']}"
            yield Frame(frame.t, "gamma", json.dumps(each).encode(), req=req)


class _Touches:
    """Follows the books of a recording and tells each change of a touch, sizes included."""

    def __init__(self) -> None:
        self._books = Books(Problems())
        self._told: dict[str, Top] = {}

    def of(self, frames: Iterable[Frame]) -> Iterator[Top | Frame]:
        for frame in frames:
            if frame.ch == "gamma":
                for page in _own_pages(frame):
                    self._listed(page)
                    yield page
                continue
            for book in self._changed(frame):
                top = _touch(book, frame.t)
                before = self._told.get(book.market_id)
                if before is None or before[2:] != top[2:]:
                    self._told[book.market_id] = top
                    yield top

    def _changed(self, frame: Frame) -> Iterable[Book]:
        if frame.ch == "ws" and frame.req is None:
            return self._books.feed(frame.body, frame.t, frame.conn)
        return self._books.hear(frame)

    def _listed(self, page: Frame) -> None:
        events = read_page(decode_page(page.body), rejected=[])
        for market in (market for event in events for market in event.markets):
            if market.untradable in OVER:
                self._books.drop(market.condition_id)
            else:
                self._books.add(market).hot = 1  # sizes move more often than prices


def _touch(book: Book, t: int) -> Top:
    if not book.evaluable:
        return unknown(t, book.market_id)
    return Top(
        t,
        book.market_id,
        book.bid,
        book.ask,
        0 if book.bid == NO_BID else int(float(book.bids[book.bid]) * SIZE_ONE),
        0 if book.ask == NO_ASK else int(float(book.asks[book.ask]) * SIZE_ONE),
    )
