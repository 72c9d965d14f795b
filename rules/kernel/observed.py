"""Findings that are no arbitrage: a direction with the numbers behind it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from markets.fills import PRICE_ONE
from markets.listing import MarketTerms
from rules.kernel.finding import Certificate, Finding, Leg

INSUFFICIENT = "insufficient_data"
NOTHING = Decimal(0)
_STEP = Decimal("0.0001")


def observed(
    kind: str,
    terms: MarketTerms,
    *,
    facts: Mapping[str, str],
    strength: float,
    blocked_by: tuple[str, ...] = (),
    legs: tuple[Leg, ...] = (),
) -> Finding:
    """Return what is to be told of one market.

    Nothing is certain to be paid, so payoff, profit and edge are 0; `legs` are
    what the rule would buy, their cost may be lost as a whole. `blocked_by` says
    why not even that.
    """
    return Finding(
        kind=kind,
        event_id=terms.event_id,
        market_ids=(terms.market_id,),
        legs=legs,
        cost=sum((leg.cost for leg in legs), NOTHING),
        fees=sum((leg.fee for leg in legs), NOTHING),
        min_payoff=NOTHING,
        profit=NOTHING,
        edge_bps=NOTHING,
        annualised_pct=None,
        instant=False,
        verdict="OBSERVED",
        blocked_by=blocked_by,
        conditions=(),
        certificate=Certificate("", NOTHING, 0),
        facts=tuple(facts.items()),
        strength=rounded(strength),
    )


def rounded(number: float) -> Decimal:
    """Return a number with four decimals, as people read it."""
    return Decimal(number).quantize(_STEP, ROUND_HALF_EVEN)


def mid_text(mid: int) -> str:
    """Write half of bid + ask (1e-4 USD) in USD."""
    return f"{mid / (2 * PRICE_ONE):.5f}"
