"""Silencing the desk's alerts for a while by `/pause`, and ending it by `/resume`.

The chat that alerts go to is the desk's, so a pause is the desk's silence: the same row, and
the same right, as in the admin. The kill switch is told all the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from alerts import silences
from alerts.models import Silence

MAY_PAUSE, MAY_RESUME = "alerts.add_silence", "alerts.change_silence"


def pause(*, minutes: int, reason: str, by: User, sent_at: datetime) -> Silence:
    """Silence everything for some minutes from when that was said.

    Said twice it is one silence: a message that comes again changes nothing.
    """
    until = sent_at + timedelta(minutes=minutes)
    with transaction.atomic():
        silence, made = Silence.objects.get_or_create(
            scope=Silence.Scope.ALL, value="", until=until, by=by, defaults={"reason": reason}
        )
        if made:
            silences.record("silence.began", silence, by=by.get_username(), at=sent_at)
    return silence


def resume(*, by: User, at: datetime) -> list[Silence]:
    """End every silence of everything now, whoever began it; return those that were ended."""
    with transaction.atomic():
        running = Silence.objects.select_for_update().filter(until__gt=at, scope=Silence.Scope.ALL)
        ended = list(running.order_by("id"))
        for silence in ended:
            silence.until = at
            silence.save(update_fields=["until"])
            silences.record("silence.ended", silence, by=by.get_username(), at=at)
    return ended
