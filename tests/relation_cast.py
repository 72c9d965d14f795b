"""The cast of the relation tests: markets with rules, stored as the catalogue stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User

from markets import catalogue
from markets.listing import EventTerms, MarketTerms
from markets.related import Proposal
from markets.relation_models import Relation
from markets.relations import propose
from markets.texts import RulesText, store_texts
from tests.worlds import market_terms

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
END = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
SOURCE = "https://www.bls.gov/cpi"
RULES = (
    "This market will resolve to Yes if it happens by the date in the title, 11:59 PM ET. "
    "If it is canceled, it resolves 50-50."
)


def operator(name: str = "operator") -> User:
    return User.objects.create_superuser(name, password="correct horse")


def market(number: int, question: str, **changes: Any) -> MarketTerms:
    """Return a market of its own, not exclusive with others."""
    return market_terms(
        number,
        **{
            "question": question,
            "end_at": END,
            "event_id": str(number),
            "neg_risk_id": None,
            "leg_number": None,
            "label": "",
            **changes,
        },
    )


def list_markets(
    *markets: MarketTerms, neg_risk: bool = False, rules: str = RULES, source: str = SOURCE
) -> None:
    """Store markets by their events, with the same rules' text for all."""
    events: dict[str, list[MarketTerms]] = {}
    for each in markets:
        events.setdefault(str(each.event_id), []).append(each)
    for event_id, listed in events.items():
        terms = EventTerms(event_id, f"Event {event_id}", neg_risk, False, tuple(listed))
        catalogue.store([terms], seen_at=START)
    tell_rules((each.market_id for each in markets), rules=rules, source=source)


def tell_rules(market_ids: Iterable[str], *, rules: str = RULES, source: str = SOURCE) -> None:
    store_texts([RulesText(pk, rules, source, None) for pk in market_ids], at=START)


def two_deals(**changes: Any) -> tuple[str, str]:
    """List two markets that ask the same, in events of their own; return their ids."""
    one = market(1, "Will Iran sign a deal by June 30, 2026?")
    other = market(2, "Iran signs a deal before July 1, 2026?", **changes)
    list_markets(one, other)
    return one.market_id, other.market_id


def proposed(members: Sequence[str], type_: Any = "equivalent", **changes: Any) -> Relation:
    """Store a proposal of matching and return its row."""
    proposal = Proposal(type_, tuple(members), "words", **changes)
    propose([proposal], origin=Relation.Origin.MATCHING, by="matching", at=START)
    return Relation.objects.order_by("-id")[0]
