"""Let the database itself refuse to change the audit chain or to take entries out of it.

Nothing of ours ever does: `prune` leaves the chain alone, and a restore only adds rows. TRUNCATE
on PostgreSQL is not refused: it takes the table's owner, who could drop the trigger too, and
noted heads show it. SQLite drops triggers when a later migration rebuilds a table; the test of
these says so when that happens.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLE = "alerts_auditentry"
WORDS = "the audit chain is written once"
CREATE = {
    "sqlite": [
        f"CREATE TRIGGER audit_never_{act.lower()}d BEFORE {act} ON {TABLE} "
        f"BEGIN SELECT RAISE(ABORT, '{WORDS}'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        f"""CREATE FUNCTION audit_written_once() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '{WORDS}' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        f"""CREATE TRIGGER audit_written_once BEFORE UPDATE OR DELETE ON {TABLE}
        FOR EACH ROW EXECUTE FUNCTION audit_written_once()""",
    ],
}
DROP = {
    "sqlite": ["DROP TRIGGER audit_never_updated", "DROP TRIGGER audit_never_deleted"],
    "postgresql": [
        f"DROP TRIGGER audit_written_once ON {TABLE}",
        "DROP FUNCTION audit_written_once()",
    ],
}


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in CREATE[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in DROP[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = (("alerts", "0007_one_row_a_voice"),)

    operations = (migrations.RunPython(create, drop),)
