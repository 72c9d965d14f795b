"""How the desk speaks, in the admin: the voice's state, how loud each kind is, what is silenced."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from alerts import delivery, silences, voices
from alerts.delivery import Tested
from alerts.lines import line_of
from alerts.models import Manner, Silence, Voice
from alerts.standing import standing

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
    environment: of the place that a voice speaks to no more is shown than one knows it by."""

    list_display = ("label", "state", "place", "last_ok_at", "told", "failures", "budget")
    fields = (
        "label", "state", "place", ("quiet_from", "quiet_to"), "budget",
        "last_ok_at", "told", "failures", "broken", "broken_at", "not_before",
    )  # fmt: skip
    readonly_fields = (
        "label", "state", "place", "last_ok_at", "told", "failures", "broken", "broken_at",
        "not_before",
    )  # fmt: skip
    actions = ("try_again", "send_test")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Voice | None = None) -> bool:
        return False

    def has_test_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(delivery.MAY_TEST)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        for name in voices.listed():  # so that a voice that has not spoken yet is here, too
            voices.row_of(name)
        return super().changelist_view(request, extra_context)

    @admin.display(description="voice", ordering="name")
    def label(self, voice: Voice) -> str:
        return voices.label(voice.name)

    @admin.display(description="state")
    def state(self, voice: Voice) -> str:
        return " ".join(standing(voice, at=timezone.now()))

    @admin.display(description="speaks to")
    def place(self, voice: Voice) -> str:
        line = line_of(voice.name, voice)
        return line.masked if line else "not configured"

    @admin.action(description="Try again what was stopped or failed", permissions=["change"])
    def try_again(self, request: HttpRequest, chosen: QuerySet[Voice]) -> None:
        names = [voice.name for voice in chosen]
        who = request.user.get_username()
        moved = delivery.send_again(by=who, at=timezone.now(), names=names)
        self.message_user(request, f"On again; {moved} failed alert(s) wait to be sent.")

    @admin.action(description="Send a test message now", permissions=["test"])
    def send_test(self, request: HttpRequest, chosen: QuerySet[Voice]) -> None:
        for voice in chosen:
            text = f"Test by {request.user.get_username()}"
            tested = delivery.send_test(text, at=timezone.now(), name=voice.name)
            self.message_user(request, *_became(voices.label(voice.name), tested))


def _became(label: str, tested: Tested) -> tuple[str, int]:
    told = tested.row
    if tested.outcome is None:
        return f"Dry run: {label} is off.", messages.WARNING
    if told["sent"]:
        return f"Sent to {told['chat']}.", messages.SUCCESS
    return f"{label}: not sent: {told['reason']}", messages.ERROR


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
        _note("silence.began", obj, request)

    @admin.display(description="active", boolean=True)
    def active(self, silence: Silence) -> bool:
        return silence.until > timezone.now()

    @admin.action(description="End now", permissions=["change"])
    def end_now(self, request: HttpRequest, chosen: QuerySet[Silence]) -> None:
        for silence in chosen.filter(until__gt=timezone.now()):
            silence.until = timezone.now()
            silence.save(update_fields=["until"])
            _note("silence.ended", silence, request)


def _note(kind: silences.Kind, silence: Silence, request: HttpRequest) -> None:
    """Write it into the audit chain; the admin's views run in a transaction."""
    silences.record(kind, silence, by=request.user.get_username(), at=timezone.now())
