"""Let the database itself refuse to change what is written once: fills, steps, position entries.

Deleting is refused on PostgreSQL only: SQLite has no TRUNCATE, so emptying the tables
of a test would be a delete like any other. SQLite drops triggers when a later migration
rebuilds a table; the test of these triggers says so when that happens.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLES = ("execution_fill", "execution_intentevent", "execution_positionentry")
FUNCTION = """CREATE FUNCTION execution_written_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is written once', TG_TABLE_NAME
         USING ERRCODE = 'integrity_constraint_violation'; END $$"""


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTION, params=None)  # "%" is its own
        for table in TABLES:
            schema_editor.execute(
                f"CREATE TRIGGER {table}_once BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION execution_written_once()"
            )
        return
    for table in TABLES:
        schema_editor.execute(
            f"CREATE TRIGGER {table}_once BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is written once'); END"
        )


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    postgres = schema_editor.connection.vendor == "postgresql"
    for table in TABLES:
        schema_editor.execute(f"DROP TRIGGER {table}_once" + (f" ON {table}" if postgres else ""))
    if postgres:
        schema_editor.execute("DROP FUNCTION execution_written_once()")


class Migration(migrations.Migration):
    dependencies = (("execution", "0001_initial"),)

    operations = (migrations.RunPython(create, drop),)
