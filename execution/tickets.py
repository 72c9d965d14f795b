"""Orders for the paper venue and its answers (pure): what goes in and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from execution.matching import Match, NoMatch, Order

Key = tuple[int, int, int]  # intent, leg, sequence


@dataclass(frozen=True, slots=True)
class Ticket:
    """One order for the paper venue. `place` is its turn among the legs of its intent.

    `latency_ms` is how long this one is on its way; None: as long as the venue's orders are.
    """

    key: Key
    token_id: str
    market_id: str
    condition_id: str
    outcome: int
    order: Order
    place: int
    epoch: int | None  # of the book when it was planned
    deadline: datetime
    refuse: bool = False  # a rehearsed failure
    latency_ms: int | None = None


@dataclass(frozen=True, slots=True)
class BookSeen:
    """The book that an order was walked on. `basis`: `frame`, `quiet`, or `none` in time."""

    at: datetime
    state: str
    epoch: int | None
    basis: str

    def row(self) -> dict[str, object]:
        return {
            "at": self.at.isoformat(),
            "state": self.state,
            "epoch": self.epoch,
            "basis": self.basis,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What the venue answered to a ticket."""

    ticket: Ticket
    result: Match | NoMatch
    book: BookSeen
    at: datetime
