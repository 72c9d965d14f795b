"""An event (or a market on its own) with its books and the running sums of its baskets (pure)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from markets.book import NO_ASK, NO_BID, Book
from markets.fills import FREE, PRICE_ONE, cost_table
from markets.listing import OVER, EventTerms, MarketTerms
from rules.kernel.baskets import detect_event, detect_market, yes_outcome
from rules.kernel.finding import EventView, Finding, Limits, NearMiss
from rules.sightings import ActiveRule, Sighting, market_view, unconfirmed

UNUSABLE = 10.0  # cost that keeps a leg without an offer out of any YES basket
REFRESH = 1_000  # updates after which sums are added up afresh (float drift)
TOLERANCE = 1e-9


class Watch:
    """An event (or a market on its own) with its books and running sums."""

    __slots__ = (
        "active",
        "alone",
        "books",
        "gain",
        "hot",
        "hot_since",
        "left",
        "legs",
        "rules",
        "subject",
        "terms",
        "total",
        "unseen",
        "updates",
    )

    def __init__(self, terms: EventTerms | MarketTerms, legs: tuple[MarketTerms, ...]) -> None:
        self.terms = terms
        self.subject = terms.event_id if isinstance(terms, EventTerms) else terms.market_id
        self.legs = legs
        self.alone = isinstance(terms, MarketTerms)
        self.rules: tuple[ActiveRule, ...] = ()
        self.left: tuple[ActiveRule, ...] = ()  # looked at it until its terms changed
        self.books: list[Book] = []
        self.unseen = [_cost_unseen(leg) for leg in legs]
        self.total = UNUSABLE * len(legs)
        self.gain = 0.0
        self.updates = 0
        self.active = False  # the last look found something
        self.hot_since = 0  # unix ns; 0 while it is not hot
        self.hot = False  # to be looked at on every change of a leg, depth included

    def hold(self, books: list[Book]) -> None:
        """Take over the books of the legs, from another watch if one had them."""
        self.books = books
        for number, (leg, book) in enumerate(zip(self.legs, books, strict=True)):
            book.group, book.leg = self, number
            book.table, book.inverted = cost_table(leg.fee or FREE), yes_outcome(leg) == 1
            book.cost, book.gain = UNUSABLE, 0.0
            self.take(book)

    def take(self, book: Book) -> None:
        """Bring the sums up to date with a book's touch.

        What the kernel would find is never hidden here; what it makes of a leg
        that nobody sells, or that does not trade, is for the kernel to say.
        """
        if book.evaluable:
            bid, ask, table = book.bid, book.ask, book.table
            if book.inverted:
                bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
            cost = (bid + self.legs[book.leg].tick) / PRICE_ONE if ask == NO_ASK else table[ask]
            gain = 0.0 if bid == NO_BID else max(0.0, 1.0 - table[PRICE_ONE - bid])
        else:
            cost, gain = self.unseen[book.leg], 0.0
        if cost == book.cost and gain == book.gain:
            return  # what changed lies below the touch
        self.total += cost - book.cost
        self.gain += gain - book.gain
        book.cost, book.gain = cost, gain
        self.updates += 1
        if self.updates % REFRESH == 0:
            self.total = sum(each.cost for each in self.books)
            self.gain = sum(each.gain for each in self.books)
        self._heat()

    def release(self) -> None:
        """Let go of the books; another watch may have taken them over."""
        for book in self.books:
            book.hot -= self.hot
            if book.group is self:
                book.group = None
        self.books, self.hot = [], False

    @property
    def over(self) -> bool:
        return all(leg.untradable in OVER for leg in self.legs)

    def found(self, anything: bool) -> None:
        """Note whether the last look found something."""
        self.active = anything
        self._heat()

    def _heat(self) -> None:
        hot = self.active or self.could_pay
        if hot is not self.hot:
            self.hot = hot
            for book in self.books:
                book.hot += 1 if hot else -1

    @property
    def could_pay(self) -> bool:
        if self.alone:  # one YES and one NO: only a crossed book could do that
            return self.total < self.gain - TOLERANCE
        return self.total < 1.0 - TOLERANCE or self.gain > 1.0 + TOLERANCE

    def sighting(self, rule: ActiveRule, *, at: int, confirmed: bool) -> Sighting:
        """Walk the depth for one rule; without `confirmed` nothing found can be executed."""
        findings, _ = self.detect(rule.limits, at=at)
        kept = tuple(
            self._with_epochs(finding) for finding in findings if finding.kind in rule.kinds
        )
        if not confirmed:
            kept = tuple(map(unconfirmed, kept))
        return Sighting(rule, self.subject, kept, self.why_not())

    def detect(
        self, limits: Limits, *, at: int
    ) -> tuple[tuple[Finding, ...], tuple[NearMiss, ...]]:
        """Run the kernel over the books as they are at a time (unix ns)."""
        when = datetime.fromtimestamp(at // 1_000_000_000, UTC)
        if isinstance(self.terms, EventTerms):
            views = tuple(map(market_view, self.legs, self.books))
            return detect_event(EventView(self.terms, views), at=when, limits=limits)
        return detect_market(market_view(self.terms, self.books[0]), at=when, limits=limits)

    def why_not(self) -> str:
        """Name what stands in the way of a basket that paid a moment ago."""
        if self.over:
            return "market_closed"
        for leg, book in zip(self.legs, self.books, strict=True):
            if leg.untradable is None and not book.evaluable:
                return f"book_{book.state}"
            if self.could_pay and book.unproven:  # the walk has just compared its hash
                return "book_batch"
        return "edge_gone"

    def _with_epochs(self, finding: Finding) -> Finding:
        epochs = {
            leg.market_id: book.epoch for leg, book in zip(self.legs, self.books, strict=True)
        }
        return replace(finding, epochs=tuple(epochs[leg.market_id] for leg in finding.legs))


def _cost_unseen(leg: MarketTerms) -> float:
    """Return the least that a leg may count with while there is no book of it to go by."""
    if leg.untradable is None:
        return UNUSABLE
    return 0.0 if leg.untradable == "resolved" else leg.tick / PRICE_ONE
