"""Who may ask the API. Apart, because REST framework loads it before its own views."""

from __future__ import annotations

from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request


class DeskSession(SessionAuthentication):
    """The portal's own login; a caller without one gets 401, not 403."""

    def authenticate_header(self, request: Request) -> str:
        return 'Session realm="mpx"'
