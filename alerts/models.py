"""The desk's journal: audit chain, feed log, alert outbox and heartbeats."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models


class AuditEntry(models.Model):
    """One link of the hash chain; rows are only ever added (see `alerts.journal`)."""

    id = models.PositiveBigIntegerField(primary_key=True)  # 1, 2, 3, ... without a gap
    at = models.DateTimeField()
    kind = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    actor = models.CharField(max_length=150)
    data = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["subject", "id"], name="audit_of_subject")]

    def __str__(self) -> str:
        return f"#{self.pk} {self.kind} {self.subject}"


class AuditHead(models.Model):
    """How long the chain is and its last hash: shows when entries are cut off its end."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    length = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.length}:{self.hash}"


class FeedEntry(models.Model):
    """One message of the live feed. Ids grow in commit order (see `alerts.journal`)."""

    topic = models.CharField(max_length=40)
    kind = models.CharField(max_length=40)
    at = models.DateTimeField()
    payload = models.JSONField()

    class Meta:
        verbose_name_plural = "feed entries"
        indexes = [models.Index(fields=["at"], name="feed_by_age")]

    def __str__(self) -> str:
        return f"{self.topic} {self.kind} #{self.pk}"


class OutboxEntry(models.Model):
    """An alert that must be told; written with the row it speaks of."""

    class State(models.TextChoices):
        PENDING = "PENDING"
        SENT = "SENT"
        FAILED = "FAILED"
        SUPPRESSED = "SUPPRESSED"

    key = models.CharField(max_length=120, unique=True)
    kind = models.CharField(max_length=40)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    payload = models.JSONField()
    due_at = models.DateTimeField()
    locked_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "outbox entries"
        indexes = [models.Index(fields=["state", "due_at"], name="outbox_due")]

    def __str__(self) -> str:
        return f"{self.kind} {self.key} ({self.state})"


class Heartbeat(models.Model):
    """The last sign of life of one stage, and how far it has come."""

    component = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()
    progress = models.BigIntegerField(default=0)
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.component} at {self.at:%H:%M:%S}"

    def age(self, at: datetime) -> timedelta:
        return max(at - self.at, timedelta(0))
