"""The linear program behind every cross-market size: `detection.md` 2.5 in one form (pure).

Buying YES of a market adds to its exposure, buying NO takes from it and pays one
share for sure; so the worst payoff is the NO shares plus what nature leaves of the
exposures. Nature is bounded by a list of states, or by facts with one multiplier
each: whatever the multipliers are, the bound they give holds, so they are a proof
that needs no solver to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csc_array

from markets.fills import LOT, SIZE_ONE, Ladder, depth_of
from rules.kernel.known import Known, Partition, States
from rules.kernel.plans import Offer
from rules.kernel.relations import Fact, State
from rules.kernel.walks import walk_equal, walk_unequal

FIRST_LEVELS = 3  # of each ladder; more where these are all bought
FIRST_STATES = 128  # what a program starts with; broken states are added as they are found
MORE_STATES = 64
_SLACK = 100  # 1e-4 share: what a solver's float may lack of a whole lot

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Step = tuple[Fact, int]  # a fact and its multiplier in 1e-6 shares


class SolverFailed(Exception):
    """The solver gave up on a program that has a solution."""


@dataclass(frozen=True, slots=True)
class Least:
    """The least that orders pay, in 1e-6 shares.

    Where the states are not listed, the steps of `proof` show that it is no less;
    the worst state may then pay more.
    """

    payoff: int
    proof: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is bought of each market, outcome 0 and outcome 1, in 1e-6 shares."""

    yes: Ints
    no: Ints

    @property
    def net(self) -> Ints:
        return self.yes - self.no

    def paid(self, states: States) -> Ints:
        """Return what it pays in each state."""
        paid: Ints = states @ self.net + self.no.sum()
        return paid


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a sparse matrix in the making, and the columns after the levels that they use."""

    row: Ints
    column: Ints
    value: Floats
    low: Floats
    high: Floats
    gain: Floats  # of the further columns
    least: Floats
    most: Floats


@dataclass(frozen=True, slots=True)
class _Levels:
    """Everything that is offered under 1 USD, level by level."""

    owner: Ints  # number of the offer
    position: Ints  # of its market
    yes: NDArray[np.bool_]  # outcome 0
    cost: Floats  # USD a share, fee included
    size: Floats  # shares


def best_sizes(known: Known, offers: Sequence[Offer], budget: float | None) -> list[int]:
    """Return the size of each offer, in 1e-6 shares, that gains most in the worst state."""
    if isinstance(known.shape, Partition):
        return _by_walks(known.shape, known, offers, budget)
    depths = [FIRST_LEVELS] * len(offers)
    while True:
        levels = _levels(known, offers, depths)
        if known.listed is None:
            bought = _solve(levels, _by_facts(known, levels), budget)
        else:
            bought = _over_states(levels, known.listed, budget)
        sizes = np.bincount(levels.owner, weights=bought, minlength=len(offers))
        # Only where all that was looked at is bought can there be a use for more of it.
        dry = [
            index
            for index, (each, depth) in enumerate(zip(offers, depths, strict=True))
            if len(each.ladder) > depth and sizes[index] >= _shares(each.ladder[:depth])
        ]
        if not dry:
            units = (int(size * SIZE_ONE + _SLACK) for size in sizes)
            return [min(u, depth_of(o.ladder)) for u, o in zip(units, offers, strict=True)]
        for index in dry:
            depths[index] = len(offers[index].ladder)


def _by_walks(
    partition: Partition, known: Known, offers: Sequence[Offer], budget: float | None
) -> list[int]:
    """Walk the ladders as for an event: the closed forms equal the program here."""
    number = {(known.position[o.terms.market_id], o.outcome): i for i, o in enumerate(offers)}
    best, gained = [0] * len(offers), 0.0
    for fact in partition.facts:
        wanted = [(at, 0 if true is not fact.most else 1) for at, true in fact.literals]
        sold = [number[outcome] for outcome in wanted if outcome in number]
        if not sold or (len(sold) < len(wanted) and not fact.most):
            continue
        walk = walk_unequal if fact.most else walk_equal
        ladders, tables = [offers[i].ladder for i in sold], [offers[i].table for i in sold]
        walked = walk(ladders, tables, budget=budget)
        if walked.profit > gained:
            best, gained = [0] * len(offers), walked.profit
            for index, size in zip(sold, walked.sizes, strict=True):
                best[index] = int(size)
    return best


def least_of(known: Known, exposure: Exposure) -> Least:
    """Return what is paid in the worst of all possible states, exactly."""
    if known.states is not None:
        return Least(int(exposure.paid(known.states).min()))
    steps = _proof(known, exposure.net)
    return Least(int(exposure.no.sum()) + bound(steps, exposure.net), steps)


def worst_state(known: Known, exposure: Exposure) -> State:
    """Return a state that pays the least."""
    if known.states is None:
        return _searched(known, exposure.net)
    worst = known.states[int(exposure.paid(known.states).argmin())]
    return tuple(map(bool, worst))


def exposure_of(known: Known, offers: Sequence[Offer], lots: Sequence[int]) -> Exposure:
    """Add up what orders buy of each market."""
    bought = np.zeros((2, len(known.members)), dtype=np.int64)
    for each, size in zip(offers, lots, strict=True):
        bought[each.outcome, known.position[each.terms.market_id]] += size
    return Exposure(bought[0], bought[1])


def centre(known: Known, lows: Sequence[float], highs: Sequence[float]) -> tuple[float, Floats]:
    """Find the probabilities deepest inside the bounds; return how deep, in USD, and them.

    A negative depth means that no possible probabilities fit the bounds: what
    can be bought at `highs` (YES) and 1 - `lows` (NO) pays for certain.
    """
    count = len(known.members)
    rows = _inside(known)
    height, columns = len(rows.low), count + len(rows.gain)
    markets, ones = np.arange(count), np.ones(count)
    depth = np.full(count, columns)  # the last column
    above, below = height + markets, height + count + markets  # rows of z - t and z + t
    row = np.concatenate([rows.row, above, above, below, below])
    column = np.concatenate([rows.column, markets, depth, markets, depth])
    value = np.concatenate([rows.value, ones, -ones, ones, ones])
    free = np.full(count, np.inf)
    answer = _milp(
        np.append(np.zeros(columns), -1.0),
        csc_array((value, (row, column)), shape=(height + 2 * count, columns + 1)),
        np.concatenate([rows.low, np.array(lows), -free]),
        np.concatenate([rows.high, free, np.array(highs)]),
        np.concatenate([np.zeros(count), rows.least, [-1.0]]),
        np.concatenate([np.ones(count), rows.most, [1.0]]),
    )
    return float(answer[-1]), answer[:count]


# --- the parts of a program ----------------------------------------------------------


def _levels(known: Known, offers: Sequence[Offer], depths: Sequence[int]) -> _Levels:
    """List the first levels of each offer that can pay: one of 1 USD or more never does."""
    rows = [
        (index, position, yes, table[price], size)
        for index, position, yes, table, ladder in (
            (i, known.position[o.terms.market_id], o.outcome == 0, o.table, o.ladder[:depth])
            for i, (o, depth) in enumerate(zip(offers, depths, strict=True))
        )
        for price, size in ladder
        if table[price] < 1.0
    ]
    owner, position, yes, cost, size = zip(*rows, strict=True) if rows else ((),) * 5
    return _Levels(
        np.array(owner, dtype=np.int64),
        np.array(position, dtype=np.int64),
        np.array(yes, dtype=np.bool_),
        np.array(cost, dtype=np.float64),
        np.array(size, dtype=np.float64) / SIZE_ONE,
    )


def _shares(ladder: Ladder) -> float:
    """Return what a ladder offers, less what a solver's float may be off by."""
    return depth_of(ladder) / SIZE_ONE * (1 - 1e-9) - 1e-7


