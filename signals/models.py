"""Signals: stored episodes of the same mispricing, from first sight to close."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Coalesce, TruncHour

from markets.models import Event
from rules.models import Rule, RuleVersion
from signals import demo_models as demo_models
from signals import outcome_models as outcome_models
from signals import whatif_models as whatif_models

if TYPE_CHECKING:
    from django.contrib.auth.models import User


EXPECTED = Case(
    When(verdict__in=("EXECUTABLE", "THIN"), then=Coalesce("expected_usd", "profit")),
    default=Value(Decimal(0)),
)


class SignalQuerySet(models.QuerySet["Signal"]):
    def open(self) -> SignalQuerySet:
        return self.filter(status=Signal.Status.OPEN)

    def newest(self) -> SignalQuerySet:
        return self.select_related("rule", "event").order_by("-opened_at", "-id")

    def asked(
        self, *, level: str = "", status: str = "", rule: str = "", kind: str = ""
    ) -> SignalQuerySet:
        """Return what fits all that is not empty; `rule` is a code."""
        wanted = {"level": level, "status": status, "rule__code": rule, "kind": kind}
        return self.filter(**{name: value for name, value in wanted.items() if value})

    def sorted_by(self, by: str) -> SignalQuerySet:
        """Return newest first, or by `edge`, `profit`, `expected` or `oldest`.

        What no model has weighed is expected to bring what it claims, and nothing where it
        cannot be executed.
        """
        first = {
            "edge": F("edge_bps").desc(),
            "profit": F("profit").desc(),
            "expected": EXPECTED.desc(),
            "oldest": F("opened_at").asc(),
        }.get(by)
        if first is None:
            return self.newest()
        last = "id" if by == "oldest" else "-id"
        return self.select_related("rule", "event").order_by(first, last)

    def handled(self, handling: str, *, by: User, at: datetime) -> SignalQuerySet:
        """Return what persons have done this with; `handling` is one of `HANDLINGS`, or empty.

        `new` is what nobody has taken yet, and what was snoozed until now.
        """
        current = SignalStep.objects.filter(signal=OuterRef("pk"), current=True)
        if handling == "new":
            return self.filter(~Exists(current.exclude(act="SNOOZE", until__lte=at)))
        wanted = {
            "acked": Q(act="ACK"),
            "mine": Q(act="ACK", by=by),
            "snoozed": Q(act="SNOOZE", until__gt=at),
            "dismissed": Q(act="DISMISS"),
        }.get(handling)
        return self if wanted is None else self.filter(Exists(current.filter(wanted)))

    def of_market(self, market_id: str, *, event_id: str | None) -> SignalQuerySet:
        """Return the signals with a leg in a market, found through its event's index."""
        return self.newest().filter(event=event_id, market_ids__icontains=f'"{market_id}"')

    def p1_by_hour(self, *, at: datetime, hours: int = 24) -> tuple[int, ...]:
        """Count the P1 opened in each of the last hours, oldest first."""
        counts = [0] * hours
        opened = self.filter(level=Signal.Level.P1, opened_at__gt=at - timedelta(hours=hours))
        by_hour = opened.order_by().values_list(TruncHour("opened_at")).annotate(Count("id"))
        this_hour = at.replace(minute=0, second=0, microsecond=0)
        for hour, count in by_hour:
            ago = int((this_hour - hour).total_seconds()) // 3600
            counts[max(0, hours - 1 - ago)] += count
        return tuple(counts)


HANDLINGS = {
    "new": "To look at",
    "mine": "Acknowledged by me",
    "acked": "Acknowledged",
    "snoozed": "Snoozed",
    "dismissed": "Dismissed",
}


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
        max_digits=12, decimal_places=6, help_text="Expected profit over cost, now."
    )
    edge_bps = models.DecimalField(max_digits=12, decimal_places=2)
    peak_edge_bps = models.DecimalField(max_digits=12, decimal_places=2)
    profit = models.DecimalField(max_digits=18, decimal_places=6)
    peak_profit = models.DecimalField(max_digits=18, decimal_places=6)
    cost = models.DecimalField(max_digits=18, decimal_places=6)
    observations = models.PositiveIntegerField(default=1)
    payload = models.JSONField()
    p_fill = models.DecimalField(
        max_digits=5,
        decimal_places=4,
        null=True,
        blank=True,
        help_text="Chance that all legs are still there when an order arrives; null without ML.",
    )
    expected_usd = models.DecimalField(
        max_digits=18,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="Profit weighed by that chance, less what unwinding costs; null without ML.",
    )
    ml_note = models.CharField(max_length=200, blank=True, help_text="Why there is no chance.")

    objects = SignalQuerySet.as_manager()

    class Meta:
        permissions = (("ack_signal", "Can acknowledge, snooze, dismiss and comment signals"),)
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="signal_stream"),
            models.Index(fields=["level", "-opened_at"], name="signal_by_level"),
            models.Index(fields=["status", "-opened_at"], name="signal_by_status"),
            models.Index(fields=["event", "-opened_at", "-id"], name="signals_of_event"),
            # All that signals/opportunities.py asks for, so that it never reads a payload.
            models.Index(
                fields=[
                    "closed_at",
                    "rule",
                    "level",
                    "verdict",
                    "opened_at",
                    "peak_edge_bps",
                    "peak_profit",
                    "cost",
                ],
                condition=Q(closed_at__isnull=False),
                name="signal_lives",
            ),
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
    profit = models.DecimalField(max_digits=18, decimal_places=6)

    class Meta:
        indexes = [models.Index(fields=["signal", "at"], name="points_of_signal")]

    def __str__(self) -> str:
        return f"{self.change} {self.edge_bps} bps"


class SignalStep(models.Model):
    """What a person did with a signal, or said of it: written once.

    The `current` step of a signal says how it stands; one without is new.
    """

    class Act(models.TextChoices):
        ACK = "ACK", "acknowledged"
        SNOOZE = "SNOOZE", "snoozed"
        DISMISS = "DISMISS", "dismissed"
        REOPEN = "REOPEN", "opened again"
        COMMENT = "COMMENT", "commented"

    signal = models.ForeignKey(Signal, on_delete=models.CASCADE, related_name="steps")
    act = models.CharField(max_length=7, choices=Act.choices)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True, help_text="End of a snooze.")
    text = models.CharField(max_length=600, blank=True, help_text="Reason or comment.")
    current = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["signal", "at"], name="steps_of_signal")]
        constraints = [
            models.UniqueConstraint(
                fields=["signal"], condition=Q(current=True), name="one_current_step"
            ),
            models.CheckConstraint(
                condition=Q(act="SNOOZE", until__isnull=False)
                | (~Q(act="SNOOZE") & Q(until__isnull=True)),
                name="snooze_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(act__in=("DISMISS", "COMMENT"), text=""), name="step_says_why"
            ),
            models.CheckConstraint(
                condition=~Q(act__in=("REOPEN", "COMMENT"), current=True),
                name="step_that_stands",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_act_display()} on {self.at:%Y-%m-%d %H:%M} UTC"

    def stands(self, at: datetime) -> bool:
        """Say whether a current step still holds: a snooze that is over does not."""
        return self.until is None or self.until > at
