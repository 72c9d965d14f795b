"""At most one what-if runs: of those that ran at once, all but the first are ended."""

from django.db import migrations, models
from django.utils import timezone

REASON = "Another ran at the same time. Ask again."


def end_surplus(apps, schema_editor=None):
    runs = apps.get_model("signals", "WhatIfRun").objects
    first = runs.filter(state="RUNNING").order_by("started_at", "id").first()
    if first is not None:
        surplus = runs.filter(state="RUNNING").exclude(pk=first.pk)
        surplus.update(state="FAILED", ended_at=timezone.now(), reason=REASON)


class Migration(migrations.Migration):
    dependencies = [("signals", "0002_what_if_runs")]
    operations = [
        migrations.RunPython(end_surplus, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="whatifrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "RUNNING")), fields=("state",), name="whatif_one_runs"
            ),
        ),
    ]
