"""A model is trained in shadow every six hours; who may see models, and who activates them."""

from datetime import UTC, datetime

from django.db import migrations

NAME, HOURS = "train-shadow", 6
NEVER = datetime(2000, 1, 1, tzinfo=UTC)  # or a new desk would wait before the first run
EVERYBODY = ("viewer", "analyst", "trader", "approver", "admin")
DECIDERS = ("approver", "admin")
RIGHTS = {
    ("rules", "mlmodel", "view_mlmodel"): ("Can view model", EVERYBODY),
    ("rules", "mlmodel", "activate_mlmodel"): (
        "Can activate, retire and roll back models",
        DECIDERS,
    ),
    ("signals", "outcome", "view_outcome"): ("Can view outcome", EVERYBODY),
}


def install(apps, schema_editor):
    of = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    interval = of.filter(every=HOURS, period="hours").first()
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": "signals.tasks.train_shadow",
            "interval": interval or of.create(every=HOURS, period="hours"),
            "expire_seconds": 3600,
            "description": "Trains a model on what became of signals; it stays a shadow.",
            "last_run_at": NEVER,
        },
    )
    grant(apps)


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    groups = apps.get_model("auth", "Group").objects
    for path, (name, roles) in RIGHTS.items():
        permission = _permission(apps, path, name)
        for group in groups.filter(name__in=roles):
            group.permissions.add(permission)


def _permission(apps, path, name):
    app, model, codename = path
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label=app, model=model
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content, codename=codename, defaults={"name": name}
    )
    return permission


def remove(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()
    groups = apps.get_model("auth", "Group").objects
    for path, (name, roles) in RIGHTS.items():
        for group in groups.filter(name__in=roles):
            group.permissions.remove(_permission(apps, path, name))


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0014_mailbox_read_at"),
        ("rules", "0003_models_that_weigh"),
        ("signals", "0007_chances_and_outcomes"),
        ("execution", "0003_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(install, remove)]
