"""Markets that speak of the same as another: for its page and the API."""

from __future__ import annotations

from dataclasses import dataclass

from markets.matching import score
from markets.models import Market
from markets.questions import Wording, read
from markets.relation_models import Relation, SynonymGroup, SynonymGroupMember

State, Method = SynonymGroup.State, SynonymGroup.Method
Membership = SynonymGroupMember.State


@dataclass(frozen=True, slots=True)
class SimilarMarket:
    """A market that speaks of the same as another, and how that is known.

    `why` is a short sentence. `decided` is False for what waits for a person. One of
    `relation_id` and `group_id` is set.
    """

    market: Market
    why: str
    decided: bool
    inverted: bool = False
    relation_id: int | None = None
    group_id: int | None = None


MOST_SIMILAR = 12
_MOST_LOOKED_AT = 200  # members of large groups, most liquid first

_OTHER_SIDE = {  # what the other market is, by the relation's type
    Relation.Type.EQUIVALENT: "is true exactly when this is",
    Relation.Type.COMPLEMENT: "is true exactly when this is not",
    Relation.Type.EXCLUSIVE: "cannot be true together with this",
    Relation.Type.EXHAUSTIVE: "or this is true",
    Relation.Type.UNION: "is part of one whole with this",
}


def similar_markets(market: Market, *, limit: int = MOST_SIMILAR) -> list[SimilarMarket]:
    """Return markets that speak of the same as this one: related ones first, then its groups'.

    Their events and quotes are loaded with them; three queries.
    """
    found: dict[str, SimilarMarket] = {}
    for each in [*_related(market), *_grouped(market)]:
        found.setdefault(each.market.pk, each)
    return list(found.values())[:limit]


def _related(market: Market) -> list[SimilarMarket]:
    relations = (
        Relation.objects.live()
        .filter(members__market=market)
        .order_by("state", "-score", "id")
        .prefetch_related("members__market__event", "members__market__quote")
    )
    return [
        SimilarMarket(
            market=each.market,
            why=_other_side(relation, market.pk, each.position),
            decided=relation.state == Relation.State.APPROVED,
            inverted=relation.type == Relation.Type.COMPLEMENT,
            relation_id=relation.pk,
        )
        for relation in relations
        for each in sorted(relation.members.all(), key=lambda member: member.position)
        if each.market_id != market.pk
    ]


def _other_side(relation: Relation, market_id: str, position: int) -> str:
    if relation.type in _OTHER_SIDE:
        return _OTHER_SIDE[Relation.Type(relation.type)]
    mine = next(each.position for each in relation.members.all() if each.market_id == market_id)
    return "follows from this" if position > mine else "implies this"


def _grouped(market: Market) -> list[SimilarMarket]:
    mine = SynonymGroup.objects.exclude(state=State.REJECTED).filter(
        members__in=market.group_members.exclude(state=Membership.REJECTED)
    )
    rows = list(
        SynonymGroupMember.objects.filter(group__in=mine)
        .exclude(state=Membership.REJECTED)
        .exclude(market=market)
        .select_related("group", "market__event", "market__quote")
        .order_by("-market__liquidity", "market_id", "id")[:_MOST_LOOKED_AT]
    )
    asked = read(Wording(market.pk, market.question))
    nearness = {
        row.pk: score(asked, read(Wording(row.market_id, row.market.question))) for row in rows
    }
    rows.sort(key=lambda row: (_is_topic(row.group), -nearness[row.pk], row.market_id))
    return [_similar(row) for row in rows]


def _is_topic(group: SynonymGroup) -> bool:
    return group.method == Method.KEYWORD


def _similar(row: SynonymGroupMember) -> SimilarMarket:
    return SimilarMarket(
        market=row.market,
        why=f"both in {row.group.name}",
        decided=row.state == Membership.APPROVED and row.group.state == State.APPROVED,
        inverted=row.inverted,
        group_id=row.group_id,
    )
