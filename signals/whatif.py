"""What if another version of a rule had run: the same frames through both, then compared (pure).

Each version has a pipeline of its own, so neither can disturb the other. Frames
are those of a recording; the rules that ran when it was made are left out of it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeVar

from markets.frames import Frame
from rules import house
from rules.dsl import ObservedRule
from rules.engine import ActiveRule
from signals.episodes import SignalChange
from signals.pipeline import Pipeline

MOST_LISTED: Final = 200  # of each list; how many more there are is said
SECOND = 1_000_000_000
LEVELS: Final = ("P1", "P2", "P3")
NOTHING = Decimal(0)

# Bins are the same for every run, so that two runs can be compared by eye.
BPS: Final = tuple(map(Decimal, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)))
STRENGTH: Final = (*(Decimal(n) / 100 for n in (5, 10, 20, 50)), *BPS)
SECONDS: Final = (
    *(Decimal(tenths) / 10 for tenths in (1, 2, 5)),
    *map(Decimal, (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)),
)

T = TypeVar("T")
Place = tuple[str, str]  # kind, and the event or market that it is about


@dataclass(slots=True)
class Life:
    """One episode of one version, from first sight to close. Times are unix ns."""

    key: str
    kind: str
    event_id: str | None
    market_ids: tuple[str, ...]
    level: str  # the best it came to
    opened_at: int
    closed_at: int
    peak_edge_bps: Decimal
    peak_profit: Decimal
    strength: Decimal
    why: str = ""
    alert: str = ""  # "", "sent" or "held back"; "earlier": decided before the window

    @property
    def lifetime(self) -> int:
        return self.closed_at - self.opened_at

    @property
    def legs(self) -> tuple[str, ...]:
        """What is alerted once within the cooldown: a basket's event, whichever legs it buys."""
        if self.kind.endswith("_basket") and self.event_id is not None:
            return (self.kind, "event", self.event_id)
        return (self.kind, *self.market_ids)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where an episode of the other version can be the same one."""
        if self.kind.endswith("_basket") and self.event_id is not None:
            return ((self.kind, f"event {self.event_id}"),)
        return tuple((self.kind, market_id) for market_id in self.market_ids)

    def overlaps(self, other: Life) -> bool:
        return self.opened_at <= other.closed_at and other.opened_at <= self.closed_at

    def row(self) -> dict[str, object]:
        return {
            "key": self.key,
            "kind": self.kind,
            "event_id": self.event_id,
            "market_ids": list(self.market_ids),
            "level": self.level,
            "opened_at": self.opened_at,
            "lived_ns": self.lifetime,
            "peak_edge_bps": f"{self.peak_edge_bps:.2f}",
            "peak_profit": f"{self.peak_profit:.6f}",
            "strength": f"{self.strength:.4f}",
            "why": self.why,
            "alert": self.alert,
        }


class Tally:
    """What one version came to, from its signal changes."""

    def __init__(self, rule: ActiveRule, *, since: int = 0) -> None:
        """What had ended before `since` (unix ns) is left out."""
        self.rule = rule
        self._since = since
        self._cooldown = rule.definition.dedupe.cooldown_secs * SECOND
        self._open: dict[str, Life] = {}
        self._lives: list[Life] = []
        self._alerted: dict[tuple[str, ...], int] = {}  # legs: when they were last alerted

    def take(self, changes: Iterable[SignalChange]) -> None:
        for change in changes:
            life = self._open.get(change.key) or self._opened(change)
            life.level = min(life.level, change.level)
            life.closed_at = change.at
            life.peak_edge_bps = change.peak_edge_bps
            life.peak_profit = change.peak_profit
            life.strength = max(life.strength, change.finding.strength)
            if change.change == "closed":
                life.why = change.why
                del self._open[change.key]
            elif change.level == "P1" and not life.alert:
                self._alert(life, change.at)

    @property
    def lives(self) -> list[Life]:
        """Return what had not ended before the window, by first sight."""
        wanted = (life for life in self._lives if life.closed_at >= self._since)
        return sorted(wanted, key=lambda life: (life.opened_at, life.key))

    def _opened(self, change: SignalChange) -> Life:
        finding = change.finding
        life = Life(
            change.key,
            finding.kind,
            finding.event_id,
            finding.market_ids,
            change.level,
            change.opened_at,
            change.at,
            change.peak_edge_bps,
            change.peak_profit,
            finding.strength,
        )
        self._open[change.key] = life
        self._lives.append(life)
        return life

    def _alert(self, life: Life, at: int) -> None:
        """Decide as `signals.store` does when a signal first becomes P1."""
        last = self._alerted.get(life.legs)
        if last is not None and last > at - self._cooldown:
            word = "held back"
        else:
            word = "sent"
            self._alerted[life.legs] = at
        life.alert = word if at >= self._since else "earlier"


class WhatIf:
    """Runs the live version and a candidate over the same frames."""

    def __init__(
        self,
        candidate: ActiveRule,
        live: ActiveRule | None,
        *,
        since: int = 0,
    ) -> None:
        """`live` is None where no version of the rule is published yet.

        What had ended before `since` (unix ns) is left out.
        """
        self._sides = [Tally(rule, since=since) for rule in (candidate, live) if rule]
        self._pipelines: list[tuple[Tally, Pipeline]] = []
        self.begin()
        self._told: dict[str, int] = {}  # frames of the desk's own knowledge, by request
        self.frames = 0
        self.first_at = 0  # unix ns
        self.last_at = 0

    def take(self, frame: Frame) -> None:
        if house.is_ours(frame.req):
            if frame.req == house.RULES:
                return
            self._told[frame.req or ""] = self._told.get(frame.req or "", 0) + 1
        self.frames += 1
        self.first_at = self.first_at or frame.t
        self.last_at = frame.t
        for tally, pipeline in self._pipelines:
            changes = pipeline.feed(frame).changes
            if changes:
                tally.take(changes)

    def begin(self, *, confirm_terms: bool = False) -> None:
        """Begin anew: what comes next does not continue what came.

        `confirm_terms` as it was where the frames were recorded (`rules.engine.Engine`).
        """
        self._stop()
        self._pipelines = [
            (tally, Pipeline((tally.rule,), confirm_terms=confirm_terms)) for tally in self._sides
        ]

    def finish(self) -> Outcome:
        """End what is open, and compare."""
        self._stop()
        candidate, *others = self._sides
        return Outcome(
            candidate=Side.of(candidate),
            live=Side.of(others[0]) if others else None,
            frames=self.frames,
            first_at=self.first_at,
            last_at=self.last_at,
            told=dict(self._told),
        )

    def _stop(self) -> None:
        for tally, pipeline in self._pipelines:
            tally.take(pipeline.stop(why="end_of_data"))


@dataclass(frozen=True, slots=True)
class Side:
    """One version and its episodes, by first sight."""

    rule: ActiveRule
    lives: tuple[Life, ...]

    @classmethod
    def of(cls, tally: Tally) -> Side:
        return cls(tally.rule, tuple(tally.lives))

    def row(self) -> dict[str, object]:
        levels = [life.level for life in self.lives]
        alerts = [life.alert for life in self.lives]
        return {
            "sha256": self.rule.sha256,
            "signals": len(self.lives),
            "by_level": {level: levels.count(level) for level in LEVELS},
            "alerts": alerts.count("sent"),
            "alerts_held_back": alerts.count("held back"),
        }


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many episodes of each version lie in each bin; the first bin is below `edges[0]`."""

    edges: tuple[Decimal, ...]
    live: tuple[int, ...]
    candidate: tuple[int, ...]

    @classmethod
    def of(
        cls, edges: tuple[Decimal, ...], live: Iterable[Decimal], candidate: Iterable[Decimal]
    ) -> Histogram:
        return cls(edges, _counted(edges, live), _counted(edges, candidate))

    def row(self) -> dict[str, object]:
        return {
            "edges": [f"{edge}" for edge in self.edges],
            "live": list(self.live),
            "candidate": list(self.candidate),
        }


