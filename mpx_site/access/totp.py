"""Codes of an authenticator app: RFC 6238 over RFC 4226 (pure)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from hashlib import sha1
from typing import Any, Final
from urllib.parse import quote, urlencode

STEP_SECONDS: Final = 30
DIGITS: Final = 6
WINDOW: Final = 1  # steps that a clock may be off, either way


def code_of(
    secret: bytes, step: int, *, digits: int = DIGITS, digest: Callable[..., Any] = sha1
) -> str:
    """Return the code of a step (RFC 4226, 5.3). Apps know SHA-1 only."""
    mac = hmac.new(secret, step.to_bytes(8, "big"), digest).digest()
    at = mac[-1] & 0x0F
    number = int.from_bytes(mac[at : at + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_at(seconds: float) -> int:
    """Return the step of a moment in unix seconds."""
    return int(seconds // STEP_SECONDS)


def step_of(secret: bytes, code: str, *, seconds: float) -> int | None:
    """Return the step that a code belongs to, within the window; None if to none."""
    now = step_at(seconds)
    fits = [
        step
        for step in range(now - WINDOW, now + WINDOW + 1)
        if hmac.compare_digest(code_of(secret, step).encode(), code.encode())
    ]
    return fits[0] if fits else None


def as_text(secret: bytes) -> str:
    """Return a secret as people type it into an app: base32 in groups of four."""
    plain = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(plain[at : at + 4] for at in range(0, len(plain), 4))


def address(secret: bytes, *, issuer: str, account: str) -> str:
    """Return the `otpauth:` address that apps take."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    told = {"secret": as_text(secret).replace(" ", ""), "issuer": issuer}
    return f"otpauth://totp/{label}?{urlencode(told)}"
