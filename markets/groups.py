"""An event as a set of outcomes: which legs can still win, and whether that is all of them (pure).

Legs of a neg-risk event differ: some trade, some are placeholders without a name
yet, one may be the catch-all "Other", and some were settled to NO before the event ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Leg:
    """One market of an event. `state` as in `Market.State`; `payout` of its first outcome."""

    market_id: str
    state: str
    payout: Decimal | None = None
    other: bool = False
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Legs:
    """How many legs are in which state. `winner` is the market that resolved YES."""

    states: tuple[tuple[str, int], ...]
    settled_no: int
    winner: str | None
    other: bool
    gaps: tuple[int, ...]

    def __str__(self) -> str:
        told = [f"{count} {state.lower()}" for state, count in self.states]
        if self.settled_no:
            told.append(f"{self.settled_no} of them settled to NO")
        if self.winner:
            told.append(f"won by {self.winner}")
        if self.other:
            told.append("with a catch-all")
        if self.gaps:
            told.append(f"numbers {', '.join(map(str, self.gaps))} are not listed")
        return ", ".join(told) or "none"


def legs_of(legs: Iterable[Leg]) -> Legs:
    """Count the legs of one event."""
    listed = tuple(legs)
    return Legs(
        states=tuple(sorted(Counter(leg.state for leg in listed).items())),
        settled_no=sum(leg.payout == 0 for leg in listed),
        winner=next((leg.market_id for leg in listed if leg.payout == 1), None),
        other=any(leg.other for leg in listed),
        gaps=gaps_in(leg.number for leg in listed),
    )


def gaps_in(numbers: Iterable[int | None]) -> tuple[int, ...]:
    """Return the leg numbers that are missing below the highest; none where any is unknown."""
    held = set(numbers)
    if not held or None in held:
        return ()
    known = {number for number in held if number is not None}
    return tuple(sorted(set(range(max(known))) - known))
