"""From changed books to findings: what is watched, when it is looked at, what is seen.

Each watched event keeps two running sums over its legs, updated in O(1) when a
touch moves: the cost of one YES of each, and the gain of one NO of each. Only
when a sum says that a basket could pay is the depth walked, by the same kernel
that `scan` uses (`detection.md` 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from markets.book import NO_ASK, NO_BID, Book
from markets.fills import FREE, PRICE_ONE, cost_table
from markets.listing import EventTerms, MarketTerms
from rules.dsl import DutchBookRule, RuleDefinition
from rules.kernel.baskets import detect_event, detect_market, yes_outcome
from rules.kernel.finding import EventView, Finding, Limits, MarketView, NearMiss

UNUSABLE = 10.0  # cost that keeps a leg without an offer out of any YES basket
REFRESH = 1_000  # updates after which sums are added up afresh (float drift)
TOLERANCE = 1e-9
OVER = frozenset({"resolved", "closed", "archived"})


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """One published rule as the engine runs it; what is asked often is worked out once."""

    definition: RuleDefinition
    code: str
    sha256: str
    kinds: frozenset[str]  # of baskets; none for a rule that does not look at events
    limits: Limits

    @classmethod
    def of(cls, definition: RuleDefinition) -> ActiveRule:
        kinds: frozenset[str] = frozenset()
        limits = Limits()
        if isinstance(definition, DutchBookRule):
            kinds, limits = frozenset(definition.params.kinds), definition.params.limits()
        return cls(definition, definition.code, definition.sha256, kinds, limits)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one rule sees on one watched event now; `why` is why it sees no more than that."""

    rule: ActiveRule
    subject: str  # event id, or market id of a market on its own
    findings: tuple[Finding, ...]
    why: str


