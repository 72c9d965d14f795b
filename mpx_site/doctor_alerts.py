"""The doctor's look at what the desk tells people: the outbox, and the voice it speaks with."""

from __future__ import annotations

from django.utils import timezone

from alerts.delivery import LONG, backlog, line_now
from alerts.models import OutboxEntry, Voice
from mpx_site.doctor_words import Seen, fail, ok, warn


def alerts() -> Seen:
    """Say whether alerts get out: what waits, what failed, and whether the voice was stopped."""
    voice = Voice.objects.filter(name="telegram").first()
    if voice is not None and voice.broken:
        return fail(f"Telegram stopped: {voice.broken}", _todo())
    failed = OutboxEntry.objects.filter(state=OutboxEntry.State.FAILED).count()
    waiting, at = backlog(), timezone.now()
    told = f"{waiting.count} wait, {failed} failed"
    if waiting.first and at - waiting.first > LONG:
        oldest = (at - waiting.first).total_seconds()
        return fail(f"{told}; the first has waited {oldest:,.0f} s", _worker_todo())
    if failed:
        return warn(told, "Look at them under /alerts/ and send them again")
    return ok(told if line_now(voice) else f"{told}; dry run, nothing is sent")


def _todo() -> str:
    return "Correct it, then `manage.py telegram_test`: a message that gets through ends the stop"


def _worker_todo() -> str:
    return "See that `up`, or a worker and beat, run: job deliver-alerts"
