"""What the database can do beyond plain SQL: TimescaleDB is used where it is, never required.

Hypertables are in its free part; compression, continuous aggregates and policies need its
community licence (`timescaledb.license`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection as default_connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

# A server that has the files of the extension but did not load it ends the connection.
OFFERED = """
SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb')
   AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL
"""
INSTALLED = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
COMMUNITY = "SELECT current_setting('timescaledb.license', true) = 'timescale'"


def is_offered(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the server has TimescaleDB loaded, so that it can be created."""
    return connection.vendor == "postgresql" and bool(_one(connection, OFFERED))


def has_timescale(connection: BaseDatabaseWrapper) -> bool:
    """Say whether this database has the extension."""
    return version(connection) is not None


def version(connection: BaseDatabaseWrapper = default_connection) -> str | None:
    """Return the extension's version; None without it."""
    if connection.vendor != "postgresql":
        return None
    found = _one(connection, INSTALLED)
    return None if found is None else str(found)


def has_community(connection: BaseDatabaseWrapper) -> bool:
    """Say whether compression and continuous aggregates may be used."""
    return has_timescale(connection) and bool(_one(connection, COMMUNITY))


def has_hypertable(connection: BaseDatabaseWrapper, table: str) -> bool:
    """Say whether a table of the database is in chunks."""
    sql = "SELECT 1 FROM timescaledb_information.hypertables WHERE hypertable_name = %s"
    return has_timescale(connection) and _one(connection, sql, [table]) is not None


def has_view(connection: BaseDatabaseWrapper, name: str) -> bool:
    """Say whether one of our continuous aggregates is there."""
    if connection.vendor != "postgresql":
        return False
    return _one(connection, "SELECT to_regclass(%s)", [name]) is not None


def _one(connection: BaseDatabaseWrapper, sql: str, values: Sequence[str] = ()) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
    return row[0] if row else None


class OnTimescale(Operation):
    """A migration's SQL for a database with TimescaleDB's community part; elsewhere nothing.

    It asks the database at the time it runs; `manage.py timescale` does the same later for
    one that gained the extension after its migrations.
    """

    reduces_to_sql = False
    reversible = True

    def __init__(self, forwards: Sequence[str], backwards: Sequence[str]) -> None:
        self.forwards = list(forwards)
        self.backwards = list(backwards)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.forwards, self.backwards], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change no model."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        _run(schema_editor, self.forwards)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        _run(schema_editor, self.backwards)

    def describe(self) -> str:
        return "Use TimescaleDB where it is"


def _run(schema_editor: BaseDatabaseSchemaEditor, statements: Sequence[str]) -> None:
    if has_community(schema_editor.connection):
        for statement in statements:
            schema_editor.execute(statement)