def _solve(levels: _Levels, nature: _Rows, budget: float | None) -> Floats:
    """Return the shares to buy of each level."""
    count, height = len(levels.cost), len(nature.low)
    row, column, value = nature.row, nature.column, nature.value
    low, high = nature.low, nature.high
    if budget is not None:
        row = np.concatenate([row, np.full(count, height)])
        column = np.concatenate([column, np.arange(count)])
        value = np.concatenate([value, levels.cost])
        low, high, height = np.append(low, -np.inf), np.append(high, budget), height + 1
    width = count + len(nature.gain)
    answer = _milp(
        np.concatenate([levels.cost - ~levels.yes, -nature.gain]),
        csc_array((value, (row, column)), shape=(height, width)),
        low,
        high,
        np.concatenate([np.zeros(count), nature.least]),
        np.concatenate([levels.size, nature.most]),
    )
    return answer[:count]


def _by_facts(known: Known, levels: _Levels) -> _Rows:
    """One row a market: its multipliers stay within its exposure, a shortfall is paid for."""
    count, bought = len(known.members), len(levels.cost)
    row, column, value, gain = _multipliers(known.facts)
    markets = np.arange(count)
    facts = len(gain)
    return _Rows(
        row=np.concatenate([levels.position, row, markets]),
        column=np.concatenate([np.arange(bought), bought + column, bought + facts + markets]),
        value=np.concatenate([np.where(levels.yes, -1.0, 1.0), value, np.full(count, -1.0)]),
        low=np.full(count, -np.inf),
        high=np.zeros(count),
        gain=np.concatenate([gain, np.full(count, -1.0)]),
        least=np.zeros(facts + count),
        most=np.full(facts + count, np.inf),
    )


