"""Planted arbitrages across markets that a person has related to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from markets.simulator.exam.bargains import put_up, take_back, total
from markets.simulator.exam.cases import Case, Detector, Json, Stake, States
from markets.simulator.exam.single import hold, plan
from markets.simulator.exam.studio import Seat, Studio
from markets.simulator.state import LiveEvent
from markets.simulator.truth import USD

Place = tuple[int, int]  # position of a market, outcome to buy


@dataclass(frozen=True, slots=True)
class Bundle:
    """Outcomes that together pay so many dollars a share in every state."""

    places: tuple[Place, ...]
    pays: int


@dataclass(frozen=True, slots=True, eq=False)
class Logic:
    """What some markets have to do with each other.

    `relations` names members by position; `kind` is what a finding about all of
    it is called. `possible` are the states, `bundles` what may be mispriced.
    """

    kind: str
    relations: tuple[tuple[str, tuple[int, ...]], ...]
    possible: States
    bundles: tuple[Bundle, ...]
    basis: str = ""
    detectors: tuple[Detector, ...] = ("cross_market",)


def one_of(count: int, *, or_none: bool) -> States:
    """Return the states in which exactly one (or none) of them is true."""
    rows = [np.eye(count, dtype=np.int8)]
    return np.vstack([*rows, np.zeros((1, count), dtype=np.int8)]) if or_none else rows[0]


def _states(rows: Sequence[Sequence[int]]) -> States:
    return np.array(rows, dtype=np.int8)


def _bundle(pays: int, *places: Place) -> Bundle:
    return Bundle(places, pays)


def implication() -> Logic:
    """If the first is true the second is."""
    return Logic("implies", (("implies", (0, 1)),), _states([[0, 0], [0, 1], [1, 1]]),
                 (_bundle(1, (0, 1), (1, 0)),))  # fmt: skip


def exclusion(count: int) -> Logic:
    """At most one is true."""
    bundle = Bundle(tuple((at, 1) for at in range(count)), count - 1)
    members = tuple(range(count))
    return Logic("exclusive", (("exclusive", members),), one_of(count, or_none=True), (bundle,))


def exhaustion(count: int) -> Logic:
    """At least one is true."""
    rows = [row for row in product((0, 1), repeat=count) if any(row)]
    bundle = Bundle(tuple((at, 0) for at in range(count)), 1)
    return Logic("exhaustive", (("exhaustive", tuple(range(count))),), _states(rows), (bundle,))


def equivalence() -> Logic:
    """Both are true or neither."""
    bundles = (_bundle(1, (0, 1), (1, 0)), _bundle(1, (0, 0), (1, 1)))
    return Logic("equivalent", (("equivalent", (0, 1)),), _states([[0, 0], [1, 1]]), bundles)


def opposition() -> Logic:
    """Exactly one of two is true."""
    bundles = (_bundle(1, (0, 0), (1, 0)), _bundle(1, (0, 1), (1, 1)))
    return Logic("lp", (("complement", (0, 1)),), _states([[0, 1], [1, 0]]), bundles)


def union(parts: int) -> Logic:
    """The first is true exactly if one of the others is."""
    rows = [[0] * (parts + 1)]
    rows += [[1, *(int(at == part) for at in range(parts))] for part in range(parts)]
    places = range(1, parts + 1)
    bundles = (
        Bundle(((0, 0), *((at, 1) for at in places)), parts),
        Bundle(((0, 1), *((at, 0) for at in places)), 1),
    )
    return Logic("lp", (("union", tuple(range(parts + 1))),), _states(rows), bundles)


def date_ladder(rungs: int) -> Logic:
    """By an earlier date implies by each later one."""
    return Logic("ladder", (("ladder", tuple(range(rungs))),), _rungs(rungs), _falls(rungs),
                 basis="date", detectors=("cross_market", "temporal"))  # fmt: skip


def chain() -> Logic:
    """Two implications in a row, mispriced between the ends."""
    relations = (("implies", (0, 1)), ("implies", (1, 2)))
    return Logic("ladder", relations, _rungs(3), (_bundle(1, (0, 1), (2, 0)),))


def _rungs(count: int) -> States:
    return _states([[int(at >= first) for at in range(count)] for first in range(count + 1)])


def _falls(count: int) -> tuple[Bundle, ...]:
    pairs = [(low, high) for high in range(count) for low in range(high)]
    return tuple(_bundle(1, (low, 1), (high, 0)) for low, high in pairs)


def buckets(count: int) -> Logic:
    """Thresholds (the highest first) and the ranges between them, each a market.

    Positions 0 to `count` are thresholds, the rest ranges: range i lies between
    threshold i + 1 and threshold i.
    """
    top = count + 1
    rows = []
    for level in range(count + 2):  # 0: above all thresholds
        above = [int(at >= level) for at in range(top)]
        rows.append(above + [int(level == at + 1) for at in range(count)])
    relations: list[tuple[str, tuple[int, ...]]] = [("ladder", tuple(range(top)))]
    relations += [("union", (at + 1, at, top + at)) for at in range(count)]
    down = tuple((top + at, 1) for at in range(count))
    up = tuple((top + at, 0) for at in range(count))
    bundles = (
        Bundle(((0, 1), *down, (count, 0)), count + 1),
        Bundle(((0, 0), *up, (count, 1)), 1),
    )
    return Logic("lp", tuple(relations), _states(rows), bundles)


def party(candidates: int) -> Logic:
    """Candidates of one party exclude each other and each winner takes the party along.

    The party may also win with somebody who is not listed.
    """
    rows = [[0] * (candidates + 1), [1] + [0] * candidates]
    rows += [[1, *(int(at == who) for at in range(candidates))] for who in range(candidates)]
    places = tuple(range(1, candidates + 1))
    relations = (("exclusive", places), *(("implies", (at, 0)) for at in places))
    bundle = Bundle(((0, 0), *((at, 1) for at in places)), candidates)
    return Logic("lp", relations, _states(rows), (bundle,))


def fork() -> Logic:
    """Two markets imply the same third: both arbitrages need the same offers of it."""
    rows = [[0, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    relations = (("implies", (0, 2)), ("implies", (1, 2)))
    bundles = (_bundle(1, (0, 1), (2, 0)), _bundle(1, (1, 1), (2, 0)))
    return Logic("lp", relations, _states(rows), bundles)


# --- markets around a logic ----------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Related:
    """A logic with its markets: where each position stands."""

    logic: Logic
    places: tuple[tuple[LiveEvent, int], ...]

    @property
    def events(self) -> list[LiveEvent]:
        """The events of the markets, each once."""
        return list({event.spec.event_id: event for event, _ in self.places}.values())

    @property
    def market_ids(self) -> tuple[str, ...]:
        """The markets by position."""
        return tuple(event.legs[at].spec.market_id for event, at in self.places)

    def seats(self, bundle: Bundle) -> list[Seat]:
        """What a bundle buys."""
        return [Seat(*self.places[at], outcome) for at, outcome in bundle.places]

    def rows(self, *, approved: bool = True, blocked_by: Sequence[str] = ()) -> list[Json]:
        """The relations as the desk tells them to its detectors."""
        ids = self.market_ids
        return [
            {
                "type": kind,
                "members": [ids[at] for at in members],
                "approved": approved,
                "blocked_by": list(blocked_by),
                "basis": self.logic.basis,
            }
            for kind, members in self.logic.relations
        ]

    def stake(self) -> Stake:
        """All that could be gained of it."""
        logic = self.logic
        events = self.events
        event_id = events[0].spec.event_id if len(events) == 1 else None
        return Stake(logic.kind, event_id, self.market_ids, (0, 1), logic.possible, logic.detectors)


def likely(studio: Studio, possible: States) -> list[float]:
    """Draw chances of the markets that fit their logic."""
    weights = np.array([0.15 + studio.rng.expovariate(1.0) for _ in possible])
    chances: list[float] = (weights / weights.sum() @ possible).tolist()
    return [min(max(chance, 0.01), 0.99) for chance in chances]


def build(studio: Studio, logic: Logic, *, together: bool = False) -> Related:
    """Draw markets for a logic: each an event of its own, or all in one event."""
    chances = likely(studio, logic.possible)
    if together:
        event = studio.event("plain", chances)
        return Related(logic, tuple((event, at) for at in range(len(chances))))
    events = [studio.event("binary", [chance]) for chance in chances]
    return Related(logic, tuple((event, 0) for event in events))


def planted(studio: Studio, family: str, related: Related, *, margin: float = 0.015) -> Case | None:
    """Misprice one of a logic's bundles for some seconds."""
    studio.open(*related.events)
    studio.stir(*related.events, times=2, gap_ms=60)
    bundle = studio.rng.choice(related.logic.bundles)
    offers = plan(studio, related.seats(bundle), pays=bundle.pays,
                  margin=margin * bundle.pays + studio.rng.uniform(0, 0.02))  # fmt: skip
    if offers is None:
        return None
    put_up(studio, offers)
    hold(studio, *related.events)
    take_back(studio, offers)
    studio.wait(1_300)
    return studio.case(family, stakes=[related.stake()], relations=related.rows())


