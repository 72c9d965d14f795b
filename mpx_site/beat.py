"""Beat's schedule, from the database as ever, with a sign of life of beat itself.

A beat that hangs or is dead would otherwise show only by what is missing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone
from django_celery_beat.schedulers import DatabaseScheduler

from alerts import journal
from markets.connections import drop_dead_connections

log = structlog.stdlib.get_logger(__name__)

BEAT = "beat"
EVERY = timedelta(seconds=3)
LOOK_SECONDS = 2.0  # a job that was switched on begins by then


class Schedule(DatabaseScheduler):  # type: ignore[misc]  # it comes without types
    """Notes each few seconds that it still looks for what is due."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._noted_at = timezone.now() - EVERY
        self._looks = 0
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start what is due; return how many seconds nothing is."""
        drop_dead_connections()
        self._looks += 1
        self._note()  # first: what is due may have to wait for a broker
        wait: float = super().tick(*args, **kwargs)
        return min(wait, LOOK_SECONDS)

    def _note(self) -> None:
        at = timezone.now()
        if at - self._noted_at < EVERY:
            return
        try:
            journal.beat(BEAT, at=at, progress=self._looks)
        except (DatabaseError, InterfaceError) as error:
            log.warning("beat.no_database", error=str(error))
        else:
            self._noted_at = at
