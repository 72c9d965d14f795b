"""What taking liquidity costs: taker fee, ticks, lots and the exact walk of a ladder (pure).

Units: a price is an int in 1e-4 USD (0 to 10,000), a size an int in 1e-6 shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

PRICE_ONE = 10_000
SIZE_ONE = 1_000_000
LOT = 10_000  # 0.01 share in size units

Level = tuple[int, int]  # price in 1e-4 USD, size in 1e-6 shares
Ladder = tuple[Level, ...]  # best price first


@dataclass(frozen=True, slots=True)
class Fee:
    """A market's taker fee: shares x rate x (p(1-p))^exponent, in USD on top of the price."""

    rate: Decimal
    exponent: int = 1


FREE = Fee(Decimal(0))
