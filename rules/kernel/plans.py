"""From sizes to orders: exact prices, the payoff they guarantee, and the verdict (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from markets.fills import (
    FREE,
    LOT,
    SIZE_ONE,
    Ladder,
    buy,
    cost_table,
    down_to_lot,
    gross_of,
    shares,
    too_small,
)
from markets.listing import MarketTerms
from rules.kernel.finding import Certificate, Finding, Leg, Limits, MarketView, Verdict

YEAR_DAYS = 365
DAY_SECONDS = 86_400
_BPS = Decimal("0.01")
_PCT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Offer:
    """One token that can be bought, and the gates that forbid it."""

    terms: MarketTerms
    outcome: int
    ladder: Ladder
    table: list[float]
    gates: tuple[str, ...]

    @property
    def top_cost(self) -> float:
        return self.table[self.ladder[0][0]]

    def refuses(self, size: int) -> bool:
        """Say whether the venue would refuse an order of this size as too small."""
        return too_small(size, gross_of(self.ladder, size), min_size=self.terms.min_size)


@dataclass(frozen=True, slots=True)
class Plan:
    """Orders priced exactly, and what they pay in the worst state."""

    offers: tuple[Offer, ...]
    sizes: tuple[int, ...]
    legs: tuple[Leg, ...]
    cost: Decimal
    fees: Decimal
    payoff: Decimal

    @property
    def profit(self) -> Decimal:
        return self.payoff - self.cost

    @property
    def gates(self) -> set[str]:
        found = {gate for offer in self.offers for gate in offer.gates}
        if any(self.refused()):
            found.add("min_size")
        return found

    def refused(self) -> list[bool]:
        """Say for each order whether it is under the venue's minimum."""
        return [o.refuses(size) for o, size in zip(self.offers, self.sizes, strict=True)]


def offer(view: MarketView, outcome: int, gates: tuple[str, ...]) -> Offer:
    """Return the offer of one outcome. An unknown fee counts as none, under its gate."""
    fee = view.terms.fee or FREE
    return Offer(view.terms, outcome, view.asks[outcome], cost_table(fee), gates)


def gates_of(view: MarketView) -> tuple[str, ...]:
    """Name what forbids any order in this market now."""
    terms = view.terms
    if not view.problems and terms.untradable is None and terms.fee is not None:
        return ()
    gates = [*view.problems]
    if terms.untradable is not None:
        gates.append("not_tradable")
    if terms.fee is None:
        gates.append("unknown_fee")
    return tuple(gates)


def price_plan(
    offers: Sequence[Offer],
    sizes: Sequence[float],
    *,
    payoff_of: Callable[[Sequence[int]], int],
    capital: Decimal | None,
) -> Plan | None:
    """Round sizes down to lots, price them exactly and keep the cost within `capital`.

    `payoff_of` gives the worst payoff of sizes, both in 1e-6 shares. None when
    nothing is left or nothing is gained.
    """
    lots = [down_to_lot(int(size)) for size in sizes]
    plan = _priced(offers, lots, payoff_of)
    while plan is not None and capital is not None and plan.cost > capital:
        # Rounding fees up may pass the limit by a hair: give back what that takes.
        per_share = plan.cost / shares(max(plan.sizes))
        extra = down_to_lot(int((plan.cost - capital) / per_share * SIZE_ONE)) + LOT
        largest = max(plan.sizes) - extra
        lots = [min(size, max(0, largest)) for size in lots]
        plan = _priced(offers, lots, payoff_of)
    return plan if plan is not None and plan.profit > 0 else None


def _priced(
    offers: Sequence[Offer], lots: Sequence[int], payoff_of: Callable[[Sequence[int]], int]
) -> Plan | None:
    kept = [(each, size) for each, size in zip(offers, lots, strict=True) if size > 0]
    if not kept:
        return None
    legs = tuple(leg_of(each, size) for each, size in kept)
    return Plan(
        offers=tuple(each for each, _ in kept),
        sizes=tuple(size for _, size in kept),
        legs=legs,
        cost=sum((leg.cost for leg in legs), Decimal(0)),
        fees=sum((leg.fee for leg in legs), Decimal(0)),
        payoff=shares(payoff_of(lots)),
    )


def leg_of(each: Offer, size: int) -> Leg:
    terms = each.terms
    fill = buy(each.ladder, size, fee=terms.fee or FREE, tick=terms.tick)
    return Leg(
        token_id=terms.token_ids[each.outcome],
        market_id=terms.market_id,
        outcome=terms.outcomes[each.outcome],
        size=fill.size.quantize(_BPS),
        avg_price=fill.avg_price,
        limit_price=fill.limit_price,
        fee=fill.fee,
        cost=fill.cost,
        takes=fill.takes,
    )


def finding_of(
    plan: Plan,
    *,
    kind: str,
    event_id: str | None,
    worst_state: str,
    states: int,
    at: datetime,
    limits: Limits,
    instant: bool = False,
    gates: Iterable[str] = (),
    conditions: tuple[str, ...] = (),
    end_at: datetime | None = None,
) -> Finding:
    """Turn a plan that gains into a finding.

    `gates` come on top of those of the plan's own orders; `end_at` is the end of
    markets that state none.
    """
    blocked_by = tuple(sorted({*gates, *plan.gates}))
    edge = plan.profit / plan.cost
    legs = tuple(sorted(plan.legs, key=lambda leg: (leg.market_id, leg.token_id)))
    ends = [each.terms.end_at or end_at for each in plan.offers]
    return Finding(
        kind=kind,
        event_id=event_id,
        market_ids=tuple(sorted({leg.market_id for leg in legs})),
        legs=legs,
        cost=plan.cost,
        fees=plan.fees,
        min_payoff=plan.payoff,
        profit=plan.profit,
        edge_bps=(edge * 10_000).quantize(_BPS, ROUND_HALF_EVEN),
        annualised_pct=None if instant else annualised(edge, ends, at=at),
        instant=instant,
        verdict=_verdict(plan, blocked_by, limits),
        blocked_by=blocked_by,
        conditions=conditions,
        certificate=Certificate(worst_state, plan.payoff, states),
    )


def _verdict(plan: Plan, blocked_by: tuple[str, ...], limits: Limits) -> Verdict:
    if blocked_by:
        return "BLOCKED"
    thin_edge = plan.profit * 10_000 < limits.min_edge_bps * plan.cost
    return "THIN" if plan.profit < limits.min_profit or thin_edge else "EXECUTABLE"


def annualised(edge: Decimal, ends: Iterable[datetime | None], *, at: datetime) -> Decimal | None:
    """Return the edge as percent per year up to the latest end; None if no end is known."""
    known = [end for end in ends if end is not None]
    if not known:
        return None
    seconds = Decimal(str((max(known) - at).total_seconds()))
    days = max(seconds / DAY_SECONDS, Decimal(1))
    return (edge * YEAR_DAYS / days * 100).quantize(_PCT, ROUND_HALF_EVEN)


def state_text(terms: MarketTerms, outcome: int) -> str:
    return f"{terms.market_id}={terms.outcomes[outcome]}"
