"""Which voices this desk has, by its settings, and the line that each of them speaks on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.conf import settings

from alerts.voice_models import EMAIL as EMAIL
from alerts.voice_models import TELEGRAM as TELEGRAM
from alerts.voice_models import WEBHOOK as WEBHOOK
from alerts.voice_models import Voice

NAMES: Final = (TELEGRAM, WEBHOOK, EMAIL)
LABELS: Final = {TELEGRAM: "Telegram", WEBHOOK: "Webhook", EMAIL: "E-mail"}
TAKES: Final = ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID")
# Messages an hour until a person sets another number: programs read faster than people.
BUDGETS: Final = {TELEGRAM: 60, WEBHOOK: 600, EMAIL: 60}


def lacking() -> list[str]:
    """Return the settings that Telegram takes and that are empty."""
    return [key for key in TAKES if not getattr(settings, key)]


# The start has refused a webhook without its secret and addresses without a mail server.
_SET_UP: Final[Mapping[str, Callable[[], bool]]] = {
    TELEGRAM: lambda: bool(settings.TELEGRAM_ENABLED) and not lacking(),
    WEBHOOK: lambda: bool(settings.MPX_WEBHOOK_URL),
    EMAIL: lambda: bool(settings.MPX_EMAIL_TO),
}


def is_set_up(name: str) -> bool:
    return name in _SET_UP and _SET_UP[name]()


def set_up() -> tuple[str, ...]:
    """Return the voices that can speak."""
    return tuple(name for name in NAMES if is_set_up(name))


def listed() -> tuple[str, ...]:
    """Return the voices that an alert written now is for; where there is none, Telegram's
    row is there to be marked as a dry run."""
    return set_up() or (TELEGRAM,)


def label(name: str) -> str:
    return LABELS.get(name, name)


def row_of(name: str) -> Voice:
    """Return the state of a voice, which begins with the first look at it."""
    return Voice.objects.get_or_create(name=name, defaults={"budget": BUDGETS[name]})[0]
