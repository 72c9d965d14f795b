"""What relations make of markets now: each set at the touch, what it misses, what stops it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from markets.house_relations import CONFLICT, is_in_conflict
from markets.models import Market
from markets.related import BASES, NotExpressible, RelationType, at_outcome_0
from markets.relation_models import Relation, RelationMember
from mpx_site.portal import whynot
from mpx_site.portal.whynot import Basket, Touch
from rules.kernel.cross import detect_related, near_miss, related_sets
from rules.kernel.finding import Limits, MarketView
from rules.kernel.known import Contradiction
from rules.kernel.program import SolverFailed
from rules.kernel.relations import Relation as Known

MOST = 12  # relations on one page


@dataclass(frozen=True, slots=True)
class Member:
    """One outcome of a relation with its touch; None where its outcomes are not named."""

    market: Market
    touch: Touch | None


@dataclass(frozen=True, slots=True)
class CrossSet:
    """A relation and how far its markets are from paying together.

    `basket` is None where too few of them have an offer; `contradicted` says that
    what is known of the markets leaves no outcome possible, `unsolved` that the
    solver gave up at these prices.
    """

    relation: Relation
    members: tuple[Member, ...]
    basket: Basket | None
    contradicted: bool
    unsolved: bool

    @property
    def approved(self) -> bool:
        return self.relation.state == Relation.State.APPROVED


def crosses(market_ids: Iterable[str], *, at: datetime, limits: Limits) -> tuple[CrossSet, ...]:
    """Return the live relations of markets, approved ones first; four queries."""
    relations = (
        Relation.objects.live()
        .filter(pk__in=RelationMember.objects.filter(market__in=market_ids).values("relation"))
        .order_by("state", "-score", "id")
        .prefetch_related(
            "members__market__event", "members__market__quote", "members__market__outcomes"
        )
    )
    return tuple(_cross(relation, at=at, limits=limits) for relation in relations[:MOST])


def _cross(relation: Relation, *, at: datetime, limits: Limits) -> CrossSet:
    listed = sorted(relation.members.all(), key=lambda each: each.position)
    markets = {each.market_id: each.market for each in listed if whynot.is_named(each.market)}
    views = {pk: whynot.view_of(market) for pk, market in markets.items()}
    refused: list[Contradiction] = []
    basket, unsolved = None, False
    try:
        basket = _basket(_known(relation, listed), views, markets, refused, at=at, limits=limits)
    except SolverFailed:
        unsolved = True
    members = tuple(Member(each.market, _touch(each)) for each in listed)
    return CrossSet(relation, members, basket, bool(refused), unsolved)


def _known(relation: Relation, members: Sequence[RelationMember]) -> tuple[Known, ...]:
    approved = relation.state == Relation.State.APPROVED
    conflict = is_in_conflict(relation.checks, relation.checked, approved=approved)
    blocked_by = (CONFLICT,) if conflict else ()
    basis = BASES.get(relation.method, "")
    outcomes = [(each.market_id, each.outcome) for each in members]
    try:
        parts = at_outcome_0(cast(RelationType, relation.type.lower()), outcomes)
    except NotExpressible:
        return ()
    return tuple(Known(kind, ids, approved, blocked_by, basis) for kind, ids in parts)


def _basket(
    known: Sequence[Known],
    views: Mapping[str, MarketView],
    markets: Mapping[str, Market],
    refused: list[Contradiction],
    *,
    at: datetime,
    limits: Limits,
) -> Basket | None:
    """Return what pays, or else what comes closest; raise `SolverFailed`."""
    terms = {pk: view.terms for pk, view in views.items()}
    held = tuple(views.values())
    sets = related_sets(known, terms, refused=refused)
    for each in sets:
        finding = detect_related(each, views, at=at, limits=limits)
        if finding is not None:
            return whynot.paying(finding, held, markets, limits=limits)
    misses = [miss for each in sets if (miss := near_miss(each, views)) is not None]
    if not misses:
        return None
    nearest = min(misses, key=lambda miss: miss.gap_cents)
    return whynot.missing(nearest, held, markets, limits=limits)


def _touch(member: RelationMember) -> Touch | None:
    quote = whynot.quote_of(member.market)
    outcome = next((o for o in member.market.outcomes.all() if o.index == member.outcome), None)
    return None if quote is None or outcome is None else whynot.touch(outcome, quote)
