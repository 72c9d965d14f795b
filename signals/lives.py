"""How long signals lived, reckoned by the database."""

from __future__ import annotations

from typing import Any

from django.db.models import BigIntegerField, Func


class Milliseconds(Func):
    """Whole milliseconds from the second moment to the first; null if either is.

    It is a stored column (`Signal.lived_ms`), so it may depend on nothing but its row.
    """

    arity = 2
    output_field = BigIntegerField(null=True)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="CAST(ROUND((julianday(%(expressions)s)) * 86400000.0) AS INTEGER)",
            arg_joiner=") - julianday(",
            **context,
        )

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="CAST(ROUND(EXTRACT(EPOCH FROM (%(expressions)s)) * 1000) AS bigint)",
            arg_joiner=" - ",
            **context,
        )
