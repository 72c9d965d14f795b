"""TEMPORAL_ARB: what happens by an earlier date happens by a later one (pure).

The ladder detection of CROSS_MARKET_MISPRICE over relations that say they run along
dates, with limits of its own: what is locked until the last date must be worth it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from rules.kernel.cross import RelatedSet, detect_related
from rules.kernel.finding import Finding, Limits, MarketView
from rules.kernel.relations import Relation


def date_ladders(relations: Iterable[Relation]) -> tuple[Relation, ...]:
    """Return the relations that run along dates, in their order; `related_sets` takes them."""
    return tuple(
        relation
        for relation in relations
        if relation.basis == "date" and relation.type in ("ladder", "implies")
    )


def detect_temporal(
    related: RelatedSet,
    views: Mapping[str, MarketView],
    *,
    at: datetime,
    limits: Limits,
    min_annualised_pct: Decimal = Decimal(0),
    max_days: int | None = None,
) -> Finding | None:
    """Look at one set of date ladders; None where nothing can be gained.

    What pays later than `max_days` from now, or at a time that is not known, is
    THIN, and so is what earns less than `min_annualised_pct` a year.
    """
    finding = detect_related(
        related, views, at=at, limits=limits, min_annualised_pct=min_annualised_pct
    )
    if finding is None or finding.verdict != "EXECUTABLE" or max_days is None:
        return finding
    ends = [views[market_id].terms.end_at for market_id in finding.market_ids]
    latest = at + timedelta(days=max_days)
    soon = all(end is not None and end <= latest for end in ends)
    return finding if soon else replace(finding, verdict="THIN")
