"""The journal in the admin: to read, never to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from alerts import delivery
from alerts.models import AuditEntry, FeedEntry, Heartbeat, OutboxEntry
from alerts.voice_admin import VoiceAdmin as VoiceAdmin  # registers itself

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _AuditAdmin = admin.ModelAdmin[AuditEntry]
    _FeedAdmin = admin.ModelAdmin[FeedEntry]
    _HeartbeatAdmin = admin.ModelAdmin[Heartbeat]
    _OutboxAdmin = admin.ModelAdmin[OutboxEntry]
else:
    _AuditAdmin = _FeedAdmin = _HeartbeatAdmin = _OutboxAdmin = admin.ModelAdmin


Row = TypeVar("Row", bound=Model)


def shown_row(model_admin: admin.ModelAdmin[Row], request: HttpRequest, object_id: str) -> Row:
    """Return the row of a page of one's own; raise `Http404`, or `PermissionDenied` to look."""
    row = model_admin.get_object(request, object_id)
    if row is None:
        raise Http404
    if not model_admin.has_view_permission(request, row):
        raise PermissionDenied
    return row


class ReadOnly:
    """For rows that a program writes: a person may look at them."""

    show_full_result_count = False  # counting a whole log is slow and tells nothing
    show_facets = admin.ShowFacets.NEVER  # and so is counting it for each filter
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AboutFilter(admin.SimpleListFilter):
    """What an entry is about, through the index on subjects."""

    title = "about"
    parameter_name = "about"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("signal", "signals"),
            ("intent", "orders"),
            ("breaker", "circuit breakers"),
            ("rule", "rules"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[AuditEntry]
    ) -> QuerySet[AuditEntry]:
        kind = self.value()
        if kind is None:
            return queryset
        after = chr(ord(":") + 1)  # subjects are KIND:KEY
        return queryset.filter(subject__gte=f"{kind}:", subject__lt=f"{kind}{after}")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, _AuditAdmin):
    list_display = ("id", "at", "kind", "subject_link", "actor", "fingerprint")
    list_display_links = ("id",)
    list_filter = (AboutFilter,)
    search_fields = ("=id", "subject__startswith", "=hash")
    search_help_text = "An entry's number, the start of a subject (signal:…), or a whole hash."
    ordering = ("-id",)
    fields = ("id", "at", "kind", "subject_link", "actor", "data", "previous_hash", "hash")
    readonly_fields = ("subject_link",)

    @admin.display(description="subject", ordering="subject")
    def subject_link(self, entry: AuditEntry) -> SafeString | str:
        return subject_link(entry.subject)

    @admin.display(description="hash")
    def fingerprint(self, entry: AuditEntry) -> str:
        return entry.hash[:12]


@admin.register(FeedEntry)
class FeedEntryAdmin(ReadOnly, _FeedAdmin):
    list_display = ("id", "at", "topic", "kind", "about")
    list_filter = ("topic", "kind")
    search_fields = ("=id",)
    search_help_text = "An entry's number."
    ordering = ("-id",)

    @admin.display(description="about")
    def about(self, entry: FeedEntry) -> SafeString | str:
        key = entry.payload.get("key") if isinstance(entry.payload, dict) else None
        return subject_link(f"signal:{key}") if entry.topic == "signals" and key else ""


@admin.register(OutboxEntry)
class OutboxEntryAdmin(_OutboxAdmin):
    """Alerts on their way. A failed one may be sent again; nothing else can be changed."""

    list_display = (
        "about", "voice", "kind", "state", "due_at", "waiting", "attempts", "reason", "sent_at",
    )  # fmt: skip
    list_filter = ("state", "kind")
    search_fields = ("=key",)
    search_help_text = "The alert's whole key."
    ordering = ("-due_at", "-id")
    list_display_links = ("kind",)
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("send_again",)
    fields = (
        "key",
        "voice",
        "kind",
        "state",
        "payload",
        "due_at",
        "transport",
        "attempts",
        "reason",
        "sent_at",
        "created_at",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OutboxEntry | None = None) -> bool:
        return False

    @admin.display(description="about", ordering="key")
    def about(self, entry: OutboxEntry) -> SafeString | str:
        return subject_link(entry.key)

    @admin.display(description="waits for")
    def waiting(self, entry: OutboxEntry) -> str:
        if entry.state != OutboxEntry.State.PENDING:
            return ""
        return f"{max((timezone.now() - entry.due_at).total_seconds(), 0):,.0f} s"

    @admin.action(description="Send failed alerts again", permissions=["change"])
    def send_again(self, request: HttpRequest, entries: QuerySet[OutboxEntry]) -> None:
        who = request.user.get_username()
        moved = delivery.send_again(entries, by=who, at=timezone.now())
        told = f"{moved} failed alert(s) will be sent again." if moved else "None of them failed."
        self.message_user(request, told, messages.SUCCESS if moved else messages.WARNING)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly, _HeartbeatAdmin):
    list_display = ("component", "age", "at", "progress")
    ordering = ("component",)

    @admin.display(description="age", ordering="at")
    def age(self, beat: Heartbeat) -> str:
        return f"{beat.age(timezone.now()).total_seconds():,.0f} s"


def subject_link(subject: str) -> SafeString | str:
    """Return a subject like `signal:KEY` or `rule:CODE` with the way to its page, if it has one."""
    kind, _, rest = subject.partition(":")
    key = rest.split(":")[0]
    try:
        address = (
            reverse(kind, args=[key]) if kind in ("signal", "market", "intent") and key else ""
        )
    except NoReverseMatch:  # not a key the portal could have made
        address = ""
    return format_html('<a href="{}">{}</a>', address, subject) if address else subject
