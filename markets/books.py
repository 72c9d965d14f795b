"""All books by market: one entry for bytes from the wire (pure)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from markets.book import BadValue, Book
from markets.frames import CLOSED, LEFT, Frame, tokens_left_out
from markets.gaps import Break
from markets.listing import MarketTerms
from markets.polymarket import wire
from markets.polymarket.wire import Delta, Message
from markets.problems import Problems

PROVE_LOOKS, PROVE_HASHES = 200, 8  # books passed and hashes made at a time
NONE: tuple[Book, ...] = ()
_NAMES = re.compile(rb"0x[0-9a-f]{62,64}|[0-9]{20,78}")  # condition and token ids


class Books:
    """Applies frames to books. Nothing a frame contains can stop the next one."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.by_market: dict[str, Book] = {}  # by condition id, as the feed names them
        self.by_token: dict[str, Book] = {}
        self.counts: Counter[str] = Counter()  # by event type, price_change aside
        self.moved: list[Book] = []  # since they were last taken
        self.breaks: list[Break] = []
        self._turn: list[Book] = []  # still to be proven in this round
        self._conn: int | None = None  # where the frame at hand came from
        self.on_listing: Callable[[str, bytes, int], None] | None = None

    def __len__(self) -> int:
        return len(self.by_market)

    def add(self, terms: MarketTerms) -> Book:
        """Start keeping a market's book; a market that is kept already stays as it is.

        One that has no condition yet gets a book that no frame can name.
        """
        book = self.by_market.get(terms.condition_id)
        if book and (book.token0, book.token1) == terms.token_ids:
            return book
        self.drop(terms.condition_id)
        book = Book(terms)
        if terms.condition_id:
            self.by_market[terms.condition_id] = book
            self.by_token[book.token0] = self.by_token[book.token1] = book
        return book

    def drop(self, condition_id: str) -> None:
        book = self.by_market.pop(condition_id, None)
        if book:
            self.by_token.pop(book.token0, None)
            self.by_token.pop(book.token1, None)

    def feed(self, body: bytes, received: int, conn: int | None = None) -> Sequence[Book]:
        """Apply one WebSocket frame and return the books to look at.

        These are the ones whose touch or state is another now, and those that
        somebody wants to see at every change (`Book.hot`).
        """
        try:
            decoded = wire.decode_deltas(body)
        except wire.DECODE_ERRORS:
            decoded = None
        if type(decoded) is Delta and (book := self.by_market.get(decoded.market)) is not None:
            try:
                moved = book.change(decoded, received, body)
            except BadValue as error:
                return (self._refused(book, error, body, received),)
            if moved:
                return (self._moved(book),)
            return (book,) if book.hot else NONE
        self._conn = conn
        return self._feed_any(body, received)

    def hear(self, frame: Frame) -> Sequence[Book]:
        """Take what is no message of a connection: its opening or closing, a REST answer."""
        conn = frame.conn
        if frame.ch == "clob":
            missing = tokens_left_out(frame.req)
            if missing:
                return [book for token in missing if (book := self.no_book(token))]
            return self.answer(frame.body, frame.t, conn)
        if conn is None:
            return ()
        if frame.req == CLOSED:
            reason = frame.body.decode(errors="replace")
            return self.closed(conn, at=frame.t, reason=reason)
        if frame.req == LEFT:
            return self.left(frame.body.decode(errors="replace").split(","))
        self.opened(conn)
        return ()

    def _feed_any(self, body: bytes, received: int) -> Sequence[Book]:
        try:
            decoded = wire.decode_frame(body)
        except wire.DECODE_ERRORS as error:
            return self._feed_piecewise(body, received, error)
        messages = (decoded,) if isinstance(decoded, Message) else decoded
        return _distinct(self._apply(each, body, received) for each in messages)

    def answer(self, body: bytes, received: int, conn: int | None = None) -> Sequence[Book]:
        """Take a `/books` or `/book` answer: heal with it, or check against it.

        `conn` is the connection that will keep the healed books fresh.
        Returns the books that it changed. What became of each is counted as
        `answer:healed`, `answer:agreed`, `answer:drifted`, ...
        """
        self._conn = conn
        try:
            decoded = wire.decode_frame(body)
        except wire.DECODE_ERRORS:
            return self._answer_piecewise(body, received)
        messages = (decoded,) if isinstance(decoded, Message) else decoded
        return _distinct(self._answered(message, body, received) for message in messages)

    def _answer_piecewise(self, body: bytes, received: int) -> Sequence[Book]:
        try:
            pieces = [bytes(piece) for piece in wire.split_frame(body)]
        except wire.DECODE_ERRORS as error:
            self._note("bad_answer", received, detail=str(error), body=body)
            return NONE
        found: list[Book | None] = []
        for piece in pieces:
            try:
                found.append(self._answered(wire.decode_message(piece), piece, received))
            except wire.DECODE_ERRORS as error:
                self._note("bad_answer", received, detail=str(error), body=piece)
        return _distinct(found)

    def _answered(self, message: Message, body: bytes, received: int) -> Book | None:
        book = self.by_market.get(message.market)
        if book is None:
            self.counts["answer:unknown_market"] += 1
            return None
        try:
            outcome = book.answer(message, received)
        except BadValue as error:
            self._note("bad_value", received, subject=book.market_id, detail=str(error), body=body)
            return None
        self.counts[f"answer:{outcome}"] += 1
        if outcome == "healed":
            book.offline = False
            book.conn = self._conn if self._conn is not None else book.conn
        if outcome == "drifted":  # its feed is dead: only a new subscription can revive it
            self._cut_off(book)
            self.breaks.append(Break("asset", book.market_id, "drift", received, (book,)))
            self._note("drift", received, subject=book.market_id, body=body)
        return self._moved(book) if outcome in ("healed", "drifted") else None

    def _moved(self, book: Book) -> Book:
        if not book.moved:
            book.moved = True
            self.moved.append(book)
        return book

    def opened(self, conn: int) -> None:
        """A connection is there again; its books wait for their snapshots."""
        for book in self._of(conn):
            book.offline = False

    def closed(self, conn: int, *, at: int, reason: str = "") -> Sequence[Book]:
        """A connection was cut: its books are stale until a new snapshot."""
        cut = [self._cut_off(book) for book in self._of(conn)]
        self.breaks.append(Break("connection", str(conn), reason, at, tuple(cut)))
        return cut

    def take_breaks(self) -> list[Break]:
        """Hand over what broke since the last call."""
        breaks, self.breaks = self.breaks, []
        return breaks

    def left(self, tokens: Iterable[str]) -> Sequence[Book]:
        """These are not followed any more: nothing keeps their books fresh."""
        found = dict.fromkeys(self.by_token.get(token) for token in tokens)
        gone = [self._cut_off(book) for book in found if book is not None]
        for book in gone:
            book.conn = None  # what becomes of that connection is nothing to it any more
        return gone

    def _cut_off(self, book: Book) -> Book:
        book.offline = True
        book.mark("stale")
        return self._moved(book)

    def needing_answer(self) -> list[Book]:
        return [book for book in self.by_market.values() if book.needs_answer]

    def prove_some(self) -> None:
        """Compare the next few books in turn with the hash that the venue stated for them.

        What does not hold is asked for (`Book.needs_answer`): a lost or swapped
        change below the touch shows nowhere else.
        """
        turn = self._turn = self._turn or list(self.by_market.values())
        part = turn[-PROVE_LOOKS:]
        del turn[-PROVE_LOOKS:]
        # Most have been proven since they changed: those are passed in one go.
        due = [book for book in part if book.evaluable and book.stamp is not book.verified]
        for book in due[-PROVE_HASHES:]:
            book.hash_holds()
        turn += due[:-PROVE_HASHES]

    def silent(self) -> list[Book]:
        """List the books whose own feed seems dead: cut off, and nothing came since."""
        return [b for b in self.by_market.values() if b.offline and not b.waiting]

    def _of(self, conn: int) -> list[Book]:
        return [book for book in self.by_market.values() if book.conn == conn]

    def no_book(self, token: str) -> Book | None:
        """The venue says it has no book for a token (404, or left out of an answer)."""
        book = self.by_token.get(token)
        if book is None or book.state_note == "awaiting":
            return None
        book.mark("awaiting")
        return self._moved(book)

    def _apply(self, message: Message, body: bytes, received: int) -> Book | None:
        """Apply one message; return its book if it is to be looked at."""
        book = self.by_market.get(message.market)
        if book is None:
            return self._not_about_a_book(message, body, received)
        try:
            moved = self._told(message, book, body, received)
        except BadValue as error:
            return self._refused(book, error, body, received)
        if moved:
            return self._moved(book)
        return book if book.hot else None

    def _refused(self, book: Book, error: BadValue, body: bytes, received: int) -> Book:
        self._note("bad_value", received, subject=book.market_id, detail=str(error), body=body)
        return self._distrust(book, received)

    def take_moved(self) -> list[Book]:
        """Hand over the books whose top changed since the last call."""
        moved, self.moved = self.moved, []
        for book in moved:
            book.moved = False
        return moved

    def _told(self, message: Message, book: Book, body: bytes, received: int) -> bool:
        """Apply a message of any kind; return whether it changed the book."""
        event = message.event_type
        if event == "price_change":
            return book.change(message, received, body)
        if event not in wire.BOOK_EVENTS:
            self._not_about_a_book(message, body, received)
            return False
        self.counts[event] += 1
        if event == "book":
            book.snapshot(message, received)
            book.conn = self._conn
        elif event == "tick_size_change":
            book.mark("awaiting")
            book.received = received
            book.tick_size = message.new_tick_size or book.tick_size
        else:  # trades and best_bid_ask come with frames that say more of the book
            if event == "last_trade_price":
                book.count_trade(message.size)
            return False
        return True

    def _not_about_a_book(self, message: Message, body: bytes, received: int) -> Book | None:
        event = message.event_type
        if event in wire.LISTING_EVENTS:
            self.counts[event] += 1
            if self.on_listing:
                self.on_listing(event, body, received)
        elif event in wire.BOOK_EVENTS:
            self.counts["unknown_market"] += 1
            return self._misnamed(message, body, received)
        else:
            self.counts["unknown_event"] += 1
            self._note("unknown_event", received, subject=event or "(none)", body=body)
        return None

    def _misnamed(self, message: Message, body: bytes, received: int) -> Book | None:
        """Distrust a book whose token is spoken of under a market that we do not know."""
        tokens = [message.asset_id, *(each.asset_id for each in message.price_changes or ())]
        for book in filter(None, map(self.by_token.get, tokens)):
            detail = f"market={message.market[:80]!r}"
            self._note("bad_value", received, subject=book.market_id, detail=detail, body=body)
            return self._distrust(book, received)
        return None

    def _feed_piecewise(self, body: bytes, received: int, error: Exception) -> Sequence[Book]:
        """Apply what can be read of a frame that does not decode as a whole."""
        try:
            pieces = wire.split_frame(body)
        except wire.DECODE_ERRORS:
            return self._unreadable(body, received, error)
        touched: list[Book | None] = []
        for piece in map(bytes, pieces):
            try:
                message = wire.decode_message(piece)
            except wire.DECODE_ERRORS as bad:
                touched += self._unreadable(piece, received, bad)
                continue
            touched.append(self._apply(message, piece, received))
        return _distinct(touched)

    def _unreadable(self, body: bytes, received: int, error: Exception) -> list[Book]:
        """Count a message that cannot be read; we no longer know the books that it names."""
        self._note("bad_frame", received, detail=str(error), body=body)
        named = [name.decode() for name in _NAMES.findall(body)]
        books = _distinct(self.by_market.get(name) or self.by_token.get(name) for name in named)
        return [self._distrust(book, received) for book in books]

    def _distrust(self, book: Book, received: int) -> Book:
        book.mark("stale")
        self.breaks.append(Break("frame", book.market_id, "unreadable", received, (book,)))
        book.received = received
        return self._moved(book)

    def look_for_unknown_fields(self, body: bytes, received: int) -> None:
        """Count the fields of a frame that no decoder of ours reads; for a sample of frames."""
        try:
            names = wire.unknown_fields(body)
        except wire.DECODE_ERRORS:
            return  # counted as a bad frame anyway
        for name in names:
            self._note("unknown_field", received, subject=name, body=body)

    def _note(
        self, reason: str, at: int, *, subject: str = "", detail: str = "", body: bytes = b""
    ) -> None:
        self.problems.note("ws", reason, at=at, subject=subject, detail=detail, sample=body)


def _distinct(books: Iterable[Book | None]) -> list[Book]:
    return [book for book in dict.fromkeys(books) if book is not None]
