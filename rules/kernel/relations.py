"""What is logically known between markets, and the joint outcomes it leaves possible (pure).

A relation speaks of outcome 0 of its markets. Every doubt is settled towards more
possible states: a state too many can only hide a profit, a missing one invents it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal, get_args

from markets.listing import MarketTerms
from rules.kernel.baskets import yes_outcome

RelationType = Literal["implies", "exclusive", "exhaustive", "equivalent", "complement", "ladder"]
RELATION_TYPES: tuple[RelationType, ...] = get_args(RelationType)
PAIRS = frozenset({"implies", "complement"})  # relations of exactly two markets

MAX_STATES = 100_000

Literal0 = tuple[int, bool]  # position of a market in its set, truth of its outcome 0
Clause = tuple[Literal0, ...]  # at least one of these holds
State = tuple[bool, ...]  # truth of outcome 0, by position


class TooManyStates(Exception):
    """A set of markets leaves more than `MAX_STATES` joint outcomes possible."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between markets by id; an `implies` or `ladder` runs from first to last.

    `complement` says that exactly one of two is true; a `ladder` that each
    member implies the next.
    """

    type: RelationType
    members: tuple[str, ...]
    approved: bool


def connected_sets(relations: Iterable[Relation]) -> list[tuple[Relation, ...]]:
    """Split relations into sets that share no market, in the order of their first relation."""
    sets: list[tuple[set[str], list[Relation]]] = []
    for relation in relations:
        members, joined = set(relation.members), [relation]
        apart = []
        for others, held in sets:
            if members.isdisjoint(others):
                apart.append((others, held))
            else:
                members, joined = members | others, held + joined
        sets = [*apart, (members, joined)]
    return [tuple(held) for _, held in sets]


def members_of(relations: Iterable[Relation]) -> tuple[str, ...]:
    """Return the ids of all markets in relations, sorted."""
    return tuple(sorted({member for relation in relations for member in relation.members}))


def kind_of(relations: Sequence[Relation]) -> str:
    """Name the kind of what follows from a set of relations."""
    types = {relation.type for relation in relations}
    if len(relations) == 1:
        return "lp" if types == {"complement"} else relations[0].type
    return "ladder" if types <= {"implies", "ladder"} and _is_chain(relations) else "lp"


def possible_states(
    members: Sequence[str], relations: Iterable[Relation], terms: Mapping[str, MarketTerms]
) -> list[State]:
    """Return every joint outcome that the relations and neg-risk events allow.

    Members without terms are not listed: they can be anything that the
    relations allow. Raises `TooManyStates`.
    """
    position = {member: index for index, member in enumerate(members)}
    clauses = [*_clauses(relations, position, terms), *_neg_risk_clauses(position, terms)]
    due: list[list[Clause]] = [[] for _ in members]
    for clause in clauses:
        due[max(index for index, _ in clause)].append(clause)
    states: list[State] = []
    for state in _extend([], due):
        states.append(state)
        if len(states) > MAX_STATES:
            raise TooManyStates
    return states


def _extend(known: list[bool], due: list[list[Clause]]) -> Iterator[State]:
    """Yield the complete states that begin as `known` and break no clause."""
    if len(known) == len(due):
        yield tuple(known)
        return
    clauses = due[len(known)]
    for truth in (False, True):
        known.append(truth)
        if all(any(known[index] is wanted for index, wanted in clause) for clause in clauses):
            yield from _extend(known, due)
        known.pop()


def _clauses(
    relations: Iterable[Relation], position: Mapping[str, int], terms: Mapping[str, MarketTerms]
) -> Iterator[Clause]:
    for relation in relations:
        at = [position[member] for member in relation.members]
        if relation.type in ("implies", "ladder"):
            yield from (((a, False), (b, True)) for a, b in pairwise(at))
        if relation.type == "equivalent":
            yield from (((a, False), (b, True)) for a, b in pairwise([*at, at[0]]))
        if relation.type in ("exclusive", "complement"):
            yield from (((a, False), (b, False)) for a, b in combinations(at, 2))
        if relation.type in ("exhaustive", "complement"):
            still = [position[m] for m in relation.members if not _resolved_no(terms.get(m))]
            if still:
                yield tuple((index, True) for index in still)


def _neg_risk_clauses(
    position: Mapping[str, int], terms: Mapping[str, MarketTerms]
) -> Iterator[Clause]:
    """Say that at most one market of a neg-risk event is true."""
    groups: dict[str, list[Literal0]] = {}
    for member, index in position.items():
        listed = terms.get(member)
        if listed is not None and listed.neg_risk_id is not None:
            untrue = (index, yes_outcome(listed) == 1)
            groups.setdefault(listed.neg_risk_id, []).append(untrue)
    for group in groups.values():
        yield from combinations(group, 2)


def _resolved_no(listed: MarketTerms | None) -> bool:
    """Say that outcome 0 has lost: the other members of an exhaustive set remain exhaustive."""
    return listed is not None and listed.payout == 0


def _is_chain(relations: Sequence[Relation]) -> bool:
    """Say that the markets stand in one line: n markets in a line have n + 1 states."""
    members = members_of(relations)
    try:
        return len(possible_states(members, relations, {})) == len(members) + 1
    except TooManyStates:
        return False