Maker = Callable[[Studio], Case | None]


def _simple(family: str, logic: Callable[[Studio], Logic], *, together: bool = False) -> Maker:
    def make(studio: Studio) -> Case | None:
        return planted(studio, family, build(studio, logic(studio), together=together))

    return make


def double_use(studio: Studio) -> Case | None:
    """Two arbitrages that need the same offers: no more may be taken than is there."""
    related = build(studio, fork())
    studio.open(*related.events)
    first, second = related.logic.bundles
    offers = plan(studio, related.seats(first), pays=1, margin=0.02)
    if offers is None:
        return None
    put_up(studio, offers)
    other, shared = related.seats(second)
    spent = total([shared], [shared.ask], studio.charges) / USD
    more = plan(studio, [other], pays=1, margin=0.02 + spent, low=150, high=500)
    if more is None:
        return None
    put_up(studio, more)
    hold(studio, *related.events)
    take_back(studio, [*offers, *more])
    studio.wait(1_300)
    return studio.case("shared_leg", stakes=[related.stake()], relations=related.rows(),
                       trap=True, check="double_spend")  # fmt: skip


def void_label(studio: Studio) -> Case | None:
    """A pair that a void would break: it must say so."""
    case = planted(studio, "void_label", build(studio, implication()))
    if case is None:
        return None
    return studio.case("void_label", stakes=case.stakes, relations=case.relations, trap=True,
                       check="unlabelled")  # fmt: skip


dates = _simple(
    "date_ladder", lambda studio: date_ladder(studio.rng.randrange(3, 7)), together=True
)
RELATED: tuple[Maker, ...] = (
    _simple("implies", lambda studio: implication()),
    _simple("exclusive", lambda studio: exclusion(studio.rng.randrange(2, 5))),
    _simple("exhaustive", lambda studio: exhaustion(studio.rng.randrange(2, 5))),
    _simple("equivalent", lambda studio: equivalence()),
    _simple("complement", lambda studio: opposition()),
    _simple("union", lambda studio: union(studio.rng.randrange(2, 5))),
    _simple("chain", lambda studio: chain()),
    _simple("buckets", lambda studio: buckets(studio.rng.randrange(2, 4))),
    _simple("party", lambda studio: party(studio.rng.randrange(2, 5))),
)
