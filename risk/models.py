"""What risk decides by: the policy and its changes, circuit breakers, the kill switch."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from risk.checks import BreakerView

THE_ROW = 1  # the policy and the kill switch are one row each


class Policy(models.Model):
    """The desk's limits. An empty limit is the ceiling that the environment sets (`EXEC_*`).

    Whoever uses up a limit locks this row first (`risk.locking.in_turn`).
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ROW, editable=False)
    order_notional = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, help_text="USD an order may cost."
    )
    concurrent_orders = models.PositiveIntegerField(
        null=True, blank=True, help_text="Approved orders that are not done yet."
    )
    daily_notional = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="USD approved per UTC day.",
    )
    event_exposure = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="USD that may be lost in one event, at worst.",
    )
    slippage_bps = models.PositiveIntegerField(
        null=True, blank=True, help_text="How far above the touch an order reaches."
    )
    book_age_ms = models.PositiveIntegerField(
        default=5_000, help_text="Since the stream last vouched for a book."
    )
    signal_age_seconds = models.PositiveIntegerField(default=3_600)
    intent_ttl_seconds = models.PositiveIntegerField(
        default=180, help_text="How long a suggestion waits for its approval."
    )
    fill_seconds = models.PositiveIntegerField(
        default=30, help_text="How long an approved order tries to fill."
    )
    min_annualised_pct = models.DecimalField(
        max_digits=8,
        decimal_places=2,
        default=Decimal("5.00"),
        help_text="Of what is locked until it resolves.",
    )
    depth_share = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=Decimal("1.00"),
        help_text="Share of displayed sizes that plans and paper fills count on.",
    )
    changed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name_plural = "policy"
        permissions = (("edit_policy", "Can change limits and confirm looser ones"),)
        constraints = (
            models.CheckConstraint(condition=Q(id=THE_ROW), name="one_policy"),
            models.CheckConstraint(
                condition=Q(depth_share__gt=0, depth_share__lte=1), name="depth_share_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(intent_ttl_seconds__gte=1, fill_seconds__gte=1),
                name="deadlines_are_ahead",
            ),
        )

    def __str__(self) -> str:
        return "The desk's policy"


class PolicyChange(models.Model):
    """A change of limits. What loosens waits for a second person."""

    class State(models.TextChoices):
        PROPOSED = "PROPOSED"
        APPLIED = "APPLIED"
        REFUSED = "REFUSED"

    at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State.choices)
    reason = models.CharField(max_length=300)
    before = models.JSONField()
    after = models.JSONField()
    loosens = models.JSONField(default=list, help_text="The limits that it loosens.")
    proposer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    confirmer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    single_operator = models.BooleanField(default=False)

    class Meta:
        indexes = (models.Index(fields=["state", "-at"], name="policy_changes"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(confirmer__isnull=True)
                | ~Q(confirmer=F("proposer"))
                | Q(single_operator=True)
                | Q(state="REFUSED"),
                name="looser_policy_has_two_people",
            ),
            models.CheckConstraint(
                condition=Q(state="PROPOSED", decided_at__isnull=True)
                | (~Q(state="PROPOSED") & Q(decided_at__isnull=False)),
                name="decided_policy_change_has_a_time",
            ),
        )

    def __str__(self) -> str:
        return f"{', '.join(self.after)} ({self.state.lower()})"


class Breaker(models.Model):
    """A circuit breaker: the whole desk, one rule, or one market."""

    class Scope(models.TextChoices):
        GLOBAL = "GLOBAL"
        RULE = "RULE"
        MARKET = "MARKET"

    class State(models.TextChoices):
        CLOSED = "CLOSED"
        OPEN = "OPEN"
        HALF_OPEN = "HALF_OPEN"

    scope = models.CharField(max_length=6, choices=Scope.choices)
    subject = models.CharField(max_length=80, blank=True, help_text="Rule code or market id.")
    state = models.CharField(max_length=9, choices=State.choices, default=State.CLOSED)
    reason = models.CharField(max_length=300, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="In a row, while closed.")
    failed_at = models.DateTimeField(null=True, blank=True)
    tripped_at = models.DateTimeField(null=True, blank=True)
    trips = models.PositiveIntegerField(default=0, help_text="In a row; each waits twice as long.")
    reopen_at = models.DateTimeField(
        null=True, blank=True, help_text="When a trial is let through. Empty: only by hand."
    )
    trial = models.CharField(max_length=40, blank=True, help_text="The order on trial.")

    class Meta:
        permissions = (("reset_breaker", "Can trip and reset circuit breakers"),)
        constraints = (
            models.UniqueConstraint(fields=["scope", "subject"], name="one_breaker_per_subject"),
            models.CheckConstraint(
                condition=Q(scope="GLOBAL", subject="") | (~Q(scope="GLOBAL") & ~Q(subject="")),
                name="breaker_has_a_subject",
            ),
        )

    def __str__(self) -> str:
        return f"{self.scope} {self.subject} {self.state}".replace("  ", " ")

    def view(self) -> BreakerView:
        return BreakerView(
            self.scope,
            self.subject,
            self.State(self.state).value,  # type: ignore[arg-type]
            self.reason,
            self.reopen_at,
            self.trial,
        )

    def is_due(self, at: datetime) -> bool:
        """Say whether an open breaker may be tried."""
        return self.state == self.State.OPEN and self.reopen_at is not None and at >= self.reopen_at


class KillSwitch(models.Model):
    """The one switch that stops all approvals and fills."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ROW, editable=False)
    tripped = models.BooleanField(default=False)
    reason = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)
    changed_by = models.CharField(max_length=150, blank=True)
    tripped_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: tripped at the console or by the desk itself.",
    )

    class Meta:
        verbose_name_plural = "kill switch"
        permissions = (
            ("trip_kill", "Can trip the kill switch"),
            ("rearm_kill", "Can re-arm the kill switch"),
        )
        constraints = (models.CheckConstraint(condition=Q(id=THE_ROW), name="one_kill_switch"),)

    def __str__(self) -> str:
        return f"Kill switch {'ON' if self.tripped else 'off'}"
