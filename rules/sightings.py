"""What the engine runs and what it reports: rules, sightings, views of books (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from markets.book import Book
from markets.listing import MarketTerms
from rules.dsl import DutchBookRule, RuleDefinition
from rules.kernel.finding import Finding, Limits, MarketView

UNCONFIRMED: Final = "unconfirmed_terms"  # until the terms are told again


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """One published rule as the engine runs it; what is asked often is worked out once."""

    definition: RuleDefinition
    code: str
    sha256: str
    kinds: frozenset[str]  # of baskets; none for a rule that does not look at events
    limits: Limits

    @classmethod
    def of(cls, definition: RuleDefinition) -> ActiveRule:
        kinds: frozenset[str] = frozenset()
        limits = Limits()
        if isinstance(definition, DutchBookRule):
            kinds, limits = frozenset(definition.params.kinds), definition.params.limits()
        return cls(definition, definition.code, definition.sha256, kinds, limits)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one rule sees on one watched event now; `why` is why it sees no more than that."""

    rule: ActiveRule
    subject: str  # event id, or market id of a market on its own
    findings: tuple[Finding, ...]
    why: str


def market_view(terms: MarketTerms, book: Book) -> MarketView:
    """Return what the kernel may know of a market: its ladders, or why they are unusable."""
    if not book.evaluable:
        # A market that does not trade has no book to wait for.
        absent = terms.untradable is not None and book.state == "awaiting"
        return MarketView(terms, ((), ()), ("missing_leg" if absent else book.state,))
    if book.hash_holds() is False:
        return MarketView(terms, ((), ()), ("batch",))
    return MarketView(terms, (book.asks_of(0), book.asks_of(1)))


def unconfirmed(finding: Finding) -> Finding:
    """Return a finding that waits for the terms of its markets to be read again."""
    blocked_by = tuple(sorted({*finding.blocked_by, UNCONFIRMED}))
    return replace(finding, verdict="BLOCKED", blocked_by=blocked_by)
