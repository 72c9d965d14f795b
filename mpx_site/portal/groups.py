"""Groups of the same subject: who is in them, why, and how far their prices lie apart.

A price here is that of the group's own claim: of a market that asks the opposite, the
second outcome's. Only fresh books count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.contrib.auth.models import User
from django.core.paginator import Page
from django.db.models import Case, Count, Q, QuerySet, When
from django.http import QueryDict

from alerts.models import AuditEntry
from markets.models import Market, Outcome
from markets.relation_models import SynonymGroup, SynonymGroupMember
from markets.synonyms import approve_group, reject_group
from mpx_site.portal import whynot
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import AskedGroups
from mpx_site.portal.whynot import Touch

State = SynonymGroup.State
MOST_MEMBERS = 200
MOST_HISTORY = 20
WIDTH = 300  # units of a strip: 0 to 100 cents

WHY = {
    "KEYWORD": "Their words: each has a keyword of the group.",
    "EXPLICIT": "Named one by one in the file of synonyms.",
    "MATCHING": "Matching: their questions are worded alike.",
    "MANUAL": "Put together by a person.",
}


@dataclass(frozen=True, slots=True)
class Dot:
    """One member's bid and ask on a strip from 0 to 100 cents."""

    x: float
    width: float
    told: str


@dataclass(frozen=True, slots=True)
class Dispersion:
    """How far the asks for one claim lie apart, in cents; of `priced` members."""

    low: Decimal
    high: Decimal
    priced: int
    dots: tuple[Dot, ...]

    @property
    def cents(self) -> Decimal:
        return self.high - self.low

    @property
    def told(self) -> str:
        return "; ".join(dot.told for dot in self.dots)


@dataclass(frozen=True, slots=True)
class Member:
    row: SynonymGroupMember
    market: Market
    touch: Touch | None


@dataclass(frozen=True, slots=True)
class GroupRow:
    group: SynonymGroup
    size: int
    dispersion: Dispersion | None

    @property
    def why(self) -> str:
        return WHY[self.group.method]


@dataclass(frozen=True, slots=True)
class GroupList:
    asked: AskedGroups
    page: Page[SynonymGroup]
    rows: tuple[GroupRow, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class GroupPage:
    group: SynonymGroup
    why: str
    members: tuple[Member, ...]
    hidden: int
    dispersion: Dispersion | None
    audit: Sequence[AuditEntry]


def wanted(asked: AskedGroups) -> QuerySet[SynonymGroup]:
    """Return the groups that fit, what waits for a person first."""
    state, method, words = asked.value("state"), asked.value("method"), asked.value("q")
    rows = SynonymGroup.objects.filter(**({"state": state} if state else {}))
    rows = rows.filter(**({"method": method} if method else {}))
    if words:
        by_market = SynonymGroupMember.objects.filter(market_id=words).values("group")
        rows = rows.filter(Q(name__icontains=words) | Q(pk__in=by_market))
    kept = ~Q(members__state=SynonymGroupMember.State.REJECTED)
    waits = Case(When(state=State.PROPOSED, then=0), When(state=State.APPROVED, then=1), default=2)
    return rows.annotate(size=Count("members", filter=kept), waits=waits).order_by(
        "waits", "name", "id"
    )


def group_list(asked: AskedGroups, query: QueryDict) -> GroupList:
    page = asked.page_of(wanted(asked), number=query.get("page"))
    listed = list(page)
    held: dict[int, list[Member]] = defaultdict(list)
    for member in _members(SynonymGroupMember.objects.filter(group__in=listed)):
        held[member.row.group_id].append(member)
    return GroupList(
        asked=asked,
        page=page,
        rows=tuple(
            GroupRow(each, getattr(each, "size", 0), dispersion(held[each.pk])) for each in listed
        ),
        waiting=SynonymGroup.objects.filter(state=State.PROPOSED).count(),
    )


def group_page(number: int) -> GroupPage:
    """Raise `SynonymGroup.DoesNotExist` for an unknown one."""
    group = SynonymGroup.objects.select_related("decided_by").get(pk=number)
    every = group.members.all()
    members = _members(every)[:MOST_MEMBERS]
    return GroupPage(
        group=group,
        why=WHY[group.method],
        members=tuple(members),
        hidden=every.count() - len(members),
        dispersion=dispersion(members),
        audit=list(
            AuditEntry.objects.filter(subject=f"group:{number}").order_by("-id")[:MOST_HISTORY]
        ),
    )


def _members(rows: QuerySet[SynonymGroupMember]) -> list[Member]:
    """Return members with their markets, those that a person rejected last; one query."""
    read = rows.select_related("market__event", "market__quote").order_by(
        "group_id", "-score", "market_id"
    )
    listed = sorted(read, key=lambda row: row.state == SynonymGroupMember.State.REJECTED)
    return [Member(row, row.market, _touch(row)) for row in listed]


def _touch(row: SynonymGroupMember) -> Touch | None:
    quote = whynot.quote_of(row.market)
    return None if quote is None else whynot.touch(Outcome(index=int(row.inverted)), quote)


def dispersion(members: Iterable[Member]) -> Dispersion | None:
    """Return how far the asks lie apart; None with fewer than two that may be compared."""
    priced = [(member, *sides) for member in members if (sides := _sides(member)) is not None]
    if len(priced) < 2:
        return None
    asks = [ask for _, _, ask in priced]
    return Dispersion(
        low=min(asks) * 100,
        high=max(asks) * 100,
        priced=len(priced),
        dots=tuple(_dot(member, bid, ask) for member, bid, ask in priced),
    )


def _sides(member: Member) -> tuple[Decimal, Decimal] | None:
    """Return bid and ask of a member that counts: kept, tradable, its book fresh."""
    touch, quote = member.touch, whynot.quote_of(member.market)
    counts = (
        member.row.state != SynonymGroupMember.State.REJECTED
        and member.market.state == Market.State.TRADABLE
        and quote is not None
        and quote.state == "fresh"
    )
    if not counts or touch is None or touch.ask is None:
        return None
    return (touch.ask if touch.bid is None else touch.bid), touch.ask


def _dot(member: Member, bid: Decimal, ask: Decimal) -> Dot:
    return Dot(
        x=round(float(bid) * WIDTH, 1),
        width=round(max(float(ask - bid) * WIDTH, 2.0), 1),
        told=f"{member.market.question[:60]} {bid * 100:.1f} to {ask * 100:.1f} cents",
    )


def decide(number: int, act: str, *, by: User, at: datetime, sent: QueryDict) -> str:
    """Approve or reject a group and return what to tell.

    Raises `AlreadyDecided`, `ReasonMissing`, or `KeyError` for an act that there is not.
    """
    if act == "approve":
        tally = approve_group(number, members=sent.getlist("member"), by=by, at=at)
        return f"Approved. {tally.new} relations that follow wait for approval."
    if act == "reject":
        reject_group(number, by=by, at=at, reason=sent.get("reason", ""))
        return "Rejected."
    raise KeyError(act)


COLUMNS = (
    Column("group_id", "pk"),
    Column("name", "name"),
    Column("method", "method"),
    Column("state", "state"),
    Column("markets", "size"),
    Column("keywords", "keywords"),
    Column("decided_at", "decided_at"),
    Column("reason", "reason"),
)
