"""The desk's own pulse: found by a rule, stored by the writer, heard in the web process."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from alerts.models import AuditEntry, FeedEntry, Heartbeat, OutboxEntry
from markets.frames import moment
from markets.models import Event, Market
from markets.recording import Recording
from mpx_site.pulse_ear import Ear
from signals import pulse_rows
from signals.live import Live
from signals.models import Signal
from signals.pulse import Beat, Pulse
from signals.sources import Clock, Paced
from signals.writer import Batch, Writer
from tests.live_cast import SECOND, START, shipped_rules, simulated

MS = 1_000_000


def test_each_pulse_is_found_as_an_episode_of_its_own_and_leaves_none_open() -> None:
    pulse = Pulse()

    keys = [pulse.send(at=START + number * 15 * SECOND) for number in range(20)]

    assert len(set(keys)) == 20
    assert len(pulse._pipeline.episodes) == 0
    assert pulse._pipeline.problems.total == 0


def test_a_pulse_costs_nothing_that_counts() -> None:
    pulse = Pulse()
    pulse.send(at=START)
    begun = time.process_time()

    for number in range(1, 101):
        pulse.send(at=START + number * 15 * SECOND)

    # Measured: 0.4 ms each. A hundred of them are 25 minutes of a desk.
    assert time.process_time() - begun < 1.0


@pytest.mark.django_db(transaction=True)
def test_pulse_goes_through_the_writer_into_the_feed_and_is_heard() -> None:
    writer, due = Writer(), time.time_ns() - 40 * MS
    writer.start()
    writer.put(Batch(due, pulses=[Beat("k", due, due + 10 * MS)]))
    assert writer.finish(timeout=10)
    ear = Ear()

    assert ear.listen_once()
    assert not ear.listen_once()

    beat = Heartbeat.objects.get(pk="pulse")
    assert (beat.progress, beat.detail["found"]) == (1, 0.01)
    assert 0.04 <= beat.detail["stored"] <= beat.detail["heard"] < 5


@pytest.mark.django_db
def test_of_several_who_hear_it_the_first_counts() -> None:
    due = time.time_ns()
    pulse_rows.store([Beat("k", due, due)])
    entry = FeedEntry.objects.get()
    first = moment(due) + timedelta(seconds=1)

    pulse_rows.heard(entry, at=first)
    pulse_rows.heard(entry, at=first + timedelta(seconds=5))

    assert Heartbeat.objects.get(pk="pulse").detail["heard"] == pytest.approx(1, abs=0.01)


@pytest.mark.django_db(transaction=True)
def test_live_desk_sends_pulses_that_nothing_else_sees(tmp_path: Path) -> None:
    """No signal, market, audit entry or alert comes of them, and the recording has none."""
    clock, writer, file = Clock(), Writer(), tmp_path / "live.jsonl"
    writer.start()
    live = Live((), clock=clock, writer=writer, recording=file, pulse_seconds=0.2)
    quiet = Paced(iter(()), clock)

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1.5, stop.set)
        await live.run(_Endless(quiet), stop=stop)

    asyncio.run(run())
    assert writer.finish(timeout=10)

    assert FeedEntry.objects.filter(topic="pulse").count() >= 3
    assert not FeedEntry.objects.exclude(topic="pulse").exists()
    for model in (Signal, Market, Event, AuditEntry, OutboxEntry):
        assert not model.objects.exists(), model
    assert list(Recording(file)) == []
    assert live.vital_signs()["open_signals"] == 0


class _Endless:
    """A source from which nothing comes for as long as one listens."""

    def __init__(self, source: Paced) -> None:
        self._source = source

    async def run(self, take: Any) -> None:
        await self._source.run(take)
        await asyncio.Event().wait()

    def confirm(self, event_id: str) -> None: ...

    def vital_signs(self) -> dict[str, object]:
        return {}


def digest_of(frames: Any, *, pulse_seconds: float) -> str:
    """Return the digest of a live run over frames, with or without a pulse beside them."""
    clock = _FrameClock()
    writer = _Forgetful()
    live = Live(shipped_rules(), clock=clock, writer=writer, pulse_seconds=pulse_seconds)

    async def run() -> None:
        for number, frame in enumerate(frames):
            clock.t = frame.t
            live.take(frame)
            if pulse_seconds and number % 50 == 0:
                live._send_pulse(pulse, frame.t)

    pulse = Pulse()
    asyncio.run(run())
    return live.digest


class _FrameClock(Clock):
    t = START

    def now(self) -> int:
        return self.t


class _Forgetful(Writer):
    def put(self, batch: Batch) -> None: ...


def test_pulse_changes_no_digest() -> None:
    frames = list(simulated(seconds=10))

    assert digest_of(frames, pulse_seconds=15) == digest_of(frames, pulse_seconds=0)


@pytest.mark.django_db
def test_pulse_that_does_not_come_back_is_a_trouble() -> None:
    from alerts.watchdog import watch

    at = timezone.now()
    pulse_rows.store([Beat("k", time.time_ns(), time.time_ns())])
    Ear().listen_once()

    told = {}
    for second in range(0, 60, 2):
        for trouble in watch(at=at + timedelta(seconds=second)):
            told[trouble.component] = second

    assert list(told) == ["pulse"]
    assert 30 <= told["pulse"] <= 34
