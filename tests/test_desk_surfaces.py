"""The races of the desk once more through what people and programs use: API, admin, portal.

Twenty clients with sessions of their own, on a real PostgreSQL. Each round begins with
the same record, put back from a copy. `MPX_RACE_ROUNDS=200` is the full form,
`MPX_RACE_SECONDS` ends a race after that time, `MPX_RACE_TABLE=FILE` keeps what was measured.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.test import Client

from alerts.models import AuditEntry
from execution import fills, intents
from execution.fills import Report
from execution.invariants import invariants
from execution.models import Fill, IntentEvent, OrderIntent
from risk import limits
from risk.models import KillSwitch, Policy
from rules.kernel.finding import EventView
from tests.desk_cast import Venue, approved, approver, basket, prepare, show, suggested, trader
from tests.test_desk_races import CLIENTS, LATER, ROUNDS, TABLES, insistent

pytestmark = [
    pytest.mark.postgres(only=True),
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(120 + 3 * ROUNDS),
]
SECONDS = float(os.environ.get("MPX_RACE_SECONDS", "inf"))  # for all rounds of one race
CHECK_EVERY = 10  # rounds, for the invariants; what a race is about is asked in each
BUSY = "busy with another order"

Act = Callable[[], None]


# --- surfaces ------------------------------------------------------------------------


class Surface:
    """One way in. A client sends what its page or program would send."""

    at_once = 1  # orders that one request decides on

    def __init__(self, people: Sequence[User]) -> None:
        self.clients = [self._login(person) for person in people]

    def _login(self, person: User) -> Client:
        client = Client()
        client.force_login(person)
        return client

    def approve(self, number: int, orders: Sequence[OrderIntent]) -> None:
        """Approve as client `number`, asking again while the desk is busy."""
        for _ in range(20):
            if not self._approve(self.clients[number], orders):
                return
        raise AssertionError("the desk stayed busy")

    def _approve(self, client: Client, orders: Sequence[OrderIntent]) -> bool:
        """Send approvals; return whether the desk was busy."""
        raise NotImplementedError

    def kill(self, number: int) -> None:
        raise NotImplementedError


def a_key() -> str:
    return f"{random.getrandbits(120):x}"


class Api(Surface):
    def _approve(self, client: Client, orders: Sequence[OrderIntent]) -> bool:
        answers = [
            client.post(
                f"/api/v1/intents/{intent.pk}/approve",
                {"plan_hash": intent.plan_hash},
                content_type="application/json",
                headers={"Idempotency-Key": a_key()},
            )
            for intent in orders
        ]
        assert {answer.status_code for answer in answers} <= {200, 403, 409, 503}, answers
        return any(answer.json().get("code") == "desk_busy" for answer in answers)

    def kill(self, number: int) -> None:
        answer = self.clients[number].post(
            "/api/v1/risk/kill-switch",
            {"tripped": True, "reason": "race"},
            content_type="application/json",
        )
        assert answer.status_code == 200, answer.content


class Admin(Surface):
    """The bulk action's confirmation page, with all orders ticked."""

    at_once = 2

    def _approve(self, client: Client, orders: Sequence[OrderIntent]) -> bool:
        form: dict[str, Any] = {f"hash-{intent.pk}": intent.plan_hash for intent in orders}
        form |= {"chosen": [intent.pk for intent in orders], "count": len(orders), "key": a_key()}
        answer = client.post("/admin/execution/orderintent/decide/approve/", form)
        assert answer.status_code == 302, answer.content
        return _told_busy(client)

    def kill(self, number: int) -> None:
        form = {"act": "trip", "reason": "race"}
        answer = self.clients[number].post("/admin/risk/killswitch/1/change/", form)
        assert answer.status_code == 302, answer.content


