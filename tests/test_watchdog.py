"""A part of the desk that goes silent is told once, and its return once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts import journal
from alerts.models import OutboxEntry, Trouble
from alerts.watchdog import watch
from alerts.words import as_text, words_of

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = AT - timedelta(days=1)


def beat(component: str, at: datetime) -> None:
    journal.beat(component, at=at, progress=1)


def seen(at: datetime, since: datetime = LONG_AGO) -> list[str]:
    return [each.component for each in watch(at=at, since=since)]


def kinds() -> list[str]:
    return list(OutboxEntry.objects.order_by("id").values_list("kind", flat=True))


def test_silence_and_return_are_told_once_each():
    beat("stream", AT)
    told = [seen(AT + timedelta(seconds=seconds)) for seconds in (5, 16, 20, 300)]
    assert told == [[], ["stream"], [], []]

    beat("stream", AT + timedelta(seconds=301))
    assert [seen(AT + timedelta(seconds=seconds)) for seconds in (302, 303)] == [["stream"], []]

    assert kinds() == ["component.silent", "component.back"]
    (trouble,) = Trouble.objects.all()
    assert (trouble.since, trouble.ended_at) == (AT, AT + timedelta(seconds=301))


def test_alert_names_the_part_and_leads_to_its_health():
    beat("worker", AT)
    watch(at=AT + timedelta(seconds=60), since=LONG_AGO)

    row = OutboxEntry.objects.get()
    text = as_text(words_of(row.kind, row.payload), portal="http://desk")

    assert text.splitlines() == [
        "A part of the desk is silent",
        "component: worker",
        "since: 2026-06-01T12:00:00+00:00",
        "seconds: 60",
        "http://desk/health/",
    ]


def test_desk_that_was_off_wakes_up_quietly():
    beat("stream", LONG_AGO)

    assert seen(AT, since=AT - timedelta(seconds=5)) == []
    assert seen(AT + timedelta(seconds=11), since=AT - timedelta(seconds=5)) == ["stream"]


def test_part_that_never_ran_is_not_missed():
    assert seen(AT) == []
    assert kinds() == []


def test_late_beat_is_no_trouble():
    beat("worker", AT)

    assert seen(AT + timedelta(seconds=24)) == []
