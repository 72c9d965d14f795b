"""The Celery app. Tasks are triggers; the database is the truth, and has the schedule too."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")

app = Celery("mpx")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def keep_ours(**_: Any) -> None:
    """Leave logging as Django set it up: Celery's own would write secrets (`mpx_site.logs`)."""


setup_logging.connect(keep_ours)
