"""What a market's page tells besides its prices: depth, the venue's words, its likes, its past."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

from django.conf import settings

from execution.models import LiveBook
from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from markets.models import Market, Outcome, Tick
from markets.relation_models import MarketText
from markets.similar import SimilarMarket, similar_markets
from mpx_site.portal import whynot
from mpx_site.portal.desk import FRESH_SECONDS
from mpx_site.portal.ladders import LegLadder, leg_ladder
from mpx_site.portal.whynot import Touch

MOST_ROWS = 60  # of the table beside the picture
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Depth:
    """Both sides of the first outcome, best first. `live` is None for the stored touch alone."""

    asks: LegLadder
    bids: LegLadder
    live: LiveBook | None


@dataclass(frozen=True, slots=True)
class Likeness:
    """A market that speaks of the same, and how much dearer its same side is offered, in cents.

    `touch` is of the outcome that is true when this market's first one is.
    """

    similar: SimilarMarket
    touch: Touch | None
    dearer_cents: Decimal | None


def depth(market: Market, touches: Sequence[Touch], *, at: datetime) -> Depth | None:
    """Return the book that the stream holds, or the stored touch; None without either.

    The stream lets go of a book that no signal or order needs any more: what it left behind
    is not shown.
    """
    if not touches:
        return None
    vouched = at - timedelta(seconds=FRESH_SECONDS)
    live = LiveBook.objects.filter(pk=market.pk, seen_at__gte=vouched).first()
    first = touches[0]
    asks = _stored(live.asks) if live else _one(first.ask, first.ask_size)
    bids = _stored(live.bids) if live else _one(first.bid, first.bid_size)
    if not asks and not bids:
        return None
    label = first.outcome.label
    return Depth(
        asks=leg_ladder(f"Offers of {label}", market.pk, asks),
        bids=leg_ladder(f"Bids for {label}", market.pk, bids),
        live=live,
    )


def _stored(levels: Sequence[Sequence[int]]) -> Ladder:
    return tuple((price, size) for price, size in levels)


def _one(price: Decimal | None, size: Decimal | None) -> Ladder:
    if price is None or not size:
        return ()
    return ((int(price * PRICE_ONE), int(size * SIZE_ONE)),)


def likenesses(market: Market, touches: Sequence[Touch]) -> tuple[Likeness, ...]:
    """Return what speaks of the same, with the difference of the offers for the same claim."""
    mine = touches[0].ask if touches else None
    return tuple(_likeness(each, mine) for each in similar_markets(market))


def _likeness(similar: SimilarMarket, mine: Decimal | None) -> Likeness:
    quote = whynot.quote_of(similar.market)
    if quote is None:
        return Likeness(similar, None, None)
    touch = whynot.touch(Outcome(index=int(similar.inverted)), quote)
    dearer = None if mine is None or touch.ask is None else (touch.ask - mine) * 100
    return Likeness(similar, touch, dearer)


def text_of(market: Market) -> MarketText | None:
    """Return by what it settles, in the venue's words; None if they are not stored."""
    return MarketText.objects.filter(pk=market.pk).first()


def venue_address(market: Market) -> str:
    """Return where people see it at the venue; empty where that cannot be said for sure.

    A simulated market is nowhere. The venue's own text becomes part of an address only as a
    plain slug, and only behind the site that the settings name.
    """
    slug = market.event.slug if market.event is not None else market.slug
    site = urlsplit(settings.POLYMARKET_SITE_URL)
    if str(settings.DATA_SOURCE) == "mock" or not SLUG.fullmatch(slug):
        return ""
    return f"https://{site.netloc}/event/{slug}"


def newest(ticks: Sequence[Tick], *, since: datetime) -> tuple[Tick, ...]:
    """Return the ticks of a window for the table, newest first."""
    return tuple(tick for tick in reversed(ticks) if tick.at >= since)[:MOST_ROWS]
