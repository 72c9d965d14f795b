"""Every hour what is kept is replayed and compared with what the live path told."""

from django.db import migrations

NAME, EVERY = "check-replay", 1


def install(apps, schema_editor):
    interval, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=EVERY, period="hours"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "signals.tasks.check_replay",
            "interval": interval,
            "expire_seconds": EVERY * 3_600,  # a late one is replaced by the next
            "description": "Replays what is kept and compares it with what was told then.",
        },
    )


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0015_train_shadows")]
    operations = [migrations.RunPython(install, remove)]
