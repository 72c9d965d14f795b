"""The list of markets, a market's page and their files: depth, past, likes, the venue's words."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from execution.models import LiveBook
from markets.models import Gap, Market, Quote, Tick
from markets.relation_models import MarketText, SynonymGroup, SynonymGroupMember
from mpx_site.portal.history import touch_chart
from tests import portal_cast as cast
from tests.portal_cast import START
from tests.test_portal import BAR_QUERIES, HOSTILE, LOGIN_QUERIES, ROLE_QUERIES, text_of

pytestmark = pytest.mark.django_db

HOSTILES = [
    HOSTILE,
    '=cmd|" /C calc"!A0',
    "\u202eexe.tnemyap",
    "W" * 10_000,
]
FRESH = timedelta(seconds=5)


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(cast.viewer())
    return client


@pytest.fixture
def trader(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


def listed(*asks: float, **changes: Any) -> list[Market]:
    view = cast.view_of(*asks, **changes)
    cast.list_event(view)
    cast.quote(view, at=timezone.now())
    return [Market.objects.get(pk=each.terms.market_id) for each in view.markets]


def names(page: str) -> list[str]:
    rows = re.findall(r'<tr class="row">.*?</tr>', page, re.DOTALL)
    return [re.findall(r'href="/markets/(\w+)/"', row)[0] for row in rows]


def content(response: Any) -> str:
    parts = response.streaming_content if response.streaming else [response.content]
    return b"".join(parts).decode()


# --- the list ------------------------------------------------------------------------


def test_list_shows_both_outcomes_and_what_the_event_adds_up_to(viewer: Client) -> None:
    """By hand: asks 0.30 + 0.40 = 0.70; bids are two cents lower each: 0.66."""
    listed(0.30, 0.40)
    cast.beat(at=timezone.now())

    page = text_of(viewer.get("/markets/"))

    assert "Yes No 70¢ / 72¢ 28¢ 100.00 30¢ 100.00 2¢ 0.66 / 0.70 of 2 of 2" in page


def test_sums_take_yes_wherever_the_venue_lists_it(viewer: Client) -> None:
    """The first market lists NO first: its YES is asked at 1 - 0.28 and bid at 1 - 0.30."""
    first, _ = listed(0.30, 0.40)
    for index, label in enumerate(("No", "Yes")):
        first.outcomes.filter(index=index).update(label=label)

    assert "1.08 / 1.12 of 2 of 2" in text_of(viewer.get("/markets/"))


def test_list_is_filtered_and_ordered_by_the_address(viewer: Client) -> None:
    now = timezone.now()
    soon, stale, bare = listed(0.30, 0.40, 0.50)
    Market.objects.filter(pk=soon.pk).update(end_at=now + timedelta(hours=2), volume=5)
    Market.objects.filter(pk=stale.pk).update(end_at=now + timedelta(days=3), volume=50)
    Market.objects.filter(pk=bare.pk).update(end_at=None, volume=1)
    Quote.objects.filter(pk=stale.pk).update(state="stale", bid=Decimal("0.10"), at=now + FRESH)
    Quote.objects.filter(pk=bare.pk).delete()

    asked = {
        "?ends=24": [soon.pk],
        "?ends=168&sort=ends": [soon.pk, stale.pk],
        "?book=stale": [stale.pk],
        "?book=none": [bare.pk],
        "?book=fresh": [soon.pk],
        "?sort=volume": [stale.pk, soon.pk, bare.pk],
        "?sort=spread": [soon.pk, stale.pk, bare.pk],
        "?sort=changed": [stale.pk, soon.pk, bare.pk],
        "?sort=ends": [soon.pk, stale.pk, bare.pk],
    }
    for query, wanted in asked.items():
        assert names(viewer.get(f"/markets/{query}").content.decode()) == wanted, query


def test_file_has_every_market_that_fits_and_both_its_outcomes(viewer: Client) -> None:
    first, second = listed(0.30, 0.40)
    Market.objects.filter(pk=second.pk).update(state="PAUSED")

    rows = list(csv.DictReader(io.StringIO(content(viewer.get("/markets/?format=csv")))))
    told = json.loads(content(viewer.get("/markets/?state=TRADABLE&format=json")))

    assert {row["market_id"] for row in rows} == {first.pk, second.pk}
    assert [row["market_id"] for row in told["rows"]] == [first.pk]
    row = told["rows"][0]
    assert (row["outcome_0"], row["bid_0_usd"], row["ask_0_usd"]) == ("Yes", "0.2800", "0.3000")
    assert (row["outcome_1"], row["bid_1_usd"], row["ask_1_usd"]) == ("No", "0.7000", "0.7200")
    assert row["book_state"] == "fresh"


@pytest.mark.parametrize("title", HOSTILES, ids=["script", "formula", "rtl", "long"])
def test_hostile_titles_are_harmless_on_every_page_and_in_files(trader: Client, title: str) -> None:
    market, _ = listed(0.30, 0.40, title=title)
    Market.objects.update(question=title, label=title[:300])
    text = {"rules": title, "source": title, "changed_at": START}
    MarketText.objects.create(market=market, **text)
    group = SynonymGroup.objects.create(name=title[:200], method="MATCHING", created_at=START)
    for each in Market.objects.all():
        SynonymGroupMember.objects.create(group=group, market=each, why=title[:300])

    pages = ("/", "/markets/", f"/markets/{market.pk}/", f"/events/{market.event_id}/")
    for address in (*pages, "/groups/", f"/groups/{group.pk}/"):
        page = trader.get(address).content.decode()
        assert "<script>alert" not in page, address
        assert "<img" not in page, address
        words = re.sub(r'<div class="venue-words.*?</div>', "", page, flags=re.DOTALL)
        assert not re.search(r"W{1000}", words), address
        assert page.count("<bdi>") == page.count("</bdi>"), address
    for address in ("/markets/?format=csv", "/groups/?format=csv"):
        for row in csv.reader(io.StringIO(content(trader.get(address)))):
            assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row), address


def test_list_takes_the_same_queries_for_many_rows(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    """Heartbeats, count, rows, their outcomes, what the events add up to, and saved views."""
    listed(*[0.03] * 25)

    with django_assert_num_queries(LOGIN_QUERIES + ROLE_QUERIES + BAR_QUERIES + 6):
        viewer.get("/markets/?size=20")


# --- one market ----------------------------------------------------------------------


def test_depth_adds_up_the_book_that_the_stream_holds(viewer: Client) -> None:
    market, _ = listed(0.30, 0.40)
    now = timezone.now()
    LiveBook.objects.create(
        market=market,
        state="fresh",
        epoch=1,
        bids=[[2800, 5_000_000], [2700, 10_000_000]],
        asks=[[3000, 7_000_000], [3100, 3_000_000]],
        changed_at=now,
        seen_at=now,
    )

    page = text_of(viewer.get(f"/markets/{market.pk}/"))

    assert "Bids for Yes Price Shares In all Picture 28¢ 5.00 5.00 27¢ 10.00 15.00" in page
    assert "Offers of Yes Price Shares In all Picture 30¢ 7.00 7.00 31¢ 3.00 10.00" in page


def test_book_that_the_stream_has_let_go_is_not_shown(viewer: Client) -> None:
    market, _ = listed(0.30, 0.40)
    old = timezone.now() - timedelta(minutes=1)
    LiveBook.objects.create(
        market=market, state="fresh", epoch=1, asks=[[9900, 1]], changed_at=old, seen_at=old
    )

    page = text_of(viewer.get(f"/markets/{market.pk}/"))

    assert "best prices only" in page
    assert "99¢" not in page


def test_similar_market_tells_how_much_dearer_the_same_claim_is(viewer: Client) -> None:
    """By hand: 40 against 30 cents is 10; the one that asks the opposite offers NO at 52."""
    here, dear, opposite = listed(0.30, 0.40, 0.50)
    group = SynonymGroup.objects.create(
        name="one thing", method="MATCHING", state="APPROVED", created_at=START
    )
    for market, inverted in ((here, False), (dear, False), (opposite, True)):
        SynonymGroupMember.objects.create(
            group=group, market=market, inverted=inverted, state="APPROVED"
        )

    page = text_of(viewer.get(f"/markets/{here.pk}/"))

    assert "both in one thing 38¢ 40¢ +10.00¢" in page
    assert "prices are of its second outcome 50¢ 52¢ +22.00¢" in page


def test_page_tells_by_what_the_market_settles_and_links_to_the_venue(
    viewer: Client, settings: Any
) -> None:
    market, _ = listed(0.30, 0.40)
    assert market.event is not None
    MarketText.objects.create(market=market, rules="Yes, if it rains.", changed_at=START)
    address = f"/markets/{market.pk}/"

    market.event.slug = "who-wins"
    market.event.save()
    simulated = viewer.get(address).content.decode()
    settings.DATA_SOURCE = "real"
    real = viewer.get(address).content.decode()
    market.event.slug = 'x" onclick="alert(1)/../..'
    market.event.save()
    odd = viewer.get(address).content.decode()

    assert "Yes, if it rains." in simulated
    link = '<a href="https://polymarket.com/event/who-wins" rel="noopener noreferrer external"'
    assert link in real
    assert "polymarket.com" not in simulated + odd


def test_past_is_a_picture_with_spread_gaps_and_a_table(viewer: Client) -> None:
    market, _ = listed(0.30, 0.40)
    now = timezone.now()
    Tick.objects.all().delete()
    for minutes, bid in ((50, "0.20"), (20, "0.30")):
        at = now - timedelta(minutes=minutes)
        Tick.objects.create(market=market, at=at, bid=Decimal(bid), ask=Decimal("0.40"))
    Gap.objects.create(
        kind="CONNECTION",
        subject="3",
        books=7,
        opened_at=now - timedelta(minutes=40),
        healed_at=now - timedelta(minutes=39),
        healing_seconds=60,
        ending="HEALED",
    )

    response = viewer.get(f"/markets/{market.pk}/?span=1h")
    page = response.content.decode()

    assert page.count('class="hole"') == 1
    assert '<path class="band" d="M' in page
    assert '<desc id="past-d">From 20.0 to 40.0 cents.' in page
    assert "As a table (2 newest changes, 1 gap)" in page
    assert "connection cut, 7 books not known, perhaps this one, healed" in text_of(response)


def test_gap_of_its_own_book_breaks_the_lines_until_the_next_tick() -> None:
    def tick(minutes: int) -> Tick:
        at = START + timedelta(minutes=minutes)
        return Tick(market_id="m", at=at, bid=Decimal("0.2"), ask=Decimal("0.4"))

    gap = Gap(kind="ASSET", subject="m", opened_at=START + timedelta(minutes=5), books=1)
    until = START + timedelta(minutes=20)
    whole = touch_chart([tick(0), tick(10)], since=START, until=until, followed=True)
    broken = touch_chart([tick(0), tick(10)], since=START, until=until, followed=True, gaps=[gap])

    assert whole is not None
    assert broken is not None
    assert [line.path.count("M") for line in whole.lines] == [1, 1]
    assert [line.path.count("M") for line in broken.lines] == [2, 2]
    assert broken.lines[0].path.startswith("M0.0 6.0H150.0M300.0")
    assert whole.band.count("Z") == 2
    assert [(hole.x, hole.width) for hole in broken.holes] == [(150.0, 450.0)]


def test_market_page_takes_few_queries_whatever_it_shows(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    """As before, and: gaps, the live book and the venue's words."""
    market, *_ = listed(*[0.03] * 25)

    with django_assert_num_queries(LOGIN_QUERIES + ROLE_QUERIES + BAR_QUERIES + 15):
        viewer.get(f"/markets/{market.pk}/")
