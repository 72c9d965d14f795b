"""What a detector saw at one moment (pure values, no identity)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from markets.fills import Ladder
from markets.listing import EventTerms, MarketTerms

# OBSERVED is said of what is no arbitrage: a direction, never more than P2.
Verdict = Literal["EXECUTABLE", "THIN", "BLOCKED", "OBSERVED"]
Claim = Literal["at_least_one", "at_most_one"]


@dataclass(frozen=True, slots=True)
class MarketView:
    """A market and both its ask ladders at one moment.

    `asks` is indexed by outcome; asks[1] mirrors the bids of outcome 0.
    `problems` are the data-quality codes that make the book unusable
    ("crossed", "incoherent_pair", "stale", "missing_leg", ...).
    """

    terms: MarketTerms
    asks: tuple[Ladder, Ladder]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventView:
    """An event and the views of its markets, in the order of `terms.markets`."""

    terms: EventTerms
    markets: tuple[MarketView, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What separates THIN from EXECUTABLE, and what bounds one row's cost (USD)."""

    capital: Decimal | None = None
    min_profit: Decimal = Decimal("0.50")
    min_edge_bps: Decimal = Decimal(20)


@dataclass(frozen=True, slots=True)
class Leg:
    """One buy order of a finding. `size` in shares, prices and money in USD."""

    token_id: str
    market_id: str
    outcome: str
    size: Decimal  # 2 decimals
    avg_price: Decimal  # without fee
    limit_price: Decimal  # on the tick
    fee: Decimal
    cost: Decimal  # fee included
    takes: tuple[tuple[Decimal, Decimal, Decimal], ...] = ()  # per level: price, size, fee

    def row(self) -> dict[str, object]:
        return {
            "token_id": self.token_id,
            "market_id": self.market_id,
            "outcome": self.outcome,
            "side": "BUY",
            "size": f"{self.size:.2f}",
            "avg_price": usd(self.avg_price),
            "limit_price": usd(self.limit_price),
            "fee": usd(self.fee),
            "cost": usd(self.cost),
        }

    def levels(self) -> list[list[str]]:
        """Return what is taken of each level: price, shares and fee."""
        return [[str(price), f"{size:.2f}", str(fee)] for price, size, fee in self.takes]


@dataclass(frozen=True, slots=True)
class ProofStep:
    """A claim about outcomes (market id, index of its outcome), counted `shares` times."""

    claim: Claim
    outcomes: tuple[tuple[str, int], ...]
    shares: Decimal

    def row(self) -> dict[str, object]:
        outcomes = [[market_id, outcome] for market_id, outcome in self.outcomes]
        return {"claim": self.claim, "outcomes": outcomes, "shares": f"{self.shares:.2f}"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof of `min_payoff`: the payoff in the worst admissible state and how many there are.

    `states` is 0 where there are too many to count; then `proof` has the claims
    that add up to the payoff (`rules.kernel.proofs` says how). `table` has the
    payoff of every state where these are few.
    """

    worst_state: str
    payoff: Decimal
    states: int
    table: tuple[tuple[str, Decimal], ...] = ()
    proof: tuple[ProofStep, ...] = ()

    def row(self) -> dict[str, object]:
        return {
            "worst_state": self.worst_state,
            "payoff": usd(self.payoff),
            "states": self.states,
        }

    def explained(self) -> dict[str, object]:
        """Return the row with the payoff of each state and the steps of the proof."""
        return {
            **self.row(),
            "table": [[state, usd(payoff)] for state, payoff in self.table],
            "proof": [step.row() for step in self.proof],
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A mispricing, executable or not, with everything needed to check it by hand."""

    kind: str
    event_id: str | None
    market_ids: tuple[str, ...]
    legs: tuple[Leg, ...]
    cost: Decimal
    fees: Decimal
    min_payoff: Decimal
    profit: Decimal
    edge_bps: Decimal
    annualised_pct: Decimal | None
    instant: bool
    verdict: Verdict
    blocked_by: tuple[str, ...]
    conditions: tuple[str, ...]
    certificate: Certificate
    # Continuity of each leg's book when it was seen: grows with every gap (live books only).
    epochs: tuple[int, ...] = ()
    # Numbers behind it, by name: all there is to say of what is OBSERVED.
    facts: tuple[tuple[str, str], ...] = ()
    # How strong what is OBSERVED is, in the unit of its rule (docs/rules.md); 0 for arbitrage.
    strength: Decimal = Decimal(0)

    def row(self) -> dict[str, object]:
        """Return the finding as an opportunity of DESIGN section 5: money as text, 6 decimals."""
        yearly = self.annualised_pct
        return {
            "kind": self.kind,
            "event_id": self.event_id,
            "market_ids": list(self.market_ids),
            "legs": [leg.row() for leg in self.legs],
            "cost": usd(self.cost),
            "fees": usd(self.fees),
            "min_payoff": usd(self.min_payoff),
            "profit": usd(self.profit),
            "edge_bps": float(self.edge_bps),
            "annualised_pct": None if yearly is None else float(yearly),
            "instant": self.instant,
            "verdict": self.verdict,
            "blocked_by": list(self.blocked_by),
            "conditions": list(self.conditions),
            "certificate": self.certificate.row(),
        }

    def explained(self) -> dict[str, object]:
        """Return the row with all that it takes to check it.

        Each leg has the levels that it takes (`takes`) and its book's epoch, the
        certificate its table and proof, and `facts` the numbers behind.
        """
        epochs = self.epochs or (None,) * len(self.legs)
        legs = [
            {**leg.row(), "takes": leg.levels(), "epoch": epoch}
            for leg, epoch in zip(self.legs, epochs, strict=True)
        ]
        table = [[state, usd(payoff)] for state, payoff in self.payoff_table]
        certificate = {**self.certificate.explained(), "table": table}
        more = {"certificate": certificate, "facts": dict(self.facts)}
        return {**self.row(), "legs": legs, **more}

    @property
    def payoff_table(self) -> tuple[tuple[str, Decimal], ...]:
        """What the legs pay in each state where these are few.

        The states of a basket are which of its outcomes comes true: the legs say it all.
        """
        sizes = [(f"{leg.market_id}={leg.outcome}", leg.size) for leg in self.legs]
        if self.kind in ("binary", "yes_basket"):
            return tuple(sizes)
        if self.kind == "no_basket":
            every = sum((size for _, size in sizes), Decimal(0))
            lost = ((f"not {state}", every - size) for state, size in sizes)
            return (*lost, ("none of them comes true", every))
        return self.certificate.table


def usd(amount: Decimal) -> str:
    """Return an amount as the contract writes it."""
    return f"{amount:.6f}"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A basket that does not pay, and by how much (`gap_cents` per set, after fees)."""

    event_id: str | None
    market_ids: tuple[str, ...]
    kind: str
    gross_sum: Decimal
    net_sum: Decimal
    gap_cents: Decimal
    blocked_by: tuple[str, ...]
