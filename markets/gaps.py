"""Breaks in what we know of the books, and how long each took to heal (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markets.book import Book

BreakKind = Literal["connection", "asset", "frame"]


@dataclass(frozen=True, slots=True)
class Break:
    """Books became stale together: their connection was cut, or one proved dead or unreadable."""

    kind: BreakKind
    subject: str  # connection number or market id
    reason: str
    at: int  # unix ns
    books: tuple[Book, ...]


@dataclass(frozen=True, slots=True)
class HealedGap:
    """A break whose books are all known again (or not followed any more)."""

    kind: BreakKind
    subject: str
    reason: str
    opened_at: int
    healed_at: int
    books: int


class Gaps:
    """Breaks that have not healed yet."""

    def __init__(self) -> None:
        self.open: list[Break] = []

    def begin(self, breaks: Sequence[Break]) -> list[Break]:
        """Take over breaks; return those that are new.

        One of books that were not seen whole since an earlier break of the same
        kind only prolongs that one, so a flood of bad frames is one gap.
        """
        before = len(self.open)
        for each in breaks:
            if each.books and not any(_prolongs(each, known) for known in self.open):
                self.open.append(each)
        return self.open[before:]

    def settle(self, *, at: int) -> list[HealedGap]:
        """Return the breaks that have healed since the last call; `at` is the time of the look."""
        healed = [each for each in self.open if not any(map(_unknown, each.books))]
        self.open = [each for each in self.open if any(map(_unknown, each.books))]
        return [
            HealedGap(each.kind, each.subject, each.reason, each.at, at, len(each.books))
            for each in healed
        ]


def _prolongs(late: Break, known: Break) -> bool:
    same = (late.kind, late.subject) == (known.kind, known.subject)
    return same and set(late.books) <= set(known.books)


def _unknown(book: Book) -> bool:
    """Say whether a followed book is still to be healed; one that was let go never will be."""
    left = book.offline and book.conn is None
    return bool(book.state_note) and book.group is not None and not left
