"""Storing what the venue lists: events, markets and outcomes, changed rows only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from django.db import transaction

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.listing import EventTerms, MarketTerms
from markets.models import Event, Market, Outcome

_Row = TypeVar("_Row", Event, Market)

_STATES = {
    None: Market.State.TRADABLE,
    "resolved": Market.State.RESOLVED,
    "closed": Market.State.CLOSED,
    "archived": Market.State.CLOSED,
    "placeholder": Market.State.PLACEHOLDER,
    "no_order_book": Market.State.PAUSED,
    "paused": Market.State.PAUSED,
}
_FIELD_NAMES = {"event_id": "event"}
_EVENT_FIELDS = ("title", "slug", "neg_risk", "augmented", "closed", "end_at", "tags")
_MARKET_FIELDS = (
    "event_id",
    "condition_id",
    "question",
    "label",
    "slug",
    "state",
    "tick_size",
    "min_size",
    "fee_rate",
    "fee_exponent",
    "payout",
    "liquidity",
    "volume",
    "end_at",
)


@transaction.atomic
def store(events: Iterable[EventTerms], *, seen_at: datetime) -> int:
    """Write what is new or different and return how many rows that were."""
    listed = {event.event_id: event for event in events}
    rows = [_event_row(event, seen_at) for event in listed.values()]
    changed = _write(Event, rows, _EVENT_FIELDS)
    markets = {m.market_id: m for event in listed.values() for m in event.markets}
    changed += _write(Market, [_market_row(m, seen_at) for m in markets.values()], _MARKET_FIELDS)
    changed += _write_outcomes(markets)
    return changed


def _write(model: type[_Row], rows: list[_Row], fields: tuple[str, ...]) -> int:
    """Insert or update the rows whose fields differ from what is stored."""
    manager = model._default_manager
    stored = manager.in_bulk([row.pk for row in rows])
    differing = [
        row
        for row in rows
        if row.pk not in stored
        or any(getattr(row, name) != getattr(stored[row.pk], name) for name in fields)
    ]
    manager.bulk_create(
        differing,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=[*(_FIELD_NAMES.get(name, name) for name in fields), "seen_at"],
    )
    return len(differing)


def _write_outcomes(markets: dict[str, MarketTerms]) -> int:
    stored = set(
        Outcome.objects.filter(market_id__in=markets).values_list("token_id", "market_id", "label")
    )
    rows = [
        Outcome(token_id=token, market_id=market.market_id, index=index, label=label)
        for market in markets.values()
        for index, (token, label) in enumerate(zip(market.token_ids, market.outcomes, strict=True))
        if (token, market.market_id, label) not in stored
    ]
    Outcome.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["token_id"],
        update_fields=["market", "index", "label"],
    )
    return len(rows)


def _event_row(event: EventTerms, seen_at: datetime) -> Event:
    return Event(
        id=event.event_id,
        title=event.title,
        slug=event.slug[:300],
        neg_risk=event.neg_risk,
        augmented=event.augmented,
        closed=event.closed,
        end_at=event.end_at,
        tags=list(event.tags),
        seen_at=seen_at,
    )


def _market_row(market: MarketTerms, seen_at: datetime) -> Market:
    return Market(
        id=market.market_id,
        event_id=market.event_id,
        condition_id=market.condition_id,
        question=market.question,
        label=market.label[:300],
        slug=market.slug[:300],
        state=_STATES[market.untradable],
        tick_size=Decimal(market.tick) / PRICE_ONE,
        min_size=Decimal(market.min_size) / SIZE_ONE,
        fee_rate=None if market.fee is None else market.fee.rate,
        fee_exponent=1 if market.fee is None else market.fee.exponent,
        payout=market.payout,
        liquidity=market.liquidity.quantize(Decimal("0.01")),
        volume=market.volume.quantize(Decimal("0.01")),
        end_at=market.end_at,
        seen_at=seen_at,
    )
