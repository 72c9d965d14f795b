"""Writing down what happened to an intent: its own event, the audit chain, feed and outbox.

Always inside the transaction of the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts import journal
from execution.models import IntentEvent, OrderIntent
from risk.checks import Verdict

TOPIC = "intents"
SYSTEM = "system"


def note(
    intent: OrderIntent,
    kind: str,
    *,
    at: datetime,
    actor: str = SYSTEM,
    data: Mapping[str, Any] | None = None,
    alert: bool = False,
) -> IntentEvent:
    """Write one step (or a refused one) everywhere it has to be; `kind` is like `approved`."""
    told = {**summary(intent), **(data or {})}
    entry = journal.record(
        kind=f"intent.{kind}",
        subject=f"intent:{intent.pk}",
        data=told,
        at=at,
        actor=actor,
        topic=TOPIC,
    )
    if alert:
        key = f"intent:{intent.pk}:{kind}:{entry.id}"
        journal.alert(key=key, kind=f"intent.{kind}", payload=told, at=at)
    return IntentEvent.objects.create(
        intent=intent,
        at=at,
        kind=kind.upper(),
        actor=actor,
        status=intent.status,
        data=entry.data,
        audit_id=entry.id,
    )


def note_no_intent(
    kind: str, *, signal_key: str, at: datetime, actor: str, verdict: Verdict
) -> None:
    """Write down a refusal that left no intent behind."""
    journal.record(
        kind=f"intent.{kind}",
        subject=f"signal:{signal_key}",
        data={"signal": signal_key, **reasons(verdict)},
        at=at,
        actor=actor,
    )


def reasons(verdict: Verdict) -> dict[str, object]:
    return {"ok": verdict.ok, "reasons": list(verdict.reasons), "checks": verdict.rows()}


def summary(intent: OrderIntent) -> dict[str, Any]:
    """Return what every message about an intent says of it."""
    return {
        "intent": intent.pk,
        "signal": intent.signal.key,
        "rule": intent.plan["rule"],
        "kind": intent.kind,
        "status": intent.status,
        "event_id": intent.event_id,
        "event_title": intent.event.title if intent.event else "",
        "notional": str(intent.notional),
        "plan_hash": intent.plan_hash,
        "revision": intent.revision,
        "proposer": intent.proposer.get_username(),
        "approver": intent.approver.get_username() if intent.approver else None,
        "single_operator": intent.single_operator,
        "reason": intent.reason,
    }
