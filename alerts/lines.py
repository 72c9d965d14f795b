"""From a voice's name to the line that it speaks on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.conf import settings

from alerts import email, telegram, webhook
from alerts.messages import Line
from alerts.voice_models import EMAIL, TELEGRAM, WEBHOOK, Voice
from alerts.voices import is_set_up


def line_of(name: str, voice: Voice | None = None) -> Line | None:
    """Return where a voice's messages go; None where it is not set up: a dry run."""
    return _LINES[name](voice) if is_set_up(name) else None


def _telegram(voice: Voice | None) -> telegram.Line:
    chat = (voice.chat if voice else "") or settings.TELEGRAM_CHAT_ID
    return telegram.Line(settings.TELEGRAM_BOT_TOKEN, chat, settings.TELEGRAM_API_URL)


def _webhook(voice: Voice | None) -> webhook.Line:
    return webhook.Line(settings.MPX_WEBHOOK_URL, settings.MPX_WEBHOOK_SECRET)


def _email(voice: Voice | None) -> email.Line:
    return email.Line(tuple(settings.MPX_EMAIL_TO), settings.MPX_EMAIL_FROM)


_LINES: Mapping[str, Callable[[Voice | None], Line]] = {
    TELEGRAM: _telegram,
    WEBHOOK: _webhook,
    EMAIL: _email,
}
