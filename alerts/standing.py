"""How a voice stands, in words that the admin and the portal share."""

from __future__ import annotations

from datetime import datetime

from alerts.models import Voice
from alerts.pace import FREE, Pace
from alerts.voices import is_set_up


def standing(voice: Voice, *, at: datetime) -> tuple[str, str]:
    """Return a sign and a sentence."""
    if not is_set_up(voice.name):
        return "○", "dry run: alerts are only written down"
    if voice.broken:
        return "✕", f"stopped: {voice.broken}"
    if voice.not_before and voice.not_before > at:
        return "◔", f"waits until {voice.not_before:%H:%M:%S} UTC"
    if Pace(FREE, voice.budget).spent(voice.sent, at=at.timestamp()):
        return "◔", "has spent the hour's budget: the rest waits, and is told together"
    return "✓", "on"
