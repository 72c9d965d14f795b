"""The room that ticks take: how much, how fast it grows, and making room again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Max, Min, OuterRef, Subquery

from markets.models import Quote, Tick
from markets.timescale import has_community, has_hypertable, has_timescale

DAY = timedelta(days=1)
DELETED_AT_ONCE = 100  # markets: no other writer has to wait for the whole of it
LATE = 3  # a job that did not end well for so many of its periods is run by hand

SIZE = {
    "timescale": "SELECT hypertable_size('markets_tick')",
    "postgresql": "SELECT pg_total_relation_size('markets_tick')",
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
}
COMPRESSED = """
SELECT COALESCE(sum(before_compression_total_bytes - after_compression_total_bytes), 0)
FROM chunk_compression_stats('markets_tick')
"""
OLDEST_CHUNK = """
SELECT min(range_end) FROM timescaledb_information.chunks WHERE hypertable_name = 'markets_tick'
"""
JOBS = """
SELECT DISTINCT job_id, proc_name, schedule_interval,
       CASE WHEN isfinite(last_successful_finish) THEN last_successful_finish END
FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
WHERE jobs.hypertable_name IN ('markets_tick', 'market_candle_1m', 'market_candle_1h')
   OR jobs.hypertable_name IN (
       SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates
       WHERE view_name IN ('market_candle_1m', 'market_candle_1h')
   )
"""


@dataclass(frozen=True, slots=True)
class Room:
    """What the ticks take, in bytes. On SQLite `size` is the whole file's."""

    size: int
    first: datetime | None  # the oldest tick
    last: datetime | None  # the newest quote
    saved: int  # by compression

    @property
    def days(self) -> float:
        if self.first is None or self.last is None:
            return 0.0
        return (self.last - self.first) / DAY

    def expected(self, days: int) -> int | None:
        """Return the size with so many days kept, at the pace until now; None: too early."""
        if self.days < 0.02:  # half an hour
            return None
        return round(self.size / self.days * days)


@dataclass(frozen=True, slots=True)
class Job:
    """A policy of TimescaleDB on the ticks; `ended_at` is when it last ended well."""

    number: int
    name: str
    every: timedelta
    ended_at: datetime | None

    def is_late(self, at: datetime, *, since: datetime) -> bool:
        """Say whether it has not ended well for long; `since` it could have, at the earliest."""
        return at - max(self.ended_at or since, since) > LATE * self.every


def room() -> Room:
    kind = "timescale" if has_timescale(connection) else connection.vendor
    saved = 0
    with connection.cursor() as cursor:
        cursor.execute(SIZE[kind])
        (size,) = cursor.fetchone()
        if has_community(connection):
            cursor.execute(COMPRESSED)
            saved = int(cursor.fetchone()[0])
    first, last = reach()
    return Room(int(size), first, last, saved)


def reach() -> tuple[datetime | None, datetime | None]:
    """Return the times of the oldest tick and of the newest quote; None: there are none.

    Ticks have no index by time that gives an order, so markets or a single chunk are asked.
    """
    newest: datetime | None = Quote.objects.aggregate(newest=Max("at"))["newest"]
    return _oldest(), newest


def _oldest() -> datetime | None:
    if has_hypertable(connection, "markets_tick"):
        with connection.cursor() as cursor:
            cursor.execute(OLDEST_CHUNK)
            (end,) = cursor.fetchone()
        some = Tick.objects.none() if end is None else Tick.objects.filter(at__lt=end)
        return some.order_by("at").values_list("at", flat=True).first()
    own = Tick.objects.filter(market_id=OuterRef("pk")).order_by("at").values("at")[:1]
    found: datetime | None = Quote.objects.aggregate(first=Min(Subquery(own)))["first"]
    return found


def prune(*, before: datetime) -> int:
    """Forget ticks from before a time; return how many rows, or chunks of a day."""
    if has_timescale(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT drop_chunks('markets_tick', older_than => %s)", [before])
            return len(cursor.fetchall())
    quoted = list(Quote.objects.order_by("pk").values_list("pk", flat=True))
    deleted = 0
    for first in range(0, len(quoted), DELETED_AT_ONCE):
        some = quoted[first : first + DELETED_AT_ONCE]
        deleted += Tick.objects.filter(market_id__in=some, at__lt=before).delete()[0]
    return deleted


def jobs() -> list[Job]:
    """Return the policies on the ticks; none without TimescaleDB's community part."""
    if not has_community(connection):
        return []
    with connection.cursor() as cursor:
        cursor.execute(JOBS)
        return [Job(*row) for row in cursor.fetchall()]


def run_late_jobs(*, at: datetime) -> list[str]:
    """Do by hand what the server's own workers did not; return the names.

    TimescaleDB's workers fail on some minor versions of PostgreSQL 15 (15.20 is one), where
    the same job run by a client succeeds.
    """
    first, _ = reach()
    if first is None:
        return []
    late = [job for job in jobs() if job.is_late(at, since=first)]
    for job in late:
        with connection.cursor() as cursor:
            cursor.execute("CALL run_job(%s)", [job.number])
    return [job.name for job in late]
