"""Positions and P&L: from fills to holdings, merged, converted and settled.

Entries are only ever added; a position is the sum of its entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial

from django.db import transaction
from django.db.models import QuerySet, Sum

from alerts import journal
from execution.holdings import (
    ZERO,
    Group,
    Holding,
    Movement,
    fold,
    layers,
    payout_of,
    shared_out,
    worst_loss,
    worst_value,
)
from execution.models import IntentLeg, OrderIntent, PositionEntry
from markets.fills import FREE, Fee, fee_charged
from markets.models import Event, Market, Outcome, Quote
from risk.checks import Exposure
from risk.locking import in_turn
from risk.models import Policy

TOPIC = "positions"
Kind = PositionEntry.Kind


@dataclass(frozen=True, slots=True)
class Position:
    """One outcome as it is held. Money in USD.

    `mark` is what selling at the bid would bring after the fee, None without a
    bid. `until` is when its market ends, None if that is not known.
    """

    token_id: str
    market: Market
    outcome: str
    outcome_index: int
    shares: Decimal
    cost: Decimal
    realised: Decimal
    mark: Decimal | None
    until: datetime | None

    @property
    def unrealised(self) -> Decimal | None:
        return None if self.mark is None else self.mark - self.cost

    @property
    def avg_cost(self) -> Decimal:
        return self.cost / self.shares if self.shares else ZERO


@dataclass(frozen=True, slots=True)
class EventPosition:
    """All that is held in one event (or market on its own), and what it pays at worst."""

    label: str
    event: Event | None
    positions: tuple[Position, ...]
    cost: Decimal
    worst_value: Decimal
    worst_loss: Decimal
    locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The desk's result. All after fees, in USD; `unrealised` at bids where there are any."""

    realised: Decimal
    unrealised: Decimal
    unmarked: int  # positions without a bid
    fees: Decimal
    locked: Decimal
    worst_value: Decimal


def positions(*, market_ids: Iterable[str] | None = None) -> tuple[Position, ...]:
    """Return what is or was held, the largest cost first."""
    entries = PositionEntry.objects.order_by("id")
    if market_ids is not None:
        entries = entries.filter(market__in=list(market_ids))
    held = holdings(entries)
    markets = Market.objects.select_related("event", "quote").prefetch_related("outcomes")
    by_id = markets.in_bulk({holding.market_id for holding in held.values()})
    found = [_position(holding, by_id[holding.market_id]) for holding in held.values()]
    return tuple(sorted(found, key=lambda each: (-each.cost, each.token_id)))


def by_event(*, open_only: bool = True) -> tuple[EventPosition, ...]:
    """Return positions grouped by event, the one with most money in it first."""
    grouped: dict[str, list[Position]] = {}
    for position in positions():
        if position.shares or not open_only:
            grouped.setdefault(_group_key(position.market), []).append(position)
    found = [_event_position(held) for held in grouped.values()]
    return tuple(sorted(found, key=lambda each: (-each.cost, each.label)))


def totals() -> Totals:
    """Return realised and unrealised result over everything that was ever held."""
    every = positions()
    held = [position for position in every if position.shares]
    grouped = by_event()
    fees = sum((intent.fees for intent in OrderIntent.objects.exclude(fees=0).only("fees")), ZERO)
    return Totals(
        realised=sum((position.realised for position in every), ZERO),
        unrealised=sum((p.unrealised for p in held if p.unrealised is not None), ZERO),
        unmarked=sum(1 for position in held if position.mark is None),
        fees=fees,
        locked=sum((position.cost for position in held), ZERO),
        worst_value=sum((each.worst_value for each in grouped), ZERO),
    )


def holdings(entries: QuerySet[PositionEntry]) -> dict[str, Holding]:
    """Fold entries, which come in the order of their ids, into holdings by token."""
    rows = entries.values_list("token_id", "market_id", "outcome_index", "shares", "cash")
    return fold(Movement(*row) for row in rows)