def _multipliers(facts: Sequence[Fact]) -> tuple[Ints, Ints, Floats, Floats]:
    """Return the entries (position, fact, value) of facts as `sum of value x truth >= gain`."""
    entries = [
        (position, number, 1.0 if wanted is not fact.most else -1.0)
        for number, fact in enumerate(facts)
        for position, wanted in fact.literals
    ]
    position, number, value = zip(*entries, strict=True) if entries else ((),) * 3
    return (
        np.array(position, dtype=np.int64),
        np.array(number, dtype=np.int64),
        np.array(value, dtype=np.float64),
        np.array([float(least_sum(fact)) for fact in facts]),
    )


def least_sum(fact: Fact) -> int:
    """Return the right side of a fact as a sum over truths that is at least this.

    A literal adds the truth of its outcome, or takes it where the opposite is
    wanted; "at most one" is turned round.
    """
    negative = sum(1 for _, wanted in fact.literals if not wanted)
    return negative - 1 if fact.most else 1 - negative


def _over_states(levels: _Levels, states: States, budget: float | None) -> Floats:
    """Solve over some states and add those that turn out worse than promised."""
    sign = np.where(levels.yes, 1.0, -1.0)
    used = np.arange(min(FIRST_STATES, len(states)))
    while True:
        bought = _solve(levels, _by_states(states[used], levels), budget)
        exposure = np.bincount(levels.position, weights=sign * bought, minlength=states.shape[1])
        paid = states @ exposure
        promised = float(paid[used].min())
        worst = np.argsort(paid, kind="stable")[:MORE_STATES]
        broken = worst[paid[worst] < promised - 1e-6 * max(1.0, float(bought.sum()))]
        fresh = np.setdiff1d(broken, used)
        if not len(fresh):
            return bought
        used = np.concatenate([used, fresh])


def _by_states(states: States, levels: _Levels) -> _Rows:
    """One row a market adds up its exposure; one row a state keeps the payoff within its own."""
    (height, count), bought = states.shape, len(levels.cost)
    state, true = np.nonzero(states)
    markets, rows = np.arange(count), count + np.arange(height)
    return _Rows(
        row=np.concatenate([levels.position, markets, count + state, rows]),
        column=np.concatenate(
            [np.arange(bought), bought + markets, bought + true, np.full(height, bought + count)]
        ),
        value=np.concatenate(
            [
                np.where(levels.yes, -1.0, 1.0),
                np.ones(count),
                np.full(len(true), -1.0),
                np.ones(height),
            ]
        ),
        low=np.concatenate([np.zeros(count), np.full(height, -np.inf)]),
        high=np.zeros(count + height),
        gain=np.append(np.zeros(count), 1.0),
        least=np.full(count + 1, -np.inf),
        most=np.full(count + 1, np.inf),
    )


