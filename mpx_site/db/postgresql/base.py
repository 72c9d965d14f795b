"""django-timescaledb's engine, for a server that may not have the extension.

The package creates the extension wherever it can and makes a hypertable of each model with
a `TimescaleDateTimeField`; without the extension both fail. It also drops every primary key
first, even one that has the time in it, which TimescaleDB would have kept.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper as PlainWrapper
from django.db.models import Field, Model
from timescale.db.backends.postgresql.base import DatabaseWrapper as TimescaleWrapper
from timescale.db.backends.postgresql.schema import TimescaleSchemaEditor

from markets.timescale import has_timescale, is_offered


class SchemaEditor(TimescaleSchemaEditor):  # type: ignore[misc]  # the package is untyped
    """Makes hypertables where that can be done; elsewhere the table stays as it is."""

    def _create_hypertable(
        self, model: type[Model], field: Field[Any, Any], should_migrate: bool = False
    ) -> None:
        if has_timescale(self.connection):
            super()._create_hypertable(model, field, should_migrate)

    def make_hypertable(self, model: type[Model], field: Field[Any, Any]) -> None:
        """Move a table with its rows into chunks, as adding the field would have."""
        self._create_hypertable(model, field, True)

    def _set_chunk_time_interval(self, model: type[Model], field: Field[Any, Any]) -> None:
        if has_timescale(self.connection):
            super()._set_chunk_time_interval(model, field)

    def _drop_primary_key(self, model: type[Model]) -> None:
        """Keep the key: those of our hypertables have the time in them."""


class DatabaseWrapper(TimescaleWrapper):  # type: ignore[misc]  # the package is untyped
    """Connects to PostgreSQL; `migrate` creates the extension where it is loaded."""

    SchemaEditorClass = SchemaEditor

    def prepare_database(self) -> None:
        if is_offered(self):
            super().prepare_database()
        else:
            PlainWrapper.prepare_database(self)
