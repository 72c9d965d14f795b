"""A database that answers and takes nothing: read-only, full, out of connections, slow (D3 to D6).

On a real PostgreSQL. The whole desk under the same faults: `test_long_faults.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from execution.invariants import invariants
from execution.models import OrderIntent
from markets.models import Quarantine
from mpx_site import health
from signals import writer
from signals.models import Signal
from signals.writer import Batch, Writer
from tests.desk_cast import NOW, approver, basket, prepare, show, suggested, trader
from tests.servers import wait_for
from tests.test_signal_store import NOON_NS, opened, publish_rule

pytestmark = [pytest.mark.postgres(only=True), pytest.mark.django_db(transaction=True)]
LATER = NOW + timedelta(seconds=1)
KEYS = [f"{number:032x}" for number in range(4)]
MOST = 150  # connections that are opened to use them up
Fault = Callable[[], AbstractContextManager[None]]


def address() -> dict[str, Any]:
    """Return what a connection beside Django's needs."""
    given = connection.get_connection_params()
    return {key: given[key] for key in ("host", "port", "user", "password", "dbname")}


def connect_afresh() -> None:
    """Let the next query open a connection of its own."""
    connections.close_all()
    connection.close_pool()


@contextmanager
def read_only() -> Iterator[None]:
    """Let the database take nothing from whoever connects from now on."""
    with psycopg.connect(**address(), autocommit=True) as owner:
        owner.execute(f'alter database "{owner.info.dbname}" set default_transaction_read_only=on')
        connect_afresh()
        try:
            yield
        finally:
            owner.execute(f'alter database "{owner.info.dbname}" reset all')
            connect_afresh()


@contextmanager
def full() -> Iterator[None]:
    """Refuse each new signal and intent step as a full disk does."""
    said = "could not extend file: No space left on device"
    tables = ("signals_signal", "execution_intentevent")
    with psycopg.connect(**address(), autocommit=True) as owner:
        owner.execute(
            "create function no_space() returns trigger language plpgsql as"
            f" $$ begin raise exception '{said}' using errcode = '53100'; end $$"
        )
        for table in tables:
            owner.execute(
                f"create trigger no_space before insert on {table}"
                " for each row execute function no_space()"
            )
        try:
            yield
        finally:
            owner.execute("drop function no_space cascade")


FAULTS = [pytest.param(each, id=each.__name__) for each in (read_only, full)]


@pytest.mark.parametrize("fault", FAULTS)
def test_stream_waits_and_stores_all_in_order_when_it_may_write_again(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    rule = publish_rule()
    storing = Writer()
    with fault():
        storing.start()
        for key in KEYS:
            storing.put(Batch(NOON_NS, changes=[opened(rule, key=key)]))
        wait_for(lambda: caplog.text.count("writer.retry") > 3, seconds=10, what="tries")
        assert not Signal.objects.exists()

    assert storing.finish(timeout=10)
    assert list(Signal.objects.order_by("id").values_list("key", flat=True)) == KEYS
    assert (storing.refused, storing.lost, Quarantine.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize("fault", FAULTS)
def test_approval_is_refused_whole_and_pages_are_still_shown(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare()
    monkeypatch.setattr("django.utils.timezone.now", lambda: LATER)
    view, signal = basket()
    show(view)
    intent = suggested(signal, trader("dana"))
    avi = Client(raise_request_exception=False)
    avi.force_login(approver("avi"))
    path, body = f"/api/v1/intents/{intent.pk}/approve", {"plan_hash": intent.plan_hash}

    def approve() -> Any:
        key = {"Idempotency-Key": "drill"}  # the same, as who tries again has
        return avi.post(path, body, content_type="application/json", headers=key)

    with fault():
        refused, page = approve(), avi.get("/signals/")

    assert (refused.status_code, page.status_code) == (503, 200)
    assert refused.json()["code"] == "database_unavailable"
    intent.refresh_from_db()
    assert intent.status == OrderIntent.Status.SUGGESTED
    assert invariants(LATER) == ()
    assert approve().status_code == 200
    assert invariants(LATER) == ()


@contextmanager
def crowded() -> Iterator[None]:
    """Use up every connection that the server gives."""
    connect_afresh()
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            for _ in range(MOST):
                taken.enter_context(psycopg.connect(**address(), autocommit=True))
            pytest.skip(f"the server gives more than {MOST} connections")
        yield


def test_no_connection_left_is_told_as_such_and_heals(client: Client) -> None:
    client.raise_request_exception = False
    with crowded():
        health.checkup.forget()
        begun = time.monotonic()
        alive, probe = client.get("/livez"), client.get("/api/healthz")
        page, api = client.get("/login/"), client.get("/api/v1/signals")
        took = time.monotonic() - begun
    health.checkup.forget()

    assert (alive.status_code, probe.status_code, probe.json()["status"]) == (200, 503, "down")
    assert (page.status_code, api.status_code) == (200, 401)  # neither asks the database
    assert took < 5
    assert client.get("/api/healthz").status_code == 200
    assert invariants(timezone.now()) == ()


def test_query_that_hangs_holds_up_no_probe(client: Client) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with psycopg.connect(**address()) as other:
            other.execute("lock table alerts_heartbeat in access exclusive mode")
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    health.checkup.forget()
    begun = time.monotonic()
    probe, alive = client.get("/api/healthz"), client.get("/livez")
    took = time.monotonic() - begun
    done.set()
    holder.join()
    health.checkup.forget()

    assert (probe.status_code, alive.status_code) == (503, 200)
    assert 0.2 < took < 3
    assert client.get("/api/healthz").status_code == 200
