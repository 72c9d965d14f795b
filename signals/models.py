"""Signals: stored episodes of the same mispricing, from first sight to close."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from markets.models import Event
from rules.models import Rule, RuleVersion

MONEY = {"max_digits": 18, "decimal_places": 6}


class SignalQuerySet(models.QuerySet["Signal"]):
    def open(self) -> SignalQuerySet:
        return self.filter(status=Signal.Status.OPEN)

    def newest(self) -> SignalQuerySet:
        return self.select_related("rule", "event").order_by("-opened_at", "-id")


class Signal(models.Model):
    """One episode. `payload` is the finding at its last change, as `scan` prints it."""

    class Level(models.TextChoices):
        P1 = "P1", "P1 executable"
        P2 = "P2", "P2 thin"
        P3 = "P3", "P3 watch"

    class Status(models.TextChoices):
        OPEN = "OPEN"
        CLOSED = "CLOSED"

    key = models.CharField(max_length=32, unique=True, help_text="Derived from its content.")
    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="signals")
    rule_version = models.ForeignKey(RuleVersion, on_delete=models.PROTECT, related_name="+")
    event = models.ForeignKey(Event, null=True, blank=True, on_delete=models.PROTECT)
    market_ids = models.JSONField(default=list)
    kind = models.CharField(max_length=20)
    level = models.CharField(max_length=2, choices=Level.choices)
    status = models.CharField(max_length=6, choices=Status.choices, default=Status.OPEN)
    verdict = models.CharField(max_length=10)
    blocked_by = models.JSONField(default=list)
    opened_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=40, blank=True)
    edge_score = models.DecimalField(
        max_digits=12, decimal_places=6, help_text="Profit over cost, now."
    )
    edge_bps = models.DecimalField(max_digits=12, decimal_places=2)
    peak_edge_bps = models.DecimalField(max_digits=12, decimal_places=2)
    profit = models.DecimalField(**MONEY)
    peak_profit = models.DecimalField(**MONEY)
    cost = models.DecimalField(**MONEY)
    observations = models.PositiveIntegerField(default=1)
    payload = models.JSONField()

    objects = SignalQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="signal_stream"),
            models.Index(fields=["level", "-opened_at"], name="signal_by_level"),
            models.Index(fields=["status", "-opened_at"], name="signal_by_status"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="OPEN", closed_at__isnull=True)
                | Q(status="CLOSED", closed_at__isnull=False),
                name="closed_signal_has_an_end",
            )
        ]

    def __str__(self) -> str:
        return f"{self.level} {self.kind} {self.edge_bps} bps ({self.status.lower()})"

    def lifetime(self, at: datetime) -> timedelta:
        return (self.closed_at or at) - self.opened_at


class SignalPoint(models.Model):
    """One change in a signal's life, for its edge timeline."""

    signal = models.ForeignKey(Signal, on_delete=models.CASCADE, related_name="points")
    at = models.DateTimeField()
    change = models.CharField(max_length=8)
    level = models.CharField(max_length=2)
    edge_bps = models.DecimalField(max_digits=12, decimal_places=2)
    profit = models.DecimalField(**MONEY)

    class Meta:
        indexes = [models.Index(fields=["signal", "at"], name="points_of_signal")]

    def __str__(self) -> str:
        return f"{self.change} {self.edge_bps} bps"
