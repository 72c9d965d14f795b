"""Plans: what exactly is to be bought for a signal, and what it may cost at most (pure).

All legs are sized in shares by the kernel, on the books as they are now, within
the policy's capital. A limit is the dearest level that the walk took, never
further above the touch than the slippage allows. The walk takes a level only
while the basket still pays, so a basket that fills within its limits cannot lose.
A bet is one leg, at most as large as its rule sizes it; all of its cost can be lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any, Literal

from execution.bets import BETS, Bet, bet_of
from execution.matching import MAX_LEVELS, price_units, reach, size_units
from markets.fills import (
    FEE_STEP,
    FREE,
    PRICE_ONE,
    SIZE_ONE,
    Ladder,
    buy,
    depth_of,
    down_to_lot,
    fee_charged,
    shares,
    usd_price,
)
from markets.listing import MarketTerms
from rules.kernel import plans as kernel
from rules.kernel.finding import Leg, MarketView, usd
from rules.kernel.plans import Offer, annualised, gates_of, offer, price_plan
from rules.kernel.walks import walk_equal, walk_unequal

Structure = Literal["equal", "unequal", "fixed", "bet"]
_EQUAL = frozenset({"binary", "yes_basket", "exhaustive"})
_UNEQUAL = frozenset({"no_basket", "exclusive"})
_BPS = Decimal("0.01")
_TRIES = 12

NO_PLAN = {
    "not_certain": "it is a direction, not an order: nothing here is certain to pay",
    "insufficient_data": "it is a bet with too little history to size it",
    "other_band": "it is a bet whose price is not the one that its history was asked about",
    "held": "it is a bet, and as much is held as its rule would bet",
    "edge_gone": "it does not pay any more at the live books",
    "one_sided": "a leg has no offer within its limit or the slippage",
    "book_not_fresh": "a leg's book is not fresh",
    "min_size": "a leg would be under the market's minimum",
    "not_tradable": "a market does not take orders",
    "unknown_fee": "a market's fee is not known",
    "no_book": "no live book is kept for a leg",
    "no_capital": "there is no capital left for it",
}

# What to do about what does not pass by waiting for the market.
ADVICE = {
    "not_certain": "Look at its market and judge yourself; the desk buys baskets and sized bets.",
    "insufficient_data": "Leave it; history grows with every market that resolves.",
    "held": "Leave it until it resolves.",
}


@dataclass(frozen=True, slots=True)
class BasisLeg:
    """One leg of the signal. `size` in 1e-6 shares."""

    token_id: str
    market_id: str
    outcome: str
    size: int


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan is made for: a signal's finding.

    `payoff` in 1e-6 USD at the legs' sizes; of a `bet` it is what it returns on average.
    """

    signal_key: str
    rule: str
    kind: str
    event_id: str | None
    instant: bool
    conditions: tuple[str, ...]
    worst_state: str
    payoff: int
    legs: tuple[BasisLeg, ...]
    bet: Bet | None = None
    blocked_by: tuple[str, ...] = ()

    @property
    def refusal(self) -> tuple[str, ...]:
        """Return why no order is made of it on any book, as keys of `NO_PLAN`; empty if one is."""
        if self.bet is not None:
            return () if self.legs[0].size else ("held",)
        if self.kind in BETS and self.blocked_by:
            return self.blocked_by
        return () if self.payoff > 0 and len(self.legs) > 1 else ("not_certain",)

    def beside(self, held: Decimal) -> Basis:
        """Return a bet less what is held of its outcome already (shares)."""
        leg = self.legs[0]
        left = max(leg.size - size_units(held), 0)
        payoff = self.payoff * left // leg.size
        return replace(self, payoff=payoff, legs=(replace(leg, size=left),))

    @property
    def structure(self) -> Structure:
        """Say how sizes and payoff hang together.

        Legs of equal size that pay their size stay so at any common size. Where
        only the proportions are known to pay, they are kept.
        """
        if self.bet is not None:
            return "bet"
        if self.kind in _EQUAL:
            return "equal"
        if self.kind in _UNEQUAL:
            return "unequal"
        sizes = {leg.size for leg in self.legs}
        return "equal" if sizes == {self.payoff} else "fixed"


