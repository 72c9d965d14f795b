"""The venue's markets in the admin. The venue writes them; a person looks things up.

Ticks have a composite key, which the admin cannot show: they are a picture on the
market's page in the portal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts import journal
from alerts.admin import ReadOnly
from markets import groups_admin as groups_admin  # registers relations and groups
from markets import watch
from markets.models import (
    Event,
    Gap,
    Market,
    Outcome,
    Quarantine,
    Quote,
    SyncRun,
    TermsChange,
    WatchRule,
)

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _EventAdmin = admin.ModelAdmin[Event]
    _MarketAdmin = admin.ModelAdmin[Market]
    _OutcomeAdmin = admin.ModelAdmin[Outcome]
    _QuoteAdmin = admin.ModelAdmin[Quote]
    _QuarantineAdmin = admin.ModelAdmin[Quarantine]
    _OutcomeInline = admin.TabularInline[Outcome, Market]
    _QuoteInline = admin.StackedInline[Quote, Market]
    _MarketInline = admin.TabularInline[Market, Event]
    _ChangeAdmin = admin.ModelAdmin[TermsChange]
    _RunAdmin = admin.ModelAdmin[SyncRun]
    _GapAdmin = admin.ModelAdmin[Gap]
    _RuleAdmin = admin.ModelAdmin[WatchRule]
else:
    _EventAdmin = _MarketAdmin = _OutcomeAdmin = _QuoteAdmin = admin.ModelAdmin
    _QuarantineAdmin = _ChangeAdmin = _RunAdmin = _RuleAdmin = _GapAdmin = admin.ModelAdmin
    _OutcomeInline = _MarketInline = admin.TabularInline
    _QuoteInline = admin.StackedInline


class Pinning:
    """Follow an event or market before all others, by hand. It needs the right to add rules."""

    pinned_as: ClassVar[WatchRule.Kind]

    def has_pin_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("markets.add_watchrule")

    @admin.action(description="Pin: always watch", permissions=["pin"])
    def pin(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        by = request.user.get_username()
        pinned = sum(watch.pin(self.pinned_as, row.pk, by=by) for row in rows)
        told = f"{pinned} pinned; the stream takes them up with its next look at the watch list."
        messages.success(request, told if pinned else "They were pinned already.")

    @admin.action(description="Unpin", permissions=["pin"])
    def unpin(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        by = request.user.get_username()
        freed = sum(watch.unpin(self.pinned_as, row.pk, by=by) for row in rows)
        told = f"{freed} unpinned; they are watched if the rules and the budget say so."
        messages.success(request, told if freed else "None of them was pinned.")


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
class EventAdmin(Pinning, ReadOnly, _EventAdmin):
    pinned_as = WatchRule.Kind.EVENT
    actions = ("pin", "unpin")
    list_display = ("title", "shape", "tradable", "markets_count", "end_at", "closed", "seen_at")
    list_filter = ("neg_risk", "augmented", "closed")
    search_fields = ("=id",)
    search_help_text = "An event's whole id. Titles are searched on the portal's Markets page."
    ordering = ("-seen_at", "id")
    inlines = (MarketInline,)
    readonly_fields = ("legs",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                counted=Count("markets"),
                counted_tradable=Count("markets", filter=Q(markets__state=Market.State.TRADABLE)),
            )
        )

    @admin.display(description="outcomes")
    def legs(self, event: Event) -> str:
        return str(event.legs())

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
class MarketAdmin(Pinning, ReadOnly, _MarketAdmin):
    pinned_as = WatchRule.Kind.MARKET
    actions = ("pin", "unpin")
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
    list_filter = (
        "state",
        ("fee_rate", admin.EmptyFieldListFilter),
        ("conflict", admin.EmptyFieldListFilter),
    )
    search_fields = ("=id", "=event__id")
    search_help_text = "The whole id of a market or event. Words are searched on the portal."
    ordering = ("-liquidity", "id")
    list_select_related = ("quote",)
    inlines = (OutcomeInline, QuoteInline)
    readonly_fields = ("page", "watching", "history")

    @admin.display(description="in the portal")
    def page(self, market: Market) -> SafeString:
        return market_link(market.pk)

    @admin.display(description="watched")
    def watching(self, market: Market) -> str:
        return str(watch.why(market))

    @admin.display(description="changes of its terms")
    def history(self, market: Market) -> SafeString:
        address = reverse("admin:markets_termschange_changelist")
        return format_html('<a href="{}?q={}">look</a>', address, market.pk)

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


@admin.register(TermsChange)
class TermsChangeAdmin(ReadOnly, _ChangeAdmin):
    list_display = ("at", "market", "field", "old", "new")
    list_filter = ("field",)
    search_fields = ("=market__id", "=event__id")
    search_help_text = "The whole id of a market or event."
    list_select_related = ("market",)
    ordering = ("-at", "-id")


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnly, _RunAdmin):
    list_display = (
        "started_at",
        "kind",
        "took",
        "markets",
        "stored",
        "unchanged",
        "not_stored",
        "gone",
        "error",
    )
    list_filter = ("kind", ("error", admin.EmptyFieldListFilter))
    ordering = ("-started_at", "-id")

    @admin.display(description="took")
    def took(self, run: SyncRun) -> str:
        if run.ended_at is None:
            return "not finished"
        return f"{(run.ended_at - run.started_at).total_seconds():,.1f} s"

    @admin.display(description="rejected")
    def not_stored(self, run: SyncRun) -> int:
        return sum(run.rejected.values())

    @admin.display(description="vanished")
    def gone(self, run: SyncRun) -> int:
        return sum(run.vanished.values())


@admin.register(Gap)
class GapAdmin(ReadOnly, _GapAdmin):
    list_display = ("opened_at", "kind", "subject", "reason", "books", "healing")
    list_filter = ("kind", "ending")
    search_fields = ("=subject",)
    search_help_text = "A connection's number or the whole id of a market."
    ordering = ("-opened_at", "-id")

    @admin.display(description="healed after", ordering="healing_seconds")
    def healing(self, gap: Gap) -> str:
        if gap.healing_seconds is not None:
            return f"{gap.healing_seconds:.2f} s"
        return "its process ended before" if gap.ending else "still open"


@admin.register(WatchRule)
class WatchRuleAdmin(_RuleAdmin):
    """What the stream follows. Every edit is in the audit chain."""

    list_display = ("__str__", "effect", "kind", "value", "minimum_usd", "priority", "enabled")
    list_filter = ("enabled", "effect", "kind")
    ordering = ("-priority", "id")
    fields = ("effect", "kind", "value", "minimum_usd", "priority", "enabled", "note")

    def save_model(self, request: HttpRequest, obj: WatchRule, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        _record_rule("watch.rule_changed" if change else "watch.rule_added", obj, request)

    def delete_model(self, request: HttpRequest, obj: WatchRule) -> None:
        _record_rule("watch.rule_removed", obj, request)
        super().delete_model(request, obj)

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WatchRule]) -> None:
        for rule in queryset:
            _record_rule("watch.rule_removed", rule, request)
        super().delete_queryset(request, queryset)


def _record_rule(kind: str, rule: WatchRule, request: HttpRequest) -> None:
    """Write down what a rule says; the admin's views run in a transaction."""
    journal.record(
        kind=kind,
        subject=f"watch:{rule.pk}",
        actor=request.user.get_username(),
        at=timezone.now(),
        data={
            "rule": str(rule),
            "priority": rule.priority,
            "enabled": rule.enabled,
            "note": rule.note,
        },
    )


def market_link(market_id: object) -> SafeString:
    return format_html('<a href="{}">prices, history</a>', reverse("market", args=[market_id]))


def _price(price: object) -> str:
    return "" if price is None else str(price)
