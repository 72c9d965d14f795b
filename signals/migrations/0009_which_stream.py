from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("signals", "0008_demo_bursts")]

    operations = [
        migrations.AddField(
            model_name="signal",
            name="stream",
            field=models.CharField(
                blank=True,
                default="",
                help_text="Which stream tells it; empty: the poll.",
                max_length=12,
            ),
        ),
    ]