def _counted(edges: tuple[Decimal, ...], values: Iterable[Decimal]) -> tuple[int, ...]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return tuple(counts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Both versions over the same frames. Times are unix ns, 0 where there was no frame."""

    candidate: Side
    live: Side | None
    frames: int
    first_at: int
    last_at: int
    told: dict[str, int] = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        """Return the comparison as JSON: counts, lists (each with how many are left out), bins."""
        live = self.live.lives if self.live else ()
        pairs = matched(live, self.candidate.lives)
        changed = [(before, after) for before, after in pairs if differences(before, after)]
        paired = {id(life) for pair in pairs for life in pair}
        new = [life for life in self.candidate.lives if id(life) not in paired]
        lost = [life for life in live if id(life) not in paired]
        return {
            "schema": 1,
            "rule": self.candidate.rule.code,
            "frames": self.frames,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "told": self.told,
            "live": self.live.row() if self.live else None,
            "candidate": self.candidate.row(),
            "counts": {
                "same": len(pairs) - len(changed),
                "changed": len(changed),
                "new": len(new),
                "lost": len(lost),
            },
            "changed": _listed(changed, lambda pair: _weight(pair[1]), _changed_row),
            "new": _listed(new, _weight, Life.row),
            "lost": _listed(lost, _weight, Life.row),
            "measure": "strength" if self._observes else "edge_bps",
            "edge": self._edge_bins(live).row(),
            "lifetime": Histogram.of(SECONDS, _seconds(live), _seconds(self.candidate.lives)).row(),
        }

    @property
    def _observes(self) -> bool:
        return isinstance(self.candidate.rule.definition, ObservedRule)

    def _edge_bins(self, live: Sequence[Life]) -> Histogram:
        """Bin the peak edges; what is observed has no edge but a strength."""
        candidate = self.candidate.lives
        if self._observes:
            strengths = [life.strength for life in live], [life.strength for life in candidate]
            return Histogram.of(STRENGTH, *strengths)
        edges = [life.peak_edge_bps for life in live], [life.peak_edge_bps for life in candidate]
        return Histogram.of(BPS, *edges)


def matched(live: Iterable[Life], candidate: Sequence[Life]) -> list[tuple[Life, Life]]:
    """Pair the episodes of both versions that are about the same legs at the same time.

    Of several, the one on the very same legs, that began at the same moment, that overlaps
    longest, in this order. Each is in at most one pair.
    """
    at_place: dict[Place, list[Life]] = {}
    for life in sorted(candidate, key=lambda life: (life.opened_at, life.key)):
        for place in life.places:
            at_place.setdefault(place, []).append(life)
    longest = max((life.lifetime for life in candidate), default=0)
    taken: set[int] = set()
    pairs = []
    for life in sorted(live, key=lambda life: (life.opened_at, life.key)):
        lists = (at_place.get(place, []) for place in life.places)
        near = (each for lives in lists for each in _near(lives, life, longest))
        free = [each for each in near if id(each) not in taken and each.overlaps(life)]
        if free:
            best = max(free, key=lambda each: _likeness(life, each))
            taken.add(id(best))
            pairs.append((life, best))
    return pairs


def _near(lives: list[Life], life: Life, longest: int) -> Iterator[Life]:
    """Yield those that can overlap with a life, of a list in the order of first sight."""
    first = bisect_left(lives, life.opened_at - longest, key=lambda each: each.opened_at)
    last = bisect_right(lives, life.closed_at, key=lambda each: each.opened_at)
    yield from lives[first:last]


def _likeness(life: Life, other: Life) -> tuple[bool, bool, int]:
    together = min(life.closed_at, other.closed_at) - max(life.opened_at, other.opened_at)
    return life.legs == other.legs, life.opened_at == other.opened_at, together


def differences(before: Life, after: Life) -> list[str]:
    """Name what the candidate changes about an episode."""
    found = {
        "level": before.level != after.level,
        "peak_edge": before.peak_edge_bps != after.peak_edge_bps,
        "peak_profit": before.peak_profit != after.peak_profit,
        "lifetime": (before.opened_at, before.closed_at) != (after.opened_at, after.closed_at),
        "alert": before.alert != after.alert,
    }
    return [name for name, differs in found.items() if differs]


def _changed_row(pair: tuple[Life, Life]) -> dict[str, object]:
    before, after = pair
    return {"live": before.row(), "candidate": after.row(), "differs": differences(before, after)}


def _weight(life: Life) -> tuple[Any, ...]:
    """Sort what matters most to the front."""
    return (life.level, -life.peak_profit, -life.strength, life.opened_at, life.key)


def _listed(
    items: Sequence[T], weight: Callable[[T], tuple[Any, ...]], row: Callable[[T], object]
) -> dict[str, object]:
    rows = [row(item) for item in sorted(items, key=weight)[:MOST_LISTED]]
    return {"rows": rows, "left_out": max(len(items) - MOST_LISTED, 0)}


def _seconds(lives: Iterable[Life]) -> Iterator[Decimal]:
    return (Decimal(life.lifetime) / SECOND for life in lives)
