"""Labelled samples: what was known of a finding, and what became of it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rules.ml.features import Vector

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Labels:
    """What counts as filled: still worth it from `latency_ms` after a moment, for `hold_s`.

    Worth it is a net profit of at least `share` of what was claimed, and of the rule's least.
    """

    latency_ms: int = 250
    hold_s: float = 1.0
    share: float = 0.5

    @property
    def latency_ns(self) -> int:
        return self.latency_ms * MS

    @property
    def horizon_ns(self) -> int:
        """How far beyond its moment a label looks."""
        return self.latency_ns + int(self.hold_s * SECOND)


@dataclass(frozen=True, slots=True)
class Sample:
    """One episode at one moment. Times in unix ns, money in USD.

    `group` is the parent event: what happens in it is never split between learning and
    examining. `loss` is what unwinding would have cost where not all legs were had; None
    where all were. No field but `vector` is known at `at`.
    """

    key: str
    rule: str
    group: str
    at: int
    ends: int  # of what its label looks at
    vector: Vector
    filled: bool
    profit: float
    cost: float
    loss: float | None = None
