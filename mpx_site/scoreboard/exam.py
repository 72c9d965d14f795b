"""`scoreboard`: draw an exam, sit it, judge it, sum it up."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from markets.simulator.exam import paper
from mpx_site.scoreboard.families import CODES
from mpx_site.scoreboard.judging import Judgement
from mpx_site.scoreboard.jumps import at_false_alarms, by_fixed_threshold, planted_jumps, score
from mpx_site.scoreboard.jumps import watched as alarms_of
from mpx_site.scoreboard.result import Result, SpikeResult
from mpx_site.scoreboard.sitting import rules, sit
from mpx_site.scoreboard.summing import result_of, spike_result
from rules.kernel.spike import SpikeParams
from rules.rule_kinds import SpikeRule

JUMP_MARKETS = 100  # 6,000 updates each: their false alarms are known to a fifth
FALSE_ALARMS = 1e-4  # an update, that a fixed threshold may make beside it

Progress = Callable[[int], None]


def examine(*, seed: int, events: int, progress: Progress) -> Result:
    """Run one exam of so many cases; `progress` is told how many are done."""
    begun = time.monotonic()
    judgement = Judgement()
    for done, answer in enumerate(sit(paper(seed=seed, cases=events)), 1):
        judgement.take(answer)
        progress(done)
    return result_of(
        judgement,
        spike=_spikes(seed, judgement),
        seed=seed,
        events=events,
        seconds=time.monotonic() - begun,
        at=datetime.now(UTC),
    )


def _spikes(seed: int, judgement: Judgement) -> SpikeResult:
    """Measure the shipped rule on reference jumps, and a fixed threshold on the same ones."""
    jumps = planted_jumps(seed, markets=JUMP_MARKETS)
    own = score(alarms_of(jumps, _shipped()), jumps)
    _, fixed = at_false_alarms(
        max(FALSE_ALARMS, own.false_alarms),
        jumps,
        lambda least: by_fixed_threshold(jumps, least),
        0.01,
        0.4,
    )
    judged = judgement.scores[CODES["spike"]]
    return spike_result(own, fixed, judged, jumps=len(jumps.planted), updates=jumps.mids.size)


def _shipped() -> SpikeParams:
    """Return the shipped parameters; the reference jumps have no depth to ask for."""
    found = (each.definition for each in rules() if isinstance(each.definition, SpikeRule))
    params = next(found).params
    return params.model_copy(update={"min_depth_usd": 0}).kernel()
