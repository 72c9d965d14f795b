"""Groups of markets that speak of the same: from a file, from matching, or by hand.

A group suggests, it decides nothing: what follows from it for trading is a relation, and
that is approved on its own. What a person decided about a membership stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from alerts import journal
from markets.matching import clusters, compare, match, score
from markets.models import Market
from markets.questions import Wording, read, word_list
from markets.related import Proposal
from markets.relation_models import Relation, SynonymGroup, SynonymGroupMember
from markets.relations import AlreadyDecided, ReasonMissing, Tally, propose
from markets.resolution import Read
from markets.synonyms_file import Dictionary, GroupSpec, shipped
from markets.wordings import all_wordings, stated_of

State, Method = SynonymGroup.State, SynonymGroup.Method
Membership = SynonymGroupMember.State
Change = Literal["new", "changed", "same", "too small", "gone", "name is taken"]

MOST_NAME = 180
MOST_PAIRED = 30  # members of a group by hand that are paired without asking their words


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What loading did to one group. `unknown` are ids that the catalogue does not have."""

    name: str
    change: Change
    members: int = 0
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Why a market belongs to a group."""

    why: str
    score: float = 1.0
    inverted: bool = False


# --- from a file ---------------------------------------------------------------------


@transaction.atomic
def load(dictionary: Dictionary, *, by: str, at: datetime) -> tuple[GroupChange, ...]:
    """Make the groups of a file so, and put away those that are in it no more.

    Doing it again changes nothing. Members that a person added or rejected stay as they
    are. A group with fewer members than `min_size` is put away until it has them.
    """
    found = _Finder(all_wordings())
    stored = {group.name: group for group in SynonymGroup.objects.all()}
    changes = [
        _load_group(spec, found, stored.get(spec.name), dictionary.min_size, at=at)
        for spec in dictionary.groups
    ]
    named = {spec.name for spec in dictionary.groups}
    changes += [
        _put_away(group, "It is in the file no more.", "gone", at=at)
        for name, group in sorted(stored.items())
        if group.from_file and name not in named and group.state != State.REJECTED
    ]
    if any(each.change not in ("same", "name is taken") for each in changes):
        _tell_loaded(changes, by=by, at=at)
    return tuple(changes)


class _Finder:
    """Finds the markets of a group by whole words of their question and event."""

    def __init__(self, wordings: Iterable[Wording]) -> None:
        self._texts: dict[str, tuple[str, ...]] = {}
        self._with: dict[str, list[str]] = defaultdict(list)  # markets by word
        for wording in wordings:
            words = word_list(f"{wording.question} / {wording.event_title} / {wording.label}")
            self._texts[wording.market_id] = words
            for word in set(words):
                self._with[word].append(wording.market_id)

    def members(self, spec: GroupSpec) -> tuple[dict[str, _Wanted], tuple[str, ...]]:
        """Return the members by id, and the ids that are not in the catalogue."""
        known = set(Market.objects.filter(pk__in=spec.explicit).values_list("pk", flat=True))
        wanted = {pk: _Wanted("named in the file") for pk in spec.explicit if pk in known}
        for keyword in spec.keywords:
            why = _Wanted(f"has the words: {' '.join(keyword)}")
            for pk in self._with.get(keyword[0], ()):
                if pk not in wanted and _stands_in(keyword, self._texts[pk]):
                    wanted[pk] = why
        return wanted, tuple(pk for pk in spec.explicit if pk not in known)


def _stands_in(run: Sequence[str], words: Sequence[str]) -> bool:
    return any(tuple(words[at : at + len(run)]) == tuple(run) for at in range(len(words)))


def _load_group(
    spec: GroupSpec, found: _Finder, group: SynonymGroup | None, least: int, *, at: datetime
) -> GroupChange:
    if group is not None and not group.from_file:
        return GroupChange(spec.name, "name is taken")
    wanted, unknown = found.members(spec)
    if len(wanted) < least:
        if group is not None and group.state != State.REJECTED:
            away = _put_away(group, f"Fewer than {least} markets.", "too small", at=at)
            return replace(away, unknown=unknown)
        return GroupChange(spec.name, "too small", members=len(wanted), unknown=unknown)
    is_new = group is None
    group = group or SynonymGroup(name=spec.name, from_file=True, created_at=at)
    head = _head(spec)
    is_other = is_new or any(getattr(group, name) != value for name, value in head.items())
    if is_other:
        for name, value in head.items():
            setattr(group, name, value)
        group.save()
    added, removed = _set_members(group, wanted)
    differs = is_other or added or removed
    change: Change = "new" if is_new else "changed" if differs else "same"
    return GroupChange(spec.name, change, len(wanted), tuple(added), tuple(removed), unknown)


def _head(spec: GroupSpec) -> dict[str, object]:
    """Return the columns of a group of the file: who wrote the file approved it."""
    return {
        "method": Method.KEYWORD if spec.keywords else Method.EXPLICIT,
        "keywords": [" ".join(keyword) for keyword in spec.keywords],
        "state": State.APPROVED,
        "reason": "",
    }


def _set_members(group: SynonymGroup, wanted: Mapping[str, _Wanted]) -> tuple[list[str], list[str]]:
    """Make a group's members so, but for those that a person decided; return what changed."""
    stored = {each.market_id: each for each in group.members.all()}
    added = sorted(set(wanted) - set(stored))
    removed = sorted(pk for pk, each in stored.items() if pk not in wanted and not each.by_hand)
    SynonymGroupMember.objects.filter(group=group, market__in=removed).delete()
    _add_members(group, {pk: wanted[pk] for pk in added}, Membership.APPROVED)
    return added, removed


