"""ADMIN_API_TOKEN: how programs without an account say that they may act for the desk."""

from __future__ import annotations

import hmac
from typing import Any, Final

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from mpx_site.access.told import tell_refused
from mpx_site.api_login import token_sent

NO_TOKENS: Final = frozenset({"", "change-me"})
ACTOR: Final = "ADMIN_API_TOKEN"  # as the audit chain names whoever came with it


class TokenHolder:
    """Who sent the token: no account, but allowed what the views that take it allow."""

    is_authenticated = is_active = True
    is_anonymous = False
    pk = None

    def has_perm(self, permission: str) -> bool:
        return permission.startswith("rules.")


class TokenLogin(BaseAuthentication):
    """`Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`. A wrong token is refused."""

    def authenticate(self, request: Request) -> tuple[TokenHolder, str] | None:
        sent = token_sent(request)
        if sent is None:
            return None
        if not is_the_token(sent):
            why = "not the ADMIN_API_TOKEN"
            tell_refused("token.refused", request._request, name="", why=why)
            raise exceptions.AuthenticationFailed(
                "This is not the ADMIN_API_TOKEN of this desk, or the desk has none yet: "
                "set one of your own in its environment."
            )
        return TokenHolder(), ACTOR

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="mpx"'


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tell OpenAPI of the token."""

    target_class = "mpx_site.api_token.TokenLogin"
    name = "adminToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "ADMIN_API_TOKEN"}


def is_the_token(sent: str) -> bool:
    """Compare in constant time; a desk without a token of its own takes none."""
    if settings.ADMIN_API_TOKEN in NO_TOKENS:
        return False
    return hmac.compare_digest(sent.encode(), settings.ADMIN_API_TOKEN.encode())
