"""What any process counts of the desk's business, wherever it happens."""

from __future__ import annotations

from django.core.signals import request_started
from django.db import transaction
from django.db.models.signals import post_save

from alerts.meters import CHECK_FAILURES, REQUESTS, TRANSITION_SECONDS
from alerts.models import AuditEntry
from execution.models import IntentEvent


def count_request(**_: object) -> None:
    REQUESTS.inc()


def count_step(*, instance: IntentEvent, created: bool, **_: object) -> None:
    """Measure how long an order took to where it has come, once that is certain."""
    if created and instance.kind == instance.status:  # a step is named for where it leads
        seconds = max(0.0, (instance.at - instance.intent.suggested_at).total_seconds())
        to = instance.status.lower()
        transaction.on_commit(lambda: TRANSITION_SECONDS.labels(to).observe(seconds))


def count_refusal(*, instance: AuditEntry, created: bool, **_: object) -> None:
    """Count the checks that an order failed, whether or not it left a row."""
    if created and instance.kind.startswith("intent."):
        failed = [row["name"] for row in instance.data.get("checks", ()) if not row["ok"]]
        for name in failed:
            transaction.on_commit(CHECK_FAILURES.labels(name).inc)


def connect() -> None:
    """Count from now on; called once a process, when all apps are there."""
    request_started.connect(count_request, dispatch_uid="mpx_requests_total")
    post_save.connect(count_step, sender=IntentEvent, dispatch_uid="mpx_intent_transition")
    post_save.connect(count_refusal, sender=AuditEntry, dispatch_uid="mpx_check_failures")
