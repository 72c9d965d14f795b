from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("markets", "0006_ticks_by_day")]

    operations = [
        migrations.AddField(
            model_name="gap",
            name="stream",
            field=models.CharField(
                default="stream", help_text="Whose books they are.", max_length=12
            ),
        ),
    ]
