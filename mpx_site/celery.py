"""The Celery app. Tasks are triggers; the database is the truth, and has the schedule too."""

from __future__ import annotations

import os
import threading

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")

log = structlog.stdlib.get_logger(__name__)

app = Celery("mpx")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

SIGN_OF_LIFE = "alerts.tasks.sign_of_life"
SIGN_SECONDS, SIGN_EXPIRES = 5.0, 10.0

_ending = threading.Event()


@setup_logging.connect  # type: ignore[untyped-decorator]
def keep_ours(**_: object) -> None:
    """Leave logging as Django set it up: Celery's own would write secrets (`mpx_site.logs`)."""


@worker_ready.connect  # type: ignore[untyped-decorator]
def prove_life(**_: object) -> None:
    """Let a worker send itself a job again and again: a process that lives proves nothing.

    It tells a worker that is dead from a beat that is: this needs no beat.
    """
    _ending.clear()
    threading.Thread(target=_send_signs, name="sign of life", daemon=True).start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def end_signs(**_: object) -> None:
    _ending.set()


def _send_signs() -> None:
    while True:
        try:
            app.send_task(SIGN_OF_LIFE, expires=SIGN_EXPIRES, ignore_result=True, retry=False)
        except (OperationalError, OSError) as error:  # the silence says it
            log.warning("worker.no_broker", error=type(error).__name__)
        if _ending.wait(SIGN_SECONDS):
            return
