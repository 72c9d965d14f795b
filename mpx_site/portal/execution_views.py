"""Execution page, approvals, intents: parse, one call, answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from execution import intents
from execution.intents import Answer
from execution.models import OrderIntent
from mpx_site.portal import exports, orders, steps
from mpx_site.portal.desk import Desk
from mpx_site.portal.exports import Column
from mpx_site.portal.steps import Sent
from signals.models import Signal

ORDERS = (
    Column("order", "pk"),
    Column("status", "status"),
    Column("kind", "kind"),
    Column("rule", "signal.rule.code"),
    Column("signal", "signal.key"),
    Column("event_id", "event_id"),
    Column("event", "event.title"),
    Column("at_most_usd", "notional"),
    Column("expected_cost_usd", "cost"),
    Column("pays_at_worst_usd", "min_payoff"),
    Column("spent_usd", "spent"),
    Column("fees_usd", "fees"),
    Column("basket_pays_usd", "locked_payoff"),
    Column("proposed_by", "proposer.username"),
    Column("approved_by", "approver.username"),
    Column("single_operator", "single_operator"),
    Column("suggested_at", "suggested_at"),
    Column("approved_at", "approved_at"),
    Column("closed_at", "closed_at"),
    Column("reason", "reason"),
    Column("plan_hash", "plan_hash"),
)


@never_cache
def execution(request: HttpRequest, key: str) -> HttpResponse:
    """Show what an order would be; posting suggests it."""
    if request.method == "POST":
        return _suggest(request, key)
    return _execution(request, key)


@require_safe
@steps.for_roles
def _execution(request: HttpRequest, key: str) -> HttpResponse:
    desk = Desk(at=timezone.now())
    try:
        page = orders.execution(key, request.GET, by=steps.person(request), at=desk.at)
    except Signal.DoesNotExist:
        raise Http404("There is no signal of this key.") from None
    return render(request, "portal/execution.html", {"page": page, "desk": desk})


def _suggest(request: HttpRequest, key: str) -> HttpResponse:
    signal = Signal.objects.filter(key=key).first()
    if signal is None:
        raise Http404("There is no signal of this key.")
    back = reverse("execution", args=(key,))
    form = steps.sent(request)
    if form is None:
        return steps.lead_to(back)
    if form.capital_usd is not None:
        back = f"{back}?capital={form.capital_usd}"
    by = steps.person(request)
    answer = steps.attempt(
        request,
        lambda: intents.suggest(
            signal,
            by=by,
            at=timezone.now(),
            capital=form.capital_usd,
            plan_hash=form.text("plan") or None,
            rehearsal=form.text("rehearsal"),
            idempotency_key=form.text("key"),
        ),
    )
    if answer is None:
        return steps.lead_to(back)
    if answer.intent is None:
        return steps.refused_at(back, subject=f"signal:{key}", by=by)
    number = answer.intent.pk
    if answer.applied:
        messages.success(request, f"Order {number} is suggested. It waits for approval.")
    else:
        messages.error(request, f"Order {number} was rejected at once; see why below.")
    return steps.lead_to(reverse("intent", args=(number,)))


@require_safe
@never_cache
@steps.for_roles
def approvals(request: HttpRequest) -> HttpResponse:
    desk = Desk(at=timezone.now())
    page = orders.inbox(by=steps.person(request), at=desk.at)
    return render(request, "portal/approvals.html", {"page": page, "desk": desk})


@require_safe
@never_cache
@steps.for_roles
def intent_list(request: HttpRequest) -> HttpResponseBase:
    asked = orders.AskedIntents(request.GET)
    rows = asked.rows(steps.person(request))
    if (file := exports.answer(request, rows, ORDERS, name="orders")) is not None:
        return file
    page = asked.page_of(rows, number=request.GET.get("page"))
    return render(request, "portal/intents.html", {"asked": asked, "intents": page})


@require_safe
@never_cache
@steps.for_roles
def intent(request: HttpRequest, intent_id: int) -> HttpResponse:
    desk = Desk(at=timezone.now())
    try:
        page = orders.intent(intent_id, request.GET, by=steps.person(request), at=desk.at)
    except OrderIntent.DoesNotExist:
        raise Http404("There is no order of this number.") from None
    return render(request, "portal/intent.html", {"page": page, "desk": desk})


@require_POST
@never_cache
def approve(request: HttpRequest, intent_id: int) -> HttpResponse:
    return _step(request, intent_id, _approve, done="approved. Its legs are on their way")


@require_POST
@never_cache
def reject(request: HttpRequest, intent_id: int) -> HttpResponse:
    return _step(request, intent_id, _reject, done="rejected")


@require_POST
@never_cache
def cancel(request: HttpRequest, intent_id: int) -> HttpResponse:
    return _step(request, intent_id, _cancel, done="taken back")


@require_POST
@never_cache
def revise(request: HttpRequest, intent_id: int) -> HttpResponse:
    return _step(request, intent_id, _revise, done="planned anew. It waits for approval")


Act = Callable[[HttpRequest, int, Sent], Answer]


def _approve(request: HttpRequest, intent_id: int, form: Sent) -> Answer:
    return intents.approve(
        intent_id,
        by=steps.person(request),
        at=timezone.now(),
        plan_hash=form.text("plan"),
        idempotency_key=form.text("key"),
    )


def _reject(request: HttpRequest, intent_id: int, form: Sent) -> Answer:
    return intents.reject(
        intent_id,
        by=steps.person(request),
        at=timezone.now(),
        reason=form.text("reason"),
        idempotency_key=form.text("key"),
    )


def _cancel(request: HttpRequest, intent_id: int, form: Sent) -> Answer:
    return intents.cancel(
        intent_id,
        by=steps.person(request),
        at=timezone.now(),
        reason=form.text("reason"),
        idempotency_key=form.text("key"),
    )


def _revise(request: HttpRequest, intent_id: int, form: Sent) -> Answer:
    return intents.revise(
        intent_id,
        by=steps.person(request),
        at=timezone.now(),
        capital=form.capital_usd,
        idempotency_key=form.text("key"),
    )


def _step(request: HttpRequest, intent_id: int, act: Act, *, done: str) -> HttpResponse:
    back = reverse("intent", args=(intent_id,))
    form = steps.sent(request)
    if form is None:
        return steps.lead_to(back)
    try:
        answer = steps.attempt(request, partial(act, request, intent_id, form))
    except OrderIntent.DoesNotExist:
        raise Http404("There is no order of this number.") from None
    if answer is None:
        return steps.lead_to(back)
    if not answer.applied:
        by = steps.person(request)
        return steps.refused_at(back, subject=f"intent:{intent_id}", by=by)
    messages.success(request, f"Order {intent_id} is {done}.")
    return steps.lead_to(back)
