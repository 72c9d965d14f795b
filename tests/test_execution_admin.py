"""The admin as a desk of its own: orders decided one by one and at once, limits, switches."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal as D
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from alerts.models import AuditEntry
from execution import admin as desk_admin
from execution import intents
from execution.invariants import invariants
from execution.models import Fill, IntentEvent, IntentLeg, LiveBook, OrderIntent, PositionEntry
from risk import breakers, killswitch, limits
from risk.locking import DeskBusy
from risk.models import Breaker, KillSwitch, Policy, PolicyChange
from signals.models import Signal
from tests.desk_cast import (
    NOW,
    Venue,
    approved,
    approver,
    basket,
    person,
    prepare,
    show,
    suggested,
    trader,
)

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
LATER = NOW + timedelta(seconds=1)
DESK = (OrderIntent, IntentEvent, IntentLeg, Fill, PositionEntry, LiveBook, Policy, PolicyChange,
        Breaker, KillSwitch)  # fmt: skip
LIST = "/admin/execution/orderintent/"


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the web live at the time of the cast."""
    prepare()
    monkeypatch.setattr("django.utils.timezone.now", lambda: LATER)


def staff(user: User) -> Client:
    """Log somebody of the desk in to the admin."""
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dana() -> User:
    return trader("dana")


@pytest.fixture
def avi() -> Client:
    return staff(approver("avi"))


@pytest.fixture
def waiting(dana: User) -> list[OrderIntent]:
    """Three suggestions in three events."""
    found = []
    for number in range(3):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        found.append(suggested(signal, dana))
    return found


def words_of(response: Any) -> str:
    text = " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())
    return re.sub(r" ([,.:])", r"\1", text)


def decide(act: str) -> str:
    return reverse("admin:execution_orderintent_decide", args=[act])


def shown(client: Client, act: str, rows: list[OrderIntent]) -> Any:
    """Choose rows on the list and come to the confirmation page."""
    form = {"action": act, "_selected_action": [row.pk for row in rows]}
    response = client.post(LIST, form, follow=True)
    assert response.redirect_chain, "the action leads to a page of its own"
    return response


def form_on(page: Any, **changes: Any) -> dict[str, Any]:
    """Return what the page would send with everything ticked."""
    text = page.content.decode()
    fields = re.findall(r'<input type="(?:hidden|checkbox)" name="([^"]+)" value="([^"]*)"', text)
    form: dict[str, Any] = {}
    for name, value in fields:
        form.setdefault(name, []).append(value)
    return {**form, "count": str(len(form.get("chosen", []))), **changes}


def statuses() -> list[str]:
    return list(OrderIntent.objects.order_by("id").values_list("status", flat=True))


# --- approving -----------------------------------------------------------------------


def test_several_are_approved_on_a_page_that_checks_them_again(avi, waiting) -> None:
    page = shown(avi, "approve", waiting)

    told = words_of(page)
    assert "3 of 3 can be approved, for $277.57 together" in told
    assert told.count("pass") > 30 and waiting[0].plan_hash in told
    assert statuses() == ["SUGGESTED"] * 3

    after = avi.post(page.request["PATH_INFO"], form_on(page), follow=True)

    # Two may be open at once, so the third is refused in the words of the check.
    assert statuses() == ["APPROVED", "APPROVED", "SUGGESTED"]
    told = words_of(after)
    assert f"Intent {waiting[0].pk} approved." in told
    assert f"Intent {waiting[2].pk} not approved. Open orders: 3 with this one (limit: 2)." in told
    assert [intent.approver.username for intent in OrderIntent.objects.exclude(approver=None)] == [
        "avi"
    ] * 2


def test_one_is_approved_from_its_own_page(avi, waiting) -> None:
    intent = waiting[0]
    page = avi.get(f"{decide('approve')}?id={intent.pk}")

    after = avi.post(decide("approve"), form_on(page), follow=True)

    assert statuses()[0] == "APPROVED"
    assert after.redirect_chain[-1][0] == f"{LIST}{intent.pk}/change/"
    assert "Approved" in words_of(after) or "APPROVED" in words_of(after)


