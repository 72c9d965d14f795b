"""What a backtest assumes of the venue and the desk (pure). Times in ms unless named otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

from execution.paper import PaperTerms

CURVE_MS: Final = (0, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True, slots=True)
class FillTerms:
    """How orders reach the venue and what they may take there.

    An order is walked on the first book of its market that comes `latency_ms` after the
    decision (further `leg_gap_ms` for each leg), or on the book as it stands once the
    venue was silent about it for `quiet_ms`. `latencies_ms`, where given, is what the
    latency of each signal is drawn from, by `seed` and the signal's key. `depth_share`
    (the haircut) is the part of displayed sizes that can be had. What belongs to no
    basket that pays is sold after `unwind_ms`. `stake_usd` and `hold_s` (seconds) are
    those of a directional rule's trades. `fee_factor` multiplies the market's fees.
    """

    latency_ms: int = 250
    leg_gap_ms: int = 20
    quiet_ms: int = 1_000
    depth_share: Decimal = Decimal("0.5")
    unwind_ms: int = 1_000
    patience_ms: int = 60_000  # an order that no book came for by then is a failed leg
    capital_usd: Decimal = Decimal(200)
    slippage_bps: int = 80
    stake_usd: Decimal = Decimal(50)
    hold_s: int = 300
    latencies_ms: tuple[int, ...] = ()
    seed: int = 1
    curve_ms: tuple[int, ...] = CURVE_MS
    fee_factor: Decimal = Decimal(1)
    plan_share: Decimal | None = None  # that orders are sized for; None: `depth_share`
    most_open: int = 0  # orders at a time; 0: as many as there are
    day_usd: Decimal = Decimal(0)  # spent a UTC day; 0: as much as there is to spend

    def venue(self, latency_ms: int) -> PaperTerms:
        """Return how the paper venue behaves at a latency."""
        return PaperTerms(
            latency_ms=latency_ms,
            leg_gap_ms=self.leg_gap_ms,
            quiet_ms=self.quiet_ms,
            depth_share=self.depth_share,
        )

    def drawn(self, key: str) -> int | None:
        """Return the latency of a signal's orders, the same whatever ran before it."""
        if not self.latencies_ms:
            return None
        digest = hashlib.sha256(f"{self.seed}|{key}".encode()).digest()
        return self.latencies_ms[int.from_bytes(digest[:8]) % len(self.latencies_ms)]

    def row(self) -> dict[str, Any]:
        return {name: _written(value) for name, value in asdict(self).items()}


def _written(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def read_terms(row: Mapping[str, Any]) -> FillTerms:
    """Return stored terms as they were."""
    decimals = ("depth_share", "capital_usd", "stake_usd", "fee_factor", "day_usd")
    tuples = ("latencies_ms", "curve_ms")
    values: dict[str, Any] = dict(row)
    values |= {name: Decimal(row[name]) for name in decimals if name in row}
    if row.get("plan_share") is not None:
        values["plan_share"] = Decimal(row["plan_share"])
    values |= {name: tuple(row[name]) for name in tuples if name in row}
    return FillTerms(**values)
