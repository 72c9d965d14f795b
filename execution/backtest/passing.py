"""One pass over the past: the live pipeline, and orders for what it told (pure).

Everything is as of what was known then: rules, relations, terms, books come by frames in
the order of their receive time, and nothing else is asked. A `Part` is a group of events
with a pipeline of its own; every part is told of the time of every frame, so that a part
runs the same whoever runs beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.backtest.lanes import Lane, Wanted
from execution.backtest.optimum import MOST_STATES, States, event_states, optimum, pair_states
from execution.backtest.tally import Counts, Hit, Tally
from execution.backtest.terms import FillTerms
from execution.backtest.trades import NOTHING, Sort, Trade
from execution.matching import price_units, reach, size_units, thinned
from execution.paper import ladder_of, trusted
from execution.plans import NoPlan, Plan, Sight, basis_of, make_plan
from markets.book import Book
from markets.fills import MIN_NOTIONAL, down_to_lot
from markets.frames import Frame, moment, unix_ns
from markets.listing import EventTerms, MarketTerms
from rules import house
from rules.dsl import ObservedRule
from rules.engine import ActiveRule
from rules.kernel.finding import Finding, MarketView
from signals.episodes import SignalChange
from signals.pipeline import Pipeline, Step

# The market that a message speaks of; what tells of several, or of none, has no such start.
MARKET = re.compile(rb'"market":\s*"(0x[0-9a-f]{1,64})"')
YEAR_NS = 365 * 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Variant:
    """A rule with one set of parameters. `rule.code` tells variants apart inside the engine."""

    rule: ActiveRule
    code: str  # of the rule itself
    label: str  # of the set; empty for the rule as it is

    @property
    def observes(self) -> bool:
        return isinstance(self.rule.definition, ObservedRule)


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What a lane tries: the run's own terms, or the same at another latency, fee or haircut."""

    name: str
    terms: FillTerms
    latency_ms: int


