"""The desk's orders in the admin: to read, to decide one by one or several at once.

Nothing here moves a row. Every act calls the function that every surface calls,
each intent in a transaction of its own, so a bulk act may succeed in part.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from alerts.admin import ReadOnly, shown_row
from execution import intents
from execution.idempotency import BadKey, KeyReused
from execution.models import (
    Fill,
    IntentEvent,
    IntentLeg,
    LiveBook,
    OrderIntent,
    PositionEntry,
)
from execution.plans import Plan
from risk import limits
from risk.checks import Verdict
from risk.locking import DeskBusy, NoPolicy

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    _IntentAdmin = admin.ModelAdmin[OrderIntent]
    _EventAdmin = admin.ModelAdmin[IntentEvent]
    _LegAdmin = admin.ModelAdmin[IntentLeg]
    _FillAdmin = admin.ModelAdmin[Fill]
    _EntryAdmin = admin.ModelAdmin[PositionEntry]
    _BookAdmin = admin.ModelAdmin[LiveBook]
else:
    _IntentAdmin = _EventAdmin = _LegAdmin = _FillAdmin = admin.ModelAdmin
    _EntryAdmin = _BookAdmin = admin.ModelAdmin

MOST_AT_ONCE = 50
Status = OrderIntent.Status
Step = Callable[..., intents.Answer]


# --- what a decision is made on ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Act:
    """One way to decide. `done` is what the operator is told when it went through."""

    name: str
    title: str
    button: str
    done: str
    states: frozenset[str]
    needs_reason: bool
    step: Step


ACTS: dict[str, Act] = {
    act.name: act
    for act in (
        Act("approve", "Approve orders", "Approve", "approved", frozenset({Status.SUGGESTED}),
            False, intents.approve),
        Act("reject", "Reject orders", "Reject", "rejected", frozenset({Status.SUGGESTED}),
            True, intents.reject),
        Act("cancel", "Cancel orders", "Cancel the orders", "cancelled",
            frozenset({Status.SUGGESTED, Status.APPROVED}), False, intents.cancel),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One intent that is to be decided, as it stands now. `verdict` is None for other acts."""

    intent: OrderIntent
    plan: Plan
    verdict: Verdict | None
    possible: bool

    @property
    def why_not(self) -> tuple[str, ...]:
        if self.verdict is not None:
            return self.verdict.reasons
        return () if self.possible else (f"Nothing to do: it is {self.intent.status} already.",)


@dataclass(frozen=True, slots=True)
class Docket:
    """The intents on a confirmation page, and what approving them would use up (USD)."""

    cases: tuple[Case, ...]
    day_used: Decimal
    day_limit: Decimal

    @property
    def possible(self) -> int:
        return sum(case.possible for case in self.cases)

    @property
    def notional(self) -> Decimal:
        return sum((c.intent.notional for c in self.cases if c.possible), Decimal(0))

    @property
    def day_after(self) -> Decimal:
        return self.day_used + self.notional

    @property
    def over(self) -> bool:
        return self.day_after > self.day_limit


def docket(act: Act, ids: Sequence[int], *, by: User, at: datetime) -> Docket:
    """Look at each intent as of now. Raises `NoPolicy`."""
    rows = OrderIntent.objects.newest().filter(pk__in=ids).order_by("expires_at", "id")
    return Docket(
        cases=tuple(_case(act, intent, by, at) for intent in rows),
        day_used=OrderIntent.objects.approved_on(at).notional(),
        day_limit=limits.bounds().daily_notional,
    )


def _case(act: Act, intent: OrderIntent, by: User, at: datetime) -> Case:
    verdict = intents.foresee(intent, by=by, at=at) if act.name == "approve" else None
    possible = verdict.ok if verdict is not None else intent.status in act.states
    return Case(intent, intent.typed_plan, verdict, possible)


def decide(act: Act, form: QueryDict, *, by: User) -> list[tuple[int, str]]:
    """Do an act on each chosen intent; return a message level and sentence for each."""
    return [_decide_one(act, pk, form, by=by) for pk in _ids(form.getlist("chosen"))]


def _decide_one(act: Act, pk: int, form: QueryDict, *, by: User) -> tuple[int, str]:
    key = f"admin:{form.get('key', '')}:{pk}"
    given = {"by": by, "at": timezone.now(), "idempotency_key": key}
    if act.name == "approve":
        given["plan_hash"] = form.get(f"hash-{pk}", "")
    else:
        given["reason"] = form.get("reason", "")
    try:
        answer = act.step(pk, **given)
    except OrderIntent.DoesNotExist:
        return messages.ERROR, f"Intent {pk} is not there."
    except (DeskBusy, NoPolicy, BadKey, KeyReused) as error:
        return messages.ERROR, f"Intent {pk}: {error}"
    if answer.applied:
        return messages.SUCCESS, f"Intent {pk} {act.done}."
    changed = "; ".join(f"{c.what}: {c.old} is now {c.new}" for c in answer.difference)
    told = " ".join(answer.reasons) + (f" Changed: {changed}." if changed else "")
    return messages.ERROR, f"Intent {pk} not {act.done}. {told}"


