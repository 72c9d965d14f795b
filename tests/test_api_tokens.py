"""Tokens of people: shown once, hashed, scoped, expiring, never more than their owner may."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from alerts.models import AuditEntry
from execution.models import OrderIntent
from mpx_site import api_throttle, api_token_book
from mpx_site.models import ApiToken, Scope
from tests.desk_cast import NOW, approver, basket, person, prepare, show, suggested, trader
from tests.test_api import assert_problem

pytestmark = pytest.mark.django_db
FAR = "203.0.113.9"  # not this machine


def a_token(user: User, *scopes: str, days: int = 1, at: Any = None) -> str:
    _, text = api_token_book.make(
        user, name="test", scopes=scopes, days=days, at=at or timezone.now()
    )
    return text


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def person_logged_in(client: Client, owner: User) -> Client:
    client.force_login(owner)
    return client


def made(client: Client, **body: Any) -> Any:
    given = {"name": "grafana", "scopes": ["read"], **body}
    return client.post("/api/v1/tokens", given, content_type="application/json")


def test_new_token_is_told_once_and_kept_as_a_hash(person_logged_in: Client, owner: User) -> None:
    told = made(person_logged_in, scopes=["read", "metrics"], days=30).json()

    _, prefix, secret = told["token"].split("_", 2)
    kept = ApiToken.objects.get()
    listed = person_logged_in.get("/api/v1/tokens").json()["results"]
    assert (told["prefix"], told["scopes"], told["state"]) == (prefix, ["metrics", "read"], "live")
    assert kept.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert kept.expires_at - kept.created_at == timedelta(days=30)
    assert secret not in str([*ApiToken.objects.values(), *AuditEntry.objects.values(), listed])
    assert [row["prefix"] for row in listed] == [prefix]
    assert AuditEntry.objects.filter(kind="token.created", actor="owner").count() == 1


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_token_reads_for_its_owner(client: Client, owner: User, header: str) -> None:
    token = a_token(owner, Scope.READ)
    sent = token if header == "X-API-Key" else f"Bearer {token}"

    assert client.get("/api/v1/signals", headers={header: sent}).status_code == 200
    assert ApiToken.objects.get().last_used_at is not None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sha256": "0" * 64}, "not known"),
        ({"revoked_at": NOW}, "revoked"),
        ({"expires_at": NOW}, "expired"),
    ],
)
def test_token_that_is_not_live_opens_nothing(
    client: Client, owner: User, change: dict[str, Any], why: str
) -> None:
    token = a_token(owner, Scope.READ)
    ApiToken.objects.update(**change)

    answer = client.get("/api/v1/signals", headers=bearer(token))

    problem = assert_problem(answer, 401, "authentication_failed")
    assert why in problem["detail"]
    assert "Bearer" in answer["WWW-Authenticate"]


def test_token_ends_with_its_owners_account(client: Client, owner: User) -> None:
    token = a_token(owner, Scope.READ)
    User.objects.update(is_active=False)

    assert_problem(
        client.get("/api/v1/signals", headers=bearer(token)), 401, "authentication_failed"
    )


def test_scope_that_is_missing_is_named(client: Client) -> None:
    token = a_token(User.objects.create_superuser("root"), Scope.METRICS)

    reading = client.get("/api/v1/signals", headers=bearer(token))
    writing = client.post("/api/v1/rules/X/enable", headers=bearer(token))

    assert "read" in assert_problem(reading, 403, "permission_denied")["detail"]
    assert "rules:write" in assert_problem(writing, 403, "permission_denied")["detail"]


def test_method_that_no_view_has_is_405_and_what_no_scope_opens_is_403(client: Client) -> None:
    token = a_token(User.objects.create_superuser("root"), *Scope.values)

    assert_problem(client.put("/api/v1/signals", headers=bearer(token)), 405, "method_not_allowed")
    assert_problem(client.post("/api/v1/none", headers=bearer(token)), 404, "not_found")


def test_no_token_makes_tokens(client: Client) -> None:
    token = a_token(User.objects.create_superuser("root"), *Scope.values)
    body = {"name": "child", "scopes": ["read"]}

    answer = client.post(
        "/api/v1/tokens", body, content_type="application/json", headers=bearer(token)
    )

    assert_problem(answer, 401, "not_authenticated")
    assert ApiToken.objects.count() == 1


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> OrderIntent:
    prepare()
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    view, signal = basket()
    show(view)
    return suggested(signal, trader())


def approve(client: Client, order: OrderIntent, token: str) -> Any:
    return client.post(
        f"/api/v1/intents/{order.pk}/approve",
        {"plan_hash": order.plan_hash},
        content_type="application/json",
        headers={**bearer(token), "Idempotency-Key": "one"},
    )


def test_token_approves_as_its_owner(client: Client, order: OrderIntent) -> None:
    answer = approve(client, order, a_token(approver(), Scope.INTENTS_APPROVE))

    assert answer.status_code == 200
    order.refresh_from_db()
    assert (order.status, order.approver) == ("APPROVED", approver())


def test_token_of_the_proposer_approves_no_more_than_the_proposer(
    client: Client, order: OrderIntent
) -> None:
    both = person("trader", "trader", "approver")

    answer = approve(client, order, a_token(both, Scope.INTENTS_APPROVE))

    assert answer.status_code == 403
    assert "FOUR_EYES" in [check["name"] for check in answer.json()["checks"] if not check["ok"]]
    order.refresh_from_db()
    assert order.status == "SUGGESTED"


def test_token_keeps_no_right_that_its_owner_has_lost(client: Client, order: OrderIntent) -> None:
    second = approver()
    token = a_token(second, Scope.INTENTS_APPROVE)
    second.groups.set([])

    assert approve(client, order, token).status_code == 403


def test_scope_that_no_right_would_fill_is_refused(person_logged_in: Client, owner: User) -> None:
    refused = made(person_logged_in, scopes=["read", "intents:approve"])
    owner.user_permissions.add(Permission.objects.get(codename="approve_intent"))

    assert_problem(refused, 400, "invalid_parameter")
    assert made(person_logged_in, scopes=["read", "intents:approve"]).status_code == 201


@pytest.mark.parametrize(
    "body", [{"scopes": []}, {"scopes": ["all"]}, {"days": 0}, {"days": 366}, {"name": ""}]
)
def test_token_that_cannot_be_made_is_refused(
    person_logged_in: Client, body: dict[str, Any]
) -> None:
    assert_problem(made(person_logged_in, **body), 400, "invalid_parameter")


def test_live_tokens_are_counted_and_others_not(person_logged_in: Client, owner: User) -> None:
    long_ago = timezone.now() - timedelta(days=9)
    a_token(owner, Scope.READ, at=long_ago)
    for _ in range(api_token_book.LIVE_PER_USER):
        assert made(person_logged_in).status_code == 201

    assert_problem(made(person_logged_in), 409, "too_many_tokens")


def test_person_revokes_own_tokens_only(client: Client, person_logged_in: Client) -> None:
    own = made(person_logged_in).json()["prefix"]
    token = a_token(User.objects.create_user("other"), Scope.READ)
    other = token.split("_")[1]

    assert person_logged_in.delete(f"/api/v1/tokens/{own}").status_code == 204
    assert_problem(person_logged_in.delete(f"/api/v1/tokens/{other}"), 404, "not_found")
    states = {row.prefix: row.state(timezone.now()) for row in ApiToken.objects.all()}
    assert states == {own: "revoked", other: "live"}
    assert AuditEntry.objects.filter(kind="token.revoked", actor="owner").count() == 1


def test_admin_revokes_tokens_of_others_and_sees_no_secret(client: Client, owner: User) -> None:
    token = a_token(owner, Scope.READ)
    client.force_login(User.objects.create_superuser("root"))
    chosen = {"action": "revoke", "_selected_action": [ApiToken.objects.get().pk]}

    client.post("/admin/mpx_site/apitoken/", chosen)

    assert ApiToken.objects.get().revoked_at is not None
    page = client.get(f"/admin/mpx_site/apitoken/{ApiToken.objects.get().pk}/change/")
    assert page.status_code == 200
    assert ApiToken.objects.get().sha256 not in page.content.decode()
    assert_problem(
        Client().get("/api/v1/signals", headers=bearer(token)), 401, "authentication_failed"
    )


def test_metrics_open_to_a_token_with_that_scope(client: Client, owner: User) -> None:
    with_it, without = a_token(owner, Scope.METRICS), a_token(owner, Scope.READ)

    assert client.get("/metrics", headers=bearer(with_it), REMOTE_ADDR=FAR).status_code == 200
    assert client.get("/metrics", headers=bearer(without), REMOTE_ADDR=FAR).status_code == 403


# --- pace ----------------------------------------------------------------------------


@pytest.fixture
def two_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"reads": "2/min", "writes": "1/min"}
    monkeypatch.setattr(api_throttle.Reads, "THROTTLE_RATES", rates)


def test_who_asks_too_often_is_told_how_long_to_wait(
    client: Client, owner: User, two_a_minute: None
) -> None:
    mine, others = bearer(a_token(owner, Scope.READ)), bearer(a_token(owner, Scope.READ))

    answers = [client.get("/api/v1/signals", headers=mine) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert_problem(answers[2], 429, "throttled")
    assert 0 < int(answers[2]["Retry-After"]) <= 60
    assert client.get("/api/v1/signals", headers=others).status_code == 200


def test_writing_is_paced_apart_from_reading(client: Client, two_a_minute: None) -> None:
    token = bearer(a_token(User.objects.create_superuser("root"), *Scope.values))

    posts = [client.post("/api/v1/rules/NONE/enable", headers=token) for _ in range(2)]

    assert [answer.status_code for answer in posts] == [404, 429]
    assert client.get("/api/v1/rules", headers=token).status_code == 200
    assert [client.get("/api/healthz").status_code for _ in range(5)] == [200] * 5
