"""Relations between outcomes as values: proposed, suppressed and known ones (pure).

A relation as stored speaks of outcomes, 0 or 1, of its markets. Detectors know relations
between outcome 0 alone, so each is turned into those: that a implies "not b" is that
the two exclude each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Final, Literal

RelationType = Literal[
    "exclusive", "exhaustive", "implies", "equivalent", "complement", "union", "ladder"
]
Method = Literal["words", "date ladder", "threshold ladder", "range"]
Basis = Literal["", "date", "threshold"]  # what the rungs of a ladder differ in
Member = tuple[str, int]  # a market and which of its outcomes

PAIRS: Final = frozenset({"implies", "complement"})  # relations of exactly two
ORDERED: Final = frozenset({"implies", "ladder"})
SYMMETRIC: Final = frozenset({"exclusive", "exhaustive", "equivalent", "complement"})
BASES: Final[Mapping[str, Basis]] = {"date ladder": "date", "threshold ladder": "threshold"}


class NotExpressible(Exception):
    """A relation that makes no sense, or that outcome 0 alone cannot say; the text says which."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A relation between outcome 0 of markets, and why it is proposed.

    An `implies` runs from first to last, and in a `ladder` each member implies the next.
    `score` is how near the words are, from 0 to 1. `doubts` are what to look at.
    """

    type: RelationType
    members: tuple[str, ...]
    method: Method
    score: float = 1.0
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A relation that the words suggest and the venue's data contradict."""

    members: tuple[str, ...]
    method: Method
    reason: str


@dataclass(frozen=True, slots=True)
class KnownRelation:
    """A stored relation, or one part of it, between outcome 0 of its members.

    `id` is the row it comes from. `approved` is False on the watch-list.
    """

    id: int
    type: RelationType
    members: tuple[str, ...]
    approved: bool
    basis: Basis = ""


def key_of(type_: RelationType, members: Sequence[Member]) -> str:
    """Return the key of a relation: the same for every way to write it."""
    ordered = list(members)
    if type_ in SYMMETRIC:
        ordered.sort()
    elif type_ == "union":
        ordered[1:] = sorted(ordered[1:])
    text = ",".join([type_, *(f"{market}:{outcome}" for market, outcome in ordered)])
    return hashlib.sha256(text.encode()).hexdigest()


def at_outcome_0(
    type_: RelationType, members: Sequence[Member]
) -> tuple[tuple[RelationType, tuple[str, ...]], ...]:
    """Return the relations between outcome 0 that say the same; raise `NotExpressible`."""
    _check(type_, members)
    markets = tuple(market for market, _ in members)
    turned = [outcome for _, outcome in members]
    if not any(turned):
        return ((type_, markets),)
    if type_ == "ladder" and all(turned):
        return (("ladder", markets[::-1]),)
    if len(members) == 2:
        return (_pair(type_, members[0], members[1]),)
    if type_ == "ladder":
        return tuple(_pair("implies", a, b) for a, b in pairwise(members))
    if type_ == "equivalent":
        return tuple(_pair("equivalent", members[0], other) for other in members[1:])
    if type_ == "exclusive":
        return tuple(_pair("exclusive", a, b) for a, b in combinations(members, 2))
    raise NotExpressible(
        f"A relation of type {type_} with three or more members is known between first outcomes "
        "only; write it as several relations."
    )


def _check(type_: RelationType, members: Sequence[Member]) -> None:
    if len({market for market, _ in members}) != len(members):
        raise NotExpressible("A market can be in a relation once only.")
    least = 3 if type_ == "union" else 2
    if len(members) < least:
        raise NotExpressible(f"A relation of type {type_} needs at least {least} markets.")
    if type_ in PAIRS and len(members) != 2:
        raise NotExpressible(f"A relation of type {type_} has exactly two markets.")
    if not all(outcome in (0, 1) for _, outcome in members):
        raise NotExpressible("A market has outcomes 0 and 1.")


def _pair(type_: RelationType, a: Member, b: Member) -> tuple[RelationType, tuple[str, ...]]:
    """Say of two outcomes in words of outcome 0: each type is "one of these does not happen"."""
    (market_a, turn_a), (market_b, turn_b) = a, b
    if type_ in ("equivalent", "complement"):
        swapped = turn_a != turn_b
        other: RelationType = "complement" if type_ == "equivalent" else "equivalent"
        return (other if swapped else type_), (market_a, market_b)
    # What cannot be, as truths of outcome 0: implies is not (a and no b), and so on.
    impossible = {
        "implies": (True, False),
        "ladder": (True, False),
        "exclusive": (True, True),
        "exhaustive": (False, False),
    }[type_]
    truth_a, truth_b = impossible[0] is (turn_a == 0), impossible[1] is (turn_b == 0)
    if truth_a and truth_b:
        return "exclusive", (market_a, market_b)
    if not truth_a and not truth_b:
        return "exhaustive", (market_a, market_b)
    return "implies", (market_a, market_b) if truth_a else (market_b, market_a)


def is_contradicted(
    type_: RelationType, members: Sequence[Member], payouts: Mapping[str, Decimal | None]
) -> bool:
    """Say whether what members have paid cannot be under the relation.

    `payouts` are of outcome 0: 1, 0, or 0.5 for a void, which contradicts nothing.
    """
    truths = [_truth(payouts.get(market), outcome) for market, outcome in members]
    return any(_breaks(type_, truths))


def _truth(payout: Decimal | None, outcome: int) -> bool | None:
    if payout is None or payout not in (0, 1):
        return None
    return (payout == 1) is (outcome == 0)


def _breaks(type_: RelationType, truths: Sequence[bool | None]) -> Iterator[bool]:
    true, false = truths.count(True), truths.count(False)
    if type_ in ("implies", "ladder"):
        first_true = truths.index(True) if true else len(truths)
        yield False in truths[first_true:]
    if type_ in ("exclusive", "complement"):
        yield true > 1
    if type_ in ("exhaustive", "complement"):
        yield false == len(truths)
    if type_ == "equivalent":
        yield bool(true and false)
    if type_ == "union":
        others = truths[1:]
        yield others.count(True) > 1
        yield truths[0] is True and others.count(False) == len(others)
        yield truths[0] is False and True in others
