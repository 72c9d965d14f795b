"""How lively each book has been: a slow look at all of them, about once a second each (pure).

Frames drive it, so a recording gives the same numbers again. A look costs well under a
microsecond a book, and the books of a second are spread over its frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from markets.book import NO_ASK, NO_BID, Book
from markets.books import Books
from markets.fills import PRICE_ONE

LOOK_NS: Final = 20_000_000  # at most 50 slices a second
ROUND_NS: Final = 1_000_000_000  # in which every book has its turn
FADE_S: Final = 60.0  # time constant of what is averaged
LONG_S: Final = 10.0  # a longer pause between two looks says nothing about a second


@dataclass(slots=True)
class Beat:
    """What is remembered of one book: the last look, and its running averages."""

    at: int  # unix ns
    stamp: object
    logit: float | None
    variance: float = 0.0  # of the logit per second
    activity: float = 0.0

    @property
    def volatility(self) -> float:
        return math.sqrt(self.variance)


class Pulse:
    """Beats of all books, by market id."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._beats: dict[str, Beat] = {}
        self._turn: list[Book] = []
        self._looked_at = 0

    def on_frame(self, at: int) -> None:
        """Look at the books whose turn it is (unix ns)."""
        passed = at - self._looked_at
        if passed < LOOK_NS:
            return
        self._looked_at = at
        every = len(self.books.by_market)
        for _ in range(min(every, -(-every * passed // ROUND_NS))):
            if not self._turn:
                self._turn = list(self.books.by_market.values())
                self._forget()
            self._look(self._turn.pop(), at)

    def of(self, market_id: str) -> Beat | None:
        """Return what is known of a market; None if it has not had its turn."""
        return self._beats.get(market_id)

    def _forget(self) -> None:
        """Drop what is not followed any more."""
        if len(self._beats) > 2 * len(self._turn):
            held = {book.market_id for book in self._turn}
            self._beats = {each: beat for each, beat in self._beats.items() if each in held}

    def _look(self, book: Book, at: int) -> None:
        beat = self._beats.get(book.market_id)
        logit = logit_of(book)
        if beat is None:
            self._beats[book.market_id] = Beat(at, book.stamp, logit)
            return
        seconds = (at - beat.at) / 1e9
        if 0 < seconds <= LONG_S:
            _average(beat, logit, seconds, changed=book.stamp is not beat.stamp)
        beat.at, beat.stamp, beat.logit = at, book.stamp, logit


def logit_of(book: Book) -> float | None:
    """Return the logit of the mid; None where a side is empty or the book is not to be trusted."""
    if not book.evaluable or book.bid == NO_BID or book.ask == NO_ASK:
        return None
    mid = (book.bid + book.ask) / (2 * PRICE_ONE)
    return math.log(mid / (1.0 - mid))


def _average(beat: Beat, logit: float | None, seconds: float, *, changed: bool) -> None:
    weight = 1.0 - math.exp(-seconds / FADE_S)
    beat.activity += weight * (min(float(changed) / seconds, 1.0) - beat.activity)
    if logit is not None and beat.logit is not None:
        moved = (logit - beat.logit) ** 2 / seconds
        beat.variance += weight * (moved - beat.variance)
