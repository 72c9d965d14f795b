"""When the bot last read something: after a week of silence Telegram counts from anywhere."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("mpx_site", "0013_count_kpis")]
    operations = [
        migrations.AddField(
            model_name="mailbox",
            name="read_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
