"""Relations between outcomes: proposed by programs and people, decided by a person.

A state moves by asking the database. Who approves has seen a fingerprint: of the words,
rules, sources, dates and outcome sets of all members. If any of that has changed since,
there is nothing to approve, and what had been approved is invalid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from django.contrib.auth.models import User
from django.db import transaction

from markets.related import (
    BASES,
    KnownRelation,
    Member,
    Proposal,
    RelationType,
    at_outcome_0,
    key_of,
)
from markets.relation_changes import FINISHED, invalidate_changed, note_listing, retire_ended
from markets.relation_models import Relation, RelationMember
from markets.relation_rows import (
    found_in,
    members_of,
    refresh,
    store_members,
    tell,
    tell_of_run,
)
from markets.texts import chunks
from markets.wordings import Stated, stated_of

__all__ = [
    "AlreadyDecided",
    "AlreadyKnown",
    "MembersChanged",
    "NotChecked",
    "ReasonMissing",
    "Tally",
    "UnknownMarket",
    "approve",
    "approved_relations",
    "invalidate",
    "invalidate_changed",
    "note_listing",
    "propose",
    "propose_by_hand",
    "proposed_relations",
    "reject",
    "reopen",
    "retire_ended",
]

State, Origin = Relation.State, Relation.Origin
PERMISSION = "markets.decide_relation"


class AlreadyDecided(Exception):
    """The relation is not in the state that this act starts from; `state` is what it is in."""

    def __init__(self, state: str) -> None:
        super().__init__(f"It is {state.lower()} by now; load the page again.")
        self.state = state


class MembersChanged(Exception):
    """What the venue says of a member is not what was looked at; it has been read anew."""

    def __init__(self) -> None:
        super().__init__("The venue changed a market after you opened this; look again.")


class NotChecked(Exception):
    """Aspects of the same-resolution test that nobody has said to have checked."""

    def __init__(self, aspects: Sequence[str]) -> None:
        super().__init__(f"Check and tick first: {', '.join(aspects)}.")
        self.aspects = tuple(aspects)


class ReasonMissing(Exception):
    """A decision that needs a reason came without one."""


class AlreadyKnown(Exception):
    """The relation exists; `relation_id` is its row."""

    def __init__(self, relation: Relation) -> None:
        super().__init__(f"This relation exists and is {relation.state.lower()} (#{relation.pk}).")
        self.relation_id = relation.pk


class UnknownMarket(Exception):
    """Ids that the catalogue does not have."""

    def __init__(self, market_ids: Iterable[str]) -> None:
        super().__init__(f"Not in the catalogue: {', '.join(market_ids)}.")


# --- for the live process ------------------------------------------------------------


def approved_relations() -> tuple[KnownRelation, ...]:
    """Return what a person approved and is still valid, between outcome 0; one query.

    Left out are relations all of whose markets have ended.
    """
    return _known(State.APPROVED)


def proposed_relations() -> tuple[KnownRelation, ...]:
    """Return what waits for a person, for the watch-list; one query."""
    return _known(State.PROPOSED)


_KNOWN = (
    "relation_id",
    "relation__type",
    "relation__method",
    "market_id",
    "outcome",
    "market__state",
)


def _known(state: str) -> tuple[KnownRelation, ...]:
    rows = (
        RelationMember.objects.filter(relation__state=state)
        .order_by("relation_id", "position")
        .values_list(*_KNOWN)
    )
    found: list[KnownRelation] = []
    for _, members in groupby(rows, key=itemgetter(0)):
        listed = list(members)
        if not all(market_state in FINISHED for *_, market_state in listed):
            found += _parts(listed, approved=state == State.APPROVED)
    return tuple(found)


def _parts(rows: Sequence[tuple[Any, ...]], *, approved: bool) -> list[KnownRelation]:
    pk, type_, method, *_ = rows[0]
    members = [(market_id, outcome) for _, _, _, market_id, outcome, _ in rows]
    basis = BASES.get(method, "")
    return [
        KnownRelation(pk, kind, markets, approved, basis)
        for kind, markets in at_outcome_0(cast(RelationType, type_.lower()), members)
    ]


# --- proposing ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of proposals, as counts. `unknown` are of markets that are not stored."""

    new: int = 0
    renewed: int = 0  # had been invalidated
    waiting: int = 0
    approved: int = 0
    rejected: int = 0
    unknown: int = 0


