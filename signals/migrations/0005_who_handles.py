"""Who may acknowledge signals: those that watch them or decide, so not the viewer or the admin."""

from django.db import migrations

ROLES = ("analyst", "trader", "approver")
EVERYBODY = ("viewer", *ROLES, "admin")
ACK, NAME = "ack_signal", "Can acknowledge, snooze, dismiss and comment signals"
VIEW, VIEW_NAME = "view_signalstep", "Can view signal step"


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here.

    The roles may be made before or after: `execution` adds to those that are there.
    """
    _grant(apps, model="signal", codename=ACK, name=NAME, roles=ROLES)
    _grant(apps, model="signalstep", codename=VIEW, name=VIEW_NAME, roles=EVERYBODY)


def _grant(apps, *, model, codename, name, roles):
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="signals", model=model
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content, codename=codename, defaults={"name": name}
    )
    for role in roles:
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(permission)


def take_back(apps, schema_editor):
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="signals", codename__in=(ACK, VIEW)
    )
    for permission in found:
        permission.group_set.clear()


class Migration(migrations.Migration):
    dependencies = [
        ("signals", "0004_handling"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(grant, take_back)]