class Portal(Surface):
    def _approve(self, client: Client, orders: Sequence[OrderIntent]) -> bool:
        for intent in orders:
            form = {"plan": intent.plan_hash, "key": a_key()}
            answer = client.post(f"/intents/{intent.pk}/approve/", form)
            assert answer.status_code == 303, answer.content
        return _told_busy(client)

    def kill(self, number: int) -> None:
        form = {"reason": "race", "key": a_key()}
        answer = self.clients[number].post("/risk/kill/", form)
        assert answer.status_code == 303, answer.content


def _told_busy(client: Client) -> bool:
    told = client.cookies.pop("messages", None)
    return told is not None and BUSY in told.value


SURFACES = {"api": Api, "admin": Admin, "portal": Portal}


# --- rounds --------------------------------------------------------------------------


class Clients:
    """Twenty threads that stay, each with its connection; they start each round together."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done = 0
        self._one_done = threading.Condition()

    def at_once(self, acts: Sequence[Act]) -> None:
        """Run acts that start together; raise what one of them raised."""
        assert len(acts) == CLIENTS
        ready = threading.Barrier(CLIENTS)
        self._done = 0

        def run(act: Act) -> None:
            ready.wait(30)
            try:
                act()
            finally:
                with self._one_done:
                    self._done += 1
                    self._one_done.notify_all()

        for done in [self._pool.submit(run, act) for act in acts]:
            done.result()

    def after(self, number: int, act: Act) -> Act:
        """Return an act that waits until so many of the others are done."""

        def run() -> None:
            with self._one_done:
                self._one_done.wait_for(lambda: self._done >= number, 60)
            act()

        return run

    def close(self) -> None:
        ready = threading.Barrier(CLIENTS)

        def close() -> None:
            ready.wait(10)
            connections.close_all()

        for done in [self._pool.submit(close) for _ in range(CLIENTS)]:
            done.result()
        self._pool.shutdown()


class Record:
    """The desk's tables as they were when this was made."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DROP TABLE IF EXISTS kept_{table}")
                cursor.execute(f"CREATE UNLOGGED TABLE kept_{table} AS TABLE {table}")

    def put_back(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
            for table in TABLES:
                cursor.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
        KillSwitch.objects.update(tripped=False, reason="", tripped_by=None, changed_by="")

    def drop(self) -> None:
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DROP TABLE kept_{table}")


@pytest.fixture(autouse=True)
def desk(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    settings.EXEC_MAX_CONCURRENT_ORDERS = 100
    monkeypatch.setattr("django.utils.timezone.now", lambda: LATER)


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> Surface:
    """A way in for twenty people who may approve."""
    people = [approver(f"client-{number}") for number in range(CLIENTS)]
    User.objects.filter(username__startswith="client-").update(is_staff=True)
    return SURFACES[request.param](people)


def rounds(record: Record) -> Iterator[int]:
    begun = time.monotonic()
    for number in range(ROUNDS):
        if number and time.monotonic() - begun > SECONDS:
            break
        record.put_back()
        yield number
    record.drop()


def measured(
    race: str, surface: Surface, seen: list[Any], expected: str, *, since: float, **more: object
) -> None:
    """Keep what was seen over all rounds, for the table in the report."""
    row = {"surface": type(surface).__name__.lower(), "race": race, "clients": CLIENTS,
           "rounds": len(seen), "expected": expected, "seen": sorted({str(each) for each in seen}),
           "seconds": round(time.monotonic() - since, 1), **more}  # fmt: skip
    sys.stdout.write(json.dumps(row) + "\n")
    if table := os.environ.get("MPX_RACE_TABLE"):
        with Path(table).open("a") as file:
            file.write(json.dumps(row) + "\n")


def holds(number: int) -> bool:
    """Ask everything that must hold, now and then: it takes as long as a round."""
    return number % CHECK_EVERY != 0 or invariants(LATER) == ()


def suggestions(count: int, *, event: str | None = None, first: int = 0) -> list[OrderIntent]:
    """Suggest orders of about 92.5 USD, which can lose 61.7 USD each while legs are open."""
    dana, found = trader("dana"), []
    for number in range(first, first + count):
        view, signal = basket(event_id=event or str(20 + number), key=f"{number:032x}")
        show(view)
        found.append(suggested(signal, dana))
    return found


# --- races ---------------------------------------------------------------------------


def test_one_approval_of_twenty_wins(surface: Surface, clients: Clients) -> None:
    (intent,) = suggestions(1)
    seen, since = [], time.monotonic()
    for number in rounds(Record()):
        clients.at_once([partial(surface.approve, n, [intent]) for n in range(CLIENTS)])

        steps = IntentEvent.objects.filter(intent=intent)
        seen.append(steps.filter(kind="APPROVED").count())
        assert steps.filter(kind="APPROVAL_REFUSED").count() == CLIENTS - 1
        assert holds(number)
    measured("approve one intent", surface, seen, "1 approval", since=since)
    assert set(seen) == {1}


# Which cap is the tight one: the policy of the round, and how many orders fit.
CAPS = (
    ({"daily_notional": 1000, "concurrent_orders": 100, "event_exposure": 400}, "own", 10),
    ({"daily_notional": 1000, "concurrent_orders": 2, "event_exposure": 400}, "own", 2),
    ({"daily_notional": 1000, "concurrent_orders": 100, "event_exposure": 400}, "same", 6),
)


@pytest.mark.skipif(ROUNDS < 10, reason="full form only: all caps bind in everything at once")
@pytest.mark.parametrize(("policy", "event", "fit"), CAPS, ids=("daily", "concurrent", "exposure"))
def test_no_cap_is_passed(
    surface: Surface, clients: Clients, policy: dict[str, int], event: str, fit: int
) -> None:
    """Each client asks for one order; the admin's bulk action for its neighbour's too."""
    Policy.objects.update(**policy)
    waiting = suggestions(CLIENTS, event="7" if event == "same" else None)
    asked = [(waiting[n], waiting[(n + 1) % CLIENTS])[: surface.at_once] for n in range(CLIENTS)]
    seen, since = [], time.monotonic()
    for number in rounds(Record()):
        clients.at_once([partial(surface.approve, n, asked[n]) for n in range(CLIENTS)])

        through = OrderIntent.objects.open()
        seen.append(through.count())
        assert through.notional() <= policy["daily_notional"]
        assert through.count() <= policy["concurrent_orders"]
        if event == "same":
            assert sum(intent.worst_loss for intent in through) <= policy["event_exposure"]
        assert holds(number)
    measured(f"caps {policy}, {event} event", surface, seen, f"{fit} orders", since=since)
    assert set(seen) == {fit}


def test_nothing_is_approved_or_filled_after_the_kill_switch(
    surface: Surface, clients: Clients
) -> None:
    """Ten approve, one stops everything, nine brokers store the same three answers."""
    reports = answered_order()
    waiting = suggestions(8)
    seen, since = [], time.monotonic()
    for number in rounds(Record()):
        kill = clients.after(number * 5 % 19, partial(surface.kill, 0))

        clients.at_once(
            [kill]
            + [partial(surface.approve, n, [waiting[n % 8]]) for n in range(1, 11)]
            + [insistent(partial(_store, report)) for report in reports for _ in range(3)]
        )

        tripped = AuditEntry.objects.get(kind="killswitch.tripped").pk
        done = AuditEntry.objects.filter(kind__in=("intent.approved", "intent.leg_filled"))
        assert not done.filter(pk__gt=tripped).exists()
        assert Fill.objects.count() <= 3  # each leg once, however many stored its answer
        seen.append(done.filter(pk__lt=tripped, kind="intent.approved").count() - 1)
        assert holds(number)
    measured("kill switch: approvals before it", surface, seen, "0 after it", since=since)


def test_each_leg_fills_once_whatever_approves(surface: Surface, clients: Clients) -> None:
    """One of twenty approvals wins; then twenty brokers store what the venue answered."""
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = suggested(signal, trader("dana"), at=venue.now)
    record = Record()
    seen, since = [], time.monotonic()
    for number in rounds(record):
        clients.at_once([partial(surface.approve, n, [intent]) for n in range(CLIENTS)])
        reports = _answers(view)

        stores = [insistent(partial(_store, r)) for r in reports for _ in range(7)]
        clients.at_once(stores[:CLIENTS])

        seen.append(Fill.objects.count())
        assert OrderIntent.objects.get().status == OrderIntent.Status.FILLED
        assert holds(number)
    measured("approve, then store 3 answers 7 times each", surface, seen, "3 fills", since=since)
    assert set(seen) == {3}


def test_everything_at_once_holds_in_every_round(surface: Surface, clients: Clients) -> None:
    """One order is being filled, six wait; everybody acts, then somebody stops it all.

    Twelve clients approve (each order is asked for by two), five store the venue's answers,
    one lowers the daily cap, one expires, one trips the kill switch after so many others. Which
    cap binds differs from round to round; what must hold is asked in each.
    """
    Policy.objects.update(concurrent_orders=4, event_exposure=130)
    reports = answered_order()
    waiting = [*suggestions(3, event="8"), *suggestions(3, first=3)]
    bound: Counter[str] = Counter()
    seen, since = [], time.monotonic()
    for number in rounds(Record()):
        Policy.objects.update(daily_notional=470)
        clients.at_once(
            [
                clients.after(number * 5 % 19, partial(surface.kill, 0)),
                insistent(_lower),
                insistent(partial(intents.expire_due, at=LATER)),
                *(partial(surface.approve, n + 1, [waiting[n % 6]]) for n in range(12)),
                *(partial(_store_all, reports, n) for n in range(5)),
            ]
        )

        assert invariants(LATER) == ()  # caps after each approval, one fill per leg, four eyes
        seen.append((_approvals(), Fill.objects.count()))
        bound.update(_refusals())
    measured("everything at once: (approved, filled)", surface, seen, "all invariants hold",
             since=since, refused_by=dict(bound.most_common()))  # fmt: skip


def _lower() -> None:
    by = User.objects.get(username="avi")
    with suppress(limits.BadLimit):
        limits.change(by=by, at=LATER, reason="calm", daily_notional=Decimal(400))


def _store_all(reports: Sequence[Report], first: int) -> None:
    for each in range(len(reports)):
        insistent(partial(_store, reports[(first + each) % len(reports)]))()


def _approvals() -> int:
    """Check that each order was approved once at most, none after the switch; count them."""
    tripped = AuditEntry.objects.get(kind="killswitch.tripped").pk
    approved_ids = list(
        IntentEvent.objects.filter(kind="APPROVED").values_list("intent", "audit_id")
    )
    assert len({intent for intent, _ in approved_ids}) == len(approved_ids)
    assert all(audit < tripped for _, audit in approved_ids)
    return len(approved_ids) - 1  # one was approved before the round


def _refusals() -> Iterator[str]:
    """Return the checks that refused approvals in this round."""
    for data in IntentEvent.objects.filter(kind="APPROVAL_REFUSED").values_list("data", flat=True):
        yield from (check["name"] for check in data["checks"] if not check["ok"])


def answered_order() -> list[Report]:
    """Approve an order and return what the venue answers to its three legs."""
    view, signal = basket()
    venue = Venue([view]).watched()
    approved(signal, trader("dana"), approver("avi"), at=venue.now)
    return _answers(view)


def _answers(view: EventView) -> list[Report]:
    """Let a venue that knows nothing of earlier rounds, or of their time, fill what is approved."""
    venue = Venue([view])
    venue.at = round(LATER.timestamp() * 1e9)
    venue.work()
    venue.wait(0.2)
    venue.nudge()
    reports = list(venue.desk.broker.reports)
    assert len(reports) == 3
    return reports


def _store(report: Report) -> None:
    fills.store(report)
