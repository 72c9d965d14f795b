"""What a rule told over a span, counted as it comes so that memory does not grow (pure)."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from rules.dsl import ObservedRule
from rules.engine import ActiveRule
from signals.episodes import SignalChange
from signals.whatif import BPS, LEVELS, SECOND, SECONDS, STRENGTH

Hit = dict[str, Any]  # one episode, as it is written out
Tell = Callable[[Hit], None]
MOST_EVENTS: Final = 5_000  # counted apart; the rest is counted together


@dataclass(slots=True)
class Bins:
    """Counts between edges; the first bin is below `edges[0]`."""

    edges: tuple[Decimal, ...]
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.edges) + 1)

    def add(self, value: Decimal) -> None:
        self.counts[bisect_right(self.edges, value)] += 1

    def merge(self, other: Bins) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]

    def row(self) -> dict[str, Any]:
        return {"edges": [str(edge) for edge in self.edges], "counts": self.counts}


@dataclass(slots=True)
class Counts:
    """The figures of one rule. `lived` and `edges` are of episodes that were closed."""

    edges: Bins
    lifetimes: Bins = field(default_factory=lambda: Bins(SECONDS))
    signals: int = 0
    levels: Counter[str] = field(default_factory=Counter)
    lived_ns: int = 0
    events: Counter[str] = field(default_factory=Counter)
    no_plan: Counter[str] = field(default_factory=Counter)
    decided: int = 0

    def merge(self, other: Counts) -> None:
        """Add what another group of events came to."""
        self.edges.merge(other.edges)
        self.lifetimes.merge(other.lifetimes)
        self.signals += other.signals
        self.levels += other.levels
        self.lived_ns += other.lived_ns
        self.events += other.events
        self.no_plan += other.no_plan
        self.decided += other.decided


def counts_of(rule: ActiveRule) -> Counts:
    """Return empty figures; what only observes has a strength and no edge."""
    observes = isinstance(rule.definition, ObservedRule)
    return Counts(Bins(STRENGTH if observes else BPS))


@dataclass(slots=True)
class _Open:
    level: str
    strength: Decimal


class Tally:
    """Follows the episodes of one rule from their first sight to their close."""

    def __init__(self, rule: ActiveRule, *, tell: Tell | None) -> None:
        """`tell` takes each episode once it is closed."""
        self.counts = counts_of(rule)
        self._observes = isinstance(rule.definition, ObservedRule)
        self._open: dict[str, _Open] = {}
        self._tell = tell

    def take(self, change: SignalChange) -> None:
        finding = change.finding
        held = self._open.get(change.key)
        if held is None:
            held = self._open[change.key] = _Open(change.level, finding.strength)
            self.counts.signals += 1
        held.level = min(held.level, change.level)
        held.strength = max(held.strength, finding.strength)
        if change.change == "closed":
            del self._open[change.key]
            self._closed(change, held)

    def _closed(self, change: SignalChange, held: _Open) -> None:
        counts = self.counts
        lived = change.at - change.opened_at
        counts.levels[held.level] += 1
        counts.lived_ns += lived
        counts.lifetimes.add(Decimal(lived) / SECOND)
        counts.edges.add(held.strength if self._observes else change.peak_edge_bps)
        place = change.finding.event_id or "+".join(change.finding.market_ids[:3])
        if place in counts.events or len(counts.events) < MOST_EVENTS:
            counts.events[place] += 1
        else:
            counts.events[""] += 1
        if self._tell is not None:
            self._tell(_hit(change, held))

    def levels(self) -> dict[str, int]:
        return {level: self.counts.levels[level] for level in LEVELS}


def _hit(change: SignalChange, held: _Open) -> Hit:
    finding = change.finding
    return {
        "opened_at": change.opened_at,
        "closed_at": change.at,
        "rule": change.rule.code,
        "level": held.level,
        "kind": finding.kind,
        "event_id": finding.event_id or "",
        "market_ids": list(finding.market_ids),
        "peak_edge_bps": f"{change.peak_edge_bps:.2f}",
        "peak_profit": f"{change.peak_profit:.6f}",
        "strength": f"{held.strength:.4f}",
        "observations": change.observations,
        "why": change.why,
        "key": change.key,
    }
