"""One alert for what lasts, however often it shows: a flapping connection, a wrong clock."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from alerts import clocks, journal, troubles
from alerts.models import AuditEntry, Heartbeat, OutboxEntry, Trouble
from markets import gap_rows
from markets.frames import unix_ns
from markets.gaps import Break
from markets.models import Gap
from mpx_site import doctor_parts, flapping, health
from signals.live import Live
from signals.writer import Writer
from tests.faults.proxy import proxied
from tests.servers import wait_for
from tests.test_quiet_or_dead import follow, fresh_books
from tests.venue import mock_venue

real_now = timezone.now
SECOND = timedelta(seconds=1)


def told(kind: str) -> int:
    """Return how many alerts of a kind were written, for one voice."""
    return OutboxEntry.objects.filter(kind=kind, voice="telegram").count()


@pytest.mark.django_db(transaction=True)
def test_connection_that_breaks_again_and_again_is_one_alert_and_its_calm_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flapping, "CALM", timedelta(seconds=3))
    writer = Writer()
    writer.start()

    def flap(live: Live) -> None:
        wait_for(lambda: fresh_books(live) > 10, seconds=30, what="fresh books")
        wait_for(lambda: broken_often(live), seconds=90, what="breaks")
        wait_for(calm, seconds=20, what="calm")

    def broken_often(live: Live) -> bool:
        time.sleep(0.3)
        if fresh_books(live):  # what never heals is one gap, and stale data
            wire.reset()
        flapping.watch(at=timezone.now())
        return Gap.objects.filter(kind=Gap.Kind.CONNECTION).count() > flapping.MOST + 2

    def calm() -> bool:
        flapping.watch(at=timezone.now())
        return told("feed.steady") > 0

    with mock_venue(events=4) as venue, proxied(venue.port) as wire:
        asyncio.run(follow(venue, wire.port, flap, writer=writer))
    assert writer.finish(timeout=10)

    assert (told("feed.flapping"), told("feed.steady")) == (1, 1)
    assert AuditEntry.objects.filter(kind="feed.flapping").count() == 1


@pytest.mark.django_db
def test_connections_of_the_same_number_in_two_shards_are_two() -> None:
    at = timezone.now()

    def cut(stream: str, times: int) -> None:
        for minute in range(times):
            opened_at = unix_ns(at - timedelta(minutes=1 + minute))
            gap_rows.opened([Break("connection", "0", stream, opened_at, ())], stream=stream)

    for stream, second in (("stream-0", 0), ("stream-1", 1)):
        at += timedelta(seconds=second)
        cut(stream, flapping.MOST)
    flapping.watch(at=at)
    assert told("feed.flapping") == 0
    at += timedelta(seconds=1)
    cut("stream-1", 1)
    flapping.watch(at=at)
    assert told("feed.flapping") == 1


@pytest.mark.postgres(only=True)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seconds", [90, -90])
def test_stream_whose_clock_is_wrong_is_told_once_and_judges_others_by_the_databases(
    monkeypatch: pytest.MonkeyPatch, client: Client, seconds: int
) -> None:
    def shifted() -> datetime:
        return real_now() + timedelta(seconds=seconds)

    monkeypatch.setattr(timezone, "now", shifted)
    judged = [clocks.look() for _ in range(3)]
    monkeypatch.undo()
    health.checkup.forget()
    answer = client.get("/api/healthz").json()
    clock = answer["components"][f"clock:{socket.gethostname()}"[: clocks.LONGEST]]
    metrics = client.get("/metrics").content.decode()
    seen = doctor_parts.clocks_of_streams()
    health.checkup.forget()

    assert all(abs(at - real_now()) < timedelta(seconds=20) for at in judged)
    assert told("clock.wrong") == 1
    assert (answer["status"], clock["state"]) == ("degraded", "stale")
    assert seen.state == "fail" and ("ahead of" if seconds > 0 else "behind") in seen.text
    line = next(
        each for each in metrics.splitlines() if each.startswith("mpx_clock_ahead_seconds{")
    )
    assert abs(float(line.split()[-1]) - seconds) < 10

    clocks.look()
    clocks.look()
    assert told("clock.right") == 1
    assert not Trouble.objects.filter(ended_at=None).exists()
    assert doctor_parts.clocks_of_streams().state == "ok"


@pytest.mark.django_db
def test_machine_that_is_gone_takes_its_wrong_clock_with_it() -> None:
    at = timezone.now()
    for machine, age in (("old", clocks.KEPT + SECOND), ("here", SECOND)):
        journal.beat(f"{clocks.PREFIX}{machine}", at=at - age, progress=0, ahead_seconds=90.0)
        troubles.begin(f"{clocks.PREFIX}{machine}", "clock.wrong", at=at - age, text="ahead")

    clocks.forget(at=at)
    clocks.forget(at=at)

    assert told("clock.gone") == 1
    assert [each.component for each in Trouble.objects.filter(ended_at=None)] == ["clock:here"]
    assert [each.component for each in Heartbeat.objects.all()] == ["clock:here"]
