"""Related markets live: a test per change that misses nothing, and the full look (pure).

`RelatedSet.could_pay` looks at the touch alone: if nothing can be gained with the
first share of each outcome, nothing can be gained with more (`detection.md` 2.5).
What the touch allows is an interval for the probability of each outcome 0: at least
what NO would have to cost, at most what YES costs. A gain for certain exists exactly
if no possible probabilities fit all intervals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from markets.fills import FREE, PRICE_ONE, Fee, cost_table
from markets.listing import MarketTerms
from rules.kernel.baskets import yes_outcome
from rules.kernel.finding import Finding, Limits, MarketView, NearMiss
from rules.kernel.known import Contradiction, Known, Order, Partition, known_of
from rules.kernel.lp import detect_known
from rules.kernel.near import near_miss_of
from rules.kernel.program import centre
from rules.kernel.relations import Fact, Relation, connected_sets
from rules.kernel.walks import ZERO

# Deeper than this inside the intervals, probabilities prove that nothing can be gained; the
# solver itself may be off by 1e-7.
_DEPTH = 1e-6
_NOTHING: list[float] = [0.0] * (PRICE_ONE + 1)
_ANYTHING: list[float] = [1.0] * (PRICE_ONE + 1)

Touch = tuple[int, int]  # bid and ask of outcome 0 in 1e-4 USD; 0 and 10,000 where there is none


class RelatedSet:
    """A connected set of relations, and what was worked out of it once.

    `gates` is empty where all its relations may be relied on. Otherwise it is a
    watch-list set: it is told of, blocked, while none of its `sound` subsets pays.
    `subject` is the same for the same relations, whoever approved them.
    """

    __slots__ = (
        "_ceilings",
        "_floors",
        "_witness",
        "gates",
        "known",
        "members",
        "sound",
        "subject",
    )

    def __init__(
        self, known: Known, terms: Mapping[str, MarketTerms], sound: tuple[RelatedSet, ...] = ()
    ) -> None:
        self.known = known
        self.members = known.members
        self.sound = sound
        self.gates = tuple(sorted({gate for each in known.relations for gate in each.gates}))
        self.subject = _subject(known.relations)
        fees = [_fee(terms.get(member)) for member in known.members]
        self._floors = [_NOTHING if fee is None else _floor_table(fee) for fee in fees]
        self._ceilings = [_ANYTHING if fee is None else cost_table(fee) for fee in fees]
        self._witness: list[float] | None = None  # probabilities that fitted the last time

    def __repr__(self) -> str:
        return f"<RelatedSet {self.subject} {', '.join(self.members)}>"

    def could_pay(self, touches: Sequence[Touch]) -> bool:
        """Say whether the touch of the members, in their order, leaves room for a gain.

        A book that may not be evaluated counts as (0, 10,000). Never False where
        `detect_related` would find anything, whatever the depth.
        """
        lows = [floor[bid] for floor, (bid, _) in zip(self._floors, touches, strict=True)]
        highs = [cost[ask] for cost, (_, ask) in zip(self._ceilings, touches, strict=True)]
        shape = self.known.shape
        if isinstance(shape, Order):
            return _order_pays(shape, lows, highs)
        if isinstance(shape, Partition):
            return any(_fact_pays(fact, lows, highs) for fact in shape.facts)
        return self._general_pays(lows, highs)

    def _general_pays(self, lows: list[float], highs: list[float]) -> bool:
        """Try the probabilities that fitted last; only where they do not, look for others."""
        witness = self._witness
        if witness is not None and all(map(_between, lows, witness, highs)):
            return False
        if any(_fact_pays(fact, lows, highs) for fact in self.known.facts):
            return True
        depth, found = centre(self.known, lows, highs)
        self._witness = found.tolist() if depth > _DEPTH else None
        return self._witness is None


def related_sets(
    relations: Sequence[Relation],
    terms: Mapping[str, MarketTerms],
    *,
    refused: list[Contradiction],
) -> tuple[RelatedSet, ...]:
    """Split relations into what is looked at as one: sound sets first, then watch-list sets.

    `terms` may lack members that are not listed. Sets that no joint outcome
    satisfies are left out and added to `refused`. To be called again when a
    relation or the terms of a member change.
    """
    sound: list[RelatedSet] = []
    for held in connected_sets(relation for relation in relations if not relation.gates):
        sound += _known_or_refused(held, terms, (), refused)
    watched: list[RelatedSet] = []
    for held in connected_sets(relations):
        if any(relation.gates for relation in held):
            members = {member for relation in held for member in relation.members}
            inside = tuple(each for each in sound if members.issuperset(each.members))
            watched += _known_or_refused(held, terms, inside, refused)
    return (*sound, *watched)


def detect_related(
    related: RelatedSet,
    views: Mapping[str, MarketView],
    *,
    at: datetime,
    limits: Limits,
    min_annualised_pct: Decimal = Decimal(0),
) -> Finding | None:
    """Look at the depth of one set; None where nothing can be gained.

    A finding that earns less than `min_annualised_pct` a year until its markets
    end is THIN. What an event's own basket gains without any relation is left to
    the rule that looks at events.
    """
    for inside in related.sound:
        if detect_related(inside, views, at=at, limits=limits) is not None:
            return None
    finding = detect_known(related.known, views, at=at, limits=limits)
    if finding is None or _is_basket(finding, views):
        return None
    yearly = finding.annualised_pct
    slow = yearly is not None and yearly < min_annualised_pct
    return replace(finding, verdict="THIN") if slow and finding.verdict == "EXECUTABLE" else finding


def near_miss(related: RelatedSet, views: Mapping[str, MarketView]) -> NearMiss | None:
    """Say what comes closest to a gain at the touch, and what is missing; None without offers."""
    return near_miss_of(related.known, views, gates=related.gates)


def _known_or_refused(
    held: tuple[Relation, ...],
    terms: Mapping[str, MarketTerms],
    sound: tuple[RelatedSet, ...],
    refused: list[Contradiction],
) -> Iterator[RelatedSet]:
    try:
        yield RelatedSet(known_of(held, terms), terms, sound)
    except Contradiction as contradiction:
        refused.append(contradiction)


def _subject(relations: Sequence[Relation]) -> str:
    lines = sorted(f"{each.type} {' '.join(each.members)}" for each in relations)
    return f"related-{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:12]}"


def _is_basket(finding: Finding, views: Mapping[str, MarketView]) -> bool:
    """Say whether the legs pay as much with nothing known but "at most one of the event"."""
    groups = {views[leg.market_id].terms.neg_risk_id for leg in finding.legs}
    one_market = len(finding.market_ids) == 1
    if not one_market and (len(groups) > 1 or None in groups):
        return False
    net = dict.fromkeys(finding.market_ids, Decimal(0))  # YES less NO
    if_none = Decimal(0)
    for leg in finding.legs:
        terms = views[leg.market_id].terms
        if leg.token_id == terms.token_ids[yes_outcome(terms)]:
            net[leg.market_id] += leg.size
        else:
            net[leg.market_id] -= leg.size
            if_none += leg.size
    return if_none + min(Decimal(0), *net.values()) >= finding.min_payoff


def _fee(terms: MarketTerms | None) -> Fee | None:
    """Return what to reckon with for a market; None where nothing can be bought of it."""
    if terms is None or terms.payout is not None:
        return None
    return terms.fee or FREE


@lru_cache(maxsize=256)
def _floor_table(fee: Fee) -> list[float]:
    """Return what is left of 1 USD after buying NO against a bid, by bid in 1e-4 USD."""
    return [1.0 - cost for cost in reversed(cost_table(fee))]


def _between(low: float, value: float, high: float) -> bool:
    return low <= value <= high


def _order_pays(order: Order, lows: Sequence[float], highs: Sequence[float]) -> bool:
    """Look for a claim worth more than one that follows from it."""
    flipped = order.flipped
    reached: list[float] = []
    for group in order.groups:
        low, high = 0.0, 1.0
        for before in group.before:
            if reached[before] > low:
                low = reached[before]
        for at in group.positions:
            floor, ceiling = lows[at], highs[at]
            if flipped[at]:
                floor, ceiling = 1.0 - ceiling, 1.0 - floor
            if floor > low:
                low = floor
            if ceiling < high:
                high = ceiling
        if low > high + ZERO:
            return True
        reached.append(low)
    return False


def _fact_pays(fact: Fact, lows: Sequence[float], highs: Sequence[float]) -> bool:
    """Say whether literals of which one at most holds are worth more than 1 USD, or the reverse."""
    if fact.most:
        return sum([lows[a] if t else 1.0 - highs[a] for a, t in fact.literals]) > 1.0 + ZERO
    return sum([highs[a] if t else 1.0 - lows[a] for a, t in fact.literals]) < 1.0 - ZERO
