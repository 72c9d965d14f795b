"""Who may ask the API. Apart, because REST framework loads it before its own views."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import structlog
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from mpx_site import api_token_book
from mpx_site.access.told import tell_refused
from mpx_site.models import ApiToken, Scope

log = structlog.stdlib.get_logger(__name__)


class DeskSession(SessionAuthentication):
    """The portal's own login; a caller without one gets 401, not 403."""

    def authenticate_header(self, request: Request) -> str:
        return 'Session realm="mpx"'


class OwnToken(BaseAuthentication):
    """`Authorization: Bearer mpx_...` or `X-API-Key: mpx_...`: a person's token.

    Its scopes are judged here, with the login, so that no view can forget them: reading
    takes `read`, every other method what the view's `scopes` say, and no scope opens a
    method that a view does not name.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        sent = token_sent(request)
        if sent is None or not api_token_book.looks_like_one(sent):
            return None
        try:
            token = api_token_book.holder_of(sent, at=timezone.now())
        except api_token_book.Unusable as why:
            log.warning("api.token_refused", path=request.path, why=str(why))
            tell_refused("token.refused", request._request, name="", why=str(why))
            raise exceptions.AuthenticationFailed(str(why)) from why
        _within_scope(token, request)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Name both doors: REST framework asks the first authenticator only."""
        return 'Bearer realm="mpx", Session realm="mpx"'


def token_sent(request: HttpRequest | Request) -> str | None:
    """Return the token that came with a request; None if there was none."""
    key = request.headers.get("X-API-Key")
    if key is not None:
        return str(key)
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else None


def _within_scope(token: ApiToken, request: Request) -> None:
    wanted = _scopes_for(request)
    if wanted is not None and not wanted & set(token.scopes):
        who = token.user.get_username()
        tell_refused("token.beyond_scope", request._request, name=who, prefix=token.prefix)
        takes = " or ".join(sorted(wanted)) or "a session: no token may do it"
        raise exceptions.PermissionDenied(f"This takes {takes}; the token has other scopes.")
    if request.method not in SAFE_METHODS:
        log.info("api.token_used", prefix=token.prefix, method=request.method, path=request.path)


def _scopes_for(request: Request) -> set[str] | None:
    """Return which scopes will do; None where the view has no such method: it says 405."""
    method, view = str(request.method), request.parser_context["view"]
    if method in SAFE_METHODS:
        return {Scope.READ.value}
    if not hasattr(view, method.lower()):
        return None
    declared: Mapping[str, Collection[str]] = getattr(view, "scopes", {})
    return set(declared.get(method, ()))
