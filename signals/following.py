"""What an order would have met: legs and their books, followed until a label is known (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from markets.book import Book, size_units
from markets.fills import FREE, PRICE_ONE, Ladder, NotEnoughDepth, buy, fee_charged, take
from markets.listing import EventTerms, MarketTerms
from rules.kernel.finding import Leg

if TYPE_CHECKING:
    from signals.samples import Told

UNSURE: Final = frozenset({"crossed", "batch"})  # states of a moment: the book before counts


@dataclass(slots=True)
class LegAfter:
    """A leg whose book is followed until its label is known. Ladders are as last trusted."""

    leg: Leg
    event: EventTerms  # as listed then
    terms: MarketTerms
    book: Book
    epoch: int
    stamp: object = None
    asks: Ladder = ()
    bids: Ladder = ()
    cost: Decimal | None = None  # of its whole size now; None: not offered

    @property
    def outcome(self) -> int:
        return 0 if self.leg.token_id == self.book.token0 else 1

    def look(self) -> str:
        """Take over the book if it changed; say why nothing can be known of it any more."""
        book = self.book
        if book.stamp is self.stamp and not book.state_note:
            return ""
        if book.state_note or book.epoch != self.epoch:
            return "resync" if book.epoch != self.epoch else book.state_note
        self.stamp = book.stamp
        if book.state in UNSURE:
            return ""
        self.asks = book.asks_of(self.outcome)
        self.bids = tuple((PRICE_ONE - p, s) for p, s in book.asks_of(1 - self.outcome))
        self.cost = self._cost()
        return ""

    def _cost(self) -> Decimal | None:
        fee, tick = self.terms.fee or FREE, self.terms.tick
        try:
            return buy(self.asks, size_units(str(self.leg.size)), fee=fee, tick=tick).cost
        except NotEnoughDepth:
            return None

    def bought(self) -> tuple[int, Decimal]:
        """Return what an order at the leg's limit gets now, in 1e-6 shares, and what it costs."""
        limit = int(self.leg.limit_price * PRICE_ONE)
        within = tuple(level for level in self.asks if level[0] <= limit)
        size = min(size_units(str(self.leg.size)), sum(size for _, size in within))
        if not size:
            return 0, Decimal(0)
        fee = self.terms.fee or FREE
        return size, buy(within, size, fee=fee, tick=self.terms.tick).cost

    def sold(self, size: int) -> Decimal:
        """Return what selling so much brings now, after fees; what finds no bid brings nothing."""
        fee = self.terms.fee or FREE
        size = min(size, sum(offered for _, offered in self.bids))
        if not size:
            return Decimal(0)
        taken = take(self.bids, size)
        fees = sum((fee_charged(p, amount, fee=fee) for p, amount in taken), Decimal(0))
        return Decimal(sum(p * amount for p, amount in taken)).scaleb(-10) - fees


@dataclass(slots=True)
class Pending:
    """A sample whose outcome is not known yet."""

    told: Told
    legs: tuple[LegAfter, ...]
    payoff: Decimal
    least: Decimal  # net profit that still counts, USD
    arrives: int
    ends: int
    arrived: bool = False
    failed: bool = False
    bought: tuple[tuple[int, Decimal], ...] = ()

    def judge(self) -> None:
        """Hold the books as they are against what was claimed."""
        costs = [leg.cost for leg in self.legs]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs) or self.payoff - sum(known, Decimal(0)) < self.least:
            self.failed = True

    def arrive(self) -> None:
        self.arrived = True
        self.bought = tuple(leg.bought() for leg in self.legs)
        self.judge()

    def look(self) -> str:
        """Take over the books; say why the outcome will never be known, if so."""
        for leg in self.legs:
            why = leg.look()
            if why:
                return why
        if self.arrived:
            self.judge()
        return ""

    @property
    def loss(self) -> Decimal | None:
        """Return what unwinding costs at the end; None where all legs were had on arrival."""
        wanted = [size_units(str(leg.leg.size)) for leg in self.legs]
        if [size for size, _ in self.bought] == wanted:
            return None
        paid = sum((cost for _, cost in self.bought), Decimal(0))
        pairs = zip(self.legs, self.bought, strict=True)
        back = sum((leg.sold(size) for leg, (size, _) in pairs), Decimal(0))
        return max(paid - back, Decimal(0))
