"""Twenty clients at once on a real PostgreSQL: one wins, no cap is passed, nothing fills twice.

`MPX_RACE_ROUNDS=200` is the full form; `MPX_RACE_TABLE=FILE` keeps what was measured.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal as D
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from alerts import journal
from alerts.models import AuditEntry
from execution import fills, intents, tasks
from execution.invariants import invariants
from execution.models import Fill, OrderIntent
from risk import killswitch, limits
from risk.crash import CRASH_KEY, KILLED, POINTS
from risk.locking import DeskBusy, in_turn
from risk.models import KillSwitch, Policy
from tests.desk_cast import (
    NOW,
    Venue,
    approved,
    approver,
    basket,
    prepare,
    show,
    suggested,
    trader,
)

pytestmark = [pytest.mark.postgres(only=True), pytest.mark.django_db(transaction=True)]
ROUNDS = int(os.environ.get("MPX_RACE_ROUNDS", "2"))
CLIENTS = 20
LATER = NOW + timedelta(seconds=1)
Status = OrderIntent.Status
TABLES = (
    "execution_idempotencykey", "execution_positionentry", "execution_fill", "execution_intentleg",
    "execution_intentevent", "execution_orderintent", "execution_livebook", "signals_signalpoint",
    "signals_signal", "risk_breaker", "risk_policychange", "alerts_auditentry", "alerts_audithead",
    "alerts_feedentry", "alerts_outboxentry",
)  # fmt: skip


@pytest.fixture(autouse=True)
def desk(settings):
    prepare()
    settings.EXEC_MAX_CONCURRENT_ORDERS = 100
    yield


@pytest.fixture
def people() -> list[User]:
    """Twenty people who may suggest and approve."""
    found = []
    for number in range(CLIENTS):
        person = trader(f"client-{number}")
        person.groups.add(*approver("avi").groups.all())
        found.append(User.objects.get(pk=person.pk))
    return found


def afresh() -> None:
    """Begin a round with an empty record, so that checking it stays quick."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    Policy.objects.update(
        order_notional=None, concurrent_orders=None, daily_notional=None, event_exposure=None
    )
    KillSwitch.objects.update(tripped=False, reason="", tripped_by=None, changed_by="")


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run acts in threads that start together; return what each gave or raised."""
    ready = threading.Barrier(len(acts))
    given: list[Any] = [None] * len(acts)

    def run(number: int) -> None:
        try:
            ready.wait()
            given[number] = acts[number]()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            given[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def insistent(act: Callable[[], Any]) -> Callable[[], Any]:
    """Ask again while the desk is busy, as a client would."""

    def run() -> Any:
        for _ in range(20):
            try:
                return act()
            except DeskBusy as busy:
                time.sleep(busy.retry_after / 10)
        return act()

    return run


def approval(intent: OrderIntent, by: User, **given: Any) -> Callable[[], intents.Answer]:
    return insistent(
        lambda: intents.approve(intent.pk, by=by, at=LATER, plan_hash=intent.plan_hash, **given)
    )


def applied(answers: Sequence[Any]) -> int:
    assert not [each for each in answers if isinstance(each, Exception)], answers
    return sum(answer.applied for answer in answers)


def suggestions(count: int, by: User, *, event: str | None = None) -> list[OrderIntent]:
    """Suggest orders of about 92.5 USD, each in an event of its own unless one is given."""
    found = []
    for number in range(count):
        view, signal = basket(event_id=event or str(20 + number), key=f"{number:032x}")
        show(view)
        found.append(suggested(signal, by))
    return found


def measured(name: str, outcomes: list[Any], expected: str) -> None:
    """Keep what was seen over all rounds, for the table in the report."""
    row = {"race": name, "clients": CLIENTS, "rounds": len(outcomes), "expected": expected,
           "seen": sorted({str(each) for each in outcomes})}  # fmt: skip
    sys.stdout.write(json.dumps(row) + "\n")
    if table := os.environ.get("MPX_RACE_TABLE"):
        with Path(table).open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.fixture
def rounds() -> Iterator[int]:
    def each_round() -> Iterator[int]:
        for number in range(ROUNDS):
            afresh()
            yield number

    return each_round()


pytestmark.append(pytest.mark.timeout(120 + 30 * ROUNDS))


# --- one wins ------------------------------------------------------------------------


def test_one_of_twenty_approvals_wins(people, rounds):
    wins = []
    for _ in rounds:
        intent = suggestions(1, trader("dana"))[0]

        answers = at_once([approval(intent, person) for person in people])

        wins.append(applied(answers))
        assert intent.events.filter(kind="APPROVED").count() == 1
        assert intent.events.filter(kind="APPROVAL_REFUSED").count() == CLIENTS - 1
        assert intent.legs.count() == 3
        assert invariants(LATER) == ()
    measured("approve one intent", wins, "1 approval")
    assert set(wins) == {1}


def test_approval_that_looks_before_it_writes_would_lose(people):
    """The race is real: the same clients against a plain read, check and write."""

    def careless(intent_id: int, by: User) -> bool:
        intent = OrderIntent.objects.get(pk=intent_id)
        if intent.status != Status.SUGGESTED:
            return False
        time.sleep(0.01)
        OrderIntent.objects.filter(pk=intent_id).update(
            status=Status.APPROVED, approver=by, approved_at=LATER, fill_by=LATER
        )
        return True

    intent = suggestions(1, trader("dana"))[0]

    won = at_once([lambda person=person: careless(intent.pk, person) for person in people])

    measured("control: read, check, write", [sum(won)], "more than 1 approval")
    assert sum(won) > 1


def test_each_leg_fills_once_under_twenty_brokers(rounds):
    filled = []
    for _ in rounds:
        view, signal = basket()
        venue = Venue([view]).watched()
        intent = approved(signal, trader("dana"), approver("avi"), at=venue.now)
        venue.work()
        venue.wait(0.2)
        venue.nudge()
        reports = list(venue.desk.broker.reports)
        assert len(reports) == 3

        stores = [insistent(lambda r=r: fills.store(r)) for r in reports for _ in range(7)]
        given = at_once(stores[:CLIENTS])

        assert not [each for each in given if isinstance(each, Exception)], given
        filled.append(Fill.objects.count())
        intent.refresh_from_db()
        assert intent.status == Status.FILLED
        assert invariants(venue.now) == ()
    measured("store 3 answers 7 times each", filled, "3 fills")
    assert set(filled) == {3}


def test_one_end_of_five_kinds_wins(people, rounds):
    """Approve, reject, cancel, expire and revise at once: one of them ends or moves it."""
    ends = []
    for _ in rounds:
        dana = people[0]
        intent = suggestions(1, dana)[0]
        due = intent.expires_at
        show(basket(event_id="20", key="f" * 32)[0], at=due)

        pk = intent.pk
        expire = insistent(partial(intents.expire_due, at=due))
        cancel = insistent(partial(intents.cancel, pk, by=dana, at=LATER))
        revise = insistent(partial(intents.revise, pk, by=dana, at=LATER))
        reject = partial(intents.reject, pk, at=LATER, reason="no")

        answers = at_once(
            [*[expire, cancel, revise] * 4]
            + [approval(intent, person) for person in people[1:5]]
            + [insistent(partial(reject, by=person)) for person in people[5:9]]
        )

        assert not [each for each in answers if isinstance(each, Exception)], answers
        intent.refresh_from_db()
        ends.append(intent.status)
        steps = list(intent.events.order_by("id").values_list("status", flat=True))
        moved = [b for a, b in pairwise(steps) if a != b]
        assert len(moved) <= 2  # approved and then cancelled is two
        assert invariants(LATER) == ()
    measured("approve, reject, cancel, expire, revise", ends, "one legal end")
    assert set(ends) <= {"APPROVED", "REJECTED", "CANCELLED", "EXPIRED"}


def test_one_key_is_one_intent(rounds):
    counts = []
    for _ in rounds:
        view, signal = basket()
        show(view)
        act = partial(intents.suggest, signal, by=trader("dana"), at=NOW, idempotency_key="k")

        answers = at_once([insistent(act)] * CLIENTS)

        applied(answers)
        assert len({json.dumps(answer.row(), sort_keys=True) for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        counts.append(OrderIntent.objects.count())
    measured("suggest with one Idempotency-Key", counts, "1 intent")
    assert set(counts) == {1}


# --- caps ----------------------------------------------------------------------------


def test_days_volume_never_passes_its_cap(people, rounds, settings):
    """Twenty orders of 92.53 USD under a cap of 1000: ten fit."""
    sums = []
    for _ in rounds:
        waiting = suggestions(CLIENTS, trader("dana"))

        at_once([approval(i, p) for i, p in zip(waiting, people, strict=True)])

        total = OrderIntent.objects.open().notional()
        sums.append(total)
        assert total <= settings.EXEC_MAX_DAILY_NOTIONAL
        assert total + waiting[0].notional > settings.EXEC_MAX_DAILY_NOTIONAL
        assert invariants(LATER) == ()
    measured("approve 20 x 92.52 USD, daily cap 1000", sums, "at most 1000 USD")


def test_open_orders_never_pass_their_number(people, rounds):
    counts = []
    for _ in rounds:
        Policy.objects.update(concurrent_orders=2)
        waiting = suggestions(CLIENTS, trader("dana"))

        at_once([approval(i, p) for i, p in zip(waiting, people, strict=True)])

        counts.append(OrderIntent.objects.open().count())
        assert invariants(LATER) == ()
    measured("approve 20 orders, 2 at a time", counts, "2 open")
    assert set(counts) == {2}


def test_exposure_in_one_event_never_passes_its_cap(people, rounds):
    """Each order can lose 61.69 USD at worst in the same event: six fit into 400."""
    sums = []
    for _ in rounds:
        waiting = suggestions(CLIENTS, trader("dana"), event="7")

        at_once([approval(i, p) for i, p in zip(waiting, people, strict=True)])

        sums.append(sum(i.worst_loss for i in OrderIntent.objects.open()))
        assert sums[-1] <= 400
        assert OrderIntent.objects.open().count() == 6
        assert invariants(LATER) == ()
    measured("approve 20 orders in one event, exposure cap 400", sums, "at most 400 USD")


def test_limit_that_is_lowered_meanwhile_holds_from_its_commit(people, rounds):
    counts = []
    avi = approver("avi")
    for _ in rounds:
        waiting = suggestions(CLIENTS - 1, trader("dana"))
        lower = insistent(
            lambda: limits.change(by=avi, at=LATER, reason="calm", daily_notional=D(300))
        )

        at_once([lower, *(approval(i, p) for i, p in zip(waiting, people, strict=False))])

        changed = AuditEntry.objects.get(kind="policy.changed").pk
        approvals = AuditEntry.objects.filter(kind="intent.approved")
        before = approvals.filter(pk__lt=changed).count()
        after = approvals.filter(pk__gt=changed).count()
        assert after == max(3 - before, 0)
        counts.append((before, after))
        assert invariants(LATER) == ()
    measured("lower the daily cap to 300 meanwhile", counts, "3 in all, or none after the change")


# --- the kill switch -----------------------------------------------------------------


def test_nothing_is_approved_or_filled_after_the_kill_switch(people, rounds):
    seen = []
    for number in rounds:
        view, signal = basket()
        venue = Venue([view]).watched()
        approved(signal, trader("dana"), approver("avi"), at=venue.now)
        waiting = suggestions(8, trader("dana"))
        venue.work()
        venue.wait(0.2)
        venue.nudge()
        reports = list(venue.desk.broker.reports)
        delay = (number % 10) * 0.004

        def kill(delay: float = delay) -> object:
            time.sleep(delay)
            return killswitch.trip(reason="race", at=LATER)

        at_once(
            [kill]
            + [approval(i, p) for i, p in zip(waiting, people, strict=False)]
            + [insistent(lambda r=r: fills.store(r)) for r in reports for _ in range(3)]
            + [insistent(lambda: intents.expire_due(at=LATER))] * 2
        )

        tripped = AuditEntry.objects.get(kind="killswitch.tripped").pk
        done = AuditEntry.objects.filter(kind__in=("intent.approved", "intent.leg_filled"))
        assert not done.filter(pk__gt=tripped).exists()
        seen.append(done.filter(pk__lt=tripped).count())
        assert invariants(LATER) == ()
    told = [f"{before} before, 0 after" for before in seen]
    measured("kill switch among approvals and fills", told, "0 after")


# --- locks and lost connections ------------------------------------------------------


@contextmanager
def policy_held() -> Iterator[None]:
    """Keep the policy row from everybody else."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        def wait(_: Policy) -> None:
            held.set()
            done.wait(20)

        in_turn(wait)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    try:
        yield
    finally:
        done.set()
        holder.join()


