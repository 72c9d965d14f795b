"""The live path as a running thing: it stores beside the frames and ends as it should."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.utils import timezone

from alerts import journal
from alerts.models import AuditEntry, FeedEntry, Heartbeat, OutboxEntry
from markets.frames import Frame
from markets.models import Event, Quote, Tick
from rules.load import publish_missing
from signals import running, store
from signals.live import Live
from signals.models import Signal
from signals.running import LiveThread
from signals.sources import Clock, Paced, Simulated
from tests.feed_cast import CROSS, Hand, event_id, market_id, plain
from tests.live_cast import run_live, shipped_rules, simulated
from tests.related import rel
from tests.servers import manage, settings_for, wait_for
from tests.test_replay import Replayed
from tests.test_signal_store import opened, publish_rule

# --- one run -------------------------------------------------------------------------


def test_run_ends_with_its_source_and_closes_everything(tmp_path):
    live = run_live(tmp_path / "r.jsonl", feed=simulated(seconds=15))

    assert live.pipeline.frames > 1_000
    assert live.pipeline.digest.changes > 5
    assert len(live.pipeline.episodes) == 0


def test_digest_is_logged_with_the_recording(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "signals.live"):
        live = run_live(tmp_path / "r.jsonl", feed=simulated(seconds=15))

    told = [record.msg for record in caplog.records if record.msg["event"] == "recording.closed"]
    (closed,) = [(each["frames"], each["changes"], each["digest"]) for each in told]
    assert closed == (live.pipeline.frames, live.pipeline.digest.changes, live.digest)
    assert Replayed(tmp_path / "r.jsonl", "--json").last["digest"] == live.digest


class Broken:
    """A source that gives some frames and then fails."""

    def __init__(self, clock: Clock, frames: Iterator[Frame]) -> None:
        self.paced = Paced(frames, clock, 50)

    async def run(self, take: Any) -> None:
        await self.paced.run(take)
        raise ConnectionError("the venue is gone")

    def confirm(self, event_id: str) -> None: ...

    def vital_signs(self) -> dict[str, object]:
        return {}


def test_source_that_fails_ends_the_run_after_it_was_closed(tmp_path):
    clock = Clock()
    file = tmp_path / "r.jsonl"
    live = Live(shipped_rules(), clock=clock, writer=None, recording=file)
    source = Broken(clock, simulated(seconds=20))

    with pytest.raises(ConnectionError, match="the venue is gone"):
        asyncio.run(live.run(source, stop=asyncio.Event()))

    assert len(live.pipeline.episodes) == 0
    assert Replayed(file, "--json").last["digest"] == live.digest


class Asked(Broken):
    """A source that notes whose terms it was asked for."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def confirm(self, event_id: str) -> None:
        self.events.append(event_id)


def test_what_waits_for_its_terms_again_has_them_read_again():
    """It paid, stopped and pays again within its episode: nothing is opened by that."""
    hand = Hand(CROSS, confirm_terms=True)
    hand.list(plain(1), plain(2))
    hand.relate(rel("implies", market_id(1), market_id(2)))
    hand.show(1, 0.60, 0.65)
    hand.show(2, 0.45, 0.50)
    hand.wait(10)
    hand.list(plain(1), plain(2))
    for ask in (0.65, 0.50):
        hand.wait(10)
        hand.show(2, ask - 0.05, ask)
    hand.sweep()
    source = Asked()
    live = Live(tuple(hand.rules), clock=Clock(), writer=None, confirm_terms=True)
    live._source = source

    for frame in hand.frames:
        live.take(frame)

    assert [change for change, _ in hand.told()].count("opened") == 1
    assert source.events == 2 * [event_id(1), event_id(2)]


def test_what_is_gone_is_closed_though_no_frame_comes(tmp_path, monkeypatch):
    """The last frame takes an edge away; the clock alone must say so."""
    monkeypatch.setattr("signals.live.MARK_SECONDS", 0.05)
    clock, stop = Clock(), asyncio.Event()
    live = Live(shipped_rules(), clock=clock, writer=None)
    frames = simulated(seconds=60)

    class Pausing:
        async def run(self, take: Any) -> None:
            for frame in frames:
                take(Frame(clock.now(), frame.ch, frame.body, frame.conn, frame.req))
                if live.pipeline.episodes.due < clock.now() + 2 * 10**9:
                    break
            await asyncio.sleep(1.5)
            stop.set()
            assert live.pipeline.episodes.due > clock.now() + 10**9

        def confirm(self, event_id: str) -> None: ...

        def vital_signs(self) -> dict[str, object]:
            return {}

    asyncio.run(live.run(Pausing(), stop=stop))

    assert live.pipeline.digest.changes > 0


def test_clock_never_stands_still_or_steps_back(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "time_ns", iter([100, 100, 50, 200]).__next__)

    assert [clock.now() for _ in range(4)] == [100, 101, 102, 200]


# --- the thread ----------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch, settings) -> None:
    """A simulated venue of which a minute takes two seconds."""
    monkeypatch.setattr(running, "Simulated", partial(Simulated, speed=30))
    settings.SIMULATOR_EVENTS = 20


@pytest.fixture
def threads() -> Iterator[list[LiveThread]]:
    """Threads that are stopped whatever a test does."""
    started: list[LiveThread] = []
    yield started
    for thread in started:
        thread.stop()
        thread.join(20)
        assert not thread.is_alive()


