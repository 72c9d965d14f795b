"""From changed books to findings: what is watched, when it is looked at, what is seen.

Each watched event keeps two running sums over its legs, updated in O(1) when a
touch moves: the cost of one YES of each, and the gain of one NO of each. Only
when a sum says that a basket could pay is the depth walked, by the same kernel
that `scan` uses (`detection.md` 2.4). What else a rule may look at hangs on the books
as well: trackers of single markets (`rules.series`) and sets of related markets
(`rules.related`). A sweep once a second of frame time looks at what time alone moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from markets.book import Book
from markets.listing import OVER, EventTerms, MarketTerms
from rules.endings import Endings
from rules.kernel.endgame import History
from rules.kernel.finding import Finding, Limits, NearMiss
from rules.kernel.relations import Relation, connected_sets
from rules.rule_kinds import (
    CrossMarketRule,
    EndgameRule,
    ImbalanceRule,
    SpikeRule,
    TemporalRule,
    TrendRule,
)
from rules.series import Series
from rules.sightings import ActiveRule, Sighting, market_view
from rules.watch import Watch

if TYPE_CHECKING:
    from rules.kernel.known import Contradiction
    from rules.related import RelatedWatch

__all__ = ["ActiveRule", "Engine", "Sighting", "Watch", "market_view"]

ROUND = 10  # sweeps in which every event has its turn
MOST_WAITING = 10  # sets of related markets looked at in a sweep: some 50 ms


class Engine:
    """Maps changed books to the rules that look at them.

    With `confirm_terms` a finding is BLOCKED until the event's terms have been
    told again after the basket began to pay (`confirmed`). That is for the live
    venue, whose feed does not tell everything; a source that tells all in order
    needs no confirmation.
    """

    def __init__(self, rules: Iterable[ActiveRule], *, confirm_terms: bool = False) -> None:
        self.confirm_terms = confirm_terms
        self.watches: dict[str, Watch] = {}
        self.looks = 0  # depth walks made
        self.unsolved = 0  # looks that the solver gave up on
        self.refused: list[Contradiction] = []  # of what was related last: cannot hold together
        self._events: dict[str, EventTerms] = {}
        self._terms: dict[str, MarketTerms] = {}  # by market id
        self._held: dict[str, Book] = {}  # by market id
        self._told_at: dict[str, int] = {}  # by event id: unix ns of the last reading
        self._series: dict[str, Series] = {}  # by market id
        self._restless: dict[int, Series] = {}  # by number: those that waited when last looked at
        self._followed = 0  # how many were begun
        self._endings = Endings()
        self._connected: dict[str, tuple[Relation, ...]] = {}  # by market id
        self._related: dict[str, list[RelatedWatch]] = {}  # by market id
        self._owed: dict[int, RelatedWatch] = {}  # changed since the last look
        self._waiting: list[RelatedWatch] = []  # still to be looked at in this round
        self.use_rules(rules)
        self._related_by = self._joint  # rules that `_related` is for

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from a copy: what is owed is kept by identity, which is another now."""
        self.__dict__.update(state)
        self._owed = {id(watch): watch for watch in self._owed.values()}

    def use_rules(self, rules: Iterable[ActiveRule]) -> None:
        """Run these from now on. Events have to be watched anew (`watch_event`)."""
        self.rules = tuple(rules)
        self._baskets = tuple(rule for rule in self.rules if rule.kinds)
        self._single = _of(self.rules, SpikeRule, ImbalanceRule, TrendRule)
        self._joint: tuple[ActiveRule, ...] = _of(self.rules, CrossMarketRule, TemporalRule)
        self._endings.rules = _of(self.rules, EndgameRule)

    def event_ids(self, market_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the events of markets, each once; those that are not listed have none."""
        listed = (self._terms.get(market_id) for market_id in market_ids)
        return tuple(dict.fromkeys(each.event_id for each in listed if each and each.event_id))

    # --- what is watched --------------------------------------------------------------

    def watch_event(
        self, terms: EventTerms, books: dict[str, Book], *, at: int = 0
    ) -> list[Sighting]:
        """Start watching an event, or take over its new terms; return what is seen at once.

        `books` maps condition ids to books; a market without one is seen as
        awaiting its book. Markets of a plain event are watched one by one.
        """
        held = [books.get(market.condition_id) or Book(market) for market in terms.markets]
        seen = [
            sighting
            for watch in self._watch_baskets(terms, held)
            for sighting in self.look_at(watch, at=at)
        ]
        for market, book in zip(terms.markets, held, strict=True):
            self._terms[market.market_id], self._held[market.market_id] = market, book
            if self._single or market.market_id in self._series:
                seen += self._follow(terms, market, book, at=at)
        self._events[terms.event_id] = terms
        return seen + self._endings.watch(terms, held)

    def _watch_baskets(self, terms: EventTerms, held: list[Book]) -> list[Watch]:
        rules = _covering(self._baskets, terms)
        before = {book.group.subject: book.group for book in held if book.group is not None}
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

    def _watch(self, watch: Watch, books: list[Book], rules: tuple[ActiveRule, ...]) -> Watch:
        before = self.watches.pop(watch.subject, None)
        watch.rules = rules
        watch.hold(books)
        if before:
            codes = {rule.code for rule in rules}
            watch.left = tuple(rule for rule in before.rules if rule.code not in codes)
            watch.hot_since = before.hot_since
            before.release()
            watch.found(before.active)
        if not watch.over:
            self.watches[watch.subject] = watch
        return watch

    def _ended(self, watch: Watch) -> Watch:
        """Stop watching what others watch now in its place."""
        self.watches.pop(watch.subject, None)
        watch.left, watch.rules = watch.rules, ()
        watch.release()
        return watch

    def _follow(
        self, event: EventTerms, market: MarketTerms, book: Book, *, at: int
    ) -> list[Sighting]:
        """Have the rules of single markets follow one."""
        before = self._series.pop(market.market_id, None)
        if before is not None:
            before.release()
        over = market.untradable in OVER
        rules = () if over else _covering(self._single, event)
        if not rules:
            why = "market_closed" if over else "out_of_scope"
            return before.end(why) if before is not None else []
        self._followed += 1
        series = self._series[market.market_id] = Series(market, book, self._followed)
        series.follow(rules, before, at=at)
        self._note_restless(series)
        return []

    def _note_restless(self, series: Series) -> None:
        if series.waiting:
            self._restless[series.number] = series

    # --- related markets --------------------------------------------------------------

    def use_relations(self, relations: Iterable[Relation], *, at: int) -> list[Sighting]:
        """Watch what these relate from now on; return what is seen at once.

        What is connected as before goes on as it is: to work a set out may take a while.
        """
        before, self._connected = self._connected, {}
        for held in connected_sets(relations):
            members = (member for relation in held for member in relation.members)
            self._connected |= dict.fromkeys(members, held)
        every = {**before, **self._connected}
        changed = [each for each in every if before.get(each) != self._connected.get(each)]
        return self._relate(changed, at=at)

    def relate_all(self, *, at: int) -> list[Sighting]:
        """Work out all that is related anew if the rules that look at it changed."""
        if self._joint == self._related_by:
            return []
        self._related_by = self._joint
        return self._relate(list(self._connected), at=at)

    def relate_event(self, event: EventTerms, *, at: int) -> list[Sighting]:
        """Work out anew what an event's markets are related to: their terms or books changed."""
        own = [self._connected.get(market.market_id, ()) for market in event.markets]
        members = {member for held in own for each in held for member in each.members}
        return self._relate(sorted(members), at=at)

    def _relate(self, members: Sequence[str], *, at: int) -> list[Sighting]:
        """Watch anew what these markets are connected by; all members of a set are given."""
        self.refused = []
        before = _distinct(watch for each in members for watch in self._related.pop(each, ()))
        active = {(each.rule.code, each.subject): each for each in before if each.active}
        for watch in before:
            watch.release()
        seen: list[Sighting] = []
        for watch in self._watch_related(members) if self._joint else ():
            known = active.pop((watch.rule.code, watch.subject), None)
            watch.active = known is not None
            watch.hot_since = known.hot_since if known is not None else 0
            if not watch.watch_list and watch.due(at):
                seen.append(self._look_related(watch, at=at))
        seen += [Sighting(each.rule, each.subject, (), "relation_gone") for each in active.values()]
        return seen

    def _watch_related(self, members: Iterable[str]) -> list[RelatedWatch]:
        from rules.related import watches_of  # the maths behind it loads SciPy

        listed = (self._connected.get(each) for each in members if each in self._terms)
        made: list[RelatedWatch] = []
        for held in {id(each): each for each in listed if each}.values():
            for rule in self._joint:
                scoped = [each for each in held if self._in_scope(rule, each)]
                made += watches_of(rule, scoped, self._terms, self._held, refused=self.refused)
        for watch in made:
            for member, book in watch.books.items():
                book.also = (*book.also, watch)
                self._related.setdefault(member, []).append(watch)
        return made

    def _in_scope(self, rule: ActiveRule, relation: Relation) -> bool:
        """Say whether a rule's scope covers the events of all markets that are listed."""
        events = (self._events.get(each) for each in self.event_ids(relation.members))
        return all(_covering((rule,), event) for event in events if event is not None)

    def _look_related(self, watch: RelatedWatch, *, at: int) -> Sighting:
        self.looks += 1
        seen = watch.look(at, is_confirmed=self._confirmed)
        self.unsolved += watch.unsolved
        return seen

    def related_to(self, market_id: str) -> tuple[RelatedWatch, ...]:
        """Return what a market is watched with."""
        return tuple(self._related.get(market_id, ()))

    # --- looking ----------------------------------------------------------------------

    def terms_told(self, event_id: str, *, at: int) -> None:
        """The venue told an event's terms at this time (unix ns)."""
        self._told_at[event_id] = at

    def confirmed(self, event_id: str, *, at: int) -> list[Sighting]:
        """The terms of an event were read again and are the same: what waited for that is seen."""
        before = self._told_at.get(event_id, 0)
        self.terms_told(event_id, at=at)
        if not self.confirm_terms:
            return []
        watch = self.watches.get(event_id)
        seen = []
        if watch is not None and watch.hot and before < watch.hot_since:
            seen = self.look_at(watch, at=at)
        event = self._events.get(event_id)
        waiting = (
            each
            for market in (event.markets if event is not None else ())
            for each in self._related.get(market.market_id, ())
            if before < each.hot_since
        )
        return seen + [self._look_related(each, at=at) for each in _distinct(waiting)]

    def _confirmed(self, event_ids: Iterable[str], since: int) -> bool:
        """Say whether the terms were last told after a basket began to pay.

        The feed does not tell that a market was paused; a price that nobody
        may take any more looks like a gift until the terms are read again.
        """
        return not self.confirm_terms or all(
            self._told_at.get(event_id, 0) >= since for event_id in event_ids
        )

    def look(self, books: Iterable[Book], *, at: int) -> list[Sighting]:
        """Return what is seen on everything that these books changed."""
        due: dict[str, Watch] | None = None
        others: list[Sighting] | None = None
        for book in books:
            watch = book.group
            if watch is not None:
                watch.take(book)
                if watch.hot:
                    due = due or {}
                    due[watch.subject] = watch
                    watch.hot_since = watch.hot_since or at
                else:
                    watch.hot_since = 0
            if book.also:
                others = others or []
                others += self._look_beside(book, at)
        if due is None:
            return others or []
        seen = [seen for watch in due.values() for seen in self.look_at(watch, at=at)]
        return seen + others if others else seen

    def _look_beside(self, book: Book, at: int) -> list[Sighting]:
        """Look at what else a book belongs to."""
        seen: list[Sighting] = []
        for other in book.also:
            if isinstance(other, Series):
                seen += other.look(at)
                self._note_restless(other)
            elif not other.watch_list and other.due(at):
                if other.can_wait(at):
                    self._owed[id(other)] = other
                else:
                    seen.append(self._look_related(other, at=at))
        return seen

    def catch_up(self, *, at: int) -> list[Sighting]:
        """Look at what had to wait; call some fifty times a second of frame time."""
        ready = [each for each in self._owed.values() if at >= each.next_at]
        for watch in ready:
            del self._owed[id(watch)]
        return [
            self._look_related(each, at=at) for each in ready if not each.released and each.due(at)
        ]

    def look_at(self, watch: Watch, *, at: int) -> list[Sighting]:
        """Walk the depth of one watch for every rule."""
        if not watch.could_pay:
            seen = [Sighting(rule, watch.subject, (), watch.why_not()) for rule in watch.rules]
        else:
            self.looks += 1
            events = (watch.terms.event_id,) if watch.terms.event_id else ()
            confirmed = self._confirmed(events, watch.hot_since)
            seen = [watch.sighting(rule, at=at, confirmed=confirmed) for rule in watch.rules]
        if watch.left:
            seen += [Sighting(rule, watch.subject, (), "out_of_scope") for rule in watch.left]
            watch.left = ()
        watch.found(any(sighting.findings for sighting in seen))
        return seen

    def detect(
        self, watch: Watch, limits: Limits, *, at: int
    ) -> tuple[tuple[Finding, ...], tuple[NearMiss, ...]]:
        """Run the kernel over a watch as it is at a time (unix ns)."""
        return watch.detect(limits, at=at)

    def scan(self, *, at: int) -> list[Sighting]:
        """Look at everything once, whether it changed or not."""
        found: list[Sighting] = []
        for watch in self.watches.values():
            for book in watch.books:
                watch.take(book)
            if watch.could_pay or watch.active:
                found += self.look_at(watch, at=at)
        return found

    # --- what time moves --------------------------------------------------------------

    @property
    def sweeps(self) -> bool:
        """Whether any rule has something to look at when only time passes."""
        return bool(self._single or self._endings.rules or self._joint)

    def use_history(self, history: History) -> None:
        """Judge near-certain outcomes by this from now on."""
        self._endings.history = history

    def sweep(self, *, at: int) -> list[Sighting]:
        """Look at what waits for time to pass; call about once a second of frame time."""
        self._restless = {n: each for n, each in self._restless.items() if each.waiting}
        seen = [
            sighting
            for number in sorted(self._restless)
            for sighting in self._restless[number].look(at, swept=True)
        ]
        return [*seen, *self._sweep_related(at), *self._endings.look(at, share=ROUND)]

    def _sweep_related(self, at: int) -> list[Sighting]:
        """Look at a few of the watch-list and of what pays, whose yearly return time moves."""
        if not self._waiting:
            watches = _distinct(watch for each in self._related.values() for watch in each)
            self._waiting = [each for each in watches if each.watch_list or each.active]
        turn: list[RelatedWatch] = []
        while self._waiting and len(turn) < MOST_WAITING:
            watch = self._waiting.pop()
            if not watch.released and watch.due(at):
                turn.append(watch)
        return [self._look_related(each, at=at) for each in turn]


def _of(rules: Iterable[ActiveRule], *kinds: type) -> tuple[ActiveRule, ...]:
    return tuple(rule for rule in rules if isinstance(rule.definition, kinds))


def _covering(rules: Iterable[ActiveRule], event: EventTerms) -> tuple[ActiveRule, ...]:
    tags = frozenset(event.tags)
    return tuple(rule for rule in rules if rule.definition.scope.covers(event, tags=tags))


def _distinct(watches: Iterable[RelatedWatch]) -> list[RelatedWatch]:
    return list({id(watch): watch for watch in watches}.values())
