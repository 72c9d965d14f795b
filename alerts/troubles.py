"""A condition that lasts: one alert when it begins and one when it ends, whoever sees it first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import IntegrityError, transaction

from alerts import journal
from alerts.models import Trouble


def begin(component: str, kind: str, *, at: datetime, text: str) -> bool:
    """Open a trouble and tell it; False if it is open already."""
    try:
        with transaction.atomic():
            trouble = Trouble.objects.create(component=component, since=at)
            tell(kind, trouble, at, {"text": text})
    except IntegrityError:
        return False  # another process has just told it
    return True


def end(trouble: Trouble, kind: str, *, at: datetime) -> bool:
    """Close a trouble and tell it; False if it is closed already."""
    with transaction.atomic():
        if not Trouble.objects.filter(pk=trouble.pk, ended_at=None).update(ended_at=at):
            return False
        tell(kind, trouble, at, {"seconds": round((at - trouble.since).total_seconds())})
    return True


def tell(kind: str, trouble: Trouble, at: datetime, facts: Mapping[str, object]) -> None:
    """Write a trouble's beginning or end into the journal and the outbox."""
    told = {
        "component": trouble.component,
        "since": trouble.since.isoformat(timespec="seconds"),
        **facts,
    }
    subject = f"component:{trouble.component}"
    journal.record(kind=kind, subject=subject, data=told, at=at)
    journal.alert(key=f"{subject}:{trouble.pk}:{kind}", kind=kind, payload=told, at=at)