def held_of(token_id: str) -> Decimal:
    """Return the shares of an outcome that are held, whatever for."""
    held = holdings(PositionEntry.objects.filter(token_id=token_id).order_by("id"))
    return held[token_id].shares if held else ZERO


# --- exposure ------------------------------------------------------------------------


def exposures(
    market_ids: Iterable[str], *, added: Decimal, without: int | None = None
) -> tuple[Exposure, ...]:
    """Return the worst-case loss of each event that these markets belong to.

    Money in baskets that are done counts by their worst state; an order that is
    still open (but for `without`) counts with all it can lose.
    """
    markets = Market.objects.filter(pk__in=list(market_ids)).select_related("event")
    found: dict[str, Market] = {}
    for market in markets.order_by("id"):
        found.setdefault(_group_key(market), market)
    return tuple(_exposure(market, added, without) for market in found.values())


def open_exposures() -> tuple[Exposure, ...]:
    """Return what can be lost in each event that money is in, the most first."""
    by_token = PositionEntry.objects.order_by().values("market", "token_id")
    left = by_token.annotate(left=Sum("shares")).exclude(left=0)  # what is sold has no part in it
    held = left.values_list("market", flat=True)
    waiting = IntentLeg.objects.filter(intent__status="APPROVED").values_list("market", flat=True)
    found = exposures({*held, *waiting}, added=ZERO)
    at_risk = (each for each in found if each.held)
    return tuple(sorted(at_risk, key=lambda each: (-each.held, each.event)))


def _exposure(market: Market, added: Decimal, without: int | None) -> Exposure:
    group = _group(market)
    entries = PositionEntry.objects.filter(market__in=group.markets).order_by("id")
    done = [h for h in holdings(entries.exclude(intent__status="APPROVED")).values() if h.shares]
    open_intents = OrderIntent.objects.open().filter(legs__market__in=group.markets).distinct()
    if without is not None:
        open_intents = open_intents.exclude(pk=without)
    pending = sum((intent.worst_loss for intent in open_intents), ZERO)
    return Exposure(group.label, worst_loss(group, done) + pending, added)


def _group_key(market: Market) -> str:
    if market.event is not None and market.event.neg_risk:
        return f"event:{market.event.pk}"
    return f"market:{market.pk}"


def _group(market: Market) -> Group:
    """Return the markets that are judged together with this one."""
    event = market.event
    if event is None or not event.neg_risk:
        members, label = [market], market.question
    else:
        members, label = list(Market.objects.filter(event=event).order_by("id")), event.title
    return Group(
        label=label[:80],
        markets=tuple(each.pk for each in members),
        exclusive=event is not None and event.neg_risk,
        exhaustive=event is not None and not event.augmented,
        yes=_yes_outcomes([each.pk for each in members]),
        payouts={each.pk: each.payout for each in members if each.payout is not None},
    )


def _yes_outcomes(market_ids: Sequence[str]) -> dict[str, int]:
    """Return the outcome of each market that means it is true: outcome 0 but for "No", "Yes"."""
    labels: dict[str, dict[int, str]] = {market_id: {} for market_id in market_ids}
    rows = Outcome.objects.filter(market__in=market_ids).values_list("market_id", "index", "label")
    for market_id, index, label in rows:
        labels[market_id][index] = label.lower()
    return {key: int(value == {0: "no", 1: "yes"}) for key, value in labels.items()}


# --- acts ----------------------------------------------------------------------------


def redeem(intent: OrderIntent, *, at: datetime) -> Decimal:
    """Turn what an instant basket holds into cash, in the caller's transaction; return the cash.

    Complete sets of a market are merged; NO legs of an event are converted into
    cash and YES of its other markets.
    """
    if intent.kind == "binary":
        return _merge(intent, at=at)
    return _convert(intent, at=at) if intent.kind == "no_basket" else ZERO


