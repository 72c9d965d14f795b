"""What the desk itself knows, read from the database for the live path when it changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections

from markets.house_relations import relations_body, relations_mark
from rules.engine import ActiveRule
from rules.history import endgame_history
from rules.house import HISTORY, RELATIONS, RULES, rules_body
from rules.load import enabled_definitions
from rules.models import Rule

log = structlog.stdlib.get_logger(__name__)

ASK_SECONDS: Final = 2.0
HISTORY_EVERY: Final = timedelta(minutes=10)

News = list[tuple[str, bytes]]  # request and body of a frame


def active_rules() -> tuple[ActiveRule, ...]:
    """Return the published, enabled rules."""
    return tuple(ActiveRule.of(enabled.definition) for enabled in enabled_definitions())


class House:
    """Remembers what the live path was told last; used by one thread at a time."""

    def __init__(self) -> None:
        self._rules_mark: object = None
        self._relations_mark = ""
        self._relations = b""
        self._history = b""
        self._history_due = datetime.min.replace(tzinfo=UTC)

    def rules(self) -> tuple[ActiveRule, ...]:
        """Return the rules that run now, and count them as told."""
        self._rules_mark = _rules_mark()
        return active_rules()

    def news(self) -> News:
        """Return what changed since it was told last; nothing of what cannot be read just now."""
        news: News = []
        for read in (self._rules_news, self._relations_news, self._history_news):
            try:
                close_old_connections()
                news += read()
            except (DatabaseError, InterfaceError) as error:
                log.warning("house.unreadable", error=str(error))
        close_old_connections()  # whichever thread this was, it may not be asked again
        return news

    def _rules_news(self) -> News:
        mark = _rules_mark()
        if mark == self._rules_mark:
            return []
        texts = [enabled.definition.canonical() for enabled in enabled_definitions()]
        self._rules_mark = mark
        return [(RULES, rules_body(texts))]

    def _relations_news(self) -> News:
        mark = relations_mark()
        if mark == self._relations_mark:
            return []
        body = relations_body()
        told, self._relations = self._relations, body
        self._relations_mark = mark
        return [(RELATIONS, body)] if body != told else []

    def _history_news(self) -> News:
        now = datetime.now(UTC)
        if now < self._history_due:
            return []
        body = endgame_history(now)
        told, self._history = self._history, body
        self._history_due = now + HISTORY_EVERY
        return [(HISTORY, body)] if body != told else []


def _rules_mark() -> object:
    """Return what changes whenever other rules are to run."""
    return list(Rule.objects.order_by("pk").values_list("pk", "enabled", "current", "changed_at"))
