"""`/api/v1`: what it says, how it pages, how it refuses."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from mpx_site import api
from mpx_site.api_answers import PROBLEM_JSON
from signals.models import Signal
from tests.api_cast import NOON, a_market, a_point, a_quote, a_rule, a_signal, a_tick, an_event

pytestmark = pytest.mark.django_db

LOGIN_QUERIES = 2  # session and user


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(User.objects.create_user("viewer"))
    return client


def get(client: Client, path: str, **query: Any) -> Any:
    return client.get(f"{path}?{urlencode(query)}" if query else path)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response["Content-Type"] == PROBLEM_JSON
    problem: dict[str, Any] = response.json()
    fields = {"type", "title", "status", "detail", "code", "instance", "trace_id"}
    assert set(problem) - {"errors"} == fields
    assert problem["trace_id"] == response["X-Trace-Id"]
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["instance"] == response.wsgi_request.path
    return problem


PATHS = (
    "/api/v1/signals",
    "/api/v1/signals/k",
    "/api/v1/markets",
    "/api/v1/markets/m1",
    "/api/v1/nothing",
    "/api/signals",
    "/api/markets",
    "/api/markets/m1",
    "/api/schema/",
)


@pytest.mark.parametrize("path", PATHS)
def test_anonymous_is_asked_to_log_in(client: Client, path: str) -> None:
    response = client.get(path)

    assert_problem(response, 401, "not_authenticated")
    assert "Session" in response["WWW-Authenticate"]


def test_account_that_was_switched_off_is_anonymous(viewer: Client) -> None:
    User.objects.update(is_active=False)

    assert_problem(viewer.get("/api/v1/signals"), 401, "not_authenticated")


def test_post_is_refused_with_and_without_a_csrf_token(viewer: Client) -> None:
    assert_problem(viewer.post("/api/v1/signals"), 405, "method_not_allowed")

    strict = Client(enforce_csrf_checks=True)
    strict.cookies = viewer.cookies
    assert_problem(strict.post("/api/v1/signals"), 403, "permission_denied")


def test_signal_row_has_decimals_as_text_and_times_in_utc(viewer: Client) -> None:
    an_event()
    signal = a_signal(
        a_rule(),
        minutes=0,
        event_id="e1",
        status=Signal.Status.CLOSED,
        closed_at=NOON + timedelta(seconds=3),
        close_reason="edge_gone",
        blocked_by=["min_size"],
    )

    [row] = viewer.get("/api/v1/signals").json()["results"]

    assert row == {
        "key": signal.key,
        "rule": "DUTCH_BOOK_DETECT",
        "rule_version": 1,
        "event_id": "e1",
        "event_title": "Who wins?",
        "market_ids": ["m1", "m2", "m3"],
        "kind": "yes_basket",
        "level": "P1",
        "status": "CLOSED",
        "verdict": "EXECUTABLE",
        "blocked_by": ["min_size"],
        "opened_at": "2026-05-01T12:00:00.250000Z",
        "changed_at": "2026-05-01T12:00:00.250000Z",
        "closed_at": "2026-05-01T12:00:03.250000Z",
        "close_reason": "edge_gone",
        "edge_score": "0.015000",
        "edge_bps": "150.00",
        "peak_edge_bps": "160.00",
        "profit": "1.500000",
        "peak_profit": "1.600000",
        "cost": "100.000000",
        "observations": 1,
        "p_fill": None,
        "expected_usd": None,
        "ml_note": "",
    }


def test_signal_detail_adds_arithmetic_and_changes(viewer: Client) -> None:
    signal = a_signal(a_rule(), minutes=0)
    a_point(signal, seconds=0, change="opened")
    a_point(signal, seconds=1, change="updated")

    told = viewer.get(f"/api/v1/signals/{signal.key}").json()

    assert told["payload"] == signal.payload
    assert [point["change"] for point in told["points"]] == ["updated", "opened"]
    assert told["points"][0] == {
        "at": "2026-05-01T12:00:01.250000Z",
        "change": "updated",
        "level": "P1",
        "edge_bps": "150.00",
        "profit": "1.500000",
    }


def test_market_tells_both_outcomes_the_second_as_mirror(viewer: Client) -> None:
    market = a_market("m1", event=an_event(), fee_rate=None)
    a_quote(market, bid="0.4000", ask="0.4300")
    a_tick(market, seconds=1, bid="0.4", ask="0.43")
    a_tick(market, seconds=2, bid="0.41", ask="0.43")

    told = viewer.get("/api/v1/markets/m1").json()

    assert (told["event_title"], told["fee_rate"], told["tick_size"]) == (
        "Who wins?",
        None,
        "0.0100",
    )
    assert told["quote"] == {
        "bid": "0.4000",
        "ask": "0.4300",
        "bid_size": "10.000000",
        "ask_size": "20.000000",
        "state": "fresh",
        "at": "2026-05-01T12:00:00.250000Z",
    }
    assert told["outcomes"] == [
        {"token_id": "m1-yes", "index": 0, "label": "Yes", "bid": "0.4000", "ask": "0.4300"},
        {"token_id": "m1-no", "index": 1, "label": "No", "bid": "0.5700", "ask": "0.6000"},
    ]
    assert [tick["bid"] for tick in told["ticks"]] == ["0.4100", "0.4000"]


def test_market_without_a_quote_or_side_says_null(viewer: Client) -> None:
    a_market("m1")
    a_quote(a_market("m2"), bid=None, ask="0.43")

    unquoted, one_sided = viewer.get("/api/v1/markets").json()["results"]

    assert unquoted["quote"] is None
    assert {side["bid"] for side in unquoted["outcomes"]} == {None}
    assert [(side["bid"], side["ask"]) for side in one_sided["outcomes"]] == [
        (None, "0.4300"),
        ("0.5700", None),
    ]


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ({"level": "P2"}, [3]),
        ({"status": "OPEN"}, [3, 2, 1]),
        ({"rule": "OTHER"}, [2]),
        ({"kind": "binary"}, [1]),
        ({"event": "e1"}, [0]),
        ({"since": "2026-05-01T12:02:00Z"}, [3, 2]),
        ({"until": "2026-05-01T14:01:00.250+02:00"}, [0]),
        ({"status": "OPEN", "level": "P1", "kind": "yes_basket"}, [2]),
    ],
)
def test_signals_can_be_filtered(viewer: Client, query: dict[str, str], minutes: list[int]) -> None:
    an_event()
    rule, other = a_rule(), a_rule("OTHER")
    a_signal(rule, minutes=0, event_id="e1", status="CLOSED", closed_at=NOON)
    a_signal(rule, minutes=1, kind="binary")
    a_signal(other, minutes=2)
    a_signal(rule, minutes=3, level="P2")

    rows = get(viewer, "/api/v1/signals", **query).json()["results"]

    assert [int(row["opened_at"][14:16]) for row in rows] == minutes


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"state": "PAUSED"}, ["m2"]),
        ({"event": "e1"}, ["m1"]),
        ({"q": "m3 WIN"}, ["m3"]),
    ],
)
def test_markets_can_be_filtered(viewer: Client, query: dict[str, str], ids: list[str]) -> None:
    a_market("m1", event=an_event())
    a_market("m2", state="PAUSED")
    a_market("m3")

    rows = get(viewer, "/api/v1/markets", **query).json()["results"]

    assert [row["id"] for row in rows] == ids


def test_paging_visits_each_signal_once_while_new_ones_open(viewer: Client) -> None:
    rule = a_rule()
    # Three at the same moment: the id decides within it, across the border of a page.
    before = {a_signal(rule, minutes=minute).key for minute in (0, 1, 1, 1, 2, 3, 4)}
    visited: list[str] = []
    address = "/api/v1/signals?page_size=2&status=OPEN"

    while address:
        told = viewer.get(address).json()
        visited += [row["key"] for row in told["results"]]
        a_signal(rule, minutes=10)
        address = told["next"]

    assert len(visited) == len(before)
    assert set(visited) == before


def test_paging_visits_each_market_once_while_liquidity_moves(viewer: Client) -> None:
    markets = [a_market(f"m{number}", liquidity=number) for number in range(5)]
    visited: list[str] = []
    address = "/api/v1/markets?page_size=2"

    while address:
        told = viewer.get(address).json()
        visited += [row["id"] for row in told["results"]]
        for market in markets:
            market.liquidity = 100 - Decimal(market.liquidity)
            market.save(update_fields=["liquidity"])
        address = told["next"]

    assert visited == ["m0", "m1", "m2", "m3", "m4"]


def test_a_page_that_is_exactly_full_is_the_last(viewer: Client) -> None:
    rule = a_rule()
    for minute in range(2):
        a_signal(rule, minutes=minute)

    assert viewer.get("/api/v1/signals?page_size=2").json()["next"] is None


@pytest.mark.parametrize("path", [path for path in PATHS if "nothing" not in path][:-1])
def test_unknown_parameter_is_refused_by_name(viewer: Client, path: str) -> None:
    problem = assert_problem(get(viewer, path, levle="P1"), 400, "unknown_parameter")

    assert [error["name"] for error in problem["errors"]] == ["levle"]
    assert "levle" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/v1/signals", {"level": "P9"}),
        ("/api/v1/signals", {"since": "yesterday"}),
        ("/api/v1/signals", {"page_size": 201}),
        ("/api/v1/signals", {"page_size": "1e3"}),
        ("/api/v1/signals", {"cursor": "!!"}),
        ("/api/v1/signals", {"cursor": "WyJtMSJd"}),  # of a page of markets
        ("/api/v1/signals", {"cursor": "ÿ"}),
        ("/api/v1/markets", {"cursor": "e30="}),
        ("/api/v1/markets", {"state": "open"}),
        ("/api/v1/markets", {"q": "x" * 101}),
        ("/api/v1/markets", {"q": "a\0b"}),
        ("/api/signals", {"limit": 0}),
        ("/api/signals", {"offset": -1}),
        ("/api/markets", {"status": "TRADABLE"}),
    ],
)
def test_unusable_value_is_refused_by_name(
    viewer: Client, path: str, query: dict[str, str]
) -> None:
    problem = assert_problem(get(viewer, path, **query), 400, "invalid_parameter")

    assert [error["name"] for error in problem["errors"]] == list(query)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/signals/none", "/api/v1/markets/none", "/api/markets/none", "/api/v1/orders/1"],
)
def test_what_does_not_exist_is_a_problem_too(viewer: Client, path: str) -> None:
    assert_problem(viewer.get(path), 404, "not_found")


def test_only_json_is_served(viewer: Client) -> None:
    response = viewer.get("/api/v1/signals", headers={"Accept": "text/html"})

    assert_problem(response, 406, "not_acceptable")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("FATAL: no pg_hba.conf entry"), 503, "database_unavailable"),
        (RuntimeError("secret inside"), 500, "internal_error"),
    ],
)
def test_failure_inside_tells_nothing_of_the_inside(
    viewer: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(api, "_signals_after", fail)

    problem = assert_problem(viewer.get("/api/v1/signals"), status, code)

    assert str(error) not in str(problem)


def test_lists_and_details_ask_the_database_a_fixed_number_of_times(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    rule, event = a_rule(), an_event()
    signals = [a_signal(rule, minutes=minute, event=event) for minute in range(7)]
    for number in range(7):
        a_quote(a_market(f"m{number}", event=event), bid="0.4", ask="0.5")

    for path, queries in (
        ("/api/v1/signals", 1),
        (f"/api/v1/signals/{signals[0].key}", 2),
        ("/api/v1/markets", 2),
        ("/api/v1/markets/m1", 3),
        ("/api/signals", 2),
        ("/api/markets", 2),
        ("/api/markets/m1", 3),
    ):
        with django_assert_num_queries(LOGIN_QUERIES + queries):
            assert viewer.get(path).status_code == 200, path


def test_schema_is_generated_without_a_warning() -> None:
    out = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)

    assert "/api/v1/signals:" in out.getvalue()


def test_answers_fit_the_schema(viewer: Client) -> None:
    event = an_event()
    market = a_market("m1", event=event)
    a_market("m2")
    a_quote(market, bid="0.4", ask=None)
    a_tick(market, seconds=1, bid="0.4", ask="0.43")
    signal = a_signal(a_rule(), minutes=0, event=event)
    a_point(signal, seconds=0, change="opened")
    schema = strict_schema()

    for operation, path in (
        ("/api/v1/signals", "/api/v1/signals"),
        ("/api/v1/signals/{key}", f"/api/v1/signals/{signal.key}"),
        ("/api/v1/markets", "/api/v1/markets"),
        ("/api/v1/markets/{market_id}", "/api/v1/markets/m1"),
        ("/api/signals", "/api/signals"),
        ("/api/markets", "/api/markets"),
        ("/api/markets/{market_id}", "/api/markets/m1"),
        ("/api/healthz", "/api/healthz"),
    ):
        answers = schema["paths"][operation]["get"]["responses"]
        assert_fits(viewer.get(path).json(), answers["200"], "application/json", schema)

    refusal = get(viewer, "/api/v1/signals", levle="P1").json()
    answers = schema["paths"]["/api/v1/signals"]["get"]["responses"]
    assert_fits(refusal, answers["400"], PROBLEM_JSON, schema)


def strict_schema() -> Any:
    """Return the schema with every object closed, so that an extra key is an error too."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    for component in schema["components"]["schemas"].values():
        if "properties" in component:
            component["additionalProperties"] = False
    return schema


