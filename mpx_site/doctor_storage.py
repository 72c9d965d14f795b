"""The doctor's checks of what history takes, and of TimescaleDB where it is."""

from __future__ import annotations

import shutil
from datetime import datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone

from markets import tick_room, timescale
from mpx_site.doctor_words import Seen, ok, warn

GB = 10**9
ENABLE = "Run `manage.py timescale`"


def ticks() -> Seen:
    """Tell what the ticks take and will take; warn where that does not fit on the disk."""
    room = tick_room.room()
    told = f"{room.size / GB:.2f} GB"
    if connection.vendor == "sqlite":
        told += " with all else in the file"
    if room.saved:
        told += f", {room.saved / GB:.2f} GB saved by compression"
    kept = settings.TICKS_KEPT_DAYS
    expected = room.expected(kept)
    if expected is None:
        return ok(f"{told}; too little history to foresee more")
    told += f" for {room.days:.1f} days; about {expected / GB:.2f} GB with {kept} days kept"
    if (
        connection.vendor == "sqlite"
        and expected - room.size > shutil.disk_usage(settings.MPX_HOME).free
    ):
        return warn(told, "Make room, or lower TICKS_KEPT_DAYS")
    return ok(told)


def hypertable() -> Seen:
    """Tell whether the database uses TimescaleDB as it could, and whether its jobs are done."""
    number = timescale.version()
    if number is None:
        if timescale.is_offered(connection):
            return warn("the server has TimescaleDB, this database does not use it", ENABLE)
        return ok("not there: ticks are one plain table, which works")
    if not timescale.has_hypertable(connection, "markets_tick"):
        return warn(f"TimescaleDB {number}, but ticks are one plain table", ENABLE)
    if not timescale.has_community(connection):
        return ok(f"TimescaleDB {number} without its community part: no compression")
    return _jobs(number, timezone.now())


def _jobs(number: str, at: datetime) -> Seen:
    jobs = tick_room.jobs()
    if not jobs:
        return warn(f"TimescaleDB {number} without compression and candles", ENABLE)
    first, _ = tick_room.reach()
    late = [job.name for job in jobs if first and job.is_late(at, since=first)]
    told = f"TimescaleDB {number}, ticks in chunks of a day, {len(jobs)} policies"
    if late:
        names = ", ".join(sorted(set(late)))
        told += f"; the server does not do {names} by itself, prune-ticks does them each hour"
        return warn(told, "Use another minor version of PostgreSQL: 15.20 fails here")
    return ok(told)
