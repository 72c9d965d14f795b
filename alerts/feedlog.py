"""The feed log: what the desk tells live, numbered per topic without a hole.

`append` runs in the journal's turn (see `alerts.journal`), so ids and numbers
grow in commit order. A topic's epoch changes when its numbers no longer
continue what was told: its head was lost, or the database is another one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Subquery

from alerts.models import FeedEntry, FeedHead

# Both databases give the number back from the one statement that takes it.
TAKE_NUMBER = (
    "INSERT INTO alerts_feedhead (topic, epoch, seq, home) VALUES (%s, %s, 1, '') "
    "ON CONFLICT (topic) DO UPDATE SET seq = alerts_feedhead.seq + 1 RETURNING seq"
)
# A restored dump has another table, a restored archive another timeline.
POSTGRES_HOME = (
    "SELECT (SELECT oid FROM pg_database WHERE datname = current_database()), "
    "'alerts_feedhead'::regclass::oid, (SELECT timeline_id FROM pg_control_checkpoint())"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in one topic: `seq` is the last entry heard, 0 before the first."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Position:
    """The end of the whole log: the newest id, and where each topic is."""

    last_id: int
    places: dict[str, Place]


def append(*, topic: str, kind: str, payload: dict[str, Any], at: datetime) -> FeedEntry:
    """Add an entry under the topic's next number. Only the journal calls this, in its turn."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE_NUMBER, [topic, drawn_epoch()])
        (seq,) = cursor.fetchone()
    return FeedEntry.objects.create(topic=topic, seq=seq, kind=kind, at=at, payload=payload)


def place(topic: str) -> Place:
    """Return where a topic is. Whoever reads rows after this misses nothing told later."""
    head = FeedHead.objects.filter(pk=topic).first()
    return Place(head.epoch, head.seq) if head else Place("", 0)


def settle(topics: Iterable[str]) -> Position:
    """Return the end of the log, with a head for each of `topics`.

    Heads that came from another database get a new epoch first.
    """
    home = _home()
    with transaction.atomic():
        known = {head.topic: head for head in FeedHead.objects.all()}
        missing = [each for each in topics if each not in known]
        if missing or any(head.home != home for head in known.values()):
            _move_in(home, missing)
    return position()


def position() -> Position:
    """Return the end of the log, read in one statement so that its parts belong together."""
    newest = FeedEntry.objects.order_by("-id").values("id")[:1]
    rows = list(FeedHead.objects.annotate(last=Subquery(newest)).order_by("topic"))
    places = {row.topic: Place(row.epoch, row.seq) for row in rows}
    return Position(rows[0].last or 0 if rows else 0, places)


def begin_epoch(topic: str, *, instead_of: str) -> None:
    """Draw a new epoch, unless somebody else has done so already."""
    FeedHead.objects.filter(pk=topic, epoch=instead_of).update(epoch=drawn_epoch())


def drawn_epoch() -> str:
    return secrets.token_hex(4)


def _move_in(home: str, missing: Iterable[str]) -> None:
    fresh = [FeedHead(topic=each, epoch=drawn_epoch(), seq=0, home=home) for each in missing]
    FeedHead.objects.bulk_create(fresh, ignore_conflicts=True)
    FeedHead.objects.filter(home="").update(home=home)
    for head in FeedHead.objects.exclude(home=home):
        FeedHead.objects.filter(pk=head.pk, home=head.home).update(epoch=drawn_epoch(), home=home)


def _home() -> str:
    """Return what tells this database from a copy of it that was put in its place."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(POSTGRES_HOME)
            return "pg:" + ".".join(str(part) for part in cursor.fetchone())
    try:
        return f"file:{os.stat(str(connection.settings_dict['NAME'])).st_ino}"
    except OSError:
        return "memory"