@transaction.atomic
def propose(
    proposals: Iterable[Proposal], *, origin: Relation.Origin, by: str, at: datetime
) -> Tally:
    """Store proposals that are new, and those whose relation a change had invalidated.

    What a person decided stays decided.
    """
    wanted = {key_of(each.type, _at_0(each)): each for each in proposals}
    known = _by_key(wanted)
    due = {key: each for key, each in wanted.items() if _is_due(known.get(key))}
    stated = stated_of(market for each in due.values() for market in each.members)
    good = {key: each for key, each in due.items() if stated.keys() >= set(each.members)}
    made = {"origin": origin, "proposed_by": by, "proposed_at": at}
    new = [
        Relation(key=key, **_columns(each, stated), **made)
        for key, each in good.items()
        if key not in known
    ]
    Relation.objects.bulk_create(new, batch_size=500)
    store_members(((row, _at_0(good[row.key])) for row in new), stated)
    renewed = [known[key] for key in good if key in known]
    for relation in renewed:
        _renew(relation, good[relation.key], stated, made)
    if new or renewed:
        tell_of_run([*new, *renewed], "proposed", by=by, at=at)
    states = Counter(relation.state for relation in known.values())
    return Tally(
        new=len(new),
        renewed=len(renewed),
        waiting=states[State.PROPOSED] - len(renewed),
        approved=states[State.APPROVED],
        rejected=states[State.REJECTED],
        unknown=len(due) - len(good),
    )


@transaction.atomic
def propose_by_hand(
    type_: RelationType, members: Sequence[Member], *, by: User, at: datetime, reason: str
) -> Relation:
    """Store a relation that a person thought of; it waits for approval like any other.

    Raises `NotExpressible`, `UnknownMarket`, `AlreadyKnown` or `ReasonMissing`.
    """
    at_outcome_0(type_, members)
    _refuse_no_reason(reason, "Say why it holds.")
    key = key_of(type_, members)
    if known := Relation.objects.filter(key=key).first():
        raise AlreadyKnown(known)
    stated = stated_of(market for market, _ in members)
    if missing := [market for market, _ in members if market not in stated]:
        raise UnknownMarket(missing)
    relation = Relation(
        key=key,
        type=type_.upper(),
        origin=Origin.MANUAL,
        proposed_at=at,
        proposed_by=by.get_username(),
        reason=reason.strip(),
        **found_in(type_, members, stated),
    )
    relation.save(force_insert=True)
    store_members([(relation, members)], stated)
    tell(relation, "proposed", by=by.get_username(), at=at)
    return relation


def _at_0(proposal: Proposal) -> list[Member]:
    return [(market, 0) for market in proposal.members]


def _by_key(keys: Iterable[str]) -> dict[str, Relation]:
    found: dict[str, Relation] = {}
    for some in chunks(keys):
        rows = Relation.objects.filter(key__in=some).prefetch_related("members")
        found |= {relation.key: relation for relation in rows}
    return found


def _is_due(known: Relation | None) -> bool:
    return known is None or known.state == State.INVALIDATED


def _columns(proposal: Proposal, stated: Mapping[str, Stated]) -> dict[str, Any]:
    return {
        "type": proposal.type.upper(),
        "method": proposal.method,
        "score": round(proposal.score, 3),
        "doubts": list(proposal.doubts),
        **found_in(proposal.type, _at_0(proposal), stated),
    }


def _renew(
    relation: Relation, proposal: Proposal, stated: Mapping[str, Stated], made: dict[str, Any]
) -> None:
    """Put an invalidated relation before a person again, as the venue has it now."""
    rows = Relation.objects.filter(pk=relation.pk, state=State.INVALIDATED)
    if rows.update(state=State.PROPOSED, checked=[], **_columns(proposal, stated), **made):
        refresh(relation, stated)


# --- deciding -------------------------------------------------------------------------


