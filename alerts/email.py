"""The e-mail voice, by Django's mail backend: plain text and HTML, one message an alert or many.

A message's number is made of its id, and what belongs together refers to one thread, so that a
mail program shows an alert that came twice, or goes on, in one place.
"""

from __future__ import annotations

import hashlib
import html
import smtplib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection

from alerts.messages import Later, Message, Never, Outcome, Sent
from alerts.pace import FREE, Limits
from alerts.words import clean

MOST_SUBJECT: Final = 120
MOST_DETAIL: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """Who gets alerts, and from whom. The server is Django's (EMAIL_URL)."""

    to: tuple[str, ...]
    sender: str

    limits: ClassVar[Limits] = FREE
    most: ClassVar[int] = 1_000

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send one after the other on one connection; stop at the first that is not taken."""
        outcomes: list[Outcome] = []
        backend = get_connection(fail_silently=False)
        try:
            for message in messages:
                outcomes.append(self._send(backend, message))
                if not isinstance(outcomes[-1], Sent):
                    break
        finally:
            with suppress(OSError, smtplib.SMTPException):  # what is sent is sent
                backend.close()
        return outcomes

    def _send(self, backend: Any, message: Message) -> Outcome:
        try:
            backend.open()
            backend.send_messages([self._letter(message)])
        except (OSError, smtplib.SMTPException) as error:
            return _outcome(error)
        return Sent()

    def _letter(self, message: Message) -> EmailMultiAlternatives:
        headers = {
            "Message-ID": _number(message.id, self.sender),
            "Auto-Submitted": "auto-generated",
        }
        if len(message.alerts) == 1 and message.alerts[0].thread != message.id:
            headers["References"] = _number(message.alerts[0].thread, self.sender)
        letter = EmailMultiAlternatives(
            subject(message), message.plain, self.sender, list(self.to), headers=headers
        )
        letter.attach_alternative(_page(message), "text/html")
        return letter

    @property
    def masked(self) -> str:
        """Name the first address by its end, and count the others."""
        name, _, host = self.to[0].rpartition("@")
        others = f" and {len(self.to) - 1} more" if len(self.to) > 1 else ""
        return f"{name[:1]}…@{host}{others}"

    def __repr__(self) -> str:
        return f"<Line to {self.masked}>"


def subject(message: Message) -> str:
    """Return what a message is about on one short line."""
    words = message.words
    first = f": {words.lines[0]}" if len(message.alerts) == 1 and words.lines else ""
    return clean(f"[MPX] {words.headline}{first}", MOST_SUBJECT)


def _number(text: str, sender: str) -> str:
    """Return a Message-ID for an id that may hold anything."""
    host = sender.rpartition("@")[2]
    return f"<{hashlib.sha256(text.encode()).hexdigest()[:32]}@{host}>"


def _page(message: Message) -> str:
    lines = message.html.replace("\n", "<br>\n")
    title = html.escape(subject(message))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><p>{lines}</p></body></html>"
    )


def _outcome(error: Exception) -> Outcome:
    """Tell what may get better by itself from what will not (RFC 5321, 4.2.1: 4yz and 5yz)."""
    codes, reason = _codes(error), _reason(error)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Never(reason, voice=True)
    if not codes or any(code < 500 for code in codes):
        return Later(reason)
    return Never(reason, voice=not isinstance(error, smtplib.SMTPDataError))


def _codes(error: Exception) -> list[int]:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _reason(error: Exception) -> str:
    """Return what went wrong. Addresses stay inside, and so does what the server repeats of us."""
    if isinstance(error, TimeoutError):
        return "no answer from the mail server"
    told = f"{type(error).__name__}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        told += f": {', '.join(str(code) for code in sorted(set(_codes(error))))}"
    elif isinstance(error, smtplib.SMTPResponseException):
        words = error.smtp_error
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        told += f": {error.smtp_code} {text}"
    password = settings.EMAIL_HOST_PASSWORD
    return clean(told.replace(password, "[secret]") if password else told, MOST_DETAIL)
