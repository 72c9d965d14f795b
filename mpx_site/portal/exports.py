"""A list as a file: `?format=csv` or `?format=json` on the list's own address.

So what is exported is exactly what the filters of that address let through. In a view::

    COLUMNS = (
        Column("order", "pk"),
        Column("rule", "signal.rule.code"),      # a path; None anywhere on it is an empty cell
        Column("paid", lambda row: row.spent),   # or a function of the row
    )

    asked = AskedIntents(request.GET)
    rows = asked.rows()                          # before it is cut into pages
    if (file := exports.answer(request, rows, COLUMNS, name="orders")) is not None:
        return file

and in its template, beside the pages: `{% include "portal/_export.html" %}`.

Rows are a query, a sequence, or a function that returns one and is only called for a file. A
query is asked for its keys first and then read in batches, so that nothing is held open for a
slow reader; it must have an order. Over the cap the file says so in the header
`X-Export-Notice` and in its last line (CSV) or its field `notice` (JSON).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from itertools import chain
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone

from markets.connections import drop_dead_connections
from mpx_site.access import pace
from mpx_site.db import limits

CAP = 50_000
BATCH = 500
TYPES = {"csv": "text/csv; charset=utf-8; header=present", "json": "application/json"}
# What a spreadsheet takes for the start of a formula, or skips before one; also in full width.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Rows = QuerySet[Any] | Sequence[Any]
MaybeRows = Rows | Callable[[], Rows]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name and where a row has its value, a dotted path or a function.

    A path goes through attributes and the keys of a JSON field, where one may be missing.
    """

    name: str
    of: str | Callable[[Any], object]

    def value(self, row: Any) -> object:
        if not isinstance(self.of, str):
            return self.of(row)
        for step in self.of.split("."):
            if isinstance(row, Mapping):
                row = row.get(step)
            elif row is not None:
                row = getattr(row, step)
        return row


class Streamed(StreamingHttpResponse):
    """A stream that an ASGI server, too, reads part by part and not as a whole."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = iter(self)

        def part_of() -> bytes | None:
            with limits.patient():
                try:
                    return next(parts, None)
                finally:
                    drop_dead_connections()  # a slow reader keeps none from others

        read = sync_to_async(part_of)
        while (part := await read()) is not None:
            yield part


def answer(
    request: HttpRequest, rows: MaybeRows, columns: Sequence[Column], *, name: str, cap: int = CAP
) -> HttpResponseBase | None:
    """Return the file that the address asks for; None if it asks for the page.

    `name` begins the file's name: small letters and hyphens.
    """
    asked = request.GET.get("format")
    if asked is None:
        return None
    if asked not in TYPES:
        return HttpResponse("A list comes as format=csv or format=json.\n", "text/plain", 400)
    if (refused := too_often(request)) is not None:
        return refused
    return file_of(rows, columns, asked=asked, name=name, cap=cap)


def too_often(request: HttpRequest) -> HttpResponse | None:
    """Count one export of whoever asks; return the refusal if that is one too many."""
    seconds = pace.wait_for_export(request, at=timezone.now())
    if not seconds:
        return None
    told = {"minutes": math.ceil(seconds / 60), "most": pace.EXPORTS.tries}
    page = render(request, "429.html", told, status=HTTPStatus.TOO_MANY_REQUESTS)
    page.headers["Retry-After"] = str(seconds)
    return page


def file_of(
    rows: MaybeRows, columns: Sequence[Column], *, asked: str, name: str, cap: int = CAP
) -> HttpResponseBase:
    """Return rows as a file; `asked` is `csv` or `json`."""
    batches, cut = _read(rows() if callable(rows) else rows, cap)
    notice = f"Cut: only the first {cap:,} rows are here; narrow the filter." if cut else ""
    write = _as_csv if asked == "csv" else _as_json
    file = Streamed(write(batches, columns, notice=notice), content_type=TYPES[asked])
    stamp = f"{timezone.now():%Y%m%dT%H%MZ}"
    file["Content-Disposition"] = f'attachment; filename="mpx-{name}-{stamp}.{asked}"'
    if notice:
        file["X-Export-Notice"] = notice
    return file


def csv_cell(value: object) -> str:
    """Write a value for a spreadsheet: text never begins like a formula, numbers stay numbers."""
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, int | float) or isinstance(value, Decimal):
        return str(plain)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, default=str)
    return f"'{text}" if text.startswith(FORMULA) else text


def _plain(value: object) -> object:
    """Return what JSON can hold: times in UTC, exact amounts as text, no number as None."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, str | bool | int | dict | list | tuple):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


# --- reading -------------------------------------------------------------------------


def _read(rows: Rows, cap: int) -> tuple[Iterator[Sequence[Any]], bool]:
    """Return the first rows in batches, and whether there are more than `cap`."""
    if not isinstance(rows, QuerySet):
        return _batches(rows[:cap]), len(rows) > cap
    with limits.patient():
        keys = list(rows.values_list("pk", flat=True)[: cap + 1])
    return (_rows_of(rows, batch) for batch in _batches(keys[:cap])), len(keys) > cap


def _rows_of(rows: QuerySet[Any], keys: Sequence[Any]) -> list[Any]:
    """Return the rows of these keys in their order; what is gone or fits no more is left out."""
    found = {row.pk: row for row in rows.filter(pk__in=keys)}
    return [found[key] for key in keys if key in found]


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[first : first + BATCH] for first in range(0, len(items), BATCH))


# --- writing -------------------------------------------------------------------------


def _as_csv(
    batches: Iterable[Sequence[Any]], columns: Sequence[Column], *, notice: str
) -> Iterator[bytes]:
    """Write RFC 4180: CRLF, a header, and as many cells in every line."""
    yield _lines([[column.name for column in columns]])
    for batch in batches:
        yield _lines([csv_cell(column.value(row)) for column in columns] for row in batch)
    if notice:
        yield _lines([[notice, *[""] * (len(columns) - 1)]])


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return _encoded(text.getvalue())


def _as_json(
    batches: Iterable[Sequence[Any]], columns: Sequence[Column], *, notice: str
) -> Iterator[bytes]:
    """Write one object: the rows, and a notice that is null unless rows are missing."""
    yield b'{"schema": 1, "rows": ['
    comma = chain(("\n",), iter(lambda: ",\n", None))
    for batch in batches:
        yield _encoded("".join(next(comma) + _object(row, columns) for row in batch))
    yield _encoded(f'\n], "notice": {json.dumps(notice or None)}}}\n')


def _object(row: Any, columns: Sequence[Column]) -> str:
    values = {column.name: _plain(column.value(row)) for column in columns}
    return json.dumps(values, ensure_ascii=False, default=str)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a half character is no reason to end the file
