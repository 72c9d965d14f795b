"""ETags: what one has need not be sent again, and what has changed is not acted on."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from execution import intents
from execution.models import OrderIntent
from rules.models import Rule
from tests.api_cast import a_market, a_quote, a_rule, a_signal
from tests.desk_cast import NOW, approver, basket, person, prepare, show, suggested, trader
from tests.test_api import assert_problem

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


@pytest.fixture
def viewer(client: Client) -> Client:
    client.force_login(User.objects.create_user("viewer"))
    return client


def again(client: Client, path: str, etag: str) -> Any:
    return client.get(path, headers={"If-None-Match": etag})


@pytest.mark.parametrize("path", ["/api/v1/signals", "/api/v1/markets/m1", "/api/v1/kpi/daily"])
def test_same_answer_is_not_sent_twice(viewer: Client, path: str) -> None:
    a_market("m1")
    first = viewer.get(path)

    second = again(viewer, path, first["ETag"])

    assert (second.status_code, second.content) == (304, b"")
    assert second["ETag"] == first["ETag"]
    assert again(viewer, path, f'W/{first["ETag"]}, "other"').status_code == 304
    assert again(viewer, path, '"other"').status_code == 200


def test_changed_answer_is_sent_with_another_tag(viewer: Client) -> None:
    rule, market = a_rule(), a_market("m1")
    before = {path: viewer.get(path) for path in ("/api/v1/signals", "/api/v1/markets/m1")}
    a_signal(rule, minutes=0)
    a_quote(market, bid="0.4", ask="0.5")

    for path, answer in before.items():
        assert again(viewer, path, answer["ETag"]).status_code == 200, path


def test_answers_are_kept_by_nobody_in_between(viewer: Client) -> None:
    answer = viewer.get("/api/v1/signals")

    assert set(answer["Cache-Control"].split(", ")) == {"private", "no-cache"}
    assert {"Cookie", "Authorization"} <= set(answer["Vary"].replace(" ", "").split(","))


# --- If-Match ------------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> OrderIntent:
    prepare()
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    view, signal = basket()
    show(view)
    return suggested(signal, trader())


def posted(client: Client, path: str, body: dict[str, Any], **headers: str) -> Any:
    return client.post(path, body, content_type="application/json", headers=headers)


def test_step_is_not_taken_on_an_order_that_changed(client: Client, order: OrderIntent) -> None:
    client.force_login(approver())
    path = f"/api/v1/intents/{order.pk}"
    seen = client.get(path)["ETag"]
    intents.revise(order.pk, by=trader(), at=NOW)

    late = posted(client, f"{path}/reject", {"reason": "late"}, **{"If-Match": seen})

    assert_problem(late, 412, "precondition_failed")
    order.refresh_from_db()
    assert order.status == "SUGGESTED"
    fresh = client.get(path)["ETag"]
    done = posted(client, f"{path}/reject", {"reason": "now"}, **{"If-Match": fresh})
    assert (done.status_code, done.json()["status"]) == (200, "REJECTED")


def test_books_that_moved_are_no_other_version(
    client: Client, order: OrderIntent, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(approver())
    path = f"/api/v1/intents/{order.pk}"
    seen = client.get(path)["ETag"]
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW.replace(microsecond=900_000))

    assert client.get(path)["ETag"] != seen
    answer = posted(client, f"{path}/reject", {"reason": "so"}, **{"If-Match": seen})
    assert answer.status_code == 200


def test_repeated_key_is_answered_although_its_own_step_changed_the_version(
    client: Client, order: OrderIntent
) -> None:
    client.force_login(approver())
    path = f"/api/v1/intents/{order.pk}"
    headers = {"If-Match": client.get(path)["ETag"], "Idempotency-Key": "once"}
    body = {"plan_hash": order.plan_hash}

    first, second = (posted(client, f"{path}/approve", body, **headers) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json()["replayed"], second.json()["replayed"]) == (False, True)


def test_rule_is_not_switched_by_who_saw_another_state(client: Client) -> None:
    client.force_login(person("admin", "admin"))
    code = a_rule().rule.code
    path = f"/api/v1/rules/{code}"
    seen = client.get(path)["ETag"]
    assert posted(client, f"{path}/disable", {}, **{"If-Match": seen}).status_code == 200

    late = posted(client, f"{path}/enable", {}, **{"If-Match": seen})

    assert_problem(late, 412, "precondition_failed")
    assert not Rule.objects.get().enabled
    assert posted(client, f"{path}/enable", {}, **{"If-Match": "*"}).status_code == 200


def test_text_is_not_published_over_a_rule_that_changed(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    text = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book\n"

    new = posted(client, "/api/v1/rules", {"text": text}, **{"If-Match": '"1-on.abc"'})

    assert_problem(new, 412, "precondition_failed")
    assert not Rule.objects.exists()
    assert posted(client, "/api/v1/rules", {"text": text}).status_code == 201
    seen = client.get("/api/v1/rules/DUTCH_BOOK_DETECT")["ETag"]
    newer = text.replace("Dutch book", "Dutch books")
    assert posted(client, "/api/v1/rules", {"text": newer}, **{"If-Match": seen}).status_code == 201
    assert posted(client, "/api/v1/rules", {"text": text}, **{"If-Match": seen}).status_code == 412