def _inside(known: Known) -> _Rows:
    """Say which probabilities are possible: those of a mixture of states, or within the facts."""
    count = len(known.members)
    if known.listed is None:
        column, row, value, least = _multipliers(known.facts)
        none = np.zeros(0)
        return _Rows(row, column, value, least, np.full(len(least), np.inf), none, none, none)
    height = len(known.listed)
    state, true = np.nonzero(known.listed)
    markets = np.arange(count)
    return _Rows(
        row=np.concatenate([markets, true, np.full(height, count)]),
        column=np.concatenate([markets, count + state, count + np.arange(height)]),
        value=np.concatenate([np.ones(count), np.full(len(true), -1.0), np.ones(height)]),
        low=np.append(np.zeros(count), 1.0),
        high=np.append(np.zeros(count), 1.0),
        gain=np.zeros(height),
        least=np.zeros(height),
        most=np.ones(height),
    )


# --- the worst state where there are too many to list --------------------------------


def bound(steps: Sequence[Step], exposure: Sequence[int] | Ints) -> int:
    """Return what exposures pay at least, given facts with multipliers, in 1e-6 shares.

    Each fact, times its multiplier, says that some truths add up to something;
    what an exposure is short of that is lost at most once.
    """
    short = [-int(each) for each in exposure]
    sure = 0
    for fact, weight in steps:
        sure += weight * least_sum(fact)
        for position, wanted in fact.literals:
            short[position] += weight if wanted is not fact.most else -weight
    return sure - sum(each for each in short if each > 0)


def _proof(known: Known, exposure: Ints) -> tuple[Step, ...]:
    count, facts = len(known.members), len(known.facts)
    row, column, value, gain = _multipliers(known.facts)
    markets = np.arange(count)
    answer = _milp(
        np.concatenate([-gain, np.ones(count)]),
        csc_array(
            (
                np.concatenate([value, np.full(count, -1.0)]),
                (np.concatenate([row, markets]), np.concatenate([column, facts + markets])),
            ),
            shape=(count, facts + count),
        ),
        np.full(count, -np.inf),
        exposure / LOT,
        np.zeros(facts + count),
        np.full(facts + count, np.inf),
    )
    weights = [round(float(weight)) * LOT for weight in answer[:facts]]
    return tuple((f, weight) for f, weight in zip(known.facts, weights, strict=True) if weight)


def _searched(known: Known, exposure: Ints) -> State:
    row, column, value, least = _multipliers(known.facts)
    count = len(known.members)
    for whole in (False, True):  # a corner of the facts is mostly a state, and found sooner
        answer = _milp(
            exposure / LOT,
            csc_array((value, (column, row)), shape=(len(least), count)),
            least,
            np.full(len(least), np.inf),
            np.zeros(count),
            np.ones(count),
            whole=whole,
        )
        if np.abs(answer - np.round(answer)).max() < 1e-6:
            break
    return tuple(truth > 0.5 for truth in answer)


def _milp(
    cost: Floats,
    matrix: csc_array,
    low: Floats,
    high: Floats,
    least: Floats,
    most: Floats,
    *,
    whole: bool = False,
) -> Floats:
    """Minimise; raise `SolverFailed`. Presolve costs these small programs more than it saves."""
    answer = milp(
        cost,
        constraints=LinearConstraint(matrix, low, high),
        bounds=Bounds(least, most),
        integrality=np.full(len(cost), int(whole)),
        options={"presolve": whole},
    )
    if answer.x is None:
        raise SolverFailed(answer.message)
    found: Floats = answer.x
    return found
