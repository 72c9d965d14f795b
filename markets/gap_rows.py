"""Gaps in the database: opened when books break, closed when they are known again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from markets.frames import moment
from markets.gaps import Break, HealedGap
from markets.models import Gap

REASON_LENGTH = 120
NOT_RUNNING = "the stream was not running"


def opened(breaks: Iterable[Break]) -> None:
    """Store breaks as open gaps. Storing one twice leaves one row."""
    Gap.objects.bulk_create(
        [
            Gap(
                kind=each.kind.upper(),
                subject=each.subject,
                reason=_text(each.reason),
                books=len(each.books),
                opened_at=moment(each.at),
            )
            for each in breaks
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def healed(gaps: Iterable[HealedGap]) -> None:
    """Close the rows of gaps that healed."""
    for gap in gaps:
        Gap.objects.filter(
            kind=gap.kind.upper(), subject=gap.subject, opened_at=moment(gap.opened_at)
        ).update(
            ending=Gap.Ending.HEALED,
            healed_at=moment(gap.healed_at),
            healing_seconds=(gap.healed_at - gap.opened_at) / 1e9,
        )


def not_running(since: datetime, until: datetime, *, books: int) -> None:
    """Store a time in which no stream ran, from its last sign of life to known books."""
    gap = Gap(
        kind=Gap.Kind.CONNECTION,
        subject="stream",
        reason=NOT_RUNNING,
        books=books,
        opened_at=since,
        healed_at=until,
        healing_seconds=(until - since).total_seconds(),
        ending=Gap.Ending.HEALED,
    )
    Gap.objects.bulk_create([gap], ignore_conflicts=True)


def close_lost() -> int:
    """Close what a process that ended left open; return how many."""
    return Gap.objects.open().update(ending=Gap.Ending.PROCESS_ENDED)


def _text(reason: str) -> str:
    """Return a reason as any database takes it; a recording may hold anything."""
    return reason.replace("\0", "\ufffd")[:REASON_LENGTH]
