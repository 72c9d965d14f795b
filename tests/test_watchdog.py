"""A part of the desk that goes silent is told once, and its return once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from alerts import journal
from alerts.lifeline import Lifeline
from alerts.models import Heartbeat, OutboxEntry, Trouble
from alerts.watchdog import watch
from alerts.words import as_text, words_of
from tests.bot_api import Answer, BotApi, telegram

__all__ = ["telegram"]
pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def beat(component: str, at: datetime) -> None:
    journal.beat(component, at=at, progress=1)


def look(*, until: float, since: float = 0, alive: tuple[str, ...] = ()) -> dict[str, float]:
    """Look every two seconds while some parts go on beating; return when each was told."""
    told: dict[str, float] = {}
    seconds = since
    while seconds <= until:
        for component in alive:
            beat(component, after(seconds))
        told |= {each.component: seconds for each in watch(at=after(seconds))}
        seconds += 2
    return told


def kinds() -> list[str]:
    return list(OutboxEntry.objects.order_by("id").values_list("kind", flat=True))


def test_silence_and_return_are_told_once_each():
    beat("stream", AT)
    assert look(until=300) == {"stream": 16}

    beat("stream", after(301))
    assert look(since=302, until=310) == {"stream": 302}

    assert kinds() == ["component.silent", "component.back"]
    (trouble,) = Trouble.objects.all()
    assert (trouble.since, trouble.ended_at) == (AT, after(301))


def test_alert_names_the_part_and_leads_to_its_health():
    beat("worker", AT)
    look(until=26)

    row = OutboxEntry.objects.get()
    text = as_text(words_of(row.kind, row.payload), portal="http://desk")

    assert text.splitlines() == [
        "A part of the desk is silent",
        "component: worker",
        "since: 2026-06-01T12:00:00+00:00",
        "seconds: 26",
        "http://desk/health/",
    ]


def test_desk_that_was_off_or_without_a_database_wakes_up_quietly():
    beat("stream", AT)
    look(until=4)

    assert look(since=3_600, until=3_614) == {}
    assert look(since=3_616, until=3_620) == {"stream": 3_616}


def test_part_that_never_ran_is_not_missed():
    assert look(until=60) == {}
    assert kinds() == []


def test_late_beat_is_no_trouble():
    beat("worker", AT)

    assert look(until=24) == {}


def test_what_follows_from_a_silence_is_not_told_beside_it(settings: Any) -> None:
    settings.REDIS_URL = "redis://localhost:1/0"
    for part in ("stream", "desk", "pulse", "broker", "worker", "beat"):
        beat(part, AT)

    assert look(until=60, alive=("broker", "worker", "beat")) == {"stream": 16}
    beat("stream", after(61))
    beat("desk", after(61))
    beat("pulse", after(61))
    assert look(since=62, until=120, alive=("stream", "desk", "pulse", "beat")) == {
        "stream": 62,
        "broker": 76,
    }
    # Back is the broker, and the worker has its time to show that it is, too.
    assert look(since=122, until=140, alive=("stream", "desk", "pulse", "beat", "broker")) == {
        "broker": 122
    }


def test_worker_and_beat_are_told_apart(settings: Any) -> None:
    settings.REDIS_URL = "redis://localhost:1/0"
    for part in ("broker", "worker", "beat"):
        beat(part, AT)

    assert look(until=30, alive=("broker", "worker")) == {"beat": 16}
    beat("beat", after(31))
    assert look(since=32, until=60, alive=("broker", "beat")) == {"beat": 32, "worker": 56}


def test_in_one_process_nobody_misses_beat_or_broker(settings: Any) -> None:
    settings.REDIS_URL = ""
    for part in ("broker", "beat"):
        beat(part, AT)

    assert look(until=60) == {}


# --- the database -----------------------------------------------------------


def outage(lifeline: Lifeline, *, seconds: int, since: int = 0) -> None:
    """Lose the database for a while and get it back, with a look every two seconds."""
    lifeline.alive(at=after(since))
    for second in range(since + 2, since + seconds, 2):
        lifeline.lost(at=after(second))
    lifeline.alive(at=after(since + seconds))


def test_lost_database_is_told_at_once_and_its_return_by_the_outbox(telegram: BotApi) -> None:
    lifeline = Lifeline(at=AT)

    outage(lifeline, seconds=60)

    (text,) = telegram.texts
    assert "A part of the desk is silent" in text and "component: database" in text
    row = OutboxEntry.objects.get()
    assert (row.kind, row.payload["component"], row.payload["seconds"]) == (
        "component.back", "database", 60,
    )  # fmt: skip
    assert Trouble.objects.get().ended_at == after(60)


def test_restarted_database_is_no_trouble(telegram: BotApi) -> None:
    outage(Lifeline(at=AT), seconds=8)

    assert telegram.texts == []
    assert not OutboxEntry.objects.exists()


def test_database_that_comes_and_goes_is_one_message_in_ten_minutes(telegram: BotApi) -> None:
    lifeline = Lifeline(at=AT)

    for number in range(12):
        outage(lifeline, seconds=30, since=number * 60)

    assert len(telegram.texts) == 2
    assert OutboxEntry.objects.count() == 12  # each return, in one digest if they are many


def test_message_that_was_not_taken_is_tried_again(telegram: BotApi) -> None:
    telegram.answers.extend([Answer(500, "busy"), Answer(429, "slow", {"retry_after": 20})])

    outage(Lifeline(at=AT), seconds=90)

    assert (len(telegram.texts), telegram.asked) == (1, 3)


def test_refused_message_is_not_tried_again(telegram: BotApi) -> None:
    telegram.answers.extend([Answer(403, "Forbidden: bot was kicked")] * 9)

    outage(Lifeline(at=AT), seconds=90)

    assert telegram.asked == 1


def test_without_telegram_the_return_is_written_down(settings: Any) -> None:
    settings.TELEGRAM_ENABLED = False

    outage(Lifeline(at=timezone.now()), seconds=60)

    assert kinds() == ["component.back"]
    assert not Heartbeat.objects.exists()
