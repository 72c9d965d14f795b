"""What a signal pays at several order sizes: its plan by the kernel, on live or on kept offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from execution.matching import price_units, size_units
from execution.plans import NO_PLAN, Basis, NoPlan, Plan, Sight, make_plan
from markets.fills import Ladder
from mpx_site.portal.arithmetic import Leg
from rules.kernel.finding import Limits

NO_LIMIT_BPS = 1_000_000  # the curve shows all the depth; where an order stops is said beside it
SIZES_USD = (5, 10, 25, 50, 100, 200, 500, 1_000, 2_500, 5_000)

Verdict = Literal["EXECUTABLE", "THIN", "PAPER"]
MEANINGS: dict[Verdict, str] = {
    "EXECUTABLE": "At one of these sizes or more it pays what its rule asks for.",
    "THIN": "It pays after fees, but at no size what its rule asks for.",
    "PAPER": "It is there on paper only: at no size can all of its orders be placed and pay.",
}
SHUT = "The prices would pay, but a gate is shut: the reasons above say which."


@dataclass(frozen=True, slots=True)
class AtSize:
    """What an order of up to `capital` USD would be; without a plan `why` says why not.

    `shares` is the largest leg. `edge_bps` is the profit over what it costs.
    """

    capital: Decimal
    verdict: Verdict
    shares: Decimal | None = None
    cost: Decimal | None = None
    profit: Decimal | None = None
    edge_bps: Decimal | None = None
    why: str = ""
    all_there_is: bool = False  # more money buys no more


@dataclass(frozen=True, slots=True)
class Curve:
    """The sizes from small to large. `live`: on the books as they are, else as last stored."""

    sizes: tuple[AtSize, ...]
    live: bool
    limits: Limits
    slippage_bps: int  # beyond the best offer an order of the desk goes no further
    blocked: bool  # a gate is shut, so that no size is more than paper

    @property
    def verdict(self) -> Verdict:
        """Return the best that any size has."""
        found = {each.verdict for each in self.sizes}
        best: tuple[Verdict, ...] = ("EXECUTABLE", "THIN")
        return next((verdict for verdict in best if verdict in found), "PAPER")

    @property
    def meaning(self) -> str:
        return SHUT if self.blocked else MEANINGS[self.verdict]


def is_live(sights: Mapping[str, Sight], legs: Sequence[Leg]) -> bool:
    """Say whether a book that can be trusted is kept for every leg."""
    held = [sights.get(leg.token_id) for leg in legs]
    return all(sight is not None and sight.book_state == "fresh" for sight in held)


def as_stored(sights: Mapping[str, Sight], legs: Sequence[Leg]) -> dict[str, Sight]:
    """Return the sights with the levels that the stored finding takes, and no more behind."""
    return {
        leg.token_id: replace(
            sights[leg.token_id], ladder=_ladder(leg), book_state="fresh", age_ms=None
        )
        for leg in legs
        if leg.token_id in sights
    }


def _ladder(leg: Leg) -> Ladder:
    return tuple((price_units(price), size_units(size)) for price, size, _ in leg.takes)


def curve(
    basis: Basis,
    sights: Mapping[str, Sight],
    *,
    live: bool,
    limits: Limits,
    slippage_bps: int,
    blocked: bool,
    at: datetime,
) -> Curve:
    """Plan an order at each size until the depth is used up; `blocked`: a gate is shut for all."""
    sizes: list[AtSize] = []
    for usd in SIZES_USD:
        plan = make_plan(basis, sights, capital=Decimal(usd), slippage_bps=NO_LIMIT_BPS, at=at)
        sizes.append(_at_size(Decimal(usd), plan, limits, blocked=blocked))
        if sizes[-1].all_there_is:
            break
    return Curve(tuple(sizes), live, limits, slippage_bps, blocked)


def _at_size(capital: Decimal, plan: Plan | NoPlan, limits: Limits, *, blocked: bool) -> AtSize:
    if isinstance(plan, NoPlan):
        return AtSize(capital, "PAPER", why=_why(plan.reasons))
    edge = (plan.profit / plan.cost * 10_000).quantize(Decimal("0.01"))
    return AtSize(
        capital=capital,
        verdict="PAPER" if blocked else _verdict(plan.profit, edge, limits),
        shares=max(leg.size for leg in plan.legs),
        cost=plan.cost,
        profit=plan.profit,
        edge_bps=edge,
        all_there_is=plan.bound_by == "depth",
    )


def _verdict(profit: Decimal, edge: Decimal, limits: Limits) -> Verdict:
    if profit <= 0:
        return "PAPER"
    enough = profit >= limits.min_profit and edge >= limits.min_edge_bps
    return "EXECUTABLE" if enough else "THIN"


def _why(reasons: Iterable[str]) -> str:
    return "; ".join(NO_PLAN.get(reason, reason.replace("_", " ")) for reason in reasons)