def _add_members(
    group: SynonymGroup,
    wanted: Mapping[str, _Wanted],
    state: SynonymGroupMember.State,
    *,
    by_hand: bool = False,
) -> None:
    SynonymGroupMember.objects.bulk_create(
        [
            SynonymGroupMember(
                group=group,
                market_id=pk,
                state=state,
                score=round(each.score, 3),
                inverted=each.inverted,
                why=each.why,
                by_hand=by_hand,
            )
            for pk, each in wanted.items()
        ],
        batch_size=500,
    )


def _put_away(group: SynonymGroup, why: str, change: Change, *, at: datetime) -> GroupChange:
    SynonymGroup.objects.filter(pk=group.pk).update(state=State.REJECTED, reason=why, decided_at=at)
    return GroupChange(group.name, change)


def _tell_loaded(changes: Sequence[GroupChange], *, by: str, at: datetime) -> None:
    journal.record(
        kind="synonyms.loaded",
        subject="synonyms",
        actor=by,
        at=at,
        data={
            each.name: [each.change, len(each.added), len(each.removed)]
            for each in changes
            if each.change != "same"
        },
    )


# --- from matching ---------------------------------------------------------------------


def store_groups(
    matches: Iterable[Proposal],
    wordings: Mapping[str, Wording],
    *,
    min_size: int,
    by: str,
    at: datetime,
) -> tuple[int, int]:
    """Store what matching found as groups; return how many are new, and how many grew.

    A group that a person rejected stays rejected and takes in what is found later.
    """
    same = [each for each in matches if each.type in ("equivalent", "complement")]
    new = grown = 0
    with transaction.atomic():
        for cluster in clusters((each.members[0], each.members[1]) for each in same):
            if len(cluster) < min_size:
                continue
            group = SynonymGroup.objects.filter(
                method=Method.MATCHING, members__market__in=cluster
            ).first()
            wanted = _wanted_of(cluster, same)
            if group is None:
                group = _new_group(wordings[cluster[0]].question, at=at)
                new += 1
            else:
                known = set(group.members.values_list("market_id", flat=True))
                wanted = {pk: each for pk, each in wanted.items() if pk not in known}
                grown += bool(wanted)
            _add_members(group, wanted, Membership.SUGGESTED)
        if new or grown:
            _tell_matched(new, grown, by=by, at=at)
    return new, grown


def _wanted_of(cluster: Sequence[str], same: Sequence[Proposal]) -> dict[str, _Wanted]:
    """Return the members with their best score, and whether they ask what the first denies."""
    edges: dict[str, list[tuple[str, Proposal]]] = defaultdict(list)
    for each in same:
        a, b = each.members
        edges[a].append((b, each))
        edges[b].append((a, each))
    wanted = {cluster[0]: _Wanted("asked first", _best(edges[cluster[0]]))}
    reached = [cluster[0]]
    for member in reached:
        for other, found in edges[member]:
            if other not in wanted:
                inverted = wanted[member].inverted is not (found.type == "complement")
                why = "asks the opposite" if inverted else "asks the same"
                wanted[other] = _Wanted(why, _best(edges[other]), inverted)
                reached.append(other)
    return wanted


def _best(edges: Sequence[tuple[str, Proposal]]) -> float:
    return max(found.score for _, found in edges)


def _new_group(question: str, *, at: datetime) -> SynonymGroup:
    name = question[:MOST_NAME].strip() or "without a question"
    if SynonymGroup.objects.filter(name=name).exists():
        taken = SynonymGroup.objects.filter(name__startswith=f"{name} (").count()
        name = f"{name} ({taken + 2})"
    return SynonymGroup.objects.create(name=name, method=Method.MATCHING, created_at=at)


def _tell_matched(new: int, grown: int, *, by: str, at: datetime) -> None:
    data = {"new": new, "grown": grown}
    journal.record(kind="synonyms.matched", subject="synonyms", actor=by, at=at, data=data)


