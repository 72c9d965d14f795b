"""The writer: what was put is stored, in its order, whatever the database does meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError

from alerts.models import FeedEntry, Heartbeat
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import unix_ns
from markets.listing import EventTerms, event_terms
from markets.models import Event, Market, Quarantine, Quote, Tick
from markets.problems import Problem
from markets.ticks import Top
from signals import store, writer
from signals.models import Signal
from signals.writer import Batch, Writer
from tests.servers import ROOT, Postgres, manage, settings_for
from tests.test_signal_store import KEY, NOON, NOON_NS, VIEW, life, opened, publish_rule

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def desk() -> Iterator[Writer]:
    """A writer that runs, beside a published rule."""
    started = Writer()
    started.rule = publish_rule()
    started.start()
    yield started
    started.finish(timeout=5)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)


def batch(**given: Any) -> Batch:
    return Batch(NOON_NS, **given)


def top(market_id: str, *, bid: str = "0.40", at: datetime = NOON) -> Top:
    size = 100 * SIZE_ONE
    price = int(Decimal(bid) * PRICE_ONE)
    return Top(market_id, unix_ns(at), "fresh", price, 4_500, size, size)


def problem(subject: str, **given: Any) -> Problem:
    values = {"detail": "", "sample": "", "count": 1, "first_at": NOON_NS, "last_at": NOON_NS}
    return Problem("ws", "bad_value", subject, **{**values, **given})


def refused() -> list[tuple[str, int]]:
    rows = Quarantine.objects.filter(source="writer", reason="refused").order_by("subject")
    return list(rows.values_list("subject", "count"))


# --- what is put ---------------------------------------------------------------------


@pytest.mark.postgres
def test_everything_in_a_batch_is_stored(desk):
    desk.put(
        batch(
            events=[VIEW.terms], changes=life(desk.rule), tops=[top("170")],
            problems=[problem("170", count=3)], beat={"books": 7}, progress=12,
        )
    )  # fmt: skip

    assert desk.finish(timeout=10)
    assert Event.objects.get().markets.count() == 2
    assert Signal.objects.get().event_id == "7"
    assert (Quote.objects.get().market_id, Tick.objects.get().market_id) == ("170", "170")
    assert Quarantine.objects.get().count == 3
    beat = Heartbeat.objects.get()
    assert (beat.component, beat.progress, beat.detail["books"]) == ("stream", 12, 7)


def test_batches_are_stored_in_their_order(desk):
    desk.put(batch(events=[VIEW.terms]))
    for number in range(40):
        desk.put(batch(changes=[opened(desk.rule, at=number, key=f"{number:032x}")]))

    assert desk.finish(timeout=20)
    told = [entry.payload["key"] for entry in FeedEntry.objects.order_by("id")]
    assert told == [f"{number:032x}" for number in range(40)]


def test_empty_batch_is_nothing(desk):
    desk.put(batch())

    assert desk._queue.empty()


def test_heartbeat_alone_is_something(desk):
    desk.put(batch(beat={}))

    assert desk.finish(timeout=10)
    assert Heartbeat.objects.exists()


def test_full_queue_drops_prices_and_never_signals(monkeypatch):
    monkeypatch.setattr(writer, "MAX_WAITING", 2)
    waiting = Writer()
    rule = publish_rule()

    for number in range(5):
        changes = [opened(rule, key=f"{number:032x}")]
        waiting.put(batch(changes=changes, tops=[top("170"), top("171")]))

    assert waiting.dropped_tops == 4
    assert waiting._queue.qsize() == 5
    waiting.start()
    assert waiting.finish(timeout=10)
    assert Signal.objects.count() == 5


# --- what is refused -----------------------------------------------------------------


@pytest.mark.postgres
def test_what_cannot_be_stored_harms_nothing_else(desk):
    """A rule version that is not in the database, a market that is not, in the middle of others."""
    stranger = replace(desk.rule, sha256="f" * 64)
    changes = [opened(desk.rule, key=f"{number:032x}") for number in range(6)]
    changes.insert(3, opened(stranger, key=KEY))
    tops = [top("170"), top("nowhere"), top("171")]

    desk.put(batch(events=[VIEW.terms], changes=changes, tops=tops))
    desk.put(batch(beat={}))

    assert desk.finish(timeout=10)
    assert list(Signal.objects.order_by("id").values_list("key", flat=True)) == [
        f"{number:032x}" for number in range(6)
    ]
    assert sorted(Quote.objects.values_list("market_id", flat=True)) == ["170", "171"]
    assert refused() == [("SignalChange", 1), ("Top", 1)]
    assert Heartbeat.objects.get().detail["refused"] == 2


HOSTILE = "a\0b <script>\u202e" + "x" * 5_000


def listed(event_id: str) -> EventTerms:
    """Return an event with hostile words everywhere, as it is read from the venue."""
    market = {
        "id": f"1{event_id}",
        "conditionId": f"0x{event_id:0>64}",
        "question": HOSTILE,
        "slug": HOSTILE,
        "groupItemTitle": HOSTILE,
        "outcomes": json.dumps([HOSTILE, "No"]),
        "clobTokenIds": json.dumps([f"{event_id}1", f"{event_id}2"]),
    }
    words = {"title": HOSTILE, "slug": HOSTILE, "tags": [{"label": HOSTILE, "slug": HOSTILE}]}
    return event_terms({"id": event_id, "markets": [market], **words})


@pytest.mark.postgres
def test_hostile_text_is_stored_or_left_out_alone(desk):
    endless = replace(VIEW.terms, event_id="9" * 500)

    desk.put(batch(events=[endless, VIEW.terms, listed("8")]))
    desk.put(batch(changes=life(desk.rule), problems=[problem(HOSTILE[:100], detail=HOSTILE)]))

    assert desk.finish(timeout=10)
    assert {"7", "8"} <= set(Event.objects.values_list("id", flat=True))
    assert {"170", "171", "18"} <= set(Market.objects.values_list("id", flat=True))
    assert Signal.objects.get().close_reason == "edge_gone"
    assert Quarantine.objects.filter(source="ws").exists()


# --- a database that is away ---------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_database_that_is_away_is_waited_for(desk, monkeypatch, error):
    save, failures = store.save, iter(range(3))

    def away(*given: Any, **told: Any) -> None:
        for number in failures:
            raise error(f"gone {number}")
        save(*given, **told)

    monkeypatch.setattr(store, "save", away)
    desk.put(batch(events=[VIEW.terms], changes=life(desk.rule)))

    assert desk.finish(timeout=10)
    assert Signal.objects.get().status == "CLOSED"
    assert desk.refused == desk.lost == 0


def test_end_comes_in_time_though_the_database_stays_away(desk, monkeypatch):
    def away(*given: Any, **told: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(store, "save", away)
    for _ in range(3):
        desk.put(batch(changes=life(desk.rule)))
    begun = time.monotonic()

    assert not desk.finish(timeout=0.3)
    assert time.monotonic() - begun < 2
    assert not desk.is_alive()
    assert desk.lost == 12


def test_writer_that_was_never_started_ends():
    assert Writer().finish(timeout=1)


WRITE_ON = """
import sys, time
import django
django.setup()
from signals.writer import Writer
from tests.test_signal_store import NOON_NS, VIEW, opened, publish_rule
from signals.writer import Batch