def test_looking_changes_nothing(avi, waiting) -> None:
    before = AuditEntry.objects.count()

    shown(avi, "approve", waiting)
    avi.get(f"{LIST}{waiting[0].pk}/change/")

    assert AuditEntry.objects.count() == before
    assert statuses() == ["SUGGESTED"] * 3


@pytest.mark.parametrize("count", ["", "2", "three"])
def test_number_of_orders_is_typed_where_there_are_several(avi, waiting, count) -> None:
    page = shown(avi, "approve", waiting)

    again = avi.post(page.request["PATH_INFO"], form_on(page, count=count))

    assert "Type how many orders you decide on: 3 are chosen." in words_of(again)
    assert statuses() == ["SUGGESTED"] * 3


def test_plan_that_changed_after_it_was_shown_is_not_signed(avi, dana, waiting) -> None:
    page = avi.get(f"{decide('approve')}?id={waiting[0].pk}")
    intents.revise(waiting[0].pk, by=dana, at=LATER, capital=D(40))

    after = avi.post(decide("approve"), form_on(page), follow=True)

    told = words_of(after)
    assert "The plan has changed. Read the difference, then decide on the new one." in told
    assert "Changed: Outcome 0 Yes: size:" in told
    assert statuses()[0] == "SUGGESTED"


def test_hash_that_was_made_up_is_refused(avi, waiting) -> None:
    page = avi.get(f"{decide('approve')}?id={waiting[0].pk}")
    forged = form_on(page) | {f"hash-{waiting[0].pk}": "f" * 64}

    avi.post(decide("approve"), forged)

    assert statuses()[0] == "SUGGESTED"


def test_pressing_twice_approves_once_and_says_the_same(avi, waiting) -> None:
    page = avi.get(f"{decide('approve')}?id={waiting[0].pk}")
    form = form_on(page)

    first = words_of(avi.post(decide("approve"), form, follow=True))
    second = words_of(avi.post(decide("approve"), form, follow=True))

    assert f"Intent {waiting[0].pk} approved." in first
    assert f"Intent {waiting[0].pk} approved." in second
    assert IntentEvent.objects.filter(kind="APPROVED").count() == 1


def test_own_order_is_listed_as_impossible_and_refused_when_forced(waiting, dana) -> None:
    both = approver("dana")
    client = staff(both)
    page = client.get(f"{decide('approve')}?id={waiting[0].pk}")

    told = words_of(page)
    forced = {"chosen": [waiting[0].pk], f"hash-{waiting[0].pk}": waiting[0].plan_hash, "key": "k"}
    after = words_of(client.post(decide("approve"), forced, follow=True))

    assert "Cannot be approved now." in told
    assert "who proposes an order never approves it" in told
    assert 'name="chosen"' not in page.content.decode()
    assert "who proposes an order never approves it" in after
    assert statuses()[0] == "SUGGESTED"
    assert AuditEntry.objects.latest("id").kind == "intent.approval_refused"


def test_superuser_is_no_way_around_the_second_person(waiting) -> None:
    root = User.objects.create_superuser("root")
    view, signal = basket(event_id="31", key="e" * 32)
    show(view)
    own = suggested(signal, root)
    client = staff(root)

    page = client.get(f"{decide('approve')}?id={own.pk}")
    forced = {"chosen": [own.pk], f"hash-{own.pk}": own.plan_hash, "key": "k"}
    client.post(decide("approve"), forced)

    assert "Cannot be approved now." in words_of(page)
    own.refresh_from_db()
    assert own.status == "SUGGESTED"


