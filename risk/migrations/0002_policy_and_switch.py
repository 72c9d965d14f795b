"""Give the desk its policy and its kill switch: one row each, armed."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor | None = None) -> None:
    for name in ("Policy", "KillSwitch"):
        apps.get_model("risk", name).objects.get_or_create(pk=1)


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for name in ("Policy", "KillSwitch"):
        apps.get_model("risk", name).objects.all().delete()


class Migration(migrations.Migration):
    dependencies = (("risk", "0001_initial"),)

    operations = (migrations.RunPython(create, remove),)
