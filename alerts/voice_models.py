"""What the desk says by a voice, and when: its state, who silenced what, how loud each kind is."""

from __future__ import annotations

from datetime import datetime, time

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from alerts.pace import kept

TELEGRAM, WEBHOOK, EMAIL = "telegram", "webhook", "email"
# Told only where somebody has asked for it: they would multiply the messages of a desk.
OPT_IN = ("signal.observed", "signal.closed")


class Voice(models.Model):
    """One way to tell people. Whoever holds `held_until` is sending; nobody else does then."""

    name = models.CharField(max_length=20, primary_key=True)
    chat = models.CharField(
        max_length=80, blank=True, help_text="Where the group has moved to; empty: as configured."
    )
    budget = models.PositiveSmallIntegerField(
        default=60, help_text="Messages an hour. What is over waits and is told together."
    )
    quiet_from = models.TimeField(
        null=True, blank=True, help_text="UTC. Between the two, messages make no sound."
    )
    quiet_to = models.TimeField(null=True, blank=True)
    broken = models.CharField(
        max_length=300, blank=True, help_text="Why nothing can be sent until somebody acts."
    )
    broken_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    held_until = models.DateTimeField(null=True, blank=True)
    sent = models.JSONField(default=list, help_text="Unix times of the last hour's messages.")
    told = models.PositiveBigIntegerField(default=0, help_text="Messages taken, ever.")
    failures = models.PositiveBigIntegerField(default=0, help_text="Messages not taken, ever.")
    last_ok_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        permissions = [("test_voice", "Can send a test message")]
        constraints = [
            models.CheckConstraint(
                condition=Q(quiet_from=None, quiet_to=None)
                | Q(quiet_from__isnull=False, quiet_to__isnull=False),
                name="quiet_hours_have_two_ends",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def is_quiet(self, at: datetime) -> bool:
        """Say whether a time (aware) lies in the quiet hours, which may span midnight."""
        if self.quiet_from is None or self.quiet_to is None:
            return False
        now: time = at.time()
        if self.quiet_from <= self.quiet_to:
            return self.quiet_from <= now < self.quiet_to
        return now >= self.quiet_from or now < self.quiet_to

    def note_sent(self, count: int, at: datetime) -> None:
        """Count messages that were taken."""
        now = at.timestamp()
        self.sent = [*kept(self.sent, at=now), *[now] * count]
        self.told, self.last_ok_at = F("told") + count, at


class Manner(models.Model):
    """How one kind of alert is told. A kind without a row is told with sound, unless it is one
    of `OPT_IN`: those are not even written down."""

    class How(models.TextChoices):
        ON = "ON", "with sound"
        SILENT = "SILENT", "without sound"
        OFF = "OFF", "not at all"

    kind = models.CharField(
        max_length=40,
        unique=True,
        help_text="signal.p1, breaker.opened, intent.filled, ... Told only if set here: "
        + ", ".join(OPT_IN),
    )
    how = models.CharField(max_length=6, choices=How.choices, default=How.ON)

    def __str__(self) -> str:
        return f"{self.kind}: {self.get_how_display()}"

    @classmethod
    def asked_for(cls) -> frozenset[str]:
        """Return those of the `OPT_IN` kinds that are wanted."""
        rows = cls.objects.filter(kind__in=OPT_IN).exclude(how=cls.How.OFF)
        return frozenset(rows.values_list("kind", flat=True))


class Silence(models.Model):
    """Keeps alerts of a scope back until a time, for a reason. The kill switch is always told."""

    class Scope(models.TextChoices):
        ALL = "ALL", "everything"
        KIND = "KIND", "a kind of alert"
        RULE = "RULE", "a rule"
        EVENT = "EVENT", "an event"

    scope = models.CharField(max_length=5, choices=Scope.choices)
    value = models.CharField(
        max_length=120, blank=True, help_text="The kind, rule code or event id."
    )
    until = models.DateTimeField()
    reason = models.CharField(max_length=300)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["until"], name="silence_until")]
        constraints = [
            models.CheckConstraint(
                condition=(Q(scope="ALL") & Q(value="")) | (~Q(scope="ALL") & ~Q(value="")),
                name="silence_has_its_scope",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()} {self.value} until {self.until:%d %b %H:%M} UTC"

    def covers(self, kind: str, payload: dict[str, object]) -> bool:
        if self.scope == self.Scope.ALL:
            return True
        about = {
            self.Scope.KIND: kind,
            self.Scope.RULE: payload.get("rule"),
            self.Scope.EVENT: payload.get("event_id"),
        }
        return str(about[self.Scope(self.scope)]) == self.value
