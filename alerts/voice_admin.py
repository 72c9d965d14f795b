"""How the desk speaks, in the admin: the voice's state, how loud each kind is, what is silenced."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from alerts import delivery, journal
from alerts.models import Manner, Silence, Voice

if TYPE_CHECKING:  # Django's own class takes no parameters at run time
    _VoiceAdmin = admin.ModelAdmin[Voice]
    _MannerAdmin = admin.ModelAdmin[Manner]
    _SilenceAdmin = admin.ModelAdmin[Silence]
else:
    _VoiceAdmin = _MannerAdmin = _SilenceAdmin = admin.ModelAdmin

SILENT_FOR = timedelta(hours=1)


@admin.register(Voice)
class VoiceAdmin(_VoiceAdmin):
    """Budget and quiet hours are for people; the rest is what happened. Secrets stay in the
    environment: of the chat only the last digits are shown."""

    list_display = ("name", "state", "chat_end", "last_ok_at", "told", "failures", "budget")
    fields = (
        "name", "state", "chat_end", ("quiet_from", "quiet_to"), "budget",
        "last_ok_at", "told", "failures", "broken", "broken_at", "not_before",
    )  # fmt: skip
    readonly_fields = (
        "name", "state", "chat_end", "last_ok_at", "told", "failures", "broken", "broken_at",
        "not_before",
    )  # fmt: skip
    actions = ("try_again", "send_test")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Voice | None = None) -> bool:
        return False

    def has_test_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(delivery.MAY_TEST)

    @admin.display(description="state")
    def state(self, voice: Voice) -> str:
        if delivery.line_now(voice) is None:
            return "○ dry run: alerts are only written down"
        if voice.broken:
            return f"✕ stopped: {voice.broken}"
        if voice.not_before and voice.not_before > timezone.now():
            return f"◔ asked to wait until {voice.not_before:%H:%M:%S} UTC"
        return "✓ on"

    @admin.display(description="chat")
    def chat_end(self, voice: Voice) -> str:
        line = delivery.line_now(voice)
        return line.masked if line else "not configured"

    @admin.action(description="Try again what was stopped or failed", permissions=["change"])
    def try_again(self, request: HttpRequest, voices: QuerySet[Voice]) -> None:
        moved = delivery.send_again(by=request.user.get_username(), at=timezone.now())
        self.message_user(request, f"On again; {moved} failed alert(s) wait to be sent.")

    @admin.action(description="Send a test message now", permissions=["test"])
    def send_test(self, request: HttpRequest, voices: QuerySet[Voice]) -> None:
        who = request.user.get_username()
        told = delivery.outcome_row(*delivery.send_test(f"Test by {who}", at=timezone.now()))
        if told["transport"] == delivery.DRY_RUN:
            self.message_user(request, "Dry run: Telegram is off.", messages.WARNING)
        elif told["sent"]:
            self.message_user(request, f"Sent to {told['chat']}.", messages.SUCCESS)
        else:
            self.message_user(request, f"Not sent: {told['reason']}", messages.ERROR)


@admin.register(Manner)
class MannerAdmin(_MannerAdmin):
    list_display = ("kind", "how")
    list_filter = ("how",)
    ordering = ("kind",)


@admin.register(Silence)
class SilenceAdmin(_SilenceAdmin):
    """A silence ends by its time, or at once by the action; it is never deleted."""

    list_display = ("scope", "value", "until", "active", "reason", "by")
    list_filter = ("scope",)
    ordering = ("-until",)
    fields = ("scope", "value", "until", "reason")
    actions = ("end_now",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"until": timezone.now() + SILENT_FOR, "scope": Silence.Scope.EVENT}

    def has_change_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Silence | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Silence, form: Any, change: bool) -> None:
        obj.by = request.user  # type: ignore[assignment]  # the admin lets only users in
        super().save_model(request, obj, form, change)
        _record("silence.began", obj, request)

    @admin.display(description="active", boolean=True)
    def active(self, silence: Silence) -> bool:
        return silence.until > timezone.now()

    @admin.action(description="End now", permissions=["change"])
    def end_now(self, request: HttpRequest, silences: QuerySet[Silence]) -> None:
        for silence in silences.filter(until__gt=timezone.now()):
            silence.until = timezone.now()
            silence.save(update_fields=["until"])
            _record("silence.ended", silence, request)


def _record(kind: str, silence: Silence, request: HttpRequest) -> None:
    """Write it into the audit chain; the admin's views run in a transaction."""
    journal.record(
        kind=kind,
        subject=f"silence:{silence.pk}",
        actor=request.user.get_username(),
        at=timezone.now(),
        data={
            "scope": silence.scope,
            "value": silence.value,
            "until": silence.until.isoformat(),
            "reason": silence.reason,
        },
    )
