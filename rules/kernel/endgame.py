"""ENDGAME_SWEEP: near-certain outcomes shortly before (or after) the end (pure, on a sweep).

Buying at 0.97 what pays 1 is a bet, and the question is only how often such bets were
lost. So the chance is a lower confidence bound from markets that resolved, of the same
category, as long before their listed end and at the same price; markets of one event
count as one, because they are decided together (`detection.md` 4.3). What is found is
never an arbitrage: OBSERVED, and marked where there is too little history to say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil, log

from markets.fills import PRICE_ONE, SIZE_ONE, down_to_lot, usd_price
from rules.kernel.finding import EventView, Finding, Leg, MarketView
from rules.kernel.observed import INSUFFICIENT, observed
from rules.kernel.plans import Offer, gates_of, leg_of, offer

KIND, POST_EVENT = "endgame", "post_event"
HOUR, DAY, YEAR = 3_600.0, 86_400.0, 365.0
# Seconds to the listed end, and prices of the side bought, that are counted together.
BUCKETS = (0.0, HOUR, 6 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY)
BUCKET_NAMES = ("ended", "1 hour", "6 hours", "1 day", "3 days", "7 days", "30 days", "longer")
BANDS = (9_000, 9_500, 9_700, 9_800, 9_900, 9_950, 9_990)  # 1e-4 USD

SPORTS = "sports"
# By the tags that events carry; the first that fits counts.
_SPORTS = """sports games esports nba nfl mlb nhl ncaa cfb cbb wnba soccer football epl ucl uefa
    fifa mls tennis atp wta golf pga f1 formula1 ufc mma boxing cricket ipl rugby chess dota-2
    league-of-legends counter-strike-2 valorant"""
_TAGS = {
    SPORTS: _SPORTS,
    "crypto": "crypto bitcoin ethereum solana xrp crypto-prices",
    "politics": "politics elections us-elections trump geopolitics world",
    "economics": "economy economics fed fed-rates finance business",
    "weather": "weather climate",
    "culture": "pop-culture culture movies music awards mentions",
}
_CATEGORIES = {name: frozenset(tags.split()) for name, tags in _TAGS.items()}

Cell = tuple[str, int, int]  # category, bucket of the time left, band of the price


@dataclass(frozen=True, slots=True)
class Observation:
    """One side of a market at one moment, and whether it won once the market resolved.

    `seconds_left` is to the end that was listed then: the real one was not known.
    """

    event_id: str
    category: str
    seconds_left: float
    price: int  # 1e-4 USD
    won: bool


@dataclass(frozen=True, slots=True)
class Record:
    """How many events there were, and how many of their bets won (fractions within an event)."""

    events: int = 0
    won: float = 0.0

    def lower_bound(self, confidence: float) -> float:
        """Return the chance that was at least this, exact (Clopper-Pearson); 0 without a win."""
        # Here, because every start reads the rules and SciPy takes longer to import than that.
        from scipy.special import betaincinv

        if self.won <= 0.0:
            return 0.0
        lost = max(0.0, self.events - self.won)
        return float(betaincinv(self.won, lost + 1.0, 1.0 - confidence))


class History:
    """What became of near-certain outcomes, by category, time to the end and price."""

    def __init__(self, cells: Mapping[Cell, Record]) -> None:
        self.cells = dict(cells)

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> History:
        """Count observations. Those of one event in one cell are one bet, won in part."""
        by_event: dict[Cell, dict[str, list[bool]]] = {}
        for seen in observations:
            if (cell := cell_of(seen.category, seen.seconds_left, seen.price)) is not None:
                by_event.setdefault(cell, {}).setdefault(seen.event_id, []).append(seen.won)
        return cls(
            {
                cell: Record(len(events), sum(sum(won) / len(won) for won in events.values()))
                for cell, events in by_event.items()
            }
        )

    def record(self, category: str, seconds_left: float, price: int) -> Record:
        """Return what is known of such bets; an empty record where there were none."""
        cell = cell_of(category, seconds_left, price)
        return Record() if cell is None else self.cells.get(cell, Record())


@dataclass(frozen=True, slots=True)
class EndgameParams:
    """What is looked at and what it must earn (docs/rules.md)."""

    min_price: int = 9_500  # 1e-4 USD
    max_price: int = 9_990
    minutes_to_end: float = 1_440.0
    min_liquidity: float = 0.0  # USD, as the venue states it for the market
    min_ev_bps: float = 20.0  # expected profit over cost
    confidence: float = 0.95
    dispute_pct: float = 1.0  # of markets
    flip_pct: float = 10.0  # of disputes that end the other way
    dispute_days: float = 7.0  # that a dispute delays the payout
    settle_hours: float = 24.0  # from the end to the payout
    capital_rate_pct: float = 5.0  # a year
    bankroll_usd: float = 1_000.0
    kelly_share: float = 0.25  # of the bankroll at most
    tell_insufficient: bool = True  # of what there is too little history for
    sports_before_close: bool = False
    post_event: bool = False
    post_event_hours: float = 72.0  # after the listed end
    post_event_min_price: int = 9_900


@dataclass(frozen=True, slots=True)
class _Bet:
    """One side that could be bought, with what it is judged by."""

    offer: Offer
    kind: str
    category: str
    seconds_left: float
    record: Record
    lower: float
    break_even: float  # the chance at which the best price earns nothing
    ev: float  # USD a share at the best price

    @property
    def ev_bps(self) -> float:
        return self.ev / self.offer.top_cost * 10_000


def detect_endgame(
    view: EventView, *, at: datetime, params: EndgameParams, history: History
) -> Finding | None:
    """Look at an event once; return its best bet, because its markets are decided together.

    None where nothing is near-certain, near its end and worth it. Where the
    history could not show it even if no bet had been lost, the finding says so
    (`insufficient_data`) with how many events there are and how many it takes.
    """
    category = category_of(view.terms.tags)
    bets = [
        bet
        for market in view.markets
        for bet in _bets(market, category, view, at=at, params=params, history=history)
    ]
    good = [bet for bet in bets if bet.ev_bps >= params.min_ev_bps]
    if good:
        return _finding(max(good, key=_order), params)
    if not params.tell_insufficient:
        return None
    unknown = [bet for bet in bets if bet.record.events < _needed(bet.break_even, params)]
    return _unknown(max(unknown, key=_order), params) if unknown else None


def category_of(tags: Iterable[str]) -> str:
    """Return the category that an event's tag slugs speak of; "other" where none does."""
    given = set(tags)
    return next((name for name, known in _CATEGORIES.items() if given & known), "other")


