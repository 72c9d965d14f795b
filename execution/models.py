"""Order intents with their plans, what became of each leg, fills, positions, live books."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.db.models import F, Q, Sum

from execution import authenticators as authenticators
from execution import backtest_models as backtest_models
from execution import kpi_models as kpi_models
from execution.plans import Plan, read_plan
from markets.models import Event, Market
from signals.models import Signal

MICRO = Decimal("0.000001")


class NeverChanges(Exception):
    """A row of an append-only table was about to be changed or deleted."""


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Only adds rows. Other ways to the table meet the database's own trigger."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise NeverChanges(f"{self.model._meta.verbose_name_plural} cannot be updated")

    def delete(self) -> NoReturn:
        raise NeverChanges(f"{self.model._meta.verbose_name_plural} cannot be deleted")


class AppendOnly(models.Model):
    """A row that is written once."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new row; raise `NeverChanges` if it is already stored."""
        if not self._state.adding:
            raise NeverChanges(f"{self} is written")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NeverChanges(f"{self} is written")


class IntentQuerySet(models.QuerySet["OrderIntent"]):
    def newest(self) -> IntentQuerySet:
        return self.select_related("signal__rule", "event", "proposer", "approver").order_by("-id")

    def waiting(self) -> IntentQuerySet:
        """Suggestions that somebody has to decide on, the most urgent first."""
        return (
            self.filter(status=OrderIntent.Status.SUGGESTED)
            .select_related("signal__rule", "event", "proposer", "approver")
            .order_by("expires_at", "id")
        )

    def open(self) -> IntentQuerySet:
        """Approved orders that are not done yet: these use up concurrency."""
        return self.filter(status=OrderIntent.Status.APPROVED)

    def approved_on(self, at: datetime) -> IntentQuerySet:
        """Return what was approved on the UTC day of a time, whatever became of it."""
        start = at.replace(hour=0, minute=0, second=0, microsecond=0)
        return self.filter(approved_at__gte=start, approved_at__lt=start + timedelta(days=1))

    def notional(self) -> Decimal:
        total: Decimal | None = self.aggregate(total=Sum("notional"))["total"]
        return (total or Decimal(0)).quantize(MICRO)  # SQLite adds up in floats


class OrderIntent(models.Model):
    """An order proposal for all legs of a signal, with the plan it was shown with.

    `notional` is the most it can cost. What was approved counts for its UTC day,
    whatever became of it.
    """

    class Status(models.TextChoices):
        SUGGESTED = "SUGGESTED"
        APPROVED = "APPROVED"
        FILLED = "FILLED"
        REJECTED = "REJECTED"
        EXPIRED = "EXPIRED"
        CANCELLED = "CANCELLED"
        FAILED = "FAILED"

    class Rehearsal(models.TextChoices):
        """What the paper venue is asked to do wrong, for practice."""

        NONE = "", "nothing"
        UNKNOWN = "UNKNOWN", "the answer of the last leg is lost for a while"
        LEG_FAILS = "LEG_FAILS", "the last leg is refused"

    signal = models.ForeignKey(Signal, on_delete=models.PROTECT, related_name="intents")
    event = models.ForeignKey(Event, null=True, blank=True, on_delete=models.PROTECT)
    kind = models.CharField(max_length=20)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.SUGGESTED)
    plan = models.JSONField()
    plan_hash = models.CharField(max_length=64)
    revision = models.PositiveIntegerField(default=1, help_text="Grows with every change.")
    notional = models.DecimalField(max_digits=14, decimal_places=6)
    cost = models.DecimalField(max_digits=14, decimal_places=6, help_text="Expected.")
    min_payoff = models.DecimalField(max_digits=14, decimal_places=6)
    worst_loss = models.DecimalField(max_digits=14, decimal_places=6)
    proposer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="proposed_intents"
    )
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="approved_intents",
    )
    single_operator = models.BooleanField(
        default=False, help_text="Approved by its own proposer, with MPX_SINGLE_OPERATOR on."
    )
    rehearsal = models.CharField(
        max_length=10, choices=Rehearsal.choices, default=Rehearsal.NONE, blank=True
    )
    reason = models.CharField(
        max_length=600, blank=True, help_text="Why it was rejected, cancelled or failed."
    )
    stopped_by = models.CharField(
        max_length=150, blank=True, help_text="Who cancelled it while it was being filled."
    )
    suggested_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="Until when it may be approved.")
    approved_at = models.DateTimeField(null=True, blank=True)
    fill_by = models.DateTimeField(null=True, blank=True, help_text="Until when legs try to fill.")
    closed_at = models.DateTimeField(null=True, blank=True)
    verdict = models.JSONField(default=list, help_text="The checks of the last step, with values.")
    spent = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    fees = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    recovered = models.DecimalField(
        max_digits=14, decimal_places=6, default=Decimal(0), help_text="By unwinding, after fees."
    )
    unwind_cost = models.DecimalField(
        max_digits=14, decimal_places=6, default=Decimal(0), help_text="Lost by unwinding."
    )
    locked_payoff = models.DecimalField(
        max_digits=14,
        decimal_places=6,
        default=Decimal(0),
        help_text="What the kept basket pays in the worst state.",
    )

    objects = IntentQuerySet.as_manager()

    class Meta:
        permissions = (
            ("create_intent", "Can suggest, revise and cancel order intents"),
            ("approve_intent", "Can approve and reject order intents"),
        )
        indexes = (
            models.Index(fields=["status", "expires_at"], name="intents_by_status"),
            models.Index(fields=["approved_at"], name="intents_by_day"),
            models.Index(fields=["-suggested_at", "-id"], name="intents_newest"),
        )
        constraints = (
            models.CheckConstraint(
                condition=Q(approver__isnull=True)
                | ~Q(approver=F("proposer"))
                | Q(single_operator=True),
                name="proposer_never_approves",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=("APPROVED", "FILLED", "FAILED"))
                | Q(approver__isnull=False, approved_at__isnull=False, fill_by__isnull=False),
                name="approved_intent_has_an_approver",
            ),
            models.CheckConstraint(
                condition=Q(status__in=("SUGGESTED", "APPROVED"), closed_at__isnull=True)
                | (~Q(status__in=("SUGGESTED", "APPROVED")) & Q(closed_at__isnull=False)),
                name="closed_intent_has_an_end",
            ),
            models.UniqueConstraint(
                fields=["signal"],
                condition=Q(status__in=("SUGGESTED", "APPROVED")),
                name="one_open_intent_per_signal",
            ),
        )

    def __str__(self) -> str:
        return f"Intent {self.pk}: {self.kind} {self.notional:.2f} USD ({self.status.lower()})"

    @property
    def typed_plan(self) -> Plan:
        return read_plan(self.plan)

    @property
    def is_open(self) -> bool:
        return self.status in (self.Status.SUGGESTED, self.Status.APPROVED)

    @property
    def trial(self) -> str:
        """Return the name this order has in a half-open breaker."""
        return f"intent:{self.pk}"

    def seconds_left(self, at: datetime) -> Decimal:
        """Return the time to its deadline: for approval first, then for filling."""
        deadline = self.fill_by or self.expires_at
        return Decimal(str((deadline - at).total_seconds()))


