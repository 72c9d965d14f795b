"""What a model has to show before its word counts (pure; `detection.md` 4.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rules.ml.report import Report

MOST_ECE: Final = 0.05
LEAST_OF_EACH: Final = 50  # independent episodes


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what is asked, what was found, and what that means in words."""

    name: str
    asked: str
    found: str
    ok: bool
    why: str


def gates(report: Report) -> tuple[Gate, ...]:
    """Judge a model by its purged examination. Its weight is 0 unless every gate is passed."""
    window, score = report.window, report.purged
    fewest = min(window.filled, window.samples - window.filled)
    return (
        Gate(
            "Enough episodes",
            f"at least {LEAST_OF_EACH} of each outcome",
            f"{window.filled:,} filled, {window.samples - window.filled:,} not",
            fewest >= LEAST_OF_EACH,
            f"there are only {fewest} episodes of the rarer outcome; {LEAST_OF_EACH} are needed",
        ),
        Gate(
            "Brier skill",
            "above 0",
            f"{score.skill:.3f}",
            score.skill > 0,
            "always saying the base rate would have been as good on events and times it had "
            f"not seen (skill {score.skill:.3f})",
        ),
        Gate(
            "Calibration error (ECE, 15 bins)",
            f"at most {MOST_ECE}",
            f"{score.ece:.3f}",
            score.ece <= MOST_ECE,
            f"what it says is off by {score.ece:.3f} on average, and {MOST_ECE} is allowed",
        ),
    )


def passed(report: Report) -> bool:
    return all(gate.ok for gate in gates(report))


def why_not(report: Report) -> str:
    """Say why a model has no weight; empty for one that has."""
    return "; ".join(gate.why for gate in gates(report) if not gate.ok)
