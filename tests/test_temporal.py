"""Date ladders: the detection of related markets with limits of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from rules.kernel.cross import detect_related, related_sets
from rules.kernel.finding import Limits
from rules.kernel.temporal import date_ladders, detect_temporal
from tests.related import by_id, rel
from tests.worlds import bids, ladder, market_view

AT = datetime(2026, 6, 1, tzinfo=UTC)
RUNGS = rel("ladder", "100", "101", "102", basis="date")


def rung(number: int, bid: float, ask: float, days: int | None):
    end = None if days is None else AT + timedelta(days=days)
    own = {"neg_risk_id": None, "event_id": str(number), "end_at": end}
    return market_view(number, ladder((ask, 100)), bids((bid, 100)), **own)


def look(last: int | None = 90, **limits):
    """Look at three dates of which the first is dearer than the last."""
    views = by_id(rung(0, 0.50, 0.52, 30), rung(1, 0.51, 0.55, 60), rung(2, 0.40, 0.45, last))
    (related,) = related_sets(
        date_ladders([RUNGS]), {m: v.terms for m, v in views.items()}, refused=[]
    )
    found = detect_temporal(related, views, at=AT, limits=Limits(), **limits)
    plain = detect_related(related, views, at=AT, limits=Limits())
    return found, plain


def test_only_relations_along_dates_are_taken():
    dates = (RUNGS, rel("implies", "103", "104", basis="date"))
    others = (
        rel("ladder", "105", "106", basis="threshold"),
        rel("ladder", "107", "108"),
        rel("equivalent", "109", "110", basis="date"),
    )

    assert date_ladders([*dates, *others]) == dates


def test_it_is_the_ladder_of_related_markets():
    found, plain = look()

    assert found == plain
    assert {(leg.market_id, leg.outcome) for leg in found.legs} == {("101", "No"), ("102", "Yes")}
    assert found.verdict == "EXECUTABLE"


@pytest.mark.parametrize(
    ("last", "limits", "verdict"),
    [
        (90, {"max_days": 90}, "EXECUTABLE"),
        (90, {"max_days": 89}, "THIN"),
        (None, {"max_days": 3650}, "THIN"),  # when it pays is not known
        (90, {"min_annualised_pct": Decimal(25)}, "EXECUTABLE"),
        (90, {"min_annualised_pct": Decimal(30)}, "THIN"),
    ],
)
def test_money_locked_for_too_long_or_too_little_is_thin(last, limits, verdict):
    found, _ = look(last, **limits)

    assert found.verdict == verdict
    assert found.profit == 6
