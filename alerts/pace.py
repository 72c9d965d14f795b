"""How often a voice may speak (pure). Times are unix seconds.

Telegram's limits: about one message a second to a chat and 20 a minute to a group
(Bot API FAQ, "my bot is hitting limits").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SECOND, MINUTE, HOUR = 1.05, 60.0, 3600.0
SKEW = 5.0  # what is further ahead was stamped by a clock that was wrong, and holds up nobody
Limits = tuple[tuple[int, float], ...]  # so many messages in so many seconds
GROUP: Limits = ((1, SECOND), (20, MINUTE))
# To a person: what a second allows, with room for other bots of the desk.
CHAT: Limits = ((1, SECOND), (40, MINUTE))
FREE: Limits = ()


@dataclass(frozen=True, slots=True)
class Pace:
    """What the far side takes. `budget` is how many messages an hour the desk allows itself."""

    limits: Limits
    budget: int

    def wait(self, sent: Sequence[float], *, at: float) -> float:
        """Return the seconds until the next message may go; 0 for now."""
        limits = (*self.limits, (self.budget, HOUR))
        return max(0.0, *(_wait(sent, count, span, at) for count, span in limits))

    def spent(self, sent: Sequence[float], *, at: float) -> bool:
        """Say whether it is the budget that holds messages back."""
        return _wait(sent, self.budget, HOUR, at) > 0


def _wait(sent: Sequence[float], count: int, span: float, at: float) -> float:
    """Return how long until fewer than `count` of the messages lie within `span`."""
    recent = [each for each in sent if at - span < each < at + SKEW]
    return recent[-count] + span - at if recent and len(recent) >= count else 0.0


def kept(sent: Sequence[float], *, at: float) -> list[float]:
    """Return the times that still matter."""
    return [each for each in sent if at - HOUR < each < at + SKEW]
