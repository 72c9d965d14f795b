"""The sweeps of the execution desk: deadlines, late data, settled markets, old keys."""

from datetime import UTC, datetime

from django.db import migrations

SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
# name, task, how often, what it is for
JOBS = (
    (
        "expire-intents",
        "execution.tasks.expire_intents",
        (10, "seconds"),
        "Suggestions past their deadline, orders that no broker answers.",
    ),
    (
        "watch-data",
        "execution.tasks.watch_data",
        (5, "seconds"),
        "Opens the global breaker while data is late.",
    ),
    (
        "settle-positions",
        "execution.tasks.settle_positions",
        (1, "minutes"),
        "Pays out what the venue has resolved; merges complete sets.",
    ),
    (
        "forget-keys",
        "execution.tasks.forget_keys",
        (1, "hours"),
        "Idempotency-Keys that nobody asks with any more.",
    ),
)
# Long ago: without it a new desk would wait for a whole period before the first run.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def install(apps, schema_editor):
    interval_of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    for name, task, (every, period), description in JOBS:
        interval = interval_of.filter(every=every, period=period).first()
        defaults = {
            "task": task,
            "interval": interval or interval_of.create(every=every, period=period),
            "expire_seconds": every * SECONDS[period],  # a late one is replaced by the next
            "description": description,
            "last_run_at": NEVER,
        }
        tasks.get_or_create(name=name, defaults=defaults)


def remove(apps, schema_editor):
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    tasks.filter(name__in=[name for name, *_ in JOBS]).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0002_poll_and_sweep")]
    operations = [migrations.RunPython(install, remove)]
