"""What a past is: frames of a window, with what is known to be missing in it (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from markets.frames import Frame

Kind = Literal["books", "tops", "prices"]
Read = Callable[[int | None, int | None], Iterator[Frame]]


class NotAPast(Exception):
    """A file or folder that holds no past; `where` is a path, with line or column if known."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{where}: {what}")
        self.what = what
        self.where = where


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """A stretch (unix ns) of which something is not known, and why."""

    since: int
    until: int
    why: str


@dataclass(frozen=True, slots=True)
class Past:
    """A window of the past, to be read any number of times.

    `kind` says what may be concluded: "books" are full depth, "tops" the best bid and ask
    with sizes (nothing beyond them is known, so nothing larger can be executed), "prices"
    mids only: their markets are listed as paused, without a known fee and outside any
    exclusive set, so that no rule can call anything executable.
    """

    name: str  # what was read, for people
    sha256: str  # of the data set's content
    since: int  # unix ns of the first frame
    until: int  # and of the last
    covered: int  # ns with data and no known gap
    gaps: tuple[Gap, ...]
    kind: Kind
    read: Read = field(repr=False, compare=False)

    def frames(self, *, since: int | None = None, until: int | None = None) -> Iterator[Frame]:
        """Yield the frames of [since, until) in order of receive time (unix ns).

        With `since`, what was known by then is told first, stamped with that time.
        """
        return self.read(since, until)

    @property
    def share(self) -> float:
        """Return how much of the window is covered, from 0 to 1; 0 for an empty window."""
        span = self.until - self.since
        return min(1.0, self.covered / span) if span > 0 else 0.0


def merged(gaps: Iterable[Gap], *, since: int, until: int) -> tuple[Gap, ...]:
    """Return the gaps that reach into a window, cut to it, in order; they may overlap."""
    cut = (Gap(max(g.since, since), min(g.until, until), g.why) for g in gaps)
    return tuple(sorted(gap for gap in cut if gap.since < gap.until))


def covered(gaps: Iterable[Gap], *, since: int, until: int) -> int:
    """Return how many ns of a window no gap covers."""
    left, reached = until - since, since
    for gap in merged(gaps, since=since, until=until):
        left -= max(0, gap.until - max(gap.since, reached))
        reached = max(reached, gap.until)
    return max(left, 0)
