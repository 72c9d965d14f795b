"""The doctor's look at what the desk tells people: the outbox, and the voices it speaks with."""

from __future__ import annotations

from django.utils import timezone

from alerts import voices
from alerts.delivery import LONG, backlog
from alerts.models import OutboxEntry, Voice
from alerts.voice_models import TELEGRAM
from mpx_site.doctor_words import Seen, fail, ok, warn


def alerts() -> Seen:
    """Say whether alerts get out: what waits, what failed, and which voices were stopped."""
    stopped = list(Voice.objects.exclude(broken="").order_by("name"))
    if stopped:
        told = "; ".join(f"{voices.label(each.name)} stopped: {each.broken}" for each in stopped)
        return fail(told, _todo(stopped[0].name))
    failed = OutboxEntry.objects.filter(state=OutboxEntry.State.FAILED).count()
    waiting, at = backlog(), timezone.now()
    told = f"{waiting.count} wait, {failed} failed"
    if waiting.first and at - waiting.first > LONG:
        oldest = (at - waiting.first).total_seconds()
        return fail(f"{told}; the first has waited {oldest:,.0f} s", _worker_todo())
    if failed:
        return warn(told, "Look at them under /alerts/ and send them again")
    names = ", ".join(map(voices.label, voices.set_up()))
    return ok(f"{told}; told by {names}" if names else f"{told}; dry run, nothing is sent")


def _todo(name: str) -> str:
    test = "`manage.py telegram_test`" if name == TELEGRAM else "Send a test (admin, Voices)"
    return f"Correct it, then {test}: a message that gets through ends the stop"


def _worker_todo() -> str:
    return "See that `up`, or a worker and beat, run: job deliver-alerts"
