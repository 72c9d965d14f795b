"""Bending the audit chain as only the owner of the database could: past its triggers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.db import connection
from django.db.backends.sqlite3.base import DatabaseOperations

from alerts.models import AuditEntry

_seal = import_module("alerts.migrations.0008_chain_written_once")
TABLE: str = _seal.TABLE


@contextmanager
def unsealed() -> Iterator[None]:
    """Let the chain be changed meanwhile."""
    _run(_seal.DROP)
    try:
        yield
    finally:
        _run(_seal.CREATE)


def change(number: int, **values: Any) -> None:
    with unsealed():
        AuditEntry.objects.filter(pk=number).update(**values)


def remove(*numbers: int) -> None:
    with unsealed():
        AuditEntry.objects.filter(pk__in=numbers).delete()


def remove_all() -> None:
    with unsealed():
        AuditEntry.objects.all().delete()


def _run(statements: dict[str, list[str]]) -> None:
    with connection.cursor() as cursor:
        for statement in statements[connection.vendor]:
            cursor.execute(statement)


def let_tests_be_emptied() -> None:
    """Let `flush` empty the chain on SQLite, which has no TRUNCATE, after a test that commits."""
    flush = DatabaseOperations.sql_flush

    def unsealing(self: Any, style: Any, tables: Sequence[str], **how: Any) -> list[str]:
        statements: list[str] = flush(self, style, tables, **how)
        if TABLE not in tables:
            return statements
        return [*_seal.DROP["sqlite"], *statements, *_seal.CREATE["sqlite"]]

    DatabaseOperations.sql_flush = unsealing  # type: ignore[method-assign]
