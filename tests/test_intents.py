"""The steps of an intent: who may, when, with which plan, and what is written down."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal as D

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from alerts import journal
from alerts.models import AuditEntry, FeedEntry, OutboxEntry
from execution import intents
from execution.idempotency import BadKey, KeyReused, forget_old
from execution.invariants import invariants
from execution.models import IdempotencyKey, IntentEvent, NeverChanges, OrderIntent
from execution.plans import read_plan
from risk import killswitch, limits
from risk.models import Policy
from signals.models import Signal
from tests import forger
from tests.desk_cast import (
    NOW,
    approved,
    approver,
    basket,
    close,
    person,
    prepare,
    show,
    suggested,
    trader,
    view_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
Status = OrderIntent.Status
LATER = NOW + timedelta(seconds=1)


@pytest.fixture(autouse=True)
def desk():
    prepare()


@pytest.fixture
def signal():
    view, signal = basket()
    show(view)
    return signal


@pytest.fixture
def dana() -> User:
    return trader("dana")


@pytest.fixture
def avi() -> User:
    return approver("avi")


def approve(intent: OrderIntent, by: User, **given) -> intents.Answer:
    values = {"at": LATER, "plan_hash": intent.plan_hash, **given}
    return intents.approve(intent.pk, by=by, **values)


def tighten(**values) -> None:
    """Set limits as if two people had agreed on them."""
    Policy.objects.update(**values)


# --- previewing ----------------------------------------------------------------------


def test_preview_creates_nothing(signal, django_assert_max_num_queries):
    before = AuditEntry.objects.count()

    with django_assert_max_num_queries(24):
        seen = intents.preview(signal, at=NOW)

    assert seen.verdict.ok and seen.plan
    assert seen.plan.min_payoff - seen.plan.cost == seen.plan.profit > 7
    assert not OrderIntent.objects.exists()
    assert AuditEntry.objects.count() == before


def test_preview_without_live_books_says_so():
    _, signal = basket()

    seen = intents.preview(signal, at=NOW)

    assert seen.plan is None
    assert seen.verdict.names == ("EXECUTABLE",)


def test_preview_stays_within_the_order_size(signal):
    tighten(order_notional=D(50))

    plan = intents.preview(signal, at=NOW).plan
    smaller = intents.preview(signal, at=NOW, capital=D(20)).plan

    assert plan and D(49) < plan.notional <= 50
    assert smaller and D(19) < smaller.notional <= 20


def test_preview_shows_refusals_with_its_plan(signal):
    killswitch.trip(reason="drill", at=NOW)

    seen = intents.preview(signal, at=NOW)

    assert seen.plan is not None
    assert seen.verdict.names == ("KILL_SWITCH",)
    assert "drill" in seen.row()["reasons"][0]


# --- suggesting ----------------------------------------------------------------------


def test_suggestion_keeps_the_plan_and_every_check(signal, dana):
    intent = suggested(signal, dana)

    assert intent.status == Status.SUGGESTED
    assert read_plan(intent.plan).hash == intent.plan_hash
    assert intent.expires_at == NOW + timedelta(seconds=180)
    assert all(check["ok"] for check in intent.verdict)
    assert {"ORDER_NOTIONAL", "SLIPPAGE", "KILL_SWITCH"} <= {c["name"] for c in intent.verdict}


def test_suggestion_is_told_everywhere_at_once(signal, dana):
    intent = suggested(signal, dana)

    event = intent.events.get()
    audit = AuditEntry.objects.get(pk=event.audit_id)
    assert (audit.kind, audit.subject, audit.actor) == (
        "intent.suggested", f"intent:{intent.pk}", "dana",
    )  # fmt: skip
    told = FeedEntry.objects.filter(topic="intents").get()
    assert told.payload["intent"] == intent.pk
    assert OutboxEntry.objects.filter(kind="intent.suggested").count() == 1


def test_suggestion_needs_the_permission(signal):
    answer = intents.suggest(signal, by=person("vera", "viewer"), at=NOW)

    assert answer.intent is None
    assert answer.verdict.names == ("PERMISSION",)
    assert AuditEntry.objects.filter(kind="intent.suggestion_refused", actor="vera").exists()


def test_suggestion_on_another_plan_than_was_shown_is_refused(signal, dana):
    answer = intents.suggest(signal, by=dana, at=NOW, plan_hash="0" * 64)

    assert answer.verdict.names == ("PLAN",)
    assert not OrderIntent.objects.exists()


def test_suggestion_on_the_plan_that_was_shown_is_taken(signal, dana):
    shown = intents.preview(signal, at=NOW).plan
    assert shown

    assert intents.suggest(signal, by=dana, at=LATER, plan_hash=shown.hash).applied


def test_suggestion_against_a_limit_is_kept_as_rejected(signal, dana):
    tighten(daily_notional=D(50))

    answer = intents.suggest(signal, by=dana, at=NOW)

    assert not answer.applied and answer.intent
    assert answer.intent.status == Status.REJECTED
    assert "Daily volume" in answer.intent.reason and "00:00 UTC" in answer.intent.reason
    assert answer.verdict.names == ("DAILY_NOTIONAL",)


def test_suggestion_may_wait_for_a_free_place(signal, dana):
    tighten(concurrent_orders=0)

    answer = intents.suggest(signal, by=dana, at=NOW)

    assert answer.applied
    assert answer.verdict.names == ("CONCURRENT_ORDERS",)


def test_watch_list_signal_is_not_tradable(signal, dana):
    Signal.objects.update(level="P3")

    answer = intents.suggest(signal, by=dana, at=NOW)

    assert answer.verdict.names == ("SIGNAL_LEVEL",)
    assert answer.intent and answer.intent.status == Status.REJECTED


def test_closed_signal_is_not_tradable(signal, dana):
    close(signal)

    assert intents.suggest(signal, by=dana, at=NOW).verdict.names == ("SIGNAL_OPEN",)


def test_signal_has_one_open_intent(signal, dana):
    first = suggested(signal, dana)

    again = intents.suggest(signal, by=dana, at=LATER)

    assert again.verdict.names == ("DUPLICATE",)
    assert f"intent {first.pk} is SUGGESTED" in again.reasons[0]
    first.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        first.save(force_insert=True)


def test_stale_books_are_refused(signal, dana):
    answer = intents.suggest(signal, by=dana, at=NOW + timedelta(seconds=6))

    assert "BOOK_AGE" in answer.verdict.names
    assert answer.intent and answer.intent.status == Status.REJECTED


def test_books_of_the_future_are_not_known(signal, dana):
    """A clock that is half a minute off must not make old books look new."""
    answer = intents.suggest(signal, by=dana, at=NOW - timedelta(seconds=30))

    assert "BOOK_AGE" in answer.verdict.names


# --- approving -----------------------------------------------------------------------


def test_second_person_approves(signal, dana, avi):
    intent = suggested(signal, dana)

    answer = approve(intent, avi)

    assert answer.applied
    intent.refresh_from_db()
    assert (intent.status, intent.approver, intent.single_operator) == (
        Status.APPROVED, avi, False,
    )  # fmt: skip
    assert intent.fill_by == LATER + timedelta(seconds=30)
    assert intent.legs.count() == 3
    data = intent.events.get(kind="APPROVED").data
    assert data["ok"] and data["bounds"]["order_notional"] == "200"
    assert invariants(LATER) == ()


def test_proposer_never_approves(signal, avi):
    both = person("both", "trader", "approver")
    intent = suggested(signal, both)

    answer = approve(intent, both)

    assert answer.verdict.names == ("FOUR_EYES",)
    assert approve(intent, avi).applied


def test_superuser_does_not_approve_alone_either(signal):
    root = User.objects.create_superuser("root")
    intent = suggested(signal, root)

    assert approve(intent, root).verdict.names == ("FOUR_EYES",)


def test_database_refuses_the_proposer_as_approver(signal, dana):
    intent = suggested(signal, dana)

    with pytest.raises(IntegrityError, match="proposer_never_approves"), transaction.atomic():
        OrderIntent.objects.filter(pk=intent.pk).update(
            status="APPROVED", approver=dana, approved_at=NOW, fill_by=NOW
        )


def test_single_operator_is_written_on_the_row(signal, settings):
    settings.MPX_SINGLE_OPERATOR = True
    both = person("both", "trader", "approver")
    intent = suggested(signal, both)

    assert approve(intent, both).applied

    intent.refresh_from_db()
    assert intent.single_operator
    assert invariants(LATER) == ()


def test_single_operator_desk_still_knows_two_people(signal, dana, avi, settings):
    settings.MPX_SINGLE_OPERATOR = True
    intent = suggested(signal, dana)

    assert approve(intent, avi).applied

    intent.refresh_from_db()
    assert not intent.single_operator


@pytest.mark.parametrize("role", ["viewer", "analyst", "trader", "admin"])
def test_approval_needs_the_permission(signal, dana, role):
    intent = suggested(signal, dana)

    answer = approve(intent, person("somebody", role))

    assert answer.verdict.names == ("PERMISSION",)
    assert answer.verdict.failed[0].advice


def test_approval_happens_once(signal, dana, avi):
    intent = suggested(signal, dana)
    approve(intent, avi)

    again = approve(intent, approver("bob"))

    assert again.verdict.names == ("STATUS",)
    assert intent.legs.count() == 3


@pytest.mark.django_db(transaction=True)
def test_approvals_at_once_take_turns_on_sqlite_too(dana):
    """The embedded desk has one writer at a time; twenty clients have `test_desk_races.py`."""
    view, signal = basket()
    show(view)
    intent = suggested(signal, dana)
    people = [approver(f"approver-{number}") for number in range(6)]
    ready = threading.Barrier(len(people))
    applied: list[bool] = []

    def client(by: User) -> None:
        ready.wait()
        applied.append(approve(intent, by).applied)
        connection.close()

    threads = [threading.Thread(target=client, args=(by,)) for by in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(applied) == [False] * 5 + [True]
    assert invariants(LATER) == ()


def test_approval_of_a_changed_plan_is_refused_with_the_difference(signal, dana, avi):
    intent = suggested(signal, dana)
    revised = intents.revise(intent.pk, by=dana, at=LATER, capital=D(40))
    assert revised.applied and revised.intent

    answer = approve(intent, avi)

    assert answer.verdict.names == ("PLAN",)
    changed = {each.what: (each.old, each.new) for each in answer.difference}
    assert changed["notional"] == (f"{intent.notional:.6f}", f"{revised.intent.notional:.6f}")
    assert approve(revised.intent, avi).applied


def test_approval_after_the_deadline_is_refused(signal, dana, avi):
    intent = suggested(signal, dana)
    at = NOW + timedelta(seconds=180)
    show_again(at)

    answer = approve(intent, avi, at=at)

    assert answer.verdict.names == ("INTENT_TTL",)
    assert OrderIntent.objects.get(pk=intent.pk).status == Status.SUGGESTED


def show_again(at, *asks: float) -> None:
    """Rewrite the books of event 7 as seen at a time."""
    show(view_of(*(asks or (0.30, 0.30, 0.30))), at=at)


def test_approval_looks_at_the_books_of_its_own_moment(signal, dana, avi):
    intent = suggested(signal, dana)
    show_again(LATER, 0.30, 0.30, 0.34)

    answer = approve(intent, avi)

    assert set(answer.verdict.names) == {"DEPTH", "SLIPPAGE"}
    assert "100.00 shares short" in answer.verdict.failed[0].value


def test_gap_since_the_plan_is_refused(signal, dana, avi):
    intent = suggested(signal, dana)
    show(view_of(0.30, 0.30, 0.30), at=LATER, epoch=2)

    assert approve(intent, avi).verdict.names == ("BOOK_CONTINUITY",)


def test_refused_approval_leaves_the_intent_to_be_tried_again(signal, dana, avi):
    intent = suggested(signal, dana)
    killswitch.trip(reason="drill", at=NOW, by=avi)

    refused = approve(intent, avi)
    killswitch.rearm(reason="over", at=NOW, by=approver("bob"))

    assert refused.verdict.names == ("KILL_SWITCH",)
    event = intent.events.get(kind="APPROVAL_REFUSED")
    assert event.data["reasons"] == list(refused.reasons)
    assert AuditEntry.objects.get(pk=event.audit_id).data["reasons"] == list(refused.reasons)
    assert approve(intent, avi).applied


def many(count: int) -> list[Signal]:
    """Return signals on events of their own, each worth about 92.5 USD."""
    found = []
    for number in range(count):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        found.append(signal)
    return found


def test_open_orders_stay_within_their_number(dana, avi):
    first, second, third = (suggested(signal, dana) for signal in many(3))

    assert approve(first, avi).applied and approve(second, avi).applied
    answer = approve(third, avi)

    assert answer.verdict.names == ("CONCURRENT_ORDERS",)
    assert answer.verdict.failed[0].value == "3 with this one"


def test_days_volume_stays_within_its_cap(dana, avi):
    tighten(daily_notional=D(150))
    first, second = (suggested(signal, dana) for signal in many(2))
    assert approve(first, avi).applied

    answer = approve(second, avi)

    assert answer.verdict.names == ("DAILY_NOTIONAL",)
    assert "Lower the order to 57.47 USD" in answer.reasons[0]


def test_what_was_approved_counts_for_its_day_whatever_became_of_it(dana, avi):
    tighten(daily_notional=D(150))
    first, second = (suggested(signal, dana) for signal in many(2))
    approve(first, avi)
    intents.cancel(first.pk, by=avi, at=LATER)

    assert approve(second, avi).verdict.names == ("DAILY_NOTIONAL",)


def test_new_day_has_new_room(dana, avi):
    tighten(daily_notional=D(150), intent_ttl_seconds=3_600)
    first, second = (suggested(signal, dana) for signal in many(2))
    approve(first, avi)
    OrderIntent.objects.filter(pk=first.pk).update(approved_at=NOW - timedelta(hours=12, seconds=3))

    assert approve(second, avi).applied


def test_worst_case_in_one_event_stays_within_its_cap(dana, avi):
    view, first = basket(key="a" * 32)
    _, second = basket(key="b" * 32)
    show(view)
    tighten(event_exposure=D(100))
    one, two = suggested(first, dana), suggested(second, dana)

    assert approve(one, avi).applied
    answer = approve(two, avi)

    assert answer.verdict.names == ("EVENT_EXPOSURE",)
    assert "123.37 USD at worst in Who wins?" in answer.reasons[0]
    assert "at most 38.31 USD" in answer.reasons[0]


# --- rejecting, cancelling, revising, expiring ---------------------------------------


def test_rejection_says_why(signal, dana, avi):
    intent = suggested(signal, dana)

    answer = intents.reject(intent.pk, by=avi, at=LATER, reason="resolution source unclear")

    assert answer.applied and answer.intent
    assert (answer.intent.status, answer.intent.reason) == (
        Status.REJECTED, "resolution source unclear",
    )  # fmt: skip
    assert answer.intent.closed_at == LATER


def test_rejection_without_a_reason_is_refused(signal, dana, avi):
    intent = suggested(signal, dana)

    answer = intents.reject(intent.pk, by=avi, at=LATER, reason=" ")

    assert answer.verdict.names == ("REASON",)
    assert OrderIntent.objects.get().status == Status.SUGGESTED


def test_trader_does_not_reject(signal, dana):
    intent = suggested(signal, dana)

    answer = intents.reject(intent.pk, by=trader("eli"), at=LATER, reason="no")

    assert answer.verdict.names == ("PERMISSION",)


@pytest.mark.parametrize(("who", "ok"), [("dana", True), ("avi", True), ("eli", False)])
def test_proposer_and_approver_may_cancel(signal, dana, avi, who, ok):
    trader("eli")
    intent = suggested(signal, dana)

    answer = intents.cancel(intent.pk, by=User.objects.get(username=who), at=LATER, reason="no")

    assert answer.applied is ok
    assert OrderIntent.objects.get().status == ("CANCELLED" if ok else "SUGGESTED")


def test_cancelled_approved_order_that_holds_nothing_is_cancelled(signal, dana, avi):
    intent = approved(signal, dana, avi)

    answer = intents.cancel(intent.pk, by=dana, at=LATER, reason="changed my mind")

    assert answer.applied
    intent.refresh_from_db()
    assert intent.status == Status.CANCELLED
    assert "changed my mind" in intent.reason
    assert set(intent.legs.values_list("state", flat=True)) == {"FAILED"}
    assert invariants(LATER) == ()


def test_only_the_proposer_revises(signal, dana):
    intent = suggested(signal, dana)

    answer = intents.revise(intent.pk, by=trader("eli"), at=LATER, capital=D(40))

    assert answer.verdict.names == ("PERMISSION",)


def test_revision_makes_a_new_plan_and_a_new_deadline(signal, dana):
    intent = suggested(signal, dana)

    answer = intents.revise(intent.pk, by=dana, at=LATER, capital=D(40))

    assert answer.applied and answer.intent
    assert answer.intent.revision == 2
    assert answer.intent.notional <= 40
    assert answer.intent.expires_at == LATER + timedelta(seconds=180)
    assert answer.difference


def test_suggestion_expires_at_its_deadline_and_not_before(signal, dana):
    intent = suggested(signal, dana)

    assert intents.expire_due(at=NOW + timedelta(seconds=179)) == 0
    assert intents.expire_due(at=NOW + timedelta(seconds=180)) == 1

    intent.refresh_from_db()
    assert intent.status == Status.EXPIRED
    assert "12:03:02 UTC" in intent.reason
    assert intents.expire_due(at=NOW + timedelta(seconds=181)) == 0


def test_suggestion_ends_with_its_signal(signal, dana):
    intent = suggested(signal, dana)
    close(signal, why="market_closed")

    assert intents.expire_due(at=LATER) == 1

    intent.refresh_from_db()
    assert "market_closed" in intent.reason


@pytest.mark.parametrize("step", ["approve", "reject", "cancel", "revise"])
def test_closed_intent_takes_no_step(signal, dana, avi, step):
    intent = suggested(signal, dana)
    intents.expire_due(at=NOW + timedelta(seconds=180))
    steps = {
        "approve": lambda: approve(intent, avi),
        "reject": lambda: intents.reject(intent.pk, by=avi, at=LATER, reason="no"),
        "cancel": lambda: intents.cancel(intent.pk, by=dana, at=LATER),
        "revise": lambda: intents.revise(intent.pk, by=dana, at=LATER),
    }

    answer = steps[step]()

    assert answer.verdict.names == ("STATUS",)
    assert "EXPIRED" in answer.reasons[0]


def test_intent_that_is_not_there_is_not_there(avi):
    with pytest.raises(OrderIntent.DoesNotExist):
        intents.approve(4711, by=avi, at=NOW, plan_hash="")


# --- asking twice --------------------------------------------------------------------


def test_same_key_is_one_intent(signal, dana):
    first = intents.suggest(signal, by=dana, at=NOW, idempotency_key="k1")
    again = intents.suggest(signal, by=dana, at=LATER, idempotency_key="k1")

    assert again.replayed and not first.replayed
    assert again.row() | {"status": 0} == first.row() | {"status": 0}
    assert again.intent == first.intent
    assert OrderIntent.objects.count() == 1


def test_refusals_are_kept_under_their_key_too(signal, dana, avi):
    intent = suggested(signal, dana)
    killswitch.trip(reason="drill", at=NOW, by=avi)
    first = approve(intent, avi, idempotency_key="k")
    killswitch.rearm(reason="over", at=NOW, by=approver("bob"))

    again = approve(intent, avi, idempotency_key="k")

    assert again.reasons == first.reasons
    assert not again.applied


def test_key_is_for_one_request(signal, dana):
    intents.suggest(signal, by=dana, at=NOW, idempotency_key="k1")

    with pytest.raises(KeyReused):
        intents.suggest(signal, by=dana, at=NOW, capital=D(50), idempotency_key="k1")


def test_key_belongs_to_its_user(signal, dana):
    intents.suggest(signal, by=dana, at=NOW, idempotency_key="k1")

    answer = intents.suggest(signal, by=trader("eli"), at=NOW, idempotency_key="k1")

    assert answer.verdict.names == ("DUPLICATE",)


@pytest.mark.parametrize("key", ["", "k" * 256, "a\0b"])
def test_key_has_a_length(signal, dana, key):
    with pytest.raises(BadKey):
        intents.suggest(signal, by=dana, at=NOW, idempotency_key=key)


def test_what_failed_may_be_asked_again(signal, dana, avi):
    intent = suggested(signal, dana)
    Policy.objects.all().delete()
    with pytest.raises(Exception, match="no policy row"):
        approve(intent, avi, idempotency_key="k")
    prepare()

    assert approve(intent, avi, idempotency_key="k").applied


def test_keys_are_forgotten_after_two_days(signal, dana):
    intents.suggest(signal, by=dana, at=NOW, idempotency_key="k1")

    assert forget_old(at=NOW + timedelta(days=1)) == 0
    assert forget_old(at=NOW + timedelta(days=2, seconds=1)) == 1
    assert not IdempotencyKey.objects.exists()


# --- limits --------------------------------------------------------------------------


def test_tighter_limit_applies_at_once(signal, avi):
    changed = limits.change(by=avi, at=NOW, reason="quiet day", daily_notional=D(300))

    assert changed.applied
    assert limits.bounds().daily_notional == 300
    audit = AuditEntry.objects.filter(kind="policy.changed").get()
    assert audit.data["before"] == {"daily_notional": None}
    assert audit.data["after"] == {"daily_notional": "300"}


def test_looser_limit_waits_for_a_second_person(avi):
    limits.change(by=avi, at=NOW, reason="quiet day", daily_notional=D(300))
    proposed = limits.change(by=avi, at=NOW, reason="busy day", daily_notional=D(800))
    assert proposed.change and not proposed.applied

    alone = limits.confirm(proposed.change.pk, by=avi, at=LATER)
    assert alone.verdict.names == ("FOUR_EYES",)
    assert limits.bounds().daily_notional == 300

    assert limits.confirm(proposed.change.pk, by=approver("bob"), at=LATER).applied
    assert limits.bounds().daily_notional == 800


def test_proposed_limit_can_be_dropped(avi):
    limits.change(by=avi, at=NOW, reason="quiet", slippage_bps=10)
    proposed = limits.change(by=avi, at=NOW, reason="busy", slippage_bps=80)
    assert proposed.change

    limits.refuse(proposed.change.pk, by=avi, at=LATER, reason="no")

    again = limits.confirm(proposed.change.pk, by=approver("bob"), at=LATER)
    assert again.verdict.names == ("STATUS",)
    assert limits.bounds().slippage_bps == 10


@pytest.mark.parametrize(
    "values",
    [{"order_notional": D(201)}, {"slippage_bps": 81}, {"concurrent_orders": 3},
     {"depth_share": D(0)}, {"intent_ttl_seconds": 0}, {"book_age_ms": None}, {"colour": 1}],
)  # fmt: skip
def test_no_limit_passes_its_ceiling(avi, values):
    with pytest.raises(limits.BadLimit):
        limits.change(by=avi, at=NOW, reason="x", **values)


def test_lower_ceiling_beats_a_higher_policy(settings):
    tighten(order_notional=D(150))
    settings.EXEC_MAX_NOTIONAL_PER_ORDER = D(100)

    assert limits.bounds().order_notional == 100


def test_limits_are_not_for_traders(dana):
    changed = limits.change(by=dana, at=NOW, reason="x", daily_notional=D(300))

    assert changed.verdict.names == ("PERMISSION",)
    assert AuditEntry.objects.filter(kind="policy.change_refused").exists()


def test_lower_minimum_return_is_looser(avi):
    changed = limits.change(by=avi, at=NOW, reason="x", min_annualised_pct=D(1))

    assert changed.change and changed.change.loosens == ["min_annualised_pct"]


# --- what is written once ------------------------------------------------------------


def test_steps_are_written_once(signal, dana):
    event = suggested(signal, dana).events.get()

    with pytest.raises(NeverChanges):
        event.save()
    with pytest.raises(NeverChanges):
        IntentEvent.objects.all().update(kind="X")
    with pytest.raises(NeverChanges):
        IntentEvent.objects.all().delete()
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE execution_intentevent SET kind = 'X'")


@pytest.mark.parametrize("table", ["execution_fill", "execution_positionentry"])
def test_database_itself_guards_what_is_written_once(table):
    """SQLite drops a trigger when a later migration rebuilds its table."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        triggers = {name for (name,) in cursor.fetchall()}

    assert f"{table}_once" in triggers


