"""What the roles may do with relations, gaps, watch lists and voices; execution 0003 has the rest."""

from django.db import migrations

EVERYBODY = ("viewer", "analyst", "trader", "approver", "admin")
DECIDERS = ("analyst", "approver", "admin")
ACTORS = ("trader", "approver", "admin")
ADMIN = ("admin",)
RIGHTS = {
    **{
        f"markets.{model}.view": EVERYBODY
        for model in ("relation", "synonymgroup", "termschange", "syncrun", "gap", "watchrule")
    },
    **{f"alerts.{model}.view": EVERYBODY[1:] for model in ("voice", "manner", "silence")},
    **{f"alerts.silence.{act}": ACTORS for act in ("add", "change")},
    "alerts.voice.change": ADMIN,
    **{f"alerts.manner.{act}": ADMIN for act in ("add", "change", "delete")},
    **{f"markets.watchrule.{act}": ADMIN for act in ("add", "change", "delete")},
    "alerts.outboxentry.change": ACTORS,
    "markets.relation.decide": DECIDERS,
}
NAMES = {"markets.relation.decide": "Can approve and reject relations and groups"}


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    groups = apps.get_model("auth", "Group").objects
    for path, roles in RIGHTS.items():
        permission = _permission(apps, path)
        for group in groups.filter(name__in=roles):
            group.permissions.add(permission)


def _permission(apps, path):
    app, model, act = path.split(".")
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label=app, model=model
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content,
        codename=f"{act}_{model}",
        defaults={"name": NAMES.get(path, f"Can {act} {model}")},
    )
    return permission


def take_back(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects
    for path, roles in RIGHTS.items():
        for group in groups.filter(name__in=roles):
            group.permissions.remove(_permission(apps, path))


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0010_tell_alerts"),
        ("execution", "0003_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(grant, take_back)]
