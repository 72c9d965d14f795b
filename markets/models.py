"""Events, markets, outcomes, quotes and ticks; ids are the venue's own, as text."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Sum, When
from timescale.db.models.fields import TimescaleDateTimeField

from markets import near_models as near_models
from markets import relation_models as relation_models
from markets.groups import Leg, Legs, legs_of

# (ended within, ask again after): a result is usual within days, and possible after months.
RESOLUTION_PACE: tuple[tuple[timedelta | None, timedelta], ...] = (
    (timedelta(days=1), timedelta(minutes=1)),
    (timedelta(days=7), timedelta(minutes=10)),
    (None, timedelta(days=1)),
)


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
    seen_at = models.DateTimeField(help_text="When what the venue says of it last changed.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title[:80]

    def legs(self) -> Legs:
        """Return what its markets are, as a set of outcomes."""
        return legs_of(
            Leg(
                market_id=market.pk,
                state=market.state,
                payout=market.payout,
                other=market.other,
                number=market.leg_number,
            )
            for market in self.markets.all()
        )


class MarketQuerySet(models.QuerySet["Market"]):
    def listed(self) -> MarketQuerySet:
        """Markets an operator looks at: most liquid first."""
        return self.select_related("event", "quote").order_by("-liquidity", "id")

    def tradable(self) -> MarketQuerySet:
        return self.filter(state=Market.State.TRADABLE)

    def unfinished(self) -> MarketQuerySet:
        """Markets that the venue should still list as open."""
        return self.filter(state__in=Market.UNFINISHED)

    def in_conflict(self) -> MarketQuerySet:
        """Markets of which the venue's own data contradict each other."""
        return self.exclude(conflict="")

    def due_for_resolution(self, at: datetime) -> MarketQuerySet:
        """Markets past their end without a payout, longest unasked first.

        Those that ended lately are asked for often; old ones may wait for a day.
        """
        due = Q()
        for ended_within, asked_before in RESOLUTION_PACE:
            since = Q() if ended_within is None else Q(end_at__gt=at - ended_within)
            due |= since & (Q(checked_at=None) | Q(checked_at__lt=at - asked_before))
        return (
            self.filter(due, end_at__lt=at)
            .exclude(state=Market.State.RESOLVED)
            .exclude(condition_id="")
            .order_by(F("checked_at").asc(nulls_first=True), "id")
        )

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

    def with_book(self, state: str) -> MarketQuerySet:
        """Return markets whose book is in this state; `none` are those without one, "" is all."""
        if state == "none":
            return self.filter(quote=None)
        return self.filter(quote__state=state) if state else self

    def sorted_by(self, by: str) -> MarketQuerySet:
        """Return most liquid first, or by `volume`, `spread`, `changed`, `ends` or `name`."""
        spread = F("quote__ask") - F("quote__bid")
        first = {
            "volume": F("volume").desc(),
            "spread": spread.asc(nulls_last=True),
            "changed": F("quote__at").desc(nulls_last=True),
            "ends": F("end_at").asc(nulls_last=True),
            "name": F("question").asc(),
        }.get(by)
        return self.listed() if first is None else self.listed().order_by(first, "id")

    def yes_sums(self) -> list[dict[str, Any]]:
        """Return, per event, its YES bids and asks added up, of how many markets, and of all.

        YES is the first outcome, but where the venue lists it second.
        """
        first_is_no = Exists(Outcome.objects.filter(market=OuterRef("pk"), index=0, label="No"))
        ask = Case(When(first_is_no, then=1 - F("quote__bid")), default=F("quote__ask"))
        bid = Case(When(first_is_no, then=1 - F("quote__ask")), default=F("quote__bid"))
        added = (
            self.order_by()
            .annotate(yes_ask=ask, yes_bid=bid)
            .values("event_id")
            .annotate(
                asks=Sum("yes_ask"),
                bids=Sum("yes_bid"),
                priced_asks=Count("yes_ask"),
                priced_bids=Count("yes_bid"),
                markets=Count("id"),
            )
        )
        return [dict(row) for row in added]

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
        UNLISTED = "UNLISTED"

    UNFINISHED = (State.TRADABLE, State.PAUSED, State.PLACEHOLDER)

    id = models.CharField(primary_key=True, max_length=80)
    event = models.ForeignKey(
        Event, null=True, blank=True, on_delete=models.PROTECT, related_name="markets"
    )
    condition_id = models.CharField(max_length=80, blank=True)
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
    other = models.BooleanField(default=False, help_text="The catch-all outcome of its event.")
    leg_number = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Its place among the event's outcomes, where known."
    )
    conflict = models.TextField(
        blank=True, default="", help_text="What contradicts itself in the venue's own data."
    )
    seen_at = models.DateTimeField(help_text="When what the venue says of it last changed.")
    checked_at = models.DateTimeField(
        null=True, blank=True, help_text="When the venue was last asked about it by id."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MarketQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["-liquidity", "id"], name="market_by_liquidity"),
            models.Index(fields=["state", "-liquidity"], name="market_by_state"),
            models.Index(
                fields=["end_at"],
                name="market_without_result",
                condition=~Q(state="RESOLVED"),
            ),
            models.Index(fields=["id"], name="market_in_conflict", condition=~Q(conflict="")),
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
    at = TimescaleDateTimeField(interval="1 day")  # a day is a chunk, where there are chunks
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


