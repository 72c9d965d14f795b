"""What taking liquidity costs: taker fee, ticks, lots and the exact walk of a ladder (pure).

Units: a price is an int in 1e-4 USD (0 to 10,000), a size an int in 1e-6 shares,
so price x size is an int in 1e-10 USD. Results for people are Decimal USD and shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import lru_cache

PRICE_ONE = 10_000
SIZE_ONE = 1_000_000
LOT = 10_000  # 0.01 share in size units
MIN_NOTIONAL = PRICE_ONE * SIZE_ONE  # 1 USD before fees: the least a marketable order may be
FEE_STEP = Decimal("0.00001")  # the venue charges fees in steps of 1e-5 USD
MICRO = Decimal("0.000001")

Level = tuple[int, int]  # price in 1e-4 USD, size in 1e-6 shares
Ladder = tuple[Level, ...]  # best price first


@dataclass(frozen=True, slots=True)
class Fee:
    """A market's taker fee: shares x rate x (p(1-p))^exponent, in USD on top of the price."""

    rate: Decimal
    exponent: int = 1


FREE = Fee(Decimal(0))


class NotEnoughDepth(Exception):
    """A ladder holds less than was asked of it; `missing` is in 1e-6 shares."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing / SIZE_ONE} shares short")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Fill:
    """What one buy order takes from a ladder, exact, in shares and USD."""

    size: Decimal
    avg_price: Decimal  # without fee
    limit_price: Decimal  # on the tick
    fee: Decimal
    cost: Decimal  # fee included
    takes: tuple[tuple[Decimal, Decimal, Decimal], ...]  # per level: price, size, fee


@lru_cache(maxsize=256)
def cost_table(fee: Fee) -> list[float]:
    """Return what a share costs with its fee, in USD, indexed by price in 1e-4 USD.

    The list is shared by all callers: read it, never change it.
    """
    rate, exponent = float(fee.rate), fee.exponent
    prices = (index / PRICE_ONE for index in range(PRICE_ONE + 1))
    return [p + rate * (p * (1 - p)) ** exponent for p in prices]


def fee_charged(price: int, size: int, *, fee: Fee) -> Decimal:
    """Return the fee of one fill in USD.

    Rounded up to 1e-5 USD per order and level: the venue's own rounding is not
    documented, and up can only understate a profit.
    """
    return Decimal(_fee_steps(price, size, fee)) * FEE_STEP


def buy(ladder: Ladder, size: int, *, fee: Fee, tick: int) -> Fill:
    """Walk a ladder for `size` and price the order exactly.

    Raises `NotEnoughDepth` when the ladder is too short.
    """
    taken = take(ladder, size)
    steps = [_fee_steps(price, amount, fee) for price, amount in taken]
    gross = sum(price * amount for price, amount in taken)
    charged = Decimal(sum(steps)) * FEE_STEP
    return Fill(
        size=shares(size),
        avg_price=_usd(gross * SIZE_ONE, size).quantize(MICRO, ROUND_HALF_UP),
        limit_price=usd_price(up_to_tick(taken[-1][0], tick)),
        fee=charged,
        cost=_usd(gross, 1).quantize(MICRO, ROUND_CEILING) + charged,
        takes=tuple(
            (usd_price(price), shares(amount), Decimal(step) * FEE_STEP)
            for (price, amount), step in zip(taken, steps, strict=True)
        ),
    )


def take(ladder: Ladder, size: int) -> Ladder:
    """Return the levels, best first, that an order of `size` consumes."""
    if size <= 0:
        raise ValueError(f"an order needs a size above 0, not {size}")
    taken: list[Level] = []
    for price, available in ladder:
        amount = min(size, available)
        taken.append((price, amount))
        size -= amount
        if not size:
            return tuple(taken)
    raise NotEnoughDepth(size)


def left_after(ladder: Ladder, size: int) -> Ladder:
    """Return what a ladder still offers once `size` is taken from its best levels."""
    rest: list[Level] = []
    for price, available in ladder:
        amount = min(size, available)
        size -= amount
        if available > amount:
            rest.append((price, available - amount))
    return tuple(rest)


def gross_of(ladder: Ladder, size: int) -> int:
    """Return what `size` costs before fees, in 1e-10 USD."""
    return sum(price * amount for price, amount in take(ladder, size))


def depth_of(ladder: Ladder) -> int:
    """Return all that a ladder offers, in 1e-6 shares."""
    return sum(size for _, size in ladder)


def too_small(size: int, gross: int, *, min_size: int) -> bool:
    """Say whether the venue would refuse a marketable order of this size and notional."""
    return size < min_size or gross < MIN_NOTIONAL


def down_to_lot(size: int) -> int:
    return size - size % LOT


def up_to_tick(price: int, tick: int) -> int:
    """Return the lowest limit on the tick grid that still takes `price`."""
    return -(-price // tick) * tick


def on_tick(price: int, tick: int) -> bool:
    """Say whether an order may rest at `price`: a multiple of the tick in [tick, 1 - tick]."""
    return price % tick == 0 and tick <= price <= PRICE_ONE - tick


def mirrored(ladder: Ladder) -> Ladder:
    """Return the other outcome's ladder: its ask is 1 - bid with the same size, and back."""
    return tuple((PRICE_ONE - price, size) for price, size in ladder)


def shares(size: int) -> Decimal:
    return Decimal(size).scaleb(-6)


def usd_price(price: int) -> Decimal:
    return Decimal(price).scaleb(-4)


def _usd(gross: int, size: int) -> Decimal:
    return Decimal(gross).scaleb(-10) / size


def _fee_steps(price: int, size: int, fee: Fee) -> int:
    """Return the fee in 1e-5 USD, rounded up, in exact integers."""
    rate, over = fee.rate.as_integer_ratio()
    weight = int((price * (PRICE_ONE - price)) ** fee.exponent)
    whole = int(SIZE_ONE * over * PRICE_ONE ** (2 * fee.exponent))
    return -(-size * rate * weight * 100_000 // whole)
