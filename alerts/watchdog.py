"""Who watches the parts of the desk: a part that goes silent is an alert, its return another.

`watch` may be called by every process that is alive, as often as it likes: whichever comes
first tells it, because a part is in one open trouble at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.dateparse import parse_datetime

from alerts import journal, troubles
from alerts.models import Heartbeat, Trouble
from alerts.shared_beats import missed_parts, part_names

WATCHDOG: Final = "watchdog"
# At least twice as long as a part may take between two beats, so that one late beat is no trouble.
LIMITS = {
    "stream": timedelta(seconds=15),
    "desk": timedelta(seconds=15),
    "beat": timedelta(seconds=15),
    "broker": timedelta(seconds=15),
    "worker": timedelta(seconds=25),
    "pulse": timedelta(seconds=30),
    "telegram_bot": timedelta(seconds=30),
}
# What cannot beat without the other: its silence is told once, by what causes it.
STANDS_ON = {"desk": "stream", "pulse": "stream", "worker": "broker"}
SHARED = ("stream", "desk")  # by the shards of MPX_STREAM_SHARDS
NEED_REDIS = ("beat", "broker")  # in one process there are neither
BOT: Final = "telegram_bot"  # on a desk that has one
# So long without a watch, and silence counts anew: the desk was off, or the database away.
BLIND = timedelta(seconds=8)
RECENT = timedelta(minutes=1)


def watched() -> tuple[str, ...]:
    """Return the parts that may be missed on a desk of this kind."""
    absent = {*(() if settings.REDIS_URL else NEED_REDIS), *(() if bot_is_set_up() else (BOT,))}
    return tuple(name for name in LIMITS if name not in absent)


def shards_watched() -> dict[str, timedelta]:
    """Return the limits of the shards of what is shared; none on a desk without shards.

    Their silence is that of the whole (`alerts.shared_beats`), which is told once.
    """
    shards = settings.MPX_STREAM_SHARDS
    if shards == 1:
        return {}
    return {part: LIMITS[name] for name in SHARED for part in part_names(name, shards)}


def runs_always(component: str) -> bool:
    """Say whether the age of a heartbeat means anything: the replay check's is an hour at times."""
    whole = component.rpartition("-")[0]
    return component == WATCHDOG or component in LIMITS or whole in SHARED


def bot_is_set_up() -> bool:
    """Say whether people are to be able to send commands by Telegram."""
    return bool(settings.TELEGRAM_ENABLED and settings.TELEGRAM_BOT_TOKEN)


def watch(*, at: datetime) -> list[Trouble]:
    """Tell what went silent or came back by a time; return the troubles that changed.

    A part that never beat is not missed.
    """
    since = _watching_since(at)
    beats = {beat.component: beat for beat in Heartbeat.objects.filter(pk__in=watched())}
    known = list(Trouble.objects.filter(Q(ended_at=None) | Q(ended_at__gte=at - RECENT)))
    troubles = {each.component: each for each in known if each.ended_at is None}
    counts_from = _counts_from(beats, known, since)
    silent = {name for name, begun in counts_from.items() if at - begun > LIMITS[name]}
    changed = []
    for name, beat in beats.items():
        trouble = troubles.get(name)
        if trouble is not None and name not in silent and beat.at > trouble.since:
            changed += _end(trouble, beat, at)
        elif trouble is None and name in silent and STANDS_ON.get(name) not in silent:
            changed += _begin(beat, at)
    return changed


def silent_now(ages: Mapping[str, timedelta]) -> tuple[str, ...]:
    """Return the watched parts that are silent, by the age of what beat at least once."""
    limits = {name: LIMITS[name] for name in watched()} | shards_watched()
    return tuple(name for name in limits if name in ages and ages[name] > limits[name])


def _watching_since(at: datetime) -> datetime:
    """Return since when somebody watches without a break, and note that it is still so."""
    last = Heartbeat.objects.filter(pk=WATCHDOG).first()
    told = parse_datetime(str(last.detail.get("since"))) if last else None
    unbroken = last is not None and at - last.at <= BLIND
    since = told if told is not None and unbroken else at
    journal.beat(WATCHDOG, at=at, progress=last.progress + 1 if last else 1, since=since)
    return since


def _counts_from(
    beats: Mapping[str, Heartbeat], known: list[Trouble], since: datetime
) -> dict[str, datetime]:
    """Return from when the silence of each part counts: not while its cause was in trouble."""
    back = {
        each.component: each.ended_at or beats[each.component].at
        for each in known
        if each.ended_at or each.component in beats
    }
    return {
        name: max(beat.at, since, back.get(STANDS_ON.get(name, ""), since))
        for name, beat in beats.items()
    }


def _begin(beat: Heartbeat, at: datetime) -> list[Trouble]:
    try:
        with transaction.atomic():
            trouble = Trouble.objects.create(component=beat.component, since=beat.at)
            tell("component.silent", trouble, at)
    except IntegrityError:
        return []  # another process has just told it
    return [trouble]


def _end(trouble: Trouble, beat: Heartbeat, at: datetime) -> list[Trouble]:
    with transaction.atomic():
        ended = Trouble.objects.filter(pk=trouble.pk, ended_at=None).update(ended_at=beat.at)
        if ended:
            trouble.ended_at = beat.at
            tell("component.back", trouble, at)
    return [trouble] if ended else []


def tell(kind: str, trouble: Trouble, at: datetime) -> None:
    """Tell of a silence or its end, with how long it was and which shards are missed."""
    end = trouble.ended_at or at
    facts: dict[str, object] = {"seconds": round((end - trouble.since).total_seconds())}
    if trouble.component in SHARED and trouble.ended_at is None:
        limit, shards = LIMITS[trouble.component], settings.MPX_STREAM_SHARDS
        missed = missed_parts(trouble.component, shards, at=at, within=limit)
        facts |= {"shards": ", ".join(missed)} if missed else {}
    troubles.tell(kind, trouble, at, facts)
