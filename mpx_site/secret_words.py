"""The secrets of this desk, and how a text loses them before anybody reads it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings

MASK: Final = "[secret]"
SHORTEST: Final = 8  # a shorter text would be found in innocent words
SETTINGS: Final = (
    "TELEGRAM_BOT_TOKEN",
    "ADMIN_API_TOKEN",
    "SECRET_KEY",
    "MPX_WEBHOOK_SECRET",
    "EMAIL_HOST_PASSWORD",
)
# A bot's token, also inside an address; an API token of ours; a password inside an address.
_SHAPES: Final = re.compile(
    r"(?:\b|(?<=bot))\d{6,12}:[A-Za-z0-9_-]{30,}|\bmpx_[A-Za-z0-9]+_[A-Za-z0-9_-]{20,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)

# As an address writes a secret, as JSON does, as Python's repr does, as a page does.
_FORMS: Final[tuple[Callable[[str], str], ...]] = (
    lambda secret: quote(secret, safe=""),
    lambda secret: json.dumps(secret)[1:-1],
    lambda secret: repr(secret)[1:-1],
    html.escape,
)


def masked(text: str) -> str:
    """Return a text without the secrets of this desk and without what looks like one."""
    for secret in _secrets():
        if secret in text:
            text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)


def _secrets() -> list[str]:
    """Return each secret as it is set, in every form it may be written in; the longest first."""
    given = [getattr(settings, name, "") for name in SETTINGS]
    given += [database.get("PASSWORD", "") for database in settings.DATABASES.values()]
    given.append(_password_in(getattr(settings, "REDIS_URL", "")))
    plain = {str(secret) for secret in given if len(str(secret or "")) >= SHORTEST}
    written = {form(secret) for secret in plain for form in _FORMS}
    return sorted(plain | written, key=len, reverse=True)


def _password_in(address: Any) -> str:
    try:
        return unquote(urlsplit(str(address)).password or "")
    except ValueError:
        return ""