def _own(intent: OrderIntent) -> dict[str, Holding]:
    entries = PositionEntry.objects.filter(intent=intent).order_by("id")
    return {token: held for token, held in holdings(entries).items() if held.shares}


def _merge(intent: OrderIntent, *, at: datetime) -> Decimal:
    pairs = [pair for pair in _by_market(_own(intent)).values() if len(pair) == 2]
    return sum((_merge_pair(intent, pair, at=at) for pair in pairs), ZERO)


def _merge_pair(intent: OrderIntent | None, pair: Sequence[Holding], *, at: datetime) -> Decimal:
    size = min(held.shares for held in pair)
    moves = [
        Movement(held.token_id, held.market_id, held.outcome, -size, cash)
        for held, cash in zip(pair, shared_out(size, 2), strict=True)
    ]
    _add(intent, Kind.MERGE, at, moves)
    return size


def _convert(intent: OrderIntent, *, at: datetime) -> Decimal:
    held = _own(intent)
    others = Outcome.objects.filter(
        market__event=intent.event_id, market__payout__isnull=True
    ).order_by("market_id", "index")
    yes = _yes_outcomes(sorted({outcome.market_id for outcome in others}))
    rest = [outcome for outcome in others if outcome.index == yes[outcome.market_id]]
    total = ZERO
    for size, legs in layers({token: holding.shares for token, holding in held.items()}):
        cash = size * (len(legs) - 1)
        moves = [
            Movement(token, held[token].market_id, held[token].outcome, -size, part)
            for token, part in zip(legs, shared_out(cash, len(legs)), strict=True)
        ]
        given = {held[token].market_id for token in legs}
        moves += [
            Movement(each.token_id, each.market_id, each.index, size, ZERO)
            for each in rest
            if each.market_id not in given
        ]
        _add(intent, Kind.CONVERT, at, moves)
        total += cash
    return total


def settle_resolved(*, at: datetime) -> int:
    """Pay out what is held in markets that the venue has resolved; return how many outcomes."""
    held = PositionEntry.objects.filter(market__payout__isnull=False).order_by()
    settled = PositionEntry.objects.filter(kind=Kind.SETTLE).values("token_id")
    tokens = list(held.exclude(token_id__in=settled).values_list("token_id", flat=True).distinct())
    return sum(in_turn(partial(_settle, token_id=token, at=at)) for token in sorted(tokens))


def merge_complete(*, at: datetime) -> Decimal:
    """Merge what is held of both outcomes of a market, whatever it came from; return the cash."""
    both = [
        market_id
        for market_id, pair in _by_market(holdings(PositionEntry.objects.order_by("id"))).items()
        if len(pair) == 2
    ]
    return sum((in_turn(partial(_merge_market, market_id=m, at=at)) for m in sorted(both)), ZERO)


def _merge_market(policy: Policy, *, market_id: str, at: datetime) -> Decimal:
    """Merge one market's sets, unless an order there is still open."""
    entries = PositionEntry.objects.filter(market=market_id).order_by("id")
    pair = _by_market(holdings(entries)).get(market_id, [])
    if len(pair) < 2 or entries.filter(intent__status="APPROVED").exists():
        return ZERO
    return _merge_pair(None, pair, at=at)


def _by_market(held: Mapping[str, Holding]) -> dict[str, list[Holding]]:
    found: dict[str, list[Holding]] = {}
    for holding in held.values():
        if holding.shares:
            found.setdefault(holding.market_id, []).append(holding)
    return found


