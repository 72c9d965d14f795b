"""One day of history as Parquet files: written row group by row group, read the same way.

A day is a folder `day=YYYY-MM-DD` with `listing.parquet` (what the venue said of events)
and one file of what happened: `tops.parquet`, `prices.parquet` or `frames.parquet`. Each can
be read alone: what was known at midnight is told first. Rows are in the order of their
time; the metadata of a file say what is in it (`DayTold`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from markets.frames import Frame
from markets.past.tops import Top
from markets.past.value import Gap, Kind, NotAPast

SCHEMA_VERSION = 1
ROW_GROUP = 65_536  # rows; what is in memory at a time
BATCH = 8_192  # rows turned into values at a time
FRAME_BYTES = 8 * 1024 * 1024  # of frames' bodies in a row group
META = b"mpx_past"
LISTING = "listing.parquet"

FILE_OF: dict[Kind, str] = {
    "tops": "tops.parquet",
    "prices": "prices.parquet",
    "books": "frames.parquet",
}
KIND_OF = {name: kind for kind, name in FILE_OF.items()}

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMAS: dict[str, Any] = {
    "tops.parquet": pa.schema(
        [
            ("t", pa.int64()),
            ("market_id", _TEXT),
            ("bid", pa.int16()),
            ("ask", pa.int16()),
            ("bid_size", pa.int64()),
            ("ask_size", pa.int64()),
        ]
    ),
    "prices.parquet": pa.schema(
        [("t", pa.int64()), ("market_id", _TEXT), ("bid", pa.int16()), ("ask", pa.int16())]
    ),
    "frames.parquet": pa.schema(
        [
            ("t", pa.int64()),
            ("ch", _TEXT),
            ("conn", pa.int32()),
            ("req", pa.string()),
            ("body", pa.binary()),
        ]
    ),
}
SCHEMAS[LISTING] = SCHEMAS["frames.parquet"]
# A time is near the one before it; other columns repeat themselves.
_ENCODED = {"t": "DELTA_BINARY_PACKED"}


class Price(NamedTuple):
    """A quote of a market's first outcome without sizes, 1e-4 USD, at unix ns.

    A price without a quote is the middle of one a tenth of a cent to each side.
    """

    t: int
    market_id: str
    bid: int
    ask: int


Row = Top | Price | Frame


@dataclass(frozen=True, slots=True)
class DayTold:
    """What a file says of itself; times in unix ns. `sha256` is that of its rows.

    `source` is what it was written from, for people; `source_sha256` tells whether writing
    it again would change anything. `carried` rows at its start repeat what was known then.
    """

    source: str
    source_sha256: str
    rows: int
    carried: int
    since: int
    until: int
    gaps: tuple[Gap, ...]
    sha256: str
    schema: int = SCHEMA_VERSION


class ColumnWriter:
    """Writes one file. Rows must come in the order of their time."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.rows = 0
        self._schema = SCHEMAS[name]
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            use_dictionary=[f.name for f in self._schema if f.name not in ("t", "body")],
            column_encoding=_ENCODED,
        )
        self._waiting: list[Row] = []
        self._bytes = 0
        self._told = hashlib.sha256()

    def write(self, row: Row) -> None:
        self._waiting.append(row)
        if isinstance(row, Frame):
            self._bytes += len(row.body)
        if len(self._waiting) >= ROW_GROUP or self._bytes >= FRAME_BYTES:
            self._flush()

    def close(self, told: DayTold | None = None) -> str:
        """End the file and return the hash of its rows; `told` becomes its metadata."""
        self._flush()
        digest = self._told.hexdigest()
        if told is not None:
            said = asdict(told) | {"sha256": digest, "rows": self.rows}
            self._writer.add_key_value_metadata({META: json.dumps(said).encode()})
        self._writer.close()
        return digest

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = _columns(self._waiting)
        self._told.update(hash_of(columns))
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.rows += len(self._waiting)
        self._waiting, self._bytes = [], 0


def _columns(rows: Sequence[Row]) -> list[Sequence[Any]]:
    if isinstance(rows[0], Frame):
        found = [(f.t, f.ch, f.conn, f.req, f.body) for f in rows if isinstance(f, Frame)]
        return [*zip(*found, strict=True)]
    return [*zip(*rows, strict=True)]


def hash_of(columns: Sequence[Sequence[Any]]) -> bytes:
    """Hash the values of a row group, whatever the file packs them as."""
    told = hashlib.sha256()
    for column in columns:
        if column and isinstance(column[0], bytes):
            for body in column:
                told.update(len(body).to_bytes(8, "big") + body)
        else:
            told.update(repr(list(column)).encode())
    return told.digest()


# --- reading ------------------------------------------------------------------------------


def told_of(path: Path) -> DayTold:
    """Read what a file says of itself; raise `NotAPast` if it is none of ours."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise NotAPast(f"is no readable Parquet file: {error}", str(path)) from None
    if META not in metadata:
        raise NotAPast("was not written by this product", str(path))
    said = json.loads(metadata[META])
    if said.get("schema") != SCHEMA_VERSION:
        raise NotAPast(f"has the schema {said.get('schema')}, not {SCHEMA_VERSION}", str(path))
    return DayTold(**{**said, "gaps": tuple(Gap(**gap) for gap in said["gaps"])})


def row_groups(path: Path) -> Iterator[list[list[Any]]]:
    """Yield the columns of each row group as lists of values."""
    try:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield [column.to_pylist() for column in file.read_row_group(number).columns]
    except (OSError, pa.ArrowException) as error:
        raise NotAPast(f"cannot be read: {error}", str(path)) from None


def rows_of(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, a row group in memory at a time."""
    make = _ROW[path.name]
    for columns in row_groups(path):
        yield from map(make, *columns)


def _frame(t: int, ch: Any, conn: int | None, req: str | None, body: bytes) -> Frame:
    return Frame(t, ch, body, conn, req)


_ROW: dict[str, Any] = {
    "tops.parquet": Top,
    "prices.parquet": Price,
    "frames.parquet": _frame,
    LISTING: _frame,
}


def sha256_of_rows(path: Path) -> str:
    """Hash a file's rows anew, to be compared with what it says."""
    told = hashlib.sha256()
    for columns in row_groups(path):
        told.update(hash_of(columns))
    return told.hexdigest()
