"""Who watches the parts of the desk: a part that goes silent is an alert, its return another.

`watch` may be called by every process that is alive, as often as it likes: whichever comes
first tells it, because a part is in one open trouble at a time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from alerts import journal
from alerts.models import Heartbeat, Trouble

# Twice as long as a part may take between two beats, so that one late beat is no trouble.
LIMITS = {
    "stream": timedelta(seconds=15),
    "desk": timedelta(seconds=15),
    "worker": timedelta(seconds=25),
}
BEGAN = timezone.now()  # before this process was there, nobody was asked to beat


def watch(*, at: datetime, since: datetime = BEGAN) -> list[Trouble]:
    """Tell what went silent or came back by a time; return the troubles that changed.

    A part that never beat is not missed. Silence counts from `since` at the earliest: a
    desk that was switched off over night wakes up without an alert.
    """
    changed = []
    troubles = {each.component: each for each in Trouble.objects.filter(ended_at=None)}
    for beat in Heartbeat.objects.filter(pk__in=LIMITS):
        silent = at - max(beat.at, since) > LIMITS[beat.component]
        trouble = troubles.get(beat.component)
        if silent and trouble is None:
            changed += _begin(beat, at)
        elif trouble is not None and beat.at > trouble.since and not silent:
            changed += _end(trouble, beat, at)
    return changed


def _begin(beat: Heartbeat, at: datetime) -> list[Trouble]:
    try:
        with transaction.atomic():
            trouble = Trouble.objects.create(component=beat.component, since=beat.at)
            _tell("component.silent", trouble, at)
    except IntegrityError:
        return []  # another process has just told it
    return [trouble]


def _end(trouble: Trouble, beat: Heartbeat, at: datetime) -> list[Trouble]:
    with transaction.atomic():
        ended = Trouble.objects.filter(pk=trouble.pk, ended_at=None).update(ended_at=beat.at)
        if ended:
            trouble.ended_at = beat.at
            _tell("component.back", trouble, at)
    return [trouble] if ended else []


def _tell(kind: str, trouble: Trouble, at: datetime) -> None:
    end = trouble.ended_at or at
    told = {
        "component": trouble.component,
        "since": trouble.since.isoformat(timespec="seconds"),
        "seconds": round((end - trouble.since).total_seconds()),
    }
    subject = f"component:{trouble.component}"
    journal.record(kind=kind, subject=subject, data=told, at=at)
    journal.alert(key=f"{subject}:{trouble.pk}:{kind}", kind=kind, payload=told, at=at)
