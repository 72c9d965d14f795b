"""Who may run what-ifs: all roles that act or judge, so not the viewer."""

from django.db import migrations

ROLES = ("analyst", "trader", "approver", "admin")
RUN, NAME = "run_whatif", "Can run what-ifs and cancel them"
VIEW = "view_whatifrun"


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="signals", model="whatifrun"
    )
    permissions = apps.get_model("auth", "Permission").objects
    groups = apps.get_model("auth", "Group").objects
    wanted = {RUN: (NAME, ROLES), VIEW: ("Can view what-if run", ("viewer", *ROLES))}
    for codename, (name, roles) in wanted.items():
        permission, _ = permissions.get_or_create(
            content_type=content, codename=codename, defaults={"name": name}
        )
        for group in groups.filter(name__in=roles):
            group.permissions.add(permission)


def take_back(apps, schema_editor):
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="signals", codename__in=(RUN, VIEW)
    )
    for permission in found:
        permission.group_set.clear()


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0005_whatif"),
        ("execution", "0003_roles"),
        ("signals", "0002_what_if_runs"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(grant, take_back)]
