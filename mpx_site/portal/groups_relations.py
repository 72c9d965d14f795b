"""The inbox of relations: what is claimed, on what evidence, and the decision of a person.

Deciding is the same act as in the admin: `markets.relations`, with the fingerprint that was
shown. What the portal adds is the way there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.paginator import Page
from django.db.models import QuerySet
from django.http import QueryDict

from alerts.models import AuditEntry
from markets import relations
from markets.models import Market
from markets.relation_changes import differences
from markets.relation_models import Relation
from markets.relations import PERMISSION
from markets.relations_admin import Side, history_of, sentence, sides_of
from markets.wordings import stated_of
from mpx_site.portal import whynot
from mpx_site.portal.crosses import CrossSet, crosses
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import AskedRelations

State = Relation.State
ACTS = {
    State.PROPOSED: (("approve", "Approve"), ("reject", "Reject")),
    State.APPROVED: (("invalidate", "Take out of use"),),
    State.REJECTED: (("reopen", "Look at it again"),),
    State.INVALIDATED: (("reopen", "Look at it again"),),
}
TOLD = {
    "approve": "Approved: the rules use it within seconds.",
    "reject": "Rejected for good.",
    "invalidate": "Taken out of use.",
    "reopen": "It waits for a decision again.",
}
Refusal = (
    relations.AlreadyDecided,
    relations.MembersChanged,
    relations.NotChecked,
    relations.ReasonMissing,
)


@dataclass(frozen=True, slots=True)
class Row:
    relation: Relation
    claim: str
    markets: tuple[Market, ...]
    unsure: tuple[str, ...]  # aspects that are not known to be the same


@dataclass(frozen=True, slots=True)
class RelationList:
    asked: AskedRelations
    page: Page[Relation]
    rows: tuple[Row, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class RelationPage:
    """One relation with all that a decision rests on. `acts` is empty for who may not decide."""

    relation: Relation
    claim: str
    sides: Sequence[Side]
    changed: Sequence[str]
    cross: CrossSet | None
    acts: Sequence[tuple[str, str]]
    may_decide: bool
    following: int | None
    audit: Sequence[AuditEntry]


def wanted(asked: AskedRelations) -> QuerySet[Relation]:
    """Return the relations that fit; without a state, those that wait, most certain first."""
    state = asked.value("state") or str(State.PROPOSED)
    rows = Relation.objects.all() if state == "all" else Relation.objects.filter(state=state)
    for name in ("type", "origin"):
        if value := asked.value(name):
            rows = rows.filter(**{name: value})
    if market := asked.value("market"):
        rows = rows.filter(members__market=market)
    return rows.prefetch_related("members__market__event").order_by("-score", "id")


def relation_list(asked: AskedRelations, query: QueryDict) -> RelationList:
    page = asked.page_of(wanted(asked), number=query.get("page"))
    return RelationList(
        asked=asked,
        page=page,
        rows=tuple(_row(each) for each in page),
        waiting=Relation.objects.filter(state=State.PROPOSED).count(),
    )


def _row(relation: Relation) -> Row:
    members = sorted(relation.members.all(), key=lambda member: member.position)
    unsure = [str(each["aspect"]) for each in relation.checks if each["verdict"] != "same"]
    return Row(
        relation,
        sentence(relation, len(members)),
        tuple(member.market for member in members),
        tuple(unsure),
    )


def relation_page(number: int, *, by: User, at: datetime) -> RelationPage:
    """Raise `Relation.DoesNotExist` for an unknown one."""
    relation = Relation.objects.select_related("decided_by").get(pk=number)
    sides = sides_of(relation)
    ids = [side.market.pk for side in sides]
    may = by.has_perm(PERMISSION)
    around = crosses(ids, at=at, limits=whynot.limits())
    return RelationPage(
        relation=relation,
        claim=sentence(relation, len(sides)),
        sides=sides,
        changed=differences(relation, stated_of(ids)),
        cross=next((each for each in around if each.relation.pk == number), None),
        acts=ACTS[State(relation.state)] if may else (),
        may_decide=may,
        following=_following(relation),
        audit=history_of(f"relation:{number}"),
    )


def _following(relation: Relation) -> int | None:
    """Return what waits next; None if nothing else does."""
    waiting = Relation.objects.proposed().exclude(pk=relation.pk)
    return waiting.values_list("pk", flat=True).first()


def decide(number: int, act: str, *, by: User, at: datetime, sent: QueryDict) -> str:
    """Do what a person decided and return what to tell; raise one of `Refusal` if it may not be.

    Raises `KeyError` for an act that there is not.
    """
    told, reason = TOLD[act], sent.get("reason", "")
    if act == "approve":
        seen, checked = sent.get("seen", ""), sent.getlist("checked")
        relations.approve(number, by=by, at=at, seen=seen, checked=checked, reason=reason)
        return told
    acts: dict[str, Any] = {
        "reject": relations.reject,
        "invalidate": relations.invalidate,
        "reopen": relations.reopen,
    }
    acts[act](number, by=by, at=at, reason=reason)
    return told


COLUMNS = (
    Column("relation_id", "pk"),
    Column("type", "type"),
    Column("state", "state"),
    Column("markets", lambda each: [member.market_id for member in each.members.all()]),
    Column("questions", lambda each: [member.market.question for member in each.members.all()]),
    Column("score", "score"),
    Column("found_by", "method"),
    Column("origin", "origin"),
    Column("doubts", "doubts"),
    Column("checks", lambda each: {row["aspect"]: row["verdict"] for row in each.checks}),
    Column("proposed_at", "proposed_at"),
    Column("decided_at", "decided_at"),
    Column("reason", "reason"),
)
