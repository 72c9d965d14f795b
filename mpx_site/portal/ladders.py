"""The depth behind a leg as a small picture: what is offered, and what of it is ours (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from markets.fills import Ladder, shares, usd_price

MOST_LEVELS = 8
BEYOND = 3  # levels that are shown past the last one that is taken

Take = tuple[Decimal, Decimal, Decimal]  # price, size, fee


@dataclass(frozen=True, slots=True)
class Level:
    """One price. `total` is the depth up to here; `bar` and `ours_bar` are of 100."""

    price: Decimal
    size: Decimal
    total: Decimal
    ours: Decimal
    within: bool  # the limit
    bar: float
    ours_bar: float


@dataclass(frozen=True, slots=True)
class LegLadder:
    """A leg's offers, best first. `hidden` counts further levels; `limit` None: no order yet."""

    label: str
    market_id: str
    levels: tuple[Level, ...]
    hidden: int
    limit: Decimal | None


def leg_ladder(
    label: str,
    market_id: str,
    ladder: Ladder,
    *,
    takes: Sequence[Take] = (),
    limit: Decimal | None = None,
) -> LegLadder:
    """Draw a ladder with our shares in it: those that the plan takes at each price."""
    ours = {price: size for price, size, _ in takes}
    offered = [(usd_price(price), shares(size)) for price, size in ladder]
    last = max((i for i, (price, _) in enumerate(offered) if price in ours), default=-1)
    shown = offered[: max(last + 1 + BEYOND, MOST_LEVELS)] if last >= 0 else offered[:MOST_LEVELS]
    most = max((size for _, size in shown), default=Decimal(1)) or Decimal(1)
    total, levels = Decimal(0), []
    for price, size in shown:
        total += size
        mine = ours.get(price, Decimal(0))
        levels.append(
            Level(
                price=price,
                size=size,
                total=total,
                ours=mine,
                within=limit is not None and price <= limit,
                bar=_share(size, most),
                ours_bar=_share(min(mine, size), most),
            )
        )
    return LegLadder(label, market_id, tuple(levels), len(offered) - len(shown), limit)


def _share(size: Decimal, most: Decimal) -> float:
    return round(float(size / most) * 100, 1)
