"""The list of markets: both outcomes, what their event adds up to, how old it all is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from django.core.paginator import Page
from django.http import QueryDict

from markets.models import Event, Market, MarketQuerySet
from mpx_site.portal import whynot
from mpx_site.portal.exports import Column
from mpx_site.portal.filters import AskedMarkets
from mpx_site.portal.whynot import Sums, Touch

TICK = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Row:
    """A market with its outcomes; `sums` is None where its event's outcomes stand alone."""

    market: Market
    touches: tuple[Touch, ...]
    sums: Sums | None


@dataclass(frozen=True, slots=True)
class MarketList:
    asked: AskedMarkets
    markets: Page[Market]
    rows: tuple[Row, ...]


def market_list(asked: AskedMarkets, query: QueryDict, *, at: datetime) -> MarketList:
    rows = asked.rows(at=at).prefetch_related("outcomes")
    page = asked.page_of(rows, number=query.get("page"))
    return MarketList(asked, page, rows_of(page))


def rows_of(markets: Iterable[Market]) -> tuple[Row, ...]:
    """Return markets with what their events add up to; one query more, for all of them."""
    listed = list(markets)
    sums = _sums_of({each.event for each in listed if each.event and each.event.neg_risk})
    return tuple(Row(each, whynot.touches(each), sums.get(each.event_id or "")) for each in listed)


def _sums_of(events: Iterable[Event]) -> dict[str, Sums]:
    found = Market.objects.filter(event__in=[event.pk for event in events]).yes_sums()
    return {
        row["event_id"]: Sums(
            asks=_exact(row["asks"]),
            bids=_exact(row["bids"]),
            priced_asks=row["priced_asks"],
            priced_bids=row["priced_bids"],
            markets=row["markets"],
        )
        for row in found
    }


def _exact(total: Decimal | None) -> Decimal:
    return (total or Decimal(0)).quantize(TICK, ROUND_HALF_EVEN)  # SQLite adds up in floats


def file_rows(asked: AskedMarkets, *, at: datetime) -> MarketQuerySet:
    """Return what a file has in it: everything that fits, in the order of the list."""
    return asked.rows(at=at).prefetch_related("outcomes")


def _touch(index: int, name: str) -> Column:
    def of(market: Market) -> object:
        touches = whynot.touches(market)
        return getattr(touches[index], name) if index < len(touches) else None

    return Column(f"{name}_{index}" if "size" in name else f"{name}_{index}_usd", of)


def _label(index: int) -> Column:
    def of(market: Market) -> object:
        touches = whynot.touches(market)
        return touches[index].outcome.label if index < len(touches) else None

    return Column(f"outcome_{index}", of)


def _quoted(name: str) -> Column:
    return Column(f"book_{name}", lambda market: getattr(whynot.quote_of(market), name, None))


COLUMNS = (
    Column("market_id", "pk"),
    Column("question", "question"),
    Column("event_id", "event_id"),
    Column("event", "event.title"),
    Column("state", "state"),
    *(
        column
        for index in (0, 1)
        for column in (
            _label(index),
            *(_touch(index, name) for name in ("bid", "bid_size", "ask", "ask_size", "spread")),
        )
    ),
    _quoted("state"),
    _quoted("at"),
    Column("liquidity_usd", "liquidity"),
    Column("volume_usd", "volume"),
    Column("ends_at", "end_at"),
)