def test_single_operator_may_and_the_row_says_so(waiting, dana, settings) -> None:
    settings.MPX_SINGLE_OPERATOR = True
    client = staff(approver("dana"))
    page = client.get(f"{decide('approve')}?id={waiting[0].pk}")

    after = client.post(decide("approve"), form_on(page), follow=True)

    assert statuses()[0] == "APPROVED"
    assert "single operator" in words_of(after)


@pytest.mark.parametrize("act", ["approve", "reject", "cancel"])
def test_viewer_with_staff_rights_decides_nothing(waiting, act) -> None:
    client = staff(person("vera", "viewer"))
    pk = waiting[0].pk

    listed = client.post(LIST, {"action": act, "_selected_action": [pk]}, follow=True)
    forced = client.post(
        decide(act),
        {"chosen": [pk], f"hash-{pk}": waiting[0].plan_hash, "key": "k", "reason": "x"},
        follow=True,
    )

    assert "No action selected." in words_of(listed)
    assert f'value="{act}"' not in listed.content.decode()
    assert "vera does not have it" in words_of(forced)
    assert statuses()[0] == "SUGGESTED"


def test_busy_desk_is_told_and_nothing_is_done(avi, waiting, monkeypatch) -> None:
    page = avi.get(f"{decide('reject')}?id={waiting[0].pk}")

    def busy(*args: object, **given: object) -> None:
        raise DeskBusy("lock")

    monkeypatch.setitem(desk_admin.ACTS, "reject", replace(desk_admin.ACTS["reject"], step=busy))

    after = avi.post(decide("reject"), form_on(page, reason="no"), follow=True)

    assert "The desk is busy with another order" in words_of(after)


# --- rejecting and cancelling --------------------------------------------------------


def test_rejection_needs_a_reason_which_the_proposer_reads(avi, waiting) -> None:
    page = shown(avi, "reject", waiting[:2])

    again = avi.post(page.request["PATH_INFO"], form_on(page, reason=" "))
    assert "Say why; whoever asked will read it." in words_of(again)
    avi.post(page.request["PATH_INFO"], form_on(page, reason="too thin"))

    assert statuses() == ["REJECTED", "REJECTED", "SUGGESTED"]
    assert OrderIntent.objects.order_by("id")[0].reason == "too thin"


def test_trader_cancels_only_own_orders(waiting, dana) -> None:
    page = staff(dana).get(f"{decide('cancel')}?id={waiting[0].pk}")
    staff(dana).post(decide("cancel"), form_on(page, reason="changed my mind"))
    other = staff(trader("tom")).post(
        decide("cancel"), {"chosen": [waiting[1].pk], "key": "k"}, follow=True
    )

    assert statuses() == ["CANCELLED", "SUGGESTED", "SUGGESTED"]
    assert "needs the permission approve_intent, or to have proposed it" in words_of(other)


# --- nothing is edited ---------------------------------------------------------------


@pytest.fixture
def filled(dana: User) -> Signal:
    """One order that was filled, a change of limits, an open breaker."""
    view, signal = basket()
    venue = Venue([view]).watched()
    avi = approver("avi")
    approved(signal, dana, avi, at=venue.now)
    venue.fill()
    limits.change(by=avi, at=LATER, reason="calm", daily_notional=D(500))
    breakers.trip(scope="GLOBAL", reason="odd", at=LATER)
    return signal


