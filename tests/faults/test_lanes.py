"""The connections of a process on a real PostgreSQL: bounded, kept, never shared (D5, D6)."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from channels.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.db import DatabaseError, connection, transaction
from django.test import Client

from mpx_site import health
from mpx_site.db import limits
from mpx_site.db.lanes import SPARE, Lane, Lanes, NoLane
from mpx_site.db.limits import Pages
from mpx_site.db.postgresql.base import lanes
from signals.models import Signal
from tests.faults.test_database_refuses import address, connect_afresh

pytestmark = [pytest.mark.postgres(only=True), pytest.mark.django_db(transaction=True)]
SERVER = "here"


def connect() -> psycopg.Connection[Any]:
    return psycopg.connect(**address(), autocommit=True)


def some(most: int = SPARE + 2) -> tuple[Lanes, Callable[..., Lane]]:
    own = Lanes(most, patience=0.3)
    return own, partial(own.take, SERVER, connect)


def pid_of(lane: Lane) -> int:
    return lane.connection.info.backend_pid


# --- lanes ---------------------------------------------------------------------------


def test_pages_wait_for_each_other_and_leave_the_rest_to_others() -> None:
    own, take = some()
    pages = [take(page=True) for _ in range(2)]
    with pytest.raises(NoLane, match="all 2 connections"):
        take(page=True)
    others = [take() for _ in range(SPARE)]
    with pytest.raises(NoLane):
        take()

    own.give(pages.pop())
    own.give(others.pop())
    again = take(page=False)
    for lane in (*pages, *others, again):
        own.give(lane)
    own.close_idle()


def test_who_waits_goes_on_as_soon_as_one_is_given_back() -> None:
    own, take = some(1 + SPARE)
    own.patience = 10.0
    lane = take(page=True)
    threading.Timer(0.3, own.give, [lane]).start()
    begun = time.monotonic()

    next_one = take(page=True)

    assert 0.2 < time.monotonic() - begun < 5
    assert pid_of(next_one) == pid_of(lane)
    own.give(next_one)
    own.close_idle()


def test_connection_that_the_server_ended_is_not_given_to_anybody() -> None:
    own, take = some()
    lane = take()
    first = pid_of(lane)
    own.give(lane)
    with connect() as owner:
        owner.execute("select pg_terminate_backend(%s, 5000)", [first])

    lane = take()

    assert pid_of(lane) != first
    assert lane.connection.execute("select 1").fetchone() == (1,)
    own.give(lane)
    own.close_idle()


def test_connection_in_a_transaction_or_of_another_server_is_closed() -> None:
    own, take = some()
    lane = take()
    lane.connection.execute("begin")
    own.give(lane)
    assert lane.connection.closed

    lane = take()
    own.give(lane)
    other = own.take("there", connect)
    assert lane.connection.closed and not other.connection.closed
    own.give(other)
    own.close_idle()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_place_of_a_connection_that_was_forgotten_is_free_again() -> None:
    own, take = some(SPARE + 1)
    kept = [take() for _ in range(SPARE + 1)]
    kept.pop()
    gc.collect()

    kept.append(take())

    for lane in kept:
        own.give(lane)
    own.close_idle()


def test_refusal_of_the_server_is_passed_on_and_takes_no_place() -> None:
    own, take = some(SPARE + 1)

    def refused() -> psycopg.Connection[Any]:
        return psycopg.connect(**address() | {"dbname": "nowhere"})

    for _ in range(SPARE + 3):
        with pytest.raises(psycopg.OperationalError, match="nowhere"):
            own.take(SERVER, refused)
    own.give(take())
    own.close_idle()


# --- Django on them ------------------------------------------------------------------


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_connection_is_kept_between_two_uses_and_never_out_of_a_transaction() -> None:
    first = backend()
    connection.close()
    assert backend() == first
    with pytest.raises(DatabaseError), transaction.atomic():
        connection.close()
        backend()
    connection.close()
    assert backend() != first


def test_forked_process_has_connections_of_its_own_and_leaves_its_parents_alone() -> None:
    mine = backend()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        connection.close()
        os.write(write, str(backend()).encode())
        connection.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert int(os.read(read, 20)) != mine
    assert backend() == mine
    os.close(read)
    os.close(write)


# --- pages ---------------------------------------------------------------------------


def ask(path: str, client: Client) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask as daphne does; return status, headers and body."""
    cookie = "; ".join(f"{each.key}={each.value}" for each in client.cookies.values())
    place, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": place,
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())],
    }  # fmt: skip

    async def talk() -> tuple[int, dict[bytes, bytes], bytes]:
        served = ApplicationCommunicator(Pages(get_asgi_application()), scope)
        await served.send_input({"type": "http.request"})
        begun = await served.receive_output(60)
        parts = [await served.receive_output(60)]
        while parts[-1].get("more_body"):
            parts.append(await served.receive_output(60))
        await served.wait(10)
        return (
            begun["status"],
            dict(begun["headers"]),
            b"".join(each.get("body", b"") for each in parts),
        )

    return asyncio.run(talk())


