"""The daily figures in words and decimals, as the API, files and the command tell them (pure)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from execution.kpi import PERCENTS, Counts, Kpi, Lives

PLAIN = (
    *("signals", "p1", "p2", "p3", "priced", "missed"),
    *("suggested", "approved", "filled", "rejected", "expired", "cancelled", "failed"),
)


def row_of(kpi: Kpi) -> dict[str, Any]:
    return {"day": kpi.day, "rule": kpi.rule} | figures_of(kpi.counts, kpi.lives)


def figures_of(counts: Counts, lives: Lives) -> dict[str, Any]:
    """Return the figures of some days and rules; a mean or share of nothing is None."""
    return {
        **{name: getattr(counts, name) for name in PLAIN},
        "avg_gap": _fixed(counts.gap, 6),
        "avg_edge_bps": _fixed(counts.edge_bps, 2),
        "acceptance": _fixed(counts.acceptance, 4),
        "p1_profit_usd": _fixed(counts.p1_usd, 6),
        "captured_usd": _fixed(counts.captured_usd, 6),
        "missed_profit_usd": _fixed(counts.missed_usd, 6),
        "closed": lives.closed,
        **{f"lifetime_p{percent}_ms": _lifetime(lives, percent) for percent in PERCENTS},
        "final": not counts.still_open,
    }


def _lifetime(lives: Lives, percent: int) -> int | None:
    """Return the exact percentile of one row; of added rows, the most that it can be."""
    found = lives.percentile(percent)
    return None if found is None else found.high


def _fixed(value: Decimal | None, places: int) -> str | None:
    return None if value is None else f"{value:.{places}f}"
