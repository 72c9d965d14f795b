"""Alerts, audit chain and daily figures over the API; what is not there, and bodies too large."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from alerts import journal
from alerts.models import OutboxEntry
from tests.api_cast import NOON, a_rule, a_signal
from tests.desk_cast import person, prepare
from tests.test_api import assert_fits, assert_problem, strict_schema

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


@pytest.fixture
def analyst(client: Client) -> Client:
    prepare()
    client.force_login(person("ana", "analyst"))
    return client


def tell(*, number: int, kind: str = "rule.published", held_back: str = "") -> None:
    at = NOON + timedelta(minutes=number)
    with transaction.atomic():
        journal.record(kind=kind, subject=f"rule:R{number}", actor="ana", data={"n": number}, at=at)
        journal.alert(key=f"k{number}", kind="signal.p1", payload={}, at=at, held_back=held_back)


def visited(client: Client, address: str) -> list[Any]:
    rows: list[Any] = []
    page: str | None = address
    while page:
        told = client.get(page).json()
        rows += told["results"]
        page = told["next"]
    return rows


@pytest.mark.parametrize("path", ["/api/v1/alerts", "/api/v1/audit"])
def test_journal_is_paged_newest_first_while_it_grows(analyst: Client, path: str) -> None:
    for number in range(5):
        tell(number=number)
    first = analyst.get(f"{path}?page_size=2").json()
    tell(number=9)

    rest = visited(analyst, first["next"])

    ids = [row["id"] for row in first["results"] + rest]
    assert len(ids) == len(set(ids)) == 5
    assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    ("path", "query", "found"),
    [
        ("/api/v1/alerts", "state=SUPPRESSED", ["k2"]),
        ("/api/v1/alerts", "kind=none", []),
        ("/api/v1/audit", "subject=rule:R1", ["rule:R1"]),
        ("/api/v1/audit", "kind=rule.enabled", ["rule:R2"]),
        ("/api/v1/audit", "actor=bob", []),
        ("/api/v1/audit", "since=2026-05-01T12:01:30Z", ["rule:R2"]),
        ("/api/v1/audit", "until=2026-05-01T12:01:30Z", ["rule:R1"]),
    ],
)
def test_journal_can_be_filtered(analyst: Client, path: str, query: str, found: list[str]) -> None:
    tell(number=1)
    tell(number=2, kind="rule.enabled", held_back="muted")

    rows = analyst.get(f"{path}?{query}").json()["results"]

    assert [row["key" if "alerts" in path else "subject"] for row in rows] == found


def test_journal_fits_its_schema(analyst: Client) -> None:
    tell(number=1)
    OutboxEntry.objects.update(state="SENT", sent_at=NOON)
    a_signal(a_rule(), minutes=0)
    schema = strict_schema()

    for path in ("/api/v1/alerts", "/api/v1/audit", "/api/v1/kpi/daily", "/api/kpi/daily"):
        answers = schema["paths"][path]["get"]["responses"]
        assert_fits(analyst.get(path).json(), answers["200"], "application/json", schema)


# --- daily figures -------------------------------------------------------------------


@pytest.fixture
def week(analyst: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOON + timedelta(days=1))
    dutch, other = a_rule(), a_rule("OTHER")
    a_signal(dutch, minutes=0, peak_edge_bps=100)
    a_signal(dutch, minutes=1, peak_edge_bps=300, level="P2")
    a_signal(other, minutes=2, peak_edge_bps=50, level="P3")
    a_signal(dutch, minutes=24 * 60, peak_edge_bps=200)
    a_signal(dutch, minutes=-30 * 24 * 60, peak_edge_bps=999)
    return analyst


def test_day_is_counted_by_rule_and_level(week: Client) -> None:
    rows = week.get("/api/v1/kpi/daily").json()["results"]

    assert [(row["day"], row["rule"]) for row in rows] == [
        ("2026-05-02", "DUTCH_BOOK_DETECT"),
        ("2026-05-01", "DUTCH_BOOK_DETECT"),
        ("2026-05-01", "OTHER"),
    ]
    assert rows[1] == {
        "day": "2026-05-01",
        "rule": "DUTCH_BOOK_DETECT",
        "signals": 2,
        "p1": 1,
        "p2": 1,
        "p3": 0,
        "priced": 2,
        "avg_gap": f"{(100 / 10_100 + 300 / 10_300) / 2:.6f}",
        "avg_edge_bps": "200.00",
        "p1_profit_usd": "1.600000",
        "missed": 0,
        "missed_profit_usd": "0.000000",
        **dict.fromkeys(("suggested", "approved", "filled", "rejected"), 0),
        **dict.fromkeys(("expired", "cancelled", "failed"), 0),
        "acceptance": None,
        "captured_usd": "0.000000",
        "closed": 0,
        **{f"lifetime_p{percent}_ms": None for percent in (50, 90, 99)},
        "final": False,
        "coverage": None,
    }


def test_seed_path_keeps_the_seeds_shape(week: Client) -> None:
    assert week.get("/api/kpi/daily").json()[2] == {
        "day": "2026-05-01",
        "rule_type": "OTHER",
        "signals": 1,
        "p1_signals": 0,
        "avg_gap": round(50 / 10_050, 6),
        "est_edge_bps": 50.0,
    }


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("since=2026-05-02", ["2026-05-02"]),
        ("until=2026-05-01&rule=OTHER", ["2026-05-01"]),
        ("since=2026-04-01&rule=DUTCH_BOOK_DETECT", ["2026-05-02", "2026-05-01", "2026-04-01"]),
    ],
)
def test_days_can_be_chosen(week: Client, query: str, days: list[str]) -> None:
    rows = week.get(f"/api/v1/kpi/daily?{query}").json()["results"]

    assert [row["day"] for row in rows] == days


@pytest.mark.parametrize(
    "query",
    ["since=2026-05-03", "since=2025-01-01", "until=9999-12-31", "until=0001-01-01", "since=x"],
)
def test_days_that_are_none_are_refused(week: Client, query: str) -> None:
    assert_problem(week.get(f"/api/v1/kpi/daily?{query}"), 400, "invalid_parameter")


def test_day_is_that_of_utc(analyst: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    late = datetime(2026, 5, 1, 23, 59, 59, tzinfo=UTC)
    monkeypatch.setattr("django.utils.timezone.now", lambda: late)
    a_signal(a_rule(), minutes=0, opened_at=late)

    [row] = analyst.get("/api/v1/kpi/daily").json()["results"]

    assert row["day"] == "2026-05-01"


# --- what is not there ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/api/v1/orders", "/api/nothing", "/api/"])
def test_path_that_is_none_is_a_problem_for_every_method(
    analyst: Client, method: str, path: str
) -> None:
    assert_problem(getattr(analyst, method)(path), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/api/v1/signals/%00", "/api/v1/markets/a%00b", "/api/v1/rules/%00"]
)
def test_nul_in_an_address_finds_nothing(analyst: Client, path: str) -> None:
    assert_problem(analyst.get(path), 404, "not_found")


def test_schema_and_docs_are_still_found_without_their_slash(analyst: Client) -> None:
    for path in ("/api/schema", "/api/docs"):
        assert analyst.get(path)["Location"] == f"{path}/"


def test_body_that_is_too_large_is_refused_before_it_is_read(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    body = {"signal": "x" * 70_000}

    answer = client.post("/api/v1/intents/preview", body, content_type="application/json")

    assert_problem(answer, 413, "too_large")
