"""The paper venue, inside the stream: it fills orders on the live books and touches no database.

An order is walked on the first book of its market that arrives after the
order's latency, never on the book that triggered it. Where the venue stays
silent on an unbroken connection for `quiet`, the book as it stands is that
book: a change would have been told.

The stream calls `on_frame` after each frame and `on_time` now and then; both
are quick and read no clock. `execution.desk` carries orders in and answers out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from execution.matching import (
    Footprints,
    Match,
    NoMatch,
    Order,
    Side,
    Take,
    match,
    sale_ladder,
    thinned,
)
from execution.tickets import BookSeen, Key, Report, Ticket
from markets.book import Book, Stamp
from markets.books import Books
from markets.fills import PRICE_ONE, Ladder, mirrored
from markets.frames import moment
from markets.polymarket.wire import last_stamp

MS = 1_000_000
SALE_NS = 60_000 * MS
LEVELS_SHOWN = 25  # of each side, for those that look from elsewhere


@dataclass(frozen=True, slots=True)
class PaperTerms:
    """How the paper venue behaves. Times in ms.

    `quiet_ms` None: wait for a frame, however long. `depth_share` is the part of
    displayed sizes that can be had.
    """

    latency_ms: int = 250
    leg_gap_ms: int = 20
    quiet_ms: int | None = 1_000
    depth_share: Decimal = Decimal(1)


@dataclass(slots=True)
class _Working:
    """An order on its way or at the venue. Times in unix ns; `seen` is the book before it came."""

    ticket: Ticket
    arrives_at: int
    deadline: int
    stamp: Stamp | bytes
    seen: Stamp


@dataclass(frozen=True, slots=True)
class BookNow:
    """A market's book for the database; see `LiveBook`."""

    market_id: str
    state: str
    epoch: int
    bids: Ladder
    asks: Ladder
    changed_at: datetime
    seen_at: datetime


