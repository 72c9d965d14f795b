"""The rules' scheduled work. Each task may run twice and at any time."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from markets.connections import drop_dead_connections
from rules import history


@shared_task(soft_time_limit=100, time_limit=120)
def note_near_certain(**_: object) -> int:
    """Note near-certain prices that are offered now, to count later how many held."""
    drop_dead_connections()
    return history.note_near_certain(at=timezone.now())
