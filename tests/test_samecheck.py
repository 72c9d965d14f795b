"""The self-check: what was kept replays to the digests that the live path wrote, or it is told."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from alerts.models import AuditEntry, Heartbeat, OutboxEntry
from markets.frames import Frame
from markets.past.spans import spans
from signals import checkpoints, kept, samecheck
from signals.kept import Keeping, Kept
from signals.live import recording_header
from signals.pipeline import Pipeline
from tests.live_cast import SECOND, shipped_rules, simulated

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def minute() -> list[Frame]:
    return list(simulated(seconds=60))


def keep(folder: Any, frames: list[Frame]) -> Pipeline:
    """Run frames through a pipeline as the live path does, and keep them."""
    pipeline = Pipeline(shipped_rules())
    header = recording_header(pipeline.engine)
    writing = Kept(pipeline, Keeping(folder, 24, 64, span_seconds=10.0), header=header)
    for number, frame in enumerate(frames):
        writing.take(frame, pipeline.feed(frame))
        if number % 500 == 0:
            pipeline.advance(frame.t)
            writing.flush()
    pipeline.stop()
    writing.close()
    return pipeline


def compared(folder: Any) -> samecheck.Checked:
    return samecheck.check(folder, seconds=60)


def test_what_was_kept_replays_to_what_was_told_span_by_span(tmp_path, minute):
    live = keep(tmp_path, minute)

    told = compared(tmp_path)

    assert (told.outcome, told.compared, told.of) == ("same", 6, 6)
    assert told.changes == live.digest.changes > 20
    assert told.frames == len(minute)


def test_a_long_session_is_compared_from_its_last_checkpoint(tmp_path, minute, monkeypatch):
    """As when the first hours are deleted: nothing before the checkpoint is read."""
    monkeypatch.setattr(kept, "CHECKPOINT_NS", 20 * SECOND)
    keep(tmp_path, minute)
    first, second, *rest = spans(tmp_path)
    first.delete()
    second.delete()

    told = compared(tmp_path)

    assert (told.outcome, told.compared) == ("same", 2)
    assert [each.number for each in rest if each.checkpoint_path.exists()] == [3, 5]
    assert [len(each.spans) for each in samecheck.stretches(tmp_path)] == [2, 2]
    assert told.changes > 0


def test_without_a_beginning_nothing_is_compared(tmp_path, minute):
    keep(tmp_path, minute)
    spans(tmp_path)[0].delete()

    assert compared(tmp_path).outcome == "nothing"


def test_a_span_that_goes_on_or_was_killed_is_not_compared(tmp_path, minute):
    keep(tmp_path, minute)
    spans(tmp_path)[-1].ending_path.unlink()

    assert (compared(tmp_path).outcome, compared(tmp_path).of) == ("same", 5)


def test_a_flipped_byte_of_a_frame_is_found(tmp_path, minute):
    keep(tmp_path, minute)
    path = spans(tmp_path)[2].path
    header, *lines = gzip.decompress(path.read_bytes()).splitlines()
    place = len(lines) // 2
    row = json.loads(lines[place])
    row["body"] = row["body"].replace("1", "2", 1)
    lines[place] = json.dumps(row).encode()
    path.write_bytes(gzip.compress(b"\n".join([header, *lines, b""])))

    told = compared(tmp_path)

    assert (told.outcome, told.compared) == ("differs", 2)
    assert path.name in told.detail and "frames" in told.detail


def test_a_cut_span_is_found(tmp_path, minute):
    keep(tmp_path, minute)
    path = spans(tmp_path)[1].path
    path.write_bytes(path.read_bytes()[:-200])

    assert compared(tmp_path).outcome == "differs"


def test_a_changed_constant_is_found(tmp_path, minute, monkeypatch):
    keep(tmp_path, minute)
    monkeypatch.setattr("signals.episodes.LINGER_NS", 1_500_000_000)

    told = compared(tmp_path)

    assert told.outcome == "differs"
    assert "the live path" in told.detail


def test_other_code_is_not_compared(tmp_path, minute, monkeypatch):
    keep(tmp_path, minute)
    monkeypatch.setattr(checkpoints, "code", lambda: "another")

    assert compared(tmp_path).outcome == "other_code"


def test_a_checkpoint_of_somebody_else_is_refused(tmp_path, minute, monkeypatch, settings):
    monkeypatch.setattr(kept, "CHECKPOINT_NS", 20 * SECOND)
    keep(tmp_path, minute)
    settings.SECRET_KEY = "another"

    told = compared(tmp_path)

    assert told.outcome == "nothing"
    assert "SECRET_KEY" in told.detail


def test_the_time_is_bounded(tmp_path, minute):
    keep(tmp_path, minute)

    told = samecheck.check(tmp_path, seconds=-1)

    assert (told.outcome, told.compared, told.detail) == ("nothing", 0, "the time was up")


@pytest.mark.django_db
def test_a_difference_is_kept_audited_and_told_once(tmp_path, minute, monkeypatch):
    keep(tmp_path, minute)
    monkeypatch.setattr("signals.episodes.LINGER_NS", 1_500_000_000)

    samecheck.check_and_tell(tmp_path, seconds=60, at=NOW)
    samecheck.check_and_tell(tmp_path, seconds=60, at=NOW)

    assert Heartbeat.objects.get(pk=samecheck.REPLAY).detail["outcome"] == "differs"
    assert AuditEntry.objects.filter(kind="replay.differs").count() == 1
    assert OutboxEntry.objects.filter(kind="replay.differs").exists()


@pytest.mark.django_db
def test_the_same_is_kept_and_told_to_nobody(tmp_path, minute):
    keep(tmp_path, minute)

    samecheck.check_and_tell(tmp_path, seconds=60, at=NOW)

    beat = Heartbeat.objects.get(pk=samecheck.REPLAY)
    assert (beat.detail["outcome"], beat.progress) == ("same", 6)
    assert not OutboxEntry.objects.exists()
