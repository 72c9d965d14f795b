"""What is known between markets: their rules' texts, relations and groups of the same subject."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class MarketText(models.Model):
    """By what a market settles, in the venue's words. Kept apart: it is long and rarely changes."""

    market = models.OneToOneField(
        "markets.Market", primary_key=True, on_delete=models.CASCADE, related_name="text"
    )
    rules = models.TextField(blank=True)
    source = models.TextField(blank=True, help_text="The address the venue names.")
    opened_at = models.DateTimeField(null=True, blank=True, help_text="When the venue listed it.")
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"rules of {self.market_id}"


class RelationQuerySet(models.QuerySet["Relation"]):
    def proposed(self) -> RelationQuerySet:
        """Relations that wait for a person, most certain first."""
        return self.filter(state=Relation.State.PROPOSED).order_by("-score", "id")

    def live(self) -> RelationQuerySet:
        """Relations whose members' texts matter: approved, or waiting for it."""
        return self.filter(state__in=(Relation.State.PROPOSED, Relation.State.APPROVED))


class Relation(models.Model):
    """What is logically known between outcomes of markets, with what it was decided on.

    `key` is made of type and members: the same relation is one row. `fingerprint` is
    that of everything the venue says of the members: what a person saw and approved.
    """

    class Type(models.TextChoices):
        EXCLUSIVE = "EXCLUSIVE", "at most one is true"
        EXHAUSTIVE = "EXHAUSTIVE", "at least one is true"
        IMPLIES = "IMPLIES", "the first implies the second"
        EQUIVALENT = "EQUIVALENT", "all are true or none"
        COMPLEMENT = "COMPLEMENT", "exactly one of two is true"
        UNION = "UNION", "the first is true if one of the others is"
        LADDER = "LADDER", "each implies the next"

    class State(models.TextChoices):
        PROPOSED = "PROPOSED"
        APPROVED = "APPROVED"
        REJECTED = "REJECTED"
        INVALIDATED = "INVALIDATED"

    class Origin(models.TextChoices):
        MATCHING = "MATCHING"
        LADDER = "LADDER"
        GROUP = "GROUP"
        MANUAL = "MANUAL"

    key = models.CharField(max_length=64, unique=True)
    type = models.CharField(max_length=10, choices=Type.choices)
    state = models.CharField(max_length=11, choices=State.choices, default=State.PROPOSED)
    origin = models.CharField(max_length=8, choices=Origin.choices)
    method = models.CharField(max_length=20, blank=True, help_text="How it was found.")
    score = models.DecimalField(max_digits=4, decimal_places=3, default=1)
    doubts = models.JSONField(default=list, blank=True)
    checks = models.JSONField(default=list, help_text="Same-resolution test, by aspect.")
    fingerprint = models.CharField(max_length=64)
    proposed_at = models.DateTimeField()
    proposed_by = models.CharField(max_length=150)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.TextField(blank=True)
    checked = models.JSONField(default=list, blank=True, help_text="Aspects a person looked at.")

    objects = RelationQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["state", "-score", "id"], name="relations_waiting")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="APPROVED")
                | Q(decided_by__isnull=False, decided_at__isnull=False),
                name="a_person_approved_it",
            )
        ]
        permissions = (("decide_relation", "Can approve and reject relations and groups"),)

    def __str__(self) -> str:
        return f"{self.get_type_display()} (#{self.pk}, {self.state})"


class RelationMember(models.Model):
    """One outcome in a relation. `evidence` is what the venue said of its market at that time."""

    relation = models.ForeignKey(Relation, on_delete=models.CASCADE, related_name="members")
    position = models.PositiveSmallIntegerField()
    market = models.ForeignKey(
        "markets.Market", on_delete=models.PROTECT, related_name="relation_members"
    )
    outcome = models.PositiveSmallIntegerField(default=0)
    evidence = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["relation", "position"], name="one_member_a_place"),
            models.UniqueConstraint(fields=["relation", "market"], name="market_once_a_relation"),
            models.CheckConstraint(condition=Q(outcome__lte=1), name="member_is_outcome_0_or_1"),
        ]

    def __str__(self) -> str:
        return f"{self.market_id}:{self.outcome}"


class SynonymGroup(models.Model):
    """Markets that speak of the same thing: from a file, from matching, or by hand."""

    class Method(models.TextChoices):
        KEYWORD = "KEYWORD"
        EXPLICIT = "EXPLICIT"
        MATCHING = "MATCHING"
        MANUAL = "MANUAL"

    class State(models.TextChoices):
        PROPOSED = "PROPOSED"
        APPROVED = "APPROVED"
        REJECTED = "REJECTED"

    name = models.CharField(max_length=200, unique=True)
    method = models.CharField(max_length=8, choices=Method.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    keywords = models.JSONField(default=list, blank=True)
    from_file = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "id"], name="groups_by_state")]

    def __str__(self) -> str:
        return self.name


class SynonymGroupMember(models.Model):
    """One market of a group. What a person decided stays, whatever a program finds later."""

    class State(models.TextChoices):
        SUGGESTED = "SUGGESTED"
        APPROVED = "APPROVED"
        REJECTED = "REJECTED"

    group = models.ForeignKey(SynonymGroup, on_delete=models.CASCADE, related_name="members")
    market = models.ForeignKey(
        "markets.Market", on_delete=models.CASCADE, related_name="group_members"
    )
    state = models.CharField(max_length=9, choices=State.choices, default=State.SUGGESTED)
    score = models.DecimalField(max_digits=4, decimal_places=3, default=1)
    inverted = models.BooleanField(default=False, help_text="Asks the opposite of the group.")
    why = models.CharField(max_length=300, blank=True)
    by_hand = models.BooleanField(default=False, help_text="A person decided this membership.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["group", "market"], name="market_once_a_group")
        ]

    def __str__(self) -> str:
        return f"{self.market_id} in {self.group_id}"
