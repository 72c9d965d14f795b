"""The registry of models that weigh findings: where each stands, and what it showed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

if TYPE_CHECKING:
    from rules.ml.report import Report


class MlModelQuerySet(models.QuerySet["MlModel"]):
    def newest(self) -> MlModelQuerySet:
        return self.order_by("-id")

    def active(self) -> MlModelQuerySet:
        return self.filter(state=MlModel.State.ACTIVE)

    def shadows(self) -> MlModelQuerySet:
        return self.filter(state=MlModel.State.SHADOW)

    def before_active(self) -> MlModelQuerySet:
        """Return the models that were active before, the last one first."""
        retired = self.filter(state=MlModel.State.RETIRED, activated_at__isnull=False)
        return retired.order_by(F("activated_at").desc(), "-id")


class MlModel(models.Model):
    """One trained model. Its text lies in a file that is held to `sha256` whenever it is read.

    A shadow is asked and its answers are kept, but they count for nothing. One model at
    most is active. `report` is `rules.ml.report.Report` as JSON.
    """

    class State(models.TextChoices):
        SHADOW = "SHADOW", "shadow"
        ACTIVE = "ACTIVE", "active"
        RETIRED = "RETIRED", "retired"

    sha256 = models.CharField(max_length=64, unique=True, help_text="Of its file.")
    features_sha256 = models.CharField(max_length=64)
    state = models.CharField(max_length=7, choices=State.choices, default=State.SHADOW)
    passed = models.BooleanField(help_text="It passed every gate; only then it may be active.")
    why_not = models.TextField(blank=True, help_text="Why its weight is 0; empty if it passed.")
    report = models.JSONField()
    trained_at = models.DateTimeField()
    trained_by = models.CharField(max_length=150)
    activated_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    suppress_below = models.DecimalField(
        max_digits=4,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text=(
            "While it is active, a P1 whose chance to fill is below this raises no alert; the "
            "signal and its level stay. Empty: no alert is held back."
        ),
    )

    objects = MlModelQuerySet.as_manager()

    class Meta:
        verbose_name = "model"
        permissions = (("activate_mlmodel", "Can activate, retire and roll back models"),)
        constraints = (
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="ACTIVE"), name="one_active_model"
            ),
            models.CheckConstraint(
                condition=~Q(state="ACTIVE") | Q(passed=True, activated_at__isnull=False),
                name="active_model_passed",
            ),
            models.CheckConstraint(
                condition=Q(suppress_below__isnull=True)
                | Q(suppress_below__gte=0, suppress_below__lte=1),
                name="suppress_below_is_a_chance",
            ),
        )

    def __str__(self) -> str:
        return f"model {self.pk}"

    @property
    def typed_report(self) -> Report:
        """Return the report; raise `msgspec.ValidationError` if another release wrote it."""
        import msgspec

        from rules.ml.report import Report

        return msgspec.convert(self.report, Report)