def test_long_lock_on_the_policy_is_told_within_seconds(people):
    intent = suggestions(1, trader("dana"))[0]

    with policy_held():
        begun = time.monotonic()
        with pytest.raises(DeskBusy, match="try again") as busy:
            intents.approve(intent.pk, by=people[0], at=LATER, plan_hash=intent.plan_hash)
        took = time.monotonic() - begun

    assert 1.5 < took < 4
    assert busy.value.retry_after == 1
    assert approval(intent, people[0])().applied


def test_a_sweep_that_finds_the_desk_busy_is_no_error(people, caplog):
    """The next one, seconds later, does what was left."""
    journal.beat("stream", at=timezone.now(), progress=1)

    with policy_held(), caplog.at_level("WARNING"):
        swept = tasks.watch_data.apply()

    assert swept.successful()
    (told,) = [each for each in caplog.records if "sweep.busy" in each.getMessage()]
    assert told.levelno == logging.WARNING


def test_connection_lost_in_the_middle_of_an_approval_leaves_nothing(people, monkeypatch):
    """And the same key then gives the answer of the one that went through."""
    intent = suggestions(1, trader("dana"))[0]
    reached, lost = threading.Event(), threading.Event()
    pids: list[int] = []

    def pause(name: str) -> None:
        if name == "approve_before_commit" and not lost.is_set():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])
            reached.set()
            lost.wait(10)

    monkeypatch.setattr(intents, "crash_point", pause)
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(
                intents.approve(
                    intent.pk, by=people[0], at=LATER, plan_hash=intent.plan_hash,
                    idempotency_key="k",
                )
            )  # fmt: skip
        except DatabaseError as error:
            outcome.append(error)
        finally:
            connections.close_all()

    client = threading.Thread(target=run)
    client.start()
    assert reached.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", pids)
    lost.set()
    client.join()

    assert isinstance(outcome[0], DatabaseError)
    intent.refresh_from_db()
    assert intent.status == Status.SUGGESTED
    assert not intent.events.filter(kind="APPROVED").exists()
    first = approval(intent, people[0], idempotency_key="k")()
    again = approval(intent, people[0], idempotency_key="k")()
    assert first.applied and again.applied and again.replayed
    assert invariants(LATER) == ()


