"""The portal's pages: who may see them, what they say, and what they never do."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from alerts import feedlog
from alerts.models import AuditEntry, FeedEntry, Heartbeat
from markets.models import Event, Market
from mpx_site.portal import urls
from mpx_site.portal.home_week import week
from rules.kernel.spike import Spike, spike_finding
from rules.load import switch
from rules.models import Rule
from signals.models import Signal
from tests import portal_cast as cast
from tests.portal_cast import START

pytestmark = pytest.mark.django_db

HOSTILE = '</bdi><script>alert(1)</script>"><img src=x onerror=alert(1)>\u202eexe {{ 7|add:7 }}'
TYPED = str.maketrans({"\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x"})
PUBLIC = {"login"}
LOGIN_QUERIES = 2  # session and user
BAR_QUERIES = 4  # the kill switch, in a savepoint of its own, and how much waits for approval
ROLE_QUERIES = 2  # the permissions of a person and of their groups: the menu shows no more


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(cast.viewer())
    return client


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(cast.operator())
    return client


def text_of(response: HttpResponse) -> str:
    """Return the page's words, without tags, with single spaces and signs that can be typed."""
    words = re.sub(r"<[^>]+>", " ", response.content.decode()).translate(TYPED)
    return " ".join(words.split())


def rows_of(response: HttpResponse) -> list[str]:
    return re.findall(r'<tr class="row signal-row" id="signal-(\w+)"', response.content.decode())


def address_of(route: URLPattern) -> str:
    arguments = {
        "key": "abc",
        "market_id": "1",
        "event_id": "1",
        "intent_id": 1,
        "number": 1,
        "code": "X_1",
        "run_id": 1,
    }
    wanted = {name: arguments[name] for name in route.pattern.converters}
    return reverse(route.name or "", kwargs=wanted)


# --- who may see it ------------------------------------------------------------------


@pytest.mark.parametrize("route", urls.urlpatterns, ids=lambda route: str(route.name))
def test_every_page_but_the_login_asks_who_you_are(client: Client, route: URLPattern) -> None:
    response = client.get(address_of(route))

    if route.name in PUBLIC:
        assert response.status_code == 200
    else:
        assert response.status_code == 302
        assert response["Location"].startswith(reverse("login"))


def test_login_leads_home_and_logout_needs_a_post(client: Client) -> None:
    cast.viewer()

    response = client.post("/login/", {"username": "viewer", "password": "correct horse"})

    assert response["Location"] == "/"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/").status_code == 302


def test_login_tells_strangers_nothing_about_the_desk(client: Client) -> None:
    cast.beat(at=timezone.now())

    page = text_of(client.get("/login/"))

    assert "SOURCE" in page.upper()
    assert "Data" not in page
    assert "Signals" not in page


def test_wrong_password_says_so_and_stays(client: Client) -> None:
    cast.viewer()

    response = client.post("/login/", {"username": "viewer", "password": "wrong"})

    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()


def test_only_staff_is_shown_the_way_to_the_admin(viewer: Client) -> None:
    assert 'href="/admin/' not in viewer.get("/").content.decode()


# --- modes and age of data -----------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "state", "word"),
    [
        (None, "none", "NO DATA"),
        (2, "ok", "2 s"),
        (12, "late", "12 s"),
        (45, "stale", "STALE 45 s"),
    ],
)
def test_top_bar_tells_the_age_of_the_last_frame(
    viewer: Client, age: int | None, state: str, word: str
) -> None:
    now = timezone.now()
    if age is not None:
        cast.beat(at=now, frame_at=now - timedelta(seconds=age))

    page = viewer.get("/status/").content.decode()

    chip = re.search(r'<span class="chip age" id="data-age".*?</span></span>', page, re.DOTALL)
    assert chip is not None
    assert f'data-state="{state}"' in chip.group()
    assert f'<span class="age-word">{word}</span>' in chip.group()