def cell_of(category: str, seconds_left: float, price: int) -> Cell | None:
    """Return where a bet is counted; None where it is not near-certain."""
    band = bisect_right(BANDS, price) - 1
    if band < 0 or price >= PRICE_ONE:
        return None
    return category, _bucket(seconds_left), band


def _bucket(seconds_left: float) -> int:
    return bisect_right(BUCKETS, seconds_left)


def _order(bet: _Bet) -> tuple[float, str, int]:
    return bet.ev_bps, bet.offer.terms.market_id, bet.offer.outcome


# --- what could be bought ------------------------------------------------------------


def _bets(
    market: MarketView,
    category: str,
    view: EventView,
    *,
    at: datetime,
    params: EndgameParams,
    history: History,
) -> Iterator[_Bet]:
    end_at = market.terms.end_at or view.terms.end_at
    if end_at is None or gates_of(market) or market.terms.liquidity < params.min_liquidity:
        return
    left = (end_at - at).total_seconds()
    kind = _kind(left, category, params)
    if kind is None:
        return
    least = params.post_event_min_price if kind == POST_EVENT else params.min_price
    for outcome in (0, 1):
        ladder = market.asks[outcome]
        if ladder and least <= ladder[0][0] <= params.max_price:
            yield _bet(offer(market, outcome, ()), kind, category, left, params, history)


def _kind(left: float, category: str, params: EndgameParams) -> str | None:
    if left < 0:
        recent = left >= -params.post_event_hours * HOUR
        return POST_EVENT if params.post_event and recent else None
    if category == SPORTS and not params.sports_before_close:
        return None
    return KIND if left <= params.minutes_to_end * 60 else None


