"""The pages of signals and opportunities: what they say, what they ask, what they let out."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.http import HttpResponseBase
from django.test import Client
from django.utils import timezone

from markets.models import Event, Outcome
from mpx_site.portal import signal_sizes
from signals import handling
from signals.models import Signal, SignalPoint, SignalStep
from tests import portal_cast as cast
from tests.desk_cast import NOW, approver, basket, person, prepare, show, suggested, trader
from tests.portal_cast import START
from tests.test_portal import BAR_QUERIES, LOGIN_QUERIES, ROLE_QUERIES, rows_of, text_of

pytestmark = pytest.mark.django_db
VIEWS_QUERIES = 1  # saved views
Act = SignalStep.Act
HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd()|'/C calc'!A0",
    "\u202eexe.gnp",
    "W" * 10_000,
)


@pytest.fixture
def dana(client: Client) -> Client:
    client.force_login(trader("dana"))
    return client


@pytest.fixture
def vic(client: Client) -> Client:
    client.force_login(person("vic", "viewer"))
    return client


def listed(*asks: float, **changes: Any) -> Any:
    view = cast.view_of(*(asks or (0.30, 0.30, 0.30)), **changes)
    cast.list_event(view)
    return view


def step(client: Client, act: str, *keys: str, **more: Any) -> Any:
    return client.post("/signals/steps/", {"act": act, "key": keys, **more}, follow=True)


def body_of(response: HttpResponseBase) -> str:
    return response.getvalue().decode()  # type: ignore[attr-defined]


# --- the list ------------------------------------------------------------------------


def test_ticked_signals_are_acknowledged_at_once(dana: Client) -> None:
    first, second, third = cast.many_signals(3, listed())

    response = step(dana, "ACK", first.key, second.key, next="/signals/?status=OPEN")

    assert response.redirect_chain == [("/signals/?status=OPEN", 303)]
    page = text_of(response)
    assert "2 signals acknowledged." in page
    assert page.count("acknowledged by dana") == 2
    assert rows_of(dana.get("/signals/?handling=mine")) == [second.key, first.key]
    assert rows_of(dana.get("/signals/?handling=new")) == [third.key]


def test_snooze_and_dismiss_say_until_when_and_why(dana: Client) -> None:
    first, second = cast.many_signals(2, listed())

    step(dana, "SNOOZE", first.key, minutes="240")
    page = text_of(step(dana, "DISMISS", second.key, text="seen <b>it</b>"))

    until = SignalStep.objects.get(act="SNOOZE").until
    assert until is not None
    assert timedelta(hours=3.9) < until - timezone.now() < timedelta(hours=4.1)
    assert f"snoozed by dana until {until:%Y-%m-%d %H:%M} UTC" in page
    assert "seen &lt;b&gt;it&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("act", "fields", "word"),
    [
        ("DISMISS", {}, "Nothing was done. To dismiss, say why."),
        ("APPROVE", {}, "Nothing was done. Select a valid choice."),
        ("SNOOZE", {"minutes": "999999"}, "Nothing was done. Select a valid choice."),
        ("COMMENT", {"text": "x" * 601}, "Nothing was done. Ensure this value has at most 600"),
    ],
)
def test_step_that_cannot_be_says_so_and_changes_nothing(
    dana: Client, act: str, fields: dict[str, str], word: str
) -> None:
    signal = cast.many_signals(1, listed())[0]

    assert word in text_of(step(dana, act, signal.key, **fields))

    assert not SignalStep.objects.exists()


def test_step_without_a_tick_says_what_to_do(dana: Client) -> None:
    cast.many_signals(1, listed())

    assert "Tick the rows that are meant." in text_of(step(dana, "ACK"))


@pytest.mark.parametrize(
    "address", ["https://elsewhere.example/", "//elsewhere.example/signals/", "/admin/", "x", ""]
)
def test_step_leads_to_pages_of_signals_only(dana: Client, address: str) -> None:
    signal = cast.many_signals(1, listed())[0]

    assert step(dana, "ACK", signal.key, next=address).redirect_chain == [("/signals/", 303)]


def test_viewer_is_offered_no_step_and_refused_one(vic: Client) -> None:
    signal = cast.many_signals(1, listed())[0]

    page = vic.get("/signals/").content.decode()
    assert 'type="checkbox"' not in page
    assert "analyst, trader or approver" in page

    assert "Nothing was done. Acknowledging signals takes a role" in text_of(
        step(vic, "ACK", signal.key)
    )
    assert not SignalStep.objects.exists()


def test_steps_are_posted_only(dana: Client) -> None:
    assert dana.get("/signals/steps/").status_code == 405


def test_steps_ask_for_the_token_of_the_form() -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(trader("dana"))
    signal = cast.many_signals(1, listed())[0]

    assert strict.post("/signals/steps/", {"act": "ACK", "key": signal.key}).status_code == 403
    assert not SignalStep.objects.exists()


def test_row_shows_its_edge_and_an_order_that_is_open(dana: Client) -> None:
    prepare()
    view, signal = basket()
    show(view)
    order = suggested(signal, trader("dana"))
    SignalPoint.objects.create(
        signal=signal, at=START + timedelta(seconds=1), change="updated", level="P1",
        edge_bps=900, profit=1,
    )  # fmt: skip

    page = dana.get("/signals/").content.decode()

    assert "Edge between 808.5 and 900.0 bps in 2 changes" in page
    assert f'<a href="/intents/{order.pk}/">order #{order.pk}</a> suggested' in page


def test_picture_of_a_long_life_keeps_its_newest_changes(dana: Client) -> None:
    signal = cast.many_signals(1, listed())[0]
    SignalPoint.objects.bulk_create(
        SignalPoint(
            signal=signal, at=START + timedelta(seconds=n), change="updated", level="P1",
            edge_bps=n, profit=1,
        )
        for n in range(1, 101)
    )  # fmt: skip

    page = dana.get("/signals/").content.decode()

    assert "Edge between 41.0 and 100.0 bps in 60 changes" in page


def test_list_takes_the_same_queries_for_many_rows(
    dana: Client, django_assert_num_queries: Any
) -> None:
    """Heartbeats, place in the feed, count, rows, rules; and edges, steps and orders of rows."""
    signals = cast.many_signals(12, listed())
    handling.take([each.key for each in signals], Act.ACK, by=trader("dana"), at=START)
    cast.beat(at=timezone.now())

    asked = LOGIN_QUERIES + ROLE_QUERIES + BAR_QUERIES + VIEWS_QUERIES + 8
    with django_assert_num_queries(asked):
        dana.get("/signals/?size=50")


def test_rows_of_the_list_come_by_key_with_who_has_them(
    dana: Client, django_assert_num_queries: Any
) -> None:
    signals = cast.many_signals(52, listed())
    keys = [each.key for each in signals]
    handling.take(keys[:1], Act.ACK, by=trader("dana"), at=START)

    with django_assert_num_queries(LOGIN_QUERIES + ROLE_QUERIES + 4):
        response = dana.get(f"/signals/rows/full/?keys={','.join(keys[:2])},unknown,'x")

    assert rows_of(response) == [keys[1], keys[0]]
    assert "acknowledged by dana" in text_of(response)
    assert len(rows_of(dana.get(f"/signals/rows/full/?keys={','.join(keys)}"))) == 50


# --- one signal ----------------------------------------------------------------------


def test_page_says_what_it_pays_at_each_size_on_the_live_books(
    dana: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: a set costs 0.9 + 3 x 0.0084; 100 sets are there, so 92.52 USD buys all."""
    prepare()
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    view, signal = basket()
    show(view)

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert "EXECUTABLE At one of these sizes or more" in page
    assert "On the live books." in page
    assert "$5.00 ◐ THIN 5.40 $5.00 +$0.40 808.5" in page
    assert "$100.00 all there is; more money buys no more ✓ EXECUTABLE 100.00 $92.52" in page
    assert "$200.00" not in page


