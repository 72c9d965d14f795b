"""What a model may know of a finding: numbers from its moment and before (pure).

The same function makes the vectors for training and for serving. `FEATURES` is the
whole list in its order; `FEATURES_SHA` pins a model to it, so that a model trained on
another list is refused instead of misread.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from markets.fills import PRICE_ONE, SIZE_ONE

VERSION: Final = 1  # grows when a feature is computed in another way under its old name
UNKNOWN: Final = math.nan  # a model takes it as "not known", never as a number
HOUR_S: Final = 3_600.0
KINDS: Final = (
    "binary",
    "yes_basket",
    "no_basket",
    "implies",
    "exclusive",
    "exhaustive",
    "equivalent",
    "ladder",
    "lp",
    "temporal",
)

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LegSeen:
    """One leg's book at a moment, from the side of the outcome that is bought.

    Prices in 1e-4 USD, sizes in 1e-6 shares. `within` is what is offered up to the leg's
    limit. `volatility` is the standard deviation of the logit of the mid per root second,
    `activity` the share of the last seconds in which the book changed; both fade with a
    time constant of a minute (`rules.ml.pulse`).
    """

    size: int
    bid: int
    ask: int
    within: int
    at_touch: int
    bids5: int
    asks5: int
    tick: int
    idle_ns: int  # since the touch last moved
    volatility: float
    activity: float


@dataclass(frozen=True, slots=True)
class Moment:
    """All that is known of a finding when it is told. Money in USD, times in ns or seconds.

    `earlier` are the lifetimes in seconds of closed signals on the same legs that ended in
    the hour before.
    """

    kind: str
    profit: float
    cost: float
    fees: float
    edge_bps: float
    legs: tuple[LegSeen, ...]
    standing_ns: int
    ends_in_s: float | None
    earlier: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of a vector. `trend` 1: more of it never makes a fill less likely; -1: more."""

    name: str
    about: str
    of: Callable[[Moment], float]
    trend: int = 0
    categorical: bool = False


def vector(moment: Moment) -> Vector:
    """Return the numbers of a moment in the order of `FEATURES`."""
    return tuple(feature.of(moment) for feature in FEATURES)


def _each(of: Callable[[LegSeen], float]) -> Callable[[Moment], list[float]]:
    return lambda moment: [of(leg) for leg in moment.legs]


def _most(of: Callable[[LegSeen], float]) -> Callable[[Moment], float]:
    return lambda moment: max(_each(of)(moment), default=UNKNOWN)


def _least(of: Callable[[LegSeen], float]) -> Callable[[Moment], float]:
    return lambda moment: min(_each(of)(moment), default=UNKNOWN)


def _mean(of: Callable[[LegSeen], float]) -> Callable[[Moment], float]:
    return lambda moment: sum(_each(of)(moment)) / len(moment.legs) if moment.legs else UNKNOWN


def _spread(leg: LegSeen) -> float:
    return (leg.ask - leg.bid) / PRICE_ONE


def _tilt(leg: LegSeen) -> float:
    """Return the balance of the best five levels, 1 where only buyers are."""
    both = leg.bids5 + leg.asks5
    return (leg.bids5 - leg.asks5) / both if both else 0.0


def _kind(moment: Moment) -> float:
    return float(KINDS.index(moment.kind)) if moment.kind in KINDS else UNKNOWN


def _end(moment: Moment) -> float:
    return UNKNOWN if moment.ends_in_s is None else max(moment.ends_in_s, 0.0) / HOUR_S


def median(values: Sequence[float]) -> float:
    """Return the middle value; `UNKNOWN` of none."""
    if not values:
        return UNKNOWN
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


FEATURES: Final[tuple[Feature, ...]] = (
    Feature("edge_bps", "profit over cost after fees, bps", lambda m: m.edge_bps, trend=1),
    Feature("profit_usd", "profit after fees", lambda m: m.profit),
    Feature("cost_usd", "what all legs cost with fees", lambda m: m.cost),
    Feature("fee_share", "fees over cost", lambda m: m.fees / m.cost if m.cost else 0.0),
    Feature("legs", "number of legs", lambda m: float(len(m.legs)), trend=-1),
    Feature("kind", "kind of basket or relation", _kind, categorical=True),
    Feature(
        "depth_least",
        "offered up to the limit over the size wanted, scarcest leg",
        _least(lambda leg: leg.within / leg.size if leg.size else 0.0),
        trend=1,
    ),
    Feature(
        "touch_least",
        "offered at the best price over the size wanted, scarcest leg",
        _least(lambda leg: leg.at_touch / leg.size if leg.size else 0.0),
    ),
    Feature(
        "size_most", "shares wanted of the largest leg", _most(lambda leg: leg.size / SIZE_ONE)
    ),
    Feature("spread_most", "widest spread of a leg, USD", _most(_spread)),
    Feature("spread_mean", "mean spread of the legs, USD", _mean(_spread)),
    Feature("tilt_least", "buyers against sellers, best 5 levels, least leg", _least(_tilt)),
    Feature("tilt_most", "buyers against sellers, best 5 levels, most leg", _most(_tilt)),
    Feature("price_least", "best ask of the cheapest leg", _least(lambda leg: leg.ask / PRICE_ONE)),
    Feature("price_most", "best ask of the dearest leg", _most(lambda leg: leg.ask / PRICE_ONE)),
    Feature("tick_most", "coarsest tick of a leg, USD", _most(lambda leg: leg.tick / PRICE_ONE)),
    Feature(
        "idle_most_s",
        "since the touch of the quietest leg moved",
        _most(lambda leg: leg.idle_ns / 1e9),
        trend=-1,
    ),
    Feature(
        "idle_least_s",
        "since the touch of the liveliest leg moved",
        _least(lambda leg: leg.idle_ns / 1e9),
    ),
    Feature(
        "moved_1s",
        "share of the legs whose touch moved within the last second",
        _mean(lambda leg: float(leg.idle_ns <= 1_000_000_000)),
    ),
    Feature("activity_mean", "share of recent seconds with a change", _mean(lambda x: x.activity)),
    Feature(
        "volatility_most",
        "of the logit of the mid, liveliest leg",
        _most(lambda leg: leg.volatility),
        trend=-1,
    ),
    Feature("ends_in_h", "hours to the first end date of a leg", _end),
    Feature("standing_s", "since it was first seen", lambda m: m.standing_ns / 1e9),
    Feature("earlier_1h", "signals on the same legs that ended", lambda m: float(len(m.earlier))),
    Feature("earlier_median_s", "how long these lived", lambda m: median(m.earlier)),
)
NAMES: Final = tuple(feature.name for feature in FEATURES)
TRENDS: Final = tuple(feature.trend for feature in FEATURES)
CATEGORICAL: Final = tuple(number for number, feature in enumerate(FEATURES) if feature.categorical)
FEATURES_SHA: Final = hashlib.sha256(
    "\n".join([f"v{VERSION}", *KINDS, *(f"{f.name}|{f.trend}" for f in FEATURES)]).encode()
).hexdigest()
