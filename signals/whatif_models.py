"""What-if runs: a candidate version of a rule beside the live one, asked for and answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

from rules.models import Rule, RuleVersion

SILENT = timedelta(seconds=60)  # a run that tells nothing for so long has died


class WhatIfQuerySet(models.QuerySet["WhatIfRun"]):
    def newest(self) -> WhatIfQuerySet:
        return self.select_related("rule", "asked_by").order_by("-asked_at", "-id")

    def waiting(self) -> WhatIfQuerySet:
        """Return who is next, first come first served."""
        return self.filter(state=WhatIfRun.State.WAITING).order_by("asked_at", "id")

    def running(self) -> WhatIfQuerySet:
        return self.filter(state=WhatIfRun.State.RUNNING)

    def unfinished(self) -> WhatIfQuerySet:
        return self.filter(state__in=(WhatIfRun.State.WAITING, WhatIfRun.State.RUNNING))

    def silent(self, at: datetime) -> WhatIfQuerySet:
        """Return what runs by its row, but has not been heard of for too long."""
        return self.running().filter(beat_at__lt=at - SILENT)


class WhatIfRun(models.Model):
    """One comparison. `result` is `signals.whatif.Outcome.row()`, without the full lists' rest."""

    class State(models.TextChoices):
        WAITING = "WAITING"
        RUNNING = "RUNNING"
        DONE = "DONE"
        FAILED = "FAILED"
        CANCELLED = "CANCELLED"

    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="what_ifs")
    live_version = models.ForeignKey(
        RuleVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The version it is compared with; empty: none was published.",
    )
    candidate_version = models.ForeignKey(
        RuleVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: a text that is not published.",
    )
    candidate_source = models.TextField(help_text="The candidate's text, as written.")
    hours = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Of kept data; empty: a recording is read."
    )
    recording = models.CharField(max_length=255, blank=True, help_text="Its file name.")
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    asked_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    beat_at = models.DateTimeField(null=True, blank=True, help_text="Last sign of life.")
    ended_at = models.DateTimeField(null=True, blank=True)
    permille = models.PositiveSmallIntegerField(
        default=0, validators=[MaxValueValidator(1000)], help_text="Of the bytes, read so far."
    )
    frames = models.PositiveBigIntegerField(default=0)
    reason = models.CharField(max_length=500, blank=True, help_text="Why it failed.")
    result = models.JSONField(null=True, blank=True)

    objects = WhatIfQuerySet.as_manager()

    class Meta:
        verbose_name = "what-if run"
        permissions = (("run_whatif", "Can run what-ifs and cancel them"),)
        indexes = [
            models.Index(fields=["rule", "-asked_at", "-id"], name="whatifs_of_rule"),
            models.Index(fields=["state", "asked_at"], name="whatif_queue"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="RUNNING"), name="whatif_one_runs"
            ),
            models.CheckConstraint(
                condition=Q(hours__isnull=True) ^ Q(recording=""), name="whatif_over_one_thing"
            ),
            models.CheckConstraint(
                condition=Q(state="DONE", result__isnull=False)
                | Q(~Q(state="DONE"), result__isnull=True),
                name="whatif_done_has_a_result",
            ),
            models.CheckConstraint(
                condition=Q(state__in=("WAITING", "RUNNING"), ended_at__isnull=True)
                | Q(state__in=("DONE", "FAILED", "CANCELLED"), ended_at__isnull=False),
                name="whatif_over_has_an_end",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule.code} over {self.data} ({self.state.lower()})"

    @property
    def data(self) -> str:
        """Say in words what it reads."""
        if self.recording:
            return self.recording
        return "the last hour" if self.hours == 1 else f"the last {self.hours} hours"

    @property
    def candidate(self) -> str:
        """Say in words which version it tries."""
        return f"v{self.candidate_version.number}" if self.candidate_version else "a new text"

    @property
    def over(self) -> bool:
        return self.state not in (self.State.WAITING, self.State.RUNNING)

    @cached_property
    def counts(self) -> dict[str, Any]:
        """Return how many signals are same, changed, new and lost; empty before it is done."""
        return dict((self.result or {}).get("counts", {}))
