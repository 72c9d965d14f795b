"""Let the database itself refuse to change a published rule version.

Deleting needs no trigger: the rule and its signals hold their versions with foreign keys.
SQLite drops triggers when a later migration rebuilds the table; the test of this trigger
says so when that happens.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

CREATE = {
    "sqlite": [
        """CREATE TRIGGER rule_version_never_changes BEFORE UPDATE ON rules_ruleversion
        BEGIN SELECT RAISE(ABORT, 'rule versions never change'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION rule_version_never_changes() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'rule versions never change'
                 USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        """CREATE TRIGGER rule_version_never_changes BEFORE UPDATE ON rules_ruleversion
        FOR EACH ROW EXECUTE FUNCTION rule_version_never_changes()""",
    ],
}
DROP = {
    "sqlite": ["DROP TRIGGER rule_version_never_changes"],
    "postgresql": [
        "DROP TRIGGER rule_version_never_changes ON rules_ruleversion",
        "DROP FUNCTION rule_version_never_changes()",
    ],
}


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in CREATE[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in DROP[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = (("rules", "0001_initial"),)

    operations = (migrations.RunPython(create, drop),)
