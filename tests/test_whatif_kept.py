"""The rolling recording: spans that continue each other, and each of which stands alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from markets.frames import LEFT, Frame
from markets.past.spans import Beginning, Reading, Span, coverage, kept_reading, spans
from markets.recording import Recording, RecordingWriter
from signals import kept
from signals.kept import Keeping, Kept, prune
from signals.live import recording_header
from signals.pipeline import Pipeline, Step
from tests.live_cast import SECOND, START, rule, simulated

SPAN_SECONDS = 10.0
HOUR = 3600 * SECOND


def keeping(folder: Path, **changed: Any) -> Keeping:
    values = {"hours": 24, "megabytes": 64, "span_seconds": SPAN_SECONDS}
    return Keeping(folder, **{**values, **changed})


def begun(pipeline: Pipeline, wanted: Keeping) -> Kept:
    return Kept(pipeline, wanted, header=recording_header(pipeline.engine))


def ran(frames: Iterator[Frame] | list[Frame], wanted: Keeping) -> Pipeline:
    """Run frames through a pipeline that keeps them; return it ended."""
    pipeline = Pipeline((rule(),))
    writing = begun(pipeline, wanted)
    for frame in frames:
        writing.take(frame, pipeline.feed(frame))
    writing.close()
    pipeline.stop()
    return pipeline


def replayed(reading: Reading) -> Pipeline:
    """Run a reading that is one stretch through a new pipeline; return it, not ended."""
    pipeline = Pipeline((rule(),))
    first, *frames = reading
    assert isinstance(first, Beginning)
    for frame in frames:
        assert isinstance(frame, Frame)
        pipeline.feed(frame)
    return pipeline


def found_now(pipeline: Pipeline) -> dict[str, object]:
    """Return what is seen on every watch at the end, by subject and kind."""
    seen = pipeline.engine.scan(at=pipeline.last_frame_at)
    return {
        f"{sighting.subject} {finding.kind}": finding.row()
        for sighting in seen
        for finding in sighting.findings
    }


@pytest.fixture(scope="module")
def minute() -> list[Frame]:
    return list(simulated(seconds=60))


# --- continuing ----------------------------------------------------------------------


def test_spans_read_together_are_what_the_live_path_saw(tmp_path, minute):
    live = ran(minute, keeping(tmp_path))

    found = spans(tmp_path)
    again = replayed(kept_reading(found))
    again.stop()

    assert len(found) == 6
    assert again.frames == live.frames == len(minute)
    assert again.digest.hexdigest() == live.digest.hexdigest()


def test_the_share_grows_to_one_over_all_spans(tmp_path, minute):
    ran(minute, keeping(tmp_path))
    reading = kept_reading(spans(tmp_path))

    shares = [reading.share for _ in reading]

    assert shares == sorted(shares) and len(set(shares)) > 6
    assert reading.share == 1.0


# --- alone ---------------------------------------------------------------------------


def test_each_span_alone_ends_with_what_the_live_path_found_then(tmp_path, minute):
    ran(minute, keeping(tmp_path))
    found = spans(tmp_path)
    ends = [span.start for span in found[1:]] + [minute[-1].t]
    continuous, position = Pipeline((rule(),)), 0

    several = 0
    for span, end in zip(found, ends, strict=True):
        while position < len(minute) and minute[position].t <= end:
            continuous.feed(minute[position])
            position += 1
        alone = replayed(kept_reading([span]))
        assert found_now(alone) == found_now(continuous)
        several += bool(found_now(alone))
        books = alone.books.by_market
        for condition, book in continuous.books.by_market.items():
            assert books[condition].state == book.state
            assert (books[condition].bids, books[condition].asks) == (book.bids, book.asks)
    assert several >= 5


def test_the_venue_s_own_hashes_hold_for_the_books_of_a_span(tmp_path, minute):
    ran(minute, keeping(tmp_path))
    continuous, position = Pipeline((rule(),)), 0

    for span in spans(tmp_path)[1:]:
        while minute[position].t <= span.start:
            continuous.feed(minute[position])
            position += 1
        leading = Recording(span.path).header["kept"]["state_frames"]
        state = list(Recording(span.path))[:leading]
        alone = Pipeline((rule(),))
        for frame in state:
            alone.feed(frame)
        proofs = {c: book.hash_holds() for c, book in alone.books.by_market.items()}
        wanted = {
            c: None if book.state_note else book.hash_holds()
            for c, book in continuous.books.by_market.items()
        }
        assert proofs == wanted
        assert list(proofs.values()).count(True) > 80
        assert {frame.ch for frame in state} == {"gamma", "ws"}


def test_a_book_that_is_not_trusted_is_left_out_of_the_next_span(tmp_path, minute):
    half = minute[: len(minute) // 2]
    before = Pipeline((rule(),))
    for frame in half:
        before.feed(frame)
    tokens = [book.token0 for book in before.books.by_market.values()][:30]
    cut = Frame(half[-1].t + 1, "ws", ",".join(tokens).encode(), half[-1].conn, LEFT)
    due = Frame(half[-1].t + int(SPAN_SECONDS * 1e9) + 2, "ws", b"{}", None)

    pipeline = ran([*half, cut, due], keeping(tmp_path))

    alone = replayed(kept_reading(spans(tmp_path)[-1:]))
    states = {c: book.state for c, book in pipeline.books.by_market.items()}
    again = {c: book.state for c, book in alone.books.by_market.items()}
    assert set(states.values()) >= {"stale", "fresh"}
    assert again == {c: "awaiting" if s == "stale" else s for c, s in states.items()}


def test_what_the_desk_knows_is_told_again_at_the_start_of_each_span(tmp_path, minute):
    told = [
        Frame(START, "gamma", b'{"relations": []}', req="house/relations"),
        Frame(START + 1, "gamma", b'{"relations": [ ]}', req="house/relations"),
        Frame(START + 2, "gamma", b'{"cells": []}', req="house/history"),
    ]
    later = [msgspec.structs.replace(frame, t=frame.t + 10) for frame in minute]

    ran([*told, *later], keeping(tmp_path))

    last = list(Recording(spans(tmp_path)[-1].path))
    house = [(frame.req, frame.body) for frame in last[:3] if (frame.req or "").startswith("house")]
    assert house == [("house/relations", told[1].body), ("house/history", told[2].body)]


def test_events_that_are_over_are_not_told_again(tmp_path, minute):
    pipeline = Pipeline((rule(),))
    writing = begun(pipeline, keeping(tmp_path))
    for frame in minute[:500]:
        writing.take(frame, pipeline.feed(frame))
    event_id, event = next(iter(pipeline.events.items()))
    over = tuple(replace(market, untradable="closed") for market in event.markets)
    pipeline.events[event_id] = replace(event, markets=over)

    state = writing._state(pipeline.last_frame_at)
    writing.close()

    assert event_id not in writing._pages
    assert len(writing._pages) == len(pipeline.events) - 1
    assert state.frames == len(list(state))


# --- what is missing -----------------------------------------------------------------


def test_a_missing_span_begins_a_new_stretch(tmp_path, minute):
    ran(minute, keeping(tmp_path))
    spans(tmp_path)[2].path.unlink()

    items = list(kept_reading(spans(tmp_path)))

    beginnings = [n for n, item in enumerate(items) if isinstance(item, Beginning)]
    assert len(beginnings) == 2
    assert beginnings[0] == 0


def test_a_span_that_is_deleted_while_others_are_read_is_noted(tmp_path, minute):
    ran(minute, keeping(tmp_path))
    reading = kept_reading(spans(tmp_path))
    items = iter(reading)
    next(items)
    spans(tmp_path)[1].path.unlink()

    rest = list(items)

    assert sum(isinstance(item, Beginning) for item in rest) == 1
    assert [problem.reason for problem in reading.problems.drain()] == ["unreadable"]
    assert rest[-1] == minute[-1]


def test_two_sessions_are_read_one_after_the_other(tmp_path, minute):
    half = len(minute) // 2
    ran(minute[:half], keeping(tmp_path))
    ran(minute[half:], keeping(tmp_path))

    items = list(kept_reading(spans(tmp_path)))

    assert sum(isinstance(item, Beginning) for item in items) == 2
    assert [item for item in items if isinstance(item, Frame)] == minute


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path, minute, monkeypatch):
    monkeypatch.setattr(kept, "RETRY_SECONDS", 0.0)
    folder = tmp_path / "kept"
    folder.write_text("no folder")
    pipeline = Pipeline((rule(),))
    writing = begun(pipeline, keeping(folder))
    for frame in minute[:3000]:
        writing.take(frame, pipeline.feed(frame))
    wait_until_failed(writing)
    folder.unlink()
    writing.flush()
    for frame in minute[3000:]:
        writing.take(frame, pipeline.feed(frame))
    writing.close()

    assert writing.vital_signs()["kept_failures"] >= 1
    first, *rest = list(kept_reading(spans(folder)))
    assert isinstance(first, Beginning)
    assert rest[-1] == minute[-1]
    assert Recording(spans(folder)[0].path).header["kept"]["follows"] is False


def wait_until_failed(writing: Kept) -> None:
    deadline = time.monotonic() + 10
    while not writing.vital_signs()["kept_failures"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_frames_that_the_disk_cannot_follow_are_given_up_until_the_next_span(
    tmp_path, minute, monkeypatch
):
    monkeypatch.setattr(kept, "CHUNK", 100)
    monkeypatch.setattr(kept, "MOST_CHUNKS", 3)
    pipeline = Pipeline((rule(),))
    writing = begun(pipeline, keeping(tmp_path))
    monkeypatch.setattr(writing._scribe, "_do", lambda item: time.sleep(0.2))
    for frame in minute[:2000]:
        writing.take(frame, pipeline.feed(frame))
    assert writing.vital_signs()["kept_failures"] >= 1
    assert writing._scribe.waiting < 10
    monkeypatch.undo()
    for frame in minute[2000:]:
        writing.take(frame, pipeline.feed(frame))
    writing.close()

    last = spans(tmp_path)[-1]
    alone = replayed(kept_reading([last]))
    assert found_now(alone) == found_now(pipeline)


def test_a_full_span_ends_early(tmp_path, minute, monkeypatch):
    monkeypatch.setattr(kept, "FLUSH_SECONDS", 0.0)
    pipeline = Pipeline((rule(),))
    wanted = keeping(tmp_path, megabytes=1, span_seconds=3600.0)
    writing = begun(pipeline, wanted)
    for number, frame in enumerate(minute):
        writing.take(frame, pipeline.feed(frame))
        if number % 500 == 0:
            writing.flush()
            time.sleep(0.05)  # as in the live path, where frames take their time
    writing.close()

    found = spans(tmp_path)
    assert len(found) > 3
    assert all(span.size < 4 * wanted.span_bytes for span in found)
    assert sum(span.size for span in found) <= 1024 * 1024


# --- old spans -----------------------------------------------------------------------


def aged(folder: Path, number: int, *, hours_ago: float, size: int = 10) -> Span:
    now = time.time()
    start = int((now - hours_ago * 3600 - 900) * 1e9)
    span = Span.new(folder, start=start, session="0123abcd", number=number)
    span.path.write_bytes(b"x" * size)
    os.utime(span.path, (now - hours_ago * 3600,) * 2)
    return span


def test_spans_are_deleted_by_age(tmp_path):
    old, young = aged(tmp_path, 1, hours_ago=25), aged(tmp_path, 2, hours_ago=23)
    (tmp_path / "kept-mine.jsonl.gz").write_text("not ours")

    deleted = prune(keeping(tmp_path), at=time.time_ns())

    assert deleted == 1
    assert not old.path.exists() and young.path.exists()
    assert (tmp_path / "kept-mine.jsonl.gz").exists()


def test_spans_are_deleted_by_size_oldest_first(tmp_path):
    made = [aged(tmp_path, n, hours_ago=9 - n, size=400_000) for n in range(1, 5)]

    prune(keeping(tmp_path, megabytes=1), at=time.time_ns())

    assert [span.path.exists() for span in made] == [False, False, True, True]


def test_coverage_counts_gaps_out(tmp_path):
    assert coverage(tmp_path, since=0) is None
    assert coverage(tmp_path / "none", since=0) is None
    aged(tmp_path, 1, hours_ago=5)
    aged(tmp_path, 2, hours_ago=1)

    all_of_it = coverage(tmp_path, since=0)
    newest = coverage(tmp_path, since=time.time_ns() - 2 * HOUR)

    assert all_of_it and newest
    assert all_of_it.spans == 2
    assert all_of_it.covered / SECOND == pytest.approx(1800, abs=1)
    assert newest.spans == 1
    assert newest.covered / SECOND == pytest.approx(900, abs=1)


def test_the_first_line_of_a_span_is_a_recording_header(tmp_path, minute):
    ran(minute[:3000], keeping(tmp_path))

    header = Recording(spans(tmp_path)[0].path).header

    assert header["mpx_recording"] == 1
    assert header["kept"]["number"] == 1 and header["kept"]["follows"] is True
    assert json.dumps(header["rules"])


def test_keeping_a_frame_costs_no_more_than_recording_it(tmp_path, minute):
    pipeline = Pipeline((rule(),))
    steps: list[Step] = [pipeline.feed(frame) for frame in minute]
    ratios = []
    for turn in range(5):
        writing = begun(pipeline, keeping(tmp_path / f"kept{turn}", span_seconds=3600.0))
        begun_at = time.thread_time()
        for frame, step in zip(minute, steps, strict=True):
            writing.take(frame, step)
        own = time.thread_time() - begun_at
        writing.close()
        recorder = RecordingWriter(tmp_path / f"all{turn}.jsonl.gz", header={})
        begun_at = time.thread_time()
        for frame in minute:
            recorder.write(frame)
        recorder.close()
        ratios.append(own / (time.thread_time() - begun_at))

    assert sorted(ratios)[2] < 0.5