def start(threads: list[LiveThread], source: str, **given: Any) -> LiveThread:
    thread = LiveThread(source, **given)
    threads.append(thread)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
def test_live_thread_stores_what_it_sees(fast, threads, tmp_path):
    publish_missing(at=timezone.now())
    file = tmp_path / "r.jsonl"

    thread = start(threads, "mock", recording=file)
    wait_for(lambda: Signal.objects.filter(status="CLOSED").count() > 2, seconds=20, what="signals")
    thread.stop()
    thread.join(20)

    assert thread.failed is None
    assert not thread.is_alive()
    assert not Signal.objects.open().exists()
    assert Event.objects.count() >= 20
    assert Quote.objects.exists()
    assert Tick.objects.exists()
    beat = Heartbeat.objects.get(component="stream")
    assert beat.progress == thread.live.pipeline.frames
    assert beat.detail["open_signals"] == 0
    p1 = {f"signal:{key}:P1" for key in Signal.objects.filter(peak_profit__gt=0, level="P1")
          .values_list("key", flat=True)}  # fmt: skip
    assert p1 <= set(OutboxEntry.objects.values_list("key", flat=True))
    changes = FeedEntry.objects.filter(topic="signals").count()
    assert changes == thread.live.pipeline.digest.changes
    assert journal.verify() == AuditEntry.objects.count()
    assert Replayed(file, "--json").last["digest"] == thread.live.digest


@pytest.mark.django_db(transaction=True)
def test_start_closes_what_a_process_that_died_left_open(fast, threads):
    publish_missing(at=timezone.now())
    first = start(threads, "mock")
    wait_for(lambda: Signal.objects.open().exists(), seconds=20, what="an open signal")
    first.stop()
    first.join(20)
    lost = Signal.objects.order_by("id").first()
    Signal.objects.filter(pk=lost.pk).update(status="OPEN", closed_at=None, close_reason="")

    start(threads, "mock")

    wait_for(
        lambda: not Signal.objects.filter(pk=lost.pk, status="OPEN").exists(),
        seconds=20, what="the lost signal to be closed",
    )  # fmt: skip
    lost.refresh_from_db()
    assert (lost.close_reason, lost.closed_at) == ("process_lost", lost.changed_at)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("source", "error"),
    [("moon", ImproperlyConfigured), ("replay:nowhere.jsonl", FileNotFoundError)],
)
def test_source_that_cannot_be_opened_is_told(threads, source, error):
    store.save([opened(publish_rule())])

    thread = start(threads, source)
    thread.join(20)

    assert isinstance(thread.failed, error)
    assert Signal.objects.open().exists()  # of a desk that may well be running


@pytest.mark.django_db(transaction=True)
def test_database_that_is_away_at_the_start_is_told(threads, monkeypatch):
    def away(**_: object) -> int:
        raise OperationalError("gone")

    monkeypatch.setattr(store, "close_lost", away)
    thread = start(threads, "mock")
    thread.join(20)

    assert isinstance(thread.failed, OperationalError)


@pytest.mark.django_db(transaction=True)
def test_thread_may_be_stopped_at_any_moment(fast, threads):
    publish_missing(at=timezone.now())

    for wait in (0, 0.02, 0.1, 0.3):
        thread = start(threads, "mock", store=False)
        time.sleep(wait)
        begun = time.monotonic()
        stoppers = [threading.Thread(target=thread.stop) for _ in range(3)]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()
        thread.join(10)

        assert thread.failed is None
        assert time.monotonic() - begun < 5
    thread.stop()  # and once more when it is over


# --- the commands --------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk with tables and rules."""
    home = tmp_path_factory.mktemp("home")
    env = settings_for(home, SIMULATOR_EVENTS="20")
    assert manage("migrate", "-v0", env=env).returncode == 0
    assert manage("rules", "load", env=env).returncode == 0
    return home


def test_record_prints_the_digest_that_replay_gives(home, tmp_path):
    env = settings_for(home, SIMULATOR_EVENTS="20")
    file = tmp_path / "r.jsonl.gz"

    ended = manage(
        "record", "--out", str(file), "--source", "mock", "--seconds", "4", "--json", env=env
    )

    told = json.loads(ended.stdout)
    replayed = Replayed(file, "--json").last
    assert ended.returncode == 0
    assert told == {
        "file": str(file), "frames": replayed["frames"], "digest": replayed["digest"],
    }  # fmt: skip
    assert told["frames"] > 300


@pytest.mark.parametrize(
    ("command", "source", "code"), [("stream", "moon", 2), ("record", "replay:nowhere.jsonl", 4)]
)
def test_source_that_cannot_be_read_has_its_exit_code(home, tmp_path, command, source, code):
    out = ["--out", str(tmp_path / "r.jsonl")] if command == "record" else []

    ended = manage(command, "--source", source, *out, env=settings_for(home))

    assert ended.returncode == code
    assert source.removeprefix("replay:") in ended.stderr.splitlines()[-1]


def test_record_into_a_folder_that_is_not_there_is_refused(home, tmp_path):
    file = tmp_path / "no" / "r.jsonl"

    ended = manage("record", "--out", str(file), "--source", "mock", env=settings_for(home))

    assert ended.returncode == 2
    assert "--out" in ended.stderr
