"""What may stand in a log: everything but secrets, whoever wrote the line."""

from __future__ import annotations

import logging
import re
from typing import Final

from django.conf import settings

MASK: Final = "[secret]"
SHORTEST: Final = 8  # a shorter text would be found in innocent words
# A bot's token, also inside an address; an API token of ours; a password inside an address.
_SHAPES: Final = re.compile(
    r"\b\d{6,12}:[A-Za-z0-9_-]{30,}|\bmpx_[A-Za-z0-9]+_[A-Za-z0-9_-]{20,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)


class Masked(logging.Formatter):
    """Formats a record with its traceback and puts a mask over every secret in it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def masked(text: str) -> str:
    """Return a text without the secrets of this desk and without what looks like one."""
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)


def _secrets() -> list[str]:
    database = settings.DATABASES["default"].get("PASSWORD", "")
    given = (
        settings.TELEGRAM_BOT_TOKEN, settings.ADMIN_API_TOKEN, settings.SECRET_KEY, database
    )  # fmt: skip
    return [str(secret) for secret in given if len(str(secret)) >= SHORTEST]
