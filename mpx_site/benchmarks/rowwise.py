"""Yardsticks of `bench backtest`: every rule called for every row, from memory or a database.

The rules are the same kernel functions that the engine calls; what is missing is all that
the engine does to call them less often. A row is a dict as a store gives it: its levels are
pairs of texts, which are turned into numbers once, when the row is read. A `ready` yardstick
is given the numbers for nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from markets.book import NO_ASK, NO_BID
from markets.fills import PRICE_ONE, SIZE_ONE, mirrored
from markets.listing import EventTerms, MarketTerms
from rules.dsl import DutchBookRule, RuleDefinition
from rules.kernel.baskets import detect_event
from rules.kernel.endgame import History, detect_endgame
from rules.kernel.finding import EventView, Finding, MarketView
from rules.kernel.imbalance import ImbalanceWatch, imbalance_finding
from rules.kernel.spike import SpikeWatch, spike_finding
from rules.kernel.trend import TrendWatch, breakout_finding
from rules.rule_kinds import EndgameRule, ImbalanceRule, SpikeRule, TrendRule

Row = Mapping[str, Any]
Latest = Callable[[str], Row | None]
SECOND: Final = 1_000_000_000
WINDOW_NS: Final = 300_000_000_000  # the seed's five minutes


class Rowwise:
    """Calls each rule for each row. `hits` are rule, kind and what it is about."""

    def __init__(
        self,
        definitions: Sequence[RuleDefinition],
        events: Iterable[EventTerms],
        *,
        ready: bool = False,
    ) -> None:
        """`ready`: rows have their ladders in numbers."""
        self._ready = ready
        self.hits: set[tuple[str, str, str]] = set()
        self._event = {m.market_id: event for event in events for m in event.markets}
        self._terms = {m.market_id: m for e in self._event.values() for m in e.markets}
        self._rules = {each.code: each for each in definitions}
        self._last: dict[str, Row] = {}
        self._watches: dict[tuple[str, str], Any] = {}
        self.codes = tuple(self._rules)
        self._again_at = 0
        self._touches: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, row: Row) -> None:
        """Take a row into account and ask every rule."""
        row = row if self._ready else read(row)
        if row["at"] >= self._again_at:
            self._again_at = row["at"] + SECOND
            self._again(row["at"])
        self._last[row["market"]] = row
        for code in self.codes:
            self.call(code, row, latest=self._last.get)

    def _again(self, at: int) -> None:
        """Ask what waits for time to pass: a tilted book may not move for a while."""
        for (code, market), watch in list(self._watches.items()):
            if isinstance(watch, ImbalanceWatch) and watch.tilted:
                self.call(code, {**self._last[market], "at": at}, latest=self._last.get)

    def call(self, code: str, row: Row, *, latest: Latest) -> None:
        rule = self._rules[code]
        terms = self._terms[row["market"]]
        at = row["at"]
        if isinstance(rule, DutchBookRule):
            found, _ = detect_event(
                self._view(terms, latest), at=_moment(at), limits=rule.params.limits()
            )
            kinds = rule.params.kinds
            self._note(code, [each for each in found if each.kind in kinds])
        elif isinstance(rule, EndgameRule):
            ending = detect_endgame(
                self._view(terms, latest),
                at=_moment(at),
                params=rule.params.kernel(),
                history=History({}),
            )
            self._note(code, [] if ending is None else [ending])
        else:
            finding = self._single(rule, terms, row)
            self._note(code, [] if finding is None else [finding])

    def _single(self, rule: RuleDefinition, terms: MarketTerms, row: Row) -> Finding | None:
        key = rule.code, terms.market_id
        if row["problem"]:
            return None
        at, bid, ask = row["at"], row["bid"], row["ask"]
        if isinstance(rule, SpikeRule):
            spikes = self._watch(key, lambda: SpikeWatch(terms, rule.params.kernel()))
            if self._moved(key, bid, ask) and bid != NO_BID and ask != NO_ASK:
                spikes.update(at, bid, ask, row["ladders"][1][0][1], row["ladders"][0][0][1])
            spike = spikes.still(at)
            return None if spike is None else spike_finding(terms, spike)
        if isinstance(rule, ImbalanceRule):
            tilts = self._watch(key, lambda: ImbalanceWatch(rule.params.kernel()))
            asks, no_asks = row["ladders"]
            tilts.update(at, mirrored(no_asks), asks)
            return None if tilts.current is None else imbalance_finding(terms, tilts.current)
        if isinstance(rule, TrendRule):
            trends = self._watch(key, lambda: TrendWatch(rule.params.kernel()))
            if self._moved(key, bid, ask):
                trends.update(at, bid, ask)
            out = trends.still(at)
            return None if out is None else breakout_finding(terms, out)
        return None  # relations: there are none here

    def _moved(self, key: tuple[str, str], bid: int, ask: int) -> bool:
        """Say whether the touch is news: the same again must not count twice."""
        before, self._touches[key] = self._touches.get(key), (bid, ask)
        return before != (bid, ask)

    def _watch(self, key: tuple[str, str], made: Callable[[], Any]) -> Any:
        if key not in self._watches:
            self._watches[key] = made()
        return self._watches[key]

    def _view(self, terms: MarketTerms, latest: Latest) -> EventView:
        event = self._event[terms.market_id]
        legs = ((each, latest(each.market_id)) for each in event.markets)
        return EventView(event, tuple(self._leg(*leg) for leg in legs))

    def _leg(self, terms: MarketTerms, row: Row | None) -> MarketView:
        if row is None:
            return MarketView(terms, ((), ()), ("awaiting",))
        if row["problem"]:
            return MarketView(terms, ((), ()), (row["problem"],))
        return MarketView(terms, row["ladders"])

    def _note(self, code: str, found: Iterable[Finding]) -> None:
        for finding in found:
            basket = finding.kind.endswith("_basket") and finding.event_id is not None
            about = finding.event_id if basket else "+".join(finding.market_ids)
            self.hits.add((code, finding.kind, about or ""))


def read(row: Row) -> Row:
    """Return a row with its levels in numbers: what can be bought of either outcome."""
    asks = tuple([(_units(price), _size(size)) for price, size in row["asks"]])
    no_asks = tuple([(PRICE_ONE - _units(price), _size(size)) for price, size in row["bids"]])
    return {**row, "ladders": (asks, no_asks)}


def _units(price: str) -> int:
    return round(float(price) * PRICE_ONE)


def _size(size: str) -> int:
    return round(float(size) * SIZE_ONE)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at // 1_000_000_000, UTC)


class Ticks:
    """The same rows in a database, asked as the seed asks: the last tick, and five minutes."""

    def __init__(
        self, database: sqlite3.Connection, events: Iterable[EventTerms], rows: Sequence[Row]
    ) -> None:
        self._database = database
        self._ladders = {(row["market"], row["at"]): row for row in rows}
        self._now = 0
        database.execute("CREATE TABLE tick (market TEXT, at INTEGER, bid INTEGER, ask INTEGER)")
        database.executemany(
            "INSERT INTO tick VALUES (:market, :at, :bid, :ask)",
            ({name: row[name] for name in ("market", "at", "bid", "ask")} for row in rows),
        )
        database.execute("CREATE INDEX tick_of ON tick (market, at DESC)")

    def seen_by(self, row: Row) -> int:
        """Ask for the window of a tick's market; return how many ticks it has."""
        self._now = row["at"]
        window = self._database.execute(
            "SELECT at, bid, ask FROM tick WHERE market = ? AND at BETWEEN ? AND ? ORDER BY at",
            (row["market"], self._now - WINDOW_NS, self._now),
        )
        return len(window.fetchall())

    def latest(self, market: str) -> Row | None:
        """Ask for the last tick of a market; it is read anew."""
        found = self._database.execute(
            "SELECT at FROM tick WHERE market = ? AND at <= ? ORDER BY at DESC LIMIT 1",
            (market, self._now),
        ).fetchone()
        return None if found is None else read(self._ladders[market, found[0]])

    def close(self) -> None:
        self._database.close()