def test_invariants_find_a_bent_record(signal, dana, avi):
    intent = approved(signal, dana, avi)
    assert invariants(LATER) == ()

    OrderIntent.objects.filter(pk=intent.pk).update(
        notional=D(5_000), status="FILLED", closed_at=NOW
    )

    broken = {each.rule for each in invariants(LATER)}
    assert {"plan_hash", "order_notional", "daily_notional", "every_step_written"} <= broken


def test_invariants_find_a_cut_chain(signal, dana):
    suggested(signal, dana)
    last = AuditEntry.objects.order_by("-id").first()
    assert last
    forger.remove(last.pk)

    assert "audit_chain" in {each.rule for each in invariants(NOW)}
    with pytest.raises(journal.ChainBroken):
        journal.verify_head()


def test_invariants_find_what_was_left_behind(signal, dana):
    suggested(signal, dana)

    assert {each.rule for each in invariants(NOW + timedelta(minutes=5))} == {"expiry"}


ROLES = {
    "viewer": set(),
    "analyst": {"rules.enable_rule", "alerts.view_auditentry"},
    "trader": {"execution.create_intent", "risk.trip_kill", "alerts.view_auditentry"},
    "approver": {"execution.approve_intent", "risk.edit_policy", "risk.trip_kill",
                 "risk.rearm_kill", "risk.reset_breaker", "alerts.view_auditentry"},
    "admin": {"risk.edit_policy", "risk.trip_kill", "risk.rearm_kill", "risk.reset_breaker",
              "rules.enable_rule", "alerts.view_auditentry", "auth.add_user"},
}  # fmt: skip
TOLD_APART = set().union(*ROLES.values())


@pytest.mark.parametrize("role", ROLES)
def test_role_has_its_permissions_and_no_other(role):
    somebody = person("somebody", role)

    assert somebody.has_perm("signals.view_signal")
    assert {each for each in TOLD_APART if somebody.has_perm(each)} == ROLES[role]