class Watch:
    """An event (or a market on its own) with its books and running sums."""

    __slots__ = (
        "active",
        "alone",
        "books",
        "costs",
        "gain",
        "gains",
        "hot",
        "hot_since",
        "inverted",
        "left",
        "legs",
        "rules",
        "subject",
        "tables",
        "terms",
        "terms_at",
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
        self.tables = [cost_table(leg.fee or FREE) for leg in legs]
        self.inverted = [yes_outcome(leg) == 1 for leg in legs]
        self.unseen = [_cost_unseen(leg) for leg in legs]
        self.costs = [UNUSABLE] * len(legs)
        self.gains = [0.0] * len(legs)
        self.total = UNUSABLE * len(legs)
        self.gain = 0.0
        self.updates = 0
        self.active = False  # the last look found something
        self.terms_at = 0  # unix ns: when the venue last told the terms
        self.hot_since = 0  # unix ns; 0 while it is not hot
        self.hot = False  # to be looked at on every change of a leg, depth included

    def take(self, book: Book) -> None:
        """Bring the sums up to date with a book's touch.

        What the kernel would find is never hidden here; what it makes of a leg
        that nobody sells, or that does not trade, is for the kernel to say.
        """
        leg = book.leg
        if book.evaluable:
            bid, ask, table = book.bid, book.ask, self.tables[leg]
            if self.inverted[leg]:
                bid, ask = PRICE_ONE - ask, PRICE_ONE - bid
            cost = (bid + self.legs[leg].tick) / PRICE_ONE if ask == NO_ASK else table[ask]
            gain = 0.0 if bid == NO_BID else max(0.0, 1.0 - table[PRICE_ONE - bid])
        else:
            cost, gain = self.unseen[leg], 0.0
        costs, gains = self.costs, self.gains
        self.total += cost - costs[leg]
        self.gain += gain - gains[leg]
        costs[leg], gains[leg] = cost, gain
        self.updates += 1
        if self.updates % REFRESH == 0:
            self.total, self.gain = sum(costs), sum(gains)
        self._heat()

    def release(self) -> None:
        """Let go of the books that no other watch has taken over."""
        for book in self.books:
            if book.group is self:
                book.group, book.hot = None, False

    @property
    def over(self) -> bool:
        return all(leg.untradable in OVER for leg in self.legs)

    @property
    def unconfirmed(self) -> bool:
        """Say whether the terms were last told before a basket began to pay.

        The feed does not tell that a market was paused; a price that nobody
        may take any more looks like a gift until the terms are read again.
        """
        return self.terms_at < self.hot_since

    def found(self, anything: bool) -> None:
        """Note whether the last look found something."""
        self.active = anything
        self._heat()

    def _heat(self) -> None:
        hot = self.active or self.could_pay
        if hot is not self.hot:
            self.hot = hot
            for book in self.books:
                book.hot = hot

    @property
    def could_pay(self) -> bool:
        if self.alone:  # one YES and one NO: only a crossed book could do that
            return self.total < self.gain - TOLERANCE
        return self.total < 1.0 - TOLERANCE or self.gain > 1.0 + TOLERANCE


def market_view(terms: MarketTerms, book: Book) -> MarketView:
    """Return what the kernel may know of a market: its ladders, or why they are unusable."""
    if not book.evaluable:
        # A market that does not trade has no book to wait for.
        absent = terms.untradable is not None and book.state == "awaiting"
        return MarketView(terms, ((), ()), ("missing_leg" if absent else book.state,))
    if book.hash_holds() is False:
        return MarketView(terms, ((), ()), ("batch",))
    return MarketView(terms, (book.asks_of(0), book.asks_of(1)))


def _cost_unseen(leg: MarketTerms) -> float:
    """Return the least that a leg may count with while there is no book of it to go by."""
    if leg.untradable is None:
        return UNUSABLE
    return 0.0 if leg.untradable == "resolved" else leg.tick / PRICE_ONE


def _with_epochs(finding: Finding, watch: Watch) -> Finding:
    epochs = {leg.market_id: book.epoch for leg, book in zip(watch.legs, watch.books, strict=True)}
    return replace(finding, epochs=tuple(epochs[leg.market_id] for leg in finding.legs))


def _unconfirmed(finding: Finding) -> Finding:
    blocked_by = tuple(sorted({*finding.blocked_by, "unconfirmed_terms"}))
    return replace(finding, verdict="BLOCKED", blocked_by=blocked_by)


class Engine:
    """Maps changed books to the rules that look at them.

    With `confirm_terms` a finding is BLOCKED until the event's terms have been
    told again after the basket began to pay (`confirmed`). That is for the live
    venue, whose feed does not tell everything; a source that tells all in order
    needs no confirmation.
    """

    def __init__(self, rules: Iterable[ActiveRule], *, confirm_terms: bool = False) -> None:
        self.rules = tuple(rule for rule in rules if rule.kinds)
        self.confirm_terms = confirm_terms
        self.watches: dict[str, Watch] = {}
        self.looks = 0  # depth walks made

    def watch_event(self, terms: EventTerms, books: dict[str, Book]) -> list[Watch]:
        """Start watching an event, or take over its new terms.

        `books` maps condition ids to books; a market without one is seen as
        awaiting its book. Markets of a plain event are watched one by one.
        """
        rules = tuple(
            rule
            for rule in self.rules
            if rule.definition.scope.covers(terms, tags=frozenset(terms.tags))
        )
        held = [books.get(market.condition_id) or Book(market) for market in terms.markets]
        before = {book.group.subject: book.group for book in held if isinstance(book.group, Watch)}
        if terms.neg_risk:
            watches = [self._watch(Watch(terms, terms.markets), held, rules)]
        else:
            watches = [
                self._watch(Watch(market, (market,)), [book], rules)
                for market, book in zip(terms.markets, held, strict=True)
            ]
        for watch in watches:
            before.pop(watch.subject, None)
        return [*watches, *map(self._ended, before.values())]

    def confirmed(self, event_id: str, *, at: int) -> list[Sighting]:
        """The terms of an event were read again and are the same: what waited for that is seen."""
        watch = self.watches.get(event_id)
        if watch is None:
            return []
        waited = watch.unconfirmed
        watch.terms_at = at
        return self.look_at(watch, at=at) if self.confirm_terms and waited and watch.hot else []

    def _watch(self, watch: Watch, books: list[Book], rules: tuple[ActiveRule, ...]) -> Watch:
        before = self.watches.pop(watch.subject, None)
        watch.rules, watch.books = rules, books
        if before:
            watch.left = tuple(rule for rule in before.rules if rule not in rules)
            before.release()
            watch.found(before.active)
        for number, book in enumerate(books):
            book.group, book.leg, book.hot = watch, number, watch.hot
            watch.take(book)
        if not watch.over:
            self.watches[watch.subject] = watch
        return watch

    def _ended(self, watch: Watch) -> Watch:
        """Stop watching what others watch now in its place."""
        self.watches.pop(watch.subject, None)
        watch.left, watch.rules = watch.rules, ()
        watch.release()
        return watch

    def look(self, books: Iterable[Book], *, at: int) -> list[Sighting]:
        """Return what is seen on every watch that these books changed."""
        due: dict[str, Watch] | None = None
        for book in books:
            watch = book.group
            if watch is None:
                continue
            watch.take(book)
            if watch.hot:
                due = due or {}
                due[watch.subject] = watch
                watch.hot_since = watch.hot_since or at
            else:
                watch.hot_since = 0
        if due is None:
            return []
        return [seen for watch in due.values() for seen in self.look_at(watch, at=at)]

    def look_at(self, watch: Watch, *, at: int) -> list[Sighting]:
        """Walk the depth of one watch for every rule."""
        if not watch.could_pay:
            seen = [Sighting(rule, watch.subject, (), self._why_not(watch)) for rule in watch.rules]
        else:
            self.looks += 1
            seen = [self._sighting(rule, watch, at) for rule in watch.rules]
        if watch.left:
            seen += [Sighting(rule, watch.subject, (), "out_of_scope") for rule in watch.left]
            watch.left = ()
        watch.found(any(sighting.findings for sighting in seen))
        return seen

    def _sighting(self, rule: ActiveRule, watch: Watch, at: int) -> Sighting:
        findings, _ = self.detect(watch, rule.limits, at=at)
        kept = tuple(
            _with_epochs(finding, watch) for finding in findings if finding.kind in rule.kinds
        )
        if self.confirm_terms and watch.unconfirmed:
            kept = tuple(map(_unconfirmed, kept))
        return Sighting(rule, watch.subject, kept, self._why_not(watch))

    def detect(
        self, watch: Watch, limits: Limits, *, at: int
    ) -> tuple[tuple[Finding, ...], tuple[NearMiss, ...]]:
        """Run the kernel over a watch as it is at a time (unix ns)."""
        when = datetime.fromtimestamp(at // 1_000_000_000, UTC)
        if isinstance(watch.terms, EventTerms):
            views = tuple(map(market_view, watch.legs, watch.books))
            return detect_event(EventView(watch.terms, views), at=when, limits=limits)
        return detect_market(market_view(watch.terms, watch.books[0]), at=when, limits=limits)

    def scan(self, *, at: int) -> list[Sighting]:
        """Look at everything once, whether it changed or not."""
        found: list[Sighting] = []
        for watch in self.watches.values():
            for book in watch.books:
                watch.take(book)
            if watch.could_pay or watch.active:
                found += self.look_at(watch, at=at)
        return found

    @staticmethod
    def _why_not(watch: Watch) -> str:
        """Name what stands in the way of a basket that paid a moment ago."""
        if watch.over:
            return "market_closed"
        for leg, book in zip(watch.legs, watch.books, strict=True):
            if leg.untradable is None and not book.evaluable:
                return f"book_{book.state}"
            if watch.could_pay and book.unproven:  # the walk has just compared its hash
                return "book_batch"
        return "edge_gone"
