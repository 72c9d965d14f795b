"""Why an event gives no signal now: its baskets at the touch, by the rules' own kernel.

The touch is the stored quote of each market: nothing is known here of the levels
behind it. `age_of` says how old the quotes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from django.core.exceptions import ObjectDoesNotExist

from markets.fills import MICRO, PRICE_ONE, SIZE_ONE, Fee, Ladder
from markets.listing import EventTerms, MarketTerms
from markets.models import Event, Market, Outcome, Quote
from mpx_site.portal import words
from mpx_site.portal.gates import Gate, gates_at
from rules.kernel.baskets import detect_event, detect_market, yes_outcome
from rules.kernel.finding import EventView, Finding, Limits, MarketView, NearMiss
from rules.load import enabled_definitions
from rules.rule_kinds import DutchBookParams, DutchBookRule


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
    """How far one set of orders is from paying.

    `gross_sum` is what one share of each costs at the best prices, `net_sum` the
    same with fees; of a NO basket they are what its YES would have to be sold for.
    `gap_cents` is what is missing per set after fees. `finding` is set where it pays,
    `market` where it is of one market alone.
    """

    kind: str
    gross_sum: Decimal
    net_sum: Decimal
    gap_cents: Decimal
    gates: tuple[Gate, ...]
    finding: Finding | None = None
    market: Market | None = None

    @property
    def name(self) -> str:
        return words.kind_name(self.kind)

    @property
    def pays(self) -> bool:
        return self.finding is not None

    @property
    def blocked(self) -> bool:
        return self.finding is not None and self.finding.verdict == "BLOCKED"

    @property
    def thin(self) -> bool:
        return self.finding is not None and self.finding.verdict == "THIN"


@dataclass(frozen=True, slots=True)
class Ages:
    """When the quotes that a page reckons with last changed; `unseen` markets have none."""

    oldest: datetime | None
    newest: datetime | None
    unseen: int


@dataclass(frozen=True, slots=True)
class Sums:
    """YES asks and bids of an event added up over the markets that have them."""

    asks: Decimal
    bids: Decimal
    priced_asks: int
    priced_bids: int
    markets: int


def limits() -> Limits:
    """Return the thresholds of the rule for baskets that runs, or its defaults."""
    running = (each.definition for each in enabled_definitions())
    rule = next((each for each in running if isinstance(each, DutchBookRule)), None)
    return DutchBookParams().limits() if rule is None else rule.params.limits()


def ages(markets: Iterable[Market]) -> Ages:
    listed = list(markets)
    times = [quote.at for market in listed if (quote := quote_of(market)) is not None]
    return Ages(min(times, default=None), max(times, default=None), unseen=len(listed) - len(times))


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
    yes = [_yes(market) for market in markets if is_named(market)]
    asks = [touch.ask for touch in yes if touch.ask is not None]
    bids = [touch.bid for touch in yes if touch.bid is not None]
    return Sums(sum(asks, Decimal(0)), sum(bids, Decimal(0)), len(asks), len(bids), len(markets))


def baskets(
    event: Event | None, markets: Sequence[Market], *, at: datetime, limits: Limits
) -> tuple[Basket, ...]:
    """Return the baskets of an event, or of markets one by one, as the kernel judges the touch.

    Markets whose outcomes are not both named take no part.
    """
    named = [market for market in markets if is_named(market)]
    if not named:
        return ()
    if event is not None and event.neg_risk:
        view = _event_view(event, markets)
        found, near = detect_event(view, at=at, limits=limits)
        return _told(found, near, view.markets, named, limits=limits, event=view)
    told: list[Basket] = []
    for market in named:
        one = view_of(market)
        found, near = detect_market(one, at=at, limits=limits)
        told += (
            replace(basket, market=market)
            for basket in _told(found, near, (one,), [market], limits=limits)
        )
    return tuple(told)


def _told(
    found: Sequence[Finding],
    near: Sequence[NearMiss],
    views: Sequence[MarketView],
    markets: Sequence[Market],
    *,
    limits: Limits,
    event: EventView | None = None,
) -> tuple[Basket, ...]:
    by_id = {market.pk: market for market in markets}
    baskets = [paying(each, views, by_id, limits=limits, event=event) for each in found]
    baskets += [missing(each, views, by_id, limits=limits, event=event) for each in near]
    return tuple(baskets)


def paying(
    finding: Finding,
    views: Sequence[MarketView],
    markets: Mapping[str, Market],
    *,
    limits: Limits,
    event: EventView | None = None,
) -> Basket:
    """Tell of what pays, and of the gates that are shut for it."""
    legs = finding.legs
    return Basket(
        finding.kind,
        gross_sum=sum((leg.avg_price for leg in legs), Decimal(0)),
        net_sum=sum((leg.cost / leg.size for leg in legs), Decimal(0)).quantize(MICRO),
        gap_cents=Decimal(0),
        gates=gates_at(
            finding.blocked_by, views, markets, event=event, finding=finding, limits=limits
        ),
        finding=finding,
    )


def missing(
    miss: NearMiss,
    views: Sequence[MarketView],
    markets: Mapping[str, Market],
    *,
    limits: Limits,
    event: EventView | None = None,
) -> Basket:
    """Tell of what does not pay, and of the gates that are shut besides."""
    gates = gates_at(miss.blocked_by, views, markets, event=event, limits=limits)
    return Basket(miss.kind, miss.gross_sum, miss.net_sum, miss.gap_cents, gates)


def _event_view(event: Event, markets: Sequence[Market]) -> EventView:
    views = tuple(view_of(market) for market in markets if is_named(market))
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


def is_named(market: Market) -> bool:
    """Say whether both outcomes are known."""
    return len(market.outcomes.all()) == 2


def view_of(market: Market) -> MarketView:
    """Return the market at its stored quote; both its outcomes must be named."""
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
        neg_risk_id=_group(market),
        leg_number=market.leg_number,
    )


def _group(market: Market) -> str | None:
    """Return what the legs of a neg-risk event share; None where the venue's data deny it."""
    exclusive = market.event is not None and market.event.neg_risk and not market.conflict
    return market.event_id if exclusive else None


def _in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.index)
