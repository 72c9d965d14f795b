"""Alerts that go on with an earlier one: seen, then confirmed or gone, then over.

All alerts of one signal are one thread. Where the earlier message can be changed it becomes the
later one; where not, the later one answers it, or stands by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from alerts.models import OutboxEntry

OBSERVED, P1 = "signal.observed", "signal.p1"
UNCONFIRMED, CLOSED = "signal.unconfirmed", "signal.closed"
ENDINGS: Final = {OBSERVED: "observed", P1: "P1", UNCONFIRMED: "gone", CLOSED: "closed"}
GOES_ON: Final = {P1: OBSERVED, UNCONFIRMED: OBSERVED, CLOSED: P1}
# Follows the manner of the kind that it takes back.
MANNER_OF: Final = {UNCONFIRMED: OBSERVED}
EDITS: Final = (P1, UNCONFIRMED)

CONFIRMED_FIRST = "confirmed before it was told"
GONE_FIRST = "gone before it was told"
NOTHING_BEFORE = "what it goes on with was not told"
State = OutboxEntry.State


@dataclass(frozen=True, slots=True)
class Turn:
    """What one pass does with the rows that are due, besides telling `rows`.

    `about` has the number of the message that a row goes on with, by the row's primary key;
    `settled` has why rows are not told, by primary key. What is in neither waits.
    """

    rows: tuple[OutboxEntry, ...]
    about: Mapping[int, int]
    settled: Mapping[int, str]


def key_of(kind: str, thread: str) -> str:
    return f"{thread}:{ENDINGS[kind]}"


def thread_of(row: OutboxEntry) -> str:
    """Return what a row has in common with those that it belongs to; its own key where none do."""
    return row.key.rpartition(":")[0] if row.kind in ENDINGS else row.key


def turn(rows: Sequence[OutboxEntry]) -> Turn:
    """Say which of the rows (all of one voice) are told now, and what they go on with."""
    before = _before(rows)
    settled: dict[int, str] = {}
    for row in rows:
        settled |= _without_a_word(row, before.get(row.pk))
    told = tuple(row for row in rows if row.pk not in settled and not _waits(row, before))
    about = {
        key: earlier.message_id
        for key, earlier in before.items()
        if earlier.state == State.SENT and earlier.message_id is not None
    }
    return Turn(told, about, settled)


def _before(rows: Sequence[OutboxEntry]) -> dict[int, OutboxEntry]:
    """Return what each row goes on with, by the row's primary key; one query, or none."""
    keys = {
        row.pk: key_of(GOES_ON[row.kind], thread_of(row)) for row in rows if row.kind in GOES_ON
    }
    if not keys:
        return {}
    found = OutboxEntry.objects.filter(key__in=set(keys.values()), voice=rows[0].voice)
    earlier = {row.key: row for row in found}
    return {pk: earlier[key] for pk, key in keys.items() if key in earlier}


def _without_a_word(row: OutboxEntry, before: OutboxEntry | None) -> dict[int, str]:
    """Return what a row settles without a message: itself, or what it overtook."""
    waiting = before is not None and before.state == State.PENDING
    if row.kind == P1:
        return {before.pk: CONFIRMED_FIRST} if before is not None and waiting else {}
    if row.kind == UNCONFIRMED and before is not None and waiting:
        return {before.pk: GONE_FIRST, row.pk: GONE_FIRST}
    told = before is not None and before.state == State.SENT
    return {} if row.kind not in GOES_ON or waiting or told else {row.pk: NOTHING_BEFORE}


def _waits(row: OutboxEntry, before: Mapping[int, OutboxEntry]) -> bool:
    """Say whether a row has to wait for the one before it."""
    return row.kind == CLOSED and row.pk in before and before[row.pk].state == State.PENDING