class IntentEvent(AppendOnly):
    """One step in an intent's life, or a refusal of one, with the values it was decided on."""

    intent = models.ForeignKey(OrderIntent, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(max_length=30)
    actor = models.CharField(max_length=150)
    status = models.CharField(max_length=9, help_text="Of the intent, after it.")
    data = models.JSONField(default=dict)
    audit_id = models.PositiveBigIntegerField(
        unique=True, help_text="Its entry in the audit chain."
    )

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        indexes = (models.Index(fields=["intent", "id"], name="events_of_intent"),)

    def __str__(self) -> str:
        return f"{self.kind} of intent {self.intent_id}"


class IntentLeg(models.Model):
    """One order of an approved intent and what became of it. Sizes in shares."""

    class State(models.TextChoices):
        WAITING = "WAITING"
        FILLED = "FILLED"
        PARTIAL = "PARTIAL"
        FAILED = "FAILED"
        UNKNOWN = "UNKNOWN", "The venue's answer is not known"

    class Unwind(models.TextChoices):
        NONE = "", "nothing to unwind"
        WAITING = "WAITING"
        DONE = "DONE"
        PARTIAL = "PARTIAL"
        FAILED = "FAILED"

    intent = models.ForeignKey(OrderIntent, on_delete=models.PROTECT, related_name="legs")
    number = models.PositiveSmallIntegerField()
    token_id = models.CharField(max_length=80)
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="+")
    outcome_index = models.PositiveSmallIntegerField()
    label = models.CharField(max_length=600)
    size = models.DecimalField(max_digits=18, decimal_places=6)
    limit_price = models.DecimalField(max_digits=6, decimal_places=4)
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    filled = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(0))
    paid = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    reason = models.CharField(max_length=600, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    sealed = models.JSONField(null=True, blank=True, help_text="An answer that has not arrived.")
    answer_due_at = models.DateTimeField(null=True, blank=True)
    unwind = models.CharField(max_length=7, choices=Unwind.choices, default=Unwind.NONE, blank=True)
    unwind_size = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(0))
    unwind_by = models.DateTimeField(null=True, blank=True)
    unwound = models.DecimalField(max_digits=18, decimal_places=6, default=Decimal(0))

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["intent", "number"], name="one_leg_per_number"),
            models.CheckConstraint(
                condition=Q(filled__gte=0, filled__lte=F("size")), name="leg_never_overfills"
            ),
            models.CheckConstraint(
                condition=Q(unwound__gte=0, unwound__lte=F("filled")),
                name="leg_never_sells_more_than_it_has",
            ),
        )

    def __str__(self) -> str:
        return f"Leg {self.number} of intent {self.intent_id}: {self.label} ({self.state.lower()})"


