"""The scheduled jobs inside one process: the beat schedule, without a broker."""

from __future__ import annotations

import logging
import threading
import time

from django.db import close_old_connections, connections

from mpx_site.celery import app

log = logging.getLogger(__name__)


class JobsThread(threading.Thread):
    """Runs each scheduled task in turn when it is due; a failing task stops no other."""

    def __init__(self) -> None:
        super().__init__(name="jobs", daemon=True)
        self._halt = threading.Event()
        self._due = {
            name: (time.monotonic() + float(entry["schedule"]), entry)
            for name, entry in app.conf.beat_schedule.items()
        }

    def run(self) -> None:
        while not self._halt.wait(1.0):
            for name in self._due:
                self._run_if_due(name)
        connections.close_all()

    def _run_if_due(self, name: str) -> None:
        due, entry = self._due[name]
        if time.monotonic() < due:
            return
        self._due[name] = (time.monotonic() + float(entry["schedule"]), entry)
        close_old_connections()
        result = app.tasks[entry["task"]].apply()
        if result.failed():
            log.error("job.failed name=%s error=%r", name, result.result)

    def stop(self) -> None:
        self._halt.set()
