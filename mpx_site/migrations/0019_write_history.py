"""Every hour the whole days of ticks that are not yet there are written as Parquet."""

from django.db import migrations

NAME, EVERY = "write-history", 1


def install(apps, schema_editor):
    interval, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=EVERY, period="hours"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "markets.tasks.write_history",
            "interval": interval,
            "expire_seconds": EVERY * 3_600,  # a late one is replaced by the next
            "description": "Writes whole days of ticks as Parquet, in MPX_HISTORY_DIR.",
        },
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0018_door")]
    operations = [migrations.RunPython(install, remove)]
