"""The admin's inbox of relations and its screen of groups."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from alerts import journal
from markets.models import Market
from markets.relation_models import Relation, SynonymGroup
from markets.relations import approve, invalidate_changed
from markets.resolution import ASPECTS
from markets.synonyms import make_group
from markets.wording_diff import marked
from tests import relation_cast as cast
from tests.relation_cast import START

INBOX = "/admin/markets/relation/inbox/"
LATER = START + timedelta(hours=1)


@pytest.fixture
def operator(db: None) -> User:
    return cast.operator()


@pytest.fixture
def desk(client: Client, operator: User) -> Client:
    client.force_login(operator)
    return client


@pytest.fixture
def deal(db: None) -> Relation:
    """A proposal whose second market has other rules and no source."""
    one, other = cast.two_deals()
    cast.tell_rules([other], rules=cast.RULES.replace("50-50", "to No"), source="")
    return cast.proposed((one, other), doubts=("look twice",))


def page_of(relation: Relation, **query: str) -> str:
    address = reverse("admin:markets_relation_change", args=[relation.pk])
    return f"{address}?{'&'.join(f'{k}={v}' for k, v in query.items())}" if query else address


def words_of(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def decide(desk: Client, relation: Relation, act: str, **more: Any) -> Any:
    form = {"seen": relation.fingerprint, "checked": list(ASPECTS), "reason": "read both"}
    return desk.post(page_of(relation), {**form, "act": act, **more}, follow=True)


# --- the pictures of differences -----------------------------------------------------------


@given(st.text(max_size=80), st.text(max_size=80))
def test_marked_texts_are_the_texts(a: str, b: str) -> None:
    parts_a, parts_b = marked(a, b)

    assert "".join(part.text for part in parts_a) == a
    assert "".join(part.text for part in parts_b) == b
    assert a != b or not any(part.only for part in (*parts_a, *parts_b))


def test_what_the_other_does_not_have_is_marked() -> None:
    one, other = marked("by June 30, 11:59 PM ET.", "by June 29, 11:59 PM UTC.")

    assert [part.text for part in one if part.only] == ["30", "ET"]
    assert [part.text for part in other if part.only] == ["29", "UTC"]


def test_texts_too_long_to_compare_are_marked_as_a_whole() -> None:
    one, _ = marked("a " * 20_000, "b")

    assert [part.only for part in one] == [True]


# --- the inbox --------------------------------------------------------------------------------


def test_an_empty_inbox_says_what_would_fill_it(desk: Client) -> None:
    page = words_of(desk.get(INBOX))

    assert "Nothing waits for a decision." in page
    assert "python manage.py synonyms propose" in page


def test_the_inbox_opens_what_waits_first(desk: Client, deal: Relation) -> None:
    response = desk.get(INBOX)

    assert response.status_code == 302
    assert response["Location"] == page_of(deal)


def test_the_page_shows_both_sides_and_marks_what_differs(desk: Client, deal: Relation) -> None:
    response = desk.get(page_of(deal))
    page, words = response.content.decode(), words_of(response)

    assert "A and B come true together or not at all." in words
    assert "<mark>[50-50]</mark>" in page and "<mark>[to No]</mark>" in page
    assert "Doubts: look twice." in words
    assert "1 waits for a decision" in words
    assert cast.SOURCE in words and "not named" in words
    assert "▲ different" in page and "? unknown" in page and "✓ same" in page
    assert f'value="{deal.fingerprint}"' in page


@pytest.mark.parametrize("kind", ["relation", "group"])
def test_the_screens_have_no_inline_script_or_style(
    desk: Client, deal: Relation, operator: User, kind: str
) -> None:
    group = make_group("Deals", ["101", "102"], by=operator, at=START)
    page = {
        "relation": page_of(deal),
        "group": reverse("admin:markets_synonymgroup_change", args=[group.pk]),
    }[kind]

    response = desk.get(page)

    text = response.content.decode()
    assert response.status_code == 200
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", text)
    assert "markets/inbox.js" in text


def test_words_of_the_venue_are_shown_as_words(desk: Client) -> None:
    hostile = '<script>alert(1)</script> "><img src=x>'
    one = cast.market(1, f"Will {hostile} by June 30, 2026?")
    other = cast.market(2, f"{hostile} before July 1, 2026?")
    cast.list_markets(one, other, rules=hostile)
    relation = cast.proposed(("101", "102"))

    page = desk.get(page_of(relation)).content.decode()

    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_approving_goes_on_to_the_next(desk: Client, deal: Relation) -> None:
    cast.list_markets(cast.market(3, "Rain by June 30?"), cast.market(4, "Rain by June 29?"))
    following = cast.proposed(("104", "103"), "implies", score=0.9)

    response = decide(desk, deal, "approve")

    deal.refresh_from_db()
    assert (deal.state, deal.decided_by and deal.decided_by.username) == ("APPROVED", "operator")
    assert response.redirect_chain[-1][0] == page_of(following)
    assert "Approved: Will Iran sign a deal" in words_of(response)
    assert journal.verify() == 3


def test_the_last_decision_leads_to_the_empty_inbox(desk: Client, deal: Relation) -> None:
    response = decide(desk, deal, "reject")

    assert response.redirect_chain[-1][0] == INBOX
    assert "Nothing waits for a decision." in words_of(response)
    assert Relation.objects.get().state == "REJECTED"


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"checked": ["source"]}, "Check and tick first: opens, void."),
        ({"reason": ""}, "Say why it holds although these differ: void."),
        ({"seen": "0" * 64}, "The venue changed a market after you opened this; look again."),
    ],
)
def test_a_refusal_says_what_to_do(
    desk: Client, deal: Relation, form: dict[str, Any], told: str
) -> None:
    assert told in words_of(decide(desk, deal, "approve", **form))
    assert Relation.objects.get().state == "PROPOSED"


def test_a_decision_that_came_too_late_says_so(desk: Client, deal: Relation) -> None:
    decide(desk, deal, "reject")

    assert "It is rejected by now; load the page again." in words_of(decide(desk, deal, "approve"))


def test_only_who_may_decide_can(client: Client, deal: Relation) -> None:
    reader = User.objects.create_user("reader", password="x", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_relation"))
    client.force_login(reader)

    page = words_of(client.get(page_of(deal)))
    refused = client.post(page_of(deal), {"act": "reject", "reason": "no"})

    assert "Deciding needs the right to decide relations." in page
    assert refused.status_code == 403
    assert client.get("/admin/markets/relation/add/").status_code == 403
    assert Relation.objects.get().state == "PROPOSED"


def test_the_inbox_asks_for_the_right_to_look(client: Client, deal: Relation) -> None:
    client.force_login(User.objects.create_user("nobody", password="x", is_staff=True))

    assert client.get(INBOX).status_code == 403
    assert client.get(page_of(deal)).status_code == 403


def test_an_act_that_is_none_changes_nothing(desk: Client, deal: Relation) -> None:
    assert desk.post(page_of(deal), {"act": "delete"}).status_code == 403


def test_the_inbox_can_be_narrowed(desk: Client, deal: Relation) -> None:
    cast.list_markets(cast.market(3, "Rain by June 30?"), cast.market(4, "Rain by June 29?"))
    ladder = cast.proposed(("104", "103"), "ladder", score=0.9)
    Relation.objects.filter(pk=ladder.pk).update(method="date ladder")

    narrowed = desk.get(f"{INBOX}?method=date+ladder")
    page = words_of(desk.get(page_of(ladder, method="date+ladder")))

    assert narrowed["Location"] == page_of(ladder, method="date+ladder")
    assert "1 waits for a decision all 2 date ladder 1 words 1" in page
    assert desk.get(f"{INBOX}?method=none").status_code == 200


def test_going_back_and_forth(desk: Client) -> None:
    cast.list_markets(*(cast.market(n, f"Rain by June {n}, 2026?") for n in range(1, 6)))
    waiting = [
        cast.proposed((str(100 + n), str(101 + n)), "implies", score=score)
        for n, score in ((1, 0.8), (2, 1.0), (3, 0.9), (4, 0.9))
    ]
    order = [waiting[1], waiting[2], waiting[3], waiting[0]]

    for before, relation, after in zip([None, *order], order, [*order[1:], None], strict=False):
        page = desk.get(page_of(relation)).content.decode()
        assert (before is None) or f'href="{page_of(before)}" data-key="k"' in page
        assert (after is None) or f'href="{page_of(after)}" data-key="j"' in page


def test_a_ladder_is_shown_rung_by_rung(desk: Client) -> None:
    rungs = [cast.market(n, f"Deal by June {n + 9}, 2026?") for n in (1, 2, 3)]
    cast.list_markets(*rungs)

    page = words_of(desk.get(page_of(cast.proposed(("101", "102", "103"), "ladder"))))

    assert "Each implies the next: A → B → C." in page
    assert "Deal by June [ 11 ]" in page.replace("[11]", "[ 11 ]")
    assert "Word for word those above." in page


def test_what_was_invalidated_can_be_looked_at_again(
    desk: Client, operator: User, deal: Relation
) -> None:
    approve(
        deal.pk, by=operator, at=LATER, seen=deal.fingerprint, checked=ASPECTS, reason="same deal"
    )
    cast.tell_rules(["102"], rules="Otherwise.")
    invalidate_changed(["102"], at=LATER)

    page = words_of(desk.get(page_of(deal)))
    assert "The venue changed: rules of 102" in page
    assert "The venue has changed since: rules of 102" in page
    decide(desk, deal, "reopen")

    deal.refresh_from_db()
    assert deal.state == "PROPOSED"
    assert "Otherwise" in words_of(desk.get(page_of(deal)))


def test_a_page_takes_few_queries_whatever_the_ladder(
    desk: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    rungs = [cast.market(n, f"Deal by June {n}, 2026?") for n in range(1, 25)]
    cast.list_markets(*rungs)
    ladder = cast.proposed([rung.market_id for rung in rungs], "ladder")

    with django_assert_max_num_queries(20):
        desk.get(page_of(ladder))


def test_the_list_takes_few_queries(
    desk: Client, deal: Relation, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(12):
        page = desk.get("/admin/markets/relation/?state__exact=PROPOSED")

    assert "Decide what waits" in words_of(page)
    assert "Will Iran sign a deal by June 30, 2026? / Iran signs a deal" in words_of(page)


# --- by hand ----------------------------------------------------------------------------------


def add(desk: Client, **form: str) -> Any:
    terms = {"type": "IMPLIES", "members": "101\n102:1", "reason": "the treaty says so"}
    return desk.post("/admin/markets/relation/add/", {**terms, **form}, follow=True)


def test_a_relation_added_by_hand_waits_like_any_other(desk: Client) -> None:
    cast.two_deals()

    page = words_of(add(desk))

    relation = Relation.objects.get()
    assert (relation.state, relation.origin) == ("PROPOSED", "MANUAL")
    assert [(m.market_id, m.outcome) for m in relation.members.order_by("position")] == [
        ("101", 0),
        ("102", 1),
    ]
    assert "It waits for approval like any other." in page


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"members": "101"}, "needs at least 2 markets"),
        ({"members": "101 101"}, "once only"),
        ({"members": "101 102:7"}, "102:7: write a market&#x27;s id"),
        ({"members": "101 999"}, "Not in the catalogue: 999."),
        ({"reason": " "}, "Say why it holds."),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    desk: Client, form: dict[str, str], told: str
) -> None:
    cast.two_deals()

    assert told in add(desk, **form).content.decode()
    assert not Relation.objects.exists()


def test_a_relation_that_exists_is_not_added_twice(desk: Client, deal: Relation) -> None:
    page = words_of(add(desk, type="EQUIVALENT", members="102 101"))

    assert "This relation exists and is proposed" in page
    assert Relation.objects.count() == 1


# --- groups -------------------------------------------------------------------------------------


@pytest.fixture
def group(operator: User) -> SynonymGroup:
    cast.two_deals()
    cast.list_markets(cast.market(3, "Rain?"))
    return make_group("Deals", ["101", "102"], by=operator, at=START)


def group_page(group: SynonymGroup) -> str:
    return reverse("admin:markets_synonymgroup_change", args=[group.pk])


def test_a_group_shows_its_markets_and_what_tells_them_apart(
    desk: Client, group: SynonymGroup
) -> None:
    page = words_of(desk.get(group_page(group)))

    assert "[signs]" in page or "[signs" in page
    assert "added by operator" in page
    assert "1 group waits for a decision" in page


def test_a_group_is_changed_and_approved_on_one_screen(desk: Client, group: SynonymGroup) -> None:
    added = words_of(desk.post(group_page(group), {"act": "add", "ids": "103 999"}, follow=True))
    approved = words_of(
        desk.post(group_page(group), {"act": "approve", "member": ["101", "102"]}, follow=True)
    )

    group.refresh_from_db()
    assert "1 added." in added
    assert "Approved. 1 relations that follow wait for approval." in approved
    assert group.state == "APPROVED"
    assert dict(group.members.values_list("market_id", "state")) == {
        "101": "APPROVED",
        "102": "APPROVED",
        "103": "REJECTED",
    }
    assert Relation.objects.get().origin == "GROUP"


def test_a_group_is_rejected_with_a_reason(desk: Client, group: SynonymGroup) -> None:
    without = desk.post(group_page(group), {"act": "reject", "reason": ""}, follow=True)
    assert "Give a reason" in words_of(without)

    desk.post(group_page(group), {"act": "reject", "reason": "two deals"}, follow=True)

    group.refresh_from_db()
    assert (group.state, group.reason) == ("REJECTED", "two deals")
    assert "A rejected group stays so." in words_of(desk.get(group_page(group)))


def test_a_group_is_made_by_hand(desk: Client) -> None:
    cast.two_deals()

    page = desk.post(
        "/admin/markets/synonymgroup/add/", {"name": "Mine", "markets": "101 102"}, follow=True
    )
    wrong = desk.post("/admin/markets/synonymgroup/add/", {"name": "B", "markets": "999"})

    assert "Markets that speak of the same" in words_of(page)
    assert "Not in the catalogue: 999." in words_of(wrong)
    assert SynonymGroup.objects.get().members.count() == 2


def test_groups_are_listed_with_their_size(desk: Client, group: SynonymGroup) -> None:
    page = words_of(desk.get("/admin/markets/synonymgroup/"))

    assert "Deals MANUAL PROPOSED 2" in page or "Deals Manual Proposed 2" in page


def test_markets_of_relations_cannot_vanish(deal: Relation) -> None:
    with pytest.raises(ProtectedError):
        Market.objects.filter(pk="101").delete()
