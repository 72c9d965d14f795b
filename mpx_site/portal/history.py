"""The past as pictures: a signal's edge and a market's touch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Q

from markets.candles import WIDTHS, Width, candles
from markets.models import Gap, Tick
from mpx_site.portal.pictures import Chart, Point, chart
from signals.models import Signal, SignalPoint

MOST_POINTS = 500
MOST_TICKS = 2_000
MOST_GAPS = 100
# A market that says nothing for longer than this may as well not have been followed.
SILENCE = timedelta(minutes=30)

RANGES = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "1w": timedelta(days=7),
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


def ticks_of(market_id: str) -> list[Tick]:
    """Return the newest ticks of a market, oldest first."""
    return list(Tick.objects.filter(market_id=market_id).order_by("-at")[:MOST_TICKS])[::-1]


def past_of(
    market_id: str, ticks: Sequence[Tick], *, since: datetime, until: datetime
) -> Sequence[Tick]:
    """Return what to draw: the ticks, or the last touch of each minute or hour.

    The latter where the newest `MOST_TICKS` do not reach back to `since`.
    """
    if len(ticks) < MOST_TICKS or ticks[0].at <= since:
        return ticks
    width: Width = "1m" if until - since <= timedelta(days=1) else "1h"
    found = candles(market_id, since=since, until=until, width=width)
    ends = [min(candle.start + WIDTHS[width], until) for candle in found]
    return [
        Tick(market_id=market_id, at=end, bid=candle.bid, ask=candle.ask)
        for end, candle in zip(ends, found, strict=True)
    ]


def gaps_of(market_id: str, *, since: datetime) -> list[Gap]:
    """Return the gaps of a market's own book, and those of connections that may have fed it."""
    named = Q(subject=market_id) | Q(kind=Gap.Kind.CONNECTION)
    seen = Gap.objects.filter(named).filter(Q(healed_at__gte=since) | Q(healed_at=None))
    return list(seen.order_by("-opened_at", "-id")[:MOST_GAPS])


def touch_chart(
    ticks: Sequence[Tick],
    *,
    since: datetime,
    until: datetime,
    followed: bool,
    gaps: Sequence[Gap] = (),
) -> Chart | None:
    """Draw bid and ask in cents. `followed`: the last tick still holds now.

    A gap of the market's own book breaks the lines until its next tick; of a connection it
    is not known which books it fed, so its gap is only marked.
    """
    wanted = _within(ticks, since)
    if not wanted:
        return None
    start = max(since, wanted[0].at)
    cuts = [max(gap.opened_at, start) for gap in gaps if gap.kind != Gap.Kind.CONNECTION]
    holes = [(max(gap.opened_at, start), _end_of(gap, until)) for gap in gaps]
    return chart(
        [
            ("ask", _line([(tick.at, tick.ask) for tick in wanted], since, followed, cuts)),
            ("bid", _line([(tick.at, tick.bid) for tick in wanted], since, followed, cuts)),
        ],
        start=start,
        end=until,
        band=True,
        holes=[(opened, end) for opened, end in holes if opened < until and end > start],
    )


def _end_of(gap: Gap, until: datetime) -> datetime:
    """Return when a gap healed; one whose process ended is only known to have begun."""
    if gap.healed_at is not None:
        return gap.healed_at
    return gap.opened_at if gap.ending else until


def _within(ticks: Sequence[Tick], since: datetime) -> Sequence[Tick]:
    """Return the ticks of a window and the one that held when it began."""
    first = next((i for i, tick in enumerate(ticks) if tick.at >= since), len(ticks))
    if first and (first == len(ticks) or ticks[first].at > since):
        first -= 1
    return ticks[first:]


def _line(
    values: Sequence[tuple[datetime, Decimal | None]],
    since: datetime,
    followed: bool,
    cuts: Sequence[datetime],
) -> list[Point]:
    points: list[Point] = []
    last = len(values) - 1
    for number, (at, price) in enumerate(values):
        following = values[number + 1][0] if number < last else None
        points.append((max(at, since), None if price is None else float(price * 100)))
        lost = [cut for cut in cuts if cut > at and (following is None or cut < following)]
        if following is not None and following - at > SILENCE:
            lost.append(at + SILENCE)
        if lost:
            points.append((max(min(lost), since), None))
    if values and not followed:
        points.append((max(points[-1][0], since), None))
    return points
