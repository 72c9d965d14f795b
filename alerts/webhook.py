"""The webhook voice: each message is one signed POST of JSON to one address.

The signature is over time and body, so that neither can be changed and an old request cannot be
sent again for ever (`docs/alerts.md` has the receiver's side).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlsplit

import httpx

from alerts.messages import Alert, Later, Message, Never, Outcome, Sent
from alerts.pace import FREE, Limits
from alerts.words import clean

SECONDS: Final = 10.0  # for one message, whatever the far side does
LONGEST_WAIT: Final = 3_600.0  # that long at most we wait because the far side says so
MOST_BODY: Final = 256_000  # bytes
DEEPEST: Final = 4  # levels of an alert's facts
MANY: Final = 50  # entries of each level
# What asks for patience, and what speaks against this one message and no other.
PATIENCE: Final = frozenset({408, 425, 429})
ONLY_THIS: Final = frozenset({400, 409, 413, 422})


@dataclass(frozen=True, slots=True)
class Line:
    """An address and the secret that its requests are signed with."""

    url: str
    secret: str

    limits: ClassVar[Limits] = FREE
    most: ClassVar[int] = 100

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send one after the other; stop at the first that is not taken."""
        return asyncio.run(self._send_all(messages))

    async def _send_all(self, messages: Sequence[Message]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        async with httpx.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
            for message in messages:
                outcomes.append(await self._send(client, message))
                if not isinstance(outcomes[-1], Sent):
                    break
        return outcomes

    async def _send(self, client: httpx.AsyncClient, message: Message) -> Outcome:
        raw = body(message)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "MarketPulse-X",
            "X-MPX-Delivery": quote(message.id, safe=":."),
            "X-MPX-Signature": signature(self.secret, raw, at=int(time.time())),
        }
        try:
            async with asyncio.timeout(SECONDS):
                # The answer's body is not read: nothing in it is for us, and it may never end.
                async with client.stream("POST", self.url, content=raw, headers=headers) as answer:
                    return _outcome(answer.status_code, answer.headers.get("Retry-After", ""))
        except (TimeoutError, httpx.TimeoutException):
            return Later(f"no answer within {SECONDS:g} s")
        except httpx.HTTPError as error:  # its text may have the address: only the kind is told
            return Later(f"no connection: {type(error).__name__}")

    @property
    def masked(self) -> str:
        """Name the host: a webhook's path is as good as a password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}/…"

    def __repr__(self) -> str:
        return f"<Line to {self.masked}>"


def signature(secret: str, raw: bytes, *, at: int) -> str:
    """Return what X-MPX-Signature holds: the time (unix seconds) and HMAC-SHA256 over both."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256)
    return f"t={at},v1={signed.hexdigest()}"


def body(message: Message) -> bytes:
    """Return the JSON of a message, at most `MOST_BODY` bytes: without the facts if it must be."""
    whole = _json(message, [_row(alert, message) for alert in message.alerts])
    if len(whole) <= MOST_BODY:
        return whole
    return _json(message, [_row(alert, message) | {"facts": None} for alert in message.alerts])


def _json(message: Message, alerts: list[dict[str, Any]]) -> bytes:
    told = {
        "schema": 1,
        "id": message.id,
        "headline": message.words.headline,
        "silent": message.silent,
        "alerts": alerts,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def _row(alert: Alert, message: Message) -> dict[str, Any]:
    return {
        "id": alert.key,
        "thread": alert.thread,
        "kind": alert.kind,
        "at": alert.at.isoformat(),
        "headline": alert.words.headline,
        "lines": list(alert.words.lines),
        "url": message.portal + alert.words.path if alert.words.path else "",
        "facts": _bounded(alert.facts, DEEPEST),
    }


def _bounded(value: object, depth: int) -> object:
    """Return a JSON value cut to a sensible size, its texts without what cannot be seen."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        return {clean(key): _bounded(each, depth - 1) for key, each in [*value.items()][:MANY]}
    if depth and isinstance(value, list | tuple):
        return [_bounded(each, depth - 1) for each in value[:MANY]]
    return clean(value)


def _outcome(status: int, retry_after: str) -> Outcome:
    if 200 <= status < 300:
        return Sent()
    if status in PATIENCE or status >= 500:
        return Later(f"it answers {status}", _seconds(retry_after))
    if status in ONLY_THIS:
        return Never(f"it answers {status}", voice=False)
    if 300 <= status < 400:
        return Never(f"it answers {status}, and redirects are not followed", voice=True)
    return Never(f"it answers {status}", voice=True)


def _seconds(retry_after: str) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3); None for neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    wait = (at.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait, 0.0), LONGEST_WAIT)