# --- by hand ----------------------------------------------------------------------------


@transaction.atomic
def make_group(name: str, market_ids: Iterable[str], *, by: User, at: datetime) -> SynonymGroup:
    """Make a group by hand; ids that are not stored are left out."""
    group = SynonymGroup.objects.create(
        name=name[:MOST_NAME].strip(), method=Method.MANUAL, created_at=at
    )
    add_members(group.pk, market_ids, by=by, at=at)
    return group


@transaction.atomic
def add_members(
    group_id: int, market_ids: Iterable[str], *, by: User, at: datetime
) -> tuple[str, ...]:
    """Add markets to a group by hand; return those that were added."""
    group = SynonymGroup.objects.get(pk=group_id)
    wanted = set(market_ids) - set(group.members.values_list("market_id", flat=True))
    known = Market.objects.filter(pk__in=wanted).order_by("pk").values_list("pk", flat=True)
    added = tuple(known)
    why = _Wanted(f"added by {by.get_username()}"[:300])
    _add_members(group, dict.fromkeys(added, why), Membership.APPROVED, by_hand=True)
    if added:
        _tell(group, "changed", by=by, at=at, added=list(added))
    return added


@transaction.atomic
def approve_group(group_id: int, *, members: Collection[str], by: User, at: datetime) -> Tally:
    """Approve a group with those of its members that are named, and reject the others.

    Returns what came of the relations that its members give; they wait for approval
    like any other. Raises `AlreadyDecided` for a group that was rejected meanwhile.
    """
    group = SynonymGroup.objects.get(pk=group_id)
    _move(group, State.APPROVED, by=by, at=at, reason="")
    chosen = Q(market__in=list(members))
    group.members.filter(chosen).update(state=Membership.APPROVED, by_hand=True)
    group.members.exclude(chosen).update(state=Membership.REJECTED, by_hand=True)
    _tell(group, "approved", by=by, at=at, members=sorted(members))
    return propose(relations_of(group), origin=Relation.Origin.GROUP, by=by.get_username(), at=at)


@transaction.atomic
def reject_group(group_id: int, *, by: User, at: datetime, reason: str) -> None:
    """Reject a group. Raises `AlreadyDecided` or `ReasonMissing`."""
    if not reason.strip():
        raise ReasonMissing("Give a reason: it is what the next person reads.")
    group = SynonymGroup.objects.get(pk=group_id)
    _move(group, State.REJECTED, by=by, at=at, reason=reason.strip())
    _tell(group, "rejected", by=by, at=at, reason=reason.strip())


def _move(
    group: SynonymGroup, state: SynonymGroup.State, *, by: User, at: datetime, reason: str
) -> None:
    rows = SynonymGroup.objects.filter(pk=group.pk).exclude(state=State.REJECTED)
    if not rows.update(state=state, decided_by=by, decided_at=at, reason=reason):
        raise AlreadyDecided(State.REJECTED)


def _tell(group: SynonymGroup, what: str, *, by: User, at: datetime, **data: object) -> None:
    journal.record(
        kind=f"group.{what}",
        subject=f"group:{group.pk}",
        actor=by.get_username(),
        at=at,
        data={"name": group.name, **data},
    )


def relations_of(group: SynonymGroup) -> list[Proposal]:
    """Return the relations that a group's approved members give.

    Those whose words agree give what the words say. But for a mere topic, who approved
    the group said besides that its members ask the same: there the words' differences
    are doubts.
    """
    rows = list(group.members.filter(state=Membership.APPROVED).order_by("market_id"))
    stated = stated_of(row.market_id for row in rows)
    listed = [(row, _read(stated[row.market_id].wording)) for row in rows]
    found = {frozenset(each.members): each for each in match([m for _, m in listed], threshold=0)}
    if group.method != Method.KEYWORD and len(listed) <= MOST_PAIRED:
        for proposal in _paired(listed):
            found.setdefault(frozenset(proposal.members), proposal)
    return list(found.values())


def _paired(listed: Sequence[tuple[SynonymGroupMember, Read]]) -> Iterator[Proposal]:
    """Relate each member to the first, as the person who made the group says."""
    if not listed:
        return
    first, read_first = listed[0]
    for row, read_other in listed[1:]:
        doubts = (f"the words differ: {each}" for each in _differences(read_first, read_other))
        yield Proposal(
            "complement" if row.inverted is not first.inverted else "equivalent",
            (first.market_id, row.market_id),
            "words",
            score(read_first[1], read_other[1]),
            tuple(doubts),
        )


def _differences(a: Read, b: Read) -> list[str]:
    return compare(a, b).differences


def _read(wording: Wording) -> Read:
    return wording, read(wording, aliases=shipped().aliases)
