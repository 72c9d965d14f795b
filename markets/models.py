"""Events, markets, outcomes, quotes and ticks; ids are the venue's own, as text."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import models
from django.db.models import F, Q


class Event(models.Model):
    """The venue's group of markets."""

    id = models.CharField(primary_key=True, max_length=80)
    title = models.TextField()
    slug = models.CharField(max_length=300, blank=True)
    neg_risk = models.BooleanField(default=False, help_text="At most one market can be true.")
    augmented = models.BooleanField(default=False, help_text="The listed ones are not exhaustive.")
    closed = models.BooleanField(default=False)
    end_at = models.DateTimeField(null=True, blank=True)
    tags = models.JSONField(default=list, blank=True)
    seen_at = models.DateTimeField(help_text="When the venue last spoke of it.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title[:80]


class MarketQuerySet(models.QuerySet["Market"]):
    def listed(self) -> MarketQuerySet:
        """Markets an operator looks at: most liquid first."""
        return self.select_related("event", "quote").order_by("-liquidity", "id")

    def tradable(self) -> MarketQuerySet:
        return self.filter(state=Market.State.TRADABLE)

    def asked(self, *, search: str = "", state: str = "") -> MarketQuerySet:
        """Return what fits; `search` is an id, or words of the question, label or event."""
        found = self.filter(state=state) if state else self.all()
        if not search:
            return found
        return found.filter(
            Q(id=search)
            | Q(question__icontains=search)
            | Q(label__icontains=search)
            | Q(event__title__icontains=search)
        )

    def sorted_by(self, by: str) -> MarketQuerySet:
        """Return most liquid first, or by `ends` or `name`."""
        first = {"ends": F("end_at").asc(nulls_last=True), "name": F("question").asc()}.get(by)
        return self.listed() if first is None else self.listed().order_by(first, "id")

    def of_event(self, event_id: str) -> MarketQuerySet:
        """Return an event's markets with quotes and outcomes, dearest first."""
        return (
            self.filter(event=event_id)
            .select_related("event", "quote")
            .prefetch_related("outcomes")
            .order_by(F("quote__bid").desc(nulls_last=True), "id")
        )


class Market(models.Model):
    """One condition with two outcomes."""

    class State(models.TextChoices):
        TRADABLE = "TRADABLE"
        PAUSED = "PAUSED"
        PLACEHOLDER = "PLACEHOLDER"
        CLOSED = "CLOSED"
        RESOLVED = "RESOLVED"

    id = models.CharField(primary_key=True, max_length=80)
    event = models.ForeignKey(
        Event, null=True, blank=True, on_delete=models.PROTECT, related_name="markets"
    )
    condition_id = models.CharField(max_length=70, blank=True)
    question = models.TextField()
    label = models.CharField(max_length=300, blank=True)
    slug = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=12, choices=State.choices)
    tick_size = models.DecimalField(max_digits=6, decimal_places=4)
    min_size = models.DecimalField(max_digits=20, decimal_places=6)
    fee_rate = models.DecimalField(
        max_digits=8, decimal_places=6, null=True, blank=True, help_text="Empty: not known."
    )
    fee_exponent = models.PositiveSmallIntegerField(default=1)
    payout = models.DecimalField(
        max_digits=3, decimal_places=2, null=True, blank=True, help_text="Of the first outcome."
    )
    liquidity = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal(0))
    volume = models.DecimalField(max_digits=20, decimal_places=2, default=Decimal(0))
    end_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(help_text="When the venue last spoke of it.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MarketQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["-liquidity", "id"], name="market_by_liquidity"),
            models.Index(fields=["state", "-liquidity"], name="market_by_state"),
        ]

    def __str__(self) -> str:
        return self.question[:80]


class Outcome(models.Model):
    """One side of a market: a token."""

    token_id = models.CharField(primary_key=True, max_length=80)
    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="outcomes")
    index = models.PositiveSmallIntegerField()
    label = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["market", "index"], name="one_outcome_per_side"),
            models.CheckConstraint(condition=Q(index__lte=1), name="outcome_is_0_or_1"),
        ]

    def __str__(self) -> str:
        return f"{self.label} of {self.market_id}"


class Quote(models.Model):
    """The latest top of book of one market, for its first outcome; rewritten."""

    market = models.OneToOneField(Market, primary_key=True, on_delete=models.CASCADE)
    bid = models.DecimalField(max_digits=6, decimal_places=4, null=True)
    ask = models.DecimalField(max_digits=6, decimal_places=4, null=True)
    bid_size = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    ask_size = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    state = models.CharField(max_length=12, help_text="fresh, stale, awaiting, crossed or batch")
    at = models.DateTimeField(help_text="When it last changed.")

    def __str__(self) -> str:
        return f"{self.bid} / {self.ask} ({self.state})"

    def age(self, at: datetime) -> timedelta:
        return max(at - self.at, timedelta(0))


class Tick(models.Model):
    """A change of the top of book of a market's first outcome (history)."""

    pk = models.CompositePrimaryKey("market_id", "at")
    market = models.ForeignKey(
        Market, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False
    )
    at = models.DateTimeField()
    bid = models.DecimalField(max_digits=6, decimal_places=4, null=True)
    ask = models.DecimalField(max_digits=6, decimal_places=4, null=True)
    bid_size = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    ask_size = models.DecimalField(max_digits=20, decimal_places=6, null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(bid__isnull=True) | Q(ask__isnull=True) | Q(bid__lt=F("ask")),
                name="tick_is_not_crossed",
            )
        ]

    def __str__(self) -> str:
        return f"{self.market_id} {self.bid} / {self.ask}"


class Quarantine(models.Model):
    """Input that could not be used: what, where from, why, how often, and one sample."""

    source = models.CharField(max_length=20)
    reason = models.CharField(max_length=40)
    subject = models.CharField(max_length=120, blank=True)
    detail = models.TextField(blank=True)
    sample = models.TextField(blank=True)
    count = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "quarantine"
        constraints = [
            models.UniqueConstraint(
                fields=["source", "reason", "subject"], name="one_row_per_problem"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.reason} {self.subject} x{self.count}"