class Fill(AppendOnly):
    """What one order of a leg got. `seq` 0 is the purchase, 1 the unwinding sale."""

    class Side(models.TextChoices):
        BUY = "BUY"
        SELL = "SELL"

    intent = models.ForeignKey(OrderIntent, on_delete=models.PROTECT, related_name="fills")
    leg = models.PositiveSmallIntegerField()
    seq = models.PositiveSmallIntegerField()
    at = models.DateTimeField()
    token_id = models.CharField(max_length=80)
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="+")
    outcome_index = models.PositiveSmallIntegerField()
    side = models.CharField(max_length=4, choices=Side.choices)
    size = models.DecimalField(max_digits=18, decimal_places=6)
    avg_price = models.DecimalField(max_digits=8, decimal_places=6, help_text="Without fee.")
    fee = models.DecimalField(max_digits=14, decimal_places=6)
    cash = models.DecimalField(
        max_digits=14, decimal_places=6, help_text="USD: paid is negative, got is positive."
    )
    takes = models.JSONField(help_text="Per level: price, shares, fee, shares displayed.")
    book = models.JSONField(help_text="Which book it was walked on: time, epoch, how it came.")
    verdict = models.JSONField(help_text="The checks at the fill, with values.")
    audit_id = models.PositiveBigIntegerField(unique=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        indexes = (models.Index(fields=["at"], name="fills_by_time"),)
        constraints = (
            models.UniqueConstraint(fields=["intent", "leg", "seq"], name="one_fill_per_leg"),
            models.CheckConstraint(condition=Q(size__gt=0), name="fill_has_a_size"),
            models.CheckConstraint(
                condition=Q(seq=0, side="BUY", cash__lt=0) | Q(seq=1, side="SELL", cash__gte=0),
                name="fill_buys_then_sells",
            ),
        )

    def __str__(self) -> str:
        return f"{self.side} {self.size} at {self.avg_price} (intent {self.intent_id})"


class PositionEntry(AppendOnly):
    """One movement of one outcome: shares and cash. Positions are their sums."""

    class Kind(models.TextChoices):
        BUY = "BUY"
        SELL = "SELL"
        MERGE = "MERGE", "Complete set merged"
        CONVERT = "CONVERT", "NO basket converted"
        SETTLE = "SETTLE", "Settled by the venue"

    at = models.DateTimeField()
    kind = models.CharField(max_length=7, choices=Kind.choices)
    token_id = models.CharField(max_length=80)
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="+")
    outcome_index = models.PositiveSmallIntegerField()
    shares = models.DecimalField(max_digits=18, decimal_places=6)
    cash = models.DecimalField(max_digits=14, decimal_places=6)
    intent = models.ForeignKey(
        OrderIntent, null=True, blank=True, on_delete=models.PROTECT, related_name="entries"
    )
    fill = models.OneToOneField(
        Fill, null=True, blank=True, on_delete=models.PROTECT, related_name="entry"
    )
    audit_id = models.PositiveBigIntegerField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "position entries"
        indexes = (models.Index(fields=["market", "id"], name="entries_of_market"),)
        constraints = (
            models.UniqueConstraint(
                fields=["token_id"], condition=Q(kind="SETTLE"), name="outcome_settles_once"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=("BUY", "SELL"), fill__isnull=False)
                | (~Q(kind__in=("BUY", "SELL")) & Q(fill__isnull=True)),
                name="trade_entry_has_its_fill",
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.shares} of {self.token_id[:12]}"


class IdempotencyKey(models.Model):
    """The answer that a key got, so that asking again gives the same one."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key"),)
        indexes = (models.Index(fields=["created_at"], name="keys_by_age"),)

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}"


class LiveBook(models.Model):
    """The book of a market as the stream holds it, for those that look from elsewhere; rewritten.

    Both sides are in the space of outcome 0, best first, price in 1e-4 USD and
    size in 1e-6 shares, less what paper fills have taken.
    """

    market = models.OneToOneField(Market, primary_key=True, on_delete=models.CASCADE)
    state = models.CharField(max_length=12)
    epoch = models.BigIntegerField(
        help_text="Another one after every gap in what we know, also after a restart."
    )
    bids = models.JSONField(default=list)
    asks = models.JSONField(default=list)
    changed_at = models.DateTimeField(help_text="When the venue last changed it.")
    seen_at = models.DateTimeField(help_text="When the stream last vouched for it.")

    def __str__(self) -> str:
        return f"Book of {self.market_id} ({self.state})"
