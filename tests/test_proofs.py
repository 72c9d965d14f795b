"""Every riskless finding can be checked by hand: states paid out, or steps added up."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from rules.kernel.baskets import detect_event, detect_market
from rules.kernel.finding import Finding, Limits, ProofStep
from rules.kernel.known import known_of
from rules.kernel.program import Exposure, bound, least_of, worst_state
from rules.kernel.proofs import check, holding, payout, proven, steps_of
from rules.kernel.relations import possible_states
from tests.related import bracket_relations, quoted, rel
from tests.worlds import bids, event_view, ladder, market_terms, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))


def event_finding(rng: random.Random, *, cheap: bool) -> tuple[Finding, dict]:
    """Return a YES basket (`cheap`) or a NO basket of a random event, and its terms."""
    count = rng.randint(2, 6)
    middle = (0.9 if cheap else 1.2) / count
    markets = [
        replace(
            quoted(n, middle, rng),
            terms=market_terms(n, min_size=0),
        )
        for n in range(count)
    ]
    found, _ = detect_event(event_view(markets), at=AT, limits=ALL)
    return found[0], {m.terms.market_id: m.terms for m in markets}


@pytest.mark.parametrize(("cheap", "kind"), [(True, "yes_basket"), (False, "no_basket")])
def test_baskets_of_an_event_hold_by_what_is_known_of_the_event(cheap, kind):
    for seed in range(40):
        finding, terms = event_finding(random.Random(seed), cheap=cheap)
        names = tuple(terms)
        relations = [rel("exclusive", *names)] + ([rel("exhaustive", *names)] if cheap else [])

        assert finding.kind == kind
        assert check(finding.certificate, finding, relations=relations, terms=terms)
        states = possible_states(names, relations, terms)
        paid = {payout(holding(finding, terms), names, state) for state in states}
        assert {payoff for _, payoff in finding.payoff_table} == paid


def test_a_basket_that_is_not_exhaustive_does_not_hold():
    finding, terms = event_finding(random.Random(1), cheap=True)

    assert not check(
        finding.certificate, finding, relations=[rel("exclusive", *terms)], terms=terms
    )


def test_both_sides_of_a_market_pay_the_same_either_way():
    market = market_view(0, ladder((0.4, 100)), bids((0.5, 100)), problems=("incoherent_pair",))

    (finding,), _ = detect_market(market, at=AT, limits=ALL)

    assert dict(finding.payoff_table) == {"100=Yes": 100, "100=No": 100}


@pytest.mark.parametrize(
    "change",
    [
        lambda f: replace(f, cost=f.cost - 1, profit=f.profit + 1),
        lambda f: replace(f, profit=f.profit + Decimal("0.01")),
        lambda f: replace(f, min_payoff=f.min_payoff + 1),
        lambda f: replace(f, legs=f.legs[1:]),
        lambda f: replace(f, legs=(replace(f.legs[0], fee=Decimal(1)), *f.legs[1:])),
        lambda f: replace(f, legs=(replace(f.legs[0], size=f.legs[0].size + 1), *f.legs[1:])),
        lambda f: replace(f, certificate=replace(f.certificate, states=1)),
    ],
)
def test_a_finding_that_does_not_add_up_does_not_hold(change):
    finding, terms = event_finding(random.Random(2), cheap=True)
    relations = [rel("exclusive", *terms), rel("exhaustive", *terms)]
    changed = change(finding)

    assert check(finding.certificate, finding, relations=relations, terms=terms)
    assert not check(changed.certificate, changed, relations=relations, terms=terms)


# --- proofs of sets with too many states to list -------------------------------------


def bracket_case(seed: int):
    """Return a bracket of 16 teams with random holdings, and its 32,768 states' worst payoff."""
    rng = np.random.default_rng(seed)
    relations = bracket_relations(4)
    known = known_of(relations, {})
    bought = rng.integers(0, 300, (2, len(known.members))) * 10_000
    bought[rng.random(bought.shape) < 0.7] = 0
    return known, Exposure(bought[0], bought[1])


def test_the_least_of_a_large_set_is_proven_and_reached():
    for seed in range(12):
        known, exposure = bracket_case(seed)
        least = least_of(known, exposure)

        state = np.array(worst_state(known, exposure))
        reached = int(np.where(state, exposure.yes, exposure.no).sum())
        sold = int(exposure.no.sum())
        assert known.states is None
        assert least.payoff == reached == sold + bound(least.proof, exposure.net)


def test_the_steps_of_a_proof_say_the_same_to_people_and_to_the_kernel():
    known, exposure = bracket_case(3)
    least = least_of(known, exposure)
    held = {
        (member, outcome): Decimal(int(size)).scaleb(-6)
        for member, *sizes in zip(known.members, exposure.yes, exposure.no, strict=True)
        for outcome, size in enumerate(sizes)
    }

    assert proven(steps_of(least.proof, known.members), held) == Decimal(least.payoff).scaleb(-6)


def test_steps_that_count_too_much_prove_less_never_more():
    rng = random.Random(5)
    for seed in range(6):
        known, exposure = bracket_case(seed)
        least = least_of(known, exposure)
        for _ in range(30):
            wild = [(fact, rng.randrange(0, 4_000_000)) for fact in rng.sample(known.facts, 9)]
            assert int(exposure.no.sum()) + bound(wild, exposure.net) <= least.payoff


def test_a_step_whose_claim_nobody_made_proves_nothing():
    finding, terms = event_finding(random.Random(3), cheap=True)
    claim = ProofStep(
        "at_least_one", tuple((name, 0) for name in terms), finding.certificate.payoff
    )
    certificate = replace(finding.certificate, proof=(claim,))
    told = {"relations": [rel("exclusive", *terms), rel("exhaustive", *terms)], "terms": terms}
    untold = {"relations": [rel("exclusive", *terms)], "terms": terms}

    assert check(certificate, finding, **told)
    assert not check(certificate, finding, **untold)
