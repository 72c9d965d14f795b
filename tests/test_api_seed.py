"""The seed's paths keep the seed's shapes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from alerts import journal
from alerts.models import OutboxEntry
from markets.models import Market
from mpx_site.api_seed import STATUS_OF
from signals.store import alert_key
from tests.api_cast import NOON, a_market, a_quote, a_rule, a_signal, a_tick, an_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(User.objects.create_user("viewer"))
    return client


def test_market_has_the_seeds_fields_with_numbers(viewer: Client) -> None:
    market = a_market("m1", event=an_event(), end_at=NOON + timedelta(days=1))
    a_quote(market, bid="0.4000", ask="0.4300")

    [told] = viewer.get("/api/markets").json()

    at = "2026-05-01T12:00:00.250000Z"
    assert told == {
        "market_id": "m1",
        "title": "Does m1 win?",
        "platform": "polymarket",
        "status": "active",
        "ends_at": "2026-05-02T12:00:00.250000Z",
        "tags": ["Sports"],
        "last_updated": at,
        "options": [
            {
                "option_id": "m1-yes",
                "label": "Yes",
                "last_price": 0.415,
                "last_ts": at,
                "bid": 0.4,
                "ask": 0.43,
            },
            {
                "option_id": "m1-no",
                "label": "No",
                "last_price": 0.585,
                "last_ts": at,
                "bid": 0.57,
                "ask": 0.6,
            },
        ],
    }


def test_one_sided_market_has_no_price(viewer: Client) -> None:
    a_quote(a_market("m1"), bid=None, ask="0.43")

    yes, no = viewer.get("/api/markets").json()[0]["options"]

    assert (yes["last_price"], yes["bid"], yes["ask"]) == (None, None, 0.43)
    assert (no["last_price"], no["bid"], no["ask"]) == (None, 0.57, None)


def test_markets_are_active_ones_by_liquidity_unless_asked(viewer: Client) -> None:
    for number, state in enumerate(Market.State.values):
        a_market(f"m-{state.lower()}", state=state, liquidity=number)
    a_market("m-deep", liquidity=99)

    active = viewer.get("/api/markets").json()
    everything = viewer.get("/api/markets?status=&limit=3&offset=1").json()
    resolved = viewer.get("/api/markets?status=resolved").json()

    assert [told["market_id"] for told in active] == ["m-deep", "m-tradable"]
    assert [told["market_id"] for told in everything] == ["m-unlisted", "m-resolved", "m-closed"]
    assert [told["status"] for told in resolved] == ["resolved"]


def test_every_state_has_a_status_of_its_own() -> None:
    assert set(STATUS_OF) == set(Market.State)
    assert len(set(STATUS_OF.values())) == len(STATUS_OF)


def test_market_detail_has_recent_ticks_per_option(viewer: Client) -> None:
    market = a_market("m1")
    a_tick(market, seconds=1, bid="0.4", ask="0.43")
    a_tick(market, seconds=2, bid="0.41", ask="0.43")

    told = viewer.get("/api/markets/m1").json()

    assert told["title"] == "Does m1 win?"
    assert [(point["ts"][17:19], point["option_id"]) for point in told["sparkline"]] == [
        ("02", "m1-yes"),
        ("02", "m1-no"),
        ("01", "m1-yes"),
        ("01", "m1-no"),
    ]
    assert told["sparkline"][1] == {
        "ts": "2026-05-01T12:00:02.250000Z",
        "market_id": "m1",
        "option_id": "m1-no",
        "price": 0.58,
        "best_bid": 0.57,
        "best_ask": 0.59,
    }


def test_signal_has_the_seeds_fields_with_numbers(viewer: Client) -> None:
    signal = a_signal(a_rule(), minutes=0)

    [told] = viewer.get("/api/signals").json()

    assert told == {
        "id": signal.pk,
        "signal_id": signal.pk,
        "key": signal.key,
        "rule": "DUTCH_BOOK_DETECT",
        "level": "P1",
        "status": "OPEN",
        "market_id": "m1",
        "market_ids": ["m1", "m2", "m3"],
        "option_id": None,
        "edge_score": 0.015,
        "payload_json": signal.payload,
        "created_at": "2026-05-01T12:00:00.250000Z",
    }


def test_signal_says_what_told_its_alert(viewer: Client) -> None:
    signal = a_signal(a_rule(), minutes=0)
    journal.alert(key=alert_key(signal.key), kind="signal.p1", payload={}, at=signal.opened_at)
    assert "transport" not in viewer.get("/api/signals").json()[0]["payload_json"]

    OutboxEntry.objects.update(state="SENT", transport="dry_run")

    assert viewer.get("/api/signals").json()[0]["payload_json"]["transport"] == "dry_run"


def test_single_leg_names_its_option(viewer: Client) -> None:
    a_signal(a_rule(), minutes=0, payload={"legs": [{"token_id": "m1-no"}]})

    assert viewer.get("/api/signals").json()[0]["option_id"] == "m1-no"


def test_signals_by_level_since_limit_and_offset(viewer: Client) -> None:
    rule = a_rule()
    for minute in range(6):
        a_signal(rule, minutes=minute, level="P1" if minute % 2 else "P2")

    def minutes(query: str) -> list[int]:
        rows = viewer.get(f"/api/signals?{query}").json()
        return [int(row["created_at"][14:16]) for row in rows]

    assert minutes("level=P1") == [5, 3, 1]
    assert minutes("since=2026-05-01T12:03:00Z") == [5, 4, 3]
    assert minutes("limit=2&offset=3") == [2, 1]
    assert minutes("level=P1&since=2026-05-01T12:02:00Z&limit=1&offset=1") == [3]
