"""Housekeeping of market history."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from markets.models import Tick


@shared_task(ignore_result=True)
def prune_ticks(**_: object) -> int:
    """Delete ticks older than `TICKS_KEPT_DAYS`; return how many."""
    oldest = timezone.now() - timedelta(days=settings.TICKS_KEPT_DAYS)
    deleted, _rows = Tick.objects.filter(at__lt=oldest).delete()
    return deleted
