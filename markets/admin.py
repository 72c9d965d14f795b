"""The venue's markets in the admin. The venue writes them; a person looks things up.

Ticks have a composite key, which the admin cannot show: they are a picture on the
market's page in the portal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts.admin import ReadOnly
from markets.models import Event, Market, Outcome, Quarantine, Quote

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _EventAdmin = admin.ModelAdmin[Event]
    _MarketAdmin = admin.ModelAdmin[Market]
    _OutcomeAdmin = admin.ModelAdmin[Outcome]
    _QuoteAdmin = admin.ModelAdmin[Quote]
    _QuarantineAdmin = admin.ModelAdmin[Quarantine]
    _OutcomeInline = admin.TabularInline[Outcome, Market]
    _QuoteInline = admin.StackedInline[Quote, Market]
    _MarketInline = admin.TabularInline[Market, Event]
else:
    _EventAdmin = _MarketAdmin = _OutcomeAdmin = _QuoteAdmin = admin.ModelAdmin
    _QuarantineAdmin = admin.ModelAdmin
    _OutcomeInline = _MarketInline = admin.TabularInline
    _QuoteInline = admin.StackedInline


class OutcomeInline(ReadOnly, _OutcomeInline):
    model = Outcome
    ordering = ("index",)
    extra = 0


class QuoteInline(ReadOnly, _QuoteInline):
    model = Quote
    extra = 0


class MarketInline(ReadOnly, _MarketInline):
    model = Market
    fields = ("id", "label", "state", "tick_size", "fee_rate", "payout", "liquidity")
    ordering = ("-liquidity", "id")
    show_change_link = True
    extra = 0


@admin.register(Event)
class EventAdmin(ReadOnly, _EventAdmin):
    list_display = ("title", "shape", "tradable", "markets_count", "end_at", "closed", "seen_at")
    list_filter = ("neg_risk", "augmented", "closed")
    search_fields = ("=id",)
    search_help_text = "An event's whole id. Titles are searched on the portal's Markets page."
    ordering = ("-seen_at", "id")
    inlines = (MarketInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                counted=Count("markets"),
                counted_tradable=Count("markets", filter=Q(markets__state=Market.State.TRADABLE)),
            )
        )

    @admin.display(description="outcomes are")
    def shape(self, event: Event) -> str:
        if not event.neg_risk:
            return "independent"
        return "exclusive, more may come" if event.augmented else "exclusive, exhaustive"

    @admin.display(description="tradable")
    def tradable(self, event: Any) -> int:
        return int(event.counted_tradable)

    @admin.display(description="markets")
    def markets_count(self, event: Any) -> int:
        return int(event.counted)


@admin.register(Market)
class MarketAdmin(ReadOnly, _MarketAdmin):
    list_display = (
        "question",
        "page",
        "state",
        "bid_ask",
        "book",
        "fee",
        "tick_size",
        "liquidity",
        "end_at",
    )
    list_filter = ("state", ("fee_rate", admin.EmptyFieldListFilter))
    search_fields = ("=id", "=event__id")
    search_help_text = "The whole id of a market or event. Words are searched on the portal."
    ordering = ("-liquidity", "id")
    list_select_related = ("quote",)
    inlines = (OutcomeInline, QuoteInline)
    readonly_fields = ("page",)

    @admin.display(description="in the portal")
    def page(self, market: Market) -> SafeString:
        return market_link(market.pk)

    @admin.display(description="bid / ask")
    def bid_ask(self, market: Market) -> str:
        quote = getattr(market, "quote", None)
        return f"{_price(quote.bid)} / {_price(quote.ask)}" if quote else ""

    @admin.display(description="book")
    def book(self, market: Market) -> str:
        quote = getattr(market, "quote", None)
        return str(quote.state) if quote else "none yet"

    @admin.display(description="fee", ordering="fee_rate")
    def fee(self, market: Market) -> str:
        return "unknown" if market.fee_rate is None else f"{market.fee_rate.normalize():f}"


@admin.register(Outcome)
class OutcomeAdmin(ReadOnly, _OutcomeAdmin):
    list_display = ("token_id", "label", "index", "market")
    search_fields = ("=token_id", "=market__id")
    search_help_text = "A whole token id or market id."
    list_select_related = ("market",)
    ordering = ("market_id", "index")


@admin.register(Quote)
class QuoteAdmin(ReadOnly, _QuoteAdmin):
    list_display = ("market", "page", "bid", "ask", "bid_size", "ask_size", "state", "at")
    list_filter = ("state",)
    search_fields = ("=market__id",)
    search_help_text = "A whole market id."
    list_select_related = ("market",)
    ordering = ("-at", "market_id")

    @admin.display(description="history")
    def page(self, quote: Quote) -> SafeString:
        return market_link(quote.pk)


@admin.register(Quarantine)
class QuarantineAdmin(ReadOnly, _QuarantineAdmin):
    list_display = ("reason", "source", "subject", "count", "last_at", "short_detail")
    list_filter = ("source", "reason")
    search_fields = ("=subject",)
    search_help_text = "A whole subject, such as a market id."
    ordering = ("-last_at", "id")

    @admin.display(description="detail")
    def short_detail(self, problem: Quarantine) -> str:
        return problem.detail[:120]


def market_link(market_id: object) -> SafeString:
    return format_html('<a href="{}">prices, history</a>', reverse("market", args=[market_id]))


def _price(price: object) -> str:
    return "" if price is None else str(price)
