"""Telegram accounts of people and what the bot keeps. The admin role sees and deletes all links."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

RIGHTS = {
    "view_telegramlink": "Can view telegram link",
    "delete_telegramlink": "Can delete telegram link",
}


def grant(apps, schema_editor=None):
    """Django itself creates permissions only after all migrations, so they are made here."""
    content, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="mpx_site", model="telegramlink"
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
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
        ('execution', '0004_epoch_of_process'),
        ('mpx_site', '0011_role_rights'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='LinkCode',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to=settings.AUTH_USER_MODEL)),
                ('sha256', models.CharField(max_length=64, unique=True)),
                ('expires_at', models.DateTimeField()),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='Mailbox',
            fields=[
                ('bot', models.CharField(max_length=20, primary_key=True, serialize=False)),
                ('last_update', models.BigIntegerField(default=0)),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.CreateModel(
            name='TelegramLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('telegram_id', models.BigIntegerField(unique=True)),
                ('name', models.CharField(blank=True, help_text='As Telegram told it then.', max_length=64)),
                ('linked_at', models.DateTimeField()),
                ('last_used_at', models.DateTimeField(blank=True, help_text='To the minute.', null=True)),
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='telegram_link', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'default_permissions': ('view', 'delete'),
            },
        ),
        migrations.CreateModel(
            name='ShownOrder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sha256', models.CharField(max_length=64, unique=True)),
                ('chat', models.BigIntegerField()),
                ('act', models.CharField(choices=[('APPROVE', 'Approve'), ('REJECT', 'Reject')], max_length=7)),
                ('revision', models.PositiveIntegerField()),
                ('plan_hash', models.CharField(max_length=64)),
                ('reason', models.CharField(blank=True, max_length=300)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('used_by', models.BigIntegerField(blank=True, null=True)),
                ('intent', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='execution.orderintent')),
                ('link', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='mpx_site.telegramlink')),
            ],
            options={
                'default_permissions': (),
            },
        ),
        migrations.RunPython(grant, take_back),
    ]
