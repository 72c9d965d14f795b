"""Check a certificate without the solver that led to it (pure).

Two ways, both exact: pay out the legs in every possible state, or add up the steps of
a proof. A step takes one claim that follows from a relation ("at least one of these
outcomes pays") so many times; whatever the legs hold beyond or short of what the steps
add up to is settled for the worst, market by market.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from markets.fills import shares
from markets.listing import MarketTerms
from rules.kernel.finding import Certificate, Finding, ProofStep
from rules.kernel.relations import Fact, Relation, State, facts_of, members_of, possible_states

Holding = dict[tuple[str, int], Decimal]  # shares by market id and outcome


def check(
    certificate: Certificate,
    finding: Finding,
    *,
    relations: Sequence[Relation],
    terms: Mapping[str, MarketTerms],
) -> bool:
    """Say whether a finding's legs cost what it says and pay what its certificate says.

    `relations` are those that it rests on, `terms` the markets as they were then.
    Raises `TooManyStates` for a certificate without proof over such a set.
    """
    if certificate.payoff != finding.min_payoff or not _adds_up(finding):
        return False
    held = holding(finding, terms)
    members = members_of(relations)
    if certificate.proof:
        claims = {_claim(fact, members) for fact in facts_of(relations, members, terms)}
        known = all((step.claim, frozenset(step.outcomes)) in claims for step in certificate.proof)
        return known and proven(certificate.proof, held) >= certificate.payoff
    states = possible_states(members, relations, terms)
    paid = [payout(held, members, state) for state in states]
    tabled = {payoff for _, payoff in certificate.table}
    if certificate.table and tabled != set(paid):
        return False
    return certificate.states == len(states) and min(paid) == certificate.payoff


def holding(finding: Finding, terms: Mapping[str, MarketTerms]) -> Holding:
    """Return what a finding's legs buy."""
    held: Holding = {}
    for leg in finding.legs:
        place = leg.market_id, terms[leg.market_id].token_ids.index(leg.token_id)
        held[place] = held.get(place, Decimal(0)) + leg.size
    return held


def payout(held: Holding, members: Sequence[str], state: State) -> Decimal:
    """Return what a holding pays in one state."""
    outcomes = ((member, 0 if truth else 1) for member, truth in zip(members, state, strict=True))
    return sum((held.get(outcome, Decimal(0)) for outcome in outcomes), Decimal(0))


def proven(steps: Iterable[ProofStep], held: Holding) -> Decimal:
    """Return what a holding pays at least if every step's claim is true.

    Each step is worth its shares times what its claim promises. Where the steps
    count more of an outcome than is held, the difference may be lost; both
    outcomes of a market are settled against each other, since exactly one pays.
    """
    owed: dict[str, list[Decimal]] = {}
    for (market_id, outcome), size in held.items():
        owed.setdefault(market_id, [Decimal(0), Decimal(0)])[outcome] += size
    sure = Decimal(0)
    for step in steps:
        at_least = step.claim == "at_least_one"
        # "At most one of n" is "at least n - 1 of their opposites".
        sure += step.shares * (1 if at_least else len(step.outcomes) - 1)
        for market_id, outcome in step.outcomes:
            paying = outcome if at_least else 1 - outcome
            owed.setdefault(market_id, [Decimal(0), Decimal(0)])[paying] -= step.shares
    return sure + sum((min(left) for left in owed.values()), Decimal(0))


def steps_of(steps: Iterable[tuple[Fact, int]], members: Sequence[str]) -> tuple[ProofStep, ...]:
    """Write facts with multipliers (1e-6 shares) as the steps of a proof."""
    return tuple(_step(fact, weight, members) for fact, weight in steps)


def _step(fact: Fact, weight: int, members: Sequence[str]) -> ProofStep:
    outcomes = tuple(_outcomes(fact, members))
    return ProofStep("at_most_one" if fact.most else "at_least_one", outcomes, shares(weight))


def _claim(fact: Fact, members: Sequence[str]) -> tuple[str, frozenset[tuple[str, int]]]:
    claim = "at_most_one" if fact.most else "at_least_one"
    return claim, frozenset(_outcomes(fact, members))


def _outcomes(fact: Fact, members: Sequence[str]) -> Iterator[tuple[str, int]]:
    for position, wanted in fact.literals:
        yield members[position], 0 if wanted else 1


def _adds_up(finding: Finding) -> bool:
    """Say whether cost, fees and profit follow from the levels that the legs take."""
    for leg in finding.legs:
        if sum(size for _, size, _ in leg.takes) != leg.size:
            return False
        if sum(fee for _, _, fee in leg.takes) != leg.fee:
            return False
        gross = sum(price * size for price, size, _ in leg.takes)
        if not 0 <= leg.cost - leg.fee - gross < Decimal("0.000001"):
            return False
    cost = sum((leg.cost for leg in finding.legs), Decimal(0))
    return finding.cost == cost and finding.profit == finding.min_payoff - cost