def basis_of(*, signal_key: str, rule: str, payload: Mapping[str, Any]) -> Basis:
    """Read a signal's payload, which is a finding as `Finding.explained` wrote it."""
    bet, sure = bet_of(payload), Decimal(payload["min_payoff"])
    return Basis(
        signal_key=signal_key,
        rule=rule,
        kind=str(payload["kind"]),
        event_id=payload["event_id"],
        instant=bool(payload["instant"]),
        conditions=tuple(payload["conditions"]),
        worst_state=str(payload["certificate"]["worst_state"]),
        payoff=size_units(bet.worth * Decimal(payload["legs"][0]["size"]) if bet else sure),
        legs=tuple(
            BasisLeg(
                leg["token_id"], leg["market_id"], leg["outcome"], size_units(Decimal(leg["size"]))
            )
            for leg in payload["legs"]
        ),
        bet=bet,
        blocked_by=tuple(payload["blocked_by"]),
    )


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a leg's market now.

    `ladder` is what can be bought of the outcome, best first, less what we have
    taken ourselves. `epoch` and `age_ms` are None when no live book is kept.
    """

    terms: MarketTerms
    outcome: int
    ladder: Ladder
    book_state: str
    epoch: int | None
    age_ms: int | None

    @property
    def label(self) -> str:
        return f"{self.terms.label or self.terms.question} {self.terms.outcomes[self.outcome]}"


@dataclass(frozen=True, slots=True)
class PlannedLeg:
    """One order. Sizes in shares, money in USD; `max_cost` is what it costs at its limit."""

    number: int
    token_id: str
    market_id: str
    outcome_index: int
    outcome: str
    label: str
    size: Decimal
    avg_price: Decimal  # expected, without fee
    limit_price: Decimal
    fee: Decimal  # expected
    cost: Decimal  # expected, fee included
    max_cost: Decimal
    touch: Decimal  # best price when planned
    epoch: int | None
    takes: tuple[tuple[Decimal, Decimal, Decimal], ...] = ()  # per level: price, size, fee
    basis_size: Decimal = Decimal(0)

    def signed(self) -> dict[str, object]:
        """Return what is ordered: no expectation is in it."""
        return {
            "token_id": self.token_id,
            "market_id": self.market_id,
            "outcome_index": self.outcome_index,
            "side": "BUY",
            "size": f"{self.size:.2f}",
            "limit_price": f"{self.limit_price:.4f}",
            "max_cost": usd(self.max_cost),
        }

    def row(self) -> dict[str, object]:
        return {
            **self.signed(),
            "number": self.number,
            "outcome": self.outcome,
            "label": self.label,
            "avg_price": usd(self.avg_price),
            "fee": usd(self.fee),
            "cost": usd(self.cost),
            "touch": f"{self.touch:.4f}",
            "epoch": self.epoch,
            "takes": [[str(price), f"{size:.2f}", str(fee)] for price, size, fee in self.takes],
            "basis_size": f"{self.basis_size:.2f}",
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Orders for all legs. Approval signs `hash`, which covers what can be spent and bought.

    `notional` is the most it can cost. `worst_loss` is what is lost if only the
    legs fill that the worst state does not pay. `bound_by` names what keeps it
    from being larger. `expected_gain` is what a bet earns on average; None of a basket.
    """

    signal_key: str
    rule: str
    kind: str
    structure: Structure
    event_id: str | None
    legs: tuple[PlannedLeg, ...]
    cost: Decimal
    fees: Decimal
    notional: Decimal
    min_payoff: Decimal
    worst_loss: Decimal
    worst_case: str
    worst_state: str
    instant: bool
    annualised_pct: Decimal | None
    conditions: tuple[str, ...]
    bound_by: Literal["capital", "depth"]
    basis_payoff: Decimal
    bet: Bet | None = None
    expected_gain: Decimal | None = None

    @property
    def profit(self) -> Decimal:
        """Return the expected profit in the worst state."""
        return self.min_payoff - self.cost

    @property
    def edge_bps(self) -> Decimal:
        return (self.profit / self.cost * 10_000).quantize(_BPS, ROUND_HALF_EVEN)

    def signed(self) -> dict[str, object]:
        return {
            "schema": 1,
            "signal": self.signal_key,
            "kind": self.kind,
            "structure": self.structure,
            "legs": [leg.signed() for leg in self.legs],
            "notional": usd(self.notional),
            "min_payoff": usd(self.min_payoff),
            "worst_loss": usd(self.worst_loss),
        }

    def canonical(self) -> str:
        """Return the JSON that is signed: sorted keys, no spaces."""
        return json.dumps(self.signed(), sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def row(self) -> dict[str, object]:
        """Return everything, as it is stored and shown; money as text."""
        yearly = self.annualised_pct
        return {
            **self.signed(),
            "hash": self.hash,
            "rule": self.rule,
            "event_id": self.event_id,
            "legs": [leg.row() for leg in self.legs],
            "cost": usd(self.cost),
            "fees": usd(self.fees),
            "profit": usd(self.profit),
            "edge_bps": str(self.edge_bps),
            "worst_case": self.worst_case,
            "worst_state": self.worst_state,
            "instant": self.instant,
            "annualised_pct": None if yearly is None else str(yearly),
            "conditions": list(self.conditions),
            "bound_by": self.bound_by,
            "basis_payoff": usd(self.basis_payoff),
            "bet": dict(self.bet.facts) if self.bet else None,
            "expected_gain": None if self.expected_gain is None else usd(self.expected_gain),
        }

    @property
    def found(self) -> str:
        """Say what there is in it, for the check that it can be executed."""
        if self.expected_gain is None:
            return f"{self.profit:.2f} USD, {self.edge_bps} bps"
        return f"a bet: {self.notional:.2f} USD can be lost, {self.expected_gain:.2f} USD expected"

    def payoff_of(self, sizes: Sequence[Decimal]) -> Decimal:
        """Return the worst payoff of these sizes of the legs, in their order."""
        if self.bet:
            return Decimal(0)
        units = [size_units(size) for size in sizes]
        basis = [size_units(leg.basis_size) for leg in self.legs]
        return shares(_payoff(self.structure, basis, size_units(self.basis_payoff))(units))


def read_plan(row: Mapping[str, Any]) -> Plan:
    """Return a stored plan as it was."""
    yearly, facts, gain = row["annualised_pct"], row.get("bet"), row.get("expected_gain")
    return Plan(
        signal_key=row["signal"],
        rule=row["rule"],
        kind=row["kind"],
        structure=row["structure"],
        event_id=row["event_id"],
        legs=tuple(_read_leg(leg) for leg in row["legs"]),
        cost=Decimal(row["cost"]),
        fees=Decimal(row["fees"]),
        notional=Decimal(row["notional"]),
        min_payoff=Decimal(row["min_payoff"]),
        worst_loss=Decimal(row["worst_loss"]),
        worst_case=row["worst_case"],
        worst_state=row["worst_state"],
        instant=row["instant"],
        annualised_pct=None if yearly is None else Decimal(yearly),
        conditions=tuple(row["conditions"]),
        bound_by=row["bound_by"],
        basis_payoff=Decimal(row["basis_payoff"]),
        bet=None if facts is None else Bet(facts),
        expected_gain=None if gain is None else Decimal(gain),
    )


def _read_leg(row: Mapping[str, Any]) -> PlannedLeg:
    numbers = ("size", "avg_price", "limit_price", "fee", "cost", "max_cost", "touch")
    return PlannedLeg(
        number=row["number"],
        token_id=row["token_id"],
        market_id=row["market_id"],
        outcome_index=row["outcome_index"],
        outcome=row["outcome"],
        label=row["label"],
        epoch=row["epoch"],
        takes=tuple((Decimal(p), Decimal(s), Decimal(f)) for p, s, f in row["takes"]),
        basis_size=Decimal(row["basis_size"]),
        **{name: Decimal(row[name]) for name in numbers},
    )


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Nothing can be planned; `reasons` are keys of `NO_PLAN`."""

    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        return "; ".join(NO_PLAN.get(reason, reason) for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two plans."""

    what: str
    old: str
    new: str


def make_plan(
    basis: Basis,
    sights: Mapping[str, Sight],
    *,
    capital: Decimal,
    slippage_bps: int,
    at: datetime,
) -> Plan | NoPlan:
    """Plan a signal on the books as they are; `sights` are by token id.

    `capital` bounds the most that the plan can cost (USD).
    """
    if basis.refusal:
        return NoPlan(basis.refusal)
    if capital <= 0:
        return NoPlan(("no_capital",))
    seen = [sights.get(leg.token_id) for leg in basis.legs]
    held = [each for each in seen if each is not None]
    if len(held) < len(seen):
        return NoPlan(("no_book",))
    limit = price_units(Decimal(basis.bet.facts["limit"])) if basis.bet else PRICE_ONE
    wanted = [_Wanted(leg, sight, _offer(sight, slippage_bps, limit)) for leg, sight in
              zip(basis.legs, held, strict=True)]  # fmt: skip
    if basis.structure == "unequal":
        wanted = [each for each in wanted if each.offer.ladder and not each.offer.gates]
    reasons = _obstacles(basis, wanted)
    if reasons:
        return NoPlan(reasons)
    return _within(basis, wanted, capital=capital, at=at)


@dataclass(frozen=True, slots=True)
class _Wanted:
    leg: BasisLeg
    sight: Sight
    offer: Offer


def _offer(sight: Sight, slippage_bps: int, limit: int) -> Offer:
    """Return what may be bought of an outcome: no level beyond the slippage or a limit."""
    terms, ladder = sight.terms, sight.ladder
    if ladder:
        highest = reach(ladder[0][0], slippage_bps=slippage_bps, tick=terms.tick)
        highest = min(highest, limit)
        ladder = tuple(level for level in ladder if level[0] <= highest)[:MAX_LEVELS]
    problems = () if sight.book_state == "fresh" else ("book_not_fresh",)
    asks = (ladder, ()) if sight.outcome == 0 else ((), ladder)
    view = MarketView(terms, asks, problems)
    return offer(view, sight.outcome, gates_of(view))


def _obstacles(basis: Basis, wanted: Sequence[_Wanted]) -> tuple[str, ...]:
    found = {gate for each in wanted for gate in each.offer.gates}
    touch = wanted[0].sight.ladder[:1] if wanted else ()
    if basis.bet and touch and not basis.bet.covers(touch[0][0]):
        return ("other_band",)
    if len(wanted) < min(2, len(basis.legs)) or any(not each.offer.ladder for each in wanted):
        found.add("one_sided")
    return tuple(sorted(found))


def _within(
    basis: Basis, wanted: list[_Wanted], *, capital: Decimal, at: datetime
) -> Plan | NoPlan:
    """Draw plans with less and less budget until the most they can cost fits the capital."""
    budget, bound_by = capital, "depth"
    for _ in range(_TRIES):
        drawn, wanted = _draw(basis, wanted, budget)
        if drawn is None:
            return NoPlan(("edge_gone",))
        if "min_size" in drawn.gates:
            return NoPlan(("min_size",))
        plan = _written(basis, wanted, drawn, at=at)
        if plan.notional <= capital:
            tight = bound_by == "capital" or drawn.cost > budget * Decimal("0.99")
            return replace(plan, bound_by="capital" if tight else "depth")
        budget, bound_by = min(budget, drawn.cost) * capital / plan.notional, "capital"
    return NoPlan(("no_capital",))


def _draw(
    basis: Basis, wanted: list[_Wanted], budget: Decimal
) -> tuple[kernel.Plan | None, list[_Wanted]]:
    """Size the legs by the kernel; a basket of unequal legs goes on without those too small."""
    while True:
        offers = [each.offer for each in wanted]
        payoff = _payoff(basis.structure, [each.leg.size for each in wanted], basis.payoff)
        sizes = _sizes(basis, wanted, float(budget))
        plan = price_plan(offers, sizes, payoff_of=payoff, capital=budget)
        if plan is None or basis.structure != "unequal":
            return plan, wanted
        small = [
            (size, each.terms.market_id)
            for each, size, refused in zip(plan.offers, plan.sizes, plan.refused(), strict=True)
            if refused
        ]
        if not small:
            return plan, wanted
        wanted = [each for each in wanted if each.leg.market_id != min(small)[1]]
        if len(wanted) < 2:
            return None, wanted


def _sizes(basis: Basis, wanted: Sequence[_Wanted], budget: float) -> Sequence[float]:
    ladders = [each.offer.ladder for each in wanted]
    tables = [each.offer.table for each in wanted]
    if basis.structure == "equal":
        return walk_equal(ladders, tables, budget=budget).sizes
    if basis.structure == "unequal":
        return walk_unequal(ladders, tables, budget=budget).sizes
    return _proportional([each.leg.size for each in wanted], wanted, budget)


def _proportional(sizes: Sequence[int], wanted: Sequence[_Wanted], budget: float) -> list[float]:
    """Keep the proportions of the signal, as far as depth and budget go."""
    share = min(
        1.0, *(depth_of(each.offer.ladder) / size for each, size in zip(wanted, sizes, strict=True))
    )
    cost = sum(
        each.offer.top_cost * size * share / SIZE_ONE
        for each, size in zip(wanted, sizes, strict=True)
    )
    share *= min(1.0, budget / cost)
    return [size * share for size in sizes]


def _payoff(
    structure: Structure, basis: Sequence[int], payoff: int
) -> Callable[[Sequence[int]], int]:
    """Return the function from sizes to their worst payoff, both in 1e-6."""
    if structure == "equal":
        return min
    if structure == "unequal":
        return lambda sizes: sum(sizes) - max(sizes, default=0)

    def least_share(sizes: Sequence[int]) -> int:
        share = min(Fraction(size, whole) for size, whole in zip(sizes, basis, strict=True))
        return int(share * payoff)

    return least_share


def _written(basis: Basis, wanted: Sequence[_Wanted], drawn: kernel.Plan, *, at: datetime) -> Plan:
    """Write the kernel's plan out as orders, in the order of the signal's legs."""
    by_token = {leg.token_id: leg for leg in drawn.legs}
    kept = [each for each in wanted if each.leg.token_id in by_token]
    legs = tuple(
        _planned(number, each, by_token[each.leg.token_id]) for number, each in enumerate(kept, 1)
    )
    notional = sum((leg.max_cost for leg in legs), Decimal(0))
    worst_loss, worst_case = _worst_partial(basis.structure, legs)
    ends = [each.sight.terms.end_at for each in kept]
    lost = kernel.state_text(kept[0].sight.terms, 1 - kept[0].sight.outcome)
    edge = drawn.profit / drawn.cost
    return Plan(
        signal_key=basis.signal_key,
        rule=basis.rule,
        kind=basis.kind,
        structure=basis.structure,
        event_id=basis.event_id,
        legs=legs,
        cost=drawn.cost,
        fees=drawn.fees,
        notional=notional,
        min_payoff=Decimal(0) if basis.bet else drawn.payoff,
        worst_loss=worst_loss,
        worst_case=worst_case,
        worst_state=lost if basis.bet else basis.worst_state,
        instant=basis.instant,
        annualised_pct=None if basis.instant else annualised(edge, ends, at=at),
        conditions=basis.conditions,
        bound_by="depth",
        basis_payoff=shares(basis.payoff),
        bet=basis.bet,
        expected_gain=drawn.profit if basis.bet else None,
    )


def _planned(number: int, each: _Wanted, leg: Leg) -> PlannedLeg:
    sight = each.sight
    return PlannedLeg(
        number=number,
        token_id=leg.token_id,
        market_id=leg.market_id,
        outcome_index=sight.outcome,
        outcome=leg.outcome,
        label=sight.label,
        size=leg.size,
        avg_price=leg.avg_price,
        limit_price=leg.limit_price,
        fee=leg.fee,
        cost=leg.cost,
        max_cost=_max_cost(leg, sight),
        touch=usd_price(each.offer.ladder[0][0]),
        epoch=sight.epoch,
        takes=leg.takes,
        basis_size=shares(each.leg.size).quantize(_BPS),
    )


def _max_cost(leg: Leg, sight: Sight) -> Decimal:
    """Return what an order can cost: all at its limit, fees rounded up on every level.

    Price and fee together grow with the price, so no mix of levels is dearer.
    """
    limit, size = price_units(leg.limit_price), size_units(leg.size)
    fee = fee_charged(limit, size, fee=sight.terms.fee or FREE)
    return leg.size * leg.limit_price + fee + FEE_STEP * MAX_LEVELS


def _worst_partial(structure: Structure, legs: Sequence[PlannedLeg]) -> tuple[Decimal, str]:
    """Return what is lost at most if some legs fill and others do not, and which those are.

    Of legs of which one always pays, the worst is to miss exactly the one that
    does; of legs of which at most one loses, to hold only that one.
    """
    costs = {leg.label: leg.max_cost for leg in legs}
    total = sum((leg.max_cost for leg in legs), Decimal(0))
    if structure == "equal":
        least = min(legs, key=lambda leg: (leg.max_cost, leg.number))
        return total - least.max_cost, f"all legs fill but {least.label}, which pays"
    if structure == "unequal":
        most = max(legs, key=lambda leg: (costs[leg.label], -leg.number))
        return most.max_cost, f"only {most.label} fills, and it loses"
    if structure == "bet":
        return total, f"{legs[0].label} does not come true"
    return total, "some legs fill and none of them pays"


def difference(old: Plan, new: Plan) -> tuple[Change, ...]:
    """Name what differs in what is signed, orders first."""
    before = {leg.token_id: leg for leg in old.legs}
    after = {leg.token_id: leg for leg in new.legs}
    changes = [
        change
        for token in dict.fromkeys((*before, *after))
        for change in _leg_changes(before.get(token), after.get(token))
    ]
    for name in ("notional", "min_payoff", "worst_loss"):
        changes += _changed(name, usd(getattr(old, name)), usd(getattr(new, name)))
    return tuple(changes)


def _leg_changes(old: PlannedLeg | None, new: PlannedLeg | None) -> Iterable[Change]:
    if old is not None and new is not None:
        return [
            *_changed(f"{new.label}: size", f"{old.size:.2f}", f"{new.size:.2f}"),
            *_changed(f"{new.label}: limit", f"{old.limit_price:.4f}", f"{new.limit_price:.4f}"),
        ]
    return [
        *([Change(old.label, _order_words(old), "no order")] if old else ()),
        *([Change(new.label, "no order", _order_words(new))] if new else ()),
    ]


def _order_words(leg: PlannedLeg) -> str:
    return f"{leg.size:.2f} at most {leg.limit_price:.4f}"


def _changed(what: str, old: str, new: str) -> list[Change]:
    return [] if old == new else [Change(what, old, new)]


# --- a plan against the books of a later moment --------------------------------------


@dataclass(frozen=True, slots=True)
class LegNow:
    """What a planned leg would get now. None means that the book cannot fill it at all.

    `missing` are shares that are not offered within the limit.
    """

    slippage_bps: Decimal | None
    missing: Decimal


def leg_now(leg: PlannedLeg, sight: Sight) -> LegNow:
    size, limit = size_units(leg.size), price_units(leg.limit_price)
    within = depth_of(tuple(level for level in sight.ladder if level[0] <= limit))
    missing = shares(max(0, size - within))
    if depth_of(sight.ladder) < size:
        return LegNow(None, missing)
    cost = buy(sight.ladder, size, fee=sight.terms.fee or FREE, tick=sight.terms.tick).cost
    return LegNow(slippage_bps(leg.cost, cost), missing)


def slippage_bps(planned: Decimal, now: Decimal) -> Decimal:
    """Return how much dearer the same shares are than planned; under 0 when they are cheaper."""
    return ((now / planned - 1) * 10_000).quantize(_BPS)


# --- what is kept of a basket that filled only in part -------------------------------


def excess(
    plan: Plan, *, filled: Mapping[int, Decimal], paid: Mapping[int, Decimal]
) -> dict[int, Decimal]:
    """Return the shares per leg number that belong to no basket that pays.

    The rest, leg by leg, is a basket whose worst payoff covers what it cost.
    """
    got = {leg.number: size_units(filled.get(leg.number, Decimal(0))) for leg in plan.legs}
    if plan.structure == "equal":
        keep = dict.fromkeys(got, min(got.values()))
    elif plan.structure == "unequal":
        top = _layer_that_pays(got, paid)
        keep = {number: min(size, top) for number, size in got.items()}
    else:
        keep = got if plan.bet else _same_share(plan, got)
    return {number: shares(size - keep[number]) for number, size in got.items()}


def _layer_that_pays(got: Mapping[int, int], paid: Mapping[int, Decimal]) -> int:
    """Return the size up to which NO legs pay in the worst state: m of them pay m - 1."""
    prices = {number: paid[number] / shares(size) for number, size in got.items() if size}
    top = 0
    for size in sorted({size for size in got.values() if size}):
        live = [number for number, held in got.items() if held >= size]
        if sum((1 - prices[number] for number in live), Decimal(0)) < 1:
            break
        top = size
    return top


def _same_share(plan: Plan, got: Mapping[int, int]) -> dict[int, int]:
    planned = {leg.number: size_units(leg.size) for leg in plan.legs}
    share = min(Fraction(got[number], planned[number]) for number in got)
    return {number: min(got[number], down_to_lot(int(share * planned[number]))) for number in got}