def test_signal_without_live_books_is_reckoned_on_what_was_stored(dana: Client) -> None:
    signal = cast.many_signals(1, listed())[0]

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert "On the offers that it took when last seen" in page
    assert "What each leg took when last seen." in page
    assert "✓ EXECUTABLE 100.00 $92.52" in page


def test_alert_is_marked_on_the_edge(dana: Client) -> None:
    signal = cast.many_signals(1, listed())[0]

    page = dana.get(f"/signals/{signal.key}/").content.decode()

    assert 'class="alert-mark" d="M0.0 0V120"' in page
    assert "alert pending, 2026-05-01 12:00:00 UTC" in " ".join(re.sub("<[^>]+>", "", page).split())


def test_blocked_signal_is_never_called_executable_at_any_size(dana: Client) -> None:
    view = listed(augmented=True)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert signal.blocked_by == ["augmented"]
    assert "when last seen PAPER The prices would pay, but a gate is shut" in page
    assert "✓ EXECUTABLE" not in page


def test_what_pays_at_no_size_is_paper(dana: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    _, signal = basket()
    show(cast.view_of(0.40, 0.40, 0.40))

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert "PAPER It is there on paper only" in page
    assert "it does not pay any more at the live books" in page


@pytest.mark.parametrize(
    ("profit", "edge", "verdict"),
    [("0.50", "20", "EXECUTABLE"), ("0.49", "20", "THIN"), ("9", "19.99", "THIN"),
     ("0", "0", "PAPER"), ("-1", "-5", "PAPER")],
)  # fmt: skip
def test_verdict_of_a_size_is_by_what_the_rule_asks(profit: str, edge: str, verdict: str) -> None:
    limits = signal_sizes.Limits()

    assert signal_sizes._verdict(Decimal(profit), Decimal(edge), limits) == verdict


def test_life_is_compared_with_the_closed_signals_of_its_rule(dana: Client) -> None:
    now = timezone.now()
    for number, signal in enumerate(cast.many_signals(5, listed())):
        if number < 4:
            lived = timedelta(seconds=(1, 1, 3, 4_000)[number])
            Signal.objects.filter(pk=signal.pk).update(
                opened_at=now - lived, closed_at=now, status="CLOSED"
            )
        else:
            Signal.objects.filter(pk=signal.pk).update(opened_at=now - timedelta(seconds=30))

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert re.search(r"Alive for 3\d s: longer than 75 % of the 4 that DUTCH_BOOK", page)
    assert "1 s to 2 s 2 100.0" in page


def test_notes_stand_on_the_page_as_text(dana: Client) -> None:
    signal = cast.many_signals(1, listed())[0]

    response = step(
        dana, "COMMENT", signal.key, text="<b>thin</b> behind", next=f"/signals/{signal.key}/"
    )

    page = response.content.decode()
    assert response.redirect_chain == [(f"/signals/{signal.key}/", 303)]
    assert "&lt;b&gt;thin&lt;/b&gt; behind" in page
    assert "<b>thin</b>" not in page
    assert "signal.commented" in page


def test_signal_page_takes_few_queries(dana: Client, django_assert_num_queries: Any) -> None:
    """Heartbeats, signal, points, outcomes with markets and quotes, policy, outcomes with books
    and their siblings, lifetimes, orders, steps, alert, audit, same event."""
    view = listed(*[0.04] * 20)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule())

    with django_assert_num_queries(LOGIN_QUERIES + ROLE_QUERIES + BAR_QUERIES + 13):
        response = dana.get(f"/signals/{signal.key}/")

    assert "Paid for 20 legs" in text_of(response)


