"""What portal and API say of rules: state, last change, signals of a day, versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count

from alerts.models import AuditEntry
from rules.load import SYSTEM, RuleState, authors_of, last_changes, state_of
from rules.models import Rule
from signals.models import Signal

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """One rule at a glance. `last` is the newest entry of the audit chain about it, or None.

    `signals` counts those opened in the last 24 hours by level; every level is there.
    """

    rule: Rule
    state: RuleState
    last: AuditEntry | None
    signals: dict[str, int]

    @property
    def signals_total(self) -> int:
        return sum(self.signals.values())


def summaries(rules: Sequence[Rule], *, at: datetime) -> list[RuleSummary]:
    """Return the rules with their state; a fixed number of queries for all that can be read."""
    last, opened = last_changes(rules), _signals_of_day(at)
    none = dict.fromkeys(Signal.Level.values, 0)
    return [
        RuleSummary(rule, state_of(rule), last.get(rule.code), none | opened.get(rule.pk, {}))
        for rule in rules
    ]


def versions_of(rule: Rule) -> list[dict[str, Any]]:
    """Return the versions of a rule, newest first, with who published each."""
    authors = authors_of(rule)
    return [
        {
            "number": version.number,
            "sha256": version.sha256,
            "published_at": version.created_at,
            "published_by": named(authors.get(version.number, SYSTEM)),
            "current": version.pk == rule.current_id,
        }
        for version in rule.versions.newest_first()
    ]


def named(actor: str) -> str:
    """Name an actor of the audit chain for people."""
    return "the desk's start" if actor == SYSTEM else actor


def _signals_of_day(at: datetime) -> dict[int, dict[str, int]]:
    opened = Signal.objects.filter(opened_at__gt=at - DAY).order_by()
    counted = opened.values_list("rule_id", "level").annotate(Count("id"))
    by_rule: dict[int, dict[str, int]] = {}
    for rule_id, level, count in counted:
        by_rule.setdefault(rule_id, {})[level] = count
    return by_rule
