"""How often a chat may be written to (pure). Times are unix seconds.

Telegram's limits: about one message a second to a chat and 20 a minute to a group
(Bot API FAQ, "my bot is hitting limits").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SECOND, MINUTE, HOUR = 1.05, 60.0, 3600.0
GROUP_PER_MINUTE = 20
CHAT_PER_MINUTE = 40  # to a person; what a second allows, with room for other bots of the desk


@dataclass(frozen=True, slots=True)
class Pace:
    """What a chat takes. `budget` is how many messages an hour the desk allows itself."""

    group: bool
    budget: int

    def wait(self, sent: Sequence[float], *, at: float) -> float:
        """Return the seconds until the next message may go; 0 for now."""
        per_minute = GROUP_PER_MINUTE if self.group else CHAT_PER_MINUTE
        limits = ((1, SECOND), (per_minute, MINUTE), (self.budget, HOUR))
        return max(0.0, *(_wait(sent, count, span, at) for count, span in limits))

    def spent(self, sent: Sequence[float], *, at: float) -> bool:
        """Say whether it is the budget that holds messages back."""
        return _wait(sent, self.budget, HOUR, at) > 0


def _wait(sent: Sequence[float], count: int, span: float, at: float) -> float:
    """Return how long until fewer than `count` of the messages lie within `span`."""
    recent = [each for each in sent if each > at - span]
    return recent[-count] + span - at if len(recent) >= count else 0.0


def kept(sent: Sequence[float], *, at: float) -> list[float]:
    """Return the times that still matter."""
    return [each for each in sent if each > at - HOUR]
