"""What the audit chain hears of the door. Names that no account has are not repeated."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from alerts import journal
from mpx_site.access.pace import address_of, is_to_be_told

MOST_TEXT: Final = 200
NOBODY: Final = "unknown account"  # what was typed as a name may be a password


def tell_refused(kind: str, request: HttpRequest, *, name: str, **data: object) -> None:
    """Write down that somebody asked for what was not theirs, within bounds for each origin."""
    at = timezone.now()
    if is_to_be_told(name or address_of(request), at=at):
        tell(kind, request, name=name, at=at, path=request.path[:MOST_TEXT], **data)


@transaction.atomic
def tell(kind: str, request: HttpRequest, *, name: str, at: datetime, **data: object) -> None:
    """Write one event of an account into the audit chain, with where it came from."""
    known = User.objects.filter(username=name).exists()
    who = name if known else NOBODY
    journal.record(
        kind=kind,
        subject=f"account:{who}"[:120],
        actor=who[:150],
        at=at,
        data={
            "from": address_of(request)[:MOST_TEXT],
            "with": str(request.META.get("HTTP_USER_AGENT") or "")[:MOST_TEXT],
            **data,
        },
    )
