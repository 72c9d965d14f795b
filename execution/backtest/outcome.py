"""From what a run saw to the figures that are stored, shown and compared (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from execution.backtest.passing import Found, LaneKey, Variant
from execution.backtest.statistics import deflated, drawdown, quantile, running, sharpe
from execution.backtest.tally import counts_of
from execution.backtest.terms import FillTerms
from execution.backtest.trades import NOTHING, Trade
from signals.whatif import LEVELS

MOST_POINTS: Final = 400  # of the equity curve; the rest lies between
MOST_EVENTS: Final = 100
MOST_TRADES: Final = 500
DAY_NS: Final = 86_400 * 1_000_000_000
_STEP = Decimal("0.000001")


def together(variant: Variant, found: Iterable[Found]) -> Found:
    """Put the groups of one variant together, in an order that does not depend on them."""
    counts = counts_of(variant.rule)
    trades: dict[str, list[Trade]] = {}
    for each in found:
        counts.merge(each.counts)
        for name, made in each.trades.items():
            trades.setdefault(name, []).extend(made)
    for made in trades.values():
        made.sort(key=lambda trade: (trade.decided_at, trade.key))
    return Found(counts, trades)


def within_caps(trades: Sequence[Trade], terms: FillTerms) -> None:
    """Mark what the desk's caps would have forbidden: orders at a time, and money a day."""
    open_until: list[int] = []
    spent: dict[int, Decimal] = {}
    for trade in trades:
        trade.left_out = ""
        open_until = [each for each in open_until if each > trade.decided_at]
        day = trade.decided_at // DAY_NS
        if terms.most_open and len(open_until) >= terms.most_open:
            trade.left_out = "most_open"
        elif terms.day_usd and spent.get(day, NOTHING) + trade.notional > terms.day_usd:
            trade.left_out = "day_usd"
        else:
            open_until.append(trade.ended_at)
            spent[day] = spent.get(day, NOTHING) + trade.notional


def summary(
    variant: Variant,
    found: Found,
    lanes: Sequence[LaneKey],
    terms: FillTerms,
    *,
    trials: Sequence[float] = (),
) -> dict[str, Any]:
    """Return the figures of one variant as JSON; money as text.

    `trials` are the Sharpe ratios of what else was tried with this rule.
    """
    for made in found.trades.values():
        within_caps(made, terms)
    counts = found.counts
    own = [trade for trade in found.trades.get("own", []) if not trade.left_out]
    return {
        "rule": variant.code,
        "set": variant.label,
        "sha256": variant.rule.sha256,
        "sort": "directional" if variant.observes else "riskless",
        "signals": counts.signals,
        "by_level": {level: counts.levels[level] for level in LEVELS},
        "p1": counts.levels["P1"],
        "decided": counts.decided,
        "no_plan": dict(sorted(counts.no_plan.items())),
        "left_out": dict(
            sorted(Counter(t.left_out for t in found.trades.get("own", []) if t.left_out).items())
        ),
        **_money(own),
        "latency": [_point(each, found) for each in lanes if each.name != "own"],
        "equity": equity(own),
        "edges": counts.edges.row(),
        "lifetimes": counts.lifetimes.row(),
        "measure": "strength" if variant.observes else "edge_bps",
        "sharpe": _sharpe(own, trials) if variant.observes else None,
        "events": _events(own, counts.events),
        "trade_rows": [trade.row() for trade in own[:MOST_TRADES]],
        "trade_rows_left_out": max(0, len(own) - MOST_TRADES),
    }


def _money(trades: Sequence[Trade]) -> dict[str, Any]:
    states = Counter(trade.state for trade in trades)
    captured = _sum(trade.captured for trade in trades)
    legs = sum(len(trade.legs) for trade in trades)
    failed = sum(trade.failed_legs for trade in trades)
    paid = _sum(trade.paid for trade in trades)
    capital_days = sum(trade.capital_days for trade in trades if trade.paid)
    gains = running([float(trade.captured) for trade in _by_end(trades)])
    return {
        "trades": len(trades),
        "filled": states["filled"],
        "partial": states["partial"],
        "missed": states["missed"],
        "open_at_end": sum(trade.open_at_end for trade in trades),
        "legs": legs,
        "leg_failures": failed,
        "leg_failure_rate": round(failed / legs, 6) if legs else None,
        "leg_failure_cost": _text(_sum(trade.failure_cost for trade in trades)),
        "won": sum(trade.captured > 0 for trade in trades),
        "lost": sum(trade.captured < 0 for trade in trades),
        "claimed": _text(_sum(trade.claimed for trade in trades)),
        "captured": _text(captured),
        "windfall": _text(_sum(trade.gained - trade.captured for trade in trades)),
        "paid": _text(paid),
        "fees": _text(_sum(leg.fee for trade in trades for leg in trade.legs)),
        **_capture(trades),
        "drawdown": round(drawdown(gains), 6),
        "usd_per_capital_day": round(float(captured) / capital_days, 8) if capital_days else None,
        "gain_quantiles": _quantiles([float(trade.captured) for trade in trades]),
    }


