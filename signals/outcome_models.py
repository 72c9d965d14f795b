"""What became of signals: one row an episode, with what was known and what models said."""

from __future__ import annotations

from django.db import models


class OutcomeQuerySet(models.QuerySet["Outcome"]):
    def known(self) -> OutcomeQuerySet:
        """Return those of which it is known whether an order would have filled."""
        return self.filter(state__in=(Outcome.State.FILLED, Outcome.State.MISSED))

    def of_features(self, sha: str) -> OutcomeQuerySet:
        """Return those whose vectors are of one list of features."""
        return self.filter(features_sha256=sha)

    def newest(self) -> OutcomeQuerySet:
        return self.order_by("-at", "-id")


class Outcome(models.Model):
    """A signal at the one moment that is learnt from (`signals.samples`), times in unix ns.

    `vector` is in the order of `rules.ml.features.FEATURES`, null for not known. `chances`
    has what each model in use said then, by the first digits of its file's hash.
    """

    class State(models.TextChoices):
        WAITING = "WAITING", "not known yet"
        FILLED = "FILLED", "still there"
        MISSED = "MISSED", "gone"
        DROPPED = "DROPPED", "cannot be known"

    key = models.CharField(max_length=32, unique=True, help_text="Of the signal.")
    rule = models.CharField(max_length=64)
    group = models.CharField(max_length=80, help_text="Parent event.")
    at = models.BigIntegerField()
    ends = models.BigIntegerField(help_text="How far its label looks.")
    features_sha256 = models.CharField(max_length=64)
    vector = models.JSONField()
    profit = models.DecimalField(max_digits=18, decimal_places=6)
    cost = models.DecimalField(max_digits=18, decimal_places=6)
    chances = models.JSONField(default=dict)
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    loss = models.DecimalField(
        max_digits=18, decimal_places=6, null=True, help_text="Of unwinding, USD."
    )

    objects = OutcomeQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["-at", "-id"], name="outcomes_newest")]

    def __str__(self) -> str:
        return f"{self.key[:8]} {self.get_state_display()}"