class PaperBroker:
    """Orders in, reports out. Used by one thread; `accept` and `reports` are safe from another.

    `started` (unix ns) tells this process from earlier ones: a restart is a gap too.
    """

    def __init__(self, books: Books, *, terms: PaperTerms | None = None, started: int) -> None:
        self.books = books
        self._first_epoch = started // MS
        self.terms = terms or PaperTerms()
        self.footprints = Footprints()
        self.reports: deque[Report] = deque()
        self.last_frame_at = 0
        self._arriving: deque[Ticket] = deque()
        self._working: dict[Key, _Working] = {}
        self._answered: set[Key] = set()  # reported, not yet stored
        self._done: deque[Key] = deque()
        self._recalled: deque[tuple[tuple[Take, ...], str, int, Side]] = deque()
        self._shown: dict[str, tuple[object, ...]] = {}

    @property
    def working(self) -> int:
        """Return how many orders are on their way or at the venue."""
        return len(self._working)

    def accept(self, tickets: Iterable[Ticket]) -> None:
        """Take orders in; those that are at work or answered already are the same order."""
        self._arriving.extend(tickets)

    def forget(self, key: Key) -> None:
        """The answer to this order is stored; should it come again it is a new order."""
        self._done.append(key)

    def recall(self, takes: tuple[Take, ...], market_id: str, outcome: int, side: Side) -> None:
        """Respect what an earlier process took of a book."""
        self._recalled.append((takes, market_id, outcome, side))

    def on_frame(self, at: int, keys: Iterable[Key] | None = None) -> None:
        """Look at the orders after a frame that came at a time (unix ns).

        `keys` are those that it can concern, where the caller knows: of the frame's market, or
        with a time that has come. None: all.
        """
        self.last_frame_at = at
        if self._working or self._arriving or self._done:
            self._advance(at, keys)

    def on_time(self, at: int, keys: Iterable[Key] | None = None) -> None:
        """Let time pass without a frame; `keys` as for `on_frame`."""
        while self._recalled:
            takes, market_id, outcome, side = self._recalled.popleft()
            self.footprints.leave(takes, market_id=market_id, outcome=outcome, side=side)
        if self._working or self._arriving or self._done:
            self._advance(at, keys)

    def _advance(self, at: int, keys: Iterable[Key] | None = None) -> None:
        while self._done:
            self._answered.discard(self._done.popleft())
        while self._arriving:
            self._start(self._arriving.popleft(), at)
        for key in list(self._working if keys is None else keys):
            if key in self._working:
                self._look(self._working[key], at)

    def _start(self, ticket: Ticket, at: int) -> None:
        if ticket.key in self._working or ticket.key in self._answered:
            return
        book = self.books.by_market.get(ticket.condition_id)
        if book is None:
            return  # another stream holds this market
        latency = self.terms.latency_ms if ticket.latency_ms is None else ticket.latency_ms
        delay = latency + self.terms.leg_gap_ms * ticket.place
        deadline = round(ticket.deadline.timestamp() * 1e9)
        if ticket.order.side == "SELL":  # who was away has the same time to sell
            deadline = max(deadline, at + SALE_NS)
        self._working[ticket.key] = _Working(
            ticket,
            arrives_at=at + delay * MS,
            deadline=deadline,
            stamp=book.stamp,
            seen=_content(book),
        )

    def _look(self, working: _Working, at: int) -> None:
        book = self.books.by_market.get(working.ticket.condition_id)
        if book is None or at > working.deadline:
            self._answer(working, NoMatch("NO_BOOK"), book, at, basis="none")
            return
        news = self._has_news(working, book)
        if at < working.arrives_at:
            return
        if news and trusted(book):
            self._walk(working, book, at, basis="frame")
        elif self._quiet(working, at) and trusted(book):
            self._walk(working, book, at, basis="quiet")

    def _has_news(self, working: _Working, book: Book) -> bool:
        """Say whether the book is another since the order came; before that, follow it."""
        if book.stamp is working.stamp:
            return False
        working.stamp = book.stamp
        content = _content(book)
        if content == working.seen:
            return False  # the same state, only its hash was read meanwhile
        working.seen = content
        return True

    def _quiet(self, working: _Working, at: int) -> bool:
        """Say whether the venue had its chance: other frames came since, none of this market."""
        quiet = self.terms.quiet_ms
        if quiet is None:
            return False
        long_ago = at - working.arrives_at >= quiet * MS
        return long_ago and self.last_frame_at >= working.arrives_at

    def _walk(self, working: _Working, book: Book, at: int, *, basis: str) -> None:
        ticket = working.ticket
        if ticket.refuse:
            self._answer(working, NoMatch("REFUSED"), book, at, basis=basis)
            return
        order = ticket.order
        displayed = ladder_of(book, ticket.outcome, order.side)
        left = self.footprints.left(
            displayed, market_id=ticket.market_id, outcome=ticket.outcome, side=order.side
        )
        result = match(
            _on_tick_of(order, book), thinned(left, self.terms.depth_share), displayed=displayed
        )
        if isinstance(result, Match):
            self._leave(result.takes, ticket, order.side)
        self._answer(working, result, book, at, basis=basis)

    def _leave(self, takes: tuple[Take, ...], ticket: Ticket, side: Side) -> None:
        self.footprints.leave(takes, market_id=ticket.market_id, outcome=ticket.outcome, side=side)

    def _answer(
        self, working: _Working, result: Match | NoMatch, book: Book | None, at: int, *, basis: str
    ) -> None:
        seen = BookSeen(
            at=moment(at),
            state=book.state if book is not None else "none",
            epoch=self.epoch_of(book) if book is not None else None,
            basis=basis,
        )
        key = working.ticket.key
        del self._working[key]
        self._answered.add(key)
        self.reports.append(Report(working.ticket, result, seen, moment(at)))

    def epoch_of(self, book: Book) -> int:
        """Return a number that is another one after every gap in what we know of a book."""
        return self._first_epoch + book.epoch

    # --- books for others --------------------------------------------------------------

    def show(self, condition_ids: Iterable[str]) -> tuple[list[BookNow], list[str]]:
        """Return the books that changed since they were last shown, and markets that did not.

        Both are vouched for as of the last frame.
        """
        changed: list[BookNow] = []
        same: list[str] = []
        for condition_id in condition_ids:
            book = self.books.by_market.get(condition_id)
            if book is None:
                continue
            state = (book.stamp, book.state, book.epoch, self.footprints.marks[book.market_id])
            if self._shown.get(book.market_id) == state:
                same.append(book.market_id)
            else:
                self._shown[book.market_id] = state
                changed.append(self._now(book))
        return changed, same

    def _now(self, book: Book) -> BookNow:
        asks = self._left(book, 0)
        bids = mirrored(self._left(book, 1))
        return BookNow(
            market_id=book.market_id,
            state=book.state,
            epoch=self.epoch_of(book),
            bids=bids[:LEVELS_SHOWN],
            asks=asks[:LEVELS_SHOWN],
            changed_at=moment(book.received),
            seen_at=moment(self.last_frame_at),
        )

    def _left(self, book: Book, outcome: int) -> Ladder:
        return self.footprints.left(
            book.asks_of(outcome), market_id=book.market_id, outcome=outcome, side="BUY"
        )


def ladder_of(book: Book, outcome: int, side: Side) -> Ladder:
    """Return what can be bought of an outcome, or what is bid for it, best first."""
    return book.asks_of(outcome) if side == "BUY" else sale_ladder(book.asks_of(1 - outcome))


def trusted(book: Book) -> bool:
    """Say whether a book may be walked: fresh, and as the venue's own digest says.

    Unlike `Book.hash_holds` this leaves no trace in the book, so that a replay without a
    broker gives the same signals.
    """
    if not book.evaluable:
        return False
    token, stated, timestamp = _content(book)
    return not stated or book.digest(token, timestamp) == stated


def _content(book: Book) -> Stamp:
    """Return what the venue said of the book's state last: token, hash, its time."""
    stamp = book.stamp
    return last_stamp(stamp, book.condition_id) if isinstance(stamp, bytes) else stamp


def _on_tick_of(order: Order, book: Book) -> Order:
    """Return the order as the market's tick of now judges it."""
    tick = round(float(book.tick_size) * PRICE_ONE)
    if tick == order.tick:
        return order
    limit = order.limit if order.side == "BUY" else tick
    return Order(order.side, order.size, limit, tick, order.min_size, order.fee)