def _ids(words: Sequence[str]) -> list[int]:
    """Return whole numbers, each once and at most `MOST_AT_ONCE`; what is none is left out."""
    found = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 19]
    return list(dict.fromkeys(found))[:MOST_AT_ONCE]


# --- intents -------------------------------------------------------------------------


class Styled:
    class Media:
        css: ClassVar = {"all": ["execution/admin.css"]}


@admin.register(OrderIntent)
class OrderIntentAdmin(Styled, ReadOnly, _IntentAdmin):
    list_display = (
        "number",
        "status",
        "what",
        "rule",
        "notional",
        "profit",
        "proposer",
        "approver",
        "waits",
        "suggested_at",
    )
    list_display_links = ("number",)
    list_filter = ("status", "kind", "single_operator")
    list_select_related = ("signal__rule", "event", "proposer", "approver")
    search_fields = ("=id", "=signal__key", "=event__id")
    search_help_text = "The whole number of an intent, key of a signal or id of an event."
    ordering = ("-id",)
    actions = ("approve", "reject", "cancel")

    @admin.display(description="intent", ordering="id")
    def number(self, intent: OrderIntent) -> str:
        return f"#{intent.pk}"

    @admin.display(description="what", ordering="event")
    def what(self, intent: OrderIntent) -> str:
        title = intent.event.title if intent.event else intent.plan["legs"][0]["label"]
        return f"{intent.kind.replace('_', ' ')}: {title[:70]}"

    @admin.display(description="rule", ordering="signal__rule__code")
    def rule(self, intent: OrderIntent) -> str:
        return intent.signal.rule.code

    @admin.display(description="profit, USD")
    def profit(self, intent: OrderIntent) -> str:
        return "a bet" if intent.typed_plan.bet else f"{intent.min_payoff - intent.cost:+.2f}"

    @admin.display(description="deadline", ordering="expires_at")
    def waits(self, intent: OrderIntent) -> str:
        if not intent.is_open:
            return ""
        left = intent.seconds_left(timezone.now())
        return f"{left:,.0f} s left" if left > 0 else f"{-left:,.0f} s too late"

    # --- acts on several ---

    def has_approve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("execution.approve_intent")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self.has_approve_permission(request) or request.user.has_perm(
            "execution.create_intent"
        )

    @admin.action(description="Approve …", permissions=["approve"])
    def approve(self, request: HttpRequest, rows: QuerySet[OrderIntent]) -> HttpResponse:
        return self._to_decide("approve", rows)

    @admin.action(description="Reject with a reason …", permissions=["approve"])
    def reject(self, request: HttpRequest, rows: QuerySet[OrderIntent]) -> HttpResponse:
        return self._to_decide("reject", rows)

    @admin.action(description="Cancel …", permissions=["cancel"])
    def cancel(self, request: HttpRequest, rows: QuerySet[OrderIntent]) -> HttpResponse:
        return self._to_decide("cancel", rows)

    def _to_decide(self, act: str, rows: QuerySet[OrderIntent]) -> HttpResponse:
        chosen = rows.order_by("expires_at", "id").values_list("pk", flat=True)[:MOST_AT_ONCE]
        query = urlencode({"id": list(chosen)}, doseq=True)
        return HttpResponseRedirect(f"{decide_address(act)}?{query}")

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.decide_view)
        name = "execution_orderintent_decide"
        return [path("decide/<str:act_name>/", view, name=name), *super().get_urls()]

    def decide_view(self, request: HttpRequest, act_name: str) -> HttpResponse:
        """Show what would be decided, as of now; a POST decides what was chosen there."""
        act, by = ACTS.get(act_name), request.user
        if act is None:
            raise Http404
        if not self.has_view_permission(request) or not isinstance(by, User):
            raise PermissionDenied
        if request.method != "POST":
            return self._docket(request, act, by, _ids(request.GET.getlist("id")))
        shown = _ids(request.POST.getlist("id"))
        problem = _unconfirmed(act, request.POST)
        if problem:
            messages.error(request, problem)
            return self._docket(request, act, by, shown)
        for level, told in decide(act, request.POST, by=by):
            messages.add_message(request, level, told)
        return HttpResponseRedirect(_after(shown))

    def _docket(
        self, request: HttpRequest, act: Act, by: User, ids: Sequence[int]
    ) -> TemplateResponse:
        at = timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "title": act.title,
            "opts": self.opts,
            "media": self.media,
            "act": act,
            "docket": docket(act, ids, by=by, at=at),
            "at": at,
            "key": secrets.token_hex(16),
            "reason": request.POST.get("reason", ""),
        }
        return TemplateResponse(request, "admin/execution/orderintent/decide.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show one intent with everything it was decided on. Nothing is edited here."""
        if request.method != "GET":
            raise PermissionDenied
        intent = shown_row(self, request, object_id)
        if not isinstance(request.user, User):
            raise PermissionDenied
        context = self._context(request, intent, request.user)
        return TemplateResponse(request, "admin/execution/orderintent/intent.html", context)

    def _context(self, request: HttpRequest, intent: OrderIntent, by: User) -> dict[str, Any]:
        at, waiting = timezone.now(), intent.status == Status.SUGGESTED
        now = intents.foresee(intent, by=by, at=at) if waiting else None
        return {
            **self.admin_site.each_context(request),
            "title": f"Intent {intent.pk}: {intent.status}",
            "opts": self.opts,
            "media": self.media,
            "intent": intent,
            "plan": intent.typed_plan,
            "at": at,
            "waits": self.waits(intent),
            "checks": now.rows() if now is not None else intent.verdict,
            "checks_are": "Checks as of now" if waiting else "Checks of the last step",
            "acts": [
                (act, f"{decide_address(act.name)}?id={intent.pk}")
                for act in ACTS.values()
                if intent.status in act.states
            ],
            "legs": intent.legs.order_by("number"),
            "fills": intent.fills.order_by("id"),
            "steps": intent.events.order_by("id"),
            "signal_page": _portal("signal", intent.signal.key),
        }

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None  # the audit chain has it


def _unconfirmed(act: Act, form: QueryDict) -> str:
    """Say what is missing on a confirmation; empty if nothing is."""
    chosen = _ids(form.getlist("chosen"))
    if not chosen:
        return "Choose at least one order."
    if act.needs_reason and not form.get("reason", "").strip():
        return "Say why; whoever asked will read it."
    if len(chosen) > 1 and form.get("count", "").strip() != str(len(chosen)):
        return f"Type how many orders you decide on: {len(chosen)} are chosen."
    return ""


def _after(ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return reverse("admin:execution_orderintent_change", args=[ids[0]])
    return reverse("admin:execution_orderintent_changelist")


def decide_address(act: str) -> str:
    return reverse("admin:execution_orderintent_decide", args=[act])


def _portal(page: str, *args: object) -> str:
    """Return the address of a page of the portal; empty where this desk has no such page."""
    try:
        return reverse(page, args=args)
    except NoReverseMatch:
        return ""


# --- what programs write -------------------------------------------------------------


def intent_link(intent_id: int | None) -> SafeString | str:
    if intent_id is None:
        return ""
    address = reverse("admin:execution_orderintent_change", args=[intent_id])
    return format_html('<a href="{}">#{}</a>', address, intent_id)


class OfIntent(ReadOnly):
    """Rows that belong to an intent, with the way to it."""

    @admin.display(description="intent", ordering="intent")
    def of(self, row: IntentEvent | IntentLeg | Fill | PositionEntry) -> SafeString | str:
        return intent_link(row.intent_id)


@admin.register(IntentEvent)
class IntentEventAdmin(OfIntent, _EventAdmin):
    list_display = ("at", "kind", "of", "actor", "status", "audit")
    list_display_links = ("at",)
    list_filter = ("kind", "status")
    search_fields = ("=intent__id", "=audit_id")
    search_help_text = "The whole number of an intent or audit entry."
    ordering = ("-id",)

    @admin.display(description="audit", ordering="audit_id")
    def audit(self, event: IntentEvent) -> SafeString:
        address = reverse("admin:alerts_auditentry_change", args=[event.audit_id])
        return format_html('<a href="{}">#{}</a>', address, event.audit_id)


@admin.register(IntentLeg)
class IntentLegAdmin(OfIntent, _LegAdmin):
    list_display = ("label", "of", "state", "size", "limit_price", "filled", "paid", "unwind")
    list_filter = ("state", "unwind")
    search_fields = ("=intent__id", "=market__id")
    search_help_text = "The whole number of an intent or id of a market."
    ordering = ("-id",)


@admin.register(Fill)
class FillAdmin(OfIntent, _FillAdmin):
    list_display = ("at", "side", "size", "avg_price", "fee", "cash", "of", "market_id")
    list_filter = ("side",)
    search_fields = ("=intent__id", "=market__id", "=token_id")
    search_help_text = "The whole number of an intent, id of a market or token."
    ordering = ("-id",)


@admin.register(PositionEntry)
class PositionEntryAdmin(OfIntent, _EntryAdmin):
    list_display = ("at", "kind", "shares", "cash", "market_id", "outcome_index", "of")
    list_filter = ("kind",)
    search_fields = ("=intent__id", "=market__id", "=token_id")
    search_help_text = "The whole number of an intent, id of a market or token."
    ordering = ("-id",)


@admin.register(LiveBook)
class LiveBookAdmin(ReadOnly, _BookAdmin):
    list_display = ("market_id", "state", "epoch", "changed_at", "seen_at")
    list_filter = ("state",)
    search_fields = ("=market__id",)
    search_help_text = "The whole id of a market."
    ordering = ("-seen_at", "market_id")
