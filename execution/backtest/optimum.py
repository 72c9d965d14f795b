"""The most that could be gained for certain at one moment, by a linear program (pure).

A second opinion: it knows the books and the states that are possible, and nothing of how
the rules look for baskets. Sizes may be any number, so no rounding can beat it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from markets.fills import FREE, SIZE_ONE, cost_table
from markets.listing import EventTerms
from rules.kernel.baskets import missing_legs, yes_outcome
from rules.kernel.finding import MarketView

States = NDArray[np.float64]  # a row for each state: what a share of outcome 0 of each market pays
MOST_STATES = 5_000


def optimum(views: Sequence[MarketView], states: States) -> float | None:
    """Return the best guaranteed gain in USD; None where the solver gave no answer.

    `views` are the markets in the order of the states' columns.
    """
    columns, costs, sizes = [], [], []
    for column, view in enumerate(views):
        table = cost_table(view.terms.fee or FREE)
        for outcome in (0, 1):
            for price, size in view.asks[outcome]:
                if table[price] < 1.0:
                    columns.append((column, outcome))
                    costs.append(table[price])
                    sizes.append(size / SIZE_ONE)
    if not columns:
        return 0.0
    pays = np.column_stack(
        [
            states[:, column] if outcome == 0 else 1 - states[:, column]
            for column, outcome in columns
        ]
    )
    return _solved(pays, np.array(costs), np.array(sizes))


def _solved(
    pays: NDArray[np.float64], costs: NDArray[np.float64], sizes: NDArray[np.float64]
) -> float | None:
    """Maximise z - cost where no state pays less than z."""
    rows = np.hstack([-pays, np.ones((len(pays), 1))])
    answer = linprog(
        np.append(costs, -1.0),
        A_ub=rows,
        b_ub=np.zeros(len(rows)),
        bounds=[*((0.0, size) for size in sizes), (0.0, None)],
        method="highs",
    )
    return max(0.0, -float(answer.fun)) if answer.success else None


def event_states(event: EventTerms) -> tuple[list[int], States] | None:
    """Return which markets of a neg-risk event are open and the states they allow.

    One of them is true, or none where the listed ones are not exhaustive. None: too many.
    """
    still = [number for number, market in enumerate(event.markets) if market.payout is None]
    if not still or len(still) > MOST_STATES:
        return None
    decided = any(
        market.payout is not None and market.payout == (1 if yes_outcome(market) == 0 else 0)
        for market in event.markets
    )
    exhaustive = event.complete and not event.augmented and not missing_legs(event)
    rows = [] if decided else [np.eye(len(still))[number] for number in range(len(still))]
    if decided or not exhaustive:
        rows.append(np.zeros(len(still)))
    yes = np.array(rows)
    for place, number in enumerate(still):
        if yes_outcome(event.markets[number]) == 1:
            yes[:, place] = 1 - yes[:, place]
    return still, yes


def pair_states() -> States:
    """Return the states of a market on its own."""
    return np.array([[1.0], [0.0]])
