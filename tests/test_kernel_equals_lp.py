"""The kernel against the linear program: same profit, no phantom, nothing missed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from markets.fills import Fee, Ladder, cost_table
from rules.kernel.baskets import detect_event
from rules.kernel.finding import EventView, Finding, Limits
from rules.kernel.walks import walk_equal, walk_unequal
from tests.oracle import best_profit, one_true
from tests.worlds import event_view, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
ALL = Limits(min_profit=Decimal(0), min_edge_bps=Decimal(0))
FEES = [
    Fee(Decimal(rate), e)
    for rate, e in (("0", 1), ("0.03", 1), ("0.05", 1), ("0.07", 1), ("0.25", 2))
]
EVENTS = 2_000


def random_event(seed: int) -> EventView:
    """Return a mirrored neg-risk event whose prices wander around a fair set."""
    rng = random.Random(seed)
    count = rng.choice((2, 2, 3, 3, 4, 5, 7, 10))
    weights = [rng.random() ** 2 + 0.02 for _ in range(count)]
    fair = [weight / sum(weights) for weight in weights]
    tick = rng.choice((100, 10, 10, 1))
    tilt = rng.choice((-0.06, -0.02, 0.0, 0.02, 0.06)) / count
    markets = []
    for number, chance in enumerate(fair):
        middle = min(max(chance + tilt + rng.gauss(0, 0.01), 0.02), 0.98)
        asks, bids = _ladders(rng, middle, tick)
        markets.append(market_view(number, asks, bids, fee=rng.choice(FEES), tick=tick, min_size=0))
    return event_view(markets)


def _ladders(rng: random.Random, middle: float, tick: int) -> tuple[Ladder, Ladder]:
    """Return asks of YES and of NO around a price; NO asks are mirrored bids."""
    ask = max(tick, min(10_000 - tick, (int(middle * 10_000) // tick + rng.choice((0, 1))) * tick))
    yes, no = [], []
    for _ in range(rng.randint(1, 6)):
        if tick <= ask <= 10_000 - tick:
            yes.append((ask, _size(rng)))
        ask += rng.randint(1, 4) * tick
    bid = yes[0][0] - rng.randint(1, 2) * tick if yes else int(middle * 10_000) // tick * tick
    for _ in range(rng.randint(0, 6)):
        if tick <= bid <= 10_000 - tick:
            no.append((10_000 - bid, _size(rng)))
        bid -= rng.randint(1, 4) * tick
    return tuple(yes), tuple(no)


def _size(rng: random.Random) -> int:
    lots = max(1, round(rng.lognormvariate(4, 1.3) * 100))
    return lots * 10_000 + rng.choice((0, 0, 0, 0, 0, 1_234))  # some sizes have six decimals


def _tokens(view: EventView) -> tuple[list[Ladder], list[Fee]]:
    fees = [market.terms.fee for market in view.markets] * 2
    return [m.asks[0] for m in view.markets] + [m.asks[1] for m in view.markets], fees


def _walked_profit(view: EventView, budget: float | None = None) -> float:
    tables = [cost_table(market.terms.fee) for market in view.markets]
    yes, no = [m.asks[0] for m in view.markets], [m.asks[1] for m in view.markets]
    long = walk_equal(yes, tables, budget=budget).profit if all(yes) else 0.0
    return max(long, walk_unequal(no, tables, budget=budget).profit)


def exact_worst(finding: Finding, view: EventView) -> Decimal:
    """Return the least that a finding's legs pay over every state of its event."""
    yes_token = {m.terms.token_ids[0]: m.terms.market_id for m in view.markets}
    worlds = [m.terms.market_id for m in view.markets]
    if finding.kind == "no_basket":
        worlds.append("none")
    return min(
        sum(
            leg.size
            for leg in finding.legs
            if (leg.token_id in yes_token) == (leg.market_id == won)
        )
        for won in worlds
    )


def test_the_kernel_finds_what_the_linear_program_finds_and_nothing_else():
    kinds: Counter[str] = Counter()
    for seed in range(EVENTS):
        view = random_event(seed)
        ladders, fees = _tokens(view)
        # Exactly one true: the widest truth, under which both baskets are sound.
        truth = best_profit(ladders, fees, one_true(len(view.markets), or_none=False))

        walked = _walked_profit(view)
        findings, near = detect_event(view, at=AT, limits=ALL)

        assert walked == pytest.approx(truth, rel=1e-6, abs=1e-7), seed
        if truth < 0.001:  # under a tenth of a cent a lot or a rounded fee may eat it
            assert sum(f.profit for f in findings) <= Decimal("0.001"), seed
            continue
        (finding,) = findings
        kinds[finding.kind] += 1
        assert finding.kind not in {miss.kind for miss in near}
        lost = 0.01 * len(view.markets) + 0.002  # at most a lot per leg, and fees rounded up
        assert truth - lost <= float(finding.profit) <= truth + 1e-6, seed
        assert exact_worst(finding, view) >= finding.min_payoff == finding.certificate.payoff
        assert sum(leg.cost for leg in finding.legs) == finding.cost
    assert kinds["yes_basket"] > 200
    assert kinds["no_basket"] > 200


def test_a_budget_is_spent_as_the_linear_program_spends_it():
    bound = 0
    for seed in range(400):
        view = random_event(seed)
        free = _walked_profit(view)
        if free < 0.01:
            continue
        budget = random.Random(seed).choice((5.0, 20.0, 60.0, 200.0))
        ladders, fees = _tokens(view)
        truth = best_profit(ladders, fees, one_true(len(view.markets), or_none=False), budget)

        findings, _ = detect_event(view, at=AT, limits=replace(ALL, capital=Decimal(str(budget))))

        assert _walked_profit(view, budget) == pytest.approx(truth, rel=1e-6, abs=1e-7), seed
        bound += truth < free * 0.999
        for finding in findings:
            assert finding.cost <= Decimal(str(budget))
            assert finding.profit <= Decimal(truth) + Decimal("1e-6")
            assert exact_worst(finding, view) >= finding.min_payoff
    assert bound > 50
