"""Signals in the admin: the engine writes them, a person filters and reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts.admin import ReadOnly
from signals.models import Signal, SignalPoint
from signals.whatif_models import WhatIfQuerySet, WhatIfRun

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _SignalAdmin = admin.ModelAdmin[Signal]
    _PointInline = admin.TabularInline[SignalPoint, Signal]
    _WhatIfAdmin = admin.ModelAdmin[WhatIfRun]
else:
    _SignalAdmin, _PointInline = admin.ModelAdmin, admin.TabularInline
    _WhatIfAdmin = admin.ModelAdmin


MOST_POINTS = 500


class PointInline(ReadOnly, _PointInline):
    model = SignalPoint
    ordering = ("at", "id")
    extra = 0
    verbose_name_plural = "changes"


class WhyClosed(admin.AllValuesFieldListFilter):
    """The reasons there are; what is still open has none, and says so."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or "still open"}


@admin.register(Signal)
class SignalAdmin(ReadOnly, _SignalAdmin):
    list_display = (
        "short_key",
        "page",
        "short_level",
        "status",
        "what",
        "edge_bps",
        "profit",
        "lived",
        "why",
        "opened_at",
    )
    list_filter = ("level", "status", "kind", "rule", "verdict", ("close_reason", WhyClosed))
    search_fields = ("=key", "=event__id")
    search_help_text = "A signal's whole key or an event's id."
    list_select_related = ("event", "rule")
    ordering = ("-opened_at", "-id")
    inlines = (PointInline,)
    readonly_fields = ("page",)

    def get_inlines(
        self, request: HttpRequest, obj: Signal | None
    ) -> tuple[type[PointInline], ...]:
        """Leave out the changes of a signal that has more than a page can hold."""
        few = obj is not None and obj.points.count() <= MOST_POINTS
        return (PointInline,) if few else ()

    @admin.display(description="key", ordering="key")
    def short_key(self, signal: Signal) -> str:
        return signal.key[:10]

    @admin.display(description="in the portal")
    def page(self, signal: Signal) -> SafeString:
        return format_html('<a href="{}">arithmetic</a>', reverse("signal", args=[signal.key]))

    @admin.display(description="level", ordering="level")
    def short_level(self, signal: Signal) -> str:
        return signal.level

    @admin.display(description="what", ordering="kind")
    def what(self, signal: Signal) -> str:
        kind = signal.kind.replace("_", " ")
        return f"{kind}: {signal.event.title[:60]}" if signal.event else kind

    @admin.display(description="lived")
    def lived(self, signal: Signal) -> str:
        return f"{signal.lifetime(timezone.now()).total_seconds():,.1f} s"

    @admin.display(description="why")
    def why(self, signal: Signal) -> str:
        return signal.close_reason or ", ".join(signal.blocked_by)


@admin.register(WhatIfRun)
class WhatIfRunAdmin(ReadOnly, _WhatIfAdmin):
    list_display = ("asked_at", "page", "rule", "tries", "over", "state", "asked_by")
    list_filter = ("state", "rule")
    list_select_related = ("rule", "asked_by", "candidate_version")
    ordering = ("-asked_at", "-id")
    exclude = ("result",)
    readonly_fields = ("page", "told")

    def get_queryset(self, request: HttpRequest) -> WhatIfQuerySet:
        """Leave the answers, which are long, in the database until one is looked at."""
        return WhatIfRun.objects.defer("result")

    @admin.display(description="in the portal")
    def page(self, run: WhatIfRun) -> SafeString:
        address = reverse("rule-what-if-run", args=[run.rule.code, run.pk])
        return format_html('<a href="{}">comparison</a>', address)

    @admin.display(description="candidate")
    def tries(self, run: WhatIfRun) -> str:
        return run.candidate

    @admin.display(description="over")
    def over(self, run: WhatIfRun) -> str:
        return run.data

    @admin.display(description="answer")
    def told(self, run: WhatIfRun) -> str:
        return ", ".join(f"{count} {name}" for name, count in run.counts.items()) or run.reason
