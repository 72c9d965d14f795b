"""How often one token or person may ask. Kept in Django's cache, so per process without one.

A politeness, not a limit of the desk: what must never be passed is counted in the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from mpx_site.models import ApiToken

if TYPE_CHECKING:  # REST framework loads this before its own views
    from rest_framework.views import APIView


class Reads(SimpleRateThrottle):
    """Of GET, HEAD and OPTIONS."""

    scope = "reads"
    safe = True

    def allow_request(self, request: Request, view: APIView) -> bool:
        if (request.method in SAFE_METHODS) is not self.safe:
            return True
        return bool(super().allow_request(request, view))

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        """Return whose requests are counted together; None where anybody may ask."""
        if isinstance(request.auth, ApiToken):
            who = f"token-{request.auth.prefix}"
        elif isinstance(request.user, AnonymousUser):
            return None
        else:
            who = f"user-{request.user.pk or request.auth}"
        return f"throttle-{self.scope}-{who}"


class Writes(Reads):
    """Of everything else."""

    scope = "writes"
    safe = False