class TermsChange(models.Model):
    """One change of what the venue says of a market, in words of the venue (history).

    `LEG` tells of the event's set of outcomes: `old` empty is an outcome added,
    `new` empty one removed, both given one renamed.
    """

    class Field(models.TextChoices):
        TICK_SIZE = "TICK_SIZE"
        MIN_SIZE = "MIN_SIZE"
        FEE_RATE = "FEE_RATE"
        FEE_EXPONENT = "FEE_EXPONENT"
        QUESTION = "QUESTION"
        END_AT = "END_AT"
        STATE = "STATE"
        PAYOUT = "PAYOUT"
        OUTCOMES = "OUTCOMES"
        LEG = "LEG"

    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="changes")
    event = models.ForeignKey(
        Event, null=True, blank=True, on_delete=models.CASCADE, related_name="changes"
    )
    at = models.DateTimeField()
    field = models.CharField(max_length=12, choices=Field.choices)
    old = models.TextField(blank=True)
    new = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["-at", "-id"], name="newest_changes")]

    def __str__(self) -> str:
        return f"{self.field} of {self.market_id}: {self.old or 'none'} to {self.new or 'none'}"


class SyncRun(models.Model):
    """One look at the venue's catalogue. Without `ended_at` it is under way, or was killed."""

    class Kind(models.TextChoices):
        FULL = "FULL", "everything open"
        NEWS = "NEWS", "new and closed"
        RESULTS = "RESULTS", "results"
        FILES = "FILES", "files"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    pages = models.PositiveIntegerField(default=0)
    events = models.PositiveIntegerField(default=0, help_text="Different events told of.")
    markets = models.PositiveIntegerField(default=0, help_text="Different markets told of.")
    stored = models.PositiveIntegerField(default=0, help_text="Rows written.")
    unchanged = models.PositiveIntegerField(default=0, help_text="Markets as they were.")
    changes = models.PositiveIntegerField(default=0, help_text="Rows of history.")
    rejected = models.JSONField(default=dict, help_text="Objects not stored, by reason.")
    vanished = models.JSONField(default=dict, help_text="Not listed any more, by what they are.")
    error = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["kind", "-started_at"], name="newest_runs")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.started_at:%Y-%m-%d %H:%M:%S}"