def _capture(trades: Sequence[Trade]) -> dict[str, Any]:
    """Return what was captured of the most there was, where that is known."""
    known = [trade for trade in trades if trade.optimum is not None]
    most = sum(trade.optimum or 0.0 for trade in known)
    captured = float(_sum(trade.captured for trade in known))
    return {
        "optimum": round(most, 6) if known else None,
        "optimum_known": len(known),
        "capture": round(captured / most, 6) if most > 0 else None,
    }


def _point(lane: LaneKey, found: Found) -> dict[str, Any]:
    trades = [trade for trade in found.trades.get(lane.name, []) if not trade.left_out]
    states = Counter(trade.state for trade in trades)
    return {
        "latency_ms": lane.latency_ms,
        "trades": len(trades),
        "filled": states["filled"],
        "captured": _text(_sum(trade.captured for trade in trades)),
        "capture": _capture(trades)["capture"],
    }


def equity(trades: Sequence[Trade]) -> list[list[Any]]:
    """Return the running gain by the end of each trade, thinned; its last point is kept."""
    ended = list(_by_end(trades))
    sums = running([float(trade.captured) for trade in ended])
    points = [[trade.ended_at, round(total, 6)] for trade, total in zip(ended, sums, strict=True)]
    step = -(-len(points) // MOST_POINTS) or 1
    kept = points[::step]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def returns_of(trades: Sequence[Trade]) -> list[float]:
    """Return the return of each event (gain over what was paid), one draw an event."""
    gained: dict[str, float] = {}
    paid: dict[str, float] = {}
    for trade in trades:
        if trade.paid:
            place = trade.event_id or trade.market_ids[0]
            gained[place] = gained.get(place, 0.0) + float(trade.captured)
            paid[place] = paid.get(place, 0.0) + float(trade.paid)
    return [gained[place] / paid[place] for place in sorted(paid)]


def sharpe_of(found: Found) -> float | None:
    """Return the Sharpe ratio of a variant's own trades."""
    return sharpe(returns_of(found.trades.get("own", [])))


def _sharpe(trades: Sequence[Trade], trials: Sequence[float]) -> dict[str, object]:
    returns = returns_of(trades)
    own = sharpe(returns)
    tried = [*trials, *([own] if own is not None and own not in trials else [])]
    return deflated(returns, tried).row()


def _events(trades: Sequence[Trade], signals: Mapping[str, int]) -> dict[str, Any]:
    """Return the events with most captured, then most signals."""
    rows: dict[str, dict[str, Any]] = {}
    for place, count in signals.items():
        rows[place] = {"event": place, "signals": count, "trades": 0, "captured": NOTHING}
    for trade in trades:
        place = trade.event_id or "+".join(trade.market_ids[:3])
        row = rows.setdefault(
            place, {"event": place, "signals": 0, "trades": 0, "captured": NOTHING}
        )
        row["trades"] += 1
        row["captured"] += trade.captured
    ordered = sorted(
        rows.values(), key=lambda row: (-row["captured"], -row["signals"], row["event"])
    )
    shown = [{**row, "captured": _text(row["captured"])} for row in ordered[:MOST_EVENTS]]
    return {"rows": shown, "left_out": max(0, len(ordered) - MOST_EVENTS)}


def _quantiles(values: list[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {
        f"p{share}": None if (q := quantile(ordered, share / 100)) is None else round(q, 6)
        for share in (10, 50, 90)
    }


def _by_end(trades: Sequence[Trade]) -> list[Trade]:
    return sorted(trades, key=lambda trade: (trade.ended_at, trade.key))


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, NOTHING)


def _text(value: Decimal) -> str:
    return str(value.quantize(_STEP))
