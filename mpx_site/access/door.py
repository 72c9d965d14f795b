"""Logging in: password, then a code where the account has a second factor; and once more later.

Every refusal of a password reads the same, whether the account exists or not.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render, resolve_url
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from execution.authenticators import has_second_factor
from mpx_site.access import factor, pace
from mpx_site.access.pace import Refused, Tries
from mpx_site.access.told import tell
from mpx_site.access.watch import RECENT
from mpx_site.portal import steps

PENDING: Final = "password_was_right"  # in a session that is nobody's yet
PENDING_LIVES: Final = timedelta(minutes=5)
TOO_MANY: Final = 429
WRONG_CODE: Final = "That code is not right, or was used before. The next one comes in 30 s."


class CodeForm(forms.Form):
    """A code of the app, or a recovery code."""

    code = forms.CharField(
        max_length=40,
        label="Code",
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )


class AgainForm(forms.Form):
    """The password once more, with a code where there is a second factor."""

    password = forms.CharField(
        widget=forms.PasswordInput(
            attrs={"autocomplete": "current-password", "autofocus": True}, render_value=False
        ),
        strip=False,
        max_length=1_000,
    )
    code = forms.CharField(
        max_length=40,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false"}),
    )


@method_decorator(sensitive_post_parameters("password"), name="dispatch")
class Door(LoginView):
    """The one login of portal and admin."""

    redirect_authenticated_user = True
    tries: Tries

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        at, name = timezone.now(), request.POST.get("username", "")
        self.tries = Tries(request, name)
        refused = self.tries.take(at=at)
        if refused is None:
            return super().post(request, *args, **kwargs)
        _tell_refused(request, refused, name, at)
        form = AuthenticationForm(request, initial={"username": name})
        context = self.get_context_data(form=form, wait=refused)
        return _slow_down(self.render_to_response(context), refused)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        name = self.request.POST.get("username", "")
        tell("login.failed", self.request, name=name, at=timezone.now(), factor="password")
        return super().form_invalid(form)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        at, user = timezone.now(), form.get_user()
        if not isinstance(user, User):
            raise PermissionDenied
        self.tries.give_back(at=at)
        if has_second_factor(user):
            self.request.session[PENDING] = {
                "user": user.pk,
                "at": at.isoformat(),
                "next": self.get_success_url(),
            }
            return redirect("login-code")
        pace.prune(at=at)
        tell("login.ok", self.request, name=user.get_username(), at=at, factor="password")
        return super().form_valid(form)


@login_not_required
@never_cache
def code(request: HttpRequest) -> HttpResponse:
    """Take the second factor of somebody whose password was right a moment ago."""
    at = timezone.now()
    pending, user = _pending(request, at)
    if user is None:
        return redirect("login")
    form = CodeForm(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return render(request, "registration/code.html", {"form": form})
    tries, name = Tries(request, user.get_username()), user.get_username()
    if refused := tries.take(at=at):
        _tell_refused(request, refused, name, at)
        page = render(request, "registration/code.html", {"form": form, "wait": refused})
        return _slow_down(page, refused)
    used = factor.passes(user, form.cleaned_data["code"], at=at)
    if not used:
        tell("login.failed", request, name=name, at=at, factor="code")
        form.add_error("code", WRONG_CODE)
        return render(request, "registration/code.html", {"form": form})
    tries.give_back(at=at)
    del request.session[PENDING]
    login(request, user)
    tell("login.ok", request, name=name, at=at, factor=used)
    return HttpResponseRedirect(pending["next"], status=303)


@never_cache
@sensitive_post_parameters("password")
def again(request: HttpRequest) -> HttpResponse:
    """Ask for the password once more, before what cannot be taken back."""
    at, user = timezone.now(), steps.person(request)
    takes_code = has_second_factor(user)
    form = AgainForm(request.POST if request.method == "POST" else None)
    told: dict[str, Any] = {"form": form, "takes_code": takes_code, "next": _next(request)}
    if request.method != "POST" or not form.is_valid():
        return render(request, "registration/again.html", told)
    tries, name = Tries(request, user.get_username()), user.get_username()
    if refused := tries.take(at=at):
        _tell_refused(request, refused, name, at)
        page = render(request, "registration/again.html", {**told, "wait": refused})
        return _slow_down(page, refused)
    if not _right(user, form, takes_code, at):
        tell("login.failed", request, name=name, at=at, factor="again")
        form.add_error(None, "Not right. Try again.")
        return render(request, "registration/again.html", told)
    tries.give_back(at=at)
    request.session[RECENT] = at.isoformat()
    request.session.cycle_key()
    tell("login.again", request, name=name, at=at)
    return HttpResponseRedirect(_next(request), status=303)


def _right(user: User, form: AgainForm, takes_code: bool, at: datetime) -> bool:
    right = user.check_password(form.cleaned_data["password"])
    if right and takes_code:
        return bool(factor.passes(user, form.cleaned_data["code"], at=at))
    return right


def _pending(request: HttpRequest, at: datetime) -> tuple[dict[str, Any], User | None]:
    pending = request.session.get(PENDING) or {}
    if not pending or at - datetime.fromisoformat(pending["at"]) > PENDING_LIVES:
        return {}, None
    return pending, User.objects.filter(pk=pending["user"], is_active=True).first()


def _next(request: HttpRequest) -> str:
    """Return where to go on, if that is a page of ours."""
    asked = request.POST.get("next") or request.GET.get("next") or ""
    ours = url_has_allowed_host_and_scheme(
        asked, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return asked if ours else resolve_url(settings.LOGIN_REDIRECT_URL)


def _tell_refused(request: HttpRequest, refused: Refused, name: str, at: datetime) -> None:
    """Tell of it once an hour: whoever tries on and on must not fill the chain."""
    if refused.first:
        tell("login.throttled", request, name=name, at=at, seconds=refused.seconds)


def _slow_down(page: HttpResponse, refused: Refused) -> HttpResponse:
    page.status_code = TOO_MANY
    page.headers["Retry-After"] = str(refused.seconds)
    return page
