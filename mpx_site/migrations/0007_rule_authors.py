"""Who may publish rules: the admin role. Analysts switch them and go back (execution 0003)."""

from django.db import migrations

RIGHTS = {"add_rule": "Can add rule", "change_rule": "Can change rule"}


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="rules", model="rule"
    )
    permissions = apps.get_model("auth", "Permission").objects
    admins = apps.get_model("auth", "Group").objects.filter(name="admin")
    for codename, name in RIGHTS.items():
        permission, _ = permissions.get_or_create(
            content_type=content, codename=codename, defaults={"name": name}
        )
        for group in admins:
            group.permissions.add(permission)


def take_back(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects.filter(name="admin")
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="rules", codename__in=RIGHTS
    )
    for group in groups:
        group.permissions.remove(*found)


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0006_whatif_roles"),
        ("execution", "0003_roles"),
        ("rules", "0002_versions_never_change"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(grant, take_back)]
