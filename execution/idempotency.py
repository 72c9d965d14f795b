"""Asking twice gives one effect: the answer to a key is kept with the effect it had.

Lives in the transaction of the act. Two that come at once with one key take
turns on its unique row; the second finds the first one's answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from execution.models import IdempotencyKey

KEPT = timedelta(days=2)
MAX_LENGTH = 255

Answered = dict[str, Any]


class KeyReused(Exception):
    """The key was used before, for something else."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key!r} was used for another request; take a new one"
        )
        self.key = key


class BadKey(Exception):
    """The key is empty or too long."""


def once(
    act: Callable[[], Answered],
    *,
    by: User,
    key: str | None,
    what: str,
    given: Mapping[str, Any],
    at: datetime,
) -> tuple[Answered, bool]:
    """Run an act, or return what it answered before, and whether that is so.

    Without a key it just runs. Raises `KeyReused` and `BadKey`. What raises is
    not kept, so it may be asked again.
    """
    if key is None:
        return act(), False
    if not 0 < len(key) <= MAX_LENGTH or "\0" in key:
        raise BadKey(f"an Idempotency-Key has 1 to {MAX_LENGTH} characters")
    fingerprint = _fingerprint(what, given)
    row = _claimed(by, key, fingerprint, at)
    if row is None:
        return _kept(by, key, fingerprint), True
    answer = act()
    row.answer = answer
    row.save(update_fields=["answer"])
    return answer, False


def forget_old(*, at: datetime) -> int:
    """Drop keys that nobody asks with any more; return how many."""
    deleted, _ = IdempotencyKey.objects.filter(created_at__lt=at - KEPT).delete()
    return deleted


def _claimed(by: User, key: str, fingerprint: str, at: datetime) -> IdempotencyKey | None:
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(
                user=by, key=key, fingerprint=fingerprint, created_at=at
            )
    except IntegrityError:
        return None


def _kept(by: User, key: str, fingerprint: str) -> Answered:
    row = IdempotencyKey.objects.get(user=by, key=key)
    if row.fingerprint != fingerprint:
        raise KeyReused(key)
    return dict(row.answer or {})


def _fingerprint(what: str, given: Mapping[str, Any]) -> str:
    body = json.dumps([what, given], sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
