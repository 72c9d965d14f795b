"""What is really there: the log that detectors are judged by, and the plain sums behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markets.fills import PRICE_ONE

USD = 10**12  # sums of costs are exact ints in 1e-12 USD

PLANTED = frozenset({"planted", "quiet_leg"})
DECOYS = frozenset(
    {
        "gross_not_net",
        "thin_top",
        "below_min_size",
        "augmented",
        "plain_group",
        "empty_leg",
        "paused_leg",
        "crossed",
        "flicker",
    }
)


@dataclass(frozen=True, slots=True)
class Truth:
    """One window in which an event looked mispriced.

    `family`: "planted" and "quiet_leg" (one leg has not moved for hours, yet is live) are real
    and executable; "jump" is real but incidental, of any size; the rest are decoys, named for
    what spoils them. `t0` and `t1` are receive times in unix ns: of the first frame that opened
    the window and of the last that closed it; while it is open `t1` is the intended end.
    A window between two events is of the kind "equivalent" or "ladder"; `event_id` is the event
    listed later. `planted` holds for real ones that were put there.
    """

    family: str
    kind: str
    event_id: str
    token_ids: tuple[str, ...]
    t0: int
    t1: int
    planted: bool
    other_event_id: str = ""  # of the event that is mispriced against this one, if one is


def buy_cost(price: int, rate: int) -> int:
    """Give what one share costs with its taker fee, in 1e-12 USD; `rate` in 1e-4."""
    return price * 10**8 + rate * price * (PRICE_ONE - price)


def yes_cost(asks: Iterable[int], rate: int) -> int:
    """Give what one share of every leg's YES costs with fees, in 1e-12 USD."""
    return sum(buy_cost(ask, rate) for ask in asks)


def no_gain(bids: Iterable[int], rate: int) -> int:
    """Give what one NO share of every leg pays above its cost, before the one leg that loses."""
    return sum(USD - buy_cost(PRICE_ONE - bid, rate) for bid in bids if bid)
