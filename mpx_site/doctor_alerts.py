"""The doctor's look at what the desk tells people: the outbox, and the voice it speaks with."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Count, Min
from django.utils import timezone

from alerts.delivery import line_now
from alerts.models import OutboxEntry, Voice
from mpx_site.doctor_words import Seen, fail, ok, warn

WAITED_LONG = timedelta(minutes=2)


def alerts() -> Seen:
    """Say whether alerts get out: what waits, what failed, and whether the voice was stopped."""
    voice = Voice.objects.filter(name="telegram").first()
    if voice is not None and voice.broken:
        return fail(f"Telegram stopped: {voice.broken}", _todo())
    rows = OutboxEntry.objects
    failed = rows.filter(state=OutboxEntry.State.FAILED).count()
    waiting = rows.filter(state=OutboxEntry.State.PENDING)
    found = waiting.aggregate(count=Count("id"), first=Min("created_at"))
    told = f"{found['count']} wait, {failed} failed"
    if found["first"] and timezone.now() - found["first"] > WAITED_LONG:
        oldest = (timezone.now() - found["first"]).total_seconds()
        return fail(f"{told}; the first has waited {oldest:,.0f} s", _worker_todo())
    if failed:
        return warn(told, "Look at them under /alerts/ and send them again")
    return ok(told if line_now(voice) else f"{told}; dry run, nothing is sent")


def _todo() -> str:
    return "Correct it, then `manage.py telegram_test`: a message that gets through ends the stop"


def _worker_todo() -> str:
    return "See that `up`, or a worker and beat, run: job deliver-alerts"
