"""A time in which no stream ran is a gap: nobody takes its silence for a quiet market."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from alerts.models import Heartbeat
from markets import gap_rows
from markets.gap_rows import NOT_RUNNING
from markets.models import Gap
from signals.writer import Batch, Writer

pytestmark = pytest.mark.django_db(transaction=True)


def beats(*states: dict[str, int]) -> None:
    """Let a writer store these beats and end."""
    writer = Writer()
    writer.start()
    for books in states:
        writer.put(Batch(time.time_ns(), beat={"books": books}, progress=1))
    assert writer.finish(timeout=10)


def test_first_stream_of_a_desk_has_no_gap_behind_it() -> None:
    beats({"fresh": 3})

    assert not Gap.objects.exists()


def test_gap_is_from_the_last_beat_until_books_are_fresh_and_told_once() -> None:
    last = datetime.now(UTC) - timedelta(hours=2)
    Heartbeat.objects.create(component="stream", at=last)

    beats({"waiting": 3})
    assert not Gap.objects.exists()  # beaten, but nothing was known yet
    Heartbeat.objects.update(at=last)
    beats({"waiting": 3}, {"fresh": 2, "waiting": 1}, {"fresh": 3})

    [gap] = Gap.objects.all()
    assert (gap.kind, gap.subject, gap.reason) == ("CONNECTION", "stream", NOT_RUNNING)
    assert (gap.opened_at, gap.books, gap.ending) == (last, 3, "HEALED")
    assert gap.healed_at is not None
    assert datetime.now(UTC) - gap.healed_at < timedelta(seconds=30)


def test_last_beat_from_the_future_stops_no_beat_after_it() -> None:
    """The process before had a clock that was ahead."""
    now = datetime.now(UTC)

    gap_rows.not_running(now + timedelta(seconds=90), now, books=3)

    gap = Gap.objects.get()
    assert (gap.reason, gap.healing_seconds, gap.opened_at) == (NOT_RUNNING, 0, now)
