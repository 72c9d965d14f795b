"""What was refused, read back from the audit chain, so that a page can show and reload it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from alerts.models import AuditEntry
from mpx_site.portal.desk_words import REFUSED
from mpx_site.portal.numbers import row_number


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused step: the checks that failed, and how a signed plan differs if that was it."""

    id: int
    what: str
    actor: str
    at: datetime
    checks: tuple[Mapping[str, Any], ...]
    difference: tuple[Mapping[str, str], ...]


def newest_refusal(subject: str, by: User) -> int | None:
    """Return the id of the last thing that a person was refused about a subject."""
    return (
        AuditEntry.objects.filter(
            subject=subject, actor=by.get_username(), kind__endswith="_refused"
        )
        .order_by("-id")
        .values_list("id", flat=True)
        .first()
    )


def refusal_of(number: str | None, *subjects: str) -> Refusal | None:
    """Return the refusal that an address names; None if it is not about these subjects."""
    wanted = row_number(number)
    if wanted is None:
        return None
    entry = AuditEntry.objects.filter(
        pk=wanted, subject__in=subjects, kind__endswith="_refused"
    ).first()
    return _read(entry) if entry else None


def about_risk(number: str | None) -> Refusal | None:
    """Return a refusal on the risk page: of the kill switch, the policy or a breaker."""
    wanted = row_number(number)
    if wanted is None:
        return None
    entry = AuditEntry.objects.filter(pk=wanted, kind__endswith="_refused").first()
    known = entry is not None and entry.kind.startswith(("killswitch.", "policy.", "breaker."))
    return _read(entry) if entry is not None and known else None


def _read(entry: AuditEntry) -> Refusal:
    return Refusal(
        id=entry.pk,
        what=REFUSED.get(entry.kind, entry.kind),
        actor=entry.actor,
        at=entry.at,
        checks=tuple(check for check in entry.data.get("checks", ()) if not check["ok"]),
        difference=tuple(entry.data.get("difference", ())),
    )
