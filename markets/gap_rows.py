"""Gaps in the database: opened when books break, closed when they are known again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

from django.db import transaction

from markets.frames import moment
from markets.gaps import Break, HealedGap
from markets.models import Gap

REASON_LENGTH = 120
STREAM: Final = "stream"  # of a desk whose stream is in one piece
NOT_RUNNING = "the stream was not running"


def opened(breaks: Iterable[Break], *, stream: str = STREAM) -> None:
    """Store breaks of a stream as open gaps. Storing one twice leaves one row."""
    Gap.objects.bulk_create(
        [
            Gap(
                kind=each.kind.upper(),
                subject=each.subject,
                reason=_text(each.reason),
                books=len(each.books),
                opened_at=moment(each.at),
                stream=stream,
            )
            for each in breaks
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def healed(gaps: Iterable[HealedGap], *, stream: str = STREAM) -> None:
    """Close the rows of a stream's gaps that healed."""
    for gap in gaps:
        Gap.objects.filter(
            kind=gap.kind.upper(),
            subject=gap.subject,
            opened_at=moment(gap.opened_at),
            stream=stream,
        ).update(
            ending=Gap.Ending.HEALED,
            healed_at=moment(gap.healed_at),
            healing_seconds=(gap.healed_at - gap.opened_at) / 1e9,
        )


def not_running(since: datetime, until: datetime, *, books: int, stream: str = STREAM) -> None:
    """Store a time in which a stream did not run, from its last sign of life to known books.

    A last sign from the future, of a clock that was ahead, tells nothing of how long that was.
    """
    since = min(since, until)
    gap = Gap(
        kind=Gap.Kind.CONNECTION,
        subject=stream,
        stream=stream,
        reason=NOT_RUNNING,
        books=books,
        opened_at=since,
        healed_at=until,
        healing_seconds=(until - since).total_seconds(),
        ending=Gap.Ending.HEALED,
    )
    Gap.objects.bulk_create([gap], ignore_conflicts=True)


def close_lost(*, but_of: Collection[str] = ()) -> int:
    """Close what a process that ended left open, not what other streams have; return how many."""
    lost = Gap.objects.open().exclude(stream__in=but_of)
    return lost.update(ending=Gap.Ending.PROCESS_ENDED)


def _text(reason: str) -> str:
    """Return a reason as any database takes it; a recording may hold anything."""
    return reason.replace("\0", "\ufffd")[:REASON_LENGTH]