def approve(
    relation_id: int,
    *,
    by: User,
    at: datetime,
    seen: str,
    checked: Collection[str] = (),
    reason: str = "",
) -> Relation:
    """Approve a proposed relation.

    `seen` is the fingerprint that was shown, `checked` the aspects the person says to
    have checked: every one that is not known to be the same must be among them, and one
    that differs needs a reason. Raises `AlreadyDecided`, `MembersChanged`, `NotChecked`
    or `ReasonMissing`.
    """
    members = RelationMember.objects.filter(relation=relation_id).values_list("market_id")
    invalidate_changed([market for (market,) in members], at=at)
    relation = Relation.objects.get(pk=relation_id)
    if relation.state != State.PROPOSED:
        raise AlreadyDecided(relation.state)
    if relation.fingerprint != seen:
        raise MembersChanged
    _refuse_unchecked(relation, checked, reason)
    return _move(
        relation,
        State.PROPOSED,
        State.APPROVED,
        by=by,
        at=at,
        reason=reason.strip(),
        checked=sorted(set(checked)),
    )


def reject(relation_id: int, *, by: User, at: datetime, reason: str) -> Relation:
    """Reject a proposed relation for good. Raises `AlreadyDecided` or `ReasonMissing`."""
    return _decide(relation_id, State.PROPOSED, State.REJECTED, by=by, at=at, reason=reason)


def invalidate(relation_id: int, *, by: User, at: datetime, reason: str) -> Relation:
    """Take an approval back. Raises `AlreadyDecided` or `ReasonMissing`."""
    return _decide(relation_id, State.APPROVED, State.INVALIDATED, by=by, at=at, reason=reason)


@transaction.atomic
def reopen(relation_id: int, *, by: User, at: datetime, reason: str) -> Relation:
    """Put a rejected or invalidated relation before a person again, as the venue has it now.

    Raises `AlreadyDecided` or `ReasonMissing`.
    """
    before = State(Relation.objects.values_list("state", flat=True).get(pk=relation_id))
    if before not in (State.REJECTED, State.INVALIDATED):
        raise AlreadyDecided(before)
    relation = _decide(relation_id, before, State.PROPOSED, by=by, at=at, reason=reason)
    refresh(relation, stated_of(market for market, _ in members_of(relation)))
    relation.refresh_from_db()
    return relation


def _decide(
    relation_id: int,
    before: Relation.State,
    after: Relation.State,
    *,
    by: User,
    at: datetime,
    reason: str,
) -> Relation:
    _refuse_no_reason(reason, "Give a reason: it is what the next person reads.")
    relation = Relation.objects.get(pk=relation_id)
    return _move(relation, before, after, by=by, at=at, reason=reason.strip())


@transaction.atomic
def _move(
    relation: Relation,
    before: Relation.State,
    after: Relation.State,
    *,
    by: User,
    at: datetime,
    **decided: Any,
) -> Relation:
    """Change the state if all still is as it was read, and tell of it; raise if it is not."""
    rows = Relation.objects.filter(pk=relation.pk, state=before, fingerprint=relation.fingerprint)
    if not rows.update(state=after, decided_by=by, decided_at=at, **decided):
        now = Relation.objects.values_list("state", flat=True).get(pk=relation.pk)
        raise MembersChanged if now == before else AlreadyDecided(now)
    relation.refresh_from_db()
    tell(relation, after.lower(), by=by.get_username(), at=at)
    return relation


def _refuse_unchecked(relation: Relation, checked: Collection[str], reason: str) -> None:
    verdicts = {check["aspect"]: check["verdict"] for check in relation.checks}
    unsure = [aspect for aspect, verdict in verdicts.items() if verdict != "same"]
    if left := [aspect for aspect in unsure if aspect not in checked]:
        raise NotChecked(left)
    different = [aspect for aspect in unsure if verdicts[aspect] == "different"]
    if different:
        why = f"Say why it holds although these differ: {', '.join(different)}."
        _refuse_no_reason(reason, why)


def _refuse_no_reason(reason: str, why: str) -> None:
    if not reason.strip():
        raise ReasonMissing(why)
