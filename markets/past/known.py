"""What was known at a moment of a stream of frames, so that reading can begin there (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from markets.books import Books
from markets.frames import Frame
from markets.listing import OVER, BadListing, EventTerms, decode_page, read_page
from markets.past.state import HeldBook, Page, State
from markets.problems import Problems

HOUSE = "house/"


class Known:
    """Takes frames and tells what they came to: pages, books and the desk's own frames."""

    def __init__(self) -> None:
        self._books = Books(Problems())
        self._house: dict[str, Frame] = {}  # by request
        self._pages: dict[str, Page] = {}  # by event
        self._events: dict[str, EventTerms] = {}

    def take(self, frame: Frame) -> None:
        if frame.ch == "gamma":
            self._listed(frame)
        elif frame.ch == "ws" and frame.req is None:
            self._books.feed(frame.body, frame.t, frame.conn)
        else:
            self._books.hear(frame)

    def at(self, t: int) -> State:
        """Return what must be told for frames from `t` (unix ns) on to be understood."""
        over = [pk for pk, event in self._events.items() if is_over(event)]
        for pk in over:
            self._pages.pop(pk, None)
        pages = sorted(dict.fromkeys(self._pages.values()), key=lambda page: page.t)
        books = self._books.by_market.values()
        held = tuple(HeldBook.of(book) for book in books if not book.state_note)
        return State(t, tuple(self._house.values()), tuple(pages), held)

    def _listed(self, frame: Frame) -> None:
        if frame.req is not None and frame.req.startswith(HOUSE):
            self._house[frame.req] = frame
            return
        try:
            events = read_page(decode_page(frame.body), rejected=[])
        except BadListing:
            return  # whoever replays the frames counts it
        page = Page(frame)
        for event in events:
            self._pages[event.event_id], self._events[event.event_id] = page, event
            for market in event.markets:
                if market.untradable in OVER:
                    self._books.drop(market.condition_id)
                else:
                    self._books.add(market)


def is_over(event: EventTerms) -> bool:
    return all(market.untradable in OVER for market in event.markets)


def begun_at(frames: Iterable[Frame], since: int | None, until: int | None) -> Iterator[Frame]:
    """Yield the frames of [since, until); what was known by `since` comes first, at that time."""
    known = Known() if since is not None else None
    for frame in frames:
        if until is not None and frame.t >= until:
            return
        if known is not None and since is not None:
            if frame.t < since:
                known.take(frame)
                continue
            yield from known.at(since)
            known = None
        yield frame
