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


@dataclass(slots=True)
class Beat:
    """What is remembered of one book: the last change seen, and its running averages."""

    at: int  # unix ns
    stamp: object
    logit: float | None
    variance: float = 0.0  # of the logit per second
    activity: float = 0.0

    def volatility(self, at: int) -> float:
        """Return the standard deviation of the logit per root second, faded to a time."""
        return math.sqrt(self.variance * _left(at - self.at))

    def liveliness(self, at: int) -> float:
        """Return the share of recent seconds with a change, faded to a time."""
        return self.activity * _left(at - self.at)


def _left(ns: int) -> float:
    return math.exp(-max(ns, 0) / 1e9 / FADE_S)


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
        if beat is None:
            self._beats[book.market_id] = Beat(at, book.stamp, logit_of(book))
        elif book.stamp is not beat.stamp:  # most are as they were: their averages only fade
            _average(beat, logit_of(book), (at - beat.at) / 1e9)
            beat.at, beat.stamp = at, book.stamp


def logit_of(book: Book) -> float | None:
    """Return the logit of the mid; None where a side is empty or the book is not to be trusted."""
    if not book.evaluable or book.bid == NO_BID or book.ask == NO_ASK:
        return None
    mid = (book.bid + book.ask) / (2 * PRICE_ONE)
    return math.log(mid / (1.0 - mid))


def _average(beat: Beat, logit: float | None, seconds: float) -> None:
    """Take one change after so many quiet seconds into the averages."""
    weight = 1.0 - _left(round(seconds * 1e9))
    beat.activity += weight * (1.0 / max(seconds, 1.0) - beat.activity)
    if logit is not None and beat.logit is not None:
        beat.variance += weight * ((logit - beat.logit) ** 2 / seconds - beat.variance)
    beat.logit = logit if logit is not None else beat.logit
