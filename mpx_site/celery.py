"""The Celery app and its schedule. Tasks are triggers; the database is the truth."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")

app = Celery("mpx")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

HOUR = 3600.0
app.conf.beat_schedule = {
    "prune-feed": {"task": "alerts.tasks.prune_feed", "schedule": HOUR},
    "prune-ticks": {"task": "markets.tasks.prune_ticks", "schedule": HOUR},
}
