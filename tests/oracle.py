"""The slow, obvious truth about a set of tokens: one linear program over every state.

Shares nothing with the kernel: costs come from Decimal arithmetic, every state has
its own row, every level its own column.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from scipy.optimize import linprog

from markets.fills import Fee, Ladder

State = Sequence[int]  # what one share of each token pays


def share_cost(price: int, fee: Fee) -> float:
    """Return what one share costs with its fee in USD, by Decimal."""
    p = Decimal(price) / 10_000
    return float(p + fee.rate * (p * (1 - p)) ** fee.exponent)


def best_profit(
    ladders: Sequence[Ladder],
    fees: Sequence[Fee],
    states: Sequence[State],
    budget: float | None = None,
) -> float:
    """Return the largest profit that is certain, in USD, sizes being any real number."""
    levels = [
        (token, share_cost(price, fee), size / 1e6)
        for token, (ladder, fee) in enumerate(zip(ladders, fees, strict=True))
        for price, size in ladder
    ]
    if not levels:
        return 0.0
    costs = [cost for _, cost, _ in levels]
    rows = [[-float(state[token]) for token, _, _ in levels] + [1.0] for state in states]
    most = [0.0] * len(rows)
    if budget is not None:
        rows.append([*costs, 0.0])
        most.append(budget)
    answer = linprog(
        [*costs, -1.0],
        A_ub=np.array(rows),
        b_ub=most,
        bounds=[(0.0, size) for _, _, size in levels] + [(0.0, None)],
        method="highs",
    )
    assert answer.success, answer.message
    return -float(answer.fun)


def one_true(count: int, *, or_none: bool) -> list[list[int]]:
    """Return the states of a set of which exactly one (or none) is true.

    Each state lists what the YES of every outcome pays, then every NO.
    """
    truths = [[int(i == winner) for i in range(count)] for winner in range(count)]
    if or_none:
        truths.append([0] * count)
    return [[*truth, *(1 - t for t in truth)] for truth in truths]
