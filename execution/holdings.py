"""What is held and what it is worth: the arithmetic of positions (pure).

Shares and USD as Decimals. Costs are average costs; fees are part of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal

ZERO = Decimal(0)
MICRO = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Movement:
    """Shares and cash of one outcome at one moment; cash paid is negative."""

    token_id: str
    market_id: str
    outcome: int
    shares: Decimal
    cash: Decimal


@dataclass(frozen=True, slots=True)
class Holding:
    """One outcome: shares held, what they cost, and what was earned on those given away."""

    token_id: str
    market_id: str
    outcome: int
    shares: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO

    @property
    def avg_cost(self) -> Decimal:
        return self.cost / self.shares if self.shares else ZERO

    def after(self, move: Movement) -> Holding:
        """Return the holding after a movement. Raises `Oversold`."""
        if move.shares >= 0:
            return replace(self, shares=self.shares + move.shares, cost=self.cost - move.cash)
        left = self.shares + move.shares
        if left < 0:
            raise Oversold(self.token_id, -left)
        cost = self.cost if not left else (self.avg_cost * -move.shares).quantize(MICRO)
        return replace(
            self,
            shares=left,
            cost=self.cost - cost,
            realised=self.realised + move.cash - cost,
        )


class Oversold(Exception):
    """More shares of an outcome were given away than were held; `missing` shares."""

    def __init__(self, token_id: str, missing: Decimal) -> None:
        super().__init__(f"{missing} shares of {token_id} were not held")
        self.token_id = token_id
        self.missing = missing


def fold(movements: Iterable[Movement]) -> dict[str, Holding]:
    """Return the holdings by token after movements in their order."""
    held: dict[str, Holding] = {}
    for move in movements:
        before = held.get(move.token_id) or Holding(move.token_id, move.market_id, move.outcome)
        held[move.token_id] = before.after(move)
    return held


@dataclass(frozen=True, slots=True)
class Group:
    """Markets that are judged together, and in which of them more than one can be true.

    `exclusive`: at most one of `markets` resolves YES. `exhaustive`: one of them
    does. `yes` is the outcome of each market that means it is true; `payouts`
    (of outcome 0) are those already settled.
    """

    label: str
    markets: tuple[str, ...]
    exclusive: bool
    exhaustive: bool
    yes: Mapping[str, int]
    payouts: Mapping[str, Decimal]


def worst_value(group: Group, holdings: Sequence[Holding]) -> Decimal:
    """Return what the holdings pay in the worst state that the group allows (USD)."""
    by_market: dict[str, list[Holding]] = {}
    for held in holdings:
        by_market.setdefault(held.market_id, []).append(held)
    if not group.exclusive:
        return sum((_worst_of_market(group, market, held) for market, held in by_market.items()),
                   ZERO)  # fmt: skip
    settled = [held for held in holdings if held.market_id in group.payouts]
    given = sum((_pays(held, group.payouts[held.market_id]) for held in settled), ZERO)
    still = [market for market in group.markets if market not in group.payouts]
    decided = any(
        payout == (1 if group.yes[market] == 0 else 0) for market, payout in group.payouts.items()
    )
    winners: list[str | None] = [] if decided else list(still)
    if decided or not group.exhaustive or not winners:
        winners.append(None)
    return given + min(_value_if(group, winner, still, by_market) for winner in winners)


def _value_if(
    group: Group, winner: str | None, still: Sequence[str], held: Mapping[str, Sequence[Holding]]
) -> Decimal:
    """Return what is paid if one of the open markets turns out true, or none."""
    total = ZERO
    for market in still:
        true = market == winner
        outcome = group.yes[market] if true else 1 - group.yes[market]
        total += sum(
            (each.shares for each in held.get(market, ()) if each.outcome == outcome), ZERO
        )
    return total


def _worst_of_market(group: Group, market: str, held: Sequence[Holding]) -> Decimal:
    """Return the least of both outcomes; a void market pays between them."""
    payout = group.payouts.get(market)
    if payout is not None:
        return sum((_pays(each, payout) for each in held), ZERO)
    return min(
        sum((each.shares for each in held if each.outcome == outcome), ZERO) for outcome in (0, 1)
    )


def _pays(held: Holding, payout: Decimal) -> Decimal:
    return held.shares * payout_of(held.outcome, payout)


def payout_of(outcome: int, payout: Decimal) -> Decimal:
    """Return what a share of an outcome pays, from what outcome 0 pays."""
    return payout if outcome == 0 else 1 - payout


def worst_loss(group: Group, holdings: Sequence[Holding]) -> Decimal:
    """Return what is lost of the money in these holdings at worst; never below 0."""
    cost = sum((held.cost for held in holdings), ZERO)
    return max(cost - worst_value(group, holdings), ZERO)


def layers(sizes: Mapping[str, Decimal]) -> list[tuple[Decimal, tuple[str, ...]]]:
    """Split NO legs of unequal size into layers that hold the same size of two legs or more.

    Each layer of m legs converts into m - 1 USD a share and one YES of every other market.
    """
    found: list[tuple[Decimal, tuple[str, ...]]] = []
    done = ZERO
    for size in sorted({size for size in sizes.values() if size > 0}):
        legs = tuple(sorted(key for key, held in sizes.items() if held >= size))
        if len(legs) < 2:
            break
        found.append((size - done, legs))
        done = size
    return found


def shared_out(amount: Decimal, parts: int) -> list[Decimal]:
    """Split USD into equal parts of whole 1e-6; what is left over goes to the first."""
    part = (amount / parts).quantize(MICRO, ROUND_FLOOR)
    return [amount - part * (parts - 1), *[part] * (parts - 1)]
