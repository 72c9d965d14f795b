"""Events near their end, looked at in turn as time passes (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zlib import crc32

from markets.book import Book
from markets.listing import OVER, EventTerms
from rules.kernel.endgame import History, detect_endgame
from rules.kernel.finding import EventView
from rules.rule_kinds import EndgameRule
from rules.rule_schema import RuleDefinition
from rules.sightings import ActiveRule, Sighting, market_view

HOUR, MINUTE = 3_600.0, 60.0
SECOND = 1_000_000_000


@dataclass(slots=True)
class Ending:
    """An event and its books; `told` are the rules with something to take back, by code."""

    terms: EventTerms
    books: Sequence[Book]
    told: dict[str, ActiveRule] = field(default_factory=dict)
    number: int = field(init=False)  # from its id, the same in every process

    def __post_init__(self) -> None:
        self.number = crc32(self.terms.event_id.encode())

    @property
    def over(self) -> bool:
        return all(market.untradable in OVER for market in self.terms.markets)

    def covered_by(self, rule: RuleDefinition) -> bool:
        return rule.scope.covers(self.terms, tags=frozenset(self.terms.tags))

    def view(self) -> EventView:
        return EventView(self.terms, tuple(map(market_view, self.terms.markets, self.books)))


class Endings:
    """All events that are watched, and what ENDGAME rules see of those near their end."""

    def __init__(self) -> None:
        self.rules: tuple[ActiveRule, ...] = ()
        self.history = History({})
        self._events: dict[str, Ending] = {}
        self._looked_at = 0  # unix seconds

    def watch(self, terms: EventTerms, books: Sequence[Book]) -> list[Sighting]:
        """Take over an event's terms; return what is taken back."""
        before = self._events.pop(terms.event_id, None)
        ending = Ending(terms, books, before.told if before else {})
        if ending.over:
            told, ending.told = ending.told, {}
            return [_gone(rule, ending, "market_closed") for rule in told.values()]
        self._events[terms.event_id] = ending
        return []

    def look(self, at: int, *, share: int) -> list[Sighting]:
        """Look at those whose turn has come by `at` (unix ns) since the last look.

        Every event has one of `share` seconds, by its id alone: so it is looked at in the same
        seconds whatever else is watched, and by whichever process watches it.
        """
        if not self.rules:
            return []
        second = at // SECOND
        since = max(self._looked_at, second - share)
        self._looked_at = second
        turns = {each % share for each in range(since + 1, second + 1)}
        when = datetime.fromtimestamp(second, UTC)
        due = [each for each in self._events.values() if each.number % share in turns]
        return [seen for ending in due for seen in self._seen(ending, when)]

    def _seen(self, ending: Ending, when: datetime) -> Iterator[Sighting]:
        for rule in self.rules:
            definition = rule.definition
            if not isinstance(definition, EndgameRule):
                continue
            finding = None
            if _is_near(ending.terms, definition, when) and ending.covered_by(definition):
                finding = detect_endgame(
                    ending.view(),
                    at=when,
                    params=definition.params.kernel(),
                    history=self.history,
                )
            if finding is not None:
                ending.told[rule.code] = rule
                yield Sighting(rule, ending.terms.event_id, (finding,), "")
            elif ending.told.pop(rule.code, None):
                yield _gone(rule, ending, "edge_gone")


def _gone(rule: ActiveRule, ending: Ending, why: str) -> Sighting:
    return Sighting(rule, ending.terms.event_id, (), why)


def _is_near(event: EventTerms, rule: EndgameRule, when: datetime) -> bool:
    """Say whether any market may be looked at, by its listed end alone."""
    ahead = float(rule.params.minutes_to_end) * MINUTE
    behind = float(rule.params.post_event_hours) * HOUR if rule.params.post_event else 0.0
    for market in event.markets:
        end_at = market.end_at or event.end_at
        if end_at is not None and -behind <= (end_at - when).total_seconds() <= ahead:
            return True
    return False
