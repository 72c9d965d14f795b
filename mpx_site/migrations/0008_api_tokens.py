"""API tokens of people. Everybody manages their own; the admin role sees and revokes all."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

RIGHTS = {"view_apitoken": "Can view api token", "revoke_apitoken": "Can revoke API tokens of others"}


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="mpx_site", model="apitoken"
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
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="mpx_site", codename__in=RIGHTS
    )
    for permission in found:
        permission.group_set.clear()


class Migration(migrations.Migration):
    dependencies = [
        ("mpx_site", "0007_rule_authors"),
        ("execution", "0003_roles"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(help_text="What it is for.", max_length=80)),
                ("prefix", models.CharField(help_text="How logs and audit name it.", max_length=8, unique=True)),
                ("sha256", models.CharField(max_length=64)),
                ("scopes", models.JSONField(default=list)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("last_used_at", models.DateTimeField(blank=True, help_text="To the minute.", null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("user", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="api_tokens", to=settings.AUTH_USER_MODEL)),
            ],
            options={
                "permissions": [("revoke_apitoken", "Can revoke API tokens of others")],
                "default_permissions": ("view",),
            },
        ),
        migrations.RunPython(grant, take_back),
    ]
