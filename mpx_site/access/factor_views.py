"""The page of a person's second factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from execution.authenticators import Authenticator
from mpx_site.access import factor
from mpx_site.access.door import WRONG_CODE, CodeForm
from mpx_site.access.factor import Enrolment
from mpx_site.access.pace import Tries
from mpx_site.portal import steps
from mpx_site.portal.settings_sessions import end_sessions


@dataclass(frozen=True, slots=True)
class FactorPage:
    """`enrolment` and `codes` are shown this once; `since` is None while none is in use."""

    since: datetime | None
    codes_left: int
    form: CodeForm
    enrolment: Enrolment | None = None
    codes: tuple[str, ...] = ()


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    user = steps.person(request)
    if request.method != "POST":
        return _shown(request, user)
    acts = {"begin": _begin, "confirm": _confirm, "codes": _codes, "remove": _remove}
    act = acts.get(request.POST.get("act", ""))
    return act(request, user) if act else _shown(request, user)


def _begin(request: HttpRequest, user: User) -> HttpResponse:
    try:
        begun = factor.begin(user, at=timezone.now())
    except factor.InUse:
        messages.error(request, "Your second factor is in use. Remove it first.")
        return _back()
    return _shown(request, user, enrolment=begun)


def _confirm(request: HttpRequest, user: User) -> HttpResponse:
    """Take it into use; whoever is logged in elsewhere was not asked for a code, so that ends."""
    at, form = timezone.now(), CodeForm(request.POST)
    code = form.cleaned_data["code"] if form.is_valid() else ""
    codes = factor.confirm(user, code, at=at) if _may_try(request, user, at) else []
    if not codes:
        begun = Authenticator.objects.filter(user=user, confirmed_at=None).first()
        form.add_error("code", WRONG_CODE)
        return _shown(
            request, user, form=form, enrolment=factor.enrolment(begun) if begun else None
        )
    Tries(request, user.get_username()).give_back(at=at)
    end_sessions(user, at=at, but=request.session.session_key)
    return _shown(request, user, codes=tuple(codes))


def _codes(request: HttpRequest, user: User) -> HttpResponse:
    return _with_code(
        request, user, lambda at: _shown(request, user, codes=tuple(factor.new_codes(user, at=at)))
    )


def _remove(request: HttpRequest, user: User) -> HttpResponse:
    def removed(at: datetime) -> HttpResponse:
        factor.remove(user, by=user.get_username(), at=at)
        messages.success(request, "You log in by your password alone again.")
        return _back()

    return _with_code(request, user, removed)


def _with_code(
    request: HttpRequest, user: User, act: Callable[[datetime], HttpResponse]
) -> HttpResponse:
    """Do what takes a code of the factor itself."""
    at, form = timezone.now(), CodeForm(request.POST)
    right = form.is_valid() and _may_try(request, user, at)
    if right and factor.passes(user, form.cleaned_data["code"], at=at):
        Tries(request, user.get_username()).give_back(at=at)
        return act(at)
    form.add_error("code", WRONG_CODE)
    return _shown(request, user, form=form)


def _may_try(request: HttpRequest, user: User, at: datetime) -> bool:
    return Tries(request, user.get_username()).take(at=at) is None


def _shown(
    request: HttpRequest,
    user: User,
    *,
    form: CodeForm | None = None,
    enrolment: Enrolment | None = None,
    codes: tuple[str, ...] = (),
) -> HttpResponse:
    row = Authenticator.objects.filter(user=user).first()
    page = FactorPage(
        since=row.confirmed_at if row else None,
        codes_left=factor.codes_left(user),
        form=form or CodeForm(),
        enrolment=enrolment,
        codes=codes,
    )
    status = 422 if form is not None else 200
    return render(request, "portal/second_factor.html", {"page": page}, status=status)


def _back() -> HttpResponse:
    return HttpResponseRedirect(reverse("second-factor"), status=303)
