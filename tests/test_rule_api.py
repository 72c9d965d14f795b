"""Rules over HTTP: publish, check, switch, roll back; who may, and how it is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from alerts.models import AuditEntry
from mpx_site.api_answers import PROBLEM_JSON
from rules.load import enabled_definitions, rule_of
from rules.models import Rule, RuleVersion
from tests import api_cast
from tests.rule_cast import CODE, NOON, ONE, TOKEN, TWO, a_rule, account, published, running
from tests.test_api import nullable_as_json_schema, strict_schema

pytestmark = pytest.mark.django_db

BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def the_desk_has_a_token(settings: Any) -> None:
    settings.ADMIN_API_TOKEN = TOKEN


@pytest.fixture
def analyst(client: Client) -> Client:
    client.force_login(account("analyst", "enable_rule"))
    return client


@pytest.fixture
def author(client: Client) -> Client:
    client.force_login(account("author", "add_rule", "change_rule"))
    return client


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(account("viewer"))
    return client


def send(client: Client, path: str, body: Any, *, headers: Any = None) -> Any:
    """Post YAML text, or anything else as JSON."""
    if isinstance(body, str | bytes):
        return client.post(path, body, content_type="text/yaml", headers=headers)
    return client.post(path, json.dumps(body), content_type="application/json", headers=headers)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["code"]) == (status, code), told
    assert response["Content-Type"] == PROBLEM_JSON
    return told


# --- publishing with the token -------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/rules", "/api/v1/rules"])
@pytest.mark.parametrize("headers", [BEARER, {"X-API-Key": TOKEN}])
def test_a_program_publishes_with_the_token_and_the_audit_says_so(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    answer = send(client, path, ONE, headers=headers)

    version = RuleVersion.objects.get()
    assert answer.status_code == 201
    told = {"code": CODE, "number": 1, "sha256": version.sha256, "change": "published"}
    assert answer.json() == told
    assert (version.source, version.created_by) == (ONE, None)
    entry = AuditEntry.objects.get()
    assert (entry.kind, entry.actor) == ("rule.published", "ADMIN_API_TOKEN")
    assert [rule.definition.code for rule in enabled_definitions()] == [CODE]


def test_json_and_yaml_mean_the_same_and_the_same_meaning_adds_no_version(client: Client) -> None:
    assert send(client, "/api/rules", {"text": ONE}, headers=BEARER).status_code == 201

    again = send(client, "/api/rules", f"# a comment\n{ONE}", headers=BEARER)

    assert (again.status_code, again.json()["change"]) == (200, "unchanged")
    assert RuleVersion.objects.count() == 1


def test_an_older_text_is_that_version_again(client: Client) -> None:
    a_rule()

    answer = send(client, "/api/rules", ONE, headers=BEARER)

    assert (answer.status_code, answer.json()["change"]) == (200, "restored")
    assert (answer.json()["number"], RuleVersion.objects.count()) == (1, 2)


@pytest.mark.parametrize("sent", ["wrong", "", "change-me"])
def test_a_wrong_token_is_refused_whatever_the_session_may(author: Client, sent: str) -> None:
    answer = send(author, "/api/rules", ONE, headers={"X-API-Key": sent})

    assert_problem(answer, 401, "authentication_failed")
    assert not Rule.objects.exists()


@pytest.mark.parametrize("token", ["", "change-me"])
def test_a_desk_without_a_token_of_its_own_takes_none(
    client: Client, settings: Any, token: str
) -> None:
    settings.ADMIN_API_TOKEN = token

    answer = send(client, "/api/rules", ONE, headers={"X-API-Key": token})

    assert "the desk has none yet" in assert_problem(answer, 401, "authentication_failed")["detail"]
    assert not Rule.objects.exists()


def test_nobody_is_asked_to_log_in(client: Client) -> None:
    for path in ("/api/rules", "/api/v1/rules", f"/api/v1/rules/{CODE}/disable"):
        assert_problem(send(client, path, ONE), 401, "not_authenticated")


# --- publishing as a person ----------------------------------------------------------------


def test_a_person_needs_the_right_to_publish(viewer: Client) -> None:
    told = assert_problem(send(viewer, "/api/rules", ONE), 403, "permission_denied")

    assert told["detail"] == "Your account lacks the right `rules.add_rule`."
    published(ONE)
    told = assert_problem(send(viewer, "/api/rules", TWO), 403, "permission_denied")
    assert told["detail"] == "Your account lacks the right `rules.change_rule`."
    assert RuleVersion.objects.count() == 1


def test_what_a_person_publishes_carries_the_name(author: Client) -> None:
    assert send(author, "/api/rules", ONE).status_code == 201

    assert str(RuleVersion.objects.get().created_by) == "author"
    assert AuditEntry.objects.get().actor == "author"


def test_a_session_needs_its_csrf_token(author: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = author.cookies

    told = assert_problem(send(strict, "/api/rules", ONE), 403, "permission_denied")

    assert "CSRF" in told["detail"]
    assert not Rule.objects.exists()


def test_a_change_of_what_is_not_current_any_more_is_refused(author: Client) -> None:
    a_rule()
    before = running()
    third = ONE + "enabled: false\n"

    for answer in (
        send(author, "/api/rules", {"text": third, "seen": 1}),
        send(author, "/api/rules?seen=1", third),
    ):
        told = assert_problem(answer, 409, "outdated")
        assert told["detail"].startswith(f"{CODE} v2 became current while you were at it.")
    assert running() == before
    assert send(author, "/api/rules?seen=2", third).status_code == 201


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, {"name": "text", "reason": "This field is required."}),
        ({"text": 5, "seen": "x"}, {"name": "seen", "reason": "A valid integer is required."}),
        ({"text": ONE, "code": "X"}, {"name": "code", "reason": "is not known here; known: "}),
    ],
)
def test_a_body_that_is_no_request_is_told_by_name(client: Client, body: Any, told: Any) -> None:
    answer = send(client, "/api/rules", body, headers=BEARER)

    error = assert_problem(answer, 400, "invalid_body")["errors"][0]
    assert error["name"] == told["name"]
    assert error["reason"].startswith(told["reason"])


def test_what_is_neither_yaml_nor_json_is_refused(client: Client) -> None:
    post = {"content_type": "application/json", "headers": BEARER}
    assert_problem(client.post("/api/rules", "{", **post), 400, "parse_error")
    assert_problem(client.post("/api/rules", "[1]", **post), 400, "parse_error")
    assert_problem(client.post("/api/rules", "[" * 20_000, **post), 400, "parse_error")
    form = client.post("/api/rules", {"text": ONE}, headers=BEARER)
    assert_problem(form, 415, "unsupported_media_type")
    assert not Rule.objects.exists()


# --- checking ------------------------------------------------------------------------------


def test_validate_compares_and_publishes_nothing(viewer: Client) -> None:
    first = published(ONE)
    before = running()

    told = send(viewer, "/api/v1/rules/validate", TWO).json()

    assert (told["code"], told["current"], told["same"]) == (CODE, 1, False)
    assert "-  min_profit_usd: 0.5" in told["diff"]
    assert "+  min_profit_usd: 2" in told["diff"]
    same = send(viewer, "/api/v1/rules/validate", f"# comment\n{ONE}").json()
    assert same == {"code": CODE, "sha256": first.sha256, "current": 1, "same": True, "diff": []}
    new = ONE.replace(CODE, "OTHER")
    assert send(viewer, "/api/v1/rules/validate", new).json()["current"] is None
    assert running() == before


# --- reading -------------------------------------------------------------------------------


def test_the_list_says_what_runs_who_changed_it_and_what_it_found(viewer: Client) -> None:
    version = published(ONE)
    api_cast.an_event()
    api_cast.a_signal(version, minutes=0, opened_at=timezone.now(), level="P2")

    [row] = viewer.get("/api/v1/rules").json()["results"]

    assert row == {
        "code": CODE,
        "title": "Dutch book",
        "detector": "dutch_book",
        "enabled": True,
        "runs": True,
        "why": "",
        "version": 1,
        "sha256": version.sha256,
        "changed_at": "2026-06-01T12:00:00Z",
        "changed_by": "system",
        "change": "rule.published",
        "signals_24h": {"P1": 0, "P2": 1, "P3": 0},
    }


def test_the_list_is_paged_by_code_and_asks_a_fixed_number_of_times(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    for number in range(5):
        published(ONE.replace(CODE, f"RULE_{number}"))

    with django_assert_num_queries(6):  # session, user, rules, two of the audit, signals
        first = viewer.get("/api/v1/rules?page_size=3").json()

    assert [row["code"] for row in first["results"]] == ["RULE_0", "RULE_1", "RULE_2"]
    rest = viewer.get(first["next"]).json()
    assert [row["code"] for row in rest["results"]] == ["RULE_3", "RULE_4"]
    assert rest["next"] is None


def test_a_rule_comes_with_its_text_and_versions(viewer: Client) -> None:
    published(ONE, by=User.objects.create_user("ann"))
    second = published(TWO)

    told = viewer.get(f"/api/v1/rules/{CODE}").json()

    assert (told["text"], told["canonical"]) == (TWO, second.canonical)
    assert [(row["number"], row["published_by"], row["current"]) for row in told["versions"]] == [
        (2, "the desk's start", True),
        (1, "ann", False),
    ]
    diff = viewer.get(f"/api/v1/rules/{CODE}/diff?from=1").json()
    assert not diff["same"]
    assert "+  min_profit_usd: 2" in diff["diff"]
    assert viewer.get(f"/api/v1/rules/{CODE}/diff?from=2&to=2").json() == {"same": True, "diff": []}


def test_a_rule_that_is_off_says_who_stops_it(viewer: Client) -> None:
    published(f"{ONE}enabled: false\n")
    assert viewer.get(f"/api/v1/rules/{CODE}").json()["why"] == "its text says enabled: false"

    Rule.objects.update(enabled=False)

    told = viewer.get(f"/api/v1/rules/{CODE}").json()
    assert (told["runs"], told["why"]) == (False, "switched off by the desk")


def test_the_seeds_list_is_a_bare_array(client: Client) -> None:
    rule = a_rule()

    [row] = client.get("/api/rules", headers=BEARER).json()

    assert (row["id"], row["name"], row["version"], row["dsl"]) == (rule.pk, CODE, 2, TWO)


def test_what_does_not_exist_is_a_404_that_names_what_does(viewer: Client) -> None:
    published(ONE)

    told = assert_problem(viewer.get("/api/v1/rules/NOPE"), 404, "not_found")
    assert told["detail"] == f"There is no rule NOPE. Known: {CODE}."
    told = assert_problem(viewer.get(f"/api/v1/rules/{CODE}/diff?from=7"), 404, "not_found")
    assert told["detail"] == f"{CODE} has no version 7. It has 1 to 1."


# --- switching and rolling back ------------------------------------------------------------


def test_an_analyst_switches_a_rule(analyst: Client) -> None:
    published(ONE)

    off = analyst.post(f"/api/v1/rules/{CODE}/disable").json()
    again = analyst.post(f"/api/v1/rules/{CODE}/disable").json()

    assert off == {"code": CODE, "enabled": False, "changed": True}
    assert again == {"code": CODE, "enabled": False, "changed": False}
    assert enabled_definitions() == []
    assert analyst.post(f"/api/v1/rules/{CODE}/enable").json()["changed"]
    assert [entry.kind for entry in AuditEntry.objects.filter(actor="analyst").order_by("id")] == [
        "rule.disabled",
        "rule.enabled",
    ]


def test_an_analyst_rolls_back_but_does_not_publish(analyst: Client) -> None:
    a_rule()

    answer = send(analyst, f"/api/v1/rules/{CODE}/rollback", {"number": 1, "seen": 2})

    assert (answer.status_code, answer.json()["change"]) == (200, "restored")
    rule = rule_of(CODE)
    assert rule.current is not None
    assert (rule.current.number, rule.title, rule.versions.count()) == (1, "Dutch book", 2)
    entry = AuditEntry.objects.latest("id")
    assert (entry.kind, entry.actor) == ("rule.rolled_back", "analyst")
    assert (entry.data["number"], entry.data["before"]) == (1, 2)
    assert_problem(send(analyst, "/api/rules", TWO), 403, "permission_denied")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"number": 1, "seen": 1}, 409, "outdated"),
        ({"number": 9}, 404, "not_found"),
        ({"number": "one"}, 400, "invalid_body"),
        ({"text": ONE}, 400, "invalid_body"),
        (ONE, 400, "invalid_body"),
    ],
)
def test_a_roll_back_that_is_refused_changes_nothing(
    analyst: Client, body: Any, status: int, code: str
) -> None:
    a_rule()
    before = running()

    assert_problem(send(analyst, f"/api/v1/rules/{CODE}/rollback", body), status, code)

    assert running() == before


def test_a_version_that_cannot_be_read_is_not_rolled_back_to(analyst: Client) -> None:
    rule = published(ONE).rule
    later = {"sha256": "0" * 64, "source": "", "canonical": "detector: of a later release\n"}
    RuleVersion.objects.create(rule=rule, number=2, created_at=NOON, **later)
    before = running()

    answer = send(analyst, f"/api/v1/rules/{CODE}/rollback", {"number": 2})

    told = assert_problem(answer, 409, "version_unreadable")
    assert told["problems"][0]["instead"] == "publish it again"
    assert running() == before


@pytest.mark.parametrize("act", ["enable", "disable", "rollback"])
def test_switching_and_rolling_back_need_their_right(author: Client, act: str) -> None:
    a_rule()
    before = running()

    answer = send(author, f"/api/v1/rules/{CODE}/{act}", {"number": 1})

    assert "`rules.enable_rule`" in assert_problem(answer, 403, "permission_denied")["detail"]
    assert running() == before


# --- the description -----------------------------------------------------------------------


def test_answers_fit_the_schema(viewer: Client) -> None:
    a_rule()
    schema = strict_schema()
    calls = [
        ("get", "/api/v1/rules", "/api/v1/rules", None, "200"),
        ("get", "/api/v1/rules/{code}", f"/api/v1/rules/{CODE}", None, "200"),
        ("get", "/api/v1/rules/{code}/diff", f"/api/v1/rules/{CODE}/diff?from=1", None, "200"),
        ("get", "/api/rules", "/api/rules", None, "200"),
        ("post", "/api/rules", "/api/rules", ONE, "200"),
        ("post", "/api/v1/rules", "/api/v1/rules", ONE + "enabled: false", "201"),
        ("post", "/api/v1/rules", "/api/v1/rules", "code: [", "400"),
        ("post", "/api/v1/rules", "/api/v1/rules", "#" * 70_000, "413"),
        ("post", "/api/v1/rules/validate", "/api/v1/rules/validate", TWO, "200"),
        ("post", "/api/v1/rules/{code}/disable", f"/api/v1/rules/{CODE}/disable", {}, "200"),
        ("post", "/api/v1/rules/{code}/enable", f"/api/v1/rules/{CODE}/enable", {}, "200"),
        (
            "post",
            "/api/v1/rules/{code}/rollback",
            f"/api/v1/rules/{CODE}/rollback",
            {"number": 2},
            "200",
        ),
    ]

    for method, operation, path, body, status in calls:
        answer = viewer.get(path) if method == "get" else send(viewer, path, body, headers=BEARER)
        assert str(answer.status_code) == status, (path, answer.content)
        media = PROBLEM_JSON if int(status) >= 400 else "application/json"
        described = schema["paths"][operation][method]["responses"][status]["content"][media]
        whole = described["schema"] | {"components": schema["components"]}
        jsonschema.Draft4Validator(nullable_as_json_schema(whole)).validate(answer.json())


def test_the_schema_says_that_text_comes_as_yaml_or_json_and_who_may() -> None:
    operation = SchemaGenerator().get_schema(request=None, public=True)["paths"]["/api/rules"]

    assert {"text/yaml", "application/json"} <= set(operation["post"]["requestBody"]["content"])
    assert {"adminToken": []} in operation["post"]["security"]
