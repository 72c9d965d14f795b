"""The touch of a market's first outcome by minute or hour.

Read from TimescaleDB's continuous aggregates where they are, which outlive the ticks; else
from the ticks, by the same definition. Both give the same candles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from django.db import connection
from django.db.models import Count, DecimalField, ExpressionWrapper, F, Max, Min, Q, QuerySet
from django.db.models.functions import TruncHour, TruncMinute

from markets.models import Tick
from markets.timescale import has_view

Width = Literal["1m", "1h"]
WIDTHS: dict[Width, timedelta] = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1)}
TRUNCATED = {"1m": TruncMinute, "1h": TruncHour}
MOST = 1_500  # candles in one answer: a day of minutes, two months of hours
# Half a tick of 0.0001 needs a fifth place.
MIDDLE = ExpressionWrapper(
    (F("bid") + F("ask")) / Decimal(2), output_field=DecimalField(max_digits=7, decimal_places=5)
)
AT_ONCE = 400  # ticks asked for by their times in one query


@dataclass(frozen=True, slots=True)
class Candle:
    """One minute or hour with at least one tick.

    Open to close are over the middle of bid and ask, None without a tick that had both. `bid`
    and `ask` are the last of it, `high_bid` and `low_ask` the best of it.
    """

    start: datetime
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    bid: Decimal | None
    ask: Decimal | None
    high_bid: Decimal | None
    low_ask: Decimal | None
    ticks: int


def candles(market_id: str, *, since: datetime, until: datetime, width: Width) -> list[Candle]:
    """Return the candles that touch a window, oldest first: the newest `MOST` of them.

    The first and the last are whole, also where the window cuts them.
    """
    step = WIDTHS[width]
    until = _floor(until - timedelta(microseconds=1), step) + step
    since = max(_floor(since, step), until - MOST * step)
    if has_view(connection, f"market_candle_{width}"):
        return _kept(market_id, since, until, width)
    return list(_counted(market_id, since, until, width))


def _floor(at: datetime, width: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return at - (at - epoch) % width


def _kept(market_id: str, since: datetime, until: datetime, width: Width) -> list[Candle]:
    sql = f"""
        SELECT start, open, high, low, close, bid, ask, high_bid, low_ask, ticks
        FROM market_candle_{width}
        WHERE market_id = %s AND start >= %s AND start < %s ORDER BY start
    """  # noqa: S608  (the width is one of two)  # nosec B608
    with connection.cursor() as cursor:
        cursor.execute(sql, [market_id, since, until])
        return [Candle(*row) for row in cursor.fetchall()]


def _counted(market_id: str, since: datetime, until: datetime, width: Width) -> Iterator[Candle]:
    ticks = Tick.objects.filter(market_id=market_id, at__gte=since, at__lt=until)
    rows = list(
        ticks.annotate(start=TRUNCATED[width]("at", tzinfo=UTC), middle=MIDDLE)
        .values("start")
        .annotate(
            first=Min("at", filter=Q(middle__isnull=False)),
            last=Max("at", filter=Q(middle__isnull=False)),
            newest=Max("at"),
            high=Max("middle"),
            low=Min("middle"),
            high_bid=Max("bid"),
            low_ask=Min("ask"),
            ticks=Count("at"),
        )
        .order_by("start")
    )
    times = {row[key] for row in rows for key in ("first", "last", "newest")}
    touch = _touches(ticks, sorted(times - {None}))
    for row in rows:
        bid, ask = touch[row["newest"]]
        yield Candle(
            start=row["start"],
            open=_middle(touch.get(row["first"])),
            high=row["high"],
            low=row["low"],
            close=_middle(touch.get(row["last"])),
            bid=bid,
            ask=ask,
            high_bid=row["high_bid"],
            low_ask=row["low_ask"],
            ticks=row["ticks"],
        )


def _touches(
    ticks: QuerySet[Tick], times: Sequence[datetime]
) -> dict[datetime | None, tuple[Decimal | None, Decimal | None]]:
    """Return bid and ask at these times."""
    found: dict[datetime | None, tuple[Decimal | None, Decimal | None]] = {}
    for first in range(0, len(times), AT_ONCE):
        some = ticks.filter(at__in=times[first : first + AT_ONCE])
        found |= {at: (bid, ask) for at, bid, ask in some.values_list("at", "bid", "ask")}
    return found


def _middle(touch: tuple[Decimal | None, Decimal | None] | None) -> Decimal | None:
    if touch is None or touch[0] is None or touch[1] is None:
        return None
    return (touch[0] + touch[1]) / 2
