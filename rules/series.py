"""One market's rules of what is only likely: spikes, tilted books, breakouts (pure).

Each rule keeps a tracker a market. Trackers take every change of the touch; a sweep
asks again those that wait for time to pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar, Protocol

from markets.book import NO_ASK, NO_BID, Book, size_units
from markets.listing import MarketTerms
from rules.kernel.best_levels import BestLevels
from rules.kernel.finding import Finding
from rules.kernel.imbalance import Imbalance, ImbalanceWatch, imbalance_finding
from rules.kernel.spike import SpikeWatch, spike_finding
from rules.kernel.trend import TrendWatch, breakout_finding
from rules.rule_kinds import ImbalanceRule, SpikeRule, TrendRule
from rules.sightings import ActiveRule, Sighting


class Tracker(Protocol):
    """What one rule remembers of one market. `deep` ones look below the touch."""

    deep: ClassVar[bool]

    @property
    def waiting(self) -> bool:
        """Whether time alone may change what it says."""

    def restart(self) -> None:
        """Forget everything: the continuity of the book was lost."""

    def touched(self, book: Book, at: int) -> None: ...

    def finding(self, terms: MarketTerms, at: int) -> Finding | None:
        """Return what is to be told now."""


class SpikeTracker:
    """Follows the touch for SPIKE_DETECT."""

    __slots__ = ("_watch",)
    deep: ClassVar[bool] = False

    def __init__(self, terms: MarketTerms, rule: SpikeRule) -> None:
        self._watch = SpikeWatch(terms, rule.params.kernel())

    @property
    def waiting(self) -> bool:
        return self._watch.waiting

    def restart(self) -> None:
        self._watch.restart()

    def touched(self, book: Book, at: int) -> None:
        bid, ask = book.bid, book.ask
        if bid != NO_BID and ask != NO_ASK:
            self._watch.update(at, bid, ask, size_units(book.bids[bid]), size_units(book.asks[ask]))

    def finding(self, terms: MarketTerms, at: int) -> Finding | None:
        spike = self._watch.still(at)
        return None if spike is None else spike_finding(terms, spike)


class ImbalanceTracker:
    """Follows the best levels for ORDER_BOOK_IMBALANCE.

    What is found is kept until the tilt is another: most looks find what was found before.
    """

    __slots__ = ("_best", "_changes", "_found", "_watch")
    deep: ClassVar[bool] = True

    def __init__(self, terms: MarketTerms, rule: ImbalanceRule) -> None:
        self._watch = ImbalanceWatch(rule.params.kernel())
        self._best = BestLevels(self._watch.params.levels)
        self._changes = -1  # of the book, as far as the levels are followed
        self._found: tuple[MarketTerms, Imbalance, Finding] | None = None

    @property
    def waiting(self) -> bool:
        return self._watch.tilted

    def restart(self) -> None:
        self._watch.restart()

    def touched(self, book: Book, at: int) -> None:
        if not 0 < book.ask - book.bid <= self._watch.params.max_spread:
            self._watch.restart()  # as it would with the levels: they need not be sorted for that
            return
        self._follow(book)
        bids, asks = self._best.bids, self._best.asks
        put_up = bids.put_up + asks.put_up
        self._watch.weigh(at, book.bid, book.ask, bids.size, asks.size, put_up)

    def _follow(self, book: Book) -> None:
        """Bring the levels up to date; what was missed, or concerned several, is read anew."""
        if book.changes == self._changes:
            return
        if book.changed and book.changes == self._changes + 1:
            self._best.change(book.changed, book.bids, book.asks)
        else:
            self._best.read(book.bids, book.asks)
        self._changes = book.changes

    def finding(self, terms: MarketTerms, at: int) -> Finding | None:
        tilt = self._watch.current
        if tilt is None:
            return None
        found = self._found
        if found is None or found[0] is not terms or found[1] is not tilt:
            found = self._found = terms, tilt, imbalance_finding(terms, tilt)
        return found[2]


class TrendTracker:
    """Follows the mid, and what was traded, for TREND_BREAKOUT."""

    __slots__ = ("_traded", "_watch")
    deep: ClassVar[bool] = False

    def __init__(self, terms: MarketTerms, rule: TrendRule) -> None:
        self._watch = TrendWatch(rule.params.kernel())
        self._traded: int | None = None  # of the book when it was last asked

    @property
    def waiting(self) -> bool:
        return False

    def restart(self) -> None:
        self._watch.restart()

    def touched(self, book: Book, at: int) -> None:
        if self._traded is not None:
            self._watch.trade(book.traded - self._traded)
        self._traded = book.traded
        self._watch.update(at, book.bid, book.ask)

    def finding(self, terms: MarketTerms, at: int) -> Finding | None:
        out = self._watch.still(at)
        return None if out is None else breakout_finding(terms, out)


def tracker_of(rule: ActiveRule, terms: MarketTerms) -> Tracker | None:
    """Return a fresh tracker; None for a rule that does not look at single markets."""
    definition = rule.definition
    if isinstance(definition, SpikeRule):
        return SpikeTracker(terms, definition)
    if isinstance(definition, ImbalanceRule):
        return ImbalanceTracker(terms, definition)
    return TrendTracker(terms, definition) if isinstance(definition, TrendRule) else None


class Series:
    """A market's trackers and its book."""

    __slots__ = (
        "_deep",
        "_patient",
        "_told",
        "_touch",
        "book",
        "epoch",
        "number",
        "terms",
        "trackers",
        "waiting",
    )

    def __init__(self, terms: MarketTerms, book: Book, number: int = 0) -> None:
        """`number` tells the order in which markets were begun to be followed."""
        self.number = number
        self.terms = terms
        self.book = book
        self.epoch = book.epoch
        self.trackers: list[tuple[ActiveRule, Tracker]] = []
        self._told: dict[str, Sighting] = {}  # by code: what there is to take back
        self._touch = (NO_BID, NO_ASK)  # that the trackers know
        self._deep = False  # every change of the book is to be looked at
        self.waiting = False  # a sweep has to look at it
        self._patient = False  # for a tracker that only a new touch can change

    def follow(self, rules: Iterable[ActiveRule], before: Series | None, *, at: int) -> None:
        """Track for these rules; go on where the same rule followed the same book.

        A tracker that is new begins with the touch as it stands: a quiet book may not
        change for a while.
        """
        kept: dict[str, Tracker] = {}
        if before is not None:
            self._told, self._touch = before._told, before._touch
            if before.book is self.book and self._is_like(before.terms):
                kept = {rule.sha256: tracker for rule, tracker in before.trackers}
        for rule in rules:
            tracker = kept.get(rule.sha256) or self._begun(rule, at)
            if tracker is not None:
                self.trackers.append((rule, tracker))
        if self.book.evaluable:
            self._touch = self.book.bid, self.book.ask
        self._deep = any(tracker.deep for _, tracker in self.trackers)
        self.waiting = self._waits()
        self.book.hot += self._deep
        self.book.also = (*self.book.also, self)

    def release(self) -> None:
        """Let go of the book."""
        self.book.hot -= self._deep
        self.book.also = tuple(each for each in self.book.also if each is not self)
        self._deep = self.waiting = False

    def _begun(self, rule: ActiveRule, at: int) -> Tracker | None:
        tracker = tracker_of(rule, self.terms)
        if tracker is not None and self.book.evaluable:
            tracker.touched(self.book, at)
        return tracker

    def _is_like(self, before: MarketTerms) -> bool:
        return (before.tick, before.liquidity) == (self.terms.tick, self.terms.liquidity)

    def _waits(self) -> bool:
        waiting = [tracker.deep for _, tracker in self.trackers if tracker.waiting]
        self._patient = not all(waiting)
        return bool(self._told or waiting)

    def look(self, at: int, *, swept: bool = False) -> list[Sighting]:
        """Take the touch as it is now; say what every rule sees that sees or saw anything.

        The same touch again is no news to most trackers, unless time is what they wait for
        (`swept`): a frame that comes twice must not count twice.
        """
        book = self.book
        if book.state_note or book.epoch != self.epoch:
            self.epoch, self._touch = book.epoch, (NO_BID, NO_ASK)
            for _, tracker in self.trackers:
                tracker.restart()
        if book.evaluable:
            touch = book.bid, book.ask
            moved, self._touch = touch != self._touch, touch
            if not moved and not swept and not self._told:
                return self._look_below(at)
            for _, tracker in self.trackers:
                if tracker.waiting if swept else moved or tracker.deep:
                    tracker.touched(book, at)
        seen = self._seen(at)
        self.waiting = self._waits()
        return seen

    def _look_below(self, at: int) -> list[Sighting]:
        """Take a change below the touch while nothing is told: only deep trackers can see it."""
        seen: list[Sighting] = []
        waiting = self._patient
        for rule, tracker in self.trackers:
            if tracker.deep:
                tracker.touched(self.book, at)
                waiting = tracker.waiting or waiting
                finding = tracker.finding(self.terms, at)
                if finding is not None:
                    seen.append(self._telling(rule, finding))
        self.waiting = bool(seen) or waiting
        return seen

    def end(self, why: str) -> list[Sighting]:
        """Take back what was told."""
        return self._taken_back((), why)

    def _seen(self, at: int) -> list[Sighting]:
        seen: list[Sighting] = []
        for rule, tracker in self.trackers:
            finding = tracker.finding(self.terms, at)
            if finding is not None:
                seen.append(self._telling(rule, finding))
        if len(self._told) > len(seen):
            why = "moved_back" if self.book.evaluable else f"book_{self.book.state}"
            seen += self._taken_back({sighting.rule.code for sighting in seen}, why)
        return seen

    def _telling(self, rule: ActiveRule, finding: Finding) -> Sighting:
        told = self._told.get(rule.code)
        if told is None or told.findings[0] is not finding or told.rule is not rule:
            told = Sighting(rule, self.terms.market_id, (finding,), "")
            self._told[rule.code] = told
        return told

    def _taken_back(self, kept: Collection[str], why: str) -> list[Sighting]:
        """Take back what was told by rules other than these (codes)."""
        gone = [self._told.pop(code) for code in tuple(self._told) if code not in kept]
        return [Sighting(each.rule, self.terms.market_id, (), why) for each in gone]
