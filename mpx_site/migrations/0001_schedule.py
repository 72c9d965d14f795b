"""The schedule every desk starts with. Later edits in the admin are left alone."""

from datetime import UTC, datetime

from django.db import migrations

SECONDS = {"minutes": 60, "hours": 3600}
# name, task, how often, what it is for
JOBS = (
    ("catalogue", "markets.tasks.catalogue_sync", (30, "minutes"), "Everything the venue lists."),
    ("catalogue-news", "markets.tasks.reconcile", (1, "minutes"), "New markets, watched ones that closed."),
    ("catalogue-results", "markets.tasks.resolutions", (1, "minutes"), "Results of markets that ended."),
    ("prune-catalogue", "markets.tasks.prune_catalogue", (1, "hours"), "Old passes and changed terms."),
    ("prune-feed", "alerts.tasks.prune_feed", (1, "hours"), "News of the live feed nobody resumes from."),
    ("prune-ticks", "markets.tasks.prune_ticks", (1, "hours"), "Ticks older than TICKS_KEPT_DAYS."),
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
    dependencies = [("django_celery_beat", "0019_alter_periodictasks_options")]
    operations = [migrations.RunPython(install, remove)]