def _bet(
    each: Offer,
    kind: str,
    category: str,
    left: float,
    params: EndgameParams,
    history: History,
) -> _Bet:
    price = each.ladder[0][0]
    record = history.record(category, left, price)
    lower = record.lower_bound(params.confidence)
    return _Bet(
        offer=each,
        kind=kind,
        category=category,
        seconds_left=left,
        record=record,
        lower=lower,
        break_even=_break_even(each.table[price], left, params),
        ev=_ev(lower, each.table[price], left, params),
    )


def _ev(chance: float, cost: float, left: float, params: EndgameParams) -> float:
    """Return what a share earns, in USD, on average: disputes, delay and carry included."""
    disputed, flipped = params.dispute_pct / 100, params.flip_pct / 100
    turned = chance * (1 - flipped) + (1 - chance) * flipped
    paid = chance * (1 - disputed) + disputed * turned
    days = max(left, 0.0) / DAY + params.settle_hours / 24 + disputed * params.dispute_days
    return paid - cost - cost * params.capital_rate_pct / 100 * days / YEAR


def _break_even(cost: float, left: float, params: EndgameParams) -> float:
    """Return the chance at which a share earns nothing; above 1 where no chance is enough."""
    nothing, everything = _ev(0.0, cost, left, params), _ev(1.0, cost, left, params)
    return -nothing / (everything - nothing)


def _needed(break_even: float, params: EndgameParams) -> int:
    """Return how many events without a loss would show a chance above the break-even.

    0 where not even certainty would be worth it: then there is nothing to wait for.
    """
    if break_even >= 1.0:
        return 0
    return ceil(log(1.0 - params.confidence) / log(break_even))


# --- what is told --------------------------------------------------------------------


def _finding(bet: _Bet, params: EndgameParams) -> Finding:
    leg, expected = _leg(bet, params)
    facts = {**_facts(bet, params), "ev_usd": f"{expected:.2f}"}
    small = leg is None
    return observed(
        bet.kind,
        bet.offer.terms,
        facts=facts,
        strength=bet.ev_bps,
        blocked_by=("min_size",) if small else (),
        legs=() if leg is None else (leg,),
    )


def _unknown(bet: _Bet, params: EndgameParams) -> Finding:
    facts = _facts(bet, params)
    return observed(
        bet.kind, bet.offer.terms, facts=facts, strength=0.0, blocked_by=(INSUFFICIENT,)
    )


def _facts(bet: _Bet, params: EndgameParams) -> dict[str, str]:
    terms, price = bet.offer.terms, bet.offer.ladder[0][0]
    bucket = BUCKET_NAMES[_bucket(bet.seconds_left)]
    return {
        "outcome": terms.outcomes[bet.offer.outcome],
        "price": f"{usd_price(price)}",
        "cost": f"{bet.offer.top_cost:.6f}",
        "hours_left": f"{bet.seconds_left / HOUR:.2f}",
        "compared_with": f"{bet.category}, {bucket}",
        "events": str(bet.record.events),
        "won": f"{bet.record.won:.2f}",
        "lower_bound": f"{bet.lower:.4f}",
        "break_even": f"{bet.break_even:.4f}",
        "events_needed": str(_needed(bet.break_even, params)),
        "ev_bps": f"{bet.ev_bps:.1f}",
    }


def _leg(bet: _Bet, params: EndgameParams) -> tuple[Leg | None, float]:
    """Buy while a share earns something, up to the share of the bankroll that Kelly allows.

    Returns the order, or None if the venue would refuse it as too small, and
    what it earns on average in USD.
    """
    cost = bet.offer.top_cost
    kelly = min(bet.ev / (1.0 - cost), params.kelly_share)
    money = params.bankroll_usd * kelly
    size, expected = 0.0, 0.0
    for price, available in bet.offer.ladder:
        level = bet.offer.table[price]
        ev = _ev(bet.lower, level, bet.seconds_left, params)
        if ev <= 0.0 or money <= 0.0:
            break
        taken = min(available / SIZE_ONE, money / level)
        size, expected, money = size + taken, expected + taken * ev, money - taken * level
    lots = down_to_lot(int(size * SIZE_ONE))
    if lots == 0 or bet.offer.refuses(lots):
        return None, 0.0
    return leg_of(bet.offer, lots), expected
