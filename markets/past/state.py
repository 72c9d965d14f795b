"""What is told first where frames are read from some moment on (pure)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from markets.book import PRICE_TEXT, Book, Stamp
from markets.fills import PRICE_ONE
from markets.frames import Frame
from markets.polymarket.wire import last_stamp


class Page:
    """The last listing of some events. The thread packs it; until then it is as it came."""

    __slots__ = ("body", "packed", "req", "t")

    def __init__(self, frame: Frame) -> None:
        self.t, self.req, self.body = frame.t, frame.req, frame.body
        self.packed = False

    def pack(self) -> None:
        if not self.packed:
            self.body, self.packed = zlib.compress(self.body, 6), True

    def frame(self, t: int) -> Frame:
        body = zlib.decompress(self.body) if self.packed else self.body
        return Frame(t, "gamma", body, req=self.req)


@dataclass(frozen=True, slots=True)
class HeldBook:
    """A book as it was at one moment, still to be written."""

    conn: int | None
    condition_id: str
    tokens: tuple[str, str]
    bids: dict[int, str]
    asks: dict[int, str]
    stamp: Stamp | bytes
    tick_size: str
    min_order_size: str
    neg_risk: bool
    last_trade_price: str
    version: str

    @classmethod
    def of(cls, book: Book) -> HeldBook:
        return cls(
            book.conn,
            book.condition_id,
            (book.token0, book.token1),
            book.bids.copy(),
            book.asks.copy(),
            book.stamp,
            book.tick_size,
            book.min_order_size,
            book.neg_risk,
            book.last_trade_price,
            book.version,
        )

    def message(self) -> dict[str, object]:
        """Return the venue's `book` message of this state, with the hash it stated itself."""
        stamp = self.stamp
        token, stated, at = (
            last_stamp(stamp, self.condition_id) if isinstance(stamp, bytes) else stamp
        )
        mirrored = token == self.tokens[1]
        bids, asks = (self.asks, self.bids) if mirrored else (self.bids, self.asks)
        return {
            "market": self.condition_id,
            "asset_id": token or self.tokens[0],
            "timestamp": at if at.isdecimal() else "0",
            "hash": stated,
            "bids": _rows(bids, mirrored),
            "asks": _rows(asks, mirrored)[::-1],
            "tick_size": self.tick_size,
            "event_type": "book",
            "last_trade_price": self.last_trade_price,
            "min_order_size": self.min_order_size,
            "neg_risk": self.neg_risk,
            **({"version": self.version} if self.version else {}),
        }


def _rows(ladder: dict[int, str], mirrored: bool) -> list[dict[str, str]]:
    """Return one side by price, as the outcome sees it that is spoken of."""
    seen = {PRICE_ONE - p if mirrored else p: size for p, size in ladder.items()}
    return [{"price": PRICE_TEXT[p], "size": seen[p]} for p in sorted(seen)]


@dataclass(frozen=True, slots=True)
class State:
    """All that must be told again for a replay to begin at `t` (unix ns)."""

    t: int
    house: tuple[Frame, ...] = ()
    pages: tuple[Page, ...] = ()
    books: tuple[HeldBook, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.house) + len(self.pages) + len(self._by_conn())

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.house:
            yield msgspec.structs.replace(frame, t=self.t)
        for page in self.pages:
            yield page.frame(self.t)
        # One frame for each connection: no event is looked at with half of its books.
        for conn, books in self._by_conn().items():
            body = msgspec.json.encode([book.message() for book in books])
            yield Frame(self.t, "ws", body, conn)

    def _by_conn(self) -> dict[int | None, list[HeldBook]]:
        held: dict[int | None, list[HeldBook]] = {}
        for book in self.books:
            held.setdefault(book.conn, []).append(book)
        return held
