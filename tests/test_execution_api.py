"""The desk for programs: every step, every refusal with its checks, and the seed's paths."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from alerts.models import AuditEntry
from execution import intents
from execution.models import Fill, OrderIntent
from mpx_site.api_answers import PROBLEM_JSON
from risk import killswitch
from risk.locking import DeskBusy
from risk.models import Policy
from signals.models import Signal
from tests.desk_cast import (
    NOW,
    Venue,
    approved,
    approver,
    basket,
    endgame,
    person,
    prepare,
    show,
    suggested,
    trader,
)
from tests.test_api import assert_fits, strict_schema

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
LATER = NOW + timedelta(seconds=1)
ANY_ROLE = "viewer analyst trader approver admin"
ROLES = ("none", "viewer", "analyst", "trader", "approver", "admin")


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the web live at the time of the cast."""
    prepare()
    monkeypatch.setattr("django.utils.timezone.now", lambda: LATER)


@pytest.fixture
def signal() -> Signal:
    view, signal = basket()
    show(view)
    return signal


class Caller:
    """A program with an account."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user)

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        given = {} if body is None else body
        return self.client.post(path, given, content_type="application/json", headers=headers)


@pytest.fixture
def dana() -> Caller:
    return Caller(trader("dana"))


@pytest.fixture
def avi() -> Caller:
    return Caller(approver("avi"))


def refusal(response: Any, status: int, code: str) -> dict[str, Any]:
    """Return a refusal whose checks have everything that an operator needs."""
    assert (response.status_code, response["Content-Type"]) == (status, PROBLEM_JSON)
    told: dict[str, Any] = response.json()
    assert told["code"] == code, told
    for check in told["checks"]:
        assert {"name", "limit", "value", "ok", "advice", "sentence"} <= set(check)
    failed = [check for check in told["checks"] if not check["ok"]]
    assert failed and all(check["advice"] for check in failed)
    assert told["reasons"] == [check["sentence"] for check in failed]
    return told


def last_audit() -> AuditEntry:
    return AuditEntry.objects.order_by("-id")[0]


# --- from a signal to a fill ---------------------------------------------------------


def test_preview_shows_plan_and_checks_and_creates_nothing(dana: Caller, signal: Signal) -> None:
    before = AuditEntry.objects.count()

    response = dana.post("/api/v1/intents/preview", {"signal": signal.key, "capital": "50.00"})

    told = response.json()
    assert response.status_code == 200 and told["ok"], told
    assert Decimal(told["plan"]["notional"]) <= 50
    assert len(told["plan"]["legs"]) == 3 and len(told["checks"]) > 10
    assert not OrderIntent.objects.exists()
    assert AuditEntry.objects.count() == before


def test_suggestion_is_approved_by_hash_and_filled(dana: Caller, avi: Caller) -> None:
    view, signal = basket()
    venue = Venue([view]).watched()
    shown = dana.post("/api/v1/intents/preview", {"signal": signal.key}).json()["plan"]["hash"]

    made = dana.post("/api/v1/intents", {"signal": signal.key, "plan_hash": shown}, key="s1")
    way = f"/api/v1/intents/{made.json()['intent']}"
    waiting = avi.get(way).json()
    signed = avi.post(f"{way}/approve", {"plan_hash": waiting["plan_hash"]}, key="a1")
    venue.at = round(LATER.timestamp() * 1e9)
    venue.fill()

    assert (made.status_code, made.json()["status"]) == (201, "SUGGESTED")
    assert all(check["ok"] for check in waiting["checks_now"])
    assert (signed.status_code, signed.json()["applied"]) == (200, True)
    done = dana.get(way).json()
    assert done["status"] == "FILLED"
    assert [leg["state"] for leg in done["legs"]] == ["FILLED"] * 3
    assert [fill["side"] for fill in done["fills"]] == ["BUY"] * 3
    kinds = [step["kind"] for step in done["timeline"]]
    assert kinds == ["SUGGESTED", "APPROVED", *["LEG_FILLED"] * 3, "FILLED"]
    assert done["checks_now"] is None
    held = dana.get("/api/v1/positions").json()
    assert held["events"][0]["event_id"] == "7"
    assert Decimal(held["events"][0]["worst_loss"]) == 0
    assert Decimal(held["totals"]["locked"]) == Decimal(done["spent"])


def test_key_gives_one_intent_and_the_same_answer(dana: Caller, signal: Signal) -> None:
    body = {"signal": signal.key}

    first = dana.post("/api/v1/intents", body, key="k")
    again = dana.post("/api/v1/intents", body, key="k")
    other = dana.post("/api/v1/intents", {**body, "capital": "20"}, key="k")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() | {"replayed": True} == again.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert OrderIntent.objects.count() == 1


@pytest.mark.parametrize("path", ["/api/v1/intents", "/api/v1/intents/1/approve"])
@pytest.mark.parametrize("key", [None, "k" * 256])
def test_key_is_required_and_has_a_length(dana: Caller, signal: Signal, path, key) -> None:
    bodies = {"/api/v1/intents": {"signal": signal.key}}

    response = dana.post(path, bodies.get(path, {"plan_hash": "x"}), key=key)

    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key")


# --- refusals ------------------------------------------------------------------------


def test_proposer_is_refused_and_the_audit_has_the_same_words(dana: Caller, signal) -> None:
    approver("dana")
    intent = suggested(signal, dana.user)

    response = dana.post(
        f"/api/v1/intents/{intent.pk}/approve", {"plan_hash": intent.plan_hash}, key="k"
    )

    told = refusal(response, 403, "four_eyes")
    assert told["detail"] == (
        "Second person: dana (limit: someone other than dana). "
        "Ask another approver; who proposes an order never approves it."
    )
    assert last_audit().kind == "intent.approval_refused"
    assert last_audit().data["reasons"] == told["reasons"]
    assert last_audit().data["checks"] == told["checks"]


def test_changed_plan_is_refused_with_the_difference(dana, avi, signal) -> None:
    intent = suggested(signal, dana.user)
    shown = intent.plan_hash
    revised = dana.post(f"/api/v1/intents/{intent.pk}/revise", {"capital": "40"})

    response = avi.post(f"/api/v1/intents/{intent.pk}/approve", {"plan_hash": shown}, key="k")

    assert revised.json()["applied"]
    told = refusal(response, 409, "plan")
    assert any(change["what"].endswith("size") for change in told["difference"])
    assert told["intent_status"] == "SUGGESTED"


def test_kill_switch_is_503_and_a_limit_is_409(dana, avi, signal) -> None:
    intent = suggested(signal, dana.user)
    way, body = f"/api/v1/intents/{intent.pk}/approve", {"plan_hash": intent.plan_hash}
    Policy.objects.update(daily_notional=10)

    over = refusal(avi.post(way, body, key="1"), 409, "daily_notional")
    killswitch.trip(reason="odd fills", at=LATER, by=avi.user)
    killed = refusal(avi.post(way, body, key="2"), 503, "kill_switch")

    assert "Daily volume: 92.53 USD with this one (limit: 10.00 USD)" in over["detail"]
    assert "on: odd fills" in killed["detail"]


def test_suggestion_that_fails_a_check_is_kept_with_its_reasons(dana, signal) -> None:
    Policy.objects.update(signal_age_seconds=0)

    response = dana.post("/api/v1/intents", {"signal": signal.key}, key="k")

    told = response.json()
    assert (response.status_code, told["status"], told["applied"]) == (201, "REJECTED", False)
    assert told["reasons"] == [c["sentence"] for c in told["checks"] if not c["ok"]] != []


def test_second_suggestion_for_a_signal_is_a_conflict(dana, signal) -> None:
    suggested(signal, dana.user)

    refusal(dana.post("/api/v1/intents", {"signal": signal.key}, key="k"), 409, "duplicate")


def test_rejection_needs_a_reason_and_a_cancel_tells_who(dana, avi, signal) -> None:
    intent = suggested(signal, dana.user)
    way = f"/api/v1/intents/{intent.pk}"

    refusal(avi.post(f"{way}/reject", {"reason": " "}), 400, "reason")
    cancelled = dana.post(f"{way}/cancel", {"reason": "no more"})
    refusal(avi.post(f"{way}/reject", {"reason": "late"}), 409, "status")

    assert cancelled.json()["status"] == "CANCELLED"
    assert dana.get(way).json()["reason"] == "cancelled by dana: no more"


def test_busy_desk_says_when_to_ask_again(avi, dana, signal, monkeypatch) -> None:
    intent = suggested(signal, dana.user)

    def busy(*args: object, **given: object) -> None:
        raise DeskBusy("lock")

    monkeypatch.setattr(intents, "approve", busy)
    response = avi.post(f"/api/v1/intents/{intent.pk}/approve", {"plan_hash": "x"}, key="k")

    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert response.json()["code"] == "desk_busy"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ([], "body"),
        ({}, "signal"),
        ({"signal": "a", "price": 1}, "price"),
        ({"signal": "a", "capital": "NaN"}, "capital"),
        ({"signal": "a", "capital": "-1"}, "capital"),
        ({"signal": "a", "capital": 1e300}, "capital"),
        ({"signal": "a\0"}, "signal"),
        ({"signal": "a", "rehearsal": "ALL"}, "rehearsal"),
    ],
)
def test_body_that_cannot_be_is_refused_by_name(dana: Caller, body, name) -> None:
    response = dana.post("/api/v1/intents", body, key="k")

    assert response.status_code == 400
    assert [error["name"] for error in response.json()["errors"]] == [name]


def test_what_is_not_there_is_404(dana, avi) -> None:
    for response in (
        dana.post("/api/v1/intents", {"signal": "none"}, key="k"),
        dana.get("/api/v1/intents/77"),
        avi.post("/api/v1/intents/77/approve", {"plan_hash": "x"}, key="k"),
        avi.post("/api/v1/intents/77/reject", {"reason": "x"}),
        avi.post("/api/execution/confirm/77"),
        dana.post("/api/execution/intent", {"signal_id": 77}),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_bet_is_ordered_as_what_it_is(dana: Caller) -> None:
    view, bet = endgame(event_id="9")
    show(view)

    seen = dana.post("/api/v1/intents/preview", {"signal": bet.key}).json()
    made = dana.post(
        "/api/v1/intents", {"signal": bet.key, "plan_hash": seen["plan"]["hash"]}, key="k"
    )  # fmt: skip

    plan = seen["plan"]
    assert (plan["structure"], plan["min_payoff"]) == ("bet", "0.000000")
    assert plan["worst_loss"] == plan["notional"]
    assert plan["bet"]["events"] == bet.payload["facts"]["events"]
    assert Decimal(plan["expected_gain"]) > 0 > Decimal(plan["profit"])
    assert made.status_code == 201
    assert OrderIntent.objects.get(signal=bet).status == "SUGGESTED"


def test_observation_is_no_order_and_the_refusal_says_so(dana, signal) -> None:
    """A spike has a leg to look at and nothing that is certain to pay."""
    payload = signal.payload | {
        "kind": "spike", "legs": signal.payload["legs"][:1], "min_payoff": "0.000000",
    }  # fmt: skip
    Signal.objects.update(payload=payload, kind="spike", level="P2")

    seen = dana.post("/api/v1/intents/preview", {"signal": signal.key}).json()
    told = refusal(dana.post("/api/v1/intents", {"signal": signal.key}, key="k"), 409, "executable")

    assert seen["plan"] is None
    assert "a direction, not an order" in told["detail"]


# --- roles ---------------------------------------------------------------------------

# method, path, body, and who may do it; everybody else is refused with 403
MATRIX = (
    ("get", "/api/v1/intents", None, ANY_ROLE),
    ("get", "/api/v1/intents/{id}", None, ANY_ROLE),
    ("get", "/api/v1/positions", None, ANY_ROLE),
    ("get", "/api/v1/risk", None, ANY_ROLE),
    ("get", "/api/execution/intents", None, ANY_ROLE),
    ("post", "/api/v1/intents/preview", {"signal": "{other}"}, ANY_ROLE),
    ("post", "/api/v1/intents", {"signal": "{other}"}, "trader"),
    ("post", "/api/execution/intent", {"signal_id": "{other_id}"}, "trader"),
    ("post", "/api/v1/intents/{id}/revise", {}, ""),  # only its proposer
    ("post", "/api/v1/intents/{id}/cancel", {}, "approver"),
    ("post", "/api/v1/intents/{id}/approve", {"plan_hash": "{hash}"}, "approver"),
    ("post", "/api/v1/intents/{id}/reject", {"reason": "no"}, "approver"),
    ("post", "/api/execution/confirm/{id}", {}, "approver"),
    ("post", "/api/v1/risk/kill-switch", {"tripped": True, "reason": "x"}, "trader approver admin"),
    ("post", "/api/v1/risk/kill-switch", {"tripped": False, "reason": "x"}, "approver admin"),
)  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"), MATRIX, ids=lambda value: str(value)[:40]
)
def test_each_role_does_what_it_may(role, method, path, body, allowed, dana, signal) -> None:
    view, other = basket(event_id="8", key="b" * 32)
    show(view)
    intent = suggested(signal, dana.user)
    caller = Caller(person(f"the-{role}", *([] if role == "none" else [role])))
    words = {"{id}": intent.pk, "{hash}": intent.plan_hash, "{other}": other.key}
    path = path.replace("{id}", str(intent.pk))
    given = {k: words.get(v, v) if isinstance(v, str) else v for k, v in (body or {}).items()}
    given |= {"signal_id": other.pk} if "signal_id" in given else {}

    response = caller.get(path) if method == "get" else caller.post(path, given, key="k")

    assert response.status_code == (200 if role in allowed.split() else 403) or (
        response.status_code == 201 and role in allowed.split()
    ), response.content
    if method == "post" and response.status_code == 403 and role != "none":
        refusal(response, 403, "permission")


def test_anonymous_is_asked_to_log_in_everywhere(client: Client) -> None:
    for _, path, _, _ in MATRIX:
        assert client.get(path.replace("{id}", "1")).status_code == 401, path


def test_post_without_csrf_token_is_refused(dana: Caller, signal: Signal) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = dana.client.cookies

    response = strict.post(
        "/api/v1/intents", {"signal": signal.key}, content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )  # fmt: skip

    assert response.status_code == 403
    assert not OrderIntent.objects.exists()


# --- lists ---------------------------------------------------------------------------


def test_intents_come_newest_first_page_by_page(dana: Caller) -> None:
    made = []
    for number in range(5):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        made.append(suggested(signal, dana.user).pk)
    seen: list[int] = []
    way = "/api/v1/intents?page_size=2&status=SUGGESTED"

    while way:
        told = dana.get(way).json()
        seen += [row["id"] for row in told["results"]]
        way = told["next"]

    assert seen == made[::-1]
    assert dana.get("/api/v1/intents?event=22").json()["results"][0]["event_id"] == "22"
    assert dana.get("/api/v1/intents?proposer=avi").json()["results"] == []
    assert dana.get("/api/v1/intents?state=open").json()["code"] == "unknown_parameter"


def test_list_asks_the_database_a_fixed_number_of_times(dana, django_assert_num_queries) -> None:
    for number in range(4):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        suggested(signal, dana.user)

    with django_assert_num_queries(2 + 2 + 1):  # login, permissions, the list
        assert dana.get("/api/v1/intents").status_code == 200


def test_risk_tells_limits_with_their_use(dana, avi, signal) -> None:
    approved(signal, dana.user, avi.user)
    Policy.objects.update(daily_notional=500)

    told = dana.get("/api/v1/risk").json()

    limits = {limit["name"]: limit for limit in told["limits"]}
    assert limits["daily_notional"] == {
        "name": "daily_notional",
        "label": "Daily volume",
        "meaning": "USD approved per UTC day.",
        "allowed": "500.00",
        "policy": "500.00",
        "ceiling": "1000",
        "setting": "EXEC_MAX_DAILY_NOTIONAL",
        "used": "92.523000",
        "unit": "USD",
    }
    assert (limits["concurrent_orders"]["used"], limits["order_notional"]["used"]) == ("1", None)
    assert [row["event"] for row in told["exposures"]] == ["Who wins?"]
    assert told["kill_switch"] == {"tripped": False, "reason": "", "readable": True}


def test_kill_switch_is_rearmed_by_another_person(dana, avi) -> None:
    way = "/api/v1/risk/kill-switch"
    tripped = avi.post(way, {"tripped": True, "reason": "odd"})

    refusal(avi.post(way, {"tripped": False, "reason": "fine"}), 403, "four_eyes")
    rearmed = Caller(approver("bob")).post(way, {"tripped": False, "reason": "fine"})

    assert tripped.json()["kill_switch"]["reason"] == "odd"
    assert rearmed.json()["kill_switch"]["tripped"] is False


# --- the seed's paths ----------------------------------------------------------------


def test_seeds_flow_has_the_seeds_shapes(dana, avi, signal) -> None:
    made = dana.post("/api/execution/intent", {"signal_id": signal.pk, "ttl_secs": 60}).json()
    listed = dana.get("/api/execution/intents?status=suggested").json()["items"]
    confirmed = avi.post(f"/api/execution/confirm/{made['intent_id']}").json()

    assert made["status"] == "suggested"
    assert made["detail_json"]["checks"]["approved"] is True
    assert [row["intent_id"] for row in listed] == [made["intent_id"]]
    assert (listed[0]["side"], listed[0]["policy_id"], listed[0]["ttl_secs"]) == ("buy", 1, 180)
    assert listed[0]["qty"] == pytest.approx(float(made["detail_json"]["plan"]["legs"][0]["size"]))
    assert (confirmed["intent_id"], confirmed["status"]) == (made["intent_id"], "approved")
    assert confirmed["detail_json"]["checks"] == {
        "approved": True,
        "reasons": [],
        "rows": confirmed["detail_json"]["checks"]["rows"],
    }


def test_seeds_confirm_says_why_not_in_the_desks_words(dana, avi, signal) -> None:
    intent = suggested(signal, dana.user)
    Policy.objects.update(concurrent_orders=0)

    told = avi.post(f"/api/execution/confirm/{intent.pk}").json()

    assert told["status"] == "suggested"
    assert told["detail_json"]["checks"]["approved"] is False
    assert told["detail_json"]["checks"]["reasons"] == last_audit().data["reasons"]


def test_seeds_confirm_signs_no_plan_that_was_revised_unseen(dana, avi, signal) -> None:
    intent = suggested(signal, dana.user)
    intents.revise(intent.pk, by=dana.user, at=LATER, capital=Decimal(40))
    way = f"/api/execution/confirm/{intent.pk}"

    blind = avi.post(way).json()
    seen = avi.post(way, {"plan_hash": OrderIntent.objects.get().plan_hash}).json()

    assert blind["detail_json"]["checks"]["approved"] is False
    assert "The plan has changed" in blind["detail_json"]["checks"]["reasons"][0]
    assert seen["status"] == "approved"


@pytest.mark.parametrize("name", ["qty_override", "limit_price_override"])
def test_seeds_overrides_are_refused_not_ignored(dana, signal, name) -> None:
    response = dana.post("/api/execution/intent", {"signal_id": signal.pk, name: 3})

    assert response.status_code == 400
    assert response.json()["errors"][0]["name"] == name


# --- the schema ----------------------------------------------------------------------


def test_schema_has_every_path_without_a_warning() -> None:
    out = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)

    for path in ("/api/v1/intents:", "/api/v1/risk:", "/api/execution/confirm/{intent_id}:"):
        assert path in out.getvalue()


def test_answers_fit_the_schema(dana, avi) -> None:
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = approved(signal, dana.user, avi.user, at=venue.now)
    venue.fill()
    assert Fill.objects.exists()
    other_view, other = basket(event_id="8", key="b" * 32)
    show(other_view)
    waiting = suggested(other, dana.user)
    schema = strict_schema()

    def fits(response: Any, path: str, method: str, status: str) -> None:
        kind = response["Content-Type"].partition(";")[0]
        answers = schema["paths"][path][method]["responses"]
        assert_fits(response.json(), answers[status], kind, schema)

    one = f"/api/v1/intents/{intent.pk}"
    fits(dana.get("/api/v1/intents"), "/api/v1/intents", "get", "200")
    fits(dana.get(one), "/api/v1/intents/{intent_id}", "get", "200")
    fits(dana.get("/api/v1/positions"), "/api/v1/positions", "get", "200")
    fits(dana.get("/api/v1/risk"), "/api/v1/risk", "get", "200")
    fits(dana.get("/api/execution/intents"), "/api/execution/intents", "get", "200")
    preview = dana.post("/api/v1/intents/preview", {"signal": other.key})
    fits(preview, "/api/v1/intents/preview", "post", "200")
    refused = avi.post(f"{one}/approve", {"plan_hash": intent.plan_hash}, key="k")
    fits(refused, "/api/v1/intents/{intent_id}/approve", "post", "409")
    signed = avi.post(
        f"/api/v1/intents/{waiting.pk}/approve", {"plan_hash": waiting.plan_hash}, key="k2"
    )
    fits(signed, "/api/v1/intents/{intent_id}/approve", "post", "200")
