"""Mispricings inside one market or one neg-risk event: what can be bought below its payoff.

Pure. Closed forms of `detection.md` 2.1 and 2.2: both sides of a market, one YES of
every outcome (needs an exhaustive set), NO of any outcomes (needs only exclusivity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from markets.fills import MICRO, PRICE_ONE, usd_price
from markets.listing import EventTerms, MarketTerms
from rules.kernel.finding import EventView, Finding, Limits, MarketView, NearMiss, Verdict
from rules.kernel.plans import Offer, Plan, finding_of, gates_of, offer, price_plan, state_text
from rules.kernel.walks import ZERO, walk_equal, walk_unequal

GIVEN_EXHAUSTIVE = "riskless_given_exhaustive"
_RANK: dict[Verdict, int] = {"EXECUTABLE": 0, "THIN": 1, "BLOCKED": 2, "OBSERVED": 3}
_CENT = Decimal("0.0001")

Seen = tuple[tuple[Finding, ...], tuple[NearMiss, ...]]


@dataclass(frozen=True, slots=True)
class _Set:
    """The outcomes of a neg-risk event that are still open, as offers."""

    event: EventTerms
    yes: tuple[Offer, ...]
    no: tuple[Offer, ...]


def detect_event(view: EventView, *, at: datetime, limits: Limits) -> Seen:
    """Look at an event once.

    A neg-risk event gives at most one finding for its two baskets, and `binary`
    findings of markets whose two sides disagree with each other, where these
    share no market with the basket. Its near misses are the baskets that gave
    none. Any other event is only its markets, one by one.
    """
    if not view.terms.neg_risk:
        return _each_market(view, at=at, limits=limits)
    legs = _open_legs(view)
    if not legs:
        return (), ()
    foreign = _foreign_markets(view.terms)
    gates = [
        (*gates_of(leg), "metadata_conflict") if leg.terms.market_id in foreign else gates_of(leg)
        for leg in legs
    ]
    pairs = [(leg, own, yes_outcome(leg.terms)) for leg, own in zip(legs, gates, strict=True)]
    outcomes = _Set(
        view.terms,
        tuple(offer(leg, yes, own) for leg, own, yes in pairs),
        tuple(offer(leg, 1 - yes, own) for leg, own, yes in pairs),
    )
    found = [
        _yes_basket(outcomes, at=at, limits=limits),
        _no_basket(outcomes, at=at, limits=limits),
    ]
    found += [_binary(leg, at=at, limits=limits) for leg in legs if leg.problems]
    kept = _one_per_market([finding for finding in found if finding])
    return kept, _near(outcomes, {finding.kind for finding in kept})


def detect_market(view: MarketView, *, at: datetime, limits: Limits) -> Seen:
    """Look at both sides of one market: a coherent book cannot pay, so this is an alarm."""
    if view.terms.payout is not None or not view.asks[0] or not view.asks[1]:
        return (), ()
    finding = _binary(view, at=at, limits=limits)
    if finding is not None:
        return (finding,), ()
    sides = (offer(view, 0, gates_of(view)), offer(view, 1, gates_of(view)))
    gross = usd_price(sum(side.ladder[0][0] for side in sides))
    net = _money(sum(side.top_cost for side in sides))
    blocked = tuple(sorted(gates_of(view)))
    gap = _gap(net - 1)
    markets = (view.terms.market_id,)
    return (), (NearMiss(view.terms.event_id, markets, "binary", gross, net, gap, blocked),)


def yes_outcome(terms: MarketTerms) -> int:
    """Return the index of the outcome that means the question is true."""
    first, second = terms.outcomes
    return 1 if first.lower() == "no" and second.lower() == "yes" else 0


def yes_payout(terms: MarketTerms) -> Decimal | None:
    """Return what YES paid once resolved; None while open."""
    if terms.payout is None or yes_outcome(terms) == 0:
        return terms.payout
    return 1 - terms.payout


def missing_legs(terms: EventTerms) -> tuple[int, ...]:
    """Return the leg numbers that the venue counted and this event does not show."""
    numbers = {market.leg_number for market in terms.markets}
    if not numbers or None in numbers:
        return ()
    held = {number for number in numbers if number is not None}
    return tuple(sorted(set(range(max(held))) - held))


def _each_market(view: EventView, *, at: datetime, limits: Limits) -> Seen:
    seen = [detect_market(market, at=at, limits=limits) for market in view.markets]
    findings = tuple(finding for found, _ in seen for finding in found)
    return findings, tuple(miss for _, near in seen for miss in near)


def _open_legs(view: EventView) -> list[MarketView]:
    """Return the legs that can still win; none once one has won.

    Legs resolved to NO cannot win any more, so the others remain exhaustive.
    """
    legs: list[MarketView] = []
    for leg in view.markets:
        payout = None if leg.terms.payout is None else yes_payout(leg.terms)
        if payout == 1:
            return []
        if payout != 0:
            legs.append(leg)
    return legs


def _foreign_markets(terms: EventTerms) -> set[str]:
    """Return the markets that the chain does not tie to this event's exclusivity."""
    groups = [market.neg_risk_id for market in terms.markets]
    if len(set(groups)) <= 1:
        return set()
    own = max(sorted({g for g in groups if g is not None}), key=groups.count)
    return {market.market_id for market in terms.markets if market.neg_risk_id != own}


