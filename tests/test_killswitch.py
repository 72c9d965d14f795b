"""The kill switch, the circuit breakers, the audit chain's end: by function and by command."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from alerts import journal
from alerts.models import AuditEntry, AuditHead, OutboxEntry
from execution import tasks
from execution.sights import data_age
from risk import breakers, killswitch
from risk.models import Breaker, KillSwitch
from tests import forger
from tests.desk_cast import NOW, approver, person, prepare, trader
from tests.portal_cast import beat
from tests.servers import free_port, manage, settings_for

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=1)


@pytest.fixture(autouse=True)
def desk():
    prepare()


def command(*words: str) -> tuple[int, str]:
    """Run one of our commands; return its exit code and what it printed."""
    out = io.StringIO()
    try:
        call_command(*words, stdout=out, stderr=out)
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


# --- the switch ----------------------------------------------------------------------


@pytest.mark.postgres
def test_switch_starts_off():
    assert killswitch.status() == killswitch.Kill(False)


@pytest.mark.postgres
def test_anyone_with_the_permission_trips_it_and_another_rearms_it():
    dana, avi = trader("dana"), approver("avi")

    assert killswitch.trip(reason="fills look wrong", at=NOW, by=dana).done
    assert killswitch.status().reason == "fills look wrong"
    assert killswitch.rearm(reason="cause found", at=LATER, by=avi).done

    assert not killswitch.status().tripped
    kinds = AuditEntry.objects.order_by("id").values_list("kind", "actor")
    assert list(kinds) == [("killswitch.tripped", "dana"), ("killswitch.rearmed", "avi")]
    assert OutboxEntry.objects.filter(kind="killswitch.tripped").count() == 1


@pytest.mark.postgres
def test_who_tripped_it_does_not_rearm_it():
    avi = approver("avi")
    killswitch.trip(reason="x", at=NOW, by=avi)

    refused = killswitch.rearm(reason="y", at=LATER, by=avi)

    assert refused.verdict.names == ("FOUR_EYES",)
    assert killswitch.status().tripped
    assert AuditEntry.objects.filter(kind="killswitch.rearm_refused").exists()


def test_single_operator_rearms_alone(settings):
    settings.MPX_SINGLE_OPERATOR = True
    avi = approver("avi")
    killswitch.trip(reason="x", at=NOW, by=avi)

    assert killswitch.rearm(reason="y", at=LATER, by=avi).done


def test_viewer_does_not_trip_it():
    refused = killswitch.trip(reason="x", at=NOW, by=person("vera", "viewer"))

    assert refused.verdict.names == ("PERMISSION",)
    assert not killswitch.status().tripped


def test_trader_does_not_rearm_it():
    killswitch.trip(reason="x", at=NOW, by=approver("avi"))

    refused = killswitch.rearm(reason="y", at=NOW, by=trader("dana"))

    assert refused.verdict.names == ("PERMISSION",)


def test_second_trip_keeps_the_first_reason():
    killswitch.trip(reason="first", at=NOW, actor="console:root")

    again = killswitch.trip(reason="second", at=LATER, actor="console:root")

    assert not again.done and again.verdict.ok
    assert killswitch.status().reason == "first"


@pytest.mark.postgres
def test_missing_switch_is_on():
    KillSwitch.objects.all().delete()

    found = killswitch.status()

    assert (found.tripped, found.readable) == (True, False)
    assert killswitch.locked().tripped


@pytest.mark.django_db(transaction=True)
def test_unreadable_switch_is_on():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE risk_killswitch RENAME TO away")
    try:
        with transaction.atomic():
            found = killswitch.locked()
            assert not AuditEntry.objects.exists()  # the transaction still works
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO risk_killswitch")

    assert (found.tripped, found.readable) == (True, False)
    assert "cannot be read" in found.reason


# --- the command ---------------------------------------------------------------------


def test_command_trips_tells_and_rearms():
    approver("avi")

    assert command("killswitch", "status") == (0, "Kill switch off\n")
    assert command("killswitch", "on", "--reason", "drill")[0] == 0
    code, said = command("killswitch", "status", "--json")
    assert code == 1
    assert json.loads(said) == {
        "schema": 1, "tripped": True, "readable": True, "reason": "drill", "refused": [],
    }  # fmt: skip
    assert AuditEntry.objects.get(kind="killswitch.tripped").actor.startswith("console:")
    assert command("killswitch", "off", "--reason", "over", "--by", "avi")[0] == 0
    assert command("killswitch", "status")[0] == 0


def test_command_refuses_with_exit_code_5():
    trader("dana")
    command("killswitch", "on", "--reason", "drill")

    code, said = command("killswitch", "off", "--reason", "over", "--by", "dana")

    assert code == 5
    assert "rearm_kill" in said and "Kill switch ON" in said


def test_command_knows_accounts():
    assert command("killswitch", "off", "--reason", "x", "--by", "nobody")[0] == 2


def test_command_needs_no_web_but_its_database(tmp_path):
    address = f"postgres://mpx@127.0.0.1:{free_port()}/mpx"

    done = manage("killswitch", "status", env=settings_for(tmp_path, DATABASE_URL=address))

    assert done.returncode == 3
    assert "Kill switch ON" in done.stdout


def test_command_without_a_reason_is_a_wrong_call(tmp_path):
    done = manage("killswitch", "on", env=settings_for(tmp_path))

    assert done.returncode == 2


# --- breakers ------------------------------------------------------------------------


def failed(count: int, *, at=NOW, market: str = "m1", trial: str = "intent:1") -> None:
    for _ in range(count):
        breakers.note_failed(rule="R", markets=[market], trial=trial, reason="NO_DEPTH", at=at)


def state_of(scope: str, subject: str = "") -> str:
    return Breaker.objects.get(scope=scope, subject=subject).state


@pytest.mark.postgres
def test_breaker_trips_on_the_third_failure_in_a_row():
    with transaction.atomic():
        failed(2)
        assert state_of("RULE", "R") == "CLOSED"
        failed(1)

    row = Breaker.objects.get(scope="RULE")
    assert (row.state, row.reopen_at) == ("OPEN", NOW + timedelta(minutes=1))
    assert "3 failures in a row, the last: NO_DEPTH" in row.reason
    assert state_of("MARKET", "m1") == "OPEN"
    assert OutboxEntry.objects.filter(kind="breaker.opened").count() == 2


@pytest.mark.postgres
def test_success_between_failures_starts_the_count_anew():
    with transaction.atomic():
        failed(2)
        breakers.note_done(rule="R", markets=["m1"], trial="intent:2", at=NOW)
        failed(2)

    assert state_of("RULE", "R") == "CLOSED"


def test_old_failures_are_forgotten():
    failed(2)
    failed(1, at=NOW + timedelta(minutes=11))

    assert state_of("RULE", "R") == "CLOSED"


def test_one_order_is_let_through_on_trial():
    failed(3)
    due = NOW + timedelta(minutes=1)
    found = breakers.views(rule="R", markets=["m1"])
    breakers.claim_trials(found, trial="intent:7", at=due)

    assert {view.trial for view in breakers.views(rule="R", markets=["m1"])} == {"intent:7"}
    breakers.note_done(rule="R", markets=["m1"], trial="intent:8", at=due)
    assert state_of("RULE", "R") == "HALF_OPEN"
    breakers.note_done(rule="R", markets=["m1"], trial="intent:7", at=due)
    assert state_of("RULE", "R") == "CLOSED"


def test_trial_that_was_taken_back_frees_the_place():
    failed(3)
    due = NOW + timedelta(minutes=1)
    breakers.claim_trials(breakers.views(rule="R"), trial="intent:7", at=due)

    breakers.release_trial(trial="intent:7", at=due)

    row = Breaker.objects.get(scope="RULE")
    assert (row.state, row.trial, row.reopen_at) == ("OPEN", "", due)


def test_breaker_is_tripped_and_reset_by_hand():
    avi = approver("avi")
    given = {"scope": "MARKET", "subject": "m9", "by": avi}

    assert breakers.trip_by_hand(**given, reason="odd prices", at=NOW).done
    assert breakers.views(markets=["m9"])[0].reopen_at is None
    assert breakers.reset(**given, reason="fine again", at=LATER).done

    assert state_of("MARKET", "m9") == "CLOSED"
    actors = AuditEntry.objects.filter(kind__startswith="breaker").values_list("kind", "actor")
    assert list(actors) == [("breaker.opened", "avi"), ("breaker.closed", "avi")]


def test_trader_does_not_reset_breakers():
    failed(3)

    refused = breakers.reset(scope="RULE", subject="R", reason="x", by=trader("dana"), at=NOW)

    assert refused.verdict.names == ("PERMISSION",)
    assert state_of("RULE", "R") == "OPEN"


@pytest.mark.postgres
def test_stale_data_opens_the_global_breaker_until_data_is_back():
    assert breakers.watch_data(age_seconds=31, limit_seconds=30, at=NOW)
    row = Breaker.objects.get(scope="GLOBAL")
    assert (row.state, row.reopen_at) == ("OPEN", None)
    assert row.reason == "stale data: 31 s old (limit 30 s)"

    breakers.watch_data(age_seconds=1, limit_seconds=30, at=LATER)
    assert breakers.views()[0].reopen_at == LATER + timedelta(seconds=15)
    breakers.watch_data(age_seconds=40, limit_seconds=30, at=LATER + timedelta(seconds=40))
    assert breakers.views()[0].reopen_at is None


def test_data_that_never_came_is_left_to_the_book_checks():
    assert data_age(NOW) is None
    assert not breakers.watch_data(age_seconds=None, limit_seconds=30, at=NOW)
    assert not Breaker.objects.exists()


def test_age_of_data_is_that_of_the_newest_frame():
    beat(at=NOW, frame_at=NOW - timedelta(seconds=40))
    assert data_age(NOW) == pytest.approx(40)

    beat(at=NOW, frame_at=NOW - timedelta(seconds=3), component="stream-2")
    assert data_age(NOW) == pytest.approx(3)


def test_sweeps_can_run_on_an_empty_desk_at_any_time():
    for task in (tasks.expire_intents, tasks.watch_data, tasks.settle_positions, tasks.forget_keys):
        assert not task()
        assert not task(unknown_argument=1)


# --- the audit chain's end -----------------------------------------------------------


@pytest.fixture
def chain() -> None:
    with transaction.atomic():
        for number in range(5):
            journal.record(kind="test.done", subject=f"s:{number}", data={}, at=NOW)


@pytest.mark.postgres
def test_whole_chain_verifies_by_command(chain):
    code, said = command("audit", "verify", "--json")

    head = AuditHead.objects.get()
    assert code == 0
    assert json.loads(said) == {"schema": 1, "ok": True, "entries": 5, "head": str(head)}


@pytest.mark.parametrize(
    ("bend", "entry", "problem"),
    [
        (lambda: forger.change(3, actor="X"), 3, "was changed"),
        (lambda: forger.remove(5), 5, "missing at the end, up to 5"),
        (lambda: forger.remove(3), 3, "is missing"),
        (lambda: AuditEntry.objects.create(id=6, at=NOW, kind="x", subject="s", actor="a",
                                           previous_hash="0" * 64, hash="1" * 64), 6,
         "does not continue"),
    ],
    ids=["flipped", "last row removed", "middle row removed", "row added"],
)  # fmt: skip
@pytest.mark.postgres
def test_bent_chain_is_found_by_command(chain, bend, entry, problem):
    bend()

    code, said = command("audit", "verify", "--json")

    assert code == 1
    told = json.loads(said)
    assert (told["ok"], told["entry"]) == (False, entry)
    assert problem in told["problem"]


def test_chain_written_anew_is_found_by_a_head_noted_elsewhere(chain):
    noted = str(AuditHead.objects.get())
    forger.remove_all()
    with transaction.atomic():
        for number in range(6):
            journal.record(kind="test.forged", subject=f"s:{number}", data={}, at=NOW)
    assert command("audit", "verify")[0] == 0

    code, said = command("audit", "verify", "--head", noted)

    assert code == 1
    assert "BROKEN at audit entry 5: has another hash than was noted" in said


def test_head_in_another_shape_is_a_wrong_call(chain):
    assert command("audit", "verify", "--head", "5")[0] == 2
