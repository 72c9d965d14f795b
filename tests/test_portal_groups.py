"""Groups and relations in the portal: what is told, what is signed, and who may decide."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from alerts.models import AuditEntry
from markets.models import Market, Quote
from markets.relation_models import Relation, SynonymGroup, SynonymGroupMember
from markets.resolution import ASPECTS
from markets.synonyms import make_group
from tests import desk_cast, portal_cast, relation_cast
from tests.test_portal import BAR_QUERIES, LOGIN_QUERIES, text_of

pytestmark = pytest.mark.django_db

START = relation_cast.START


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(desk_cast.person("viewer", "viewer"))
    return client


@pytest.fixture
def decider(client: Client) -> Client:
    client.force_login(relation_cast.operator())
    return client


@pytest.fixture
def deal() -> Relation:
    """A proposal whose second market has other rules and no source."""
    one, other = relation_cast.two_deals()
    changed = relation_cast.RULES.replace("50-50", "to No")
    relation_cast.tell_rules([other], rules=changed, source="")
    return relation_cast.proposed((one, other), doubts=("look twice",))


def content(response: Any) -> str:
    return b"".join(response.streaming_content).decode()


def group_of(*prices: tuple[str, str, bool], state: str = "PROPOSED") -> SynonymGroup:
    """Make a group of one market for each bid, ask, and whether it asks the opposite."""
    view = portal_cast.view_of(*[0.3] * len(prices))
    portal_cast.list_event(view)
    group = SynonymGroup.objects.create(
        name="One thing", method="MATCHING", state=state, created_at=START
    )
    for market, (bid, ask, inverted) in zip(Market.objects.order_by("id"), prices, strict=True):
        Quote.objects.create(
            market=market,
            bid=Decimal(bid),
            ask=Decimal(ask),
            bid_size=1,
            ask_size=1,
            state="fresh",
            at=timezone.now(),
        )
        SynonymGroupMember.objects.create(group=group, market=market, inverted=inverted, why="w")
    return group


# --- groups --------------------------------------------------------------------------


def test_group_tells_how_far_its_asks_for_one_claim_lie_apart(viewer: Client) -> None:
    """By hand: asks of 40, 47 and, of the one that asks the opposite, 1 - 0.58 = 42 cents."""
    group = group_of(("0.38", "0.40", False), ("0.45", "0.47", False), ("0.58", "0.60", True))

    rows = text_of(viewer.get("/groups/"))
    page = viewer.get(f"/groups/{group.pk}/")

    assert "One thing Matching: their questions are worded alike." in rows
    assert "waits 3 Asks from 40.00¢ to 47.00¢" in rows
    assert "7.00¢" in rows
    assert "asks from 40.00¢ to 47.00¢, 7.00¢ apart" in text_of(page)
    assert page.content.decode().count('<rect class="range"') == 3
    assert "asks the opposite: prices are of its second outcome w 1.000 40¢ 42¢" in text_of(page)


def test_stale_books_and_rejected_members_do_not_count(viewer: Client) -> None:
    group_of(("0.38", "0.40", False), ("0.45", "0.47", False), ("0.01", "0.02", False))
    first, second, _ = SynonymGroupMember.objects.order_by("market_id")
    SynonymGroupMember.objects.filter(pk=first.pk).update(state="REJECTED")
    Quote.objects.filter(market=second.market).update(state="stale")

    assert "fewer than two fresh books" in text_of(viewer.get("/groups/"))


def test_groups_are_found_by_words_market_state_and_way(viewer: Client) -> None:
    group = group_of(("0.3", "0.4", False), ("0.3", "0.4", False))
    member = group.members.order_by("market_id")[0]

    def found(query: str) -> bool:
        return "One thing" in text_of(viewer.get(f"/groups/{query}"))

    assert found("?q=thing")
    assert found(f"?q={member.market_id}")
    assert found("?state=PROPOSED&method=MATCHING")
    assert not found("?state=APPROVED")
    assert not found("?method=KEYWORD")
    assert "No group fits." in text_of(viewer.get("/groups/?q=zebra"))


def test_empty_pages_say_what_would_fill_them(viewer: Client) -> None:
    assert "Matching looks for markets that speak of the same once an hour" in text_of(
        viewer.get("/groups/")
    )
    assert "Nothing waits for a decision." in text_of(viewer.get("/relations/"))
    assert "No relation fits." in text_of(viewer.get("/relations/?state=REJECTED"))
    for address in ("/groups/7/", "/relations/7/"):
        assert viewer.get(address).status_code == 404


def test_group_is_approved_with_the_ticked_markets_alone(decider: Client) -> None:
    one, other = relation_cast.two_deals()
    group = make_group("deals", [one, other], by=relation_cast.operator("maker"), at=START)
    SynonymGroup.objects.update(state="PROPOSED")

    decider.post(f"/groups/{group.pk}/decide/", {"act": "approve", "member": [one]})

    group.refresh_from_db()
    states = dict(group.members.values_list("market_id", "state"))
    assert (group.state, states) == ("APPROVED", {one: "APPROVED", other: "REJECTED"})


def test_group_is_not_rejected_without_a_reason(decider: Client) -> None:
    group = group_of(("0.3", "0.4", False), ("0.3", "0.4", False))
    address = f"/groups/{group.pk}/decide/"

    told = text_of(decider.post(address, {"act": "reject"}, follow=True))
    group.refresh_from_db()
    assert "Nothing was decided. Give a reason" in told
    assert group.state == "PROPOSED"

    decider.post(address, {"act": "reject", "reason": "other years"})
    group.refresh_from_db()
    assert (group.state, group.reason) == ("REJECTED", "other years")


# --- relations -----------------------------------------------------------------------


def test_inbox_shows_what_waits_and_what_is_to_be_checked(viewer: Client, deal: Relation) -> None:
    market = deal.members.all()[0].market_id
    page = text_of(viewer.get("/relations/"))

    assert "1 waits for a decision" in page
    assert "A and B come true together or not at all." in page
    assert "source" in page
    assert "look twice" in page
    assert "A and B" not in text_of(viewer.get("/relations/?type=LADDER"))
    assert "A and B" in text_of(viewer.get(f"/relations/?market={market}&state=all"))


def test_page_shows_all_that_is_signed_and_offers_nothing_without_the_right(
    viewer: Client, deal: Relation
) -> None:
    page = viewer.get(f"/relations/{deal.pk}/")

    assert f'name="seen" value="{deal.fingerprint}"' in page.content.decode()
    assert "<mark>" in page.content.decode()
    assert "Doubts: look twice." in text_of(page)
    assert "Deciding takes the right to decide relations." in text_of(page)
    assert 'name="act"' not in page.content.decode()
    assert viewer.post(f"/relations/{deal.pk}/decide/", {"act": "approve"}).status_code == 403
    deal.refresh_from_db()
    assert deal.state == "PROPOSED"


def approve(client: Client, relation: Relation, **more: Any) -> str:
    sent = {"act": "approve", "seen": relation.fingerprint, "checked": list(ASPECTS)} | more
    return text_of(client.post(f"/relations/{relation.pk}/decide/", sent, follow=True))


def test_relation_is_approved_by_who_may_on_what_was_shown(decider: Client, deal: Relation) -> None:
    assert "Approved: the rules use it within seconds." in approve(
        decider, deal, reason="settles the same"
    )

    deal.refresh_from_db()
    assert (deal.state, str(deal.decided_by)) == ("APPROVED", "operator")
    assert AuditEntry.objects.filter(subject=f"relation:{deal.pk}").exists()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"checked": []}, "Check and tick first"),
        ({"seen": "0" * 64}, "look again"),
        ({"act": "reject"}, "Give a reason"),
        ({"act": "reopen", "reason": "x"}, "by now"),
    ],
)
def test_decision_that_may_not_be_leaves_it_waiting_and_says_why(
    decider: Client, deal: Relation, sent: dict[str, Any], why: str
) -> None:
    told = approve(decider, deal, **sent)

    deal.refresh_from_db()
    assert "Nothing was decided." in told
    assert why in told
    assert deal.state == "PROPOSED"


def test_unknown_decision_is_refused(decider: Client, deal: Relation) -> None:
    assert decider.post(f"/relations/{deal.pk}/decide/", {"act": "burn"}).status_code == 403


def test_rejected_and_approved_ones_can_be_taken_back(decider: Client, deal: Relation) -> None:
    address = f"/relations/{deal.pk}/decide/"
    for act, state in (
        ("reject", "REJECTED"),
        ("reopen", "PROPOSED"),
        ("approve", "APPROVED"),
        ("invalidate", "INVALIDATED"),
    ):
        deal.refresh_from_db()
        sent = {"act": act, "reason": "so", "seen": deal.fingerprint, "checked": list(ASPECTS)}
        decider.post(address, sent)
        deal.refresh_from_db()
        assert deal.state == state


def test_files_have_what_the_filter_lets_through(viewer: Client, deal: Relation) -> None:
    rows = json.loads(content(viewer.get("/relations/?format=json")))["rows"]
    none = json.loads(content(viewer.get("/relations/?state=APPROVED&format=json")))["rows"]

    assert [row["relation_id"] for row in rows] == [deal.pk]
    assert len(rows[0]["questions"]) == 2
    assert none == []


def test_lists_take_the_same_queries_for_many_rows(
    viewer: Client, deal: Relation, django_assert_num_queries: Any
) -> None:
    """Role, heartbeats, count, rows, what waits, views; and members with markets and events."""
    for number in range(3):
        group = SynonymGroup.objects.create(
            name=f"g{number}", method="MANUAL", created_at=START + timedelta(minutes=number)
        )
        for market in Market.objects.all():
            SynonymGroupMember.objects.create(group=group, market=market)

    with django_assert_num_queries(LOGIN_QUERIES + BAR_QUERIES + 8):
        groups = viewer.get("/groups/")
    with django_assert_num_queries(LOGIN_QUERIES + BAR_QUERIES + 10):
        viewer.get("/relations/")

    assert len(re.findall(r'href="/groups/\d+/"', groups.content.decode())) == 3
