"""What is known of the legs of an order now: listed terms and live books, from the database.

The stream writes the live books (`execution.desk`), so every process sees the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from alerts.models import Heartbeat
from execution import positions
from execution.matching import thinned
from execution.models import LiveBook, OrderIntent
from execution.plans import Plan, PlannedLeg, Sight, leg_now
from markets.fills import PRICE_ONE, SIZE_ONE, Fee, Ladder, mirrored
from markets.listing import MarketTerms
from markets.models import Market, Outcome
from risk import breakers
from risk.checks import Kill, Leg, Order, SignalView, Situation, Use
from signals.models import Signal

FUTURE_MS = 5_000  # a book from later than this is a clock that cannot be trusted
DATA_LATE_SECONDS = 30.0
STREAM = "stream"


def sights_of(token_ids: Iterable[str], *, depth_share: Decimal, at: datetime) -> dict[str, Sight]:
    """Return what is known of these outcomes; one that no market has is left out."""
    outcomes = Outcome.objects.filter(token_id__in=list(token_ids)).select_related(
        "market__event", "market__livebook"
    )
    pairs: dict[str, dict[int, Outcome]] = {}
    wanted = list(outcomes)
    siblings = Outcome.objects.filter(market__in={outcome.market_id for outcome in wanted})
    for outcome in siblings:
        pairs.setdefault(outcome.market_id, {})[outcome.index] = outcome
    return {
        outcome.token_id: _sight(outcome, pairs[outcome.market_id], depth_share, at)
        for outcome in wanted
        if len(pairs[outcome.market_id]) == 2
    }


def _sight(
    outcome: Outcome, pair: Mapping[int, Outcome], depth_share: Decimal, at: datetime
) -> Sight:
    market = outcome.market
    terms = terms_of(market, pair)
    book: LiveBook | None = getattr(market, "livebook", None)
    if book is None:
        return Sight(terms, outcome.index, (), "none", None, None)
    age = round((at - book.seen_at).total_seconds() * 1_000)
    return Sight(
        terms=terms,
        outcome=outcome.index,
        ladder=thinned(asks_of(book, outcome.index), depth_share),
        book_state=book.state,
        epoch=book.epoch,
        age_ms=None if age < -FUTURE_MS else max(age, 0),
    )


def asks_of(book: LiveBook, outcome: int) -> Ladder:
    """Return what can be bought of an outcome, best first."""
    if outcome == 0:
        return tuple((price, size) for price, size in book.asks)
    return mirrored(tuple((price, size) for price, size in book.bids))


def terms_of(market: Market, pair: Mapping[int, Outcome]) -> MarketTerms:
    """Return a stored market as the terms that the kernel knows."""
    tradable = market.state == Market.State.TRADABLE
    fee = None if market.fee_rate is None else Fee(market.fee_rate, market.fee_exponent)
    return MarketTerms(
        market_id=market.pk,
        condition_id=market.condition_id,
        question=market.question,
        token_ids=(pair[0].token_id, pair[1].token_id),
        outcomes=(pair[0].label, pair[1].label),
        tick=int(market.tick_size * PRICE_ONE),
        min_size=int(market.min_size * SIZE_ONE),
        fee=fee,
        untradable=None if tradable else market.state.lower(),
        payout=market.payout,
        end_at=market.end_at or (market.event.end_at if market.event else None),
        event_id=market.event_id,
        label=market.label,
    )


def legs_now(plan: Plan, sights: Mapping[str, Sight]) -> tuple[Leg, ...]:
    """Return how the planned legs stand on the books of now."""
    return tuple(_leg_now(leg, sights.get(leg.token_id)) for leg in plan.legs)


def _leg_now(leg: PlannedLeg, sight: Sight | None) -> Leg:
    if sight is None:
        return Leg(leg.label, None, None, None, leg.epoch, None, None, None)
    now = leg_now(leg, sight)
    return Leg(
        label=leg.label,
        market_state=state_of(sight.terms),
        book_state=sight.book_state,
        book_age_ms=sight.age_ms,
        epoch_planned=leg.epoch,
        epoch_now=sight.epoch,
        slippage_bps=now.slippage_bps,
        missing=now.missing,
    )


def state_of(terms: MarketTerms) -> str:
    return "TRADABLE" if terms.untradable is None else terms.untradable.upper()


def signal_view(signal: Signal, *, at: datetime) -> SignalView:
    age = max((at - signal.opened_at).total_seconds(), 0.0)
    return SignalView(
        is_open=signal.status == Signal.Status.OPEN,
        level=signal.level,
        age_seconds=Decimal(str(round(age, 3))),
        close_reason=signal.close_reason,
    )


def use_of(plan: Plan, *, at: datetime, without: OrderIntent | None) -> Use:
    """Return what the desk has used already, without the order at hand.

    What was approved belongs to the day of its approval, even if it fills after midnight.
    """
    day = without.approved_at if without is not None and without.approved_at else at
    open_intents = OrderIntent.objects.open()
    today = OrderIntent.objects.approved_on(day)
    if without is not None:
        open_intents, today = open_intents.exclude(pk=without.pk), today.exclude(pk=without.pk)
    return Use(
        open_orders=open_intents.count(),
        day_notional=today.notional(),
        exposures=positions.exposures(
            {leg.market_id for leg in plan.legs},
            added=plan.worst_loss,
            without=without.pk if without else None,
        ),
    )


def situation(
    plan: Plan,
    signal: Signal,
    legs: Sequence[Leg],
    *,
    kill: Kill,
    at: datetime,
    intent: OrderIntent | None = None,
    lock: bool = False,
) -> Situation:
    """Gather everything that a verdict on a plan is decided on."""
    return Situation(
        at=at,
        order=Order(plan.notional, plan.instant, plan.annualised_pct, tuple(legs), bool(plan.bet)),
        use=use_of(plan, at=at, without=intent),
        kill=kill,
        breakers=breakers.views(
            rule=plan.rule, markets={leg.market_id for leg in plan.legs}, lock=lock
        ),
        signal=signal_view(signal, at=at),
        seconds_left=intent.seconds_left(at) if intent is not None else None,
        trial=intent.trial if intent is not None else "",
    )


def data_age(at: datetime) -> float | None:
    """Return for how many seconds no frame has come in; None if no stream ever ran."""
    beats = Heartbeat.objects.filter(component__startswith=STREAM)
    ages = [_frame_age(beat, at) for beat in beats]
    return min(ages, default=None)


def _frame_age(beat: Heartbeat, at: datetime) -> float:
    told = beat.detail.get("last_frame_at")
    if not isinstance(told, int | float) or not told:
        return max((at - beat.at).total_seconds(), 0.0)
    return max(at.timestamp() - told / 1_000, 0.0)
