"""The risk page: limits and their use, who changed them, breakers, the kill switch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from execution.standing import Standing, label_of, standing
from markets.models import Market
from mpx_site.portal import orders, steps
from mpx_site.portal.desk import Desk
from mpx_site.portal.refusals import Refusal, about_risk
from mpx_site.portal.steps import Sent
from risk import breakers, killswitch, limits
from risk.checks import Verdict, four_eyes, permitted
from risk.models import THE_ROW, Breaker, KillSwitch, PolicyChange

SHOWN_CHANGES = 20


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """A change of limits in words: per limit its label, what it was and what it becomes.

    None is the ceiling of the environment.
    """

    change: PolicyChange
    values: tuple[tuple[str, object, object, bool], ...]  # label, before, after, loosens
    may: Verdict


@dataclass(frozen=True, slots=True)
class BreakerLine:
    """A breaker; `market` is its market if it guards one that is listed."""

    breaker: Breaker
    market: Market | None
    due: bool


@dataclass(frozen=True, slots=True)
class RiskPage:
    now: Standing
    switch: KillSwitch | None
    breakers: tuple[BreakerLine, ...]
    waiting: tuple[ChangeLine, ...]
    changes: tuple[ChangeLine, ...]
    may_trip: Verdict
    may_rearm: Verdict
    may_reset: Verdict
    may_edit: Verdict
    refusal: Refusal | None
    key: str


def page(number: str | None, *, by: User, at: datetime) -> RiskPage:
    """`number` names a refusal to show."""
    now = standing(at=at)
    switch = KillSwitch.objects.filter(pk=THE_ROW).first()
    decided = PolicyChange.objects.exclude(state=PolicyChange.State.PROPOSED)
    recent = decided.select_related("proposer", "confirmer").order_by("-at", "-id")
    return RiskPage(
        now=now,
        switch=switch,
        breakers=_breaker_lines(now.breakers, at),
        waiting=tuple(_line(change, by) for change in now.proposed),
        changes=tuple(_line(change, by) for change in recent[:SHOWN_CHANGES]),
        may_trip=_may(by, "trip_kill"),
        may_rearm=_may(by, "rearm_kill", first=switch.changed_by if switch else ""),
        may_reset=_may(by, "reset_breaker"),
        may_edit=_may(by, "edit_policy"),
        refusal=about_risk(number),
        key=orders.new_key(),
    )


def _may(by: User, codename: str, *, first: str | None = None) -> Verdict:
    """Say whether a person may do it, as the second one after `first` if that is named."""
    who = by.get_username()
    allowed = permitted(allowed=by.has_perm(f"risk.{codename}"), who=who, needs=codename)
    if first is None:
        return Verdict((allowed,))
    single: bool = settings.MPX_SINGLE_OPERATOR
    return Verdict((allowed, four_eyes(proposer=first, approver=who, single_operator=single)))


def _line(change: PolicyChange, by: User) -> ChangeLine:
    before: Mapping[str, object] = change.before
    values = tuple(
        (label_of(name), before.get(name), after, name in change.loosens)
        for name, after in change.after.items()
    )
    return ChangeLine(change, values, _may(by, "edit_policy", first=change.proposer.get_username()))


def _breaker_lines(rows: Sequence[Breaker], at: datetime) -> tuple[BreakerLine, ...]:
    """Return breakers, those that stop orders first."""
    ids = [row.subject for row in rows if row.scope == Breaker.Scope.MARKET]
    markets = Market.objects.in_bulk(ids)
    lines = (BreakerLine(row, markets.get(row.subject), row.is_due(at)) for row in rows)
    return tuple(sorted(lines, key=lambda line: line.breaker.state == Breaker.State.CLOSED))


@require_safe
@never_cache
@steps.for_roles
def risk(request: HttpRequest) -> HttpResponse:
    desk = Desk(at=timezone.now())
    found = page(request.GET.get("refused"), by=steps.person(request), at=desk.at)
    return render(request, "portal/risk.html", {"page": found, "desk": desk})


# --- steps ---------------------------------------------------------------------------


@require_POST
@never_cache
def trip(request: HttpRequest) -> HttpResponse:
    def act(form: Sent, by: User) -> Verdict:
        done = killswitch.trip(reason=form.text("reason"), at=timezone.now(), by=by)
        return done.verdict

    done = "The kill switch is on: nothing is approved or filled."
    return _step(request, act, subject="killswitch", done=done)


@require_POST
@never_cache
def rearm(request: HttpRequest) -> HttpResponse:
    def act(form: Sent, by: User) -> Verdict:
        return killswitch.rearm(reason=form.text("reason"), at=timezone.now(), by=by).verdict

    return _step(request, act, subject="killswitch", done="The kill switch is off.")


@require_POST
@never_cache
def reset(request: HttpRequest, number: int) -> HttpResponse:
    row = Breaker.objects.filter(pk=number).first()
    if row is None:
        raise Http404("There is no breaker of this number.")

    def act(form: Sent, by: User) -> Verdict:
        return breakers.reset(
            scope=row.scope,
            subject=row.subject,
            reason=form.text("reason"),
            by=by,
            at=timezone.now(),
        ).verdict

    subject = f"breaker:{row.scope}:{row.subject}"
    return _step(request, act, subject=subject, done="The breaker is closed.")


@require_POST
@never_cache
def confirm(request: HttpRequest, number: int) -> HttpResponse:
    def act(form: Sent, by: User) -> Verdict:
        return limits.confirm(number, by=by, at=timezone.now()).verdict

    return _step(request, act, subject="policy", done="The limits are changed.")


@require_POST
@never_cache
def refuse(request: HttpRequest, number: int) -> HttpResponse:
    def act(form: Sent, by: User) -> Verdict:
        at, reason = timezone.now(), form.text("reason")
        return limits.refuse(number, by=by, at=at, reason=reason).verdict

    return _step(request, act, subject="policy", done="The proposed limits are dropped.")


def _step(
    request: HttpRequest, act: Callable[[Sent, User], Verdict], *, subject: str, done: str
) -> HttpResponse:
    back = reverse("risk")
    form = steps.sent(request)
    if form is None:
        return steps.lead_to(back)
    by = steps.person(request)
    try:
        verdict = steps.attempt(request, lambda: act(form, by))
    except PolicyChange.DoesNotExist:
        raise Http404("There is no change of limits of this number.") from None
    if verdict is None:
        return steps.lead_to(back)
    if not verdict.ok:
        return steps.refused_at(back, subject=subject, by=by)
    messages.success(request, done)
    return steps.lead_to(back)