def assert_fits(told: object, answer: Any, media_type: str, schema: Any) -> None:
    described = answer["content"][media_type]["schema"] | {"components": schema["components"]}
    jsonschema.Draft4Validator(nullable_as_json_schema(described)).validate(told)


def nullable_as_json_schema(node: Any) -> Any:
    """Rewrite OpenAPI 3.0's `nullable`, which JSON Schema does not have."""
    if isinstance(node, list):
        return [nullable_as_json_schema(part) for part in node]
    if not isinstance(node, dict):
        return node
    plain = {name: nullable_as_json_schema(part) for name, part in node.items()}
    return {"anyOf": [plain, {"type": "null"}]} if plain.pop("nullable", False) else plain


def test_swagger_page_loads_nothing_from_elsewhere(viewer: Client) -> None:
    page = viewer.get("/api/docs/")
    script = viewer.get("/api/docs/?script=")

    text = page.content.decode()
    assert page.status_code == script.status_code == 200
    assert "swagger-ui-bundle.js" in text
    assert "http" not in text.replace("<!DOCTYPE html>", "")
    assert "<style" not in text
    assert "<script>" not in text
    assert "/api/schema/" in script.content.decode()


def test_swagger_page_asks_anonymous_to_log_in(client: Client) -> None:
    response = client.get("/api/docs/")

    assert response.status_code == 302
    assert "login" in response["Location"]


def test_signals_come_newest_first(viewer: Client) -> None:
    rule = a_rule()
    for minute in (1, 3, 2, 3):
        a_signal(rule, minutes=minute)

    rows = viewer.get("/api/v1/signals").json()["results"]

    assert all(a["opened_at"] >= b["opened_at"] for a, b in pairwise(rows))
    assert len(rows) == 4
