"""Findings become episodes: one signal per mispricing, from first sight to close (pure).

Time comes in with every call and decides everything, so that a recording
played again gives the same episodes with the same ids, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import heapify, heappop, heappush
from typing import Literal

from rules.engine import ActiveRule, Sighting
from rules.kernel.finding import Finding

MS = 1_000_000
# A finding that is back within this time was the same episode: 500 ms is the
# clustering that separates episodes from flicker in `detection.md` 1.3.
LINGER_NS = 500 * MS
# An open episode is told again at most this often unless its level changes. What
# cannot be bought may stand for hours and move with every tick.
UPDATE_EVERY_NS = {"P1": 500 * MS, "P2": 500 * MS, "P3": 5_000 * MS}
NEVER = 2**63

ChangeKind = Literal["opened", "updated", "closed"]


@dataclass(slots=True)
class Episode:
    """An open signal. Times are unix ns.

    `standing_since` is when its finding was seen after it was not; `level` is what it may
    be called by now (`Episodes`), `deserved` what its finding alone would make it.
    """

    key: str
    rule: ActiveRule
    subject: str
    finding: Finding
    level: str
    opened_at: int
    seen_at: int
    told_at: int
    told: tuple[str, Decimal, Decimal]  # level, profit, edge_bps as last told
    peak_edge_bps: Decimal
    peak_profit: Decimal
    observations: int = 1
    fading_since: int | None = None
    why: str = ""
    standing_since: int = 0
    deserved: str = ""

    @property
    def now(self) -> tuple[str, Decimal, Decimal]:
        return self.level, self.finding.profit, self.finding.edge_bps

    @property
    def due(self) -> int:
        """When something is to be said though no frame comes: its end, or what it is now."""
        if self.fading_since is not None:
            return self.fading_since + LINGER_NS
        again = self.told_at + UPDATE_EVERY_NS[self.level] if self.now != self.told else NEVER
        return min(again, self.rises_at)

    @property
    def rises_at(self) -> int:
        """When it becomes P1 if it goes on standing; NEVER for what is P1 or never will be."""
        if self.fading_since is not None or self.level == "P1" or self.deserved != "P1":
            return NEVER
        return self.standing_since + self.rule.definition.dedupe.persist_ms * MS

    def rate(self, at: int) -> None:
        """Set the level to what it may be called at a time: P1 only what has stood for a while."""
        # Once P1, a short break does not make it less.
        settled = self.level == "P1" or at >= self.rises_at
        self.level = "P2" if self.deserved == "P1" and not settled else self.deserved


@dataclass(frozen=True, slots=True)
class SignalChange:
    """What happened to a signal, complete enough to store, show or print."""

    change: ChangeKind
    at: int  # unix ns
    key: str
    rule: ActiveRule
    finding: Finding
    level: str
    opened_at: int
    peak_edge_bps: Decimal
    peak_profit: Decimal
    observations: int
    why: str = ""

    def row(self) -> dict[str, object]:
        """Return the change as the JSON object that `replay` prints."""
        return {
            "change": self.change,
            "at": self.at,
            "id": self.key,
            "rule": self.rule.code,
            "level": self.level,
            "opened_at": self.opened_at,
            "peak_edge_bps": f"{self.peak_edge_bps:.2f}",
            "observations": self.observations,
            "why": self.why,
            "finding": self.finding.row(),
        }

    def line(self) -> str:
        return json.dumps(self.row(), sort_keys=True, separators=(",", ":"))


@dataclass(slots=True)
class Digest:
    """Running sha256 over the printed lines of a signal stream, as a whole and by parts."""

    changes: int = 0
    _sha: hashlib._Hash = field(default_factory=hashlib.sha256)
    _part: hashlib._Hash = field(default_factory=hashlib.sha256)
    _part_from: int = 0

    def add(self, change: SignalChange) -> None:
        self.changes += 1
        line = change.line().encode() + b"\n"
        self._sha.update(line)
        self._part.update(line)

    def part(self) -> tuple[str, int]:
        """Return digest and number of the changes since the last call; begin the next part."""
        told = f"sha256:{self._part.hexdigest()}", self.changes - self._part_from
        self._part, self._part_from = hashlib.sha256(), self.changes
        return told

    def hexdigest(self) -> str:
        return f"sha256:{self._sha.hexdigest()}"


class Episodes:
    """All open signals of one process, by rule and subject, then by kind of basket.

    What deserves P1 is P2 until it has stood for the rule's `persist_ms` without a break:
    what is gone before anybody could act is no reason to call anybody.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], dict[str, Episode]] = {}
        self._waiting: dict[str, Episode] = {}  # by key; those with something due
        self.due = NEVER  # unix ns; `advance` has nothing to say before

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def take(self, sightings: Iterable[Sighting], *, at: int) -> Iterator[SignalChange]:
        """Match what was seen with what is open."""
        for sighting in sightings:
            subject = sighting.rule.code, sighting.subject
            episodes = self._open.get(subject, {})
            seen = {finding.kind for finding in sighting.findings}
            for kind, episode in episodes.items():
                if kind not in seen and episode.fading_since is None:
                    episode.fading_since, episode.why = at, sighting.why
                    self._wait(episode)
            for finding in sighting.findings:
                yield from self._see(episodes, sighting, finding, at=at)
            if episodes:
                self._open[subject] = episodes

    def resume(self, episode: Episode) -> None:
        """Go on with an episode that another process began (`signals.adopt`)."""
        kinds = self._open.setdefault((episode.rule.code, episode.subject), {})
        kinds[episode.finding.kind] = episode

    def advance(self, *, at: int) -> Iterator[SignalChange]:
        """Say what is due by now; call before each frame.

        Closes what has been gone for longer than `LINGER_NS`, and tells the last
        change of what has not been told for a while. All of it is decided by
        the times of frames alone: it does not matter how often this is called.
        """
        if at < self.due:
            return
        yield from self._say(by=at, risen_by=at)

    def settle(self, *, at: int) -> Iterator[SignalChange]:
        """Say all that waits to be told, and close what has gone, as if time went on from `at`.

        Nothing becomes P1 by that: for it, somebody would have to look again.
        """
        yield from self._say(by=NEVER, risen_by=at)

    def close_rules(self, codes: Collection[str], *, at: int, why: str) -> Iterator[SignalChange]:
        """Close what rules have open that do not run any more."""
        yield from self._close_each(lambda rule: rule.code in codes, at=at, why=why)

    def close_all(self, *, at: int, why: str) -> Iterator[SignalChange]:
        """Close everything, as when the process stops: first what was due anyway."""
        yield from self.settle(at=at)
        yield from self._close_each(lambda rule: True, at=at, why=why)

    def _close_each(
        self, which: Callable[[ActiveRule], bool], *, at: int, why: str
    ) -> Iterator[SignalChange]:
        every = [episode for kinds in self._open.values() for episode in kinds.values()]
        episodes = [episode for episode in every if which(episode.rule)]
        for episode in sorted(episodes, key=lambda e: (e.opened_at, e.key)):
            yield self._close(episode, at=at, why=why)

    def _say(self, *, by: int, risen_by: int) -> Iterator[SignalChange]:
        waiting = [(episode.due, key) for key, episode in self._waiting.items()]
        heapify(waiting)
        while waiting and waiting[0][0] <= by:
            due, key = heappop(waiting)
            episode = self._waiting[key]
            change = self._said(episode, due, risen_by=risen_by)
            if change is None:
                continue
            yield change
            if key in self._waiting:  # there is more to come, maybe by then
                heappush(waiting, (episode.due, key))
        self.due = min((episode.due for episode in self._waiting.values()), default=NEVER)

    def _said(self, episode: Episode, due: int, *, risen_by: int) -> SignalChange | None:
        """Say what is due of an episode; None if there is nothing after all."""
        if episode.fading_since is not None:
            return self._close(episode, at=episode.fading_since, why=episode.why)
        if episode.rises_at <= min(due, risen_by):
            episode.seen_at = due
            episode.rate(due)
            return self._update(episode, at=due)
        return self._update(episode, at=due) if episode.now != episode.told else None

    def _wait(self, episode: Episode) -> None:
        """Note whether an episode has something due."""
        if episode.due == NEVER:
            self._waiting.pop(episode.key, None)
        else:
            self._waiting[episode.key] = episode
            self.due = min(self.due, episode.due)

    def _close(self, episode: Episode, *, at: int, why: str) -> SignalChange:
        self._waiting.pop(episode.key, None)
        subject = episode.rule.code, episode.subject
        del self._open[subject][episode.finding.kind]
        if not self._open[subject]:
            del self._open[subject]
        return self._change("closed", episode, at=at, why=why)

    def _update(self, episode: Episode, *, at: int) -> SignalChange:
        """Tell what an episode has become since it was last told."""
        episode.told_at, episode.told = at, episode.now
        self._wait(episode)
        return self._change("updated", episode, at=episode.seen_at)

    def _see(
        self, episodes: dict[str, Episode], sighting: Sighting, finding: Finding, *, at: int
    ) -> Iterator[SignalChange]:
        deserved = sighting.rule.definition.outputs.level_of(finding)
        episode = episodes.get(finding.kind)
        if episode is None:
            episodes[finding.kind] = episode = self._opened(sighting, finding, deserved, at)
            self._wait(episode)
            yield self._change("opened", episode, at=at)
            return
        if episode.fading_since is not None or episode.deserved != "P1":
            episode.standing_since = at
        episode.fading_since, episode.why = None, ""
        episode.finding, episode.deserved, episode.seen_at = finding, deserved, at
        episode.rate(at)
        episode.observations += 1
        episode.peak_edge_bps = max(episode.peak_edge_bps, finding.edge_bps)
        episode.peak_profit = max(episode.peak_profit, finding.profit)
        if episode.level != episode.told[0] or at >= episode.due:
            yield self._update(episode, at=at)
        else:
            self._wait(episode)

    @staticmethod
    def _opened(sighting: Sighting, finding: Finding, deserved: str, at: int) -> Episode:
        rule = sighting.rule
        at_once = deserved != "P1" or not rule.definition.dedupe.persist_ms
        level = deserved if at_once else "P2"
        content = f"{rule.code}|{rule.sha256}|{finding.kind}|{sighting.subject}|{at}"
        return Episode(
            key=hashlib.sha256(content.encode()).hexdigest()[:32],
            rule=rule,
            subject=sighting.subject,
            finding=finding,
            level=level,
            opened_at=at,
            seen_at=at,
            told_at=at,
            told=(level, finding.profit, finding.edge_bps),
            peak_edge_bps=finding.edge_bps,
            peak_profit=finding.profit,
            standing_since=at,
            deserved=deserved,
        )

    @staticmethod
    def _change(kind: ChangeKind, episode: Episode, *, at: int, why: str = "") -> SignalChange:
        return SignalChange(
            change=kind,
            at=at,
            key=episode.key,
            rule=episode.rule,
            finding=episode.finding,
            level=episode.level,
            opened_at=episode.opened_at,
            peak_edge_bps=episode.peak_edge_bps,
            peak_profit=episode.peak_profit,
            observations=episode.observations,
            why=why,
        )
