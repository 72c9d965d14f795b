"""One market's rules of what is only likely: spikes, tilted books, breakouts (pure).

Each rule keeps a tracker a market. Trackers take every change of the touch; a sweep
asks again those that wait for time to pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol

from markets.book import NO_ASK, NO_BID, Book, size_units
from markets.fills import Ladder
from markets.listing import MarketTerms
from rules.kernel.finding import Finding
from rules.kernel.imbalance import ImbalanceWatch, imbalance_finding
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
    """Follows the best levels for ORDER_BOOK_IMBALANCE."""

    __slots__ = ("_watch",)
    deep: ClassVar[bool] = True

    def __init__(self, terms: MarketTerms, rule: ImbalanceRule) -> None:
        self._watch = ImbalanceWatch(rule.params.kernel())

    @property
    def waiting(self) -> bool:
        return self._watch.tilted

    def restart(self) -> None:
        self._watch.restart()

    def touched(self, book: Book, at: int) -> None:
        params = self._watch.params
        if not 0 < book.ask - book.bid <= params.max_spread:
            self._watch.restart()  # as it would with the levels: they need not be sorted for that
            return
        self._watch.update(at, *_best(book, params.levels))

    def finding(self, terms: MarketTerms, at: int) -> Finding | None:
        tilt = self._watch.current
        return None if tilt is None else imbalance_finding(terms, tilt)


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

    __slots__ = ("_deep", "_told", "_touch", "book", "epoch", "terms", "trackers")

    def __init__(self, terms: MarketTerms, book: Book) -> None:
        self.terms = terms
        self.book = book
        self.epoch = book.epoch
        self.trackers: list[tuple[ActiveRule, Tracker]] = []
        self._told: dict[str, ActiveRule] = {}  # by code: what there is to take back
        self._touch = (NO_BID, NO_ASK)  # that the trackers know
        self._deep = False  # every change of the book is to be looked at

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
        self.book.hot += self._deep
        self.book.also = (*self.book.also, self)

    def release(self) -> None:
        """Let go of the book."""
        self.book.hot -= self._deep
        self.book.also = tuple(each for each in self.book.also if each is not self)
        self._deep = False

    def _begun(self, rule: ActiveRule, at: int) -> Tracker | None:
        tracker = tracker_of(rule, self.terms)
        if tracker is not None and self.book.evaluable:
            tracker.touched(self.book, at)
        return tracker

    def _is_like(self, before: MarketTerms) -> bool:
        return (before.tick, before.liquidity) == (self.terms.tick, self.terms.liquidity)

    @property
    def waiting(self) -> bool:
        """Say whether a sweep has to look at it."""
        return bool(self._told) or any(tracker.waiting for _, tracker in self.trackers)

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
            for _, tracker in self.trackers:
                if tracker.waiting if swept else moved or tracker.deep:
                    tracker.touched(book, at)
        return self._seen(at)

    def end(self, why: str) -> list[Sighting]:
        """Take back what was told."""
        told, self._told = self._told, {}
        return [self._sighting(rule, (), why) for rule in told.values()]

    def _seen(self, at: int) -> list[Sighting]:
        gone = self._told.copy()
        seen: list[Sighting] = []
        for rule, tracker in self.trackers:
            finding = tracker.finding(self.terms, at)
            if finding is not None:
                self._told[rule.code] = rule
                gone.pop(rule.code, None)
                seen.append(self._sighting(rule, (finding,), ""))
        for code, rule in gone.items():
            del self._told[code]
            why = "moved_back" if self.book.evaluable else f"book_{self.book.state}"
            seen.append(self._sighting(rule, (), why))
        return seen

    def _sighting(self, rule: ActiveRule, findings: tuple[Finding, ...], why: str) -> Sighting:
        return Sighting(rule, self.terms.market_id, findings, why)


def _best(book: Book, most: int) -> tuple[Ladder, Ladder]:
    """Return so many levels of outcome 0 at most: bids and asks, best first."""
    bids, asks = book.bids, book.asks
    highest, lowest = sorted(bids)[: -most - 1 : -1], sorted(asks)[:most]
    return (
        tuple([(price, size_units(bids[price])) for price in highest]),
        tuple([(price, size_units(asks[price])) for price in lowest]),
    )
