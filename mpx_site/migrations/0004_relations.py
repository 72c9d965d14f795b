"""The look for relations, the look at whether they still hold, and the notes for endgames."""

from datetime import UTC, datetime

from django.db import migrations

# name, task, every how many minutes, what it is for
JOBS = (
    (
        "propose-relations",
        "markets.tasks.propose_relations",
        5,
        "Once an hour: relations and groups for a person to decide.",
    ),
    (
        "check-relations",
        "markets.tasks.check_relations",
        10,
        "Takes relations out of use whose markets changed.",
    ),
    (
        "note-near-certain",
        "rules.tasks.note_near_certain",
        10,
        "Near-certain prices: what the endgame rule counts later.",
    ),
)
# Long ago: without it a new desk would wait for a whole period before the first run.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def install(apps, schema_editor):
    interval_of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    for name, task, minutes, description in JOBS:
        interval = interval_of.filter(every=minutes, period="minutes").first()
        defaults = {
            "task": task,
            "interval": interval or interval_of.create(every=minutes, period="minutes"),
            "expire_seconds": minutes * 60,  # a late one is replaced by the next
            "description": description,
            "last_run_at": NEVER,
        }
        tasks.get_or_create(name=name, defaults=defaults)


def remove(apps, schema_editor):
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    tasks.filter(name__in=[name for name, *_ in JOBS]).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0003_desk_jobs")]
    operations = [migrations.RunPython(install, remove)]