def test_signal_whose_markets_are_gone_still_has_its_page(dana: Client) -> None:
    signal = cast.many_signals(1, listed())[0]
    Outcome.objects.all().delete()

    page = text_of(dana.get(f"/signals/{signal.key}/"))

    assert "no longer listed" in page
    assert "PAPER" in page


# --- opportunities -------------------------------------------------------------------


def closed(count: int = 4, **fields: Any) -> list[Signal]:
    now = timezone.now()
    signals = cast.many_signals(count, listed())
    for number, signal in enumerate(signals):
        lived = timedelta(seconds=10 ** min(number, 4))
        told = {"opened_at": now - lived, "closed_at": now, "status": "CLOSED"}
        Signal.objects.filter(pk=signal.pk).update(**(told | fields))
    return signals


def test_opportunities_say_what_a_person_would_have_caught(dana: Client) -> None:
    closed(peak_profit=Decimal("2.5"))

    page = text_of(dana.get("/opportunities/"))

    assert "needs 10 s to act would have been in time for 3 of 4 signals ( 75.0 %)" in page
    assert "worth $7.50 of $10.00" in page
    assert "$10.00 of it of those executable when last seen." in page
    assert "DUTCH_BOOK_DETECT 4, most at" in page


def test_seconds_are_those_asked_for(dana: Client) -> None:
    closed()

    assert "needs 11 s to act would have been in time for 2 of 4" in text_of(
        dana.get("/opportunities/?seconds=11")
    )
    assert "needs 0 ms to act would have been in time for 4 of 4" in text_of(
        dana.get("/opportunities/?seconds=0")
    )


@pytest.mark.parametrize("seconds", ["-1", "1e9", "NaN", "x", "9" * 400])
def test_seconds_that_cannot_be_are_said_and_not_obeyed(dana: Client, seconds: str) -> None:
    closed()

    page = text_of(dana.get("/opportunities/", {"seconds": seconds}))

    assert "from 0 to 604,800 seconds; 10 are taken" in page
    assert "needs 10 s to act" in page


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("", "no data has come in yet"),
        ("?level=P1", "Nothing that closed in the last 24 hours fits this filter."),
        ("?days=30&level=P1", "Nothing that closed in the last 30 days fits this filter."),
    ],
)
def test_empty_page_says_why(dana: Client, query: str, word: str) -> None:
    assert word in text_of(dana.get(f"/opportunities/{query}"))


