"""What an exam came to, as it is printed, stored and shown (no solver needed to show it)."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec
from django.conf import settings

from mpx_site.scoreboard.families import CODES

FILE = "scoreboard.json"
KEPT = 10  # results in the file, one per seed, the newest first


class Goal(msgspec.Struct, frozen=True):
    """What a rule has to reach; None where there is nothing to measure."""

    recall: float
    precision: float | None
    captured: float | None


# `detection.md` section 6 and issue 4: single events exactly, related markets nearly so.
GOALS = {
    CODES["dutch_book"]: Goal(1.0, 1.0, 0.999),
    CODES["cross_market"]: Goal(0.99, 0.99, 0.99),
    CODES["temporal"]: Goal(0.99, 0.99, 0.99),
    CODES["spike"]: Goal(0.80, None, None),
    CODES["endgame"]: Goal(1.0, 1.0, None),
}


class RuleResult(msgspec.Struct, frozen=True):
    """One rule. Shares lie between 0 and 1; None: there was nothing to measure.

    `planted` windows had to be told and `found` were; of `told` signals `right`
    had something behind them. `captured` is the gain of all P1, as stated when
    they were told, over the most that could be gained at that moment.
    """

    recall: float | None
    precision: float | None
    captured: float | None
    planted: int
    found: int
    told: int
    right: int
    size_error: float | None
    time_to_detect_ms_p50: float | None
    time_to_detect_ms_p99: float | None
    time_to_p1_ms_p50: float | None
    time_to_p1_ms_p99: float | None

    def meets(self, goal: Goal) -> bool:
        """Say whether a rule is as good as it has to be; what was not measured does not count."""
        pairs = (
            (self.recall, goal.recall),
            (self.precision, goal.precision),
            (self.captured, goal.captured),
        )
        return all(own is None or least is None or own >= least for own, least in pairs)


class SpikeResult(msgspec.Struct, frozen=True):
    """The spike rule on the reference jumps, and a fixed threshold at as many false alarms."""

    jumps: int
    updates: int
    recall: float
    false_alarms_per_10k: float
    fixed_recall: float
    fixed_false_alarms_per_10k: float
    told_in_frames: int  # of the jumps in the exam's own frames
    jumps_in_frames: int


class Result(msgspec.Struct, frozen=True):
    """One exam. `decoys` counts the mistakes of each family, `decoy_cases` its cases."""

    seed: int
    events: int
    at: datetime
    seconds: float
    rules: dict[str, RuleResult]
    decoys: dict[str, int]
    decoy_cases: dict[str, int]
    cases: dict[str, int]
    spike: SpikeResult
    mistakes: list[str]

    @property
    def good(self) -> bool:
        """Whether every rule reached its goal and no decoy was taken for real."""
        met = all(self.rules[code].meets(goal) for code, goal in GOALS.items())
        return met and not any(self.decoys.values())


# --- the file ------------------------------------------------------------------------


def stored_at() -> Path:
    """Where results are kept between runs."""
    return Path(settings.MPX_HOME) / FILE


def load(path: Path) -> list[Result]:
    """Return the stored results, the newest first; none where there is no file that reads."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Result])
    except (OSError, msgspec.MsgspecError):
        return []


def store(result: Result, path: Path) -> None:
    """Keep a result in place of the last one of its seed; a reader never sees half a file."""
    others = [each for each in load(path) if each.seed != result.seed]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode([result, *others][:KEPT]))
    fresh.replace(path)
