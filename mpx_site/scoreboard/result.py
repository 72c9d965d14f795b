"""What an exam came to, as it is printed, stored and shown."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from mpx_site.scoreboard.families import FAMILIES
from mpx_site.scoreboard.judging import Judgement, Score
from mpx_site.scoreboard.jumps import Score as JumpScore
from mpx_site.scoreboard.sitting import CODES

SHOWN_MISTAKES = 100
KEPT = 10  # results in the file, one per seed, the newest first
DIGITS = 6


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


def spike_result(
    own: JumpScore, fixed: JumpScore, judged: Score, *, jumps: int, updates: int
) -> SpikeResult:
    """Put what was measured on the reference jumps beside what the exam's frames gave."""
    return SpikeResult(
        jumps=jumps,
        updates=updates,
        recall=round(own.recall, DIGITS),
        false_alarms_per_10k=round(own.false_alarms * 1e4, 3),
        fixed_recall=round(fixed.recall, DIGITS),
        fixed_false_alarms_per_10k=round(fixed.false_alarms * 1e4, 3),
        told_in_frames=judged.found,
        jumps_in_frames=judged.planted,
    )


def result_of(
    judgement: Judgement, *, spike: SpikeResult, seed: int, events: int, seconds: float,
    at: datetime,
) -> Result:  # fmt: skip
    """Sum up an exam. SPIKE_DETECT is measured on the reference jumps."""
    rules = {code: _rule(score) for code, score in judgement.scores.items()}
    jumps = CODES["spike"]
    found = round(spike.recall * spike.jumps)
    rules[jumps] = msgspec.structs.replace(
        rules[jumps], recall=spike.recall, planted=spike.jumps, found=found
    )
    return Result(
        seed=seed,
        events=events,
        at=at,
        seconds=round(seconds, 1),
        rules=rules,
        decoys={family.code: judgement.traps[family.code] for family in FAMILIES},
        decoy_cases={family.code: judgement.trap_cases[family.code] for family in FAMILIES},
        cases=dict(sorted(judgement.cases.items())),
        spike=spike,
        mistakes=[
            f"case {each.case} ({each.family}), {each.code}: {each.what}"
            for each in judgement.mistakes[:SHOWN_MISTAKES]
        ],
    )


def _rule(score: Score) -> RuleResult:
    return RuleResult(
        recall=_share(score.found, score.planted),
        precision=_share(score.right, score.told),
        captured=_share(score.gained, score.could_gain),
        planted=score.planted,
        found=score.found,
        told=score.told,
        right=score.right,
        size_error=round(statistics.fmean(score.size_errors), DIGITS)
        if score.size_errors
        else None,
        time_to_detect_ms_p50=_quantile(score.to_open, 0.5),
        time_to_detect_ms_p99=_quantile(score.to_open, 0.99),
        time_to_p1_ms_p50=_quantile(score.to_p1, 0.5),
        time_to_p1_ms_p99=_quantile(score.to_p1, 0.99),
    )


def _share(part: float, whole: float) -> float | None:
    """Return a share rounded down: what is not everything must not read as everything."""
    return int(part / whole * 10**DIGITS) / 10**DIGITS if whole else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


# --- the file ------------------------------------------------------------------------


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
