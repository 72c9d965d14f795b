"""Where a person is logged in, how pages look to them there, and the way out everywhere.

Both are kept in the session, which every page reads anyway: looking costs no query. Logins
are heard of because the portal's addresses import this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from mpx_site.preferences import Preference

LOOKS = "looks"
OPENED = "opened"
MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class OpenSession:
    """One browser in which a person is logged in. `key` opens it: it is never shown.

    `opened_at` is None for a session that began before that was noted.
    """

    key: str
    here: bool
    opened_at: datetime | None
    address: str
    browser: str
    until: datetime


@receiver(user_logged_in, dispatch_uid="mpx.session_opened")
def note_login(sender: object, request: HttpRequest, user: User, **_: object) -> None:
    """Note in a new session when and where it began, and how its person wants pages to look."""
    request.session[OPENED] = {
        "at": timezone.now().isoformat(),
        "from": str(request.META.get("REMOTE_ADDR") or "")[:MOST_TEXT],
        "with": str(request.META.get("HTTP_USER_AGENT") or "")[:MOST_TEXT],
    }
    kept = Preference.objects.filter(user=user, name=LOOKS).first()
    if kept is not None:
        request.session[LOOKS] = kept.value


def sessions_of(user: User, *, here: str | None, at: datetime) -> list[OpenSession]:
    """Return a person's sessions, the one with the key `here` first, then the newest."""
    found = [_read(row, told, here) for row, told in _rows_of(user, at)]
    opened = [(not each.here, -(each.opened_at or each.until).timestamp()) for each in found]
    return [each for _, each in sorted(zip(opened, found, strict=True), key=lambda pair: pair[0])]


def end_sessions(user: User, *, at: datetime, but: str | None = None) -> int:
    """Log a person out in every browser but one; return in how many."""
    keys = [row.session_key for row, _ in _rows_of(user, at) if row.session_key != but]
    return Session.objects.filter(session_key__in=keys).delete()[0]


def _rows_of(user: User, at: datetime) -> Iterator[tuple[Session, Mapping[str, Any]]]:
    """Yield a person's live sessions. Only their content says whose they are."""
    for row in Session.objects.filter(expire_date__gt=at).iterator():
        told = row.get_decoded()
        if told.get(SESSION_KEY) == str(user.pk):
            yield row, told


def _read(row: Session, told: Mapping[str, Any], here: str | None) -> OpenSession:
    opened = told.get(OPENED) or {}
    return OpenSession(
        key=row.session_key,
        here=row.session_key == here,
        opened_at=datetime.fromisoformat(opened["at"]) if opened else None,
        address=opened.get("from", ""),
        browser=browser_of(opened.get("with", "")),
        until=row.expire_date,
    )


# The first that is found counts: others claim to be Safari or Chrome as well.
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"),
            ("Safari/", "Safari"))  # fmt: skip
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"),
           ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip


def browser_of(agent: str) -> str:
    """Name a browser and its system by what it says of itself."""
    browser = next((name for mark, name in BROWSERS if mark in agent), "")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    return " on ".join(filter(None, (browser, system))) or agent[:60] or "unknown"
