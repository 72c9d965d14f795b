"""`timescale`: use TimescaleDB in a database that gained it after its migrations."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from markets import tick_room, timescale
from markets.models import Tick
from mpx_site.db.postgresql.base import SchemaEditor

MIGRATIONS = ("0006_ticks_by_day", "0008_ticks_by_block")


class Command(BaseCommand):
    help = "Put the ticks into chunks with compression and candles. Safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="change nothing; 1 if it would")

    def handle(self, *args: Any, **options: Any) -> None:
        if not timescale.is_offered(connection):
            raise CommandError("this server has no TimescaleDB loaded", returncode=3)
        missing = _missing()
        if options["check"] and missing:
            raise CommandError(f"missing: {', '.join(missing)}", returncode=1)
        if missing:
            _enable(missing)
        self.stdout.write("done: " + ", ".join(missing) if missing else "all is there")


def _missing() -> list[str]:
    """Return what a database lacks, in the order in which it is made."""
    looks = {
        "extension": timescale.has_timescale(connection),
        "hypertable": timescale.has_hypertable(connection, "markets_tick"),
        "policies": bool(tick_room.jobs()) or not _may_have_policies(),
    }
    return [name for name, there in looks.items() if not there]


def _may_have_policies() -> bool:
    return timescale.has_community(connection) or not timescale.has_timescale(connection)


def _enable(missing: list[str]) -> None:
    if "extension" in missing:
        with connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION timescaledb")
        connection.close()  # a session from before does not know it
    with transaction.atomic():
        if "hypertable" in missing:
            with SchemaEditor(connection) as editor:
                editor.make_hypertable(Tick, Tick._meta.get_field("at"))
        if "policies" in missing:
            _policies()


def _policies() -> None:
    """Do once more what the migrations did for databases that had the extension then."""
    loader = MigrationLoader(connection)
    nothing = ProjectState()
    with connection.schema_editor() as editor:
        for name in MIGRATIONS:
            for operation in loader.get_migration("markets", name).operations:
                if isinstance(operation, timescale.OnTimescale):
                    operation.database_forwards("markets", editor, nothing, nothing)
