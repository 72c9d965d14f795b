"""How long a session lasts, and what takes a password that was entered a moment ago.

A session ends some hours after its login, and earlier when nobody touches it: what a page
fetches by itself is no hand on it. The rules stand here in one table for portal, admin and API,
so that no view can forget them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from mpx_site.access.told import tell, tell_refused
from mpx_site.api_answers import problem_response
from mpx_site.api_login import token_sent
from mpx_site.portal.settings_sessions import OPENED

RECENT: Final = "password_at"
TOUCHED: Final = "touched"
NOTED_EVERY: Final = timedelta(minutes=1)  # a session is not written at each request
SAFE: Final = ("GET", "HEAD", "OPTIONS")
AGAIN: Final = "Nothing was done. Enter your password once more, then do it again."


def _always(request: HttpRequest) -> bool:
    return True


def _rearms(request: HttpRequest) -> bool:
    """Say whether the switch is to go off; tripping it never waits for a password."""
    return request.POST.get("act") != "trip"


def _rearms_by_api(request: HttpRequest) -> bool:
    try:
        return json.loads(request.body).get("tripped") is False
    except (ValueError, AttributeError):
        return False  # the view says what is wrong with it


SENSITIVE: Final[Mapping[str, Callable[[HttpRequest], bool]]] = {
    "risk-rearm": _always,
    "risk-confirm": _always,
    "settings-token-make": _always,
    "second-factor": _always,
    "api-tokens": _always,
    "api-kill-switch": _rearms_by_api,
    "admin:risk_killswitch_change": _rearms,
    "admin:risk_policy_change": _always,
    "admin:risk_policychange_change": _always,
    "admin:auth_user_add": _always,
    "admin:auth_user_change": _always,
    "admin:auth_user_password_change": _always,
    "admin:auth_group_add": _always,
    "admin:auth_group_change": _always,
}


class Watch:
    """Django's middleware; it stands behind the one that finds out who asks."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with suppress(OperationalError, InterfaceError):  # the view says so in its own way
            _end_or_note(request, timezone.now())
        response = self._get_response(request)
        if response.status_code == HTTPStatus.FORBIDDEN and not _was_judged(response):
            with suppress(DatabaseError):
                _tell_denied(request)
        return response

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Send back what takes a password that is younger."""
        match = request.resolver_match
        rule = SENSITIVE.get(match.view_name) if match and request.method not in SAFE else None
        if rule is None or not request.user.is_authenticated or token_sent(request):
            return None
        if _is_recent(request, timezone.now()) or not rule(request):
            return None
        if request.path.startswith("/api/"):
            detail = f"{AGAIN} Use {reverse('login-again')} in the browser."
            return problem_response(
                request, HTTPStatus.FORBIDDEN, code="password_needed", detail=detail
            )
        messages.error(request, AGAIN)
        there = urlencode({"next": _page_of(request)})
        return HttpResponseRedirect(f"{reverse('login-again')}?{there}", status=303)


def _end_or_note(request: HttpRequest, at: datetime) -> None:
    if not request.session.get(OPENED):
        return
    why = _over(request, at)
    if why:
        tell("session.ended", request, name=request.user.get_username(), at=at, why=why)
        logout(request)
    elif _is_touched(request) and at - _touched(request) > NOTED_EVERY:
        request.session[TOUCHED] = at.isoformat()


def _was_judged(response: HttpResponseBase) -> bool:
    """Say whether the desk's own checks refused it: then the chain has their words."""
    return "checks" in (getattr(response, "data", None) or {})


def _tell_denied(request: HttpRequest) -> None:
    """A token has no session: who comes with one is found out by the API itself."""
    if request.user.is_authenticated and not token_sent(request):
        name = request.user.get_username()
        tell_refused("access.denied", request, name=name, method=request.method)


def _over(request: HttpRequest, at: datetime) -> str:
    """Return why a session is over, "" while it is not."""
    opened = datetime.fromisoformat(request.session[OPENED]["at"])
    if at - opened > timedelta(seconds=settings.SESSION_COOKIE_AGE):
        return "its time is up"
    idle = timedelta(minutes=settings.MPX_IDLE_MINUTES)
    return "nobody touched it" if idle and at - _touched(request) > idle else ""


def _touched(request: HttpRequest) -> datetime:
    told = request.session.get(TOUCHED) or request.session[OPENED]["at"]
    return datetime.fromisoformat(told)


def _is_touched(request: HttpRequest) -> bool:
    """Say whether a person did this: opened a page or sent a form; scripts say that they fetch."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def _is_recent(request: HttpRequest, at: datetime) -> bool:
    minutes = settings.MPX_RECENT_MINUTES
    opened: dict[str, str] = request.session.get(OPENED) or {}
    entered: str = request.session.get(RECENT) or opened.get("at", "")
    if not minutes:
        return True
    return bool(entered) and at - datetime.fromisoformat(entered) <= timedelta(minutes=minutes)


def _page_of(request: HttpRequest) -> str:
    """Return the page a form was on: what was posted cannot be sent again by leading there."""
    came = urlsplit(request.headers.get("Referer", ""))
    return came.path if came.netloc == request.get_host() and came.path else reverse("home")
