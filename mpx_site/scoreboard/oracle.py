"""The slow, obvious truth about what could be had: one linear program over levels and states.

Shares nothing with the detectors' kernel: costs come from the exam's own Decimal
arithmetic, every state has its own row, every level its own column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp

from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from markets.simulator.exam import Case, Charge, Stake, States

Floats = NDArray[np.float64]
Asks = tuple[Ladder, Ladder]
Token = tuple[str, int]  # market, outcome

USD = 10**12  # the exam counts costs in 1e-12 USD
NOTHING: Asks = ((), ())
FIRST_STATES = 200  # rows a program begins with; broken ones are added as they are found
MORE_STATES = 50
LEAST_SHARES, LEAST_USD = 5.0, 1.0  # of one order, before fees
CRUMB = 1e-6  # shares; what a solver leaves behind
# Of plans that gain the same the largest counts, as the desk's own contract says (DESIGN 5: every
# level with a margin that is not negative); so much of a dollar may a plan lose by that.
GENEROUS = 1e-6


class OracleFailed(Exception):
    """The solver gave no answer to a program that has one."""


@dataclass(frozen=True, slots=True)
class Best:
    """The most that could be gained for certain, USD and shares.

    `small` says that it needs an order which the venue refuses as too small.
    """

    profit: float
    cost: float
    sizes: Mapping[Token, float]
    small: bool

    @property
    def edge_bps(self) -> float:
        return 10_000 * self.profit / self.cost if self.cost else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A time (unix ns, receive times) in which something could be had without a break."""

    stake: Stake
    opened_at: int
    closed_at: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is worth telling: profit in USD and edge in basis points, and what may be spent."""

    min_profit: float
    min_edge_bps: float
    capital: float | None = None

    def reached(self, best: Best | None, *, slack: float = 1.0) -> bool:
        """Say whether a gain is worth telling; a `slack` above 1 asks for more than that."""
        if best is None or best.profit < slack * self.min_profit - 1e-9:
            return False
        return best.edge_bps >= slack * self.min_edge_bps - 1e-6


@dataclass(frozen=True, slots=True)
class _Levels:
    """Every level that is offered: whose it is, what it costs, how much there is."""

    tokens: list[Token]
    column: NDArray[np.int64]  # of its market among the states
    side: Floats
    price: Floats  # USD
    cost: Floats  # with fee
    size: Floats  # shares

    def pays(self, states: States) -> Floats:
        """What one share of each level pays in each state."""
        paid: Floats = self.side + (1.0 - 2.0 * self.side) * states[:, self.column]
        return paid

    def paid(self, states: States, bought: Floats) -> Floats:
        """What shares of the levels pay together in each state."""
        held = np.zeros(states.shape[1])
        np.add.at(held, self.column, (1.0 - 2.0 * self.side) * bought)
        paid: Floats = states @ held + self.side @ bought
        return paid


def best(
    stake: Stake, asks: Mapping[str, Asks], charges: Mapping[str, Charge], capital: float | None
) -> Best:
    """Return the plan that gains most in the worst of a stake's states, sizes being any number."""
    rows = [
        (column, market_id, side, price, size)
        for column, market_id in enumerate(stake.market_ids)
        for side in stake.sides
        for price, size in asks.get(market_id, NOTHING)[side]
    ]
    if not rows:
        return Best(0.0, 0.0, {}, False)
    levels = _Levels(
        tokens=[(market, side) for _, market, side, *_ in rows],
        column=np.array([column for column, *_ in rows]),
        side=np.array([float(side) for _, _, side, *_ in rows]),
        price=np.array([price / PRICE_ONE for *_, price, _ in rows]),
        cost=np.array([charges[market].cost(price) / USD for _, market, _, price, _ in rows]),
        size=np.array([size / SIZE_ONE for *_, size in rows]),
    )
    return _told(levels, stake.states, _solved(levels, stake.states, capital))


def _told(levels: _Levels, states: States, bought: Floats) -> Best:
    taken: dict[Token, float] = {}
    spent: dict[Token, float] = {}
    for token, price, size in zip(levels.tokens, levels.price, bought.tolist(), strict=True):
        if size > CRUMB:
            taken[token] = taken.get(token, 0.0) + size
            spent[token] = spent.get(token, 0.0) + size * float(price)
    small = any(
        size < LEAST_SHARES - 1e-6 or spent[token] < LEAST_USD - 1e-6
        for token, size in taken.items()
    )
    cost = float(levels.cost @ bought)
    return Best(float(levels.paid(states, bought).min()) - cost, cost, taken, small)


def _solved(levels: _Levels, states: States, capital: float | None) -> Floats:
    """Solve over some states, and again with those that turn out to pay less than promised."""
    used = np.linspace(0, len(states) - 1, min(FIRST_STATES, len(states))).astype(int)
    while True:
        bought, promised = _program(levels, levels.pays(states[used]), capital)
        paid = levels.paid(states, bought)
        worst = np.argsort(paid, kind="stable")[:MORE_STATES]
        broken = np.setdiff1d(worst[paid[worst] < promised - 1e-7], used)
        if not len(broken):
            return bought
        used = np.concatenate([used, broken])


