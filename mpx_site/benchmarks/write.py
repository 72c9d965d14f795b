"""`bench write`: ticks into PostgreSQL as the desk writes them, beside `bulk_create`.

Both write the same made-up rows in batches of the same size, each batch committed, in turns,
into a table like the real one in a schema of its own, which is dropped at the end. A ratio
is the median over turns of the times, the server's included.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import connection, transaction

from markets import ticks
from markets.frames import unix_ns
from markets.models import Tick
from markets.ticks import Top
from markets.timescale import has_timescale

T = TypeVar("T")

SCHEMA = "mpx_bench"
BATCH = 10_000
MARKETS = 5_000
START = unix_ns(datetime(2026, 1, 1, tzinfo=UTC))


class NoPostgreSQL(Exception):
    """The desk's database is another; COPY is PostgreSQL's."""


def run(*, rows: int) -> dict[str, object]:
    """Return the result object of `bench write`. Raises `NoPostgreSQL`."""
    if connection.vendor != "postgresql":
        raise NoPostgreSQL("bench write needs PostgreSQL: set DATABASE_URL")
    draw = random.Random(5)
    own: list[float] = []
    bulk: list[float] = []
    with own_table():
        for number in range(max(rows // (2 * BATCH), 1)):
            own.append(_timed(ticks.add, batch(draw, 2 * number)))
            bulk.append(_timed(in_bulk, [top.row() for top in batch(draw, 2 * number + 1)]))
        per_row = _bytes() / Tick.objects.count()
    return {
        "bench": "write",
        "ratios": {"vs_bulk_create": round(statistics.median(map(_ratio, bulk, own)), 2)},
        "figures": {
            "rows_per_s": round(BATCH / statistics.median(own)),
            "bulk_create_rows_per_s": round(BATCH / statistics.median(bulk)),
            "bytes_per_row": round(per_row, 1),
            "rows": 2 * BATCH * len(own),
        },
    }


@contextmanager
def own_table() -> Iterator[None]:
    """Let `markets_tick` be an empty table of its own, in chunks where the real one is."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
        cursor.execute(f"CREATE TABLE {SCHEMA}.markets_tick (LIKE markets_tick INCLUDING ALL)")
        if has_timescale(connection):
            cursor.execute(
                f"SELECT create_hypertable('{SCHEMA}.markets_tick', 'at',"
                " chunk_time_interval => INTERVAL '1 day', create_default_indexes => false)"
            )
        cursor.execute(f"SET search_path TO {SCHEMA}, public")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path")
            cursor.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


def batch(draw: random.Random, number: int) -> list[Top]:
    """Make tops of many markets, each at a time of its own."""
    first = number * BATCH
    return [
        Top(
            market_id=str(500_000 + draw.randrange(MARKETS)),
            t=START + 120_000 * (first + each),
            state="fresh",
            bid=draw.randrange(10, 5_000, 10),
            ask=draw.randrange(5_010, 9_990, 10),
            bid_size=draw.randrange(1, 10**9),
            ask_size=draw.randrange(1, 10**9),
        )
        for each in range(BATCH)
    ]


def in_bulk(rows: Sequence[dict[str, Any]]) -> None:
    """Write as Django does it: the yardstick."""
    Tick.objects.bulk_create([Tick(**row) for row in rows], batch_size=500)


def _timed(write: Callable[[Sequence[T]], None], rows: Sequence[T]) -> float:
    gc.collect()  # so that neither pays for what the other left behind
    begun = time.perf_counter()
    with transaction.atomic():
        write(rows)
    return time.perf_counter() - begun


def _ratio(bulk: float, own: float) -> float:
    return bulk / own


def _bytes() -> int:
    with connection.cursor() as cursor:
        if has_timescale(connection):
            cursor.execute(f"SELECT hypertable_size('{SCHEMA}.markets_tick')")
        else:
            cursor.execute(f"SELECT pg_total_relation_size('{SCHEMA}.markets_tick')")
        (size,) = cursor.fetchone()
    return int(size)
