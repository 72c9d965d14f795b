"""What the desk itself knows as bodies: written from the database, read back without it."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st

from alerts import journal
from markets import catalogue, ticks
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import unix_ns
from markets.house_relations import is_in_conflict, relations_body, relations_mark
from markets.listing import EventTerms
from markets.models import Market
from markets.near_models import NearCertain
from markets.related import RelationType
from markets.relation_models import Relation as Row
from markets.relations import approve, invalidate, propose_by_hand, reject, reopen
from markets.resolution import ASPECTS
from markets.ticks import Top
from rules.history import endgame_history, note_near_certain
from rules.house import RELATIONS, RULES, BadHouse, history_body, history_of, relations_of
from rules.kernel.endgame import BANDS, BUCKET_NAMES, DAY, HOUR, History, Observation, Record
from rules.kernel.relations import Relation
from rules.load import publish_missing
from signals.house import House
from tests import relation_cast as cast
from tests.relation_cast import END, START

LATER = START + timedelta(hours=1)
CENT = Decimal("0.01")

# --- relations -------------------------------------------------------------------------


def said(*relations: dict[str, object]) -> bytes:
    return json.dumps({"relations": relations}).encode()


ROW = {"type": "implies", "members": ["1", "2"], "approved": True}


@pytest.mark.django_db
def test_an_approved_relation_reaches_the_kernel_with_nothing_against_it():
    row = cast.proposed(cast.two_deals())
    approve(
        row.pk,
        by=cast.operator(),
        at=LATER,
        seen=row.fingerprint,
        checked=ASPECTS,
        reason="read both",
    )

    (relation,) = relations_of(relations_body())

    assert relation == Relation("equivalent", ("101", "102"), approved=True)
    assert relation.gates == ()


@pytest.mark.django_db
def test_a_proposal_reaches_the_kernel_unapproved_with_its_basis_and_conflict():
    one = cast.market(1, "Will Iran sign a deal by June 30, 2026?")
    other = cast.market(2, "Will Iran sign a deal by May 31, 2026?")
    cast.list_markets(one, other)
    cast.tell_rules(["102"], source="https://example.org/another")
    row = cast.proposed(("102", "101"), "ladder")
    Row.objects.filter(pk=row.pk).update(method="date ladder")

    (relation,) = relations_of(relations_body())

    assert relation == Relation(
        "ladder", ("102", "101"), False, blocked_by=("metadata_conflict",), basis="date"
    )
    assert set(relation.gates) == {"metadata_conflict", "unapproved_relation"}


@pytest.mark.django_db
def test_what_is_said_twice_is_told_once_as_the_approved_one():
    cast.two_deals()
    by = cast.operator()
    for members in ([("101", 0), ("102", 0)], [("102", 1), ("101", 1)]):
        propose_by_hand("implies", members, by=by, at=START, reason="it follows")
    first = Row.objects.order_by("id")[0]
    approve(first.pk, by=by, at=LATER, seen=first.fingerprint, checked=ASPECTS, reason="read both")

    assert relations_of(relations_body()) == (Relation("implies", ("101", "102"), True),)


@pytest.mark.django_db
def test_rejected_invalid_and_ended_relations_are_not_told():
    row = cast.proposed(cast.two_deals())
    assert relations_of(relations_body())

    Market.objects.update(state=Market.State.RESOLVED)
    assert relations_of(relations_body()) == ()

    Market.objects.update(state=Market.State.TRADABLE)
    reject(row.pk, by=cast.operator(), at=LATER, reason="another source")
    assert relations_of(relations_body()) == ()


@pytest.mark.django_db
def test_every_step_of_a_relation_changes_the_mark_and_nothing_else_does(
    django_assert_num_queries,
):
    by = cast.operator()
    marks = [relations_mark()]
    row = cast.proposed(cast.two_deals())
    marks.append(relations_mark())
    approve(row.pk, by=by, at=LATER, seen=row.fingerprint, checked=ASPECTS, reason="read both")
    marks.append(relations_mark())
    invalidate(row.pk, by=by, at=LATER, reason="a doubt")
    marks.append(relations_mark())
    reopen(row.pk, by=by, at=LATER, reason="settled")
    marks.append(relations_mark())

    assert marks[0] == marks[3], "nothing is known before the first and after the last"
    assert len(set(marks)) == 4
    with django_assert_num_queries(1):
        assert relations_mark() == marks[-1]


@pytest.mark.postgres
@pytest.mark.django_db
def test_the_same_relations_give_the_same_bytes_whatever_their_rows():
    cast.two_deals()
    cast.list_markets(cast.market(3, "Iran signs by June 30, 2026?"))
    pairs = (("101", "102"), ("102", "103"))
    for pair in pairs:
        cast.proposed(pair)
    before = relations_body()
    Row.objects.all().delete()

    for pair in reversed(pairs):
        cast.proposed(pair)

    assert relations_body() == before


@pytest.mark.parametrize(
    ("verdict", "checked", "approved", "conflict"),
    [
        ("same", [], True, False),
        ("different", [], False, True),
        ("different", ["source"], False, False),
        ("different", ["source"], True, False),
        ("different", [], True, True),
        ("unknown", [], False, False),
        ("unknown", [], True, True),
    ],
)
def test_a_conflict_is_what_nobody_checked(verdict, checked, approved, conflict):
    checks = [{"aspect": "source", "verdict": verdict}, {"aspect": "zone", "verdict": "same"}]

    assert is_in_conflict(checks, checked, approved=approved) is conflict


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "relations: "),
        (b"[]", "Expected `object`"),
        (said({**ROW, "type": "causes"}), "Invalid enum value 'causes'"),
        (said(ROW, {**ROW, "members": ["1"]}), r"row 1 \(implies of 1\): it needs at least 2"),
        (said({**ROW, "members": ["1", "1"]}), "a market is in it twice"),
        (said({**ROW, "members": ["1", "2", "3"]}), "it is between two markets"),
        (said({**ROW, "type": "union"}), "it needs at least 3 markets"),
        (said({**ROW, "members": ["", "2"]}), "length >= 1"),
        (said({**ROW, "approved": 1}), "Expected `bool`"),
        (said({"type": "implies", "members": ["1", "2"]}), "approved"),
    ],
)
def test_one_bad_row_refuses_the_body_and_says_which(body, why):
    with pytest.raises(BadHouse, match=why):
        relations_of(body)


def test_types_of_stored_and_of_known_relations_are_the_same():
    stored = {each.lower() for each in Row.Type.values}

    assert stored == set(RelationType.__args__)
    for type_ in stored:
        members = ["1", "2", "3"] if type_ == "union" else ["1", "2"]
        assert relations_of(said({**ROW, "type": type_, "members": members}))[0].type == type_


# --- the history of endgames -------------------------------------------------------------

cells = st.dictionaries(
    st.tuples(
        st.sampled_from(["sports", "politics", "other"]),
        st.integers(0, len(BUCKET_NAMES) - 1),
        st.integers(0, len(BANDS) - 1),
    ),
    st.integers(1, 500).flatmap(
        lambda events: st.floats(0, events).map(lambda won: Record(events, won))
    ),
)


@given(cells)
def test_a_history_comes_back_as_it_was_written(known):
    history = History(known)

    assert history_of(history_body(history)).cells == history.cells


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (["sports", "1 week", 9700, 3, 2.0], "no cell of '1 week' from 9700"),
        (["sports", "1 day", 9701, 3, 2.0], "no cell of '1 day' from 9701"),
        (["sports", "1 day", 9700, 3, 3.5], "3.5 won of 3"),
        (["sports", "1 day", 9700, 0, 0.0], ">= 1"),
        (["sports", "1 day", 9700, 3], "of at least length 5"),
    ],
)
def test_a_history_that_cannot_be_is_refused(row, why):
    with pytest.raises(BadHouse, match=why):
        history_of(json.dumps({"cells": [row]}).encode())


def event(number: int, *markets: int, **changes) -> EventTerms:
    """Store an event with these markets, all of it about politics."""
    listed = tuple(
        cast.market(each, f"Will {each} happen?", event_id=f"e{number}", **changes)
        for each in markets
    )
    terms = EventTerms(f"e{number}", f"Event {number}", False, False, listed, tags=("politics",))
    catalogue.store([terms], seen_at=START)
    return terms


def quote(market: int, bid: str | None, ask: str | None, *, at=START, state="fresh") -> None:
    touch = [None if price is None else int(Decimal(price) * PRICE_ONE) for price in (bid, ask)]
    size = 100 * SIZE_ONE
    ticks.store([Top(str(100 + market), unix_ns(at), state, *touch, size, size)])


def resolve(market: int, payout: str) -> None:
    catalogue.settle({str(100 + market): Decimal(payout)}, at=END)


def record(at=END, *, left: float = DAY / 2, price: int = 9700) -> Record:
    return history_of(endgame_history(at)).record("politics", left, price)


DAY_BEFORE = END - timedelta(hours=12)


@pytest.mark.postgres
@pytest.mark.django_db
def test_a_near_certain_side_is_noted_once_and_counted_when_its_market_resolves():
    event(1, 1)
    quote(1, "0.96", "0.97", at=DAY_BEFORE)

    assert note_near_certain(at=DAY_BEFORE) == 1
    assert note_near_certain(at=DAY_BEFORE + timedelta(minutes=5)) == 0
    assert record() == Record(), "nobody knows yet"
    resolve(1, "1")

    assert record() == Record(events=1, won=1.0)


@pytest.mark.django_db
def test_the_other_side_is_bought_at_what_is_left_of_the_bid():
    event(1, 1)
    quote(1, "0.03", "0.05", at=DAY_BEFORE)

    note_near_certain(at=DAY_BEFORE)
    resolve(1, "1")

    seen = NearCertain.objects.get()
    assert (seen.outcome, seen.price, seen.seconds_left) == (1, Decimal("0.97"), 12 * HOUR)
    assert record() == Record(events=1, won=0.0)


@pytest.mark.postgres
@pytest.mark.django_db
def test_markets_of_one_event_are_one_bet_won_in_part():
    event(1, 1, 2, 3, 4)
    for market in (1, 2, 3, 4):
        quote(market, "0.96", "0.97", at=DAY_BEFORE)
    note_near_certain(at=DAY_BEFORE)

    for market, payout in ((1, "1"), (2, "1"), (3, "1"), (4, "0")):
        resolve(market, payout)

    assert record() == Record(events=1, won=0.75)


@pytest.mark.django_db
def test_a_void_is_won_by_nobody():
    event(1, 1)
    quote(1, "0.96", "0.97", at=DAY_BEFORE)
    note_near_certain(at=DAY_BEFORE)

    resolve(1, "0.5")

    assert record() == Record(events=1, won=0.0)


@pytest.mark.django_db
def test_the_time_left_is_to_the_end_that_was_listed_then():
    event(1, 1)
    quote(1, "0.96", "0.97", at=DAY_BEFORE)
    note_near_certain(at=DAY_BEFORE)

    event(1, 1, end_at=END + timedelta(days=20))
    resolve(1, "0")

    assert record() == Record(events=1, won=0.0)
    assert record(left=20.5 * DAY) == Record()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("bid", "ask", "state"),
    [("0.50", "0.52", "fresh"), ("0.96", "0.97", "stale"), (None, None, "fresh")],
)
def test_what_is_not_near_certain_or_not_fresh_is_not_noted(bid, ask, state):
    event(1, 1)
    quote(1, bid, ask, at=DAY_BEFORE, state=state)

    assert note_near_certain(at=DAY_BEFORE) == 0


@pytest.mark.django_db
def test_a_quote_that_nobody_keeps_any_more_is_not_an_offer():
    event(1, 1)
    quote(1, "0.96", "0.97", at=DAY_BEFORE - timedelta(hours=1))

    assert note_near_certain(at=DAY_BEFORE) == 0
    journal.beat("stream", at=DAY_BEFORE, progress=1)
    assert note_near_certain(at=DAY_BEFORE) == 1, "a quiet book is fresh while the stream lives"


@pytest.mark.postgres
@pytest.mark.django_db
def test_what_is_older_than_90_days_does_not_count(django_assert_num_queries):
    event(1, 1)
    quote(1, "0.96", "0.97", at=DAY_BEFORE)
    note_near_certain(at=DAY_BEFORE)
    resolve(1, "1")

    assert record(DAY_BEFORE + timedelta(days=90)) == Record(events=1, won=1.0)
    with django_assert_num_queries(1):
        assert record(DAY_BEFORE + timedelta(days=91)) == Record()


def test_the_history_of_nothing_is_an_empty_body():
    assert history_of(history_body(History.of([]))).cells == {}
    seen = Observation("1", "other", HOUR, 9_800, won=True)
    assert history_of(history_body(History.of([seen]))).record("other", HOUR, 9_800).events == 1


# --- news ------------------------------------------------------------------------------


def away() -> list[tuple[str, bytes]]:
    raise OperationalError("the database is away")


@pytest.mark.django_db(transaction=True)
def test_news_that_was_read_is_told_although_the_next_could_not_be(monkeypatch):
    """The rules are marked as told once they were read: they must not be lost on the way."""
    house = House()
    house.rules()
    publish_missing(at=START)

    with monkeypatch.context() as outage:
        outage.setattr(house, "_relations_news", away)
        told = [request for request, _ in house.news()]

    assert RULES in told
    assert RELATIONS not in told
    assert RELATIONS in [request for request, _ in house.news()]
