"""The past as pictures: a signal's edge and a market's touch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from markets.models import Tick
from mpx_site.portal.pictures import Chart, Point, chart
from rules.dsl import DutchBookRule, RuleError
from rules.load import definition_of
from rules.models import RuleVersion
from signals.models import Signal, SignalPoint

MOST_POINTS = 500
MOST_TICKS = 2_000
# A market that says nothing for longer than this may as well not have been followed.
SILENCE = timedelta(minutes=30)

RANGES = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
}


def points_of(signal: Signal) -> list[SignalPoint]:
    """Return the newest changes of a signal, oldest first."""
    return list(signal.points.order_by("-at", "-id")[:MOST_POINTS])[::-1]


def edge_chart(
    signal: Signal, points: Sequence[SignalPoint], *, threshold: Decimal | None, at: datetime
) -> Chart | None:
    """Draw the edge in bps from first sight to close, or to now while it is open."""
    end = signal.closed_at or max(at, signal.changed_at)
    return chart(
        [("edge", [(point.at, float(point.edge_bps)) for point in points])],
        start=points[0].at if points else signal.opened_at,
        end=end,
        marks=[(point.change, point.at, float(point.edge_bps)) for point in points],
        threshold=None if threshold is None else float(threshold),
    )


def least_edge_bps(version: RuleVersion) -> Decimal | None:
    """Return the edge below which the rule calls a basket thin; None if it names none."""
    try:
        definition = definition_of(version)
    except RuleError:
        return None
    return definition.params.min_edge_bps if isinstance(definition, DutchBookRule) else None


def ticks_of(market_id: str) -> list[Tick]:
    """Return the newest ticks of a market, oldest first."""
    return list(Tick.objects.filter(market_id=market_id).order_by("-at")[:MOST_TICKS])[::-1]


def touch_chart(
    ticks: Sequence[Tick], *, since: datetime, until: datetime, followed: bool
) -> Chart | None:
    """Draw bid and ask in cents. `followed`: the last tick still holds now."""
    wanted = _within(ticks, since)
    if not wanted:
        return None
    return chart(
        [
            ("ask", _line([(tick.at, tick.ask) for tick in wanted], since, followed)),
            ("bid", _line([(tick.at, tick.bid) for tick in wanted], since, followed)),
        ],
        start=max(since, wanted[0].at),
        end=until,
    )


def _within(ticks: Sequence[Tick], since: datetime) -> Sequence[Tick]:
    """Return the ticks of a window and the one that held when it began."""
    first = next((i for i, tick in enumerate(ticks) if tick.at >= since), len(ticks))
    if first and (first == len(ticks) or ticks[first].at > since):
        first -= 1
    return ticks[first:]


def _line(
    values: Sequence[tuple[datetime, Decimal | None]], since: datetime, followed: bool
) -> list[Point]:
    points: list[Point] = []
    last = len(values) - 1
    for number, (at, price) in enumerate(values):
        points.append((max(at, since), None if price is None else float(price * 100)))
        if number < last and values[number + 1][0] - at > SILENCE:
            points.append((max(at + SILENCE, since), None))
    if values and not followed:
        points.append((max(values[-1][0], since), None))
    return points
