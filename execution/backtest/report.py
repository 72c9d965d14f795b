"""A whole run: survey, pass, figures. What the command, the portal and the checks share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from execution.backtest import jobs
from execution.backtest.groups import Survey, survey
from execution.backtest.jobs import Done, Plan, Tell
from execution.backtest.outcome import sharpe_of, summary, together
from execution.backtest.passing import Found
from execution.backtest.sources import KINDS
from markets.frames import Frame
from markets.past import Past

NS: Final = 1_000_000_000
MOST_GAPS: Final = 200
NEEDS: Final = {
    "cross_market": "No relations are in this data, and the rule finds nothing without them.",
    "temporal": "No relations are in this data, and the rule finds nothing without them.",
    "endgame": "No history of resolved markets is in this data; every price lacks history.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to: `data` says over what, `results` one row for each rule and set."""

    data: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    done: Done
    found: Mapping[str, Found]  # by the variant's code in the engine


def answer(
    plan: Plan,
    folder: Path,
    *,
    parts: int | None = None,
    processes: int = 1,
    trials: Mapping[str, Sequence[float]] | None = None,
    tell: Tell,
    speed: Iterator[Frame] | None = None,
) -> Answer:
    """Run a plan and work out its figures. `trials` are Sharpe ratios by rule that were had before.

    Raises what `jobs.run` raises.
    """
    surveyed = survey(plan.frames())
    done = jobs.run(plan, surveyed, folder, jobs=processes, parts=parts, tell=tell, frames=speed)
    found = {each.rule.code: together(each, done.found[each.rule.code]) for each in plan.variants}
    tried = _trials(plan, found, trials or {})
    results = tuple(
        summary(
            each,
            found[each.rule.code],
            plan.every_lane,
            plan.terms,
            trials=tried.get(each.code, ()),
        )
        for each in plan.variants
    )
    data = data_row(plan.past, surveyed, since=plan.since, until=plan.until)
    return Answer(data, results, tuple(_notes(plan, surveyed, done, found)), done, found)


def _trials(
    plan: Plan, found: Mapping[str, Found], before: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Count every set of a directional rule that was ever run as a try."""
    tried = {code: list(values) for code, values in before.items()}
    for each in plan.variants:
        if each.observes and (own := sharpe_of(found[each.rule.code])) is not None:
            tried.setdefault(each.code, []).append(own)
    return tried


def data_row(
    past: Past, surveyed: Survey, *, since: int | None, until: int | None
) -> dict[str, Any]:
    """Say over what a run went: the window, how much of it is covered, and what is missing."""
    first = max(past.since, since or 0)
    last = min(past.until, until) if until is not None else past.until
    span = max(last - first, 0)
    missing = [gap for gap in past.gaps if gap.since < last and gap.until > first]
    covered = span - _union([(max(g.since, first), min(g.until, last)) for g in missing])
    return {
        "name": past.name,
        "sha256": past.sha256,
        "kind": past.kind,
        "about": KINDS[past.kind],
        "since": first,
        "until": last,
        "span_ns": span,
        "covered_ns": covered,
        "coverage": round(covered / span, 6) if span else None,
        "gaps": [[gap.since, gap.until, gap.why[:120]] for gap in missing[:MOST_GAPS]],
        "gaps_left_out": max(0, len(missing) - MOST_GAPS),
        "frames": surveyed.frames,
    }


def _union(stretches: Iterable[tuple[int, int]]) -> int:
    """Return how long stretches are together, each moment counted once."""
    total, reached = 0, 0
    for since, until in sorted(stretches):
        total += max(0, until - max(since, reached))
        reached = max(reached, until)
    return total


def _notes(plan: Plan, surveyed: Survey, done: Done, found: Mapping[str, Found]) -> Iterator[str]:
    """Yield what must be known before the figures are trusted."""
    if plan.past.kind != "books":
        yield f"The data are {KINDS[plan.past.kind]}."
    detectors = {each.rule.definition.detector for each in plan.variants}
    for detector in sorted(detectors & {"cross_market", "temporal"}):
        if not surveyed.relations:
            yield f"{detector}: {NEEDS[detector]}"
    if "endgame" in detectors and not surveyed.history:
        yield f"endgame: {NEEDS['endgame']}"
    yield from _unseen(plan, found)
    yield from done.problems[:20]
    if len(done.problems) > 20:
        yield f"{len(done.problems) - 20} further kinds of bad input."


def _unseen(plan: Plan, found: Mapping[str, Found]) -> Iterator[str]:
    """Say so where the data tell books too seldom for orders to be judged."""
    legs = [
        leg for each in found.values() for trade in each.trades.get("own", []) for leg in trade.legs
    ]
    unseen = sum(leg.failed == "NO_BOOK" for leg in legs)
    if legs and unseen * 2 > len(legs):
        yield (
            f"{unseen} of {len(legs)} orders met no book in {plan.terms.patience_ms / 1000:g} s: "
            "these data tell books too seldom to say what would have been filled (--patience-ms)."
        )