def lanes_of(terms: FillTerms) -> tuple[LaneKey, ...]:
    """Return the run's own lane, then one for each point of the latency curve."""
    still = replace(terms, latencies_ms=())
    return (
        LaneKey("own", terms, terms.latency_ms),
        *(LaneKey(f"latency {ms}", still, ms) for ms in terms.curve_ms),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """What one variant came to in one part: figures, and the trades of each lane."""

    counts: Counts
    trades: dict[str, list[Trade]]


@dataclass(slots=True)
class _Run:
    variant: Variant
    tally: Tally
    lanes: dict[str, Lane]
    decided: set[str] = field(default_factory=set)


class Part:
    """A group of events: the pipeline, and what its signals would have got."""

    def __init__(
        self,
        variants: Sequence[Variant],
        terms: FillTerms,
        lanes: Sequence[LaneKey],
        *,
        confirm_terms: bool = False,
        executes: bool = True,
        tell: Callable[[Hit], None] | None = None,
        heard: Callable[[SignalChange], None] | None = None,
    ) -> None:
        """Without `executes` (only prices are known) no order is made.

        `heard` takes every signal change, in order.
        """
        self.pipeline = Pipeline([each.rule for each in variants], confirm_terms=confirm_terms)
        self.terms = terms
        self.executes = executes
        self._heard = heard
        self.beside: Callable[[Sequence[SignalChange]], object] | None = None
        self._markets: dict[str, MarketTerms] = {}
        self._optima: dict[tuple[str, int], float | None] = {}
        books = self.pipeline.books
        self._runs = {
            each.rule.code: _Run(
                each,
                Tally(each.rule, tell=tell),
                {key.name: Lane(books, key.terms, key.latency_ms) for key in lanes},
            )
            for each in variants
        }
        self._lanes = [lane for run in self._runs.values() for lane in run.lanes.values()]
        self._busy: list[Lane] = []
        self._wakes_at = 2**63  # unix ns: when the first of them has something to do
        self._awaited: frozenset[bytes] = frozenset()  # markets that any of them has orders in

    @property
    def due(self) -> int:
        """When something is to be said though no frame of this part comes (unix ns)."""
        return self.pipeline.episodes.due

    @property
    def busy(self) -> bool:
        return bool(self._busy)

    # --- frames -----------------------------------------------------------------------

    def take(self, frame: Frame) -> None:
        """Take a frame that concerns this part."""
        t = frame.t
        if house.is_ours(frame.req) and frame.req == house.RULES:
            self.pass_by(t)  # the rules of the run are those that were asked for
            return
        if t >= self.due:
            self._told(self.pipeline.advance(t))
        step = self.pipeline.feed(frame)
        if frame.ch == "gamma":
            self._listed(step, t)
        if step.changes:
            self._told(step.changes)
        if self._busy:
            self._work(t, frame)

    def take_events(self, frame: Frame, events: Iterable[EventTerms]) -> None:
        """Take over the terms of events that a frame listed."""
        t = frame.t
        self.pass_by(t)
        for event in events:
            changes = self.pipeline.list_event(event, t=t)
            self._listed(Step((), (event,)), t)
            self._told(changes)

    def pass_by(self, t: int) -> None:
        """Let the time of a frame come that is nothing to this part."""
        if t >= self.due:
            self._told(self.pipeline.advance(t))
        changes = self.pipeline.pass_by(t)
        if changes:
            self._told(changes)
        if self._busy:
            self._work(t)

    def finish(self) -> dict[str, Found]:
        """End what is open at the end of the data; return what each variant came to."""
        self._told(self.pipeline.stop(why="end_of_data"))
        at = self.pipeline.last_frame_at
        for lane in self._lanes:
            lane.finish(at=at)
        return {
            code: Found(run.tally.counts, {name: lane.trades for name, lane in run.lanes.items()})
            for code, run in self._runs.items()
        }

    def _work(self, t: int, frame: Frame | None = None) -> None:
        """Let the lanes act whose time has come or whose markets a frame speaks of."""
        market = None
        if frame is not None and frame.ch == "ws" and frame.req is None:
            found = MARKET.search(frame.body) if frame.body[:1] != b"[" else None
            market = found[1] if found is not None else b""
        if t < self._wakes_at and market != b"" and market not in self._awaited:
            return
        for lane in self._busy:
            if t >= lane.wakes_at or market == b"" or market in lane.markets:
                lane.on_frame(t, market)
        self._plan_ahead()

    def _plan_ahead(self) -> None:
        """Work out what the lanes wait for: most frames are nothing to any of them."""
        self._busy = [lane for lane in self._busy if lane.busy]
        self._wakes_at = min([lane.wakes_at for lane in self._busy], default=2**63)
        self._awaited = frozenset().union(*[lane.markets for lane in self._busy])

    def _listed(self, step: Step, t: int) -> None:
        for event in step.events:
            for market in event.markets:
                self._markets[market.market_id] = market
        for lane in self._lanes:
            if lane.holds_bets:
                lane.resolve(self._payout, at=t)

    def _payout(self, market_id: str) -> Decimal | None:
        terms = self._markets.get(market_id)
        return terms.payout if terms is not None else None

    # --- decisions --------------------------------------------------------------------

    def _told(self, changes: Sequence[SignalChange]) -> None:
        if self.beside is not None and changes:
            self.beside(changes)
        for change in changes:
            if self._heard is not None:
                self._heard(change)
            run = self._runs[change.rule.code]
            run.tally.take(change)
            if change.change == "closed":
                run.decided.discard(change.key)
            elif self._acts_on(run, change):
                run.decided.add(change.key)
                run.tally.counts.decided += 1
                self._decide(run, change)

    def _acts_on(self, run: _Run, change: SignalChange) -> bool:
        if change.key in run.decided or not self.executes:
            return False
        if run.variant.observes:
            return not change.finding.blocked_by
        return change.level == "P1"

    def _decide(self, run: _Run, change: SignalChange) -> None:
        finding, at = change.finding, change.at
        if run.variant.observes and not finding.legs:
            wanted = self._direction(finding)
            made = None if wanted is None else self._bare(change, "direction", None)
        else:
            plan = self._plan(change)
            if isinstance(plan, NoPlan):
                run.tally.counts.no_plan.update(plan.reasons)
                return
            wanted = self._orders(plan)
            made = self._bare(change, "bet" if plan.bet else "basket", plan)
        if made is None or wanted is None:
            run.tally.counts.no_plan["one_sided"] += 1
            return
        for lane in run.lanes.values():
            lane.order(made(), wanted, at=at)
            lane.broker.on_time(at, ())  # they are on their way from that moment
            if lane not in self._busy:
                self._busy.append(lane)
        self._plan_ahead()

    def _bare(self, change: SignalChange, sort: Sort, plan: Plan | None) -> Callable[[], Trade]:
        """Return what makes a lane's own record of a decision."""
        finding = change.finding
        best = self._optimum(finding, change) if sort == "basket" else None
        markets = plan.legs if plan else ()
        ids = tuple(leg.market_id for leg in markets) or finding.market_ids

        def made() -> Trade:
            return Trade(
                key=change.key,
                rule=change.rule.code,
                kind=finding.kind,
                sort=sort,
                event_id=finding.event_id,
                market_ids=ids,
                decided_at=change.at,
                claimed=plan.profit if plan and sort == "basket" else NOTHING,
                notional=plan.notional if plan else self.terms.stake_usd,
                optimum=best,
                instant=finding.instant,
                locked_until=self._end_of(ids, change.at),
                plan=plan,
            )

        return made

    def _end_of(self, market_ids: Iterable[str], at: int) -> int:
        """Return when the last of the markets ends by its listing (unix ns); `at` if unknown."""
        found = (self._markets.get(each) for each in market_ids)
        ends = [unix_ns(each.end_at) for each in found if each is not None and each.end_at]
        return min(max(ends, default=at), at + 5 * YEAR_NS)

    def _plan(self, change: SignalChange) -> Plan | NoPlan:
        """Plan as the desk does, on the levels that the finding itself saw."""
        finding = change.finding
        payload = finding.explained()
        basis = basis_of(signal_key=change.key, rule=change.rule.code, payload=payload)
        share = self.terms.plan_share or self.terms.depth_share
        sights = {}
        for leg in finding.legs:
            terms = self._markets.get(leg.market_id)
            if terms is None:
                return NoPlan(("no_book",))
            takes = leg.takes or ((leg.limit_price, leg.size, NOTHING),)
            ladder = tuple((price_units(price), size_units(size)) for price, size, _ in takes)
            outcome = terms.token_ids.index(leg.token_id)
            sights[leg.token_id] = Sight(terms, outcome, thinned(ladder, share), "fresh", None, 0)
        return make_plan(
            basis,
            sights,
            capital=self.terms.capital_usd,
            slippage_bps=self.terms.slippage_bps,
            at=moment(change.at),
        )

    def _orders(self, plan: Plan) -> tuple[Wanted, ...]:
        return tuple(
            Wanted(
                self._markets[leg.market_id],
                leg.outcome_index,
                size_units(leg.size),
                price_units(leg.limit_price),
            )
            for leg in plan.legs
        )

    def _direction(self, finding: Finding) -> tuple[Wanted, ...] | None:
        """Buy the outcome that a direction points at, for the stake; None if nobody sells it."""
        terms = self._markets.get(finding.market_ids[0])
        book = self.pipeline.books.by_market.get(terms.condition_id) if terms else None
        if terms is None or book is None or not trusted(book):
            return None
        outcome = 0 if dict(finding.facts).get("direction") == "up" else 1
        ladder = ladder_of(book, outcome, "BUY")
        if not ladder:
            return None
        limit = reach(ladder[0][0], slippage_bps=self.terms.slippage_bps, tick=terms.tick)
        size = down_to_lot(int(self.terms.stake_usd * MIN_NOTIONAL / limit))
        if size < terms.min_size or size * limit < MIN_NOTIONAL:
            return None
        return (Wanted(terms, outcome, size, limit),)

    # --- the most there was ------------------------------------------------------------

    def _optimum(self, finding: Finding, change: SignalChange) -> float | None:
        """Return the LP's best gain on the books of the decision; once for all variants."""
        key = "+".join(sorted(finding.market_ids)), change.at
        if key not in self._optima:
            if len(self._optima) > 1_000:
                self._optima.clear()
            self._optima[key] = self._worked_out(finding)
        return self._optima[key]

    def _worked_out(self, finding: Finding) -> float | None:
        asked = self._set_of(finding)
        if asked is None:
            return None
        markets, states = asked
        views = [self._view(market) for market in markets]
        return optimum(views, states)

    def _set_of(self, finding: Finding) -> tuple[list[MarketTerms], States] | None:
        """Return the markets that hang together here, and what can come of them."""
        event = self.pipeline.events.get(finding.event_id or "")
        if finding.kind in ("yes_basket", "no_basket") and event is not None:
            known = event_states(event)
            if known is None:
                return None
            still, states = known
            return [event.markets[number] for number in still], states
        first = self._markets.get(finding.market_ids[0])
        if finding.kind == "binary":
            return None if first is None else ([first], pair_states())
        return self._related(finding)

    def _related(self, finding: Finding) -> tuple[list[MarketTerms], States] | None:
        wanted = set(finding.market_ids)
        for watch in self.pipeline.engine.related_to(finding.market_ids[0]):
            known = watch.related.known
            if watch.watch_list or not wanted <= set(known.members) or known.states is None:
                continue
            listed = [self._markets.get(member) for member in known.members]
            held = [(i, each) for i, each in enumerate(listed) if each is not None]
            rows = known.states[:, [i for i, _ in held]]
            if len(rows) > MOST_STATES:
                return None
            return [each for _, each in held], np.asarray(rows, dtype=np.float64)
        return None

    def _view(self, terms: MarketTerms) -> MarketView:
        """Return a market as it is offered, without leaving a trace in its book."""
        book: Book | None = self.pipeline.books.by_market.get(terms.condition_id)
        usable = book is not None and terms.untradable is None and trusted(book)
        if book is None or not usable:
            return MarketView(terms, ((), ()), ("missing_leg",))
        return MarketView(terms, (book.asks_of(0), book.asks_of(1)))

    def problems(self) -> list[Any]:
        return list(self.pipeline.problems.drain())
