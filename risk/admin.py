"""Limits, circuit breakers and the kill switch in the admin.

Each page is a form for one public function (`risk.limits`, `risk.breakers`,
`risk.killswitch`); no row is edited in place, and refusals come back in the words
of the checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from alerts.admin import ReadOnly, shown_row
from alerts.models import AuditEntry
from risk import breakers, killswitch, limits
from risk.checks import Verdict
from risk.locking import DeskBusy, NoPolicy
from risk.models import THE_ROW, Breaker, KillSwitch, Policy, PolicyChange

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _PolicyAdmin = admin.ModelAdmin[Policy]
    _ChangeAdmin = admin.ModelAdmin[PolicyChange]
    _BreakerAdmin = admin.ModelAdmin[Breaker]
    _SwitchAdmin = admin.ModelAdmin[KillSwitch]
else:
    _PolicyAdmin = _ChangeAdmin = _BreakerAdmin = _SwitchAdmin = admin.ModelAdmin

MOST_HISTORY = 20
LONGEST_REASON = 300


def person(request: HttpRequest) -> User:
    """Return who asks; raise `PermissionDenied` for nobody."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def attempt(request: HttpRequest, act: Callable[[], Verdict], *, done: str) -> bool:
    """Do an act and tell what became of it; return whether it was allowed."""
    try:
        verdict = act()
    except (DeskBusy, NoPolicy) as error:
        messages.error(request, str(error))
        return False
    if verdict.ok:
        messages.success(request, done)
    else:
        messages.error(request, f"Refused. {' '.join(verdict.reasons)}")
    return verdict.ok


def history_of(subject: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(subject=subject).order_by("-id")[:MOST_HISTORY])


