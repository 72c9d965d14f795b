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

RelationType = Literal[
    "implies", "exclusive", "exhaustive", "equivalent", "complement", "union", "ladder"
]
RELATION_TYPES: tuple[RelationType, ...] = get_args(RelationType)
PAIRS = frozenset({"implies", "complement"})  # relations of exactly two markets
Basis = Literal["", "date", "threshold"]

MAX_STATES = 100_000
_NODES_PER_STATE = 50  # how far a search may go astray before it is given up

Literal0 = tuple[int, bool]  # position of a market in its set, truth of its outcome 0
Clause = tuple[Literal0, ...]  # at least one of these holds
State = tuple[bool, ...]  # truth of outcome 0, by position


class TooManyStates(Exception):
    """A set of markets leaves more joint outcomes possible than were to be listed."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between markets by id; an `implies` or `ladder` runs from first to last.

    `complement` says that exactly one of two is true; a `ladder` that each
    member implies the next; a `union` that the first member is true exactly if
    one of the others is, and these exclude each other. `blocked_by` names what
    speaks against a relation although a person approved it
    ("metadata_conflict"). `basis` is what the rungs of a ladder differ in.
    """

    type: RelationType
    members: tuple[str, ...]
    approved: bool
    blocked_by: tuple[str, ...] = ()
    basis: Basis = ""

    @property
    def gates(self) -> tuple[str, ...]:
        """Name what keeps findings that need this relation from being executed."""
        return self.blocked_by if self.approved else (*self.blocked_by, "unapproved_relation")


@dataclass(frozen=True, slots=True)
class Fact:
    """Of some literals at most one holds (`most`), or at least one.

    Every relation is one or two of these: `a implies b` says that at least one
    of "not a" and "b" holds; a union that exactly one of "not the first" and the
    others does.
    """

    most: bool
    literals: tuple[Literal0, ...]


def connected_sets(relations: Iterable[Relation]) -> list[tuple[Relation, ...]]:
    """Split relations into sets that share no market, in the order of their first relation."""
    given = list(relations)
    first: dict[str, str] = {}  # of each market: one that it is connected with, itself at the root

    def root(member: str) -> str:
        while (above := first.setdefault(member, member)) != member:
            first[member] = first[above]
            member = above
        return member

    for relation in given:
        top = root(relation.members[0])
        for member in relation.members[1:]:
            first[root(member)] = top
    sets: dict[str, list[Relation]] = {}
    for relation in given:
        sets.setdefault(root(relation.members[0]), []).append(relation)
    return [tuple(held) for held in sets.values()]


def members_of(relations: Iterable[Relation]) -> tuple[str, ...]:
    """Return the ids of all markets in relations, sorted."""
    return tuple(sorted({member for relation in relations for member in relation.members}))


def kind_of(relations: Sequence[Relation]) -> str:
    """Name the kind of what follows from a set of relations."""
    types = {relation.type for relation in relations}
    if len(relations) == 1:
        return "lp" if types & {"complement", "union"} else relations[0].type
    return "ladder" if types <= {"implies", "ladder"} and _is_chain(relations) else "lp"


def facts_of(
    relations: Iterable[Relation], members: Sequence[str], terms: Mapping[str, MarketTerms]
) -> tuple[Fact, ...]:
    """Say relations and neg-risk events as facts about positions in `members`, each once."""
    position = {member: index for index, member in enumerate(members)}
    facts = [*_relation_facts(relations, position, terms), *_neg_risk_facts(position, terms)]
    return tuple(dict.fromkeys(facts))


def possible_states(
    members: Sequence[str],
    relations: Iterable[Relation],
    terms: Mapping[str, MarketTerms],
    *,
    most: int = MAX_STATES,
) -> list[State]:
    """Return every joint outcome that the relations and neg-risk events allow.

    Members without terms are not listed: they can be anything that the
    relations allow. Raises `TooManyStates` above `most` states.
    """
    count = len(members)
    due = _due(count, facts_of(relations, members, terms))
    states: list[State] = []
    for bits in _extend(due, most * _NODES_PER_STATE):
        if len(states) == most:
            raise TooManyStates
        states.append(tuple(bool(bits >> index & 1) for index in range(count)))
    return states


Masks = list[tuple[int, int]]  # of each clause: which bits may be set, which may be clear


def _due(count: int, facts: Iterable[Fact]) -> list[Masks]:
    """Return for each position the clauses that are decided once its truth is known."""
    due: list[Masks] = [[] for _ in range(count)]
    for clause in _clauses(facts):
        true = sum(1 << index for index, wanted in clause if wanted)
        false = sum(1 << index for index, wanted in clause if not wanted)
        due[max(index for index, _ in clause)].append((true, false))
    return due


def _clauses(facts: Iterable[Fact]) -> Iterator[Clause]:
    for fact in facts:
        if not fact.most:
            yield fact.literals
            continue
        untrue = [(index, not wanted) for index, wanted in fact.literals]
        yield from combinations(untrue, 2)


def _extend(due: Sequence[Masks], nodes: int) -> Iterator[int]:
    """Yield the states as bits (position 0 is the lowest) that break no clause, depth first."""
    ahead = [(0, 0)]
    while ahead:
        bits, index = ahead.pop()
        if index == len(due):
            yield bits
            continue
        nodes -= 1
        if nodes < 0:
            raise TooManyStates
        for bits_then in (bits | 1 << index, bits):  # false comes first off the stack
            if all(bits_then & true or ~bits_then & false for true, false in due[index]):
                ahead.append((bits_then, index + 1))


def _relation_facts(
    relations: Iterable[Relation], position: Mapping[str, int], terms: Mapping[str, MarketTerms]
) -> Iterator[Fact]:
    for relation in relations:
        at = [position[member] for member in relation.members]
        true = tuple((index, True) for index in at)
        if relation.type in ("implies", "ladder"):
            yield from (_implies(a, b) for a, b in pairwise(at))
        if relation.type == "equivalent":
            yield from (_implies(a, b) for a, b in pairwise([*at, at[0]]))
        if relation.type in ("exclusive", "complement"):
            yield Fact(True, true)
        if relation.type in ("exhaustive", "complement"):
            # Where outcome 0 of a member has lost, the other members remain exhaustive.
            still = [position[m] for m in relation.members if not _resolved_no(terms.get(m))]
            if still:
                yield Fact(False, tuple((index, True) for index in still))
        if relation.type == "union":
            exactly_one = ((at[0], False), *true[1:])
            yield Fact(True, exactly_one)
            yield Fact(False, exactly_one)


def _implies(a: int, b: int) -> Fact:
    return Fact(False, ((a, False), (b, True)))


def _neg_risk_facts(
    position: Mapping[str, int], terms: Mapping[str, MarketTerms]
) -> Iterator[Fact]:
    """Say that at most one market of a neg-risk event is true."""
    groups: dict[str, list[Literal0]] = {}
    for member, index in position.items():
        listed = terms.get(member)
        if listed is not None and listed.neg_risk_id is not None:
            true = (index, yes_outcome(listed) == 0)
            groups.setdefault(listed.neg_risk_id, []).append(true)
    for group in groups.values():
        if len(group) > 1:
            yield Fact(True, tuple(group))


def _resolved_no(listed: MarketTerms | None) -> bool:
    return listed is not None and listed.payout == 0


def _is_chain(relations: Sequence[Relation]) -> bool:
    """Say that the markets stand in one line: n markets in a line have n + 1 states."""
    members = members_of(relations)
    try:
        return len(possible_states(members, relations, {}, most=len(members) + 1)) == (
            len(members) + 1
        )
    except TooManyStates:
        return False