def test_a_stream_that_no_longer_beats_is_stale_however_new_its_last_frame(viewer: Client) -> None:
    now = timezone.now()
    cast.beat(at=now - timedelta(minutes=5), frame_at=now)

    assert "STALE 5 min" in text_of(viewer.get("/status/"))


def test_replayed_frames_are_as_new_as_their_stream(viewer: Client, settings: Any) -> None:
    settings.DATA_SOURCE = "replay:/recordings/may.jsonl.gz"
    cast.beat(at=timezone.now(), frame_at=START)

    page = viewer.get("/status/").content.decode()

    assert 'id="data-age" data-state="ok"' in page
    assert "may.jsonl.gz" in page
    assert "/recordings" not in page


def test_prices_are_struck_out_while_the_data_is_stale(viewer: Client) -> None:
    view = cast.view_of(0.3, 0.4)
    cast.list_event(view)
    cast.quote(view, at=START)

    stale = viewer.get("/markets/").content.decode()
    cast.beat(at=timezone.now())
    fresh = viewer.get("/markets/").content.decode()

    assert 'class="cards markets market-list untrusted"' in stale
    assert 'class="cards markets market-list"' in fresh


# --- home ----------------------------------------------------------------------------


def test_home_counts_what_is_open_and_shows_the_best(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    now = timezone.now()
    cast.tell("opened", cast.finding_in(view), cast.rule(), at=now)

    page = text_of(viewer.get("/"))

    assert "Open signals 1 ▲ P1 1 ◆ P2 0 ○ P3 0" in page
    assert "P1 in 24 h 1 by hour" in page
    assert f"{Signal.objects.get().edge_bps:.1f} bps" in page
    assert "Rules active 1 signals by hour" in page


def test_home_tells_a_newcomer_what_is_best_why_and_what_to_do(operator: Client) -> None:
    """By hand as on the signal's page: 100 shares at 0.30 with fees cost 92.52 and pay 100."""
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    now = timezone.now()
    signal = cast.tell("opened", cast.finding_in(view), cast.rule(), at=now)
    cast.beat(at=now)

    response = operator.get("/")
    page = text_of(response)

    assert "1. Are the data fresh? ● Yes" in page
    assert "2. What is the best live signal? ▲ P1 Who wins? +$7.48 on $92.52, 808.5 bps ." in page
    assert "3. Why can it be executed? 3 legs, $92.52 in all" in page
    assert "Buy 100.00 Yes of Outcome 0 at 30¢ + fee = $30.84" in page
    assert "Fees are $2.52 of it. If all legs fill, that pays $100.00 or more" in page
    assert "in each of its 3 possible ends" in page
    assert "Prepare an order" in page
    assert f'class="button primary" href="/signals/{signal.key}/execute/"' in str(response.content)


def test_home_calls_nothing_executable_while_the_data_are_stale(operator: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    now = timezone.now()
    cast.tell("opened", cast.finding_in(view), cast.rule(), at=now)
    cast.beat(at=now, frame_at=now - timedelta(minutes=2))

    page = text_of(operator.get("/"))

    assert "1. Are the data fresh? ■ No, stale" in page
    assert "The data are stale: no order passes until they are fresh again." in page
    assert "no check stops it" not in page


def test_home_says_that_nothing_can_be_executed_and_why(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30, augmented=True)
    cast.list_event(view)
    cast.beat(at=timezone.now())
    cast.tell("opened", cast.finding_in(view), cast.rule(), at=timezone.now())

    page = text_of(viewer.get("/"))

    assert "None can be executed now 1 signal is open, but none is P1" in page
    assert "Prepare an order" not in page


def test_home_compares_today_with_the_days_before(viewer: Client) -> None:
    """By hand: 3 on one of the 7 days before today is 0.4 a day."""
    at = timezone.now().replace(hour=12)
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    active, finding = cast.rule(), cast.finding_in(view)
    for number in range(3):
        cast.tell("opened", finding, active, key=f"old{number}", at=at - timedelta(days=2))
        cast.tell("closed", finding, active, key=f"old{number}", at=at - timedelta(days=2))
    cast.tell("opened", finding, active, key="new", at=at)

    told = week(("DUTCH_BOOK_DETECT",), at=at)
    page = text_of(viewer.get("/"))

    assert told.signals.days == (0, 0, 0, 0, 0, 3, 0, 1)
    assert told.signals.mean == Decimal("0.4")
    assert told.gap.total == Decimal("7.5")  # cents: 100 less 92.52
    assert [(strip.day, strip.week, strip.edge_bps) for strip in told.strips] == [
        (1, 4, Decimal("808.5"))
    ]
    assert "Signals, 7 days 4" in page
    assert "today 1 , mean of 7 days before 0.4" in page


def test_home_shows_what_orders_use_of_their_limits(viewer: Client) -> None:
    page = text_of(viewer.get("/"))

    assert "Notional today $0.00 of $1,000.00" in page
    assert "Open orders" in page
    assert "Approved, 7 days -" in page.replace("\N{EN DASH}", "-")


def test_runbook_card_checks_the_four_symptoms(viewer: Client) -> None:
    now = timezone.now()
    cast.beat(at=now, frame_at=now - timedelta(seconds=90))

    page = text_of(viewer.get("/"))

    assert "■ No signals? No rule runs, so nothing can be found." in page
    assert "■ Markets stale? Last frame 1 min ago ." in page
    assert "◐ Telegram silent? Telegram is off; alerts are only written down." in page
    assert "● Execution rejected? No order was rejected in 24 h." in page


def test_home_shows_the_stream_newest_first_by_level_and_page(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signals = cast.many_signals(12, view)
    newest = [signal.key for signal in reversed(signals)]

    assert rows_of(viewer.get("/")) == newest[:10]
    assert rows_of(viewer.get("/?page=2")) == newest[10:]
    assert rows_of(viewer.get("/?size=20")) == newest
    assert rows_of(viewer.get("/?level=P1&size=20")) == newest
    assert rows_of(viewer.get("/?level=P2")) == []


def test_home_names_the_place_in_the_feed_its_rows_were_read_at(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.many_signals(2, view)
    place = feedlog.place("signals")
    assert place.seq == FeedEntry.objects.filter(topic="signals").count() > 0

    assert f'data-after="{place}"' in viewer.get("/").content.decode()


def test_only_the_first_page_takes_new_rows(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.many_signals(12, view)

    assert 'data-live-rows="yes"' in viewer.get("/signals/").content.decode()
    assert 'data-live-rows="no"' in viewer.get("/signals/?page=2").content.decode()
    assert 'data-live-rows="no"' in viewer.get("/signals/?sort=edge").content.decode()


def test_empty_home_says_what_is_missing_and_what_to_do(viewer: Client) -> None:
    page = text_of(viewer.get("/"))

    assert "No signals, because no data has come in yet." in page
    assert "python manage.py up" in page
    assert "No markets yet." in page
    assert "none: nothing can be found" in page


def test_empty_stream_says_stale_filtered_or_calm(viewer: Client) -> None:
    now = timezone.now()
    cast.beat(at=now, frame_at=now - timedelta(seconds=90))
    assert "the data is stale" in text_of(viewer.get("/"))

    cast.beat(at=now)
    calm = text_of(viewer.get("/"))
    assert "The rules have checked every one of 1,234 frames" in calm
    assert "Nothing fits this filter." in text_of(viewer.get("/?level=P1"))


def test_health_shows_each_component_and_the_one_never_seen(viewer: Client) -> None:
    now = timezone.now()
    cast.beat(at=now - timedelta(seconds=70), component="worker")
    cast.beat(at=now - timedelta(minutes=50), component="replay")  # it runs once an hour

    page = viewer.get("/").content.decode()
    card = text_of(HttpResponse(page[page.index('id="health"') : page.index('id="market-list"')]))

    assert "stream □ NO DATA never seen" in card
    assert "worker ■ STALE 1 min 10 s" in card
    assert "replay" not in card


def test_home_takes_the_same_queries_for_many_rows(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    """Heartbeats, place, what is open (4), its legs, troubles (4), signals (2), markets (2),

    the week (6, no day to count), limits (5), a symptom, and what the person may do (2).
    """
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.quote(view, at=START)
    cast.many_signals(12, view)

    with django_assert_num_queries(LOGIN_QUERIES + BAR_QUERIES + 29):
        viewer.get("/")


# --- signals -------------------------------------------------------------------------


def test_signals_are_filtered_and_ordered_by_the_address(viewer: Client) -> None:
    rich, poor = cast.view_of(0.30, 0.30, 0.30), cast.view_of(0.30, 0.30, 0.35, event_id="8")
    for view in (rich, poor):
        cast.list_event(view)
    active = cast.rule()
    cast.tell("opened", cast.finding_in(rich), active, key="rich")
    later = START + timedelta(minutes=1)
    cast.tell("opened", cast.finding_in(poor), active, key="poor", at=later)
    cast.tell("closed", cast.finding_in(poor), active, key="poor", at=later, why="edge_gone")

    asked = {
        "": ["poor", "rich"],
        "?sort=oldest": ["rich", "poor"],
        "?sort=edge": ["rich", "poor"],
        "?sort=profit": ["rich", "poor"],
        "?status=OPEN": ["rich"],
        "?status=CLOSED": ["poor"],
        "?rule=DUTCH_BOOK_DETECT": ["poor", "rich"],
        "?kind=yes_basket&level=P1&status=OPEN": ["rich"],
        "?kind=binary": [],
    }
    for query, keys in asked.items():
        assert rows_of(viewer.get(f"/signals/{query}")) == keys, query


def test_unknown_filter_is_said_and_not_obeyed(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.many_signals(1, view)

    response = viewer.get("/signals/?level=P9&size=999999&page=77")

    assert response.status_code == 200
    assert "There is no such level; all are shown." in text_of(response)
    assert len(rows_of(response)) == 1


def test_rows_come_by_key_and_never_more_than_fifty(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    keys = [signal.key for signal in cast.many_signals(52, view)]

    with django_assert_num_queries(LOGIN_QUERIES + 1):
        response = viewer.get(f"/signals/rows/?keys={','.join(keys[:2])},unknown,'x")

    assert rows_of(response) == [keys[1], keys[0]]
    assert len(rows_of(viewer.get(f"/signals/rows/?keys={','.join(keys)}"))) == 50
    assert rows_of(viewer.get("/signals/rows/")) == []


# --- one signal ----------------------------------------------------------------------


def test_signal_page_writes_the_arithmetic_out(viewer: Client) -> None:
    """By hand: 100 shares at 0.30 cost 30 and a fee of 100 x 0.04 x 0.3 x 0.7 = 0.84 each."""
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())

    page = text_of(viewer.get(f"/signals/{signal.key}/"))

    assert "Yes of Outcome 0 1 level 100.00 at 30¢ + 0.84 fee 100.00 0.30 0.84 30.84 30¢" in page
    assert "Paid for 3 legs, fees of 2.52 inside 92.52" in page
    assert re.search(
        r"Paid back in the worst of 3 possible ends \( Outcome \d: Yes \) 100\.00", page
    )
    assert "Profit = 100.00 - 92.52 7.48" in page
    assert "Edge = profit ÷ cost x 10,000 808.47 bps" in page
    assert "the lines add up" in page
    assert "rule asks for 20.0 bps" in page
    assert "DUTCH_BOOK_DETECT v1" in page


def test_signal_page_says_when_the_lines_do_not_add_up(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    signal.payload["legs"][0]["cost"] = "30.850000"
    signal.save(update_fields=["payload"])

    assert "the lines do not add up" in text_of(viewer.get(f"/signals/{signal.key}/"))


def test_worst_end_names_every_market_it_speaks_of(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    first, second = (market.terms.market_id for market in view.markets[:2])
    signal.payload["certificate"]["worst_state"] = f"{first}=Yes, {second}=No, 999=No"
    signal.save(update_fields=["payload"])

    assert "( Outcome 0: Yes; Outcome 1: No; 999=No )" in text_of(
        viewer.get(f"/signals/{signal.key}/")
    )


def test_signal_page_tells_what_was_seen_where_nothing_is_sure_to_be_paid(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    terms = view.markets[0].terms
    jump = Spike(
        at=10**9, since=0, before=8000, after=10000, move=0.4, deviation=0.1, score=1.5, updates=2
    )
    signal = cast.tell("opened", spike_finding(terms, jump), cast.rule())

    response = viewer.get(f"/signals/{signal.key}/")
    page = text_of(response)

    assert "OBSERVED : A direction or a bet, no arbitrage" in page
    assert f'href="/markets/{terms.market_id}/"' in response.content.decode()
    assert "Middle of bid and ask before, USD 0.40000" in page
    assert "Middle of bid and ask after, USD 0.50000" in page
    assert "Move, in standard deviations of one update 4.0" in page
    for hollow in ("Trade this", "The arithmetic", "Edge over time", "0.0 bps"):
        assert hollow not in page


@pytest.mark.parametrize("payload", [{}, [], "gone", {"legs": [{"token_id": 7}]}, None])
def test_signal_page_stands_a_finding_it_cannot_read(viewer: Client, payload: object) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    Signal.objects.filter(pk=signal.pk).update(payload=payload or {"legs": None})

    response = viewer.get(f"/signals/{signal.key}/")

    assert response.status_code == 200
    assert "cannot be read by this release" in text_of(response)


def test_blocked_signal_says_in_words_what_stops_it(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30, augmented=True)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())

    page = text_of(viewer.get(f"/signals/{signal.key}/"))

    assert "BLOCKED" in page
    assert "augmented The venue may add outcomes, so the listed ones are not exhaustive." in page
    assert "Riskless only if the listed outcomes are all there are." in page


def test_closed_signal_says_why_and_how_long_it_lived(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    finding, active = cast.finding_in(view), cast.rule()
    cast.tell("opened", finding, active)
    end = START + timedelta(seconds=134)
    signal = cast.tell("closed", finding, active, at=end, opened_at=START, why="edge_gone")

    page = text_of(viewer.get(f"/signals/{signal.key}/"))

    assert "Closed 2026-05-01 12:02:14 UTC because: Prices moved and the basket no longer" in page
    assert "Life 2 min 14 s" in page
    closing = AuditEntry.objects.get(kind="signal.closed")
    assert "signal.opened by system" in page
    assert f"signal.closed by system #{closing.pk} · {closing.hash[:12]}" in page
    assert "rule.published" not in page


def test_edge_over_time_is_a_picture_and_the_same_as_a_table(viewer: Client) -> None:
    rich, poor = cast.view_of(0.30, 0.30, 0.30), cast.view_of(0.30, 0.30, 0.35)
    cast.list_event(rich)
    active = cast.rule()
    cast.tell("opened", cast.finding_in(rich), active)
    later = START + timedelta(seconds=10)
    signal = cast.tell("updated", cast.finding_in(poor), active, at=later, opened_at=START)

    response = viewer.get(f"/signals/{signal.key}/")
    page = response.content.decode()

    assert '<path class="line line-edge" d="M0.0 ' in page
    assert '<title id="edge-title">Edge over time in basis points</title>' in page
    assert '<desc id="edge-desc">' in page
    assert "As a table (2 changes)" in page
    assert "2026-05-01 12:00:10 UTC updated P1" in text_of(response)


def test_signal_page_compares_with_the_book_now(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    cast.quote(cast.view_of(0.32, 0.30, 0.29), at=START)

    page = text_of(viewer.get(f"/signals/{signal.key}/"))

    assert "30¢ 32¢ +2.00¢" in page
    assert "30¢ 29¢ -1.00¢" in page


def test_unknown_signal_and_market_say_so(viewer: Client) -> None:
    for address in ("/signals/nope/", "/markets/nope/"):
        response = viewer.get(address)
        assert response.status_code == 404
        assert "There is no" in text_of(response)


# --- markets -------------------------------------------------------------------------


def test_markets_are_searched_by_words_event_or_id(viewer: Client) -> None:
    view = cast.view_of(0.3, 0.4)
    cast.list_event(view)
    first = view.terms.markets[0]

    def found(query: str) -> int:
        return viewer.get(f"/markets/{query}").content.decode().count('<tr class="row">')

    assert found("") == 2
    assert found("?q=who+WINS") == 2
    assert found(f"?q={first.market_id}") == 1
    assert found("?q=Outcome+1") == 1
    assert found("?q=%25") == 0
    assert found("?state=PAUSED") == 0
    assert "No market fits." in text_of(viewer.get("/markets/?q=zebra"))


def test_market_page_says_how_far_its_event_is_from_paying(viewer: Client) -> None:
    """By hand: 0.3 + 0.4 + 0.35 = 1.05 and fees of 0.0084 + 0.0096 + 0.0091: 7.71 cents too dear.

    The NO side sells YES at 0.28 + 0.38 + 0.33 = 0.99 less fees of 0.026308: 3.63 cents short.
    """
    view = cast.view_of(0.30, 0.40, 0.35)
    cast.list_event(view)
    cast.quote(view, at=START)
    cast.beat(at=timezone.now())

    page = text_of(viewer.get(f"/markets/{view.terms.markets[0].market_id}/"))

    assert "Yes 28¢ 100.00 30¢ 100.00 2¢" in page
    assert "No 70¢ 100.00 72¢ 100.00 2¢" in page
    assert "YES basket : 7.71¢ too dear per set after fees" in page
    assert "NO basket : 3.63¢ too dear per set after fees" in page
    assert "Sum of YES asks 1.05 of 3 of 3 markets" in page
    assert "Sum of YES bids 0.99 of 3 of 3 markets" in page
    assert "Tick 0.1¢" in page
    assert "Least order 5.00 shares" in page
    assert "Taker fee 0.04 x (p x (1 - p)) per share" in page


def test_event_adds_up_yes_wherever_the_venue_lists_it(viewer: Client) -> None:
    """The first market lists NO first: its YES costs what its NO is bid from below, 72 cents."""
    view = cast.view_of(0.30, 0.40)
    cast.list_event(view)
    cast.quote(view, at=START)
    inverted = Market.objects.get(pk=view.terms.markets[0].market_id)
    for index, label in enumerate(("No", "Yes")):
        inverted.outcomes.filter(index=index).update(label=label)

    page = text_of(viewer.get(f"/markets/{inverted.pk}/"))

    assert "Sum of YES asks 1.12 of 2 of 2 markets" in page
    assert "Sum of YES bids 1.08 of 2 of 2 markets" in page


def test_market_page_says_that_a_basket_pays_or_why_it_may_not(viewer: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30, augmented=True)
    cast.list_event(view)
    cast.quote(view, at=START)
    address = f"/markets/{view.terms.markets[0].market_id}/"

    assert "the prices would pay, but it is blocked. The venue may add" in text_of(
        viewer.get(address)
    )

    Event.objects.update(augmented=False)
    assert "YES basket : pays at the best prices now." in text_of(viewer.get(address))


def test_market_page_stands_alone_without_event_quote_outcomes_or_fee(viewer: Client) -> None:
    Market.objects.create(
        id="bare",
        question="Bare?",
        state=Market.State.PLACEHOLDER,
        tick_size=Decimal("0.01"),
        min_size=Decimal(5),
        seen_at=START,
    )

    page = text_of(viewer.get("/markets/bare/"))

    assert "The venue has not named its outcomes yet." in page
    assert "unknown : nothing here is called executable" in page
    assert "This market stands on its own." in page


def test_market_page_lists_its_signals_and_no_others(viewer: Client) -> None:
    here, there = cast.view_of(0.30, 0.30, 0.30), cast.view_of(0.30, 0.30, 0.30, event_id="8")
    active = cast.rule()
    for view, key in ((here, "here"), (there, "there")):
        cast.list_event(view)
        cast.tell("opened", cast.finding_in(view), active, key=key)

    page = viewer.get(f"/markets/{here.terms.markets[0].market_id}/").content.decode()

    assert "/signals/here/" in page
    assert "/signals/there/" not in page


# --- text from outside ---------------------------------------------------------------


def every_page(signal: Signal, market: str) -> list[str]:
    return [
        "/",
        "/signals/",
        f"/signals/{signal.key}/",
        "/markets/",
        f"/markets/{market}/",
        f"/events/{signal.event_id}/",
    ]


def test_text_of_the_venue_is_never_markup(operator: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30, title=HOSTILE)
    cast.list_event(view)
    cast.quote(view, at=START)
    Market.objects.update(question=HOSTILE, label=HOSTILE)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    market = view.terms.markets[0].market_id

    for address in every_page(signal, market):
        page = operator.get(address).content.decode()
        assert "&lt;script&gt;alert(1)" in page, address
        assert "<script>alert" not in page, address
        assert "<img" not in page, address
        assert "{{ 7|add:7 }}" in page, address


def test_reflected_input_is_never_markup(viewer: Client) -> None:
    for query in ("level", "size", "sort", "rule", "kind", "page", "q", "span"):
        for address in ("/", "/signals/", "/markets/"):
            page = viewer.get(address, {query: HOSTILE}).content.decode()
            assert "<script>alert" not in page, (address, query)


def test_no_page_has_inline_script_or_style(operator: Client) -> None:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.quote(view, at=START)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())
    market = view.terms.markets[0].market_id

    for address in every_page(signal, market):
        response = operator.get(address)
        page = response.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), address
        assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", page), address
        assert "default-src 'none'" in response["Content-Security-Policy"]
        assert "unsafe" not in response["Content-Security-Policy"]


def test_nothing_of_ours_switches_escaping_off() -> None:
    ours = [*(settings.BASE_DIR / "templates").rglob("*.html")]
    ours += (settings.BASE_DIR / "mpx_site" / "static").rglob("*.js")
    ours += (settings.BASE_DIR / "mpx_site" / "templatetags").glob("*.py")
    assert len(ours) > 20

    for path in ours:
        text = path.read_text()
        wrong = re.search(
            r"\|\s*safe\b|autoescape off|mark_safe|innerHTML\s*=[^=]|outerHTML|insertAdjacent"
            r"|document\.write|https?://(?!www\.w3\.org)",
            text,
        )
        assert wrong is None, f"{path.name}: {wrong and wrong.group()}"


# --- rules and heartbeats ------------------------------------------------------------


def test_rule_switched_off_is_not_counted_as_active(viewer: Client) -> None:
    cast.rule()
    switch(Rule.objects.get(), on=False, by=None, at=START)

    assert "Rules active 0 none: nothing can be found" in text_of(viewer.get("/"))


def test_heartbeat_with_foreign_detail_does_not_break_the_page(viewer: Client) -> None:
    Heartbeat.objects.create(
        component="stream", at=timezone.now(), progress=1, detail={"last_frame_at": "soon"}
    )

    assert 'data-state="ok"' in viewer.get("/status/").content.decode()
