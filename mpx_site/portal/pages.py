"""What each page shows, gathered in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.core.paginator import Page

from alerts.feedlog import Place
from markets.models import Event, Gap, Market, Tick
from markets.relation_models import MarketText
from mpx_site.portal import desk, history, market_facts, whynot
from mpx_site.portal.crosses import CrossSet, crosses
from mpx_site.portal.filters import Asked, AskedStream
from mpx_site.portal.market_facts import Depth, Likeness
from mpx_site.portal.pictures import Chart
from rules.kernel.finding import Limits
from signals.models import Signal

RELATED = 8
ROWS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class StreamPage:
    """A list of signals and where in the feed it was read."""

    asked: Asked
    signals: Page[Signal]
    feed_position: Place

    @property
    def live(self) -> bool:
        """Say whether new signals belong on this page: the first one, newest first."""
        return self.signals.number == 1 and not self.asked.value("sort")


@dataclass(frozen=True, slots=True)
class MarketPage:
    market: Market
    touches: tuple[whynot.Touch, ...]
    siblings: Sequence[Market]
    sums: whynot.Sums | None
    baskets: tuple[whynot.Basket, ...]
    crosses: tuple[CrossSet, ...]
    ages: whynot.Ages
    picture: Chart | None
    rows: tuple[Tick, ...]  # of the picture, newest first
    gaps: Sequence[Gap]
    span: str
    signals: Sequence[Signal]
    similar: tuple[Likeness, ...]
    depth: Depth | None
    text: MarketText | None
    venue: str  # its address there; empty if unknown


@dataclass(frozen=True, slots=True)
class EventPage:
    event: Event
    markets: Sequence[Market]
    legs: tuple[tuple[Market, tuple[whynot.Touch, ...]], ...]
    sums: whynot.Sums
    baskets: tuple[whynot.Basket, ...]
    crosses: tuple[CrossSet, ...]
    ages: whynot.Ages
    limits: Limits
    signals: Sequence[Signal]


def stream_page(asked: AskedStream, *, number: str | None) -> StreamPage:
    position = desk.feed_position()  # before the rows, so that nothing falls between
    return StreamPage(asked, asked.page_of(asked.rows(), number=number), position)


def rows(keys: Sequence[str]) -> list[Signal]:
    """Return the signals of these keys for the live list."""
    return list(Signal.objects.newest().filter(key__in=keys[:ROWS_AT_ONCE]))


def market(market_id: str, *, span: str, at: datetime, trusted: bool) -> MarketPage:
    """Raise `Market.DoesNotExist` for an unknown id. `trusted`: the stream is up to date."""
    found = Market.objects.listed().prefetch_related("outcomes").get(pk=market_id)
    siblings = list(Market.objects.of_event(found.event_id)) if found.event_id else []
    touches = whynot.touches(found)
    ticks = history.ticks_of(market_id)
    quote = whynot.quote_of(found)
    span = span if span in history.RANGES else "1h"
    since = at - history.RANGES[span]
    gaps = history.gaps_of(market_id, since=since)
    limits = whynot.limits()
    together = siblings if found.event is not None and found.event.neg_risk else [found]
    return MarketPage(
        market=found,
        touches=touches,
        siblings=siblings,
        sums=whynot.sums(siblings) if len(siblings) > 1 else None,
        baskets=whynot.baskets(found.event, together, at=at, limits=limits),
        crosses=crosses([market_id], at=at, limits=limits),
        ages=whynot.ages(together),
        picture=history.touch_chart(
            history.past_of(market_id, ticks, since=since, until=at),
            since=since,
            until=at,
            followed=trusted and quote is not None and quote.state == "fresh",
            gaps=gaps,
        ),
        rows=market_facts.newest(ticks, since=since),
        gaps=gaps,
        span=span,
        signals=_signals_of(market_id, event_id=found.event_id),
        similar=market_facts.likenesses(found, touches),
        depth=market_facts.depth(found, touches, at=at),
        text=market_facts.text_of(found),
        venue=market_facts.venue_address(found),
    )


def event(event_id: str, *, at: datetime) -> EventPage:
    """Raise `Event.DoesNotExist` for an unknown id."""
    found = Event.objects.get(pk=event_id)
    markets = list(Market.objects.of_event(event_id))
    limits = whynot.limits()
    return EventPage(
        event=found,
        markets=markets,
        legs=tuple((each, whynot.touches(each)) for each in markets),
        sums=whynot.sums(markets),
        baskets=whynot.baskets(found, markets, at=at, limits=limits),
        crosses=crosses([each.pk for each in markets], at=at, limits=limits),
        ages=whynot.ages(markets),
        limits=limits,
        signals=list(Signal.objects.newest().filter(event=found)[:RELATED]),
    )


def _signals_of(market_id: str, *, event_id: str | None) -> list[Signal]:
    """Return the newest signals with a leg in a market: its event's, and those across events."""
    within = Signal.objects.of_market(market_id, event_id=event_id)[:RELATED]
    if event_id is None:
        return list(within)
    across = Signal.objects.of_market(market_id, event_id=None)[:RELATED]
    newest = sorted([*within, *across], key=lambda each: (each.opened_at, each.pk), reverse=True)
    return newest[:RELATED]
