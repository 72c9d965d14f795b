"""Event and market pages: which gate stops what, by how much, and what is related."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from markets import ticks
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import unix_ns
from markets.models import Event, Market, Quote
from markets.relation_models import Relation, SynonymGroup, SynonymGroupMember
from markets.relations import approve
from markets.resolution import ASPECTS
from markets.ticks import Top
from tests import portal_cast as cast
from tests import relation_cast
from tests.portal_cast import START

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(cast.viewer())
    return client


def text_of(response: HttpResponse) -> str:
    words = html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode()))
    return " ".join(words.replace("\xa2", "c").replace(" ,", ",").split())


def listed(*asks: float, **changes: Any) -> str:
    """List an event, quoted at these asks, and return the address of its page."""
    view = cast.view_of(*asks, **changes)
    cast.list_event(view)
    cast.quote(view, at=START)
    return f"/events/{view.terms.event_id}/"


# --- the event's own baskets ---------------------------------------------------------------


def test_event_page_says_what_each_basket_misses_before_and_after_fees(viewer: Client) -> None:
    """By hand: fees of 0.0271 on the asks and of 0.026332 on the bids."""
    page = text_of(viewer.get(listed(0.30, 0.40, 0.35)))

    assert (
        "YES basket : 7.71c too dear per set after fees; the best prices add up to 1.05, "
        "with fees 1.0771" in page
    )
    assert (
        "NO basket : 3.63c too dear per set after fees; the YES bids add up to 0.99, "
        "with fees 0.963668" in page
    )
    assert "YES asks 1.05 (3 of 3), YES bids 0.99 (3 of 3)" in page
    assert page.count("30c") == 1
    assert "a signal needs $0.50 and 20.0 bps" in page


def test_event_page_says_how_old_its_quotes_are(viewer: Client) -> None:
    address = listed(0.30, 0.40, 0.35)
    now = timezone.now()
    Quote.objects.update(at=now - timedelta(minutes=3))
    Quote.objects.filter(pk="801").update(at=now - timedelta(hours=2, minutes=1))
    cast.beat(at=now)

    page = text_of(viewer.get(address))

    assert "Stored quotes; the newest changed 3 min ago, the oldest 2 h ago ." in page
    assert re.search(r"The venue was last heard \d s ago", page)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda: Market.objects.filter(pk="801").update(state="PAUSED"),
            "A leg's market is paused, closed or not yet open. In Outcome 1 . "
            "Opens with: The venue accepting orders again.",
        ),
        (
            lambda: Quote.objects.filter(pk="802").update(state="stale"),
            "A leg's book may have missed changes. In Outcome 2 . Opens with: The next snapshot;",
        ),
        (
            lambda: Quote.objects.filter(pk="800").delete(),
            "A leg's book has not been received yet. In Outcome 0 . Opens with: A first snapshot",
        ),
        (
            lambda: Market.objects.filter(pk="801").update(fee_rate=None),
            "Fees are on for a leg and their schedule is not known. In Outcome 1 .",
        ),
        (
            lambda: Quote.objects.filter(pk="801").update(ask=None, ask_size=None),
            "An outcome has bids but no offer to buy. In Outcome 1 . Opens with: Somebody",
        ),
        (
            lambda: Event.objects.update(augmented=True),
            "so the listed ones are not exhaustive. Opens with: Nothing opens this gate;",
        ),
        (
            lambda: Market.objects.filter(pk="802").update(leg_number=3),
            "Opens with: The venue listing its outcome number 3.",
        ),
        (
            lambda: Market.objects.filter(pk="801").update(conflict="The text says March."),
            "own data do not tie a leg to this event. In Outcome 1 . Opens with: The venue",
        ),
    ],
    ids=["paused", "stale", "awaiting", "fee", "one-sided", "augmented", "leg", "conflict"],
)
def test_event_page_says_which_gate_is_shut_where_and_what_opens_it(
    viewer: Client, change: Any, told: str
) -> None:
    address = listed(0.30, 0.40, 0.35)
    change()

    assert told in text_of(viewer.get(address))


def test_event_page_says_by_how_much_a_basket_is_too_small(viewer: Client) -> None:
    address = listed(0.30, 0.30, 0.30)
    Quote.objects.filter(pk="801").update(ask_size=Decimal(3))

    page = text_of(viewer.get(address))

    assert "YES basket : the prices would pay, but it is blocked." in page
    assert "5 shares and 1 USD a leg; the smallest has 3.00 shares for 0.90 USD." in page


def test_event_page_says_by_how_much_a_basket_is_too_thin(viewer: Client) -> None:
    """By hand: 6 sets of 0.9 and 3 fees of 0.0084 a set: 0.0748 a set."""
    address = listed(0.30, 0.30, 0.30)
    Quote.objects.update(ask_size=Decimal(6))

    page = text_of(viewer.get(address))

    assert "YES basket : pays +$0.45 at the best prices now, which is too little." in page
    assert "Opens with: 0.50 USD; it is 0.4488 USD at the best prices." in page


def test_page_of_an_event_of_independent_markets_looks_at_each(viewer: Client) -> None:
    page = text_of(viewer.get(listed(0.30, 0.60, neg_risk=False)))

    assert page.count("Binary pair of Outcome") == 2
    assert "independent of each other" in page


def test_event_page_is_reached_from_its_markets_and_signals(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    address = listed(0.30, 0.30, 0.30)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule(), key="here")

    for page in ("/markets/800/", f"/signals/{signal.key}/"):
        assert f'href="{address}"' in viewer.get(page).content.decode()
    assert "/signals/here/" in viewer.get(address).content.decode()
    assert viewer.get("/events/none/").status_code == 404


# --- across events ------------------------------------------------------------------------


def related_pair(ask: str = "0.55", other: str = "0.45") -> Relation:
    """Two markets that ask the same, quoted two cents wide, and the proposal that says so."""
    members = relation_cast.two_deals()
    for pk, price in zip(members, (ask, other), strict=True):
        units, size = int(Decimal(price) * PRICE_ONE), 200 * SIZE_ONE
        ticks.store([Top(pk, unix_ns(START), "fresh", units - 200, units, size, size)])
    return relation_cast.proposed(members)


def accept(relation: Relation) -> None:
    seen = relation.fingerprint
    by = cast.operator()
    approve(relation.pk, by=by, at=START, seen=seen, checked=ASPECTS, reason="read both")


def test_market_page_says_what_its_relation_misses(viewer: Client) -> None:
    """By hand: the first at 0.55 and NO of the second at 1 - 0.54."""
    relation = related_pair("0.55", "0.56")

    page = text_of(viewer.get("/markets/101/"))

    assert f"waits for approval Relation #{relation.pk}" in page
    assert "all are true or none:" in page
    assert "Equivalent pair : 1.00c too dear per set after fees" in page
    assert "best prices add up to 1.01" in page
    assert "Nobody has approved the relation this rests on." in page
    assert "Opens with: A person who approves the relation." in page


def test_a_proposed_relation_whose_prices_would_pay_is_blocked_and_an_approved_one_pays(
    viewer: Client,
) -> None:
    relation = related_pair("0.55", "0.45")
    for address in ("/markets/101/", "/events/2/"):
        assert "Equivalent pair : the prices would pay, but it is blocked." in text_of(
            viewer.get(address)
        )

    accept(relation)

    page = text_of(viewer.get("/markets/102/"))
    assert f"approved Relation #{relation.pk}" in page
    assert "Equivalent pair : pays at the best prices now." in page


def test_a_relation_whose_markets_settle_apart_says_so(viewer: Client) -> None:
    relation = related_pair("0.55", "0.56")
    checks = [{"aspect": "source", "verdict": "different", "told": ["a", "b"]}]
    Relation.objects.filter(pk=relation.pk).update(checks=checks)

    page = text_of(viewer.get("/markets/101/"))

    assert "Its markets are not known to settle alike, and nobody has checked that." in page
    assert "Opens with: A person who checks what differs." in page


def test_a_relation_without_offers_says_so(viewer: Client) -> None:
    relation_cast.proposed(relation_cast.two_deals())

    assert "Too few of its markets have an offer" in text_of(viewer.get("/markets/101/"))


def test_a_relation_that_the_solver_gives_up_on_says_so(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(related_pair("0.55", "0.45"))
    gives_up = SimpleNamespace(x=None, message="numerical difficulties")
    monkeypatch.setattr("rules.kernel.program.milp", lambda *_, **__: gives_up)

    for address in ("/markets/101/", "/events/2/"):
        page = text_of(viewer.get(address))
        assert "What it pays could not be worked out at these prices" in page
        assert "Equivalent pair" not in page


def test_only_who_may_see_relations_is_shown_the_way_there(client: Client, viewer: Client) -> None:
    relation = related_pair()
    way = f'href="/relations/{relation.pk}/"'
    assert way not in viewer.get("/markets/101/").content.decode()

    client.force_login(cast.operator())

    assert way in client.get("/markets/101/").content.decode()


def test_pages_take_the_same_queries_whatever_the_number_of_relations(
    viewer: Client, django_assert_max_num_queries: Any
) -> None:
    related_pair()
    relation_cast.list_markets(
        *(relation_cast.market(n, f"Will {n} happen by June 30, 2026?") for n in range(10, 20))
    )
    for n in range(110, 120):
        relation_cast.proposed(("101", str(n)))

    with django_assert_max_num_queries(32):
        assert viewer.get("/markets/101/").content.count(b"waits for approval") == 11


# --- similar markets --------------------------------------------------------------------------


def test_market_page_lists_similar_markets_with_why_and_by_whom(viewer: Client) -> None:
    relation = related_pair()

    page = text_of(viewer.get("/markets/101/"))
    assert (
        "Iran signs a deal before July 1, 2026? is true exactly when this is 43c 45c" in page
        and "matching" in page
    )

    accept(relation)
    assert "a person" in text_of(viewer.get("/markets/101/"))
    assert "No other market is known" in text_of(viewer.get(listed(0.3, 0.4) and "/markets/800/"))


def test_similar_markets_come_over_the_api(viewer: Client) -> None:
    relation = related_pair()
    relation_cast.list_markets(relation_cast.market(3, "Will Iran sign?"))
    group = SynonymGroup.objects.create(name="Iran", method="MANUAL", created_at=START)
    for pk, inverted in (("101", False), ("103", True)):
        SynonymGroupMember.objects.create(group=group, market_id=pk, inverted=inverted)

    answer = viewer.get("/api/v1/markets/101/similar").json()

    assert [
        (row["market"]["id"], row["decided"], row["inverted"], row["relation_id"], row["group_id"])
        for row in answer["results"]
    ] == [("102", False, False, relation.pk, None), ("103", False, True, None, group.pk)]
    first = answer["results"][0]
    assert first["why"] == "is true exactly when this is"
    assert (first["market"]["quote"]["bid"], first["market"]["quote"]["ask"]) == (
        "0.4300",
        "0.4500",
    )


def test_the_api_refuses_what_it_does_not_know_of_similar_markets(viewer: Client) -> None:
    related_pair()

    assert viewer.get("/api/v1/markets/none/similar").status_code == 404
    assert viewer.get("/api/v1/markets/101/similar?limit=3").json()["code"] == "unknown_parameter"
