"""Rules as the desk runs them, and the versions of their text, which never change."""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from rules import ml_models as ml_models


class VersionIsImmutable(Exception):
    """A published version was about to be changed or deleted; publish a new one instead."""


class RuleQuerySet(models.QuerySet["Rule"]):
    def enabled(self) -> RuleQuerySet:
        """Return the rules the desk has switched on and published at least once."""
        return self.filter(enabled=True, current__isnull=False)


class Rule(models.Model):
    """One rule. `enabled` is the desk's switch; the rule's text has its own."""

    code = models.CharField(max_length=64, unique=True)
    title = models.CharField(max_length=120)
    enabled = models.BooleanField(default=True)
    current = models.ForeignKey(
        "rules.RuleVersion",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
    )
    changed_at = models.DateTimeField(help_text="Last publication or switch.")

    objects = RuleQuerySet.as_manager()

    class Meta:
        permissions = (("enable_rule", "Can switch rules on and off"),)

    def __str__(self) -> str:
        return self.code


class RuleVersionQuerySet(models.QuerySet["RuleVersion"]):
    """Only adds rows. Other ways to the table meet the database's own trigger."""

    def newest_first(self) -> RuleVersionQuerySet:
        return self.order_by(F("number").desc(), "-id")

    def update(self, **kwargs: Any) -> NoReturn:
        raise VersionIsImmutable("rule versions cannot be updated")

    def delete(self) -> NoReturn:
        raise VersionIsImmutable("rule versions cannot be deleted")


class RuleVersion(models.Model):
    """The text of a rule as it was once published.

    `source` is the text as written, comments and all. `canonical` is the same rule with
    every default written out; it is what runs, so a default that changes in a later
    release does not change a published version. `sha256` is that of `canonical`.
    """

    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(help_text="1, 2, 3, ... within the rule.")
    sha256 = models.CharField(max_length=64)
    source = models.TextField()
    canonical = models.TextField()
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: a file was loaded.",
    )

    objects = RuleVersionQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["rule", "number"], name="rule_version_number"),
            models.UniqueConstraint(fields=["rule", "sha256"], name="rule_version_content"),
            models.CheckConstraint(condition=Q(number__gte=1), name="rule_version_from_one"),
        )

    def __str__(self) -> str:
        return f"{self.rule.code} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new version; raise `VersionIsImmutable` if it is already stored."""
        if not self._state.adding:
            raise VersionIsImmutable(f"{self} is published")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise VersionIsImmutable(f"{self} is published")
