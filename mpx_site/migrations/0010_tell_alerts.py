"""The outbox is told every two seconds; who acts or judges may send a test message."""

from datetime import UTC, datetime

from django.db import migrations

NAME, EVERY = "deliver-alerts", 2
NEVER = datetime(2000, 1, 1, tzinfo=UTC)  # or a new desk would wait before the first run
ROLES = ("trader", "approver", "admin")
TEST = "test_voice"


def install(apps, schema_editor):
    interval, _ = apps.get_model("django_celery_beat", "IntervalSchedule").objects.get_or_create(
        every=EVERY, period="seconds"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "alerts.tasks.deliver_alerts",
            "interval": interval,
            "expire_seconds": EVERY,  # a late one is replaced by the next
            "description": "Tells what waits in the outbox.",
            "last_run_at": NEVER,
        },
    )
    _grant(apps)


def _grant(apps):
    """Django itself creates permissions only after all migrations, so this one is made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="alerts", model="voice"
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content, codename=TEST, defaults={"name": "Can send a test message"}
    )
    for group in apps.get_model("auth", "Group").objects.filter(name__in=ROLES):
        group.permissions.add(permission)


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()
    for permission in apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="alerts", codename=TEST
    ):
        permission.group_set.clear()


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0009_preferences"),
        ("alerts", "0004_voices"),
        ("execution", "0003_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(install, remove)]
