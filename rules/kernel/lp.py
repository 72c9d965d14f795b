"""Mispricings across markets: one linear program per connected set of relations (pure).

`detection.md` 2.5: the sizes that maximise the payoff in the worst possible state,
less the cost at full depth. What the solver returns is only a proposal: it is
rounded to lots, priced exactly and checked against every state again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, vstack

from markets.fills import SIZE_ONE, depth_of
from markets.listing import MarketTerms
from rules.kernel.finding import Finding, Limits, MarketView
from rules.kernel.plans import Offer, Plan, finding_of, gates_of, offer, price_plan, state_text
from rules.kernel.relations import (
    Relation,
    connected_sets,
    kind_of,
    members_of,
    possible_states,
)

GIVEN_NO_VOID = "riskless_given_no_void"
FIRST_STATES = 256  # what the program starts with; violated states are added as they are found
MORE_STATES = 64
_SLACK = 100  # 1e-4 share: what a solver's float may lack of a whole lot

Payoffs = NDArray[np.int64]  # one row per state, one column per offer: 0 or 1


class Contradiction(Exception):
    """Relations that no joint outcome satisfies."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """A set of markets with what may happen to them."""

    relations: tuple[Relation, ...]
    terms: Mapping[str, MarketTerms]
    offers: tuple[Offer, ...]
    payoffs: Payoffs


def detect_relations(
    relations: Sequence[Relation],
    views: Mapping[str, MarketView],
    *,
    at: datetime,
    limits: Limits,
) -> tuple[Finding, ...]:
    """Look at one connected set of relations.

    What follows from approved relations alone comes first; only where that is
    nothing, what the others would add is shown, blocked. Raises `TooManyStates`
    or `Contradiction`.
    """
    approved = connected_sets(relation for relation in relations if relation.approved)
    found = [_detect(held, views, (), at=at, limits=limits) for held in approved]
    findings = tuple(finding for finding in found if finding is not None)
    if findings or all(relation.approved for relation in relations):
        return findings
    unapproved = ("unapproved_relation",)
    shown = _detect(tuple(relations), views, unapproved, at=at, limits=limits)
    return (shown,) if shown is not None else ()


def _detect(
    relations: tuple[Relation, ...],
    views: Mapping[str, MarketView],
    gates: tuple[str, ...],
    *,
    at: datetime,
    limits: Limits,
) -> Finding | None:
    problem = _problem(relations, views)
    plan = _plan_without_small(problem, limits)
    if plan is None:
        plan = _plan(problem, problem.offers, limits)  # what the gates stop
        if plan is None or not plan.gates:
            return None
    events = {each.terms.event_id for each in plan.offers}
    return finding_of(
        plan,
        kind=kind_of(relations),
        event_id=events.pop() if len(events) == 1 else None,
        worst_state=_worst_state(problem, plan),
        states=len(problem.payoffs),
        at=at,
        limits=limits,
        gates=gates,
        conditions=(GIVEN_NO_VOID,),
    )


def _problem(relations: tuple[Relation, ...], views: Mapping[str, MarketView]) -> _Problem:
    members = members_of(relations)
    terms = {member: views[member].terms for member in members if member in views}
    states = np.array(possible_states(members, relations, terms), dtype=np.int64)
    if not len(states):
        raise Contradiction
    offers, columns = [], []
    for index, member in enumerate(members):
        view = views.get(member)
        if view is None or view.terms.payout is not None:
            continue
        for outcome in (0, 1):
            if view.asks[outcome]:
                offers.append(offer(view, outcome, gates_of(view)))
                columns.append(states[:, index] if outcome == 0 else 1 - states[:, index])
    payoffs = np.stack(columns, axis=1) if columns else np.zeros((len(states), 0), np.int64)
    return _Problem(relations, terms, tuple(offers), payoffs)


def _plan_without_small(problem: _Problem, limits: Limits) -> Plan | None:
    """Drop orders under the venue's minimum, smallest first, until the rest stands or fails."""
    offers = tuple(each for each in problem.offers if not each.gates)
    while (plan := _plan(problem, offers, limits)) is not None:
        rows = zip(plan.sizes, plan.offers, plan.refused(), strict=True)
        refused = [(size, each) for size, each, small in rows if small]
        if not refused:
            return plan
        dropped = min(refused, key=lambda pair: pair[0])[1]
        offers = tuple(each for each in offers if each is not dropped)
    return None