@pytest.mark.parametrize("model", DESK, ids=lambda model: model.__name__)
def test_no_row_of_the_desk_is_added_changed_or_deleted_by_hand(filled, model) -> None:
    client = staff(User.objects.create_superuser("root"))
    meta, row = model._meta, model._default_manager.order_by("pk").first()
    assert row is not None
    base = f"admin:{meta.app_label}_{meta.model_name}"
    values = {field.name: "1" for field in meta.fields} | {"status": "FILLED", "state": "CLOSED"}
    before = model._default_manager.order_by("pk").values()[0]

    assert client.post(reverse(f"{base}_add"), values).status_code == 403
    client.post(reverse(f"{base}_change", args=[row.pk]), values)
    assert client.post(reverse(f"{base}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403

    now = model._default_manager.order_by("pk").values()[0]
    assert now == before or model in (Policy, PolicyChange, Breaker, KillSwitch)
    assert [broken for broken in invariants(LATER) if broken.rule != "p1_is_alerted"] == []


@pytest.mark.parametrize("model", DESK, ids=lambda model: model.__name__)
def test_every_page_opens_without_inline_script_or_style(filled, model) -> None:
    client = staff(User.objects.create_superuser("root"))
    meta, row = model._meta, model._default_manager.order_by("pk").first()
    assert row is not None
    base = f"admin:{meta.app_label}_{meta.model_name}"

    for way in (reverse(f"{base}_changelist"), reverse(f"{base}_change", args=[row.pk])):
        response = client.get(way, follow=True)
        assert response.status_code == 200, way
        page = response.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*json)", page), way
        assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", page), way


def test_page_of_an_order_has_the_evidence(filled, avi) -> None:
    intent = OrderIntent.objects.get()

    told = words_of(avi.get(f"{LIST}{intent.pk}/change/"))

    assert "Proposed by dana" in told and "approved by avi" in told
    assert intent.plan_hash in told
    assert told.count("BUY") == 3
    for step in ("suggested by dana", "approved by avi", "leg filled by system"):
        assert step in told


def test_list_takes_the_same_queries_for_many_rows(avi, waiting) -> None:
    def asked(way: str) -> int:
        with CaptureQueriesContext(connection) as context:
            assert avi.get(way).status_code == 200
        return len(context)

    assert asked(f"{LIST}?q={waiting[0].pk}") == asked(f"{LIST}?status__exact=SUGGESTED")


# --- limits --------------------------------------------------------------------------


def policy_form(client: Client, **changes: str) -> dict[str, str]:
    page = client.get("/admin/risk/policy/1/change/").content.decode()
    fields = re.findall(r'<input type="number" name="([^"]+)"(?: value="([^"]*)")?', page)
    assert len(fields) == len(limits.LIMITS)
    return {**dict(fields), "reason": "calmer", **changes}


def test_tightening_counts_at_once(avi) -> None:
    form = policy_form(avi, daily_notional="400", slippage_bps="20")

    after = words_of(avi.post("/admin/risk/policy/1/change/", form, follow=True))

    assert "The new limits count from now on." in after
    assert (limits.bounds().daily_notional, limits.bounds().slippage_bps) == (400, 20)
    change = PolicyChange.objects.get()
    assert (change.state, change.before) == (
        "APPLIED",
        {"daily_notional": None, "slippage_bps": None},
    )


def test_loosening_waits_for_another_person(avi) -> None:
    Policy.objects.update(daily_notional=400)
    form = policy_form(avi, daily_notional="800")

    after = words_of(avi.post("/admin/risk/policy/1/change/", form, follow=True))
    change = PolicyChange.objects.get()
    way = f"/admin/risk/policychange/{change.pk}/change/"
    own = words_of(avi.post(way, {"act": "confirm"}, follow=True))
    assert limits.bounds().daily_notional == 400
    other = words_of(staff(approver("bob")).post(way, {"act": "confirm"}, follow=True))

    assert "waits for a second person" in after
    assert "Refused. Second person: avi (limit: someone other than avi)." in own
    assert "Confirmed. The new limits count from now on." in other
    assert limits.bounds().daily_notional == 800


def test_refused_change_keeps_the_limits(avi) -> None:
    Policy.objects.update(daily_notional=400)
    avi.post("/admin/risk/policy/1/change/", policy_form(avi, daily_notional="800"))
    way = f"/admin/risk/policychange/{PolicyChange.objects.get().pk}/change/"

    without = words_of(avi.post(way, {"act": "refuse", "reason": ""}, follow=True))
    avi.post(way, {"act": "refuse", "reason": "not now"})

    assert "Say why it is refused" in without
    assert PolicyChange.objects.get().state == "REFUSED"
    assert limits.bounds().daily_notional == 400


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"daily_notional": "1000.01"}, "must be from 0 to 1000 (EXEC_MAX_DAILY_NOTIONAL"),
        ({"concurrent_orders": "3"}, "must be from 0 to 2"),
        ({"depth_share": "0"}, "must be from 0.01 to 1"),
        ({"book_age_ms": ""}, "This field is required"),
        ({"daily_notional": "10", "reason": ""}, "This field is required"),
        ({"daily_notional": "NaN"}, "Enter a number"),
        ({}, "these are the limits already"),
    ],
)
def test_limit_that_cannot_be_is_refused_on_the_form(avi, changes, told) -> None:
    response = avi.post("/admin/risk/policy/1/change/", policy_form(avi, **changes))

    assert told in words_of(response)
    assert not PolicyChange.objects.exists()


