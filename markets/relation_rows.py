"""Rows of relations: what is worked out from their members' words, and how they are told of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from alerts import journal
from markets.questions import read
from markets.related import ORDERED, Member, RelationType
from markets.relation_models import Relation, RelationMember
from markets.resolution import same_resolution
from markets.wordings import Stated, fingerprint


def type_of(relation: Relation) -> RelationType:
    return cast(RelationType, relation.type.lower())


def members_of(relation: Relation) -> list[Member]:
    listed = sorted(relation.members.all(), key=lambda each: each.position)
    return [(each.market_id, each.outcome) for each in listed]


def found_in(
    type_: RelationType, members: Sequence[Member], stated: Mapping[str, Stated]
) -> dict[str, Any]:
    """Return the columns worked out from the members' words: the test and the fingerprint."""
    wordings = [stated[market].wording for market, _ in members]
    tested = same_resolution(
        [(wording, read(wording)) for wording in wordings], ordered=type_ in ORDERED
    )
    return {
        "checks": [
            {"aspect": each.aspect, "verdict": each.verdict, "told": list(each.told)}
            for each in tested
        ],
        "fingerprint": fingerprint_of(members, stated),
    }


def fingerprint_of(members: Sequence[Member], stated: Mapping[str, Stated]) -> str:
    """Return the fingerprint of everything the venue says of members."""
    return fingerprint((market, outcome, stated[market].evidence) for market, outcome in members)


def store_members(
    rows: Iterable[tuple[Relation, Sequence[Member]]], stated: Mapping[str, Stated]
) -> None:
    RelationMember.objects.bulk_create(
        [
            RelationMember(
                relation=relation,
                position=position,
                market_id=market,
                outcome=outcome,
                evidence=stated[market].evidence,
            )
            for relation, members in rows
            for position, (market, outcome) in enumerate(members)
        ],
        batch_size=500,
    )


def refresh(relation: Relation, stated: Mapping[str, Stated]) -> None:
    """Give a relation that waits for a person the words of its members as they are now."""
    found = found_in(type_of(relation), members_of(relation), stated)
    waiting = Relation.objects.filter(pk=relation.pk, state=Relation.State.PROPOSED)
    if waiting.update(**found):
        for member in relation.members.all():
            evidence = stated[member.market_id].evidence
            RelationMember.objects.filter(pk=member.pk).update(evidence=evidence)


def tell(relation: Relation, what: str, *, by: str, at: datetime) -> None:
    """Write a step of a relation into the audit chain, with what it was taken on."""
    journal.record(
        kind=f"relation.{what}",
        subject=f"relation:{relation.pk}",
        actor=by,
        at=at,
        data={
            "type": relation.type,
            "members": [f"{market}:{outcome}" for market, outcome in members_of(relation)],
            "fingerprint": relation.fingerprint,
            "verdicts": {each["aspect"]: each["verdict"] for each in relation.checks},
            "checked": relation.checked,
            "reason": relation.reason,
        },
    )


def tell_of_run(
    relations: Sequence[Relation], what: str, *, by: str, at: datetime, **more: str
) -> None:
    """Tell of all that a run did the same with in one entry: it may be thousands."""
    by_type: dict[str, list[int]] = defaultdict(list)
    for relation in relations:
        by_type[relation.type].append(relation.pk)
    journal.record(
        kind=f"relation.{what}",
        subject="relations",
        actor=by,
        at=at,
        data={"count": len(relations), "ids": by_type, **more},
    )
