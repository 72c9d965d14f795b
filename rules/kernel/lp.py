"""Mispricings across markets: one linear program per connected set of relations (pure).

`detection.md` 2.5: the sizes that maximise the payoff in the worst possible state,
less the cost at full depth. What the solver returns is only a proposal: it is
rounded to lots, priced exactly and checked against every possible state again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import numpy as np

from markets.fills import shares
from rules.kernel.finding import Certificate, Finding, Limits, MarketView, usd
from rules.kernel.known import Contradiction, Known, States, known_of
from rules.kernel.plans import Offer, Plan, finding_of, gates_of, offer, price_plan, state_text
from rules.kernel.program import (
    Exposure,
    Least,
    best_sizes,
    exposure_of,
    least_of,
    worst_state,
)
from rules.kernel.proofs import steps_of
from rules.kernel.relations import Relation, State, connected_sets

__all__ = ["Contradiction", "best_sizes", "detect_known", "detect_relations"]

GIVEN_NO_VOID = "riskless_given_no_void"
TABLE_ROWS = 64  # a certificate lists the payoff of each state up to this many
_HALF = Decimal("0.5")


def detect_relations(
    relations: Sequence[Relation],
    views: Mapping[str, MarketView],
    *,
    at: datetime,
    limits: Limits,
) -> tuple[Finding, ...]:
    """Look at one connected set of relations.

    What follows from approved relations that nothing speaks against comes first;
    only where that is nothing, what the others would add is shown, blocked.
    Raises `Contradiction`.
    """
    terms = {member: view.terms for member, view in views.items()}
    sound = connected_sets(relation for relation in relations if not relation.gates)
    found = [detect_known(known_of(held, terms), views, at=at, limits=limits) for held in sound]
    findings = tuple(finding for finding in found if finding is not None)
    if findings or not any(relation.gates for relation in relations):
        return findings
    shown = detect_known(known_of(relations, terms), views, at=at, limits=limits)
    return (shown,) if shown is not None else ()


def detect_known(
    known: Known, views: Mapping[str, MarketView], *, at: datetime, limits: Limits
) -> Finding | None:
    """Return the best plan over one set of related markets, or None where nothing gains.

    It is BLOCKED where a relation of the set may not be relied on. `views` may
    lack members that are not listed.
    """
    offers = _offers(known, views)
    sound = tuple(each for each in offers if not each.gates)
    solved = _solved_without_small(known, sound, limits)
    if solved is None:
        solved = _solved(known, offers, limits)  # what the gates stop
        if solved is None or not solved.plan.gates:
            return None
    return _finding(known, solved, at=at, limits=limits)


@dataclass(frozen=True, slots=True)
class _Solved:
    """A plan, what it buys of each market, and why it pays no less than it says."""

    plan: Plan
    exposure: Exposure
    least: Least


def _offers(known: Known, views: Mapping[str, MarketView]) -> tuple[Offer, ...]:
    open_views = [
        views[member]
        for member in known.members
        if member in views and views[member].terms.payout is None
    ]
    return tuple(
        offer(view, outcome, gates_of(view))
        for view in open_views
        for outcome in (0, 1)
        if view.asks[outcome]
    )


def _solved_without_small(
    known: Known, offers: tuple[Offer, ...], limits: Limits
) -> _Solved | None:
    """Drop orders under the venue's minimum, smallest first, until the rest stands or fails."""
    while (solved := _solved(known, offers, limits)) is not None:
        plan = solved.plan
        rows = zip(plan.sizes, plan.offers, plan.refused(), strict=True)
        refused = sorted(((size, i) for i, (size, _, small) in enumerate(rows) if small))
        if not refused:
            return solved
        # One at a time is best; of very many a few, because each costs a program.
        dropped = [plan.offers[i] for _, i in refused[: 1 + len(refused) // 8]]
        offers = tuple(each for each in offers if not any(each is gone for gone in dropped))
    return None


def _solved(known: Known, offers: Sequence[Offer], limits: Limits) -> _Solved | None:
    offers = tuple(each for each in offers if each.top_cost < 1.0)
    if not offers:
        return None
    budget = None if limits.capital is None else float(limits.capital)
    sizes = best_sizes(known, offers, budget)
    if not any(sizes):
        return None
    tried: dict[tuple[int, ...], tuple[Exposure, Least]] = {}

    def pays(lots: Sequence[int]) -> int:
        exposure = exposure_of(known, offers, lots)
        least = least_of(known, exposure)
        tried[tuple(lots)] = exposure, least
        return least.payoff

    plan = price_plan(offers, sizes, payoff_of=pays, capital=limits.capital)
    return None if plan is None else _Solved(plan, *list(tried.values())[-1])


# --- what is told --------------------------------------------------------------------


def _finding(known: Known, solved: _Solved, *, at: datetime, limits: Limits) -> Finding:
    plan, exposure = solved.plan, solved.exposure
    events = {each.terms.event_id for each in plan.offers}
    finding = finding_of(
        plan,
        kind=known.kind,
        event_id=events.pop() if len(events) == 1 else None,
        worst_state=_state_text(known, plan, worst_state(known, exposure)),
        states=known.count,
        at=at,
        limits=limits,
        gates=[gate for relation in known.relations for gate in relation.gates],
        conditions=(GIVEN_NO_VOID,),
    )
    certificate = _proven(finding.certificate, known, solved)
    return replace(finding, certificate=certificate, facts=_void(known, plan, exposure))


def _state_text(known: Known, plan: Plan, state: State) -> str:
    """Write what happens to the markets of a plan."""
    texts = {
        state_text(each.terms, 0 if state[known.position[each.terms.market_id]] else 1)
        for each in plan.offers
    }
    return ", ".join(sorted(texts))


def _proven(certificate: Certificate, known: Known, solved: _Solved) -> Certificate:
    """Add the payoff of each state that makes a difference, or the steps of a proof."""
    plan, exposure = solved.plan, solved.exposure
    if known.states is None:
        return replace(certificate, proof=steps_of(solved.least.proof, known.members))
    used = sorted({known.position[each.terms.market_id] for each in plan.offers})
    rows, first = np.unique(known.states[:, used], axis=0, return_index=True)
    if len(rows) > TABLE_ROWS:
        return certificate
    paid = exposure.paid(known.states[first])
    texts = (_state_text(known, plan, tuple(map(bool, known.states[row]))) for row in first)
    table = sorted((shares(int(payoff)), text) for payoff, text in zip(paid, texts, strict=True))
    return replace(certificate, table=tuple((text, payoff) for payoff, text in table))


def _void(known: Known, plan: Plan, exposure: Exposure) -> tuple[tuple[str, str], ...]:
    """Say what is left in the worst state if one of the markets pays both sides one half."""
    if known.states is None:
        return ()
    positions = {known.position[each.terms.market_id] for each in plan.offers}
    worst = min(_paid_if_void(exposure, known.states, position) for position in positions)
    return (("payoff_if_one_void", usd(worst)),)


def _paid_if_void(exposure: Exposure, states: States, position: int) -> Decimal:
    """Pay the void market its half of both sides, whatever the state says of it."""
    others = exposure.yes.copy(), exposure.no.copy()
    half = int(others[0][position] + others[1][position]) * _HALF
    others[0][position] = others[1][position] = 0
    return shares(int(Exposure(*others).paid(states).min())) + half.scaleb(-6)