def test_whoever_may_not_edit_limits_is_refused(dana) -> None:
    client = staff(dana)
    page = client.get("/admin/risk/policy/1/change/")
    form = dict.fromkeys(limits.LIMITS, "1") | {"reason": "mine"}

    after = words_of(client.post("/admin/risk/policy/1/change/", form, follow=True))

    assert "Changing limits needs the permission edit_policy." in words_of(page)
    assert "Refused. Permission: dana does not have it" in after
    assert not PolicyChange.objects.exists()


# --- breakers and the kill switch ----------------------------------------------------


def test_breaker_is_opened_and_closed_by_hand_with_a_reason(avi) -> None:
    avi.post("/admin/risk/breaker/trip/", {"scope": "RULE", "subject": "DUTCH", "reason": "odd"})
    row = Breaker.objects.get()
    assert (row.state, row.reopen_at) == ("OPEN", None)
    way = f"/admin/risk/breaker/{row.pk}/change/"

    without = avi.post(way, {"reason": ""})
    assert Breaker.objects.get().state == "OPEN"
    after = words_of(avi.post(way, {"reason": "cause found"}, follow=True))

    assert "This field is required" in words_of(without)
    assert "It is closed; orders pass again." in after
    assert "breaker.closed by avi: cause found" in after


@pytest.mark.parametrize(("scope", "subject"), [("GLOBAL", "x"), ("RULE", ""), ("ALL", "x")])
def test_breaker_of_nothing_cannot_be_opened(avi, scope, subject) -> None:
    form = {"scope": scope, "subject": subject, "reason": "x"}

    assert avi.post("/admin/risk/breaker/trip/", form).status_code == 200
    assert not Breaker.objects.exists()


def test_trader_cannot_reset_a_breaker(dana) -> None:
    breakers.trip(scope="GLOBAL", reason="odd", at=LATER)
    way = f"/admin/risk/breaker/{Breaker.objects.get().pk}/change/"

    after = words_of(staff(dana).post(way, {"reason": "please"}, follow=True))

    assert "Refused. Permission: dana does not have it" in after
    assert Breaker.objects.get().state == "OPEN"


def test_kill_switch_is_tripped_with_a_reason_and_rearmed_by_another(avi, dana) -> None:
    way = "/admin/risk/killswitch/1/change/"
    avi.post(way, {"act": "trip", "reason": ""})
    assert not killswitch.status().tripped
    tripped = words_of(avi.post(way, {"act": "trip", "reason": "odd fills"}, follow=True))
    own = words_of(avi.post(way, {"act": "rearm", "reason": "fine"}, follow=True))
    assert killswitch.status().tripped
    other = words_of(
        staff(approver("bob")).post(way, {"act": "rearm", "reason": "fine"}, follow=True)
    )

    assert "It is on: nothing is approved or filled." in tripped and "ON: odd fills" in tripped
    assert "Refused. Second person: avi" in own
    assert "It is off: orders pass again." in other