rule = publish_rule()
writer = Writer()
writer.start()
writer.put(Batch(NOON_NS, events=[VIEW.terms]))
print("ready", flush=True)
for number in range(60):
    change = opened(rule, at=number, key=f"{number:032x}")
    writer.put(Batch(NOON_NS, changes=[change], beat={}, progress=number))
    time.sleep(0.05)
print("put", flush=True)
print(writer.finish(timeout=30), writer.refused, writer.lost, flush=True)
"""
LOOK = """
import json, django
django.setup()
from alerts import journal
from alerts.models import FeedEntry, Heartbeat
keys = [entry.payload["key"] for entry in FeedEntry.objects.order_by("id")]
print(json.dumps({"keys": keys, "audit": journal.verify(),
                  "progress": Heartbeat.objects.get().progress}))
"""


@pytest.mark.django_db(transaction=False)
def test_postgresql_may_go_away_and_come_back(own_postgres: Postgres, tmp_path: Path):
    """Stopped for two seconds under load: nothing that was put is lost, the order is kept."""
    env = settings_for(
        tmp_path, DATABASE_URL=own_postgres.url, DJANGO_SETTINGS_MODULE="mpx_site.settings"
    )
    assert manage("migrate", "-v0", env=env).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_ON], env=env, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "ready\n"

    time.sleep(0.5)
    own_postgres.stop()
    time.sleep(2)
    own_postgres.start()
    out, err = process.communicate(timeout=60)

    assert out.splitlines() == ["put", "True 0 0"], err
    assert "writer.retry" in err
    look = subprocess.check_output([sys.executable, "-c", LOOK], env=env, cwd=ROOT, text=True)
    assert json.loads(look) == {
        "keys": [f"{number:032x}" for number in range(60)],
        "audit": 61,  # and the rule's publication
        "progress": 59,
    }
