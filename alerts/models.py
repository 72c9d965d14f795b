"""The desk's journal: audit chain, feed log, alert outbox and heartbeats."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models

from alerts.voice_models import TELEGRAM
from alerts.voice_models import Manner as Manner
from alerts.voice_models import Silence as Silence
from alerts.voice_models import Voice as Voice


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
    """One message of the live feed. Ids grow in commit order (see `alerts.feedlog`)."""

    topic = models.CharField(max_length=40)
    seq = models.PositiveBigIntegerField(help_text="1, 2, 3, ... within its topic.")
    kind = models.CharField(max_length=40)
    at = models.DateTimeField()
    payload = models.JSONField()

    class Meta:
        verbose_name_plural = "feed entries"
        indexes = [models.Index(fields=["at"], name="feed_by_age")]
        constraints = [models.UniqueConstraint(fields=["topic", "seq"], name="feed_seq_once")]

    def __str__(self) -> str:
        return f"{self.topic} {self.kind} #{self.seq}"


class FeedHead(models.Model):
    """How far one topic of the feed has come; outlives the entries that are pruned."""

    topic = models.CharField(max_length=40, primary_key=True)
    epoch = models.CharField(max_length=8)
    seq = models.PositiveBigIntegerField()
    home = models.CharField(max_length=60, blank=True, help_text="The database it was in.")

    def __str__(self) -> str:
        return f"{self.topic} {self.epoch}:{self.seq}"


class FeedTicket(models.Model):
    """Lets a program open one socket of the live feed, once. Only the ticket's hash is kept."""

    hash = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE)
    channels = models.JSONField(help_text="What its holder might hear when it was given.")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"ticket {self.hash[:8]} until {self.expires_at:%H:%M:%S}"


class OutboxEntry(models.Model):
    """An alert that one voice must tell; written with the row it speaks of.

    The same alert of several voices has the same key: each tells it, or does not, by itself.
    """

    class State(models.TextChoices):
        PENDING = "PENDING"
        SENT = "SENT"
        FAILED = "FAILED"
        SUPPRESSED = "SUPPRESSED"

    key = models.CharField(max_length=120)
    voice = models.CharField(max_length=20, default=TELEGRAM)
    kind = models.CharField(max_length=40)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    payload = models.JSONField()
    due_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    transport = models.CharField(
        max_length=20, blank=True, help_text="What told it: its voice, or dry_run for nothing."
    )
    message_id = models.BigIntegerField(
        null=True, blank=True, help_text="Of a message that tells this alert alone."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "outbox entries"
        indexes = [models.Index(fields=["state", "due_at"], name="outbox_due")]
        constraints = [
            models.UniqueConstraint(fields=["key", "voice"], name="alert_once_a_voice"),
        ]

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


class Trouble(models.Model):
    """A time in which a part of the desk did not beat (see `alerts.watchdog`)."""

    component = models.CharField(max_length=40)
    since = models.DateTimeField(help_text="Its last beat before.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-since"], name="newest_troubles")]
        constraints = [
            models.UniqueConstraint(
                fields=["component"],
                condition=models.Q(ended_at=None),
                name="one_open_trouble_a_component",
            )
        ]

    def __str__(self) -> str:
        return f"{self.component} silent since {self.since:%H:%M:%S}"