# --- one YES of each -----------------------------------------------------------------


def _yes_basket(outcomes: _Set, *, at: datetime, limits: Limits) -> Finding | None:
    offers = [each for each in outcomes.yes if each.ladder]
    if not offers or _hopeless(outcomes):
        return None
    plan = _equal_plan(offers, limits)
    if plan is None:
        return None
    gates = _yes_gates(outcomes)
    return finding_of(
        plan,
        kind="yes_basket",
        event_id=outcomes.event.event_id or None,
        worst_state=min(state_text(each.terms, each.outcome) for each in plan.offers),
        states=len(outcomes.yes),
        at=at,
        limits=limits,
        gates=gates,
        conditions=(GIVEN_EXHAUSTIVE,) if {"augmented", "missing_leg"} & gates else (),
        end_at=outcomes.event.end_at,
    )


def _hopeless(outcomes: _Set) -> bool:
    """Say that the basket could not pay even if legs without an offer were nearly free.

    Such a leg sells no lower than one tick above its own bid. A leg that is
    without an offer because its book is not trusted tells nothing at all, and
    neither does a set of which most legs are unseen.
    """
    if 2 * sum(1 for yes in outcomes.yes if yes.ladder) < len(outcomes.yes):
        return True
    cheapest = 0.0
    for yes, no in zip(outcomes.yes, outcomes.no, strict=True):
        if yes.ladder:
            cheapest += yes.top_cost
        elif {*yes.gates} - {"missing_leg", "not_tradable", "unknown_fee"}:
            return True
        else:
            bid = PRICE_ONE - no.ladder[0][0] if no.ladder else 0
            cheapest += (bid + yes.terms.tick) / PRICE_ONE
    return cheapest >= 1.0 - ZERO


def _yes_gates(outcomes: _Set) -> set[str]:
    event = outcomes.event
    gates = {gate for each in outcomes.yes for gate in each.gates}
    if event.augmented:
        gates.add("augmented")
    if not event.complete or len(event.markets) < 2 or missing_legs(event):
        gates.add("missing_leg")
    for yes, no in zip(outcomes.yes, outcomes.no, strict=True):
        if not yes.ladder:
            gates.add("one_sided" if no.ladder else "missing_leg")
    return gates


def _equal_plan(offers: Sequence[Offer], limits: Limits) -> Plan | None:
    budget = None if limits.capital is None else float(limits.capital)
    ladders, tables = [each.ladder for each in offers], [each.table for each in offers]
    walk = walk_equal(ladders, tables, budget=budget)
    return price_plan(offers, walk.sizes, payoff_of=min, capital=limits.capital)


# --- NO of any -----------------------------------------------------------------------


def _no_basket(outcomes: _Set, *, at: datetime, limits: Limits) -> Finding | None:
    priced = [each for each in outcomes.no if each.ladder]
    plan = _no_plan_without_small([each for each in priced if not each.gates], limits)
    if plan is None:
        plan = _no_plan(priced, limits)  # what the gates stop
        if plan is None or not plan.gates:
            return None
    lost = [
        state_text(each.terms, 1 - each.outcome)
        for each, size in zip(plan.offers, plan.sizes, strict=True)
        if size == max(plan.sizes)
    ]
    return finding_of(
        plan,
        kind="no_basket",
        event_id=outcomes.event.event_id or None,
        worst_state=min(lost),
        states=len(outcomes.no) + 1,
        at=at,
        limits=limits,
        instant=True,
    )


