"""The sum behind a signal, read from its stored finding and checked line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from markets.models import Market, Outcome
from mpx_site.portal import whynot
from mpx_site.portal.whynot import Touch


class Leg(msgspec.Struct, frozen=True):
    """One order as stored. Prices and money in USD, size in shares."""

    token_id: str
    market_id: str
    outcome: str
    side: str
    size: Decimal
    avg_price: Decimal
    limit_price: Decimal
    fee: Decimal
    cost: Decimal
    takes: tuple[tuple[Decimal, Decimal, Decimal], ...] = ()  # per level: price, size, fee


class Certificate(msgspec.Struct, frozen=True):
    worst_state: str = ""
    payoff: Decimal = Decimal(0)
    states: int = 0


class Plan(msgspec.Struct, frozen=True):
    """A finding as `scan` prints it."""

    legs: tuple[Leg, ...]
    cost: Decimal
    fees: Decimal
    min_payoff: Decimal
    profit: Decimal
    edge_bps: Decimal
    certificate: Certificate = Certificate()
    annualised_pct: Decimal | None = None
    instant: bool = False
    conditions: tuple[str, ...] = ()
    facts: dict[str, str] = {}  # what the rule noted down, by name (words.FACTS)

    @property
    def adds_up(self) -> bool:
        """Say whether the printed lines give the printed totals."""
        costs = sum((leg.cost for leg in self.legs), Decimal(0))
        return costs == self.cost and self.min_payoff - self.cost == self.profit


@dataclass(frozen=True, slots=True)
class Line:
    """A leg as the page writes it out, beside what its book says now.

    `market` and `now` are None when the venue no longer lists it.
    """

    leg: Leg
    market: Market | None
    now: Touch | None

    @property
    def drift_cents(self) -> Decimal | None:
        """Return how much dearer the best offer is now than the average was; None unknown."""
        if self.now is None or self.now.ask is None:
            return None
        return (self.now.ask - self.leg.avg_price) * 100


@dataclass(frozen=True, slots=True)
class Arithmetic:
    plan: Plan
    lines: tuple[Line, ...]
    worst_state: str


def arithmetic(payload: object) -> Arithmetic | None:
    """Read a stored finding; None when it is not one this release can read."""
    try:
        plan = msgspec.convert(payload, Plan, strict=False)
    except msgspec.ValidationError:
        return None
    outcomes = _outcomes(plan)
    lines = tuple(_line(leg, outcomes.get(leg.token_id)) for leg in plan.legs)
    return Arithmetic(plan, lines, _worst_state(plan, lines))


def _outcomes(plan: Plan) -> Mapping[str, Outcome]:
    tokens = [leg.token_id for leg in plan.legs]
    return Outcome.objects.select_related("market__quote").in_bulk(tokens)


def _line(leg: Leg, outcome: Outcome | None) -> Line:
    if outcome is None:
        return Line(leg, None, None)
    quote = whynot.quote_of(outcome.market)
    return Line(leg, outcome.market, whynot.touch(outcome, quote) if quote else None)


def _worst_state(plan: Plan, lines: tuple[Line, ...]) -> str:
    """Return the worst state with the markets' names instead of their ids, where known."""
    named = {
        line.market.id: line.market.label or line.market.question for line in lines if line.market
    }
    parts = (part.partition("=") for part in plan.certificate.worst_state.split(", "))
    return "; ".join(
        f"{named[market_id]}: {outcome}" if market_id in named else f"{market_id}{sign}{outcome}"
        for market_id, sign, outcome in parts
    )
