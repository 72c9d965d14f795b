"""Why an event gives no signal now: its baskets at the touch, by the rules' own kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ObjectDoesNotExist

from markets.fills import PRICE_ONE, SIZE_ONE, Fee, Ladder
from markets.listing import EventTerms, MarketTerms
from markets.models import Event, Market, Outcome, Quote
from mpx_site.portal import words
from rules.kernel.baskets import detect_event, detect_market, yes_outcome
from rules.kernel.finding import EventView, Finding, Limits, MarketView, NearMiss


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask of one outcome. None is an empty side."""

    outcome: Outcome
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None

    @property
    def spread(self) -> Decimal | None:
        return None if self.bid is None or self.ask is None else self.ask - self.bid


@dataclass(frozen=True, slots=True)
class Basket:
    """How far one basket is from paying. `gap_cents` is per set, after fees; 0 or less pays."""

    name: str
    gross_sum: Decimal
    gap_cents: Decimal
    pays: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sums:
    """YES asks and bids of an event added up over the markets that have them."""

    asks: Decimal
    bids: Decimal
    priced_asks: int
    priced_bids: int
    markets: int


def quote_of(market: Market) -> Quote | None:
    """Return the market's quote; None before its first book."""
    try:
        return market.quote
    except ObjectDoesNotExist:
        return None


def touches(market: Market) -> tuple[Touch, ...]:
    """Return both sides of a market; the second outcome mirrors the first."""
    quote = quote_of(market) or Quote()
    return tuple(touch(outcome, quote) for outcome in _in_order(market.outcomes.all()))


def touch(outcome: Outcome, quote: Quote) -> Touch:
    if outcome.index == 0:
        return Touch(outcome, quote.bid, quote.ask, quote.bid_size, quote.ask_size)
    bid = None if quote.ask is None else 1 - quote.ask
    ask = None if quote.bid is None else 1 - quote.bid
    return Touch(outcome, bid, ask, quote.ask_size, quote.bid_size)


def sums(markets: Sequence[Market]) -> Sums:
    yes = [_yes(market) for market in markets if _is_named(market)]
    asks = [touch.ask for touch in yes if touch.ask is not None]
    bids = [touch.bid for touch in yes if touch.bid is not None]
    return Sums(sum(asks, Decimal(0)), sum(bids, Decimal(0)), len(asks), len(bids), len(markets))


def baskets(market: Market, siblings: Sequence[Market], *, at: datetime) -> tuple[Basket, ...]:
    """Return the baskets this market is part of, as the kernel judges them at the touch."""
    if not _is_named(market):
        return ()
    if market.event is not None and market.event.neg_risk:
        found, near = detect_event(_event_view(market.event, siblings), at=at, limits=Limits())
    else:
        found, near = detect_market(_view(market), at=at, limits=Limits())
    return (*map(_paying, found), *map(_missing, near))


def _paying(finding: Finding) -> Basket:
    gross = sum((leg.avg_price for leg in finding.legs), Decimal(0))
    reasons = tuple(map(words.blocker, finding.blocked_by))
    return Basket(words.kind_name(finding.kind), gross, Decimal(0), True, reasons)


def _missing(miss: NearMiss) -> Basket:
    reasons = tuple(map(words.blocker, miss.blocked_by))
    name = words.kind_name(miss.kind)
    return Basket(name, miss.gross_sum, miss.gap_cents, False, reasons)


def _event_view(event: Event, markets: Sequence[Market]) -> EventView:
    views = tuple(_view(market) for market in markets if _is_named(market))
    terms = EventTerms(
        event_id=event.id,
        title=event.title,
        neg_risk=event.neg_risk,
        augmented=event.augmented,
        markets=tuple(view.terms for view in views),
        complete=len(views) == len(markets),
        end_at=event.end_at,
    )
    return EventView(terms, views)


def _yes(market: Market) -> Touch:
    return touches(market)[yes_outcome(_terms(market))]


def _is_named(market: Market) -> bool:
    """Say whether both outcomes are known."""
    return len(market.outcomes.all()) == 2


def _view(market: Market) -> MarketView:
    quote = quote_of(market)
    if quote is None:
        return MarketView(_terms(market), ((), ()), ("awaiting",))
    if quote.state != "fresh":
        return MarketView(_terms(market), ((), ()), (quote.state,))
    asks = _ladder(quote.ask, quote.ask_size)
    bid = None if quote.bid is None else 1 - quote.bid
    return MarketView(_terms(market), (asks, _ladder(bid, quote.bid_size)))


def _ladder(price: Decimal | None, size: Decimal | None) -> Ladder:
    if price is None or not size:
        return ()
    return ((int(price * PRICE_ONE), int(size * SIZE_ONE)),)


def _terms(market: Market) -> MarketTerms:
    first, second = _in_order(market.outcomes.all())
    tradable = market.state == Market.State.TRADABLE
    return MarketTerms(
        market_id=market.id,
        condition_id=market.condition_id,
        question=market.question,
        token_ids=(first.token_id, second.token_id),
        outcomes=(first.label, second.label),
        tick=int(market.tick_size * PRICE_ONE),
        min_size=int(market.min_size * SIZE_ONE),
        fee=None if market.fee_rate is None else Fee(market.fee_rate, market.fee_exponent),
        untradable=None if tradable else market.state.lower(),
        payout=market.payout,
        end_at=market.end_at,
        event_id=market.event_id,
    )


def _in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.index)
