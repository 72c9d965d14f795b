"""The gates that keep a set of orders from being a signal: which are shut, where, by how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from markets.fills import SIZE_ONE
from markets.models import Market
from mpx_site.portal import words
from rules.kernel.baskets import missing_legs, yes_outcome
from rules.kernel.finding import EventView, Finding, Limits, MarketView
from rules.kernel.plans import gates_of

_LEAST_ORDER = Decimal(1)  # USD before fees: the venue refuses smaller orders


@dataclass(frozen=True, slots=True)
class Gate:
    """One shut gate: what it is, in which markets, and what would open it.

    `where` is empty for what concerns the set as a whole.
    """

    code: str
    text: str
    need: str
    where: tuple[Market, ...] = ()


def gates_at(
    codes: Iterable[str],
    views: Sequence[MarketView],
    markets: Mapping[str, Market],
    *,
    event: EventView | None = None,
    finding: Finding | None = None,
    limits: Limits,
) -> tuple[Gate, ...]:
    """Explain gates by their codes; a thin finding adds the thresholds it stays under."""
    found = []
    for code in codes:
        text, need = words.blocker(code), _need(code, views, event, finding)
        if event is None and code in words.RELATED:
            text, need = words.RELATED[code]
        found.append(Gate(code, text, need, _where(code, views, markets, finding)))
    if finding is not None and finding.verdict == "THIN":
        found += _thresholds(finding, limits)
    return tuple(found)


def _need(
    code: str, views: Sequence[MarketView], event: EventView | None, finding: Finding | None
) -> str:
    if code == "min_size" and finding is not None:
        return _size_needed(views, finding)
    if code == "missing_leg" and event is not None and (gone := missing_legs(event.terms)):
        numbers = ", ".join(f"number {number + 1}" for number in gone[:5])
        return f"The venue listing its outcome {numbers}."
    return words.NEEDS.get(code, "")


def _size_needed(views: Sequence[MarketView], finding: Finding) -> str:
    """Name the smallest order beside what the venue takes at least."""
    least = {view.terms.market_id: Decimal(view.terms.min_size) / SIZE_ONE for view in views}
    leg = min(finding.legs, key=lambda each: each.size - least.get(each.market_id, Decimal(0)))
    paid = leg.cost - leg.fee
    needed = f"{least.get(leg.market_id, Decimal(0)).normalize():f} shares"
    return (
        f"{needed} and {_LEAST_ORDER} USD a leg; the smallest has {leg.size:f} shares "
        f"for {paid:.2f} USD."
    )


def _thresholds(finding: Finding, limits: Limits) -> Iterator[Gate]:
    if finding.profit < limits.min_profit:
        need = f"{limits.min_profit:.2f} USD; it is {finding.profit:.4f} USD at the best prices."
        yield Gate("min_profit", "The profit is under what the rule asks for.", need)
    if finding.edge_bps < limits.min_edge_bps:
        need = f"{limits.min_edge_bps:f} bps; it is {finding.edge_bps:f} bps."
        yield Gate("min_edge_bps", "The edge is under what the rule asks for.", need)


def _where(
    code: str,
    views: Sequence[MarketView],
    markets: Mapping[str, Market],
    finding: Finding | None,
) -> tuple[Market, ...]:
    """Return the markets that a gate is shut in."""
    shut = {
        view.terms.market_id
        for view in views
        if code in gates_of(view) or (code == "one_sided" and _has_bids_alone(view))
    }
    if code == "min_size" and finding is not None:
        shut |= _too_small(views, finding)
    if code == "metadata_conflict":
        shut |= {pk for pk, market in markets.items() if market.conflict}
    return tuple(market for pk, market in markets.items() if pk in shut)


def _too_small(views: Sequence[MarketView], finding: Finding) -> set[str]:
    least = {view.terms.market_id: Decimal(view.terms.min_size) / SIZE_ONE for view in views}
    return {
        leg.market_id
        for leg in finding.legs
        if leg.size < least.get(leg.market_id, Decimal(0)) or leg.cost - leg.fee < _LEAST_ORDER
    }


def _has_bids_alone(view: MarketView) -> bool:
    yes = yes_outcome(view.terms)
    return not view.asks[yes] and bool(view.asks[1 - yes])
