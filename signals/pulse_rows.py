"""The pulse in the database: told in the feed log by the writer, kept as a heartbeat once heard."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from django.db import transaction

from alerts import journal
from alerts.models import FeedEntry, Heartbeat
from markets.frames import moment
from signals.pulse import TOPIC, Beat

PULSE = "pulse"
NS = 1_000_000_000


@transaction.atomic
def store(beats: Iterable[Beat]) -> None:
    """Tell beats in the feed, in the journal's turn as everything that is told there."""
    for beat in beats:
        told = {
            "key": beat.key,
            "due_at": beat.due_at,
            "found_at": beat.found_at,
            "stored_at": time.time_ns(),
        }
        journal.tell(topic=TOPIC, kind="beat", payload=told, at=moment(beat.due_at))


def newest_after(seq: int) -> FeedEntry | None:
    """Return the newest pulse in the feed that is newer than a number; None while there is none."""
    return FeedEntry.objects.filter(topic=TOPIC, seq__gt=seq).order_by("-seq").first()


def heard(entry: FeedEntry, *, at: datetime) -> None:
    """Note that a pulse came through, and how long each stretch of its way took (seconds).

    Of several who hear it the first one's time counts.
    """
    if Heartbeat.objects.filter(pk=PULSE, progress__gte=entry.seq).exists():
        return
    due, found, stored = (entry.payload[name] for name in ("due_at", "found_at", "stored_at"))
    arrived = int(at.timestamp() * NS)
    lags = {
        "found": (found - due) / NS,
        "stored": (stored - due) / NS,
        "heard": (arrived - due) / NS,
    }
    journal.beat(
        PULSE,
        at=at.astimezone(UTC),
        progress=entry.seq,
        **{name: round(max(lag, 0.0), 4) for name, lag in lags.items()},
    )
