"""Keeping database connections usable in work that lasts longer than one web request."""

from __future__ import annotations

from django.db import connections


def drop_dead_connections() -> None:
    """Let the next query connect anew where the database was restarted meanwhile.

    Django does this around requests only, and without asking whether a
    transaction is open, which this leaves alone.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
