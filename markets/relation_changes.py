"""What changes at the venue does to relations: an approval holds for the words it was given on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.db import transaction

from markets.models import Market
from markets.related import is_contradicted
from markets.relation_models import Relation, RelationMember
from markets.relation_rows import fingerprint_of, members_of, refresh, tell, tell_of_run, type_of
from markets.texts import RulesText, chunks, store_texts, texts_in
from markets.wordings import Stated, stated_of

State = Relation.State
FINISHED = (Market.State.RESOLVED, Market.State.CLOSED)
ENDED = "One of its markets has ended."


def note_listing(page: object, market_ids: Iterable[str], *, at: datetime) -> tuple[int, ...]:
    """Keep the rules' texts of a decoded Gamma answer and invalidate what it changes.

    To be called after `catalogue.write`, with the ids of the answer's markets that
    differ; returns the relations that it took out of use.
    """
    return note_texts(texts_in(page), market_ids, at=at)


def note_texts(
    texts: Iterable[RulesText], market_ids: Iterable[str] = (), *, at: datetime
) -> tuple[int, ...]:
    """Keep rules' texts and invalidate what they, or these markets, change; return its ids."""
    return invalidate_changed({*market_ids, *store_texts(texts, at=at)}, at=at)


def invalidate_changed(market_ids: Iterable[str] | None, *, at: datetime) -> tuple[int, ...]:
    """Take relations out of use whose members are not what was approved; return their ids.

    `market_ids` are the markets that may have changed; None looks at all. A relation
    is touched by its members and by every market of their events. One that waits for
    approval is read anew; one that the venue has settled against is invalid too.
    """
    gone: list[int] = []
    for some in chunks(sorted(_touched(market_ids))):
        gone += _take_out(some, at=at)
    return tuple(gone)


def retire_ended(*, at: datetime) -> int:
    """Put away what waits for a person although a market of it has ended; return how many."""
    ended = RelationMember.objects.filter(market__state__in=FINISHED).values("relation")
    waiting = Relation.objects.filter(pk__in=ended, state=State.PROPOSED)
    with transaction.atomic():
        held = list(waiting.select_for_update().only("type").order_by("id"))
        for some in chunks([relation.pk for relation in held]):
            Relation.objects.filter(pk__in=some).update(
                state=State.INVALIDATED, reason=ENDED, decided_at=at
            )
        if held:
            tell_of_run(held, "invalidated", by="system", at=at, reason=ENDED)
    return len(held)


def differences(relation: Relation, stated: Mapping[str, Stated]) -> list[str]:
    """Name what the venue says otherwise now than when the relation was stored."""
    return [
        f"{name.replace('_', ' ')} of {member.market_id}"
        for member in relation.members.all()
        for name, value in stated[member.market_id].evidence.items()
        if value != member.evidence.get(name)
    ]


def _touched(market_ids: Iterable[str] | None) -> set[int]:
    members = RelationMember.objects.filter(relation__state__in=(State.PROPOSED, State.APPROVED))
    if market_ids is None:
        return set(members.values_list("relation_id", flat=True))
    touched: set[int] = set()
    if not members.exists():
        return touched
    for some in chunks(sorted(set(market_ids))):
        # Two queries instead of one with "or", which would read all members.
        events = Market.objects.filter(pk__in=some, event__isnull=False).values("event_id")
        siblings = members.filter(market__event_id__in=events.distinct())
        touched.update(members.filter(market_id__in=some).values_list("relation_id", flat=True))
        touched.update(siblings.values_list("relation_id", flat=True))
    return touched


def _take_out(relation_ids: Sequence[int], *, at: datetime) -> list[int]:
    relations = list(
        Relation.objects.live().filter(pk__in=relation_ids).prefetch_related("members")
    )
    stated = stated_of(each.market_id for relation in relations for each in relation.members.all())
    return [relation.pk for relation in relations if _is_out(relation, stated, at=at)]


def _is_out(relation: Relation, stated: Mapping[str, Stated], *, at: datetime) -> bool:
    members = members_of(relation)
    payouts = {market: stated[market].wording.payout for market, _ in members}
    if is_contradicted(type_of(relation), members, payouts):
        return _invalidate(relation, "The venue settled its markets against it.", at=at)
    current = fingerprint_of(members, stated)
    if current == relation.fingerprint:
        return False
    # First what waits, then what is approved: an approval of the old words that comes
    # between the two is seen by the second, one that comes later finds other words.
    refresh(relation, stated)
    why = f"The venue changed: {', '.join(differences(relation, stated))}."
    return _invalidate(relation, why, at=at, unless=current)


def _invalidate(relation: Relation, why: str, *, at: datetime, unless: str | None = None) -> bool:
    """Invalidate; with `unless` only what is approved on another fingerprint than that."""
    rows = Relation.objects.filter(pk=relation.pk)
    if unless is None:
        rows = rows.filter(state__in=(State.PROPOSED, State.APPROVED))
    else:
        rows = rows.filter(state=State.APPROVED).exclude(fingerprint=unless)
    with transaction.atomic():
        if not rows.update(state=State.INVALIDATED, reason=why, decided_at=at):
            return False
        relation.refresh_from_db()
        tell(relation, "invalidated", by="system", at=at)
    return True
