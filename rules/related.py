"""Connected relations with the books of their markets, for one rule (pure).

Its own module, because the maths behind it imports SciPy: it is loaded once a rule
needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from markets.book import NO_ASK, NO_BID, Book
from markets.listing import MarketTerms
from rules.kernel.cross import RelatedSet, Touch, detect_related, related_sets
from rules.kernel.finding import Finding, MarketView
from rules.kernel.known import Contradiction
from rules.kernel.program import SolverFailed
from rules.kernel.relations import Relation
from rules.kernel.temporal import date_ladders, detect_temporal
from rules.rule_kinds import CrossMarketRule, TemporalRule
from rules.sightings import ActiveRule, Sighting, market_view, unconfirmed

SECOND = 1_000_000_000
# What pays but cannot be executed may stand for hours in busy books; each look solves an LP.
PAUSE = SECOND // 10


class RelatedWatch:
    """One rule's look at one set of related markets.

    What nobody may act on yet (`watch_list`) is not looked at when a price moves but in
    turn, a few at a time: relations proposed by mistake "pay" all day long.
    """

    __slots__ = (
        "_looked_at",
        "active",
        "books",
        "hot",
        "hot_since",
        "next_at",
        "related",
        "released",
        "rule",
        "terms",
        "unsolved",
    )

    def __init__(
        self,
        rule: ActiveRule,
        related: RelatedSet,
        terms: Mapping[str, MarketTerms],
        books: Mapping[str, Book],
    ) -> None:
        self.rule = rule
        self.related = related
        self.terms = {each: terms[each] for each in related.members if each in terms}
        self.books = {each: books[each] for each in related.members if each in books}
        self.active = False  # the last look found something
        self.hot = False  # every change of its books is to be looked at
        self.released = False
        self.next_at = 0  # unix ns: until then only another touch is worth a look
        self._looked_at: list[Touch] = []  # the touches at the last look
        self.hot_since = 0  # unix ns; 0 while the touch leaves no room for a gain
        self.unsolved = False  # the solver gave up on the last look: nothing is known

    @property
    def subject(self) -> str:
        return self.related.subject

    @property
    def watch_list(self) -> bool:
        return bool(self.related.gates)

    def due(self, at: int) -> bool:
        """Say whether a look is worth it, by the touch of its books."""
        could_pay = self._could_pay()
        self.hot_since = (self.hot_since or at) if could_pay else 0
        self._heat(could_pay)
        return could_pay or self.active

    def can_wait(self, at: int) -> bool:
        """Say whether only the depth changed since a look that found nothing to execute."""
        return at < self.next_at and self._touches() == self._looked_at

    def look(self, at: int, *, is_confirmed: Callable[[Iterable[str], int], bool]) -> Sighting:
        """Look at the depth; nothing found can be executed unless its events are confirmed."""
        finding = self._found(at) if self.hot_since else None
        if finding is not None and not is_confirmed(self._events_of(finding), self.hot_since):
            finding = unconfirmed(finding)
        self.active = finding is not None
        self._heat(bool(self.hot_since))
        self._looked_at = self._touches()
        executable = finding is not None and finding.verdict == "EXECUTABLE"
        self.next_at = 0 if executable else at + PAUSE
        found = () if finding is None else (finding,)
        return Sighting(self.rule, self.subject, found, self._why_not())

    def release(self) -> None:
        """Let go of the books."""
        for book in self.books.values():
            book.hot -= self.hot
            book.also = tuple(each for each in book.also if each is not self)
        self.hot, self.released = False, True

    def _heat(self, could_pay: bool) -> None:
        hot = not self.watch_list and (could_pay or self.active)
        if hot is not self.hot:
            self.hot = hot
            for book in self.books.values():
                book.hot += 1 if hot else -1

    def _could_pay(self) -> bool:
        try:
            return self.related.could_pay(self._touches())
        except SolverFailed:
            return True  # it is for the look at the depth to say

    def _events_of(self, finding: Finding) -> list[str]:
        events = (self.terms[leg.market_id].event_id for leg in finding.legs)
        return [event_id for event_id in events if event_id is not None]

    def _touches(self) -> list[Touch]:
        books = map(self.books.get, self.related.members)
        return [
            (book.bid, book.ask) if book is not None and book.evaluable else (NO_BID, NO_ASK)
            for book in books
        ]

    def _found(self, at: int) -> Finding | None:
        """Return what is found; one set that cannot be solved must not end all others."""
        self.unsolved = False
        try:
            return self._finding(at)
        except SolverFailed:
            self.unsolved = True
            return None

    def _finding(self, at: int) -> Finding | None:
        found = self._detect(self.views(), datetime.fromtimestamp(at // SECOND, UTC))
        definition = self.rule.definition
        if found is None:
            return None
        if isinstance(definition, CrossMarketRule) and found.kind not in definition.params.kinds:
            return None
        return replace(found, epochs=tuple(self.books[leg.market_id].epoch for leg in found.legs))

    def _detect(self, views: Mapping[str, MarketView], when: datetime) -> Finding | None:
        definition = self.rule.definition
        if isinstance(definition, TemporalRule):
            params = definition.params
            return detect_temporal(
                self.related,
                views,
                at=when,
                limits=params.limits(),
                min_annualised_pct=params.min_annualised_pct,
                max_days=params.max_days,
            )
        if isinstance(definition, CrossMarketRule):
            yearly = definition.params.min_annualised_pct
            limits = definition.params.limits()
            return detect_related(
                self.related, views, at=when, limits=limits, min_annualised_pct=yearly
            )
        return None

    def views(self) -> dict[str, MarketView]:
        """Return what the kernel may know of the members that are listed."""
        return {
            member: market_view(terms, self.books[member])
            for member, terms in self.terms.items()
            if member in self.books
        }

    def _why_not(self) -> str:
        if self.unsolved:
            return "unsolved"
        for member, book in self.books.items():
            if self.terms[member].untradable is None and not book.evaluable:
                return f"book_{book.state}"
        return "edge_gone"


def watches_of(
    rule: ActiveRule,
    relations: Sequence[Relation],
    terms: Mapping[str, MarketTerms],
    books: Mapping[str, Book],
    *,
    refused: list[Contradiction],
) -> list[RelatedWatch]:
    """Return what a rule watches of connected relations; sets nobody can buy are left out."""
    definition = rule.definition
    wanted: Sequence[Relation] = relations
    watch_list = True
    if isinstance(definition, TemporalRule):
        wanted = date_ladders(relations)
    elif isinstance(definition, CrossMarketRule):
        watch_list = definition.params.watch_list
    if not watch_list:
        wanted = [each for each in wanted if not each.gates]
    sets = related_sets(wanted, terms, refused=refused) if wanted else ()
    return [RelatedWatch(rule, each, terms, books) for each in sets if terms.keys() & each.members]
