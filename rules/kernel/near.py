"""What related markets are short of a gain at the touch, and what stands in the way (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain

from markets.fills import MICRO, usd_price
from rules.kernel.finding import MarketView, NearMiss
from rules.kernel.known import Known, Order
from rules.kernel.plans import Offer, gates_of, offer
from rules.kernel.relations import Fact, Literal0

_CENT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class _Gap:
    """What one claim's orders cost beyond what they pay, per share in USD."""

    missing: float
    payoff: int
    offers: tuple[Offer, ...]


def near_miss_of(
    known: Known, views: Mapping[str, MarketView], *, gates: Sequence[str]
) -> NearMiss | None:
    """Return the claim that comes closest to paying; None where none can be bought at all."""
    gaps = [gap for claim in _claims(known) if (gap := _gap(claim, known, views)) is not None]
    if not gaps:
        return None
    gap = min(gaps, key=lambda each: each.missing)
    gross = usd_price(sum(each.ladder[0][0] for each in gap.offers))
    net = _money(sum(each.top_cost for each in gap.offers))
    events = {each.terms.event_id for each in gap.offers}
    found = {*gates, *chain.from_iterable(each.gates for each in gap.offers)}
    return NearMiss(
        event_id=events.pop() if len(events) == 1 else None,
        market_ids=tuple(sorted({each.terms.market_id for each in gap.offers})),
        kind=known.kind,
        gross_sum=gross,
        net_sum=net,
        gap_cents=max((net - gap.payoff) * 100, Decimal(0)).quantize(_CENT),
        blocked_by=tuple(sorted(found)),
    )


def _claims(known: Known) -> Iterator[Fact]:
    """Yield the facts; of an order every pair in which one claim implies another."""
    if not isinstance(known.shape, Order):
        yield from known.facts
        return
    flipped, groups = known.shape.flipped, known.shape.groups
    above: list[set[int]] = []  # positions that imply a group
    for group in groups:
        implied = set(group.positions).union(*(above[before] for before in group.before))
        above.append(implied)
        for first in implied:
            for then in group.positions:
                if first != then:
                    yield Fact(False, ((first, flipped[first]), (then, not flipped[then])))


def _gap(claim: Fact, known: Known, views: Mapping[str, MarketView]) -> _Gap | None:
    """Price a claim: one share of each literal, or of each opposite that anybody sells."""
    wanted = claim.literals
    if claim.most:
        wanted = tuple((position, not true) for position, true in wanted)
    found = [each for literal in wanted if (each := _offer(literal, known, views)) is not None]
    enough = len(found) > 1 if claim.most else len(found) == len(wanted)
    if not enough or not found:
        return None
    payoff = len(found) - 1 if claim.most else 1
    return _Gap(sum(each.top_cost for each in found) - payoff, payoff, tuple(found))


def _offer(literal: Literal0, known: Known, views: Mapping[str, MarketView]) -> Offer | None:
    position, true = literal
    view = views.get(known.members[position])
    outcome = 0 if true else 1
    if view is None or view.terms.payout is not None or not view.asks[outcome]:
        return None
    return offer(view, outcome, gates_of(view))


def _money(amount: float) -> Decimal:
    return Decimal(amount).quantize(MICRO, ROUND_HALF_EVEN)
