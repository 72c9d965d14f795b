"""What is silenced, in the audit chain: one form for the admin and the bot."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from alerts import journal
from alerts.models import Silence

Kind = Literal["silence.began", "silence.ended"]


def record(kind: Kind, silence: Silence, *, by: str, at: datetime) -> None:
    """Write it down; within the transaction that changes the silence."""
    journal.record(
        kind=kind,
        subject=f"silence:{silence.pk}",
        actor=by,
        at=at,
        data={
            "scope": silence.scope,
            "value": silence.value,
            "until": silence.until.isoformat(),
            "reason": silence.reason,
        },
    )
