"""Backtests that wait are taken up within seconds; who may run what-ifs may start them."""

from datetime import UTC, datetime

from django.db import migrations

NAME = "run-backtests"
EVERY_SECONDS = 2
# Long ago: without it a new desk would wait for a whole period before the first run.
NEVER = datetime(2000, 1, 1, tzinfo=UTC)
RUN, NAME_OF_RUN = "run_backtest", "Can start backtests and cancel them"


def install(apps, schema_editor):
    interval_of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    tasks = apps.get_model("django_celery_beat", "PeriodicTask").objects
    interval = interval_of.filter(every=EVERY_SECONDS, period="seconds").first()
    defaults = {
        "task": "execution.tasks.run_waiting_backtests",
        "interval": interval or interval_of.create(every=EVERY_SECONDS, period="seconds"),
        "expire_seconds": EVERY_SECONDS,  # a late one is replaced by the next
        "description": "Starts the next backtest; ends those whose process died.",
        "last_run_at": NEVER,
    }
    tasks.get_or_create(name=NAME, defaults=defaults)


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


def grant(apps, schema_editor):
    """Django itself creates permissions only after all migrations, so they are made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="execution", model="backtestrun"
    )
    permissions = apps.get_model("auth", "Permission").objects
    groups = apps.get_model("auth", "Group").objects
    permission, _ = permissions.get_or_create(
        content_type=content, codename=RUN, defaults={"name": NAME_OF_RUN}
    )
    like = permissions.filter(content_type__app_label="signals", codename="run_whatif")
    for group in groups.filter(permissions__in=like).distinct():
        group.permissions.add(permission)


def take_back(apps, schema_editor):
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="execution", codename=RUN
    )
    for permission in found:
        permission.group_set.clear()


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0016_check_replay"),
        ("execution", "0006_backtest_runs"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [
        migrations.RunPython(install, remove),
        migrations.RunPython(grant, take_back),
    ]
