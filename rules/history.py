"""What became of near-certain prices: noted while they are offered, counted once they resolved.

Nothing is read out of old ticks: which end was listed, and that a price could be bought
at, is only certain at the time itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from django.db.models import Q

from alerts.models import Heartbeat
from markets.fills import PRICE_ONE
from markets.models import Event, Market, Quote
from markets.near_models import NearCertain
from markets.texts import chunks
from rules.house import history_body
from rules.kernel.endgame import BANDS, HOUR, History, Observation, category_of, cell_of

KEPT: Final = timedelta(days=90)  # how far back counts
MOST_SEEN: Final = 50_000  # prices counted at once, newest first: half a second of one core
OTHER: Final = category_of(())
LONGEST_AFTER: Final = 72 * HOUR  # seconds past the listed end, as the rule looks at most
STREAM: Final = "stream"
STREAM_DEAD: Final = timedelta(seconds=30)  # without a beat nobody keeps the quotes
QUOTE_KEEPS: Final = timedelta(minutes=5)  # of a quote that no stream keeps

_LEAST = Decimal(BANDS[0]) / PRICE_ONE
_SEEN = ("market_id", "bid", "ask", "market__end_at", "market__event__end_at")
_KNOWN = ("market_id", "market__event_id", "outcome", "seconds_left", "price", "market__payout")
_WON = {(0, Decimal(1)), (1, Decimal(0))}  # outcome, payout of outcome 0; a void is won by nobody


def note_near_certain(*, at: datetime) -> int:
    """Note what is offered at a near-certain price now and was not in that cell; return how many.

    Safe to repeat. Quotes count while the stream beats; without it only those of
    the last minutes.
    """
    before = NearCertain.objects.count()
    rows = [row for quote in _quotes(at) for row in _rows(*quote, at=at)]
    NearCertain.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    return NearCertain.objects.count() - before


def endgame_history(at: datetime) -> bytes:
    """Return what became of the near-certain prices of the last 90 days, as a body.

    Only resolved markets count; of a void neither side has won. Prices of one event
    in one cell are one bet, won in part. `rules.house.history_of` reads it.
    """
    rows = (
        NearCertain.objects.filter(
            seen_at__gte=at - KEPT,
            market__state=Market.State.RESOLVED,
            market__payout__isnull=False,
        )
        .order_by("-seen_at", "-id")
        .values_list(*_KNOWN)[:MOST_SEEN]
    )
    seen = list(rows)
    categories = _categories({row[1] for row in seen if row[1]})
    return history_body(
        History.of(
            Observation(
                event_id=event_id or market_id,
                category=categories.get(event_id, OTHER),
                seconds_left=seconds_left,
                price=int(price * PRICE_ONE),
                won=(outcome, payout) in _WON,
            )
            for market_id, event_id, outcome, seconds_left, price, payout in seen
        )
    )


def _categories(event_ids: Iterable[str]) -> dict[str | None, str]:
    """Return the categories of events; read apart, because one has many prices."""
    found: dict[str | None, str] = {}
    for some in chunks(sorted(event_ids)):
        tags = Event.objects.filter(pk__in=some).values_list("id", "tags")
        found |= {pk: category_of(each or ()) for pk, each in tags}
    return found


def _quotes(at: datetime) -> Iterable[tuple[str, Decimal, Decimal, datetime, datetime]]:
    near = Q(ask__gte=_LEAST) | Q(bid__lte=1 - _LEAST)
    quotes = Quote.objects.filter(near, state="fresh", market__state=Market.State.TRADABLE)
    if not Heartbeat.objects.filter(component=STREAM, at__gte=at - STREAM_DEAD).exists():
        quotes = quotes.filter(at__gte=at - QUOTE_KEEPS)
    return quotes.order_by("market_id").values_list(*_SEEN).iterator(2_000)


def _rows(
    market_id: str,
    bid: Decimal | None,
    ask: Decimal | None,
    ends: datetime | None,
    event_ends: datetime | None,
    *,
    at: datetime,
) -> Iterator[NearCertain]:
    end_at = ends or event_ends
    if end_at is None:
        return
    left = (end_at - at).total_seconds()
    offered = (ask, None if bid is None else 1 - bid)
    for outcome, price in enumerate(offered):
        if price is None or left < -LONGEST_AFTER:
            continue
        if (cell := cell_of("", left, int(price * PRICE_ONE))) is not None:
            yield NearCertain(
                market_id=market_id,
                outcome=outcome,
                bucket=cell[1],
                band=cell[2],
                price=price,
                seconds_left=int(left),
                seen_at=at,
            )
