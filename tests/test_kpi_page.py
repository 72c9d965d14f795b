"""The page of KPIs: what it says and asks, and that it says what the API and the home page say."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from execution import kpi_store
from markets.models import Gap, Market
from mpx_site.portal.home_week import week
from signals.models import Signal
from tests.api_cast import NOON, a_market, a_quote, a_rule, a_signal
from tests.portal_cast import viewer as a_viewer
from tests.test_portal import BAR_QUERIES, LOGIN_QUERIES, ROLE_QUERIES, text_of

pytestmark = pytest.mark.django_db
NOW = NOON + timedelta(days=1)


@pytest.fixture
def viewer(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    client.force_login(a_viewer())
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    return client


@pytest.fixture
def signals() -> list[Signal]:
    dutch, spikes = a_rule(), a_rule("SPIKE_DETECT")
    yesterday = {"status": "CLOSED", "closed_at": NOON + timedelta(seconds=90)}
    return [
        a_signal(dutch, minutes=0, peak_edge_bps=100, **yesterday),
        a_signal(dutch, minutes=1, peak_edge_bps=300, level="P2", **yesterday),
        a_signal(spikes, minutes=2, level="P3", verdict="OBSERVED", peak_edge_bps=0),
        a_signal(dutch, minutes=24 * 60, peak_edge_bps=1_100),
    ]


def exported(client: Client, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/kpi/?format=json{query}")
    rows: list[dict[str, Any]] = json.loads(b"".join(answer.streaming_content))["rows"]  # type: ignore[attr-defined]
    return rows


def test_page_tells_cards_rules_and_days(viewer: Client, signals: list[Signal]) -> None:
    page = text_of(viewer.get("/kpi/"))

    assert "from 2026-04-26 to 2026-05-02" in page
    assert "Signals 4" in page
    assert "Edge 500.0 bps" in page
    assert "P1 missed 1" in page
    assert "DUTCH_BOOK_DETECT 3 2 500.0" in page
    assert "SPIKE_DETECT 1 0" in page
    assert "2026-05-02 DUTCH_BOOK_DETECT still open: 1, so this may change" in page
    assert "2026-05-01 DUTCH_BOOK_DETECT 2 1 200.0" in page
    assert "1 of 1" not in page


def test_page_home_and_apis_tell_the_same(viewer: Client, signals: list[Signal]) -> None:
    kpi_store.count_due(at=NOW)
    api = viewer.get("/api/v1/kpi/daily").json()["results"]
    seed = viewer.get("/api/kpi/daily").json()
    home = week(("DUTCH_BOOK_DETECT",), at=NOW)

    assert exported(viewer) == api
    told = [(row["day"], row["rule_type"], row["signals"], row["p1_signals"]) for row in seed]
    assert told == [(row["day"], row["rule"], row["signals"], row["p1"]) for row in api]
    assert home.signals.total == sum(row["signals"] for row in api)
    assert [row["est_edge_bps"] for row in seed] == [1100.0, 200.0, None]
    assert home.gap.before[-1] == (100 * Decimal(api[1]["avg_gap"])).quantize(Decimal("0.1"))
    assert home.strips[0].edge_bps == Decimal("500.0")


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("", ["2026-05-02", "2026-05-01", "2026-05-01"]),
        ("&rule=SPIKE_DETECT", ["2026-05-01"]),
        ("&since=2026-05-02", ["2026-05-02"]),
        ("&until=2026-05-01", ["2026-05-01", "2026-05-01"]),
        ("&since=2026-04-01&until=2026-04-30", []),
        ("&days=92&rule=NONE", ["2026-05-02", "2026-05-01", "2026-05-01"]),
    ],
)
def test_days_and_rules_can_be_chosen(
    viewer: Client, signals: list[Signal], query: str, days: list[str]
) -> None:
    assert [row["day"] for row in exported(viewer, query)] == days


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=2026-05-03&until=2026-05-01", "must not be after the last"),
        ("since=2020-01-01&until=2026-05-01", "at most 91 before it"),
        ("until=0001-01-01", "What was asked as “to” is none"),
        ("since=x", "What was asked as “or from” is none"),
        ("days=5", "What was asked as “The last” is none"),
    ],
)
def test_days_that_are_none_are_said(
    viewer: Client, signals: list[Signal], query: str, words: str
) -> None:
    page = text_of(viewer.get(f"/kpi/?{query}"))

    assert words in page
    assert "Signals 4" in page or "No signal opened in these days that fits." in page


def test_empty_page_says_what_would_fill_it(viewer: Client) -> None:
    page = text_of(viewer.get("/kpi/"))

    assert "Nothing to count, because no data has come in yet." in page
    assert "python manage.py up" in page


def test_days_with_gaps_carry_their_coverage(viewer: Client, signals: list[Signal]) -> None:
    market = a_market("m1")
    a_quote(market, bid="0.40", ask="0.42")
    Market.objects.update(created_at=NOON - timedelta(days=3))
    day = NOON.replace(hour=0, minute=0, second=0, microsecond=0)
    for hour, hours in ((1, 2), (2, 4)):  # they overlap: together five hours
        Gap.objects.create(
            kind="CONNECTION", subject=str(hour), books=1, ending="HEALED", healing_seconds=1,
            opened_at=day + timedelta(hours=hour), healed_at=day + timedelta(hours=hour + hours),
        )  # fmt: skip

    told = {row["day"]: row["coverage"] for row in exported(viewer)}
    page = text_of(viewer.get("/kpi/"))

    assert told == {"2026-05-02": "1.0000", "2026-05-01": "0.7916"}  # 19 of 24 hours
    assert "Not all of it is known" in page
    assert "79.16 % with gaps" in page
    assert "1 day with gaps" in page


def test_page_takes_the_same_queries_for_many_rules(
    viewer: Client, signals: list[Signal], django_assert_num_queries: Any
) -> None:
    """What is kept, what is new (2), counts (2), lives, coverage (3), views, data age, rules."""
    for number in range(5):
        a_signal(a_rule(f"R{number}"), minutes=number)

    with django_assert_num_queries(LOGIN_QUERIES + BAR_QUERIES + ROLE_QUERIES + 12):
        viewer.get("/kpi/")