def _settle(policy: Policy, *, token_id: str, at: datetime) -> int:
    """Settle one outcome; 0 if it is settled already, is not held or has an open order."""
    entries = PositionEntry.objects.filter(token_id=token_id).order_by("id")
    busy = entries.filter(intent__status="APPROVED").exists()
    if busy or entries.filter(kind=Kind.SETTLE).exists():
        return 0
    holding = holdings(entries)[token_id]
    payout = Market.objects.get(pk=holding.market_id).payout
    if payout is None or not holding.shares:
        return 0
    cash = holding.shares * payout_of(holding.outcome, payout)
    move = Movement(token_id, holding.market_id, holding.outcome, -holding.shares, cash)
    _add(None, Kind.SETTLE, at, [move])
    return 1


def _add(intent: OrderIntent | None, kind: str, at: datetime, moves: Sequence[Movement]) -> None:
    told = {
        "kind": kind,
        "intent": intent.pk if intent else None,
        "cash": str(sum((move.cash for move in moves), ZERO)),
        "moves": [[move.token_id, str(move.shares), str(move.cash)] for move in moves],
    }
    entry = journal.record(
        kind=f"position.{kind.lower()}",
        subject=f"market:{moves[0].market_id}",
        data=told,
        at=at,
        topic=TOPIC,
    )
    for move in moves:
        PositionEntry.objects.create(
            at=at,
            kind=kind,
            token_id=move.token_id,
            market_id=move.market_id,
            outcome_index=move.outcome,
            shares=move.shares,
            cash=move.cash,
            intent=intent,
            audit_id=entry.id,
        )


# --- rows for people -----------------------------------------------------------------


def _position(held: Holding, market: Market) -> Position:
    labels = {outcome.index: outcome.label for outcome in market.outcomes.all()}
    return Position(
        token_id=held.token_id,
        market=market,
        outcome=labels.get(held.outcome, str(held.outcome)),
        outcome_index=held.outcome,
        shares=held.shares,
        cost=held.cost,
        realised=held.realised,
        mark=_mark(held, market),
        until=market.end_at or (market.event.end_at if market.event else None),
    )


def _mark(held: Holding, market: Market) -> Decimal | None:
    if market.payout is not None:
        return held.shares * payout_of(held.outcome, market.payout)
    bid = _bid(market, held.outcome)
    if bid is None:
        return None
    fee = Fee(market.fee_rate, market.fee_exponent) if market.fee_rate is not None else FREE
    charged = fee_charged(int(bid * 10_000), int(held.shares * 1_000_000), fee=fee)
    return held.shares * bid - charged


def _bid(market: Market, outcome: int) -> Decimal | None:
    """Return what is bid for an outcome; None if nothing is, or the quote cannot be trusted."""
    quote: Quote | None = getattr(market, "quote", None)
    if quote is None or quote.state != "fresh":
        return None
    if outcome == 0:
        return quote.bid
    return None if quote.ask is None else 1 - quote.ask


def _event_position(held: Sequence[Position]) -> EventPosition:
    market = held[0].market
    group = _group(market)
    plain = [
        Holding(each.token_id, each.market.pk, each.outcome_index, each.shares, each.cost)
        for each in held
    ]
    ends = [each.until for each in held]
    known = [end for end in ends if end is not None]
    return EventPosition(
        label=group.label,
        event=market.event if group.exclusive else None,
        positions=tuple(held),
        cost=sum((each.cost for each in held), ZERO),
        worst_value=worst_value(group, plain),
        worst_loss=worst_loss(group, plain),
        locked_until=max(known) if len(known) == len(ends) else None,
    )


def record_fill(
    *,
    fill_id: int,
    intent: OrderIntent,
    kind: str,
    token_id: str,
    market_id: str,
    outcome_index: int,
    shares: Decimal,
    cash: Decimal,
    audit_id: int,
    at: datetime,
) -> None:
    """Add what a fill bought (or sold: negative shares) to the positions."""
    with transaction.atomic():
        PositionEntry.objects.create(
            at=at,
            kind=kind,
            token_id=token_id,
            market_id=market_id,
            outcome_index=outcome_index,
            shares=shares,
            cash=cash,
            intent=intent,
            fill_id=fill_id,
            audit_id=audit_id,
        )
