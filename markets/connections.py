"""Keeping database connections usable in work that lasts longer than one web request.

And telling a database that takes nothing from something it will never take.
"""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError, connections

READ_ONLY = "25006"  # PostgreSQL; Django has it among its internal errors


def drop_dead_connections() -> None:
    """Let the next query connect anew where the database was restarted meanwhile.

    Django does this around requests only, and without asking whether a
    transaction is open, which this leaves alone.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def is_away(error: BaseException | None) -> bool:
    """Say whether an error is the database's state, which heals: gone, full, or read-only."""
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) == READ_ONLY
    return isinstance(error, OperationalError | InterfaceError)
