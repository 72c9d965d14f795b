"""How often an endpoint is connected to, by whichever clock connections are cut (pure).

One connection is opened at most 12 times within any minute. All of a process together are
opened at most twice each, and ten times more: a common cut, or two, heals at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MOST: Final = 12  # openings of one connection
SPARE: Final = MOST - 2


@dataclass(slots=True, eq=False)
class Turns:
    """The openings of one connection within the last `span`; `others` has those of all of them.

    Times are seconds of a clock that only goes forward.
    """

    others: list[Turns]
    span: float
    opened: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.others.append(self)

    def leave(self) -> None:
        """Count no more among all of them: its connection has ended for good."""
        self.others.remove(self)

    def wait(self, now: float) -> float:
        """Return for how long to wait before the next opening; 0: open it."""
        everybody = sorted(time for each in self.others for time in each._recent(now))
        bounds = ((self._recent(now), MOST), (everybody, 2 * len(self.others) + SPARE))
        full = [times[-most] for times, most in bounds if len(times) >= most]
        return max(full) + self.span - now if full else 0.0

    def take(self, now: float) -> None:
        """Count an opening that begins now."""
        self.opened.append(now)

    def give_back(self) -> None:
        """Take back the last one: nobody was reached."""
        if self.opened:
            self.opened.pop()

    def reached(self, now: float) -> None:
        """Let the last one count from now on, when it came about."""
        self.give_back()
        self.take(now)

    def _recent(self, now: float) -> deque[float]:
        while self.opened and self.opened[0] <= now - self.span:
            self.opened.popleft()
        return self.opened