def test_quiet_day_points_to_a_longer_time(dana: Client) -> None:
    cast.beat(at=timezone.now())

    page = dana.get("/opportunities/").content.decode()

    assert "No signal closed in the last 24 hours." in page
    assert 'href="?days=30"' in page


def test_every_picture_has_its_words_and_its_table(dana: Client) -> None:
    closed()

    page = dana.get("/opportunities/").content.decode()

    pictures = re.findall(r'<svg(?![^>]*aria-hidden)[^>]*role="img"[^>]*>.*?</svg>', page, re.S)
    assert len(pictures) == 3
    for picture in pictures:
        assert "<title" in picture and "<desc" in picture
    assert page.count("As a table") == 4
    assert not re.search(r'\sstyle="', page)


def test_opportunities_take_the_same_queries_for_many(
    dana: Client, django_assert_num_queries: Any
) -> None:
    """Rules of the filter, counts, rules of the counts, dots, saved views, heartbeats."""
    closed(12)

    with django_assert_num_queries(LOGIN_QUERIES + ROLE_QUERIES + BAR_QUERIES + VIEWS_QUERIES + 5):
        dana.get("/opportunities/")


# --- files and hostile titles --------------------------------------------------------


def table(response: HttpResponseBase) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body_of(response))))


def test_list_is_exported_as_it_is_filtered(dana: Client) -> None:
    first, second = cast.many_signals(2, listed())
    handling.take([first.key], Act.DISMISS, by=trader("dana"), at=START, text="=1+1")

    rows = table(dana.get("/signals/?handling=dismissed&format=csv"))

    assert [row["signal"] for row in rows] == [first.key]
    assert (rows[0]["handling"], rows[0]["owner"], rows[0]["reason"]) == (
        "DISMISS",
        "dana",
        "'=1+1",
    )
    told = json.loads(body_of(dana.get("/signals/?format=json")))
    assert [row["signal"] for row in told["rows"]] == [second.key, first.key]
    assert told["rows"][0]["owner"] is None


def test_opportunities_are_exported_with_their_lifetimes(dana: Client) -> None:
    closed(2)

    rows = table(dana.get("/opportunities/?format=csv"))

    assert sorted(float(row["lived_seconds"]) for row in rows) == [1.0, 10.0]


def test_export_takes_few_queries(dana: Client, django_assert_num_queries: Any) -> None:
    signals = cast.many_signals(12, listed())
    handling.take([each.key for each in signals], Act.ACK, by=approver("avi"), at=START)

    table(dana.get("/signals/?format=csv"))  # the first begins the hour of the person's exports
    pace = 5  # a savepoint around what is left of the hour (read, locked), and one less of it

    with django_assert_num_queries(LOGIN_QUERIES + pace + 1 + 2):  # keys; rows and their steps
        assert len(table(dana.get("/signals/?format=csv"))) == 12


@pytest.mark.parametrize("title", HOSTILE, ids=["script", "formula", "rtl", "long"])
def test_hostile_title_is_text_on_every_page_and_in_every_file(dana: Client, title: str) -> None:
    view = listed()
    Event.objects.update(title=title)
    signal = cast.tell("opened", cast.finding_in(view), cast.rule(), key="bad")
    now = timezone.now()
    SignalStep.objects.create(
        signal=signal, by=trader("dana"), at=now, act="DISMISS", text=title[:600], current=True
    )
    for status in ("OPEN", "CLOSED"):
        ended = now if status == "CLOSED" else None
        Signal.objects.filter(key="bad").update(status=status, closed_at=ended)
        for address in ("/signals/", "/signals/bad/", "/signals/rows/full/?keys=bad",
                        "/opportunities/"):  # fmt: skip
            page = dana.get(address)
            assert page.status_code == 200
            assert "<script>alert" not in page.content.decode(), address
            assert len(page.content) < 200_000
    for address in ("/signals/", "/opportunities/"):
        row = table(dana.get(f"{address}?format=csv"))[0]
        assert row["title"] == (f"'{title}" if title.startswith("=") else title)
        assert json.loads(body_of(dana.get(f"{address}?format=json")))["rows"][0]["title"] == title


def test_title_that_turns_the_text_around_is_kept_in_its_place(dana: Client) -> None:
    view = listed()
    Event.objects.update(title=HOSTILE[2])
    cast.tell("opened", cast.finding_in(view), cast.rule(), key="bad")

    for address in ("/signals/", "/signals/bad/"):
        assert f"<bdi>{HOSTILE[2]}</bdi>" in dana.get(address).content.decode(), address
