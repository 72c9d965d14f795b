"""django-timescaledb's engine, for a server that may not have the extension.

The package creates the extension wherever it can and makes a hypertable of each model with
a `TimescaleDateTimeField`; without the extension both fail. It also drops every primary key
first, even one that has the time in it, which TimescaleDB would have kept.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import Any

from django.conf import settings
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql.base import DatabaseWrapper as PlainWrapper
from django.db.models import Field, Model
from django.utils.asyncio import async_unsafe
from timescale.db.backends.postgresql.base import DatabaseWrapper as TimescaleWrapper
from timescale.db.backends.postgresql.schema import TimescaleSchemaEditor

from markets.timescale import has_timescale, is_offered
from mpx_site.db import limits
from mpx_site.db.lanes import Connection, Lane, Lanes


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


@cache
def lanes() -> Lanes:
    """Return the connections of this process, all threads of it."""
    mine = Lanes(settings.MPX_DB_CONNECTIONS)
    os.register_at_fork(after_in_child=mine.begin)
    return mine


class DatabaseWrapper(TimescaleWrapper):  # type: ignore[misc]  # the package is untyped
    """Connects to PostgreSQL in turn; `migrate` creates the extension where it is loaded."""

    SchemaEditorClass = SchemaEditor
    connection: Connection | None
    _lane: Lane | None = None

    def prepare_database(self) -> None:
        if is_offered(self):
            super().prepare_database()
        else:
            PlainWrapper.prepare_database(self)

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Return one of this process's connections. Raises `NoLane`."""
        if self.alias == NO_DB_ALIAS:  # of `migrate` and tests, to make a database
            return super().get_new_connection(conn_params)  # type: ignore[no-any-return]
        server = tuple(conn_params.get(key) for key in ("host", "port", "dbname", "user"))
        connect = partial(super().get_new_connection, {**conn_params, "autocommit": True})
        asker = limits.asker()
        self._lane = lanes().take(server, connect, page=asker.page, until=asker.until)
        try:
            self._set_limit(self._lane, asker.limit_ms)
        except BaseException:
            self._give_back()
            raise
        return self._lane.connection

    def heed_limit(self) -> None:
        """Give statements the time that whoever asks now has, if a connection is open."""
        lane = self._lane
        if lane and self.connection is lane.connection and lane.is_idle():
            self._set_limit(lane, limits.asker().limit_ms)

    def close_pool(self) -> None:
        """Close what is idle: a database that is to be dropped must have nobody in it."""
        lanes().close_idle()

    def _close(self) -> None:
        if self._lane is None or self.connection is not self._lane.connection:
            super()._close()
        elif self.in_atomic_block:  # Django keeps the object, so it cannot be another's
            self._lane.connection.close()
            self._give_back()
        else:
            self.connection = None
            self._give_back()

    def _give_back(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            lanes().give(lane)

    @staticmethod
    def _set_limit(lane: Lane, limit_ms: int | None) -> None:
        """Set the session's statement timeout; asking the server only where it is another."""
        if lane.limit_ms != limit_ms:
            to = "DEFAULT" if limit_ms is None else str(limit_ms)
            lane.connection.execute(f"SET statement_timeout = {to}")
            lane.limit_ms = limit_ms
