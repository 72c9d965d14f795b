"""What-ifs that wait are taken up within seconds."""

from datetime import UTC, datetime

from django.db import migrations

NAME = "run-whatifs"
EVERY_SECONDS = 2
# Long ago: without it a new desk would wait for a whole period before the first run.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)


def install(apps, schema_editor):
    interval_of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    interval = interval_of.filter(every=EVERY_SECONDS, period="seconds").first()
    defaults = {
        "task": "signals.tasks.run_waiting_whatifs",
        "interval": interval or interval_of.create(every=EVERY_SECONDS, period="seconds"),
        "expire_seconds": EVERY_SECONDS,  # a late one is replaced by the next
        "description": "Starts the next what-if; ends those whose process died.",
        "last_run_at": NEVER,
    }
    tasks.get_or_create(name=NAME, defaults=defaults)


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0004_relations")]
    operations = [migrations.RunPython(install, remove)]
