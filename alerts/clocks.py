"""Whether a machine's clock is right, by the database's: ages, leases and signals stand on it.

Only what is compared here is told: `look` is called by each stream, for its machine. Where the
database is a file, there is one clock and nothing to compare.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from alerts import journal, troubles
from alerts.models import Heartbeat, Trouble

WRONG: Final = timedelta(seconds=10)
RIGHT_AGAIN: Final = timedelta(seconds=2)
PREFIX: Final = "clock:"
KEPT: Final = timedelta(minutes=5)  # what is older is no machine's clock any more
LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Clock:
    """A machine's clock; `ahead` is how far before the database's, negative when behind."""

    machine: str
    ahead: timedelta

    @property
    def is_wrong(self) -> bool:
        return abs(self.ahead) > WRONG

    def words(self) -> str:
        side = "ahead of" if self.ahead > timedelta() else "behind"
        return f"{self.machine} is {abs(self.ahead.total_seconds()):.1f} s {side} the database"


def database_now() -> tuple[datetime, timedelta]:
    """Return the database's time, and how far ours is ahead of it."""
    if connection.vendor != "postgresql":
        return timezone.now(), timedelta()
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    after = timezone.now()
    return theirs, before + (after - before) / 2 - theirs


def look() -> datetime:
    """Compare this machine's clock, tell once when it is wrong and once when it is right again.

    Returns the time to judge others by: the database's.
    """
    at, ahead = database_now()
    if connection.vendor == "postgresql":
        clock = Clock(socket.gethostname(), ahead)
        name = f"{PREFIX}{clock.machine}"[:LONGEST]
        journal.beat(name, at=at, progress=0, ahead_seconds=round(ahead.total_seconds(), 3))
        _tell(clock, name, at)
        forget(at=at)
    return at


def forget(*, at: datetime) -> None:
    """Let go of machines that are not there any more, and of the trouble that they were in."""
    gone = Heartbeat.objects.filter(component__startswith=PREFIX, at__lt=at - KEPT)
    names = list(gone.values_list("component", flat=True))
    for trouble in Trouble.objects.filter(component__in=names, ended_at=None):
        troubles.end(trouble, "clock.gone", at=at)
    Heartbeat.objects.filter(component__in=names, at__lt=at - KEPT).delete()


def known(beats: Iterable[Heartbeat], *, at: datetime) -> tuple[Clock, ...]:
    """Return the clocks that were compared lately, by their beats."""
    return tuple(
        Clock(
            beat.component.removeprefix(PREFIX),
            timedelta(seconds=float(beat.detail["ahead_seconds"])),
        )
        for beat in beats
        if beat.component.startswith(PREFIX) and beat.age(at) <= KEPT
    )


def _tell(clock: Clock, name: str, at: datetime) -> None:
    trouble = Trouble.objects.filter(component=name, ended_at=None).first()
    if trouble is None and clock.is_wrong:
        troubles.begin(name, "clock.wrong", at=at, text=clock.words())
    elif trouble is not None and abs(clock.ahead) < RIGHT_AGAIN:
        troubles.end(trouble, "clock.right", at=at)
