"""`/api/v1/alerts` and `/api/v1/audit`: the outbox and the audit chain, read-only."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.models import AuditEntry, OutboxEntry
from alerts.voices import NAMES
from mpx_site.api import documented
from mpx_site.api_answers import PagedQuery, asked, page, read_cursor, write_cursor
from mpx_site.api_view import ApiView

ALERT_COLUMNS = (
    "id", "key", "voice", "kind", "state", "payload", "created_at", "due_at", "attempts",
    "reason", "sent_at", "transport",
)  # fmt: skip
AUDIT_COLUMNS = ("id", "at", "kind", "subject", "actor", "data", "previous_hash", "hash")


class MaySeeJournal(BasePermission):
    message = "This takes a role of the desk: analyst, trader, approver or admin."

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user.has_perm(view.needs))


class AlertQuery(PagedQuery):
    state = serializers.ChoiceField(choices=OutboxEntry.State.choices, required=False)
    kind = serializers.CharField(required=False)
    voice = serializers.ChoiceField(choices=NAMES, required=False)
    since = serializers.DateTimeField(required=False, help_text="Written at or after.")
    until = serializers.DateTimeField(required=False, help_text="Written before.")


class AuditQuery(PagedQuery):
    subject = serializers.CharField(
        required=False, help_text="Such as `signal:KEY`, `intent:12`, `rule:CODE`."
    )
    kind = serializers.CharField(required=False, help_text="Such as `rule.published`.")
    actor = serializers.CharField(required=False, help_text="Account that acted, or `system`.")
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


ALERT_FILTERS = {
    "state": "state", "kind": "kind", "voice": "voice", "since": "created_at__gte",
    "until": "created_at__lt",
}  # fmt: skip
AUDIT_FILTERS = {
    "subject": "subject", "kind": "kind", "actor": "actor", "since": "at__gte", "until": "at__lt"
}  # fmt: skip


class AlertRow(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    key = serializers.CharField(help_text="What it is about; the same key is one alert.")
    voice = serializers.ChoiceField(choices=NAMES, help_text="What it is to be told by.")
    kind = serializers.CharField()
    state = serializers.ChoiceField(choices=OutboxEntry.State.choices)
    payload = serializers.DictField()
    created_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(help_text="Not sent before.")
    attempts = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True, help_text="Why it failed or was held back.")
    sent_at = serializers.DateTimeField(allow_null=True)
    transport = serializers.CharField(
        allow_blank=True, help_text="What told it: its voice, or `dry_run` for nothing."
    )


class AlertPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    results = AlertRow(many=True)


class AuditRow(serializers.Serializer[Any]):
    id = serializers.IntegerField(help_text="1, 2, 3 ... without a gap.")
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    subject = serializers.CharField()
    actor = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]
    previous_hash = serializers.CharField()
    hash = serializers.CharField(help_text="sha256 over the hash before and this entry.")


class AuditPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    results = AuditRow(many=True)


class Alerts(ApiView):
    """Alerts of the outbox, newest first: what waits, what was sent, what failed and why."""

    permission_classes = (IsAuthenticated, MaySeeJournal)
    needs = "alerts.view_outboxentry"

    @documented("alerts_list", AlertPage, query=AlertQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, AlertQuery)
        found = OutboxEntry.objects.filter(**_wanted(query, ALERT_FILTERS))
        return _newest_first(request, found, query, ALERT_COLUMNS)


class Audit(ApiView):
    """The audit chain, newest first. `manage.py audit verify` checks it."""

    permission_classes = (IsAuthenticated, MaySeeJournal)
    needs = "alerts.view_auditentry"

    @documented("audit_list", AuditPage, query=AuditQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, AuditQuery)
        found = AuditEntry.objects.filter(**_wanted(query, AUDIT_FILTERS))
        return _newest_first(request, found, query, AUDIT_COLUMNS)


def _wanted(query: dict[str, Any], table: dict[str, str]) -> dict[str, Any]:
    return {lookup: query[name] for name, lookup in table.items() if name in query}


def _newest_first(
    request: Request, found: QuerySet[Any, Any], query: dict[str, Any], columns: tuple[str, ...]
) -> Response:
    position = read_cursor(query.get("cursor"), tuple[int])
    if position:
        found = found.filter(id__lt=position[0])
    size = query["page_size"]
    rows = list(found.order_by("-id").values(*columns)[: size + 1])
    cursor = write_cursor((rows[size - 1]["id"],)) if len(rows) > size else None
    return Response(page(request, rows[:size], next_cursor=cursor))