class WatchRule(models.Model):
    """What the stream follows, said by a person.

    Without any rule everything tradable is ranked by liquidity. The highest
    priority that fits an event decides; at the same one an exclusion wins.
    """

    class Kind(models.TextChoices):
        EVERYTHING = "EVERYTHING"
        TAG = "TAG"
        EVENT = "EVENT"
        MARKET = "MARKET"
        LIQUIDITY = "LIQUIDITY", "minimum liquidity"
        VOLUME = "VOLUME", "minimum volume"

    class Effect(models.TextChoices):
        PIN = "PIN", "pin (first of all)"
        INCLUDE = "INCLUDE", "include (ranked by priority)"
        EXCLUDE = "EXCLUDE", "exclude"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    value = models.CharField(
        max_length=300, blank=True, help_text="The tag, or the whole id of the event or market."
    )
    minimum_usd = models.DecimalField(
        max_digits=20,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="Of the whole event. Include: what has this much. Exclude: what has less.",
    )
    effect = models.CharField(max_length=7, choices=Effect.choices)
    priority = models.IntegerField(default=0, help_text="Larger ones come first.")
    enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="EVERYTHING", value="", minimum_usd=None)
                | Q(kind__in=("TAG", "EVENT", "MARKET"), minimum_usd=None) & ~Q(value="")
                | Q(kind__in=("LIQUIDITY", "VOLUME"), value="", minimum_usd__isnull=False),
                name="watch_rule_says_what",
                violation_error_message=(
                    "Tag, event and market need a value; minimum liquidity and volume an amount; "
                    "everything neither."
                ),
            ),
            models.UniqueConstraint(
                fields=["kind", "value"],
                condition=Q(effect="PIN"),
                name="one_pin_each",
                violation_error_message="It is pinned already.",
            ),
        ]

    def __str__(self) -> str:
        what = self.value or ("" if self.minimum_usd is None else f"{self.minimum_usd:,} USD")
        return f"{self.effect.lower()} {self.get_kind_display().lower()} {what}".strip()


class Lease(models.Model):
    """Who may do a piece of work that only one process does at a time (see `markets.lease`)."""

    name = models.CharField(primary_key=True, max_length=60)
    holder = models.CharField(max_length=80, blank=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} held by {self.holder or 'nobody'} until {self.until:%H:%M:%S}"


class GapQuerySet(models.QuerySet["Gap"]):
    def open(self) -> GapQuerySet:
        return self.filter(ending="")


class Gap(models.Model):
    """A time in which the stream did not know some books, and how long that took to heal.

    Healing is looked for every quarter of a second. A gap whose process ended
    before has no `healed_at`: nobody saw the books whole again.
    """

    class Kind(models.TextChoices):
        CONNECTION = "CONNECTION", "connection cut"
        ASSET = "ASSET", "dead asset"
        FRAME = "FRAME", "unreadable frame"

    class Ending(models.TextChoices):
        HEALED = "HEALED"
        PROCESS_ENDED = "PROCESS_ENDED"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    subject = models.CharField(max_length=80, help_text="Connection number or market id.")
    stream = models.CharField(max_length=12, default="stream", help_text="Whose books they are.")
    reason = models.CharField(max_length=120, blank=True)
    books = models.PositiveIntegerField(help_text="Markets whose book was not known.")
    opened_at = models.DateTimeField()
    healed_at = models.DateTimeField(null=True, blank=True)
    healing_seconds = models.FloatField(null=True, blank=True)
    ending = models.CharField(
        max_length=13, blank=True, choices=Ending.choices, help_text="Empty: still open."
    )

    objects = GapQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["-opened_at", "-id"], name="newest_gaps"),
            models.Index(fields=["id"], name="open_gaps", condition=Q(ending="")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject", "opened_at"], name="one_row_a_gap"),
            models.CheckConstraint(
                condition=Q(ending="HEALED", healed_at__isnull=False, healing_seconds__gte=0)
                | ~Q(ending="HEALED") & Q(healed_at=None, healing_seconds=None),
                name="gap_heals_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.subject} at {self.opened_at:%Y-%m-%d %H:%M:%S}"
