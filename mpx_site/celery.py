"""The Celery app. Tasks are triggers; the database is the truth, and has the schedule too."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")

app = Celery("mpx")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