# --- kill -9 -------------------------------------------------------------------------


def opening() -> dict[str, Any]:
    """Two events that pay, their signals, and a venue for both."""
    view, first = basket(key="a" * 32)
    other, second = basket(event_id="8", key="b" * 32)
    trader("dana")
    approver("avi")
    views = [view, other]
    return {"views": views, "venue": Venue(views), "first": first, "second": second}


def a_day_at_the_desk(cast: dict[str, Any]) -> None:
    """Everything an order can go through, in a process that may die on its way."""
    dana, avi = trader("dana"), approver("avi")
    venue: Venue = cast["venue"].watched()
    approved(cast["first"], dana, avi, at=venue.now)
    venue.change("802", "SELL", 0.30, 40)
    venue.fill()
    suggested(cast["second"], dana, at=venue.now)
    intents.expire_due(at=venue.now + timedelta(minutes=10))
    killswitch.trip(reason="evening", at=venue.now, by=avi)


def forked(act: Callable[[], None], *, crash_at: str) -> int:
    """Run an act in a process of its own and return its exit code."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.environ[CRASH_KEY] = crash_at
            act()
        except BaseException as error:  # noqa: BLE001 - told by the exit code
            sys.stdout.write(f"child failed: {error!r}\n")
            sys.stdout.flush()
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("point", POINTS)
def test_kill_9_leaves_a_record_that_holds_and_a_restart_goes_on(point):
    cast = opening()

    code = forked(lambda: a_day_at_the_desk(cast), crash_at=point)

    assert code == KILLED, f"{point} was not reached"
    at_death = NOW + timedelta(seconds=10)
    assert invariants(at_death) == ()

    killswitch.rearm(reason="morning", at=at_death, by=approver("bob"))
    venue = Venue(cast["views"])
    venue.at += 10_000_000_000
    venue.restart()
    venue.desk.remember(at=venue.now)
    venue.watched()
    for _ in range(3):
        venue.fill()
    intents.expire_due(at=venue.now + timedelta(minutes=10))
    fills.give_up_lost(at=venue.now + timedelta(minutes=10))

    assert invariants(venue.now + timedelta(minutes=10)) == ()
    assert not OrderIntent.objects.filter(status__in=("SUGGESTED", "APPROVED")).exists()
    assert Fill.objects.filter(side="BUY").count() <= 3


def test_day_at_the_desk_ends_by_itself_without_a_crash():
    cast = opening()

    assert forked(lambda: a_day_at_the_desk(cast), crash_at="") == 0

    statuses = OrderIntent.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == ["FILLED", "EXPIRED"]
    assert Fill.objects.count() == 5
