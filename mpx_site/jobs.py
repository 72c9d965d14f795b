"""The scheduled jobs inside one process: the same schedule as beat's, without a broker."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog
from django.db import DatabaseError, connections
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from markets import children
from markets.connections import drop_dead_connections
from markets.tasks import going_down
from mpx_site.celery import app

log = structlog.stdlib.get_logger(__name__)

LOOK_SECONDS = 1.0  # between two looks at what is due
AT_ONCE = 3  # a long job does not keep short ones waiting


class JobsThread(threading.Thread):
    """Runs each scheduled task when it is due; a failing one stops no other.

    The schedule is read anew at every look, so an edit in the admin counts at
    once. A task that is still running is not started a second time.
    """

    def __init__(self) -> None:
        super().__init__(name="jobs", daemon=True)
        going_down.clear()
        self._halt = threading.Event()
        self._running: set[str] = set()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="job")

    def run(self) -> None:
        app.loader.import_default_modules()
        while not self._halt.wait(LOOK_SECONDS):
            drop_dead_connections()
            try:
                self.start_due(at=timezone.now())
            except DatabaseError as error:
                log.error("jobs.no_database", error=str(error))
        self._pool.shutdown(cancel_futures=True)
        children.end_all()
        connections.close_all()

    def start_due(self, *, at: datetime) -> list[str]:
        """Start what is due; return the names of those jobs."""
        names = []
        for job in PeriodicTask.objects.filter(enabled=True).select_related(*_SCHEDULES):
            if job.name not in self._running and _is_due(job, at):
                names.append(job.name)
                self._start(job, at)
        return names

    def _start(self, job: PeriodicTask, at: datetime) -> None:
        # Not by save(): that would tell beat that the schedule was edited.
        PeriodicTask.objects.filter(pk=job.pk).update(
            last_run_at=at, total_run_count=F("total_run_count") + 1
        )
        self._running.add(job.name)
        self._pool.submit(self._do, job)

    def _do(self, job: PeriodicTask) -> None:
        begun = time.monotonic()
        try:
            task = app.tasks[job.task]
            result = task.apply(args=json.loads(job.args), kwargs=json.loads(job.kwargs))
            if result.failed():
                log.error("job.failed", name=job.name, error=repr(result.result))
        except Exception:  # a schedule may name anything; the other jobs go on
            log.exception("job.impossible", name=job.name, task=job.task)
        finally:
            self._running.discard(job.name)
            connections.close_all()
            duration = round((time.monotonic() - begun) * 1_000)
            log.debug("job.done", name=job.name, duration_ms=duration)

    def stop(self) -> None:
        """Start nothing more and let what asks the venue end; `join` waits for it."""
        going_down.set()
        self._halt.set()


_SCHEDULES = ("interval", "crontab", "solar", "clocked")


def _is_due(job: PeriodicTask, at: datetime) -> bool:
    """Say whether a job's time has come; one that never ran is due at once."""
    too_early = job.start_time is not None and at < job.start_time
    too_late = job.expires is not None and at >= job.expires
    if too_early or too_late:
        return False
    if job.last_run_at is None:
        return True
    return not job.one_off and bool(job.schedule.is_due(job.last_run_at).is_due)
