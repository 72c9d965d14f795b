"""What a program proposes as a relation; a person decides (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RelationType = Literal[
    "exclusive", "exhaustive", "implies", "equivalent", "complement", "union", "ladder"
]
Method = Literal["words", "date ladder", "threshold ladder", "range"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A relation between outcome 0 of markets, and why it is proposed.

    An `implies` runs from first to last, and in a `ladder` each member implies the next.
    `score` is how near the words are, from 0 to 1. `doubts` are what to look at.
    """

    type: RelationType
    members: tuple[str, ...]
    method: Method
    score: float = 1.0
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A relation that the words suggest and the venue's data contradict."""

    members: tuple[str, ...]
    method: Method
    reason: str