class Screen(ReadOnly):
    """What the pages to act from share: rows move by the desk's own functions only."""

    admin_site: admin.AdminSite
    opts: Any
    media: Any

    class Media:
        css: ClassVar = {"all": ["execution/admin.css"]}

    def page(
        self, request: HttpRequest, template: str, *, title: str, **context: object
    ) -> TemplateResponse:
        shared = self.admin_site.each_context(request)
        own = {"title": title, "opts": self.opts, "media": self.media, **context}
        return TemplateResponse(request, f"admin/risk/{template}", {**shared, **own})

    def own_view(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        guarded: Callable[..., HttpResponse] = self.admin_site.admin_view(view)
        return guarded


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=LONGEST_REASON, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    @property
    def said(self) -> str:
        return str(self.cleaned_data["reason"])


# --- limits --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitField:
    """One limit on the form, with what counts now and how far anybody may go."""

    field: forms.BoundField
    meaning: str
    unit: str
    allowed: object
    low: Decimal
    high: Decimal
    setting: str
    looser: str


class PolicyForm(ReasonForm):
    """All limits. What stays as it is is not a change."""

    def __init__(self, policy: Policy, data: Any = None) -> None:
        super().__init__(data)
        self.policy = policy
        for name, limit in limits.LIMITS.items():
            places = None if limit.kind is int else 2
            self.fields[name] = forms.DecimalField(
                required=not limit.setting,
                initial=getattr(policy, name),
                decimal_places=places or 0,
                max_digits=12,
                label=limits.label_of(name),
            )
        self.order_fields([*limits.LIMITS, "reason"])

    def rows(self) -> list[LimitField]:
        bounds = limits.bounds(self.policy)
        return [
            LimitField(
                field=self[name],
                meaning=limits.meaning_of(name),
                unit=limits.UNIT_OF[name],
                allowed=getattr(bounds, name),
                low=limit.range()[0],
                high=limit.range()[1],
                setting=limit.setting,
                looser="higher" if limit.looser == "up" else "lower",
            )
            for name, limit in limits.LIMITS.items()
        ]

    def news(self) -> dict[str, limits.Value]:
        """Return the limits that were changed; None puts one back to its ceiling."""
        return {
            name: self._value(name)
            for name in limits.LIMITS
            if self._value(name) != getattr(self.policy, name)
        }

    def _value(self, name: str) -> limits.Value:
        value: Decimal | None = self.cleaned_data[name]
        return None if value is None else limits.LIMITS[name].kind(value)


@admin.register(Policy)
class PolicyAdmin(Screen, _PolicyAdmin):
    """The one policy: tightening applies at once, loosening waits for a second person."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:risk_policy_change", args=[THE_ROW]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        policy = shown_row(self, request, object_id)
        form = PolicyForm(policy, request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and self._change(request, form):
            return HttpResponseRedirect(request.path)
        return self.page(
            request,
            "policy.html",
            title="Limits",
            form=form,
            may=request.user.has_perm("risk.edit_policy"),
            proposed=PolicyChange.objects.filter(state="PROPOSED").order_by("-at", "-id"),
            recent=PolicyChange.objects.exclude(state="PROPOSED")
            .select_related("proposer", "confirmer")
            .order_by("-at", "-id")[:MOST_HISTORY],
        )

    def _change(self, request: HttpRequest, form: PolicyForm) -> bool:
        by, at = person(request), timezone.now()
        try:
            changed = limits.change(by=by, at=at, reason=form.said, **form.news())
        except limits.BadLimit as bad:
            form.add_error(bad.field if bad.field in form.fields else None, bad.reason)
            return False
        except (DeskBusy, NoPolicy) as error:
            messages.error(request, str(error))
            return False
        if changed.applied:
            messages.success(request, "The new limits count from now on.")
        elif changed.change is not None:
            messages.warning(request, "It loosens limits, so it waits for a second person.")
        else:
            messages.error(request, f"Refused. {' '.join(changed.verdict.reasons)}")
        return True


@admin.register(PolicyChange)
class PolicyChangeAdmin(Screen, _ChangeAdmin):
    list_display = ("at", "what", "state", "reason", "proposer", "confirmer", "decided_at")
    list_filter = ("state", "single_operator")
    list_select_related = ("proposer", "confirmer")
    ordering = ("-at", "-id")

    @admin.display(description="what")
    def what(self, change: PolicyChange) -> str:
        return "; ".join(
            f"{name}: {change.before.get(name)} to {value}" for name, value in change.after.items()
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        change = shown_row(self, request, object_id)
        if request.method == "POST":
            self._decide(request, change)
            return HttpResponseRedirect(request.path)
        rows = [
            (limits.label_of(name), change.before.get(name), value, name in change.loosens)
            for name, value in change.after.items()
        ]
        title = f"Change of limits: {change.state}"
        return self.page(request, "change.html", title=title, change=change, rows=rows,
                         waiting=change.state == PolicyChange.State.PROPOSED)  # fmt: skip

    def _decide(self, request: HttpRequest, change: PolicyChange) -> None:
        by, at = person(request), timezone.now()
        if request.POST.get("act") == "confirm":
            attempt(
                request,
                lambda: limits.confirm(change.pk, by=by, at=at).verdict,
                done="Confirmed. The new limits count from now on.",
            )
            return
        form = ReasonForm(request.POST)
        if not form.is_valid():
            messages.error(request, "Say why it is refused; whoever asked will read it.")
            return
        attempt(
            request,
            lambda: limits.refuse(change.pk, by=by, at=at, reason=form.said).verdict,
            done="Refused. The limits stay as they are.",
        )


# --- breakers ------------------------------------------------------------------------


class TripForm(ReasonForm):
    scope = forms.ChoiceField(choices=Breaker.Scope.choices)
    subject = forms.CharField(
        max_length=80, required=False, help_text="Rule code or market id; nothing for the desk."
    )
    field_order = ("scope", "subject", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        whole = cleaned.get("scope") == Breaker.Scope.GLOBAL
        if whole == bool(cleaned.get("subject")):
            told = "Leave it empty for the whole desk." if whole else "Which rule or market?"
            self.add_error("subject", told)
        return cleaned


@admin.register(Breaker)
class BreakerAdmin(Screen, _BreakerAdmin):
    list_display = ("__str__", "state", "reason", "failures", "tripped_at", "reopen_at", "trial")
    list_filter = ("state", "scope")
    search_fields = ("=subject",)
    search_help_text = "A whole rule code or market id."
    ordering = ("scope", "subject", "id")
    change_list_template = "admin/risk/breaker_list.html"

    def get_urls(self) -> list[URLPattern]:
        trip = self.own_view(self.trip_view)
        return [path("trip/", trip, name="risk_breaker_trip"), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one breaker; a POST closes it, with a reason."""
        breaker = shown_row(self, request, object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            self._reset(request, breaker, form.said)
            return HttpResponseRedirect(request.path)
        subject = f"breaker:{breaker.scope}:{breaker.subject}"
        return self.page(request, "breaker.html", title=str(breaker), breaker=breaker, form=form,
                         history=history_of(subject))  # fmt: skip

    def _reset(self, request: HttpRequest, breaker: Breaker, reason: str) -> None:
        by, at = person(request), timezone.now()
        attempt(
            request,
            lambda: (
                breakers.reset(
                    scope=breaker.scope, subject=breaker.subject, reason=reason, by=by, at=at
                ).verdict
            ),
            done="It is closed; orders pass again.",
        )

    def trip_view(self, request: HttpRequest) -> HttpResponse:
        """Open a breaker by hand; only a person closes it again."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = TripForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and self._trip(request, form):
            return HttpResponseRedirect(reverse("admin:risk_breaker_changelist"))
        return self.page(request, "trip.html", title="Open a circuit breaker", form=form)

    def _trip(self, request: HttpRequest, form: TripForm) -> bool:
        by, at, asked = person(request), timezone.now(), form.cleaned_data
        return attempt(
            request,
            lambda: (
                breakers.trip_by_hand(
                    scope=asked["scope"], subject=asked["subject"], reason=form.said, by=by, at=at
                ).verdict
            ),
            done="It is open: nothing passes until a person resets it.",
        )


# --- the kill switch -----------------------------------------------------------------


@admin.register(KillSwitch)
class KillSwitchAdmin(Screen, _SwitchAdmin):
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:risk_killswitch_change", args=[THE_ROW]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the switch; a POST trips or re-arms it, with a reason."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            self._switch(request, form.said)
            return HttpResponseRedirect(request.path)
        row = KillSwitch.objects.filter(pk=THE_ROW).first()
        return self.page(request, "killswitch.html", title="Kill switch", form=form, row=row,
                         kill=killswitch.status(), history=history_of("killswitch"))  # fmt: skip

    def _switch(self, request: HttpRequest, reason: str) -> None:
        by, at, on = person(request), timezone.now(), request.POST.get("act") == "trip"
        act = killswitch.trip if on else killswitch.rearm
        done = "It is on: nothing is approved or filled." if on else "It is off: orders pass again."
        attempt(request, lambda: act(reason=reason, at=at, by=by).verdict, done=done)
