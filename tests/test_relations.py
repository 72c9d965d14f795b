"""Relations: what they mean, who decides, what invalidates, who wins a race."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from alerts import journal
from alerts.models import AuditEntry
from markets import relations
from markets.models import Market
from markets.related import (
    PAIRS,
    KnownRelation,
    NotExpressible,
    Proposal,
    RelationType,
    at_outcome_0,
    is_contradicted,
    key_of,
)
from markets.relation_changes import note_texts
from markets.relation_models import MarketText, Relation, RelationMember
from markets.relations import (
    AlreadyDecided,
    AlreadyKnown,
    MembersChanged,
    NotChecked,
    ReasonMissing,
    UnknownMarket,
    approve,
    approved_relations,
    invalidate,
    invalidate_changed,
    note_listing,
    propose,
    propose_by_hand,
    proposed_relations,
    reject,
    reopen,
    retire_ended,
)
from markets.resolution import ASPECTS
from markets.texts import RulesText, TextsTold
from tests import relation_cast as cast
from tests.relation_cast import START

Origin = Relation.Origin
TYPES: tuple[RelationType, ...] = (
    "exclusive",
    "exhaustive",
    "implies",
    "equivalent",
    "complement",
    "union",
    "ladder",
)
LATER = START + timedelta(hours=1)

# --- what a relation means (no database) -----------------------------------------------


def is_possible(type_: RelationType, truths: Sequence[bool]) -> bool:
    """Say by the definition whether these outcomes can happen together."""
    first, *others = truths
    steps = list(zip(truths, others, strict=False))
    return {
        "exclusive": sum(truths) <= 1,
        "exhaustive": any(truths),
        "implies": all(b for a, b in steps if a),
        "ladder": all(b for a, b in steps if a),
        "equivalent": len(set(truths)) == 1,
        "complement": sum(truths) == 1,
        "union": sum(others) == first,
    }[type_]


@st.composite
def relations_drawn(draw: st.DrawFn) -> tuple[RelationType, tuple[tuple[str, int], ...]]:
    type_ = draw(st.sampled_from(TYPES))
    least = 3 if type_ == "union" else 2
    size = 2 if type_ in PAIRS else draw(st.integers(least, 4))
    return type_, tuple((str(n), draw(st.integers(0, 1))) for n in range(size))


@given(relations_drawn())
def test_the_same_states_are_possible_in_words_of_outcome_0(drawn: Any) -> None:
    type_, members = drawn
    try:
        parts = at_outcome_0(type_, members)
    except NotExpressible:
        assert type_ in ("exhaustive", "union") and any(outcome for _, outcome in members)
        return

    for state in product((False, True), repeat=len(members)):
        meant = [
            truth is (outcome == 0) for truth, (_, outcome) in zip(state, members, strict=True)
        ]
        said = all(is_possible(kind, [state[int(m)] for m in markets]) for kind, markets in parts)
        assert said is is_possible(type_, meant)


@given(relations_drawn(), st.data())
def test_payouts_contradict_exactly_what_cannot_come_true_any_more(
    drawn: Any, data: st.DataObject
) -> None:
    type_, members = drawn
    payouts = {
        market: data.draw(st.sampled_from([None, Decimal(0), Decimal(1)])) for market, _ in members
    }

    possible = any(
        is_possible(type_, truths)
        and all(
            payouts[market] is None or (payouts[market] == 1) is (truth is (outcome == 0))
            for truth, (market, outcome) in zip(truths, members, strict=True)
        )
        for truths in product((False, True), repeat=len(members))
    )

    assert is_contradicted(type_, members, payouts) is not possible


def test_a_void_contradicts_nothing() -> None:
    payouts = {"a": Decimal("0.5"), "b": Decimal(0)}

    assert not is_contradicted("equivalent", [("a", 0), ("b", 0)], payouts)


def test_the_key_is_the_same_for_every_way_to_write_a_relation() -> None:
    a, b, c = ("1", 0), ("2", 0), ("3", 0)

    assert key_of("exclusive", [a, b, c]) == key_of("exclusive", [c, a, b])
    assert key_of("union", [a, b, c]) == key_of("union", [a, c, b]) != key_of("union", [b, a, c])
    assert key_of("implies", [a, b]) != key_of("implies", [b, a])
    assert key_of("exclusive", [a, b]) != key_of("exclusive", [a, ("2", 1)])


@pytest.mark.parametrize(
    ("type_", "members"),
    [
        ("implies", [("1", 0), ("1", 1)]),
        ("implies", [("1", 0)]),
        ("implies", [("1", 0), ("2", 0), ("3", 0)]),
        ("union", [("1", 0), ("2", 0)]),
        ("exclusive", [("1", 0), ("2", 2)]),
    ],
)
def test_what_makes_no_sense_is_refused(type_: RelationType, members: Any) -> None:
    with pytest.raises(NotExpressible):
        at_outcome_0(type_, members)


# --- proposing -----------------------------------------------------------------------------


@pytest.fixture
def operator(db: None) -> User:
    return cast.operator()


@pytest.fixture
def deal(db: None) -> Relation:
    """A proposal: two markets that ask the same, same rules, both known."""
    return cast.proposed(cast.two_deals())


def ticks(relation: Relation) -> list[str]:
    return [each["aspect"] for each in relation.checks if each["verdict"] != "same"]


def accept(relation: Relation, by: User, **changes: Any) -> Relation:
    terms = {"seen": relation.fingerprint, "checked": ticks(relation), "reason": "read both"}
    return approve(relation.pk, by=by, at=LATER, **{**terms, **changes})


@pytest.mark.django_db
def test_a_proposal_keeps_what_it_was_made_of(deal: Relation) -> None:
    first = deal.members.get(position=0)

    assert (deal.state, deal.type, deal.origin) == ("PROPOSED", "EQUIVALENT", "MATCHING")
    assert [each["aspect"] for each in deal.checks] == list(ASPECTS)
    assert first.evidence["rules"] == cast.RULES
    assert first.evidence["source"] == cast.SOURCE
    assert first.evidence["ends"] == "2026-06-30T23:59:00+00:00"
    assert proposed_relations() == (
        KnownRelation(deal.pk, "equivalent", ("101", "102"), approved=False),
    )
    assert approved_relations() == ()


@pytest.mark.django_db
def test_proposing_again_changes_nothing(deal: Relation) -> None:
    again = Proposal("equivalent", ("102", "101"), "words")

    tally = propose([again], origin=Origin.MATCHING, by="matching", at=LATER)

    assert (tally.new, tally.waiting) == (0, 1)
    assert Relation.objects.count() == 1
    assert AuditEntry.objects.filter(kind="relation.proposed").count() == 1


@pytest.mark.django_db
def test_a_rejected_relation_is_not_proposed_again(deal: Relation, operator: User) -> None:
    reject(deal.pk, by=operator, at=LATER, reason="another deal")

    tally = propose(
        [Proposal("equivalent", ("101", "102"), "words")], origin=Origin.MATCHING, by="x", at=LATER
    )

    assert (tally.new, tally.renewed, tally.rejected) == (0, 0, 1)
    deal.refresh_from_db()
    assert deal.state == "REJECTED"


@pytest.mark.django_db
def test_proposals_of_markets_that_are_not_stored_are_counted(deal: Relation) -> None:
    gone = Proposal("implies", ("101", "999"), "words")

    assert propose([gone], origin=Origin.MATCHING, by="x", at=LATER).unknown == 1


@pytest.mark.django_db
def test_a_run_is_one_audit_entry_and_few_queries(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    cast.list_markets(*(cast.market(n, f"Will {n} happen by June 30, 2026?") for n in range(200)))
    proposals = [Proposal("implies", (str(100 + n), str(101 + n)), "words") for n in range(199)]

    with django_assert_max_num_queries(16):
        tally = propose(proposals, origin=Origin.LADDER, by="ladders", at=START)

    assert tally.new == 199
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db
def test_a_person_may_relate_any_outcomes(operator: User) -> None:
    one, other = cast.two_deals()

    made = propose_by_hand(
        "implies", [(one, 0), (other, 1)], by=operator, at=START, reason="never both"
    )
    accept(made, operator)

    assert approved_relations() == (
        KnownRelation(made.pk, "exclusive", (one, other), approved=True),
    )


@pytest.mark.django_db
def test_a_relation_by_hand_must_make_sense_and_be_new(operator: User, deal: Relation) -> None:
    def by_hand(members: Any, reason: str = "because") -> None:
        propose_by_hand("equivalent", members, by=operator, at=START, reason=reason)

    with pytest.raises(NotExpressible):
        by_hand([("101", 0)])
    with pytest.raises(UnknownMarket):
        by_hand([("101", 0), ("999", 0)])
    with pytest.raises(ReasonMissing):
        by_hand([("101", 0), ("102", 1)], reason=" ")
    with pytest.raises(AlreadyKnown) as known:
        by_hand([("102", 0), ("101", 0)])
    assert known.value.relation_id == deal.pk


# --- deciding ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_approved_relation_reaches_the_live_process_in_one_query(
    deal: Relation, operator: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    accept(deal, operator)

    with django_assert_num_queries(1):
        known = approved_relations()

    assert known == (KnownRelation(deal.pk, "equivalent", ("101", "102"), approved=True),)
    assert proposed_relations() == ()
    entry = AuditEntry.objects.get(kind="relation.approved")
    assert (entry.actor, entry.subject) == ("operator", f"relation:{deal.pk}")
    assert entry.data["fingerprint"] == deal.fingerprint
    assert journal.verify() == 2


@pytest.mark.django_db
def test_unknown_aspects_must_be_ticked(operator: User) -> None:
    one, other = cast.two_deals()
    cast.tell_rules([other], rules="", source="")
    deal = cast.proposed((one, other))

    with pytest.raises(NotChecked) as refused:
        accept(deal, operator, checked=["source", "zone"])

    assert refused.value.aspects == ("opens", "wording", "void")
    assert accept(deal, operator, checked=ASPECTS).checked == sorted(ASPECTS)


@pytest.mark.django_db
def test_aspects_that_differ_need_a_reason(operator: User) -> None:
    one, other = cast.two_deals()
    cast.tell_rules([other], source="https://www.bea.gov/")
    deal = cast.proposed((one, other))

    with pytest.raises(ReasonMissing, match="source"):
        accept(deal, operator, reason=" ")

    assert accept(deal, operator, reason="bea copies bls").state == "APPROVED"


@pytest.mark.django_db
def test_what_changed_since_it_was_shown_is_not_approved(deal: Relation, operator: User) -> None:
    cast.tell_rules(["102"], rules="Something else.")

    with pytest.raises(MembersChanged):
        accept(deal, operator)

    shown = Relation.objects.get()
    assert shown.state == "PROPOSED"
    assert shown.members.get(position=1).evidence["rules"] == "Something else."
    assert accept(shown, operator).state == "APPROVED"


@pytest.mark.django_db
def test_a_decision_is_taken_once(deal: Relation, operator: User) -> None:
    accept(deal, operator)

    for act in (reject, reopen):
        with pytest.raises(AlreadyDecided) as refused:
            act(deal.pk, by=operator, at=LATER, reason="no")
        assert refused.value.state == "APPROVED"
    with pytest.raises(AlreadyDecided):
        accept(deal, operator)


@pytest.mark.django_db
def test_reasons_are_needed_to_reject_invalidate_and_reopen(deal: Relation, operator: User) -> None:
    for act in (reject, invalidate):
        with pytest.raises(ReasonMissing):
            act(deal.pk, by=operator, at=LATER, reason=" ")


@pytest.mark.django_db
def test_an_approval_can_be_taken_back_and_given_again(deal: Relation, operator: User) -> None:
    accept(deal, operator)
    invalidate(deal.pk, by=operator, at=LATER, reason="doubtful")
    assert approved_relations() == ()

    again = reopen(deal.pk, by=operator, at=LATER, reason="asked the venue")
    accept(again, operator)

    assert len(approved_relations()) == 1
    kinds = AuditEntry.objects.order_by("id").values_list("kind", flat=True)
    assert list(kinds) == [
        "relation.proposed",
        "relation.approved",
        "relation.invalidated",
        "relation.proposed",
        "relation.approved",
    ]


@pytest.mark.django_db
def test_ended_markets_leave_the_live_process_and_the_inbox(deal: Relation, operator: User) -> None:
    Market.objects.filter(pk="101").update(state=Market.State.RESOLVED)
    assert len(proposed_relations()) == 1

    assert retire_ended(at=LATER) == 1
    assert proposed_relations() == ()

    again = accept(reopen(deal.pk, by=operator, at=LATER, reason="look"), operator)
    assert len(approved_relations()) == 1
    Market.objects.update(state=Market.State.CLOSED)
    assert approved_relations() == ()
    again.refresh_from_db()
    assert again.state == "APPROVED"


@pytest.mark.django_db
def test_a_run_that_puts_relations_away_is_one_audit_entry(deal: Relation) -> None:
    Market.objects.filter(pk="101").update(state=Market.State.CLOSED)

    assert retire_ended(at=LATER) == 1
    assert retire_ended(at=LATER) == 0

    entry = AuditEntry.objects.get(kind="relation.invalidated")
    assert (entry.subject, entry.actor, entry.at) == ("relations", "system", LATER)
    assert entry.data == {
        "count": 1,
        "ids": {deal.type: [deal.pk]},
        "reason": "One of its markets has ended.",
    }


@pytest.mark.django_db
def test_relations_are_not_put_away_without_their_audit_entry(
    deal: Relation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise RuntimeError("disk full")

    Market.objects.filter(pk="101").update(state=Market.State.CLOSED)
    monkeypatch.setattr(journal, "record", full)

    with pytest.raises(RuntimeError):
        retire_ended(at=LATER)

    deal.refresh_from_db()
    assert deal.state == "PROPOSED"


# --- what invalidates ------------------------------------------------------------------------


def _question(one: Any, other: Any) -> None:
    cast.list_markets(replace(other, question="Iran signs another deal before July 1, 2026?"))


def _end(one: Any, other: Any) -> None:
    cast.list_markets(replace(other, end_at=cast.END + timedelta(days=1)))


def _rules(one: Any, other: Any) -> None:
    note_texts([RulesText("102", f"{cast.RULES} A draft counts.", cast.SOURCE, None)], at=LATER)


def _source(one: Any, other: Any) -> None:
    note_texts([RulesText("102", cast.RULES, "https://www.bea.gov/", None)], at=LATER)


def _outcomes(one: Any, other: Any) -> None:
    cast.list_markets(replace(other, outcomes=("No", "Yes")))


def _new_outcome(one: Any, other: Any) -> None:
    cast.list_markets(other, cast.market(3, "A third?", event_id=other.event_id))


def _exclusive(one: Any, other: Any) -> None:
    cast.list_markets(other, neg_risk=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_question, "question of 102"),
        (_end, "ends of 102"),
        (_rules, "rules of 102"),
        (_source, "source of 102"),
        (_outcomes, "outcomes of 102"),
        (_new_outcome, "event set of 102"),
        (_exclusive, "event set of 102"),
    ],
)
@pytest.mark.django_db
def test_every_change_that_could_matter_invalidates_as_it_is_stored(
    deal: Relation, operator: User, change: Callable[[Any, Any], None], named: str
) -> None:
    accept(deal, operator)
    one = cast.market(1, "Will Iran sign a deal by June 30, 2026?")

    change(one, cast.market(2, "Iran signs a deal before July 1, 2026?"))

    assert approved_relations() == ()
    deal.refresh_from_db()
    assert deal.state == "INVALIDATED"
    assert named in deal.reason
    assert deal.decided_by == operator  # who had approved it
    assert AuditEntry.objects.order_by("-id")[0].kind == "relation.invalidated"


@pytest.mark.django_db
def test_an_outcome_that_is_added_invalidates_by_its_own_id(deal: Relation, operator: User) -> None:
    accept(deal, operator)
    Market.objects.create(
        pk="103", event_id="2", question="A third?", tick_size=1, min_size=5, seen_at=START
    )

    assert invalidate_changed(["103"], at=LATER) == (deal.pk,)


@pytest.mark.django_db
def test_trading_changes_nothing(deal: Relation, operator: User) -> None:
    accept(deal, operator)
    other = cast.market(2, "Iran signs a deal before July 1, 2026?")
    cast.list_markets(
        replace(other, liquidity=Decimal(9), volume=Decimal(7), tick=100, untradable="paused")
    )

    assert invalidate_changed(None, at=LATER) == ()
    assert len(approved_relations()) == 1


@pytest.mark.django_db
def test_results_that_contradict_a_relation_invalidate_it(deal: Relation, operator: User) -> None:
    accept(deal, operator)
    Market.objects.filter(pk="101").update(payout=1)
    assert invalidate_changed(["101"], at=LATER) == ()

    Market.objects.filter(pk="102").update(payout=0)

    assert invalidate_changed(["102"], at=LATER) == (deal.pk,)
    deal.refresh_from_db()
    assert "settled its markets against it" in deal.reason


@pytest.mark.django_db
def test_an_invalidated_relation_is_proposed_again_as_it_is_now(
    deal: Relation, operator: User
) -> None:
    accept(deal, operator)
    cast.tell_rules(["102"], rules="Something else.")
    invalidate_changed(["102"], at=LATER)

    tally = propose(
        [Proposal("equivalent", ("102", "101"), "words")], origin=Origin.MATCHING, by="x", at=LATER
    )

    assert tally.renewed == 1
    again = Relation.objects.get()
    assert (again.state, again.checked) == ("PROPOSED", [])
    assert again.members.get(position=1).evidence["rules"] == "Something else."
    assert accept(again, operator).state == "APPROVED"


@pytest.mark.django_db
def test_nothing_live_costs_one_query(
    operator: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        assert invalidate_changed([str(n) for n in range(50_000)], at=LATER) == ()


@pytest.mark.django_db
def test_looking_at_many_relations_takes_few_queries(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    cast.list_markets(*(cast.market(n, f"Will {n} happen by June 30, 2026?") for n in range(200)))
    proposals = [Proposal("implies", (str(100 + n), str(101 + n)), "words") for n in range(199)]
    propose(proposals, origin=Origin.LADDER, by="ladders", at=START)

    with django_assert_max_num_queries(8):
        assert invalidate_changed(None, at=LATER) == ()
    with django_assert_max_num_queries(3):
        assert invalidate_changed(["none of them"], at=LATER) == ()


# --- the venue's pages ---------------------------------------------------------------------


def page(**changes: Any) -> list[dict[str, Any]]:
    market = {
        "id": "102",
        "description": f"{cast.RULES}\x00",
        "resolutionSource": cast.SOURCE,
        "startDate": "2026-03-01T00:00:00Z",
        "events": [{"id": "2", "description": "of the event"}],
        **changes,
    }
    return [{"id": "2", "description": "of the event", "markets": [market, {"id": 7}, "none"]}]


@pytest.mark.django_db
def test_rules_are_kept_from_pages_of_every_shape(deal: Relation) -> None:
    for shape in (page(), {"events": page()}, page()[0], page()[0]["markets"][0]):
        MarketText.objects.all().delete()
        note_listing(shape, ["102"], at=LATER)
        kept = MarketText.objects.get()
        assert kept.rules == f"{cast.RULES}\ufffd"
        assert kept.source == cast.SOURCE
        assert kept.opened_at is not None and kept.opened_at.month == 3


@pytest.mark.django_db
def test_a_page_with_other_rules_invalidates(deal: Relation, operator: User) -> None:
    accept(deal, operator)

    assert note_listing(page(description="Otherwise."), [], at=LATER) == (deal.pk,)


@pytest.mark.django_db
def test_a_page_that_says_nothing_new_writes_nothing(
    deal: Relation, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    note_listing(page(), [], at=LATER)
    MarketText.objects.update(changed_at=START)

    note_listing(page(), [], at=LATER)

    assert MarketText.objects.filter(changed_at=LATER).count() == 0


@pytest.mark.django_db
def test_an_excerpt_without_rules_takes_none_away(deal: Relation, operator: User) -> None:
    accept(deal, operator)

    assert note_listing([{"id": "102", "question": "Iran signs?"}], [], at=LATER) == ()
    assert MarketText.objects.get(pk="102").rules == cast.RULES


def test_only_news_of_texts_leave_the_memory_of_the_live_process() -> None:
    told = TextsTold()
    first, other = (json.dumps(page(description=text)).encode() for text in ("One.", "Other."))

    assert [text.rules for text in told.news_in([first, b"{no page"])] == ["One."]
    assert told.news_in([first, first]) == []
    assert [text.rules for text in told.news_in([other, other])] == ["Other."]


@pytest.mark.parametrize("bad", [None, 3, "x", [], {}, [None], {"events": 3}, [{"id": []}]])
@pytest.mark.django_db
def test_pages_that_make_no_sense_are_no_trouble(bad: object) -> None:
    assert note_listing(bad, [], at=LATER) == ()


# --- races -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_change_between_looking_and_deciding_wins(
    deal: Relation, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = relations._refuse_unchecked

    def meanwhile(*args: Any) -> None:
        checked(*args)
        cast.tell_rules(["102"], rules="Something else.")
        invalidate_changed(["102"], at=LATER)

    monkeypatch.setattr(relations, "_refuse_unchecked", meanwhile)

    with pytest.raises(MembersChanged):
        accept(deal, operator)

    assert approved_relations() == ()


@pytest.mark.django_db
def test_a_change_right_after_an_approval_invalidates_it(
    deal: Relation, operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The change was stored before the approval, but looked at only after it.
    monkeypatch.setattr(relations, "invalidate_changed", lambda *args, **terms: ())
    cast.tell_rules(["102"], rules="Something else.")
    accept(deal, operator)

    assert invalidate_changed(["102"], at=LATER) == (deal.pk,)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_who_decide_at_once_one_wins() -> None:
    deal = cast.proposed(cast.two_deals())
    people = [cast.operator(f"person {n}") for n in range(6)]
    start = threading.Barrier(len(people))
    outcomes: list[str] = []

    def decide(person: User, number: int) -> None:
        start.wait()
        try:
            if number % 2:
                outcomes.append(accept(deal, person).state)
            else:
                outcomes.append(reject(deal.pk, by=person, at=LATER, reason="no").state)
        except AlreadyDecided:
            outcomes.append("late")
        finally:
            connection.close()

    threads = [
        threading.Thread(target=decide, args=(person, number))
        for number, person in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert outcomes.count("late") == len(people) - 1
    deal.refresh_from_db()
    assert deal.state in outcomes
    assert AuditEntry.objects.filter(subject=f"relation:{deal.pk}").count() == 1
    assert journal.verify() == 2


@pytest.mark.postgres
@pytest.mark.django_db
def test_the_database_holds_what_must_hold(deal: Relation) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Relation.objects.update(state="APPROVED")
    with pytest.raises(IntegrityError), transaction.atomic():
        RelationMember.objects.filter(position=1).update(market_id="101")
    with pytest.raises(IntegrityError), transaction.atomic():
        RelationMember.objects.update(outcome=2)
