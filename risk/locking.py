"""Taking turns: whatever uses up a limit runs one at a time, to its commit.

Locks are always taken in this order: policy, kill switch, breakers, intent,
legs, journal. So nothing waits in a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import OperationalError, connection, transaction

from risk.models import THE_ROW, Policy

log = structlog.stdlib.get_logger(__name__)

LOCK_TIMEOUT = "2s"  # PostgreSQL; SQLite waits as long as its settings say
STATEMENT_TIMEOUT = "10s"
TRIES = 3
DEADLOCK = "40P01"
BUSY_STATES = frozenset({"55P03", "57014", "40001", DEADLOCK})  # lock, statement, serialisation

T = TypeVar("T")


class DeskBusy(Exception):
    """The desk's lock was not free in time. Nothing was done; ask again in `retry_after` s."""

    retry_after = 1

    def __init__(self, cause: object) -> None:
        super().__init__(f"The desk is busy with another order; try again in a second. ({cause})")


class NoPolicy(Exception):
    """The policy row is missing, so there are no limits to judge by."""

    def __init__(self) -> None:
        super().__init__("there is no policy row; run manage.py migrate")


def in_turn(act: Callable[[Policy], T]) -> T:
    """Run an act in one transaction that holds the policy row; raise `DeskBusy`.

    The act may run again after a deadlock, so it must not touch the outside.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with transaction.atomic():
                return act(_locked())
        except OperationalError as error:
            if _state(error) == DEADLOCK and attempt < TRIES and not _nested():
                log.warning("desk.deadlock", attempt=attempt)
                continue
            if is_busy(error):
                raise DeskBusy(str(error).strip().splitlines()[0]) from error
            raise
    raise AssertionError("unreachable")


def hurry() -> None:
    """Bound how long the current transaction waits for locks and statements."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")


def is_busy(error: OperationalError) -> bool:
    """Say whether a database error means that somebody else holds what we need."""
    return _state(error) in BUSY_STATES or "database is locked" in str(error)


def _locked() -> Policy:
    hurry()
    policy = Policy.objects.select_for_update().filter(pk=THE_ROW).first()
    if policy is None:
        raise NoPolicy
    return policy


def _state(error: OperationalError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""


def _nested() -> bool:
    return connection.in_atomic_block