def _plan(problem: _Problem, offers: tuple[Offer, ...], limits: Limits) -> Plan | None:
    offers = tuple(each for each in offers if each.top_cost < 1.0)
    if not offers:
        return None
    payoffs = _columns(problem, offers)
    budget = None if limits.capital is None else float(limits.capital)
    sizes = best_sizes(offers, payoffs, budget)

    def worst(lots: Sequence[int]) -> int:
        return int((payoffs @ np.array(lots, dtype=np.int64)).min())

    return price_plan(offers, sizes, payoff_of=worst, capital=limits.capital)


def _columns(problem: _Problem, offers: Sequence[Offer]) -> Payoffs:
    known = {id(each): index for index, each in enumerate(problem.offers)}
    return problem.payoffs[:, [known[id(each)] for each in offers]]


def _worst_state(problem: _Problem, plan: Plan) -> str:
    """Find the worst state again from the orders alone and write it out."""
    payoffs = _columns(problem, plan.offers)
    worst = payoffs[int((payoffs @ np.array(plan.sizes, dtype=np.int64)).argmin())]
    pairs = zip(plan.offers, worst, strict=True)
    texts = {
        state_text(each.terms, each.outcome if pays else 1 - each.outcome) for each, pays in pairs
    }
    return ", ".join(sorted(texts))


# --- the program ---------------------------------------------------------------------


def best_sizes(offers: Sequence[Offer], payoffs: Payoffs, budget: float | None) -> list[int]:
    """Return the best size of each offer in 1e-6 shares; `payoffs` has a row per state.

    Starts with some states and adds those that turn out worse than planned.
    """
    used = np.arange(min(FIRST_STATES, len(payoffs)))
    while True:
        sizes, promised = _optimum(offers, payoffs[used], budget)
        outcome = payoffs @ sizes
        worst = np.argsort(outcome, kind="stable")[:MORE_STATES]
        broken = worst[outcome[worst] < promised - 1e-6 * max(1.0, promised)]
        fresh = np.setdiff1d(broken, used)
        if not len(fresh):
            break
        used = np.concatenate([used, fresh])
    units = (int(size * SIZE_ONE + _SLACK) for size in sizes)
    return [min(unit, depth_of(each.ladder)) for unit, each in zip(units, offers, strict=True)]


def _optimum(
    offers: Sequence[Offer], payoffs: Payoffs, budget: float | None
) -> tuple[NDArray[np.float64], float]:
    """Maximise w - cost with w at most the payoff in each state; return shares and w.

    Columns: shares per level, shares per offer, w. A level that costs 1 USD or
    more can never pay and is left out.
    """
    levels = [
        (index, each.table[price], size / SIZE_ONE)
        for index, each in enumerate(offers)
        for price, size in each.ladder
        if each.table[price] < 1.0
    ]
    count = len(offers)
    costs = np.array([cost for _, cost, _ in levels])
    owner = np.array([index for index, _, _ in levels], dtype=np.int64)
    ones = np.ones(len(levels))
    of_offer = csr_array((ones, (owner, np.arange(len(levels)))), shape=(count, len(levels)))
    totals = hstack([of_offer, -csr_array(np.eye(count)), csr_array((count, 1))])
    states = hstack(
        [
            csr_array((len(payoffs), len(levels))),
            -csr_array(payoffs.astype(np.float64)),
            csr_array(np.ones((len(payoffs), 1))),
        ]
    )
    bounded, most = states, np.zeros(len(payoffs))
    if budget is not None:
        spent = csr_array(np.concatenate([costs, np.zeros(count + 1)])[np.newaxis, :])
        bounded, most = vstack([states, spent]), np.append(most, budget)
    answer = linprog(
        np.concatenate([costs, np.zeros(count), [-1.0]]),
        A_ub=bounded,
        b_ub=most,
        A_eq=totals,
        b_eq=np.zeros(count),
        bounds=[(0.0, size) for _, _, size in levels] + [(0.0, None)] * (count + 1),
        method="highs",
    )
    if not answer.success:
        raise RuntimeError(f"the solver gave up: {answer.message}")
    return answer.x[len(levels) : -1], float(answer.x[-1])
