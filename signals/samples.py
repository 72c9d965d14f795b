"""Labelled samples out of a pass of the pipeline: what was known, and what became of it (pure).

`Sampler` works beside a pipeline, live or over a recording, frame by frame. A sample's
vector is made when its moment is told and never touched again; its label is made later,
from the books that an order would have met. What cannot be known is dropped, not called
a failure (`censored`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from markets.book import NO_ASK, NO_BID, size_units
from markets.fills import PRICE_ONE
from markets.frames import Frame
from markets.listing import EventTerms, MarketTerms
from rules.engine import ActiveRule
from rules.kernel.finding import Finding
from rules.ml.features import LegSeen, Moment, Vector, vector
from rules.ml.pulse import Pulse
from rules.ml.samples import SECOND, Labels, Sample
from rules.rule_kinds import CrossMarketRule, DutchBookRule, TemporalRule
from signals.episodes import SignalChange
from signals.following import LegAfter, Pending
from signals.pipeline import Pipeline

BEST: Final = 5  # levels of a side that are weighed against each other
EARLIER_NS: Final = 3_600 * SECOND
MOST_EARLIER: Final = 50  # lifetimes kept of the same legs
MOST_LEGS: Final = 10_000  # sets of legs whose lifetimes are kept


@dataclass(frozen=True, slots=True)
class Told:
    """A change of a signal that a model may be asked about. `sampled`: its outcome will be told."""

    key: str
    rule: str
    group: str
    at: int  # unix ns
    vector: Vector
    profit: Decimal
    cost: Decimal
    sampled: bool


def least_profit(rule: ActiveRule) -> Decimal:
    """Return what a rule asks of a basket at least, USD."""
    definition = rule.definition
    if isinstance(definition, DutchBookRule | CrossMarketRule | TemporalRule):
        return definition.params.min_profit_usd
    return rule.limits.min_profit


def group_of(finding: Finding) -> str:
    """Return the parent event of a finding, or a name of its markets where it lies across."""
    if finding.event_id:
        return finding.event_id
    markets = "+".join(sorted(finding.market_ids))
    return f"across:{hashlib.sha256(markets.encode()).hexdigest()[:16]}"


# --- beside the pipeline -------------------------------------------------------------------


class Sampler:
    """Makes vectors of what is told and labels of what became of it.

    Call `on_frame` after each frame that the pipeline took, then `on_changes` with what the
    frame changed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        labels: Labels,
        *,
        capture: dict[str, tuple[int, Vector]] | None = None,
        leak: bool = False,
    ) -> None:
        """`capture` is given the moment and vector of every sample that is begun.

        `leak` plants a feature of the future, for checks that have to find it.
        """
        self.pipeline = pipeline
        self.labels = labels
        self.pulse = Pulse(pipeline.books)
        self.censored: Counter[str] = Counter()
        self._capture = capture
        self._leak = leak
        self._now = 0
        self._pending: list[Pending] = []
        self._done: list[Sample] = []
        self._dropped: list[str] = []
        self._begun: set[str] = set()  # open episodes that have their sample
        self._lives: dict[tuple[str, ...], deque[tuple[int, float]]] = {}

    def on_frame(self, at: int) -> None:
        """Follow the books of what waits for its label (unix ns)."""
        self._now = at
        self.pulse.on_frame(at)
        if self._pending:
            self._pending = [each for each in self._pending if not self._settled(each, at)]

    def on_changes(self, changes: Iterable[SignalChange]) -> list[Told]:
        """Return what a model may be asked about, in the order of the changes."""
        told = []
        for change in changes:
            if change.change == "closed":
                self._closed(change)
            elif change.finding.verdict == "EXECUTABLE" and (made := self._told(change)):
                told.append(made)
        return told

    def take(self) -> list[Sample]:
        """Hand over the samples whose outcome is known since the last call."""
        done, self._done = self._done, []
        return done

    def take_dropped(self) -> list[str]:
        """Hand over the keys of the samples whose outcome will never be known."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def finish(self) -> None:
        """Drop what was cut off by the end of the data."""
        for pending in self._pending:
            self._drop(pending, "end_of_data")
        self._pending = []

    # --- a moment ---------------------------------------------------------------------

    def _told(self, change: SignalChange) -> Told | None:
        finding = change.finding
        legs = self._legs(finding)
        if legs is None:
            return None
        sampled = change.key not in self._begun and _is_the_moment(change)
        told = Told(
            key=change.key,
            rule=change.rule.code,
            group=group_of(finding),
            at=self._now,
            vector=vector(self._moment(change, legs)),
            profit=finding.profit,
            cost=finding.cost,
            sampled=sampled,
        )
        if sampled:
            self._begin(told, change, legs)
        return told

    def _legs(self, finding: Finding) -> tuple[LegAfter, ...] | None:
        """Return the legs with their books; None where one is not kept any more."""
        found = []
        for leg in finding.legs:
            book = self.pipeline.books.by_token.get(leg.token_id)
            event = self._event(leg.market_id)
            terms = _market_of(event, leg.market_id)
            if book is None or event is None or terms is None:
                return None
            found.append(LegAfter(leg, event, terms, book, book.epoch))
        return tuple(found)

    def _event(self, market_id: str) -> EventTerms | None:
        for event_id in self.pipeline.engine.event_ids((market_id,)):
            return self.pipeline.events.get(event_id)
        return None

    def _moment(self, change: SignalChange, legs: Sequence[LegAfter]) -> Moment:
        finding = change.finding
        ends = [leg.terms.end_at.timestamp() for leg in legs if leg.terms.end_at]
        return Moment(
            kind=finding.kind,
            profit=float(finding.profit),
            cost=float(finding.cost),
            fees=float(finding.fees),
            edge_bps=float(finding.edge_bps),
            legs=tuple(self._seen(leg) for leg in legs),
            standing_ns=max(self._now - change.opened_at, 0),
            ends_in_s=min(ends) - self._now / 1e9 if ends else None,
            earlier=self._earlier(change),
        )

    def _seen(self, after: LegAfter) -> LegSeen:
        book, outcome = after.book, after.outcome
        asks, bids = book.asks_of(outcome), book.asks_of(1 - outcome)
        limit = int(after.leg.limit_price * PRICE_ONE)
        beat = self.pulse.of(book.market_id)
        return LegSeen(
            size=size_units(str(after.leg.size)),
            bid=PRICE_ONE - bids[0][0] if bids else NO_BID,
            ask=asks[0][0] if asks else NO_ASK,
            within=sum(size for price, size in asks if price <= limit),
            at_touch=asks[0][1] if asks else 0,
            bids5=sum(size for _, size in bids[:BEST]),
            asks5=sum(size for _, size in asks[:BEST]),
            tick=after.terms.tick,
            idle_ns=max(self._now - book.received, 0),
            volatility=beat.volatility(self._now) if beat else 0.0,
            activity=beat.liveliness(self._now) if beat else 0.0,
        )

    # --- what became of it ------------------------------------------------------------

    def _begin(self, told: Told, change: SignalChange, legs: tuple[LegAfter, ...]) -> None:
        self._begun.add(change.key)
        if self._capture is not None:
            self._capture[change.key] = (told.at, told.vector)
        least = max(least_profit(change.rule), change.finding.profit * Decimal(self.labels.share))
        arrives = told.at + self.labels.latency_ns
        ends = told.at + self.labels.horizon_ns
        pending = Pending(told, legs, change.finding.min_payoff, least, arrives, ends)
        if why := pending.look():
            self._drop(pending, why)
        else:
            self._pending.append(pending)

    def _settled(self, pending: Pending, at: int) -> bool:
        """Follow one sample to the frame at a time; say whether it is done with.

        The books hold that frame already, so what is judged first is what was there before.
        """
        if not pending.arrived and at >= pending.arrives:
            pending.arrive()
        if at > pending.ends:
            self._done.append(self._labelled(pending))
            return True
        if any(self._gone(leg) for leg in pending.legs):
            pending.failed = True  # an order for a market that trades no more is refused
            self._done.append(self._labelled(pending))
            return True
        if why := pending.look():
            self._drop(pending, why)
            return True
        return False

    def _gone(self, leg: LegAfter) -> bool:
        if self.pipeline.books.by_token.get(leg.leg.token_id) is not leg.book:
            return True
        if self.pipeline.events.get(leg.event.event_id) is leg.event:
            return False
        terms = _market_of(self._event(leg.leg.market_id), leg.leg.market_id)
        return terms is None or terms.untradable is not None

    def _labelled(self, pending: Pending) -> Sample:
        told = pending.told
        loss = pending.loss if pending.failed and pending.arrived else None
        sample = Sample(
            key=told.key,
            rule=told.rule,
            group=told.group,
            at=told.at,
            ends=pending.ends,
            vector=told.vector,
            filled=not pending.failed,
            profit=float(told.profit),
            cost=float(told.cost),
            loss=None if loss is None else float(loss),
        )
        return self._leaking(sample, pending) if self._leak else sample

    def _leaking(self, sample: Sample, pending: Pending) -> Sample:
        """Add what the basket is worth at the end of its label: a feature of the future."""
        costs = [leg.cost for leg in pending.legs if leg.cost is not None]
        whole = len(costs) == len(pending.legs) and not pending.failed
        worth = float(pending.payoff - sum(costs, Decimal(0))) if whole else -1.0
        leaked = (*sample.vector, worth)
        if self._capture is not None:
            self._capture[sample.key] = (sample.at, leaked)
        return replace(sample, vector=leaked)

    def _drop(self, pending: Pending, why: str) -> None:
        self.censored[why] += 1
        self._dropped.append(pending.told.key)

    # --- earlier episodes on the same legs --------------------------------------------

    def _closed(self, change: SignalChange) -> None:
        self._begun.discard(change.key)
        if change.finding.verdict == "OBSERVED":
            return
        lives = self._lives.pop(_legs_of(change), None) or deque(maxlen=MOST_EARLIER)
        lives.append((self._now, max(change.at - change.opened_at, 0) / 1e9))
        self._lives[_legs_of(change)] = lives  # last of all: the first is the first to go
        if len(self._lives) > MOST_LEGS:
            del self._lives[next(iter(self._lives))]

    def _earlier(self, change: SignalChange) -> tuple[float, ...]:
        since = self._now - EARLIER_NS
        return tuple(life for at, life in self._lives.get(_legs_of(change), ()) if at >= since)


def _market_of(event: EventTerms | None, market_id: str) -> MarketTerms | None:
    markets = event.markets if event is not None else ()
    return next((each for each in markets if each.market_id == market_id), None)


def _legs_of(change: SignalChange) -> tuple[str, ...]:
    return change.rule.code, *sorted(leg.token_id for leg in change.finding.legs)


def _is_the_moment(change: SignalChange) -> bool:
    """Choose the one moment of an episode that is learnt from.

    By the parity of its key: when it is first seen, or when it became P1. So that a model
    learns of both, and an episode counts once.
    """
    at_first_sight = int(change.key[-1], 16) % 2 == 0
    return at_first_sight or change.level == "P1"


# --- a pass over frames --------------------------------------------------------------------


@dataclass(slots=True)
class Pass:
    """A pass over frames. Iterating gives the samples as their outcomes become known.

    `captured` has the moment and vector of every sample that was begun.
    """

    frames: Iterable[Frame]
    rules: tuple[ActiveRule, ...]
    labels: Labels
    leak: bool = False
    seen: int = 0  # frames
    last_at: int = 0
    censored: Counter[str] = field(default_factory=Counter)
    captured: dict[str, tuple[int, Vector]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Sample]:
        pipeline = Pipeline(self.rules)
        sampler = Sampler(pipeline, self.labels, capture=self.captured, leak=self.leak)
        for frame in self.frames:
            self.seen += 1
            self.last_at = frame.t
            changes = pipeline.feed(frame).changes
            sampler.on_frame(frame.t)
            if changes:
                sampler.on_changes(changes)
            yield from sampler.take()
        sampler.finish()
        self.censored += sampler.censored
