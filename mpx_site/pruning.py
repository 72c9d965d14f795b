"""What may be forgotten, and after how long. The scheduled jobs forget the same by and by.

Never forgotten: the audit chain, signals, orders, fills, positions, gaps, daily figures; and the
alert of a P1, which its signal must have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from alerts.models import FeedEntry, OutboxEntry
from alerts.tasks import FEED_KEPT
from execution.idempotency import KEPT as KEYS_KEPT
from execution.models import IdempotencyKey
from markets import tick_room
from markets.models import SyncRun, TermsChange, Tick
from markets.near_models import NearCertain
from markets.tasks import CHANGES_KEPT, RUNS_KEPT, SEEN_KEPT
from signals.demo_models import DemoBurst

ALERTS_KEPT = timedelta(days=90)
BURSTS_KEPT = timedelta(days=1)
BATCH = 2_000  # rows; no other writer has to wait for more


@dataclass(frozen=True, slots=True)
class Old:
    """Rows of one kind that are past their time at a moment."""

    name: str
    kept: timedelta
    rows: Callable[[datetime], QuerySet[Any]]  # those from before a time


def _alerts(before: datetime) -> QuerySet[Any]:
    ended = OutboxEntry.objects.exclude(state=OutboxEntry.State.PENDING)
    return ended.exclude(kind="signal.p1").filter(created_at__lt=before)


def _keys(before: datetime) -> QuerySet[Any]:
    return IdempotencyKey.objects.filter(created_at__lt=before)


def kinds() -> tuple[Old, ...]:
    ticks = timedelta(days=settings.TICKS_KEPT_DAYS)
    return (
        Old("ticks", ticks, lambda before: Tick.objects.filter(at__lt=before)),
        Old("feed", FEED_KEPT, lambda before: FeedEntry.objects.filter(at__lt=before)),
        Old("alerts", ALERTS_KEPT, _alerts),
        Old("catalogue_passes", RUNS_KEPT, lambda b: SyncRun.objects.filter(started_at__lt=b)),
        Old("terms_changes", CHANGES_KEPT, lambda b: TermsChange.objects.filter(at__lt=b)),
        Old("near_certain", SEEN_KEPT, lambda b: NearCertain.objects.filter(seen_at__lt=b)),
        Old("idempotency_keys", KEYS_KEPT, _keys),
        Old("demo_bursts", BURSTS_KEPT, lambda b: DemoBurst.objects.filter(asked_at__lt=b)),
    )  # fmt: skip


def count(kind: Old, *, at: datetime) -> int:
    return kind.rows(at - kind.kept).count()


def prune(kind: Old, *, at: datetime) -> int:
    """Forget what is old, some at a time; return how many. Of ticks: rows, or chunks of a day."""
    before = at - kind.kept
    if kind.name == "ticks":
        return tick_room.prune(before=before)
    gone = 0
    while keys := list(kind.rows(before).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        gone += kind.rows(before).filter(pk__in=keys).delete()[0]
    return gone
