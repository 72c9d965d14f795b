"""A set of related markets, worked out once: its facts, its shape and its joint outcomes (pure).

The shape decides how the set is looked at. In an `Order` every fact is "a implies b"
(chains, trees, pairs of any type: an outcome may stand for its opposite); in a
`Partition` all facts speak of the same literals (exclusive, exhaustive, unions). In
both the facts describe the possible outcomes completely, mixtures included, so they
can stand in for a list of states (`detection.md` 2.5).

A set of no shape is looked at over its states. Where there are too many of these its
facts have to do: what they promise is certain, and all there is in brackets; in a
tangle of other relations there may be more to gain than they show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from markets.listing import MarketTerms
from rules.kernel.relations import (
    Fact,
    Literal0,
    Relation,
    TooManyStates,
    facts_of,
    kind_of,
    members_of,
    possible_states,
)

COUNTED_STATES = 4_096

States = NDArray[np.int64]  # one row per state: truth of outcome 0 of each member


class Contradiction(Exception):
    """Relations that no joint outcome satisfies."""

    def __init__(self, relations: Iterable[Relation] = ()) -> None:
        self.relations = tuple(relations)
        super().__init__(", ".join(members_of(self.relations)))


@dataclass(frozen=True, slots=True)
class Group:
    """Positions that are true together, and the groups (by number) that imply them directly."""

    positions: tuple[int, ...]
    before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Groups from the strongest claim to the weakest; a flipped position means its opposite."""

    flipped: tuple[bool, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """One fact, or two about the same literals: at most one of them holds, at least one."""

    facts: tuple[Fact, ...]


Shape = Order | Partition | None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a set of markets. `states` is None above `COUNTED_STATES`."""

    relations: tuple[Relation, ...]
    kind: str
    members: tuple[str, ...]
    position: Mapping[str, int]
    facts: tuple[Fact, ...]
    shape: Shape
    states: States | None

    @property
    def count(self) -> int:
        """How many joint outcomes are possible; 0 where there are too many to list."""
        return 0 if self.states is None else len(self.states)

    @property
    def listed(self) -> States | None:
        """The states to solve over, or None where the facts are as good or all there is."""
        return None if self.shape is not None else self.states


def known_of(relations: Sequence[Relation], terms: Mapping[str, MarketTerms]) -> Known:
    """Work out a set of relations; raise `Contradiction` where nothing satisfies them.

    `terms` may lack members that are not listed.
    """
    members = members_of(relations)
    facts = facts_of(relations, members, terms)
    return Known(
        relations=tuple(relations),
        kind=kind_of(relations),
        members=members,
        position={member: index for index, member in enumerate(members)},
        facts=facts,
        shape=_partition(facts) or _order(facts, len(members)),
        states=_states(relations, members, terms),
    )


def _states(
    relations: Sequence[Relation], members: Sequence[str], terms: Mapping[str, MarketTerms]
) -> States | None:
    try:
        states = possible_states(members, relations, terms, most=COUNTED_STATES)
    except TooManyStates:
        return None
    if not states:
        raise Contradiction(relations)
    return np.array(states, dtype=np.int64)


def _partition(facts: Sequence[Fact]) -> Partition | None:
    if not facts or len({frozenset(fact.literals) for fact in facts}) != 1:
        return None
    return Partition(tuple(facts))


# --- orders --------------------------------------------------------------------------


def _order(facts: Sequence[Fact], count: int) -> Order | None:
    clauses = [_pair(fact) for fact in facts]
    pairs = [clause for clause in clauses if clause is not None]
    if len(pairs) < len(clauses):
        return None
    flipped = _flips(pairs, count)
    if flipped is None:
        return None
    after = [0] * count  # bits of the positions that each implies, once flips are applied
    for (a, a_wanted), (b, _) in pairs:
        first, then = (b, a) if a_wanted is not flipped[a] else (a, b)
        after[first] |= 1 << then
    return Order(flipped, _groups(after))


def _pair(fact: Fact) -> tuple[Literal0, Literal0] | None:
    """Read a fact about two literals as "at least one of these holds"; None for others."""
    if len(fact.literals) != 2:
        return None
    first, second = fact.literals
    if not fact.most:
        return first, second
    return (first[0], not first[1]), (second[0], not second[1])


def _flips(pairs: Iterable[tuple[Literal0, Literal0]], count: int) -> tuple[bool, ...] | None:
    """Choose the positions to flip so that each pair has one positive and one negative literal."""
    beside: list[list[tuple[int, bool]]] = [[] for _ in range(count)]
    for (a, a_wanted), (b, b_wanted) in pairs:
        beside[a].append((b, a_wanted is b_wanted))
        beside[b].append((a, a_wanted is b_wanted))
    flipped: list[bool | None] = [None] * count
    for start in range(count):
        if flipped[start] is None:
            flipped[start] = False
            if not _spread(start, beside, flipped):
                return None
    return tuple(bool(flip) for flip in flipped)


def _spread(
    start: int, beside: Sequence[Sequence[tuple[int, bool]]], flipped: list[bool | None]
) -> bool:
    """Flip what follows from `start`; return False where a position would have to be both."""
    ahead = [start]
    while ahead:
        at = ahead.pop()
        for other, opposite in beside[at]:
            wanted = bool(flipped[at]) is not opposite
            if flipped[other] is None:
                flipped[other] = wanted
                ahead.append(other)
            elif flipped[other] is not wanted:
                return False
    return True


def _groups(after: Sequence[int]) -> tuple[Group, ...]:
    count = len(after)
    reach = [bits | 1 << index for index, bits in enumerate(after)]
    for through in range(count):
        for index in range(count):
            if reach[index] >> through & 1:
                reach[index] |= reach[through]
    group_of = [
        min(j for j in range(count) if reach[i] >> j & 1 and reach[j] >> i & 1)
        for i in range(count)
    ]
    # A group that implies another reaches strictly more, so it comes first.
    heads = sorted(set(group_of), key=lambda head: -reach[head].bit_count())
    number = {head: place for place, head in enumerate(heads)}
    before: list[set[int]] = [set() for _ in heads]
    for index, bits in enumerate(after):
        for then in range(count):
            if bits >> then & 1 and group_of[index] != group_of[then]:
                before[number[group_of[then]]].add(number[group_of[index]])
    return tuple(
        Group(tuple(i for i in range(count) if group_of[i] == head), tuple(sorted(before[place])))
        for place, head in enumerate(heads)
    )
