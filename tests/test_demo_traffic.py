"""Bursts for a demonstration: planted in the running venue, found by the desk itself."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone

from alerts.models import OutboxEntry
from markets.simulator import World
from markets.simulator.truth import PLANTED
from rules.load import publish_missing
from signals import demo
from signals.demo_models import DemoBurst
from signals.models import Signal
from signals.running import LiveThread
from signals.store import alert_key

START = 1_780_000_000_000_000_000
SECOND = 1_000_000_000


def told(*words: str) -> Any:
    out = StringIO()
    call_command("gen_demo_traffic", *words, "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


def test_burst_plants_what_pays_and_hurries_the_venue() -> None:
    quiet = World(seed=3, events=30, start=START, plant_every=0, decoy_every=0, jump_every=0)
    busy = World(seed=3, events=30, start=START, plant_every=0, decoy_every=0, jump_every=0)
    for world in (quiet, busy):
        world.open_frames()

    planted = busy.burst(4)
    sent = [sum(len(frames) for frames in _until(world, 10)) for world in (quiet, busy)]

    assert planted == 4
    assert sum(row.planted for row in busy.truth if row.family in PLANTED) >= 4
    assert not [row for row in quiet.truth if row.family in PLANTED]
    assert sent[1] > 2 * sent[0]


def _until(world: World, seconds: int) -> Any:
    while (frames := world.advance(START + seconds * SECOND)) is not None:
        yield frames


@pytest.mark.django_db
def test_waiting_burst_is_taken_once_and_stale_ones_never() -> None:
    now = timezone.now()
    DemoBurst.objects.create(asked_at=now - timedelta(minutes=5), plants=3)
    DemoBurst.objects.create(asked_at=now, plants=2)

    burst = demo.next_burst()

    assert burst is not None
    assert burst.plants == 2
    assert demo.next_burst() is None
    burst.done(1)
    assert DemoBurst.objects.get(plants=2).planted == 1


@pytest.mark.django_db
def test_without_a_simulated_venue_the_command_says_what_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signals.management.commands.gen_demo_traffic.TAKE_SECONDS", 0.3)

    with pytest.raises(CommandError, match="no desk with a simulated venue") as refused:
        told()

    assert refused.value.returncode == 5
    assert demo.next_burst() is None  # who starts later finds nothing left over


@pytest.mark.django_db(transaction=True)
def test_running_desk_reacts_with_p1_signals_and_alerts() -> None:
    publish_missing(at=timezone.now())
    stream = LiveThread("mock")
    stream.start()
    try:
        result = told("--plants", "3")
    finally:
        stopper = threading.Thread(target=stream.stop)
        stopper.start()
        stopper.join(10)
        stream.join(20)
        connections.close_all()

    assert stream.failed is None
    assert result["planted"] == 3
    assert result["p1"] >= 1
    for signal in Signal.objects.filter(level="P1"):
        assert OutboxEntry.objects.filter(key=alert_key(signal.key)).exists()
