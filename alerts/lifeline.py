"""What is told when there is no database to keep an outbox in: one short message, by hand.

The return of the database is told by the outbox again, so it is there in any case.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog
from django.db import transaction

from alerts import watchdog
from alerts.composing import portal
from alerts.lines import line_of
from alerts.messages import Later, Line, Message, Never, Sent
from alerts.models import Trouble, Voice
from alerts.voice_models import TELEGRAM
from alerts.words import words_of

log = structlog.stdlib.get_logger(__name__)

DATABASE: Final = "database"
SILENCE: Final = timedelta(seconds=10)  # a restart is no trouble
APART: Final = timedelta(minutes=10)  # between two messages, if it comes and goes
TRY_AGAIN: Final = timedelta(seconds=10)
LOOK_AGAIN: Final = timedelta(minutes=1)  # at where messages go


class Lifeline:
    """Told after each look at the database how it went; used by one thread at a time."""

    def __init__(self, *, at: datetime) -> None:
        self._alive_at = at
        self._away = False
        self._told = False
        self._told_at: datetime | None = None
        self._not_before = at
        self._line: Line | None = None
        self._line_at: datetime | None = None

    def alive(self, *, at: datetime) -> None:
        """The database answers. Raises DatabaseError if it is gone before its return is told."""
        if self._line_at is None or at - self._line_at >= LOOK_AGAIN:
            self._line = line_of(TELEGRAM, Voice.objects.filter(name=TELEGRAM).first())
            self._line_at = at
        if self._away and at - self._alive_at >= SILENCE:
            _tell_return(since=self._alive_at, at=at)
        self._alive_at, self._away, self._told = at, False, False

    def lost(self, *, at: datetime) -> None:
        """The database does not answer: say so, once, when that has lasted."""
        self._away = True
        if self._told or at - self._alive_at < SILENCE or at < self._not_before:
            return
        log.error("database.away", since=self._alive_at.isoformat(timespec="seconds"))
        if self._line is None or (self._told_at and at - self._told_at < APART):
            self._told = True
            return
        (outcome,) = self._line.send([_message(self._alive_at)])
        if isinstance(outcome, Sent):
            self._told, self._told_at = True, at
            return
        log.warning("database.untold", reason=outcome.reason)
        self._told = isinstance(outcome, Never)
        wait = outcome.seconds if isinstance(outcome, Later) else None
        self._not_before = at + (timedelta(seconds=wait) if wait else TRY_AGAIN)


@transaction.atomic
def _tell_return(*, since: datetime, at: datetime) -> None:
    """Write down the outage as a trouble that has ended, and let the outbox tell its end."""
    trouble = Trouble.objects.create(component=DATABASE, since=since, ended_at=at)
    watchdog.tell("component.back", trouble, at)


def _message(since: datetime) -> Message:
    told = {
        "component": DATABASE,
        "since": since.isoformat(timespec="seconds"),
        "text": "Nothing is stored until it is back; what is found meanwhile waits in memory.",
    }
    words = words_of("component.silent", told)
    return Message(f"component.silent:{DATABASE}", words, portal())
