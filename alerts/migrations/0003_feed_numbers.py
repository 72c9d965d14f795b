"""Number the feed per topic, without a hole, and give it heads and tickets."""

import secrets

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

NUMBER = """
UPDATE alerts_feedentry SET seq = numbered.seq
FROM (
    SELECT id, ROW_NUMBER() OVER (PARTITION BY topic ORDER BY id) AS seq FROM alerts_feedentry
) AS numbered
WHERE alerts_feedentry.id = numbered.id
"""


def make_heads(apps, schema_editor):
    entries, heads = apps.get_model("alerts", "FeedEntry"), apps.get_model("alerts", "FeedHead")
    for row in entries.objects.values("topic").annotate(last=models.Max("seq")).order_by("topic"):
        heads.objects.create(topic=row["topic"], epoch=secrets.token_hex(4), seq=row["last"])


class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('alerts', '0002_audit_head'),
    ]

    operations = [
        migrations.CreateModel(
            name='FeedHead',
            fields=[
                ('topic', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('epoch', models.CharField(max_length=8)),
                ('seq', models.PositiveBigIntegerField()),
                ('home', models.CharField(blank=True, help_text='The database it was in.', max_length=60)),
            ],
        ),
        migrations.CreateModel(
            name='FeedTicket',
            fields=[
                ('hash', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('channels', models.JSONField(help_text='What its holder might hear when it was given.')),
                ('expires_at', models.DateTimeField()),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.AddField(
            model_name='feedentry',
            name='seq',
            field=models.PositiveBigIntegerField(default=0, help_text='1, 2, 3, ... within its topic.'),
            preserve_default=False,
        ),
        migrations.RunSQL(NUMBER, migrations.RunSQL.noop),
        migrations.RunPython(make_heads, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name='feedentry',
            constraint=models.UniqueConstraint(fields=('topic', 'seq'), name='feed_seq_once'),
        ),
    ]
