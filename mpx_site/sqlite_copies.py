"""Copies of the embedded database: a whole one while others write, and the way back."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection, connections

from alerts.models import Heartbeat

WORKS = timedelta(seconds=30)  # a part that beat since then is taken to be at work
PARTS = ("-wal", "-shm")  # of a database file


class NotABackup(Exception):
    """The file is no whole database of a desk; the text says why."""


def own_file() -> Path | None:
    """Return the file of the embedded database; None where the database is a server."""
    if connection.vendor != "sqlite":
        return None
    return Path(settings.DATABASES["default"]["NAME"])


def copy_to(file: Path) -> int:
    """Write a whole copy, for its owner alone; return its size. Raises FileExistsError, OSError."""
    with file.open("xb"):
        file.chmod(0o600)  # before anything is in it
    draft = file.with_name(f"{file.name}.part")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(draft)])
    draft.chmod(0o600)
    os.replace(draft, file)
    return file.stat().st_size


def check(file: Path) -> None:
    """Raise `NotABackup` for what is no whole database of a desk."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as copy:
            [(told,)] = copy.execute("PRAGMA integrity_check(1)").fetchall()
            tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master")}
    except (sqlite3.DatabaseError, ValueError) as error:
        raise NotABackup(f"it is no SQLite database: {error}") from error
    if told != "ok":
        raise NotABackup(f"it is damaged: {told}")
    if not {"django_migrations", "alerts_auditentry", "signals_signal"} <= tables:
        raise NotABackup("it is the database of something else")


def at_work(at: datetime) -> list[str]:
    """Return the parts of the desk that gave a sign of life just now."""
    beats = Heartbeat.objects.filter(at__gt=at - WORKS).order_by("component")
    return list(beats.values_list("component", flat=True))


def put_back(file: Path, own: Path, *, at: datetime) -> Path:
    """Make a copy the desk's database; return where the one before is kept."""
    connections.close_all()
    draft = own.with_name(f"{own.name}.restoring")
    draft.write_bytes(file.read_bytes())
    draft.chmod(0o600)
    before = own.with_name(f"{own.name}.before-{at:%Y%m%dT%H%M%SZ}")
    for part in ("", *PARTS):
        if (there := own.with_name(own.name + part)).exists():
            os.replace(there, before.with_name(before.name + part))
    os.replace(draft, own)
    return before
