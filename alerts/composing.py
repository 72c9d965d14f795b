"""From rows of the outbox to messages: a few one by one, many together, loud or still."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from alerts import threads
from alerts.messages import Alert, Line, Message
from alerts.models import Manner, OutboxEntry, Voice
from alerts.pace import kept
from alerts.words import digest, words_of

SINGLES = 3  # that many are told one by one, more of them together
ALWAYS_TOLD = "killswitch."
BUDGET_SPENT = "the hour's budget of messages is spent"


@dataclass(frozen=True, slots=True)
class Batch:
    """One message and the rows that it tells."""

    rows: tuple[OutboxEntry, ...]
    message: Message


def batches(turn: threads.Turn, line: Line, voice: Voice, at: datetime) -> tuple[Batch, ...]:
    """Put the rows into messages: a few one by one, many together."""
    rows = turn.rows[: line.most]
    left = voice.budget - len(kept(voice.sent, at=at.timestamp()))
    volume = _Volume.at(voice, at)
    if len(rows) <= min(SINGLES, left):
        return tuple(Batch((row,), _single(row, turn, volume)) for row in rows)
    why = BUDGET_SPENT if any(row.reason == BUDGET_SPENT for row in rows) else ""
    alerts = tuple(map(_alert, rows))
    words = digest([alert.words for alert in alerts], held_back=why)
    number = hashlib.sha256("\n".join(row.key for row in rows).encode()).hexdigest()[:32]
    message = Message(
        f"digest:{number}", words, portal(), alerts, silent=all(map(volume.is_silent, rows))
    )
    return (Batch(rows, message),)


@dataclass(frozen=True, slots=True)
class _Volume:
    """Which kinds make no sound now: those that a person has set so, in quiet hours all."""

    silent: frozenset[str]
    quiet: bool

    @classmethod
    def at(cls, voice: Voice, at: datetime) -> _Volume:
        silent = Manner.objects.filter(how=Manner.How.SILENT).values_list("kind", flat=True)
        return cls(frozenset(silent), voice.is_quiet(at))

    def is_silent(self, row: OutboxEntry) -> bool:
        if row.kind.startswith(ALWAYS_TOLD):
            return False
        return self.quiet or manner_of(row) in self.silent


def _single(row: OutboxEntry, turn: threads.Turn, volume: _Volume) -> Message:
    alert = _alert(row)
    # A changed message makes no sound: what is to be heard, and was not yet, is said anew.
    unheard = row.kind == threads.P1 and threads.OBSERVED in volume.silent
    return Message(
        row.key,
        alert.words,
        portal(),
        (alert,),
        silent=volume.is_silent(row) or row.kind == threads.UNCONFIRMED,
        about=turn.about.get(row.pk),
        edit=row.kind in threads.EDITS and (volume.is_silent(row) or not unheard),
    )


def _alert(row: OutboxEntry) -> Alert:
    words = words_of(row.kind, row.payload)
    return Alert(row.key, row.kind, row.due_at, threads.thread_of(row), words, row.payload)


def manner_of(row: OutboxEntry) -> str:
    return threads.MANNER_OF.get(row.kind, row.kind)


def portal() -> str:
    return str(settings.MPX_PORTAL_URL).rstrip("/")
