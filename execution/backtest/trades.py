"""What was ordered for a signal, what came of it, and what it gained (pure).

Money in USD, sizes in 1e-6 shares, times in unix ns. A profit is counted once for an
episode, however often its signal was told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal

from execution.matching import Match, NoMatch
from execution.plans import Plan, excess
from markets.fills import MICRO, shares

Sort = Literal["basket", "bet", "direction"]
NOTHING = Decimal(0)
DAY_NS = 86_400 * 1_000_000_000
MINUTE_NS = 60 * 1_000_000_000


@dataclass(slots=True)
class LegResult:
    """One leg: what was bought and sold again, and why nothing was."""

    market_id: str
    token_id: str
    outcome: int
    wanted: int
    bought: int = 0
    paid: Decimal = NOTHING
    fee: Decimal = NOTHING
    sold: int = 0
    got: Decimal = NOTHING
    failed: str = ""
    unsold: str = ""  # why what was to be sold was not
    best: int = 0  # price of the first level taken, 1e-4 USD
    offered: int = 0  # displayed in the levels taken

    def take_purchase(self, result: Match | NoMatch) -> None:
        if isinstance(result, NoMatch):
            self.failed = result.reason
            return
        self.bought, self.paid, self.fee = result.size, result.cash, result.fee
        self.failed = "" if result.complete else "PART"
        self.best = result.takes[0].price
        self.offered = sum(take.displayed for take in result.takes)

    def take_sale(self, result: Match | NoMatch) -> None:
        if isinstance(result, NoMatch):
            self.unsold = result.reason
            return
        self.sold, self.got, self.fee = result.size, result.cash, self.fee + result.fee
        self.unsold = "" if result.complete else "PART"


@dataclass(slots=True)
class Trade:
    """The orders for one signal at one latency.

    `claimed` is what the plan promised, `optimum` the most that could be gained for
    certain on the books of the decision (None: not asked, or nothing is certain).
    """

    key: str
    rule: str
    kind: str
    sort: Sort
    event_id: str | None
    market_ids: tuple[str, ...]
    decided_at: int
    claimed: Decimal
    notional: Decimal
    optimum: float | None
    instant: bool
    locked_until: int  # when the money is back if all goes well
    legs: list[LegResult] = field(default_factory=list)
    plan: Plan | None = None
    kept: Decimal = NOTHING  # payoff of the baskets that are complete
    secured: Decimal = NOTHING  # the same less what these cost
    settled: Decimal = NOTHING  # paid by the venue on resolution, or what bids would pay at the end
    open_at_end: bool = False
    ended_at: int = 0
    left_out: str = ""  # the cap that forbade it

    @property
    def paid(self) -> Decimal:
        return sum((leg.paid for leg in self.legs), NOTHING)

    @property
    def got(self) -> Decimal:
        return sum((leg.got for leg in self.legs), NOTHING)

    @property
    def gained(self) -> Decimal:
        """Return what it brought in the worst state, less all that was paid."""
        return self.kept + self.settled + self.got - self.paid

    @property
    def captured(self) -> Decimal:
        """Return the gain that counts: never more than there was when it was decided.

        A book may get better while orders are on their way; that is luck, not the rule's.
        """
        if self.optimum is None:
            return self.gained
        return min(self.gained, Decimal(self.optimum).quantize(MICRO, ROUND_FLOOR))

    @property
    def state(self) -> str:
        """Say in a word how it went."""
        if not any(leg.bought for leg in self.legs):
            return "missed"
        return "partial" if any(leg.failed for leg in self.legs) else "filled"

    @property
    def failed_legs(self) -> int:
        return sum(1 for leg in self.legs if leg.failed)

    @property
    def failure_cost(self) -> Decimal:
        """Return what was lost on shares that belong to no basket that pays."""
        return self.secured - self.gained if self.sort == "basket" else NOTHING

    @property
    def capital_days(self) -> float:
        """Return USD x days that the money was locked; at least a day unless it is back at once."""
        if self.instant:
            locked = max(self.ended_at - self.decided_at, MINUTE_NS)
        else:
            locked = max(self.locked_until - self.decided_at, DAY_NS)
        if self.sort == "direction":
            locked = max(self.ended_at - self.decided_at, MINUTE_NS)
        return float(self.paid) * locked / DAY_NS

    def excess(self) -> dict[int, int]:
        """Return the shares by leg number (from 1) that belong to no basket; note what is kept."""
        if self.plan is None:
            return {}
        filled = {number: shares(leg.bought) for number, leg in enumerate(self.legs, 1)}
        paid = {number: leg.paid for number, leg in enumerate(self.legs, 1)}
        loose = excess(self.plan, filled=filled, paid=paid)
        kept = [filled[number] - loose[number] for number in filled]
        if any(filled.values()):
            self.kept = max(self.plan.payoff_of(kept), NOTHING)
        cost = sum(
            (
                leg.paid * size / shares(leg.bought)
                for leg, size in zip(self.legs, kept, strict=True)
                if leg.bought
            ),
            NOTHING,
        )
        self.secured = self.kept - cost
        return {number: int(size * 1_000_000) for number, size in loose.items() if size > 0}

    def row(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "rule": self.rule,
            "kind": self.kind,
            "event_id": self.event_id,
            "market_ids": list(self.market_ids),
            "decided_at": self.decided_at,
            "ended_at": self.ended_at,
            "state": self.state,
            "claimed": f"{self.claimed:.6f}",
            "optimum": None if self.optimum is None else round(self.optimum, 6),
            "paid": f"{self.paid:.6f}",
            "captured": f"{self.captured:.6f}",
            "gained": f"{self.gained:.6f}",
            "open_at_end": self.open_at_end,
            "left_out": self.left_out,
            "legs": [
                {
                    "market_id": leg.market_id,
                    "outcome": leg.outcome,
                    "wanted": str(shares(leg.wanted)),
                    "bought": str(shares(leg.bought)),
                    "paid": f"{leg.paid:.6f}",
                    "sold": str(shares(leg.sold)),
                    "got": f"{leg.got:.6f}",
                    "failed": leg.failed,
                    "unsold": leg.unsold,
                }
                for leg in self.legs
            ],
        }
