"""Prices with planted jumps, to measure what a spike rule finds (`detection.md` 4.1).

They are the scoreboard's: tests and product measure with the same ones.
"""

from __future__ import annotations

from mpx_site.scoreboard.jumps import (
    Jumps,
    at_false_alarms,
    by_fixed_threshold,
    planted_jumps,
    score,
    watched,
)

__all__ = ["Jumps", "at_false_alarms", "by_fixed_threshold", "planted_jumps", "score", "watched"]
