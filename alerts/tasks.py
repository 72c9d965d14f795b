"""Housekeeping of the journal. Each task is safe to run twice and at any time."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from alerts import broker, delivery, watchdog
from alerts.models import FeedEntry, Heartbeat

FEED_KEPT = timedelta(days=1)  # clients resume within minutes; older news is in the tables
WORKER = "worker"


@shared_task(ignore_result=True)
def prune_feed(**_: object) -> int:
    """Delete feed entries nobody can resume from any more; return how many."""
    deleted, _rows = FeedEntry.objects.filter(at__lt=timezone.now() - FEED_KEPT).delete()
    return deleted


@shared_task(ignore_result=True)
def deliver_alerts(**_: object) -> int:
    """Notice parts that went silent, then tell what waits; return how many rows that settled."""
    broker.look(at=timezone.now())  # it brought this task, but does it take more
    watchdog.watch(at=timezone.now())
    return delivery.deliver(at=timezone.now())


@shared_task(ignore_result=True)
def sign_of_life(**_: object) -> None:
    """Note that what is put into a queue is worked on: workers send this to themselves."""
    Heartbeat.objects.update_or_create(component=WORKER, defaults={"at": timezone.now()})
