"""The look at the books over REST, and the sweep of signals that nobody watches any more."""

from datetime import UTC, datetime

from django.db import migrations

EVERY_SECONDS = 5
JOBS = (
    ("poll-books", "signals.tasks.poll_books", "Books over REST: checks the stream, or stands in for it."),
    ("sweep-signals", "signals.tasks.sweep", "Closes signals whose process died."),
)
# Long ago: without it a new desk would wait for a whole period before the first run.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def install(apps, schema_editor):
    interval_of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    interval = interval_of.filter(every=EVERY_SECONDS, period="seconds").first()
    interval = interval or interval_of.create(every=EVERY_SECONDS, period="seconds")
    for name, task, description in JOBS:
        defaults = {
            "task": task,
            "interval": interval,
            "expire_seconds": EVERY_SECONDS,  # a late one is replaced by the next
            "description": description,
            "last_run_at": NEVER,
        }
        tasks.get_or_create(name=name, defaults=defaults)


def remove(apps, schema_editor):
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    tasks.filter(name__in=[name for name, *_ in JOBS]).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0001_schedule")]
    operations = [migrations.RunPython(install, remove)]
