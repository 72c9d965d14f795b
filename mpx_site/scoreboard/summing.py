"""From a judgement to a result: shares, medians and what there is to look into."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime

import msgspec

from mpx_site.scoreboard.families import CODES, FAMILIES
from mpx_site.scoreboard.judging import Judgement, Score
from mpx_site.scoreboard.jumps import Score as JumpScore
from mpx_site.scoreboard.result import Result, RuleResult, SpikeResult

SHOWN_MISTAKES = 100
DIGITS = 6


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