def _program(levels: _Levels, pays: Floats, capital: float | None) -> tuple[Floats, float]:
    rows, most = np.hstack([-pays, np.ones((len(pays), 1))]), np.zeros(len(pays))
    if capital is not None:
        rows, most = np.vstack([rows, np.append(levels.cost, 0.0)]), np.append(most, capital)
    answer = milp(  # no whole numbers in it: HiGHS with less around it than `linprog`
        np.append(levels.cost * (1.0 - GENEROUS), -1.0),
        constraints=LinearConstraint(rows, -np.inf, most),
        bounds=Box(0.0, np.append(levels.size, np.inf)),
        options={"presolve": False},
    )
    if answer.x is None:
        raise OracleFailed(answer.message)
    return answer.x[:-1], float(answer.x[-1])


# --- over time -----------------------------------------------------------------------


class Market:
    """All that a case offers, moment by moment."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._capital = None if case.capital is None else float(case.capital)
        self._touches: dict[tuple[Asks, ...], bool] = {}  # those that were looked at

    def windows(self, bounds: Bounds) -> Iterator[tuple[Window, bool]]:
        """Yield every window in which something was worth telling.

        The flag says that it has to be told: clear of the bounds, with no order
        too small, for at least a second without a break.
        """
        for stake in self.case.stakes:
            course = list(self._course(stake))
            least = [bounds.reached(best) for _, best in course]
            clear = [
                best is not None and not best.small and bounds.reached(best, slack=1.02)
                for _, best in course
            ]
            times = [t for t, _ in course]
            for opened_at, closed_at in _runs(times, least):
                inside = [
                    flag and opened_at <= t < closed_at
                    for t, flag in zip(times, clear, strict=True)
                ]
                long = any(end - begun >= 10**9 for begun, end in _runs(times, inside))
                yield Window(stake, opened_at, closed_at), long

    def at(self, stake: Stake, t: int) -> Best | None:
        """Return the best plan at a time, None where nothing can be gained."""
        asks: dict[str, Asks] = {}
        for row in self.case.quoted:
            if row.t > t:
                break
            asks[row.market_id] = row.asks
        return self._best(stake, asks)

    def asks_at(self, market_id: str, t: int) -> Asks:
        """Return what a market offered at a time."""
        found = [row.asks for row in self.case.quoted if row.market_id == market_id and row.t <= t]
        return found[-1] if found else NOTHING

    def _course(self, stake: Stake) -> Iterator[tuple[int, Best | None]]:
        """Yield the best plan after each moment at which a market changed, once all are quoted."""
        asks: dict[str, Asks] = {}
        held = set(stake.market_ids)
        rows = (row for row in self.case.quoted if row.market_id in held)
        for t, together in groupby(rows, key=lambda row: row.t):
            asks |= {row.market_id: row.asks for row in together}
            if len(asks) == len(held):
                yield t, self._best(stake, asks)

    def _best(self, stake: Stake, asks: Mapping[str, Asks]) -> Best | None:
        if not self._touch_pays(stake, asks):
            return None
        found = best(stake, asks, self.case.charges, self._capital)
        return found if found.profit > 0 else None

    def _touch_pays(self, stake: Stake, asks: Mapping[str, Asks]) -> bool:
        """Say whether the first share of each pays: if none does, no depth can."""
        tops = [
            [
                ladder[0][0] if (ladder := asks.get(market, NOTHING)[side]) else None
                for side in stake.sides
            ]
            for market in stake.market_ids
        ]
        costs = [
            [None if top is None else self.case.charges[market].cost(top) for top in row]
            for market, row in zip(stake.market_ids, tops, strict=True)
        ]
        if stake.kind == "yes_basket":
            firsts = [row[0] for row in costs]
            return None not in firsts and sum(filter(None, firsts)) < USD
        if stake.kind == "no_basket":
            return sum(max(0, USD - row[0]) for row in costs if row[0] is not None) > USD
        single = {
            market: (_first(asks, market, 0), _first(asks, market, 1))
            for market in stake.market_ids
        }
        key = tuple(single.values())
        if key not in self._touches:
            gain = best(stake, single, self.case.charges, None).profit
            self._touches[key] = gain > 1e-9
        return self._touches[key]


def _first(asks: Mapping[str, Asks], market: str, side: int) -> Ladder:
    return tuple((price, SIZE_ONE) for price, _ in asks.get(market, NOTHING)[side][:1])


def _runs(times: list[int], flags: Iterable[bool]) -> Iterator[tuple[int, int]]:
    """Yield from when to when a flag held; the last moment lasts no time."""
    begun: int | None = None
    for t, flag in zip(times, flags, strict=True):
        if flag and begun is None:
            begun = t
        if not flag and begun is not None:
            yield begun, t
            begun = None
    if begun is not None:
        yield begun, times[-1]