def _no_plan(offers: Sequence[Offer], limits: Limits) -> Plan | None:
    if sum(1.0 - each.top_cost for each in offers) <= 1.0:
        return None
    budget = None if limits.capital is None else float(limits.capital)
    ladders, tables = [each.ladder for each in offers], [each.table for each in offers]
    walk = walk_unequal(ladders, tables, budget=budget)
    return price_plan(offers, walk.sizes, payoff_of=_all_but_largest, capital=limits.capital)


def _no_plan_without_small(offers: list[Offer], limits: Limits) -> Plan | None:
    """Drop legs under the venue's minimum, smallest first, until the rest stands or fails."""
    while (plan := _no_plan(offers, limits)) is not None:
        refused = [
            (size, each.terms.market_id)
            for each, size, small in zip(plan.offers, plan.sizes, plan.refused(), strict=True)
            if small
        ]
        if not refused:
            return plan
        dropped = min(refused)[1]
        offers = [each for each in offers if each.terms.market_id != dropped]
    return None


def _all_but_largest(sizes: Sequence[int]) -> int:
    return sum(sizes) - max(sizes)


# --- both sides of one market --------------------------------------------------------


def _binary(view: MarketView, *, at: datetime, limits: Limits) -> Finding | None:
    gates = gates_of(view)
    sides = (offer(view, 0, gates), offer(view, 1, gates))
    if not sides[0].ladder or not sides[1].ladder:
        return None
    if sides[0].top_cost + sides[1].top_cost >= 1.0:
        return None
    plan = _equal_plan(sides, limits)
    if plan is None:
        return None
    return finding_of(
        plan,
        kind="binary",
        event_id=view.terms.event_id,
        worst_state=state_text(view.terms, 0),
        states=2,
        at=at,
        limits=limits,
        instant=True,
    )


# --- what is told --------------------------------------------------------------------


def _one_per_market(findings: list[Finding]) -> tuple[Finding, ...]:
    """Keep the best findings that share no market, so that none spends another's depth."""
    kept: list[Finding] = []
    used: set[str] = set()
    for finding in sorted(findings, key=rank):
        second_basket = finding.kind != "binary" and any(other.kind != "binary" for other in kept)
        if not second_basket and used.isdisjoint(finding.market_ids):
            kept.append(finding)
            used.update(finding.market_ids)
    return tuple(kept)


def rank(finding: Finding) -> tuple[int, Decimal, str, tuple[str, ...]]:
    """Order findings: executable before thin before blocked, then by profit."""
    return _RANK[finding.verdict], -finding.profit, finding.kind, finding.market_ids


def _near(outcomes: _Set, found: set[str]) -> tuple[NearMiss, ...]:
    near = [] if "yes_basket" in found else [*_near_yes(outcomes)]
    if "no_basket" not in found:
        near += _near_no(outcomes)
    return tuple(near)


def _near_yes(outcomes: _Set) -> Iterator[NearMiss]:
    priced = [each for each in outcomes.yes if each.ladder]
    if priced:
        gross = sum(each.ladder[0][0] for each in priced)
        net = _money(sum(each.top_cost for each in priced))
        gates = _yes_gates(outcomes)
        yield _near_miss(outcomes, "yes_basket", priced, gross, net, _gap(net - 1), gates)


def _near_no(outcomes: _Set) -> Iterator[NearMiss]:
    priced = [each for each in outcomes.no if each.ladder]
    used = [each for each in priced if not each.gates] or priced
    if used:
        gross = sum(PRICE_ONE - each.ladder[0][0] for each in used)
        net = _money(sum(1.0 - each.top_cost for each in used))
        gates = {gate for each in used for gate in each.gates}
        yield _near_miss(outcomes, "no_basket", used, gross, net, _gap(1 - net), gates)


def _near_miss(
    outcomes: _Set,
    kind: str,
    offers: Sequence[Offer],
    gross: int,
    net: Decimal,
    gap: Decimal,
    gates: set[str],
) -> NearMiss:
    markets = tuple(sorted(each.terms.market_id for each in offers))
    event_id = outcomes.event.event_id or None
    blocked = tuple(sorted(gates))
    return NearMiss(event_id, markets, kind, usd_price(gross), net, gap, blocked)


def _money(amount: float) -> Decimal:
    return Decimal(amount).quantize(MICRO, ROUND_HALF_EVEN)


def _gap(missing: Decimal) -> Decimal:
    """Return what is missing in cents; 0 where only size or a gate is."""
    return max(missing * 100, Decimal(0)).quantize(_CENT)
