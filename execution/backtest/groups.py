"""Events in groups that have nothing to do with each other, and which frame concerns which (pure).

What is related stays together. A group is a function of the events alone, so a run
comes to the same whatever processes it is spread over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from execution.backtest.passing import MARKET, Part
from markets.frames import Frame
from markets.listing import BadListing, EventTerms, decode_page, read_page
from markets.problems import Problems
from rules import house

GROUPS = 8
_MANY = b"["


@dataclass(slots=True)
class Survey:
    """What a first pass finds: how much there is, and what belongs together."""

    frames: int = 0
    since: int = 0  # unix ns
    until: int = 0
    relations: bool = False
    history: bool = False
    _events: dict[str, str] = field(default_factory=dict)  # by market id
    _above: dict[str, str] = field(default_factory=dict)  # union-find over events
    _related: list[tuple[str, ...]] = field(default_factory=list)  # by market ids

    def take(self, frame: Frame) -> None:
        self.frames += 1
        self.since = self.since or frame.t
        self.until = frame.t
        if frame.ch != "gamma":
            return
        if not house.is_ours(frame.req):
            for event in _listed(frame.body):
                self._root(event.event_id)
                self._events.update((market.market_id, event.event_id) for market in event.markets)
        elif frame.req == house.RELATIONS:
            self._relate(frame.body)
        elif frame.req == house.HISTORY:
            self.history = True

    def _relate(self, body: bytes) -> None:
        try:
            relations = house.relations_of(body)
        except house.BadHouse:
            return  # the pipeline will say so
        self.relations = self.relations or bool(relations)
        self._related += [each.members for each in relations]

    def groups(self, count: int) -> dict[str, int]:
        """Return the group of each event that was listed, from 0 to `count` - 1."""
        for members in self._related:
            events = [self._events[each] for each in members if each in self._events]
            for other in events[1:]:
                self._join(events[0], other)
        return {event: crc32(self._root(event).encode()) % count for event in list(self._above)}

    def _root(self, event: str) -> str:
        while (above := self._above.setdefault(event, event)) != event:
            self._above[event] = self._above[above]
            event = above
        return event

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._above[second] = first


def survey(frames: Iterable[Frame]) -> Survey:
    found = Survey()
    for frame in frames:
        found.take(frame)
    return found


def _listed(body: bytes) -> tuple[EventTerms, ...]:
    try:
        return read_page(decode_page(body), rejected=[])
    except BadListing:
        return ()


class Router:
    """Gives each frame to the parts that it concerns, and its time to the others."""

    def __init__(self, parts: Mapping[int, Part], groups: Mapping[str, int]) -> None:
        """`groups` by event id; events of groups without a part are somebody else's."""
        self.parts = dict(parts)
        self.problems = Problems()
        self._groups = groups
        self._all: Sequence[Part] = tuple(self.parts.values())
        self._of: dict[bytes, Part | None] = {}  # by condition id; None: of another process
        self._first = min(self.parts, default=None)

    def take(self, frame: Frame) -> None:
        if len(self._all) == 1 and len(set(self._groups.values())) <= 1:
            self._all[0].take(frame)
            return
        if frame.ch == "gamma" and not house.is_ours(frame.req):
            self._listing(frame)
            return
        concerned = self._concerned(frame)
        for part in self._all:
            if part in concerned:
                part.take(frame)
            else:
                part.pass_by(frame.t)

    def _concerned(self, frame: Frame) -> Sequence[Part]:
        if frame.ch == "gamma" or (frame.ch == "ws" and frame.req is not None):
            return self._all
        body = frame.body
        if frame.ch == "ws" and body[:1] != _MANY:
            found = MARKET.search(body)
            if found is None:
                return self._unnamed()
            part = self._of.get(found[1])
            return (part,) if part is not None else ()
        named = set(MARKET.findall(body))
        if not named:
            return self._all if frame.ch == "clob" else self._unnamed()
        parts = {id(part): part for each in named if (part := self._of.get(each)) is not None}
        return tuple(parts.values())

    def _unnamed(self) -> Sequence[Part]:
        """Return who takes what names no market: the process that has the first group."""
        return self._all[:1] if self._first == 0 else ()

    def _listing(self, frame: Frame) -> None:
        rejected: list[BadListing] = []
        try:
            events = read_page(decode_page(frame.body), rejected=rejected)
        except BadListing as error:
            self.problems.note("gamma", "bad_page", at=frame.t, detail=str(error))
            events = ()
        for bad in rejected:
            self.problems.note(
                "gamma", "bad_listing", at=frame.t, subject=bad.market_id, detail=str(bad)
            )
        by_part: dict[int, list[EventTerms]] = {}
        for event in events:
            group = self._groups.get(event.event_id, 0)
            by_part.setdefault(group, []).append(event)
            part = self.parts.get(group)
            for market in event.markets:
                self._of[market.condition_id.encode()] = part
        for number, part in self.parts.items():
            if number in by_part:
                part.take_events(frame, by_part[number])
            else:
                part.pass_by(frame.t)