@pytest.fixture
def olga() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


@contextmanager
def locked(table: str) -> Iterator[threading.Event]:
    """Hold a table so that every query on it waits, until the event is set."""
    done = threading.Event()
    with connect() as other:
        other.execute("begin")
        other.execute(f"lock table {table} in access exclusive mode")
        letting_go = threading.Thread(target=lambda: (done.wait(30), other.rollback()))
        letting_go.start()
        try:
            yield done
        finally:
            done.set()
            letting_go.join()


@pytest.mark.parametrize(
    ("path", "words"), [("/signals/", b"took too long"), ("/api/v1/signals", b"query_too_slow")]
)
def test_slow_query_ends_with_a_page_that_says_so_and_holds_up_no_probe(
    olga: Client, settings: Any, path: str, words: bytes
) -> None:
    settings.MPX_PAGE_QUERY_SECONDS = 1
    with locked("signals_signal"):
        begun = time.monotonic()
        status, headers, body = ask(path, olga)
        took = time.monotonic() - begun
        health.checkup.forget()
        probe, _, _ = ask("/api/healthz", Client())
    health.checkup.forget()

    assert 0.9 < took < 10
    assert (status, headers[b"Retry-After"], probe) == (503, b"5", 200)
    assert words in body and headers[b"X-Trace-Id"] in body
    assert ask(path, olga)[0] == 200


def test_export_and_what_is_no_page_have_more_time(olga: Client, settings: Any) -> None:
    settings.MPX_PAGE_QUERY_SECONDS = 1
    connect_afresh()
    for words in (partial(ask, "/signals/?format=csv", olga), Signal.objects.count):
        with locked("signals_signal") as done:
            threading.Timer(2.5, done.set).start()
            found = words()
        assert found == 0 or found[0] == 200


def test_page_without_a_connection_says_so_while_probes_have_theirs(
    olga: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.5)
    connect_afresh()
    monkeypatch.setattr(lanes(), "most", SPARE + 1)
    taken = lanes().take(SERVER, connect, page=True)
    begun = time.monotonic()
    page, headers, body = ask("/signals/", olga)
    api, _, told = ask("/api/v1/signals", olga)
    took = time.monotonic() - begun
    health.checkup.forget()
    health.unapplied.forget()
    probes = [ask(path, Client())[0] for path in ("/api/healthz", "/readyz", "/livez")]
    lanes().give(taken)
    connect_afresh()

    assert (page, headers[b"Retry-After"], api) == (503, b"5", 503)
    assert b"Too many ask at once" in body and b"database_busy" in told
    assert probes == [200, 200, 200]
    assert took < 5
    assert ask("/signals/", olga)[0] == 200
