"""The daily figures of the rules are counted every minute."""

from datetime import UTC, datetime

from django.db import migrations

NAME, EVERY = "count-kpis", 1
NEVER = datetime(2000, 1, 1, tzinfo=UTC)  # or a new desk would wait before the first run


def install(apps, schema_editor):
    of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    interval = of.filter(every=EVERY, period="minutes").first()
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "execution.tasks.count_kpis",
            "interval": interval or of.create(every=EVERY, period="minutes"),
            "expire_seconds": EVERY * 60,  # a late one is replaced by the next
            "description": "Counts the days anew whose figures may have changed.",
            "last_run_at": NEVER,
        },
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0012_telegram_bot"), ("execution", "0005_rule_kpi_daily")]
    operations = [migrations.RunPython(install, remove)]
