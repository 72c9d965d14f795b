"""Bursts for a demonstration: asked for by a command, put on by the process that has the venue.

What is planted goes the way of everything else: frames, books, rules, signals, alerts, orders.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from markets.connections import drop_dead_connections
from signals.demo_models import DemoBurst
from signals.models import Signal
from signals.sources import Burst

log = structlog.stdlib.get_logger(__name__)

MOST_PLANTS = 50
STALE = timedelta(seconds=30)  # nobody waits for an older one any more
LOOK_SECONDS = 0.25


class NobodyThere(Exception):
    """No process with the simulated venue took up a burst in time."""


def next_burst() -> Burst | None:
    """Take the oldest burst that waits; None if there is none, or no database just now."""
    try:
        drop_dead_connections()
        since = timezone.now() - STALE
        waiting = DemoBurst.objects.filter(taken=False, asked_at__gte=since).order_by("id")
        for burst in waiting:
            if DemoBurst.objects.filter(pk=burst.pk, taken=False).update(taken=True):
                return Burst(min(burst.plants, MOST_PLANTS), partial(_put_on, burst.pk))
    except (DatabaseError, InterfaceError) as error:
        log.warning("demo.unreadable", error=str(error))
    return None


def _put_on(number: int, planted: int) -> None:
    try:
        DemoBurst.objects.filter(pk=number).update(planted=planted)
    except (DatabaseError, InterfaceError) as error:
        log.warning("demo.unwritten", error=str(error))
    log.info("demo.burst", planted=planted)


def burst(plants: int, *, seconds: float) -> int:
    """Ask for a burst and wait until it is put on; return how many were planted.

    Raises `NobodyThere` if no simulated venue took it up within so many seconds.
    """
    now = timezone.now()
    asked = DemoBurst.objects.create(asked_at=now, plants=plants)
    DemoBurst.objects.filter(asked_at__lt=now - timedelta(days=1)).delete()
    for _ in _looks(seconds):
        asked.refresh_from_db()
        if asked.planted is not None:
            return asked.planted
    DemoBurst.objects.filter(pk=asked.pk).update(taken=True)  # too late now
    raise NobodyThere


def p1_since(at: datetime, *, wanted: int, seconds: float) -> int:
    """Wait until so many P1 have opened since a time, or the seconds are over; return how many."""
    opened = Signal.objects.filter(level=Signal.Level.P1, opened_at__gte=at)
    count = opened.count()
    for _ in _looks(seconds):
        if count >= wanted:
            break
        count = opened.count()
    return count


def _looks(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        yield
