"""How many shares pay: the float walks over ladders that find a basket's optimum (pure).

Each walk equals the linear program of `detection.md` 2.5 on its structure. Sizes
are ints in 1e-6 shares; `cost_table` turns a price into the cost of a share.
Levels with a margin of exactly zero are taken too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

from markets.fills import SIZE_ONE, Ladder

# Fee schedules in use give margins in steps of 5e-10 USD or more; a sum of a
# hundred floats is off by 1e-13 at most.
ZERO = 1e-11

Table = Sequence[float]


@dataclass(frozen=True, slots=True)
class Walk:
    """Sizes per leg in 1e-6 shares; cost with fees and worst payoff in USD."""

    sizes: tuple[float, ...]
    cost: float
    payoff: float

    @property
    def profit(self) -> float:
        return self.payoff - self.cost


def walk_equal(
    ladders: Sequence[Ladder], tables: Sequence[Table], *, budget: float | None = None
) -> Walk:
    """Buy the same size of every leg while one more of each costs at most 1 USD.

    The payoff is the common size: exactly one leg (or one of two sides) will pay.
    With a budget the walk is cut where the money ends, which is optimal here
    because every further share has the same payoff and a higher cost.
    """
    total = sum(table[ladder[0][0]] for ladder, table in zip(ladders, tables, strict=True))
    heap = [(ladder[0][1], leg, 0) for leg, ladder in enumerate(ladders)]
    heapify(heap)
    size, spent = 0, 0.0
    while total <= 1.0 + ZERO:
        until, leg, level = heap[0]
        step = (until - size) * total / SIZE_ONE
        if budget is not None and spent + step > budget:
            reach = size + (budget - spent) / total * SIZE_ONE
            return Walk((reach,) * len(ladders), budget, reach / SIZE_ONE)
        size, spent = until, spent + step
        ladder, table = ladders[leg], tables[leg]
        if level + 1 == len(ladder):
            break
        price, amount = ladder[level + 1]
        total += table[price] - table[ladder[level][0]]
        heapreplace(heap, (until + amount, leg, level + 1))
    return Walk((size,) * len(ladders), spent, size / SIZE_ONE)


def walk_unequal(
    ladders: Sequence[Ladder], tables: Sequence[Table], *, budget: float | None = None
) -> Walk:
    """Buy NO of outcomes of which at most one can be true, each as far as it pays.

    In the worst state the largest leg is lost, so the payoff is the sum of the
    sizes less the largest. Legs that run dry drop out and the rest goes on,
    hence unequal sizes. A budget is shared out by `_within`.
    """
    best = _walk_priced(ladders, tables, 1.0)
    if budget is None or best.cost <= budget:
        return best
    return _within(ladders, tables, best, budget)


def cost_of(ladder: Ladder, table: Table, size: float) -> float:
    """Return what `size` costs with fees, in USD, by floats; no more than the ladder has."""
    spent = 0.0
    for price, available in ladder:
        if size <= available:
            return (spent + table[price] * size) / SIZE_ONE
        spent += table[price] * available
        size -= available
    return spent / SIZE_ONE


def _walk_priced(ladders: Sequence[Ladder], tables: Sequence[Table], money: float) -> Walk:
    """Walk NO legs where a dollar spent counts as `money` (1 + the multiplier of a budget)."""
    ends: list[int | None] = [0] * len(ladders)  # where a leg stopped; None: it goes on
    heap: list[tuple[int, int, int]] = []
    gain = 0.0
    for leg, (ladder, table) in enumerate(zip(ladders, tables, strict=True)):
        if ladder and (margin := 1.0 - money * table[ladder[0][0]]) > 0:
            gain += margin
            ends[leg] = None
            heap.append((ladder[0][1], leg, 0))
    heapify(heap)
    size = 0
    while heap and gain >= 1.0 - ZERO:
        size, leg, level = heap[0]
        ladder, table = ladders[leg], tables[leg]
        gain -= 1.0 - money * table[ladder[level][0]]
        price, amount = ladder[level + 1] if level + 1 < len(ladder) else (0, 0)
        margin = 1.0 - money * table[price]
        if amount and margin > 0:
            gain += margin
            heapreplace(heap, (size + amount, leg, level + 1))
        else:
            ends[leg] = size
            heappop(heap)
    sizes = tuple(size if end is None else end for end in ends)
    return _walked(ladders, tables, sizes)


def _walked(ladders: Sequence[Ladder], tables: Sequence[Table], sizes: tuple[float, ...]) -> Walk:
    cost = sum(map(cost_of, ladders, tables, sizes))
    return Walk(sizes, cost, (sum(sizes) - max(sizes, default=0)) / SIZE_ONE)


def _within(ladders: Sequence[Ladder], tables: Sequence[Table], rich: Walk, budget: float) -> Walk:
    """Return the best plan that costs exactly `budget`; `rich` is the best of any cost.

    Cutting the walk short is not optimal: NO legs near 1 USD eat capital. Profit
    over cost is concave with straight pieces whose ends are the optima for some
    price of money, so a price aimed at the piece above the budget either finds a
    better end or proves that the piece is the last. Plans mix, because cost is
    convex and the worst payoff concave in the sizes.
    """
    poor = Walk((0,) * len(ladders), 0.0, 0.0)
    while True:
        price = (rich.profit - poor.profit) / (rich.cost - poor.cost)
        middle = _walk_priced(ladders, tables, 1.0 + price)
        above = middle.profit - poor.profit - price * (middle.cost - poor.cost)
        if above <= 1e-12 * max(1.0, rich.payoff):
            break
        rich, poor = (middle, poor) if middle.cost > budget else (rich, middle)
    share = (budget - poor.cost) / (rich.cost - poor.cost)
    sizes = tuple(a + share * (b - a) for a, b in zip(poor.sizes, rich.sizes, strict=True))
    return _walked(ladders, tables, sizes)
