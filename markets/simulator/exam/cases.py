"""What an exam is made of: cases, what they send, and all that could be had in them.

A case knows nothing of detectors. It states what its markets offer at every moment and
which states they can end in; what could be gained is for an examiner to work out.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from markets.fills import PRICE_ONE, Ladder
from markets.frames import Frame

Json = dict[str, object]
States = NDArray[np.int8]  # a row per state that is possible: what YES of each market pays
Detector = Literal["dutch_book", "cross_market", "temporal", "spike", "endgame"]

# What a case must not bring about. A plain case: any P1 that no true window overlaps.
Check = Literal[
    "p1",
    "one_signal",  # more P1 signals than windows
    "unlabelled",  # a P1 that does not say it fails if a market is void
    "over_capital",  # a P1 that costs more than the rule's capital
    "double_spend",  # P1 signals that take more of a token than is offered
    "spike",  # any spike
    "endgame",  # a near-certain bet without enough history to say so
    "bait",  # any difference between the signals with and without the bait
]


@dataclass(frozen=True, slots=True)
class Quoted:
    """What can be bought of a market's outcomes from a receive time (unix ns) on."""

    t: int
    market_id: str
    asks: tuple[Ladder, Ladder]


@dataclass(frozen=True, slots=True)
class Charge:
    """What taking costs in a market: shares x rate x (p(1-p))^exponent."""

    rate: Decimal
    exponent: int = 1

    def cost(self, price: int) -> int:
        """Return what one share costs at a price (1e-4 USD), in 1e-12 USD, the fee rounded up."""
        return _cost(price, self.rate, self.exponent)


@lru_cache(maxsize=200_000)
def _cost(price: int, rate: Decimal, exponent: int) -> int:
    fee = rate * Decimal(price * (PRICE_ONE - price)).scaleb(-8) ** exponent
    return price * 10**8 + int((fee * 10**12).to_integral_value(rounding=ROUND_CEILING))


@dataclass(frozen=True, slots=True, eq=False)
class Stake:
    """Outcomes that can be bought together, and every state they can end in.

    `kind` is what a finding about it is called, `sides` which outcomes of its
    markets count (0: YES, 1: NO), `detectors` who has to find it.
    """

    kind: str
    event_id: str | None
    market_ids: tuple[str, ...]
    sides: tuple[int, ...]
    states: States
    detectors: tuple[Detector, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One part of an exam. `pages` are its events as the catalogue lists them at first.

    `family` says what it is; a trap counts what goes wrong by its `check`.
    `capital` (USD) is what a rule may spend on one basket, None for no bound.
    `bait` are frames that must make no difference to what is found.
    """

    number: int
    family: str
    trap: bool
    check: Check
    pages: tuple[Json, ...]
    relations: tuple[Json, ...]
    frames: tuple[Frame, ...]
    quoted: tuple[Quoted, ...]
    stakes: tuple[Stake, ...]
    charges: dict[str, Charge]
    capital: int | None
    jumps: tuple[tuple[str, int], ...] = ()  # market and receive time of each move to be told
    bait: tuple[Frame, ...] = ()

    @property
    def event_ids(self) -> frozenset[str]:
        """The events that are this case's own."""
        return frozenset(str(page["id"]) for page in self.pages)
