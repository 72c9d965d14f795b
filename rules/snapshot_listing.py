"""Gamma objects from files: any mix of pages, events and markets, joined into events (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

from markets.listing import (
    BadListing,
    EventTerms,
    MarketTerms,
    event_terms,
    loose_event,
    market_terms,
)
from rules.data_quality import DataProblem, shown

_MARKET_KEYS = ("conditionId", "clobTokenIds", "positionIds", "question")

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Listing:
    """All events and the markets that belong to none."""

    events: tuple[EventTerms, ...]
    singles: tuple[MarketTerms, ...]
    problems: tuple[DataProblem, ...]


@dataclass(slots=True)
class _Seen:
    """A market as the newest object shows it."""

    terms: MarketTerms
    obj: Json
    updated: str


@dataclass(slots=True)
class _Reading:
    """What has been read so far. Events hold market ids, so that a market has one truth."""

    markets: dict[str, _Seen] = field(default_factory=dict)
    heads: dict[str, tuple[str, EventTerms]] = field(default_factory=dict)
    legs: dict[str, dict[str, None]] = field(default_factory=dict)  # event id -> market ids
    problems: list[DataProblem] = field(default_factory=list)


def read_listing(pages: Iterable[object]) -> Listing:
    """Read every object there is; a bad one is named and stops no other.

    Of the same market or event the newest object counts (`updatedAt`, else the
    last given), but a leg that any object of an event shows stays a leg.
    """
    reading = _Reading()
    for obj in _objects(pages):
        if not isinstance(obj, dict):
            reading.problems.append(_bad(f"expected an event or a market, not {shown(obj)}"))
        elif _is_market(obj):
            _add_market(reading, obj)
        else:
            _add_event(reading, obj)
    events, singles = _joined(reading)
    return Listing(tuple(events), tuple(singles), tuple(reading.problems))


def _objects(value: object) -> Iterator[object]:
    """Open lists and pages until only events and markets are left."""
    if isinstance(value, dict) and not _is_market(value) and "id" not in value:
        lists = [value[key] for key in ("events", "markets") if isinstance(value.get(key), list)]
        if lists:
            value = [item for each in lists if isinstance(each, list) for item in each]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _objects(item)
    else:
        yield value


def _is_market(obj: Json) -> bool:
    return any(key in obj for key in _MARKET_KEYS)


def _bad(detail: str, *, event: str | None = None, market: str | None = None) -> DataProblem:
    return DataProblem("bad_value", detail, event_id=event, market_id=market)


def _add_market(reading: _Reading, obj: Json, event_id: str | None = None) -> str | None:
    """Take a market over; return its id, or None where it cannot be understood."""
    try:
        terms = market_terms(obj)
    except (BadListing, ArithmeticError, ValueError) as why:
        market_id = obj.get("id")
        market = market_id if isinstance(market_id, str) else None
        reading.problems.append(_bad(str(why), event=event_id, market=market))
        return None
    updated = obj.get("updatedAt")
    seen = _Seen(terms, obj, updated if isinstance(updated, str) else "")
    known = reading.markets.get(terms.market_id)
    if known is not None and _facts(known.terms) != _facts(terms):
        detail = "given twice with different terms; the newer one counts"
        problem = DataProblem("metadata_conflict", detail, market_id=terms.market_id)
        reading.problems.append(replace(problem, event_id=event_id or terms.event_id))
    if known is None or seen.updated >= known.updated:
        reading.markets[terms.market_id] = seen
    return terms.market_id


def _facts(terms: MarketTerms) -> MarketTerms:
    """Return only what trading and resolution depend on."""
    zero = Decimal(0)
    plain = {"question": "", "label": "", "slug": "", "secondary": False}
    return replace(terms, event_id=None, liquidity=zero, volume=zero, **plain)  # type: ignore[arg-type]


def _add_event(reading: _Reading, obj: Json) -> None:
    nested = obj.get("markets")
    markets = nested if isinstance(nested, list) else []
    event_id = obj.get("id") if isinstance(obj.get("id"), str) else None
    read = [
        _add_market(reading, each, str(event_id)) if isinstance(each, dict) else None
        for each in markets
    ]
    try:
        head = event_terms({**obj, "markets": []})
    except (BadListing, ArithmeticError, ValueError) as why:
        # Its markets are known all the same: they go on as markets without their event.
        reading.problems.append(_bad(str(why), event=str(event_id) if event_id else None))
        return
    head = replace(head, complete=None not in read)
    updated = obj.get("updatedAt")
    stamp = updated if isinstance(updated, str) else ""
    _keep_head(reading, head, stamp)
    legs = reading.legs.setdefault(head.event_id, {})
    legs.update((market_id, None) for market_id in read if market_id is not None)


def _keep_head(reading: _Reading, head: EventTerms, stamp: str) -> None:
    known = reading.heads.get(head.event_id)
    if known is not None:
        before = known[1]
        if (before.neg_risk, before.augmented) != (head.neg_risk, head.augmented):
            detail = "given twice with different neg-risk flags; the newer one counts"
            problem = DataProblem("metadata_conflict", detail, event_id=head.event_id)
            reading.problems.append(problem)
    if known is None or stamp >= known[0]:
        reading.heads[head.event_id] = (stamp, head)


def _joined(reading: _Reading) -> tuple[list[EventTerms], list[MarketTerms]]:
    held = {market_id for legs in reading.legs.values() for market_id in legs}
    loose = [seen for market_id, seen in reading.markets.items() if market_id not in held]
    groups: dict[str, list[_Seen]] = {}
    singles: list[MarketTerms] = []
    for seen in loose:
        if seen.terms.neg_risk_id is None:
            singles.append(seen.terms)
        else:
            groups.setdefault(seen.terms.neg_risk_id, []).append(seen)
    events = [_event(reading, head, groups) for _, head in reading.heads.values()]
    return events + [_loose(group) for group in groups.values()], singles


def _event(reading: _Reading, head: EventTerms, groups: dict[str, list[_Seen]]) -> EventTerms:
    """Return an event with its markets, and with loose ones that prove to be its legs."""
    markets = [reading.markets[market_id].terms for market_id in reading.legs[head.event_id]]
    own = {market.neg_risk_id for market in markets if market.neg_risk_id is not None}
    if head.neg_risk:
        for group in sorted(own & groups.keys()):
            strays = [seen.terms for seen in groups.pop(group)]
            markets += strays
            detail = f"{len(strays)} more legs were given outside the event object"
            problem = DataProblem("metadata_conflict", detail, event_id=head.event_id)
            reading.problems.append(problem)
    terms = tuple(replace(market, event_id=head.event_id) for market in markets)
    if not head.neg_risk and own:
        detail = "its markets say neg-risk, the event does not: taken as not exclusive"
        problem = DataProblem("metadata_conflict", detail, event_id=head.event_id)
        reading.problems.append(problem)
    return replace(head, markets=terms)


def _loose(group: list[_Seen]) -> EventTerms:
    """Return a neg-risk event of which only markets are known: exclusive, never exhaustive."""
    markets = tuple(seen.terms for seen in group)
    event = loose_event(markets, group[0].obj)
    known = markets[0].event_id is not None
    return replace(event, event_id=event.event_id if known else "", neg_risk=True, complete=False)
