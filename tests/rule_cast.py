"""The cast of the tests of rule management: two texts, what is refused, and who may what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Permission, User

from rules.load import publish_text, rule_of
from rules.models import Rule, RuleVersion

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
TOKEN = "a-token-that-nobody-guesses-0123456789"
CODE = "DUTCH_BOOK_DETECT"
ONE = f"code: {CODE}\ntitle: Dutch book\ndetector: dutch_book\n"
TWO = ONE.replace("Dutch book", "Dutch book, stricter") + "params: {min_profit_usd: 2}\n"

# What each trap is, and what is said of it: line, column, and what to write instead.
TRAPS: dict[str, tuple[str, int, int, str, str]] = {
    "alias bomb": (
        ONE + "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        4,
        4,
        "anchor &a is not allowed",
        "remove the anchor",
    ),
    "alias": (ONE + "scope: *a\n", 4, 8, "alias *a is not allowed", "write the value out again"),
    "duplicate keys": (
        ONE + "title: Other\n",
        4,
        1,
        "already set on line 2",
        "keep one of the two",
    ),
    "exponent": (
        ONE + "params: {min_profit_usd: 1e-3}\n",
        4,
        26,
        "1e-3 is not how numbers are written here",
        'write 0.001, or "1e-3" in quotes if it is text',
    ),
    "not a number": (
        ONE + "params: {min_edge_bps: .nan}\n",
        4,
        24,
        ".nan is not a finite number",
        "write a number such as 0.50",
    ),
    "unknown key": (
        ONE + "titel: Typo\n",
        4,
        1,
        "is not a known key",
        "write title, or remove it",
    ),
    "600 kB": (
        ONE + "# " + "x" * 600_000 + "\n",
        1,
        1,
        "the text is longer than 65,536 bytes",
        "keep one rule per file and its description short",
    ),
}


def published(text: str = ONE, *, by: User | None = None) -> RuleVersion:
    return publish_text(text, name="cast", by=by, at=NOON).version


def a_rule() -> Rule:
    """Return the rule after two publications: version 2 is current."""
    published(ONE)
    published(TWO)
    return rule_of(CODE)


def account(name: str, *rights: str, staff: bool = False) -> User:
    """Make an account with some rights on rules, such as `enable_rule`."""
    user = User.objects.create_user(name, is_staff=staff)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="rules", codename__in=rights)
    )
    return user


def running() -> dict[str, Any]:
    """Return what must not change when something is refused."""
    rule = rule_of(CODE)
    current = rule.current
    return {
        "version": current and (current.number, current.sha256, current.source),
        "versions": rule.versions.count(),
        "rules": Rule.objects.count(),
        "enabled": rule.enabled,
        "changed_at": rule.changed_at,
    }
