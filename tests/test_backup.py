"""Backups, written while the desk works and read back whole: on PostgreSQL by the scripts of the
compose file, on SQLite by our own commands."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers import POSTGRES_BIN, ROOT, CannotStart, Postgres, manage, settings_for

SCRIPTS = ROOT / "deploy/compose/scripts"
EXTENSION = Path("/usr/share/postgresql/15/extension/timescaledb.control")


class Loaded(Postgres):
    """A PostgreSQL with TimescaleDB loaded, where that is installed."""

    def start(self) -> Postgres:
        if EXTENSION.exists():
            with (self.home / "data/postgresql.conf").open("a") as file:
                file.write("\nshared_preload_libraries='timescaledb'\n")
                file.write("timescaledb.telemetry_level=off\n")
        return super().start()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        server = Loaded().start()
    except CannotStart as why:
        pytest.skip(str(why))
    yield server
    server.remove()


def prepared(home: Path, *more: tuple[str, ...], **where: str) -> dict[str, str]:
    """Return the settings of a desk with its tables and rules, and what else these commands do."""
    env = settings_for(home, **where)
    for words in (("prepare", "--quiet"), *more):
        done = manage(*words, env=env, timeout=240)
        assert done.returncode == 0, done.stderr[-2_000:]
    return env


def script(name: str, *words: str, server: Postgres, **streams: Any) -> Any:
    env = {
        **os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "mpx",
        "PATH": f"{POSTGRES_BIN}:{os.environ['PATH']}",
    }  # fmt: skip
    return subprocess.run(
        ["sh", str(SCRIPTS / name), *words], env=env, stderr=subprocess.PIPE, text=True, **streams
    )


def counts(url: str) -> dict[str, int]:
    """Return how many rows each table of the desk has."""
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
            "AND table_type = 'BASE TABLE' ORDER BY 1"
        ).fetchall()
        return {
            name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # type: ignore[index]
            for (name,) in names
        }


def test_database_of_a_working_desk_comes_back_whole(server: Postgres, tmp_path: Path) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mpx")
    url = server.url.replace("/postgres", "/mpx")
    work = ("seed", "--minutes", "1", "--events", "8")
    env = prepared(tmp_path, work, DATABASE_URL=url)
    before, dump = counts(url), tmp_path / "mpx.dump"
    with dump.open("wb") as file:
        written = script("backup.sh", server=server, stdout=file)
    assert written.returncode == 0, written.stderr
    with psycopg.connect(url) as connection:  # what happens after the backup is not in it
        connection.execute("DELETE FROM signals_signalpoint")

    with dump.open("rb") as file:
        read = script("restore.sh", server=server, stdin=file)

    assert read.returncode == 0, read.stderr
    assert counts(url) == before
    assert before["signals_signal"] > 0
    assert before["markets_tick"] > 0
    for words in (("audit", "verify"), ("invariants",), ("migrate", "--check")):
        done = manage(*words, env=env)
        assert done.returncode == 0, (words, done.stdout[-500:], done.stderr[-2_000:])
    if EXTENSION.exists():
        with psycopg.connect(url) as connection:
            chunks = "SELECT count(*) FROM timescaledb_information.chunks"
            assert connection.execute(chunks).fetchone()[0] > 0  # type: ignore[index]
            restoring = "SELECT current_setting('timescaledb.restoring', true)"
            assert connection.execute(restoring).fetchone()[0] in (None, "off")  # type: ignore[index]
    with psycopg.connect(server.url) as connection:
        names = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    assert any(name.startswith("mpx_before_") for (name,) in names)


def test_backup_that_is_none_leaves_everything_as_it_was(server: Postgres, tmp_path: Path) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE kept")
    broken = tmp_path / "broken.dump"
    broken.write_bytes(b"this is no backup")

    with broken.open("rb") as file:
        read = script("restore.sh", "kept", server=server, stdin=file)

    assert read.returncode != 0
    with psycopg.connect(server.url) as connection:
        there = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert ("kept",) in there
    assert not [name for (name,) in there if name.startswith("kept_before_")]


# --- SQLite --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return prepared(tmp_path_factory.mktemp("desk"))


def rules_in(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return [title for (title,) in connection.execute("SELECT title FROM rules_rule")]


def test_sqlite_file_is_copied_whole_and_comes_back(desk: dict[str, str], tmp_path: Path) -> None:
    own = Path(desk["MPX_HOME"]) / "mpx.sqlite3"
    there, copy = rules_in(own), tmp_path / "copy.sqlite3"
    done = manage("backup", str(copy), "--json", env=desk)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "schema": 1, "file": str(copy), "bytes": copy.stat().st_size,
    }  # fmt: skip
    assert copy.stat().st_mode & 0o077 == 0
    with sqlite3.connect(own) as connection:
        connection.execute("UPDATE rules_rule SET title = 'spoilt'")

    back = manage("restore", str(copy), env=desk)

    assert back.returncode == 0, back.stderr
    assert there
    assert rules_in(own) == there
    assert list(own.parent.glob("mpx.sqlite3.before-*"))
    assert manage("audit", "verify", env=desk).returncode == 0


def test_backup_never_overwrites(desk: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")

    done = manage("backup", str(tmp_path / "there"), env=desk)

    assert done.returncode == 2
    assert (tmp_path / "there").read_text() == "mine"


def test_restore_refuses_what_is_no_backup_of_a_desk(desk: dict[str, str], tmp_path: Path) -> None:
    own = Path(desk["MPX_HOME"]) / "mpx.sqlite3"
    before = rules_in(own)
    (tmp_path / "text").write_text("this is no database, but it is long enough to look at " * 9)
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE t (x)")

    codes = [
        manage("restore", str(tmp_path / name), env=desk).returncode
        for name in ("text", "other", "missing")
    ]

    assert codes == [4, 4, 2]
    assert rules_in(own) == before


def test_restore_refuses_while_the_desk_works(desk: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    assert manage("backup", str(copy), env=desk).returncode == 0
    with sqlite3.connect(Path(desk["MPX_HOME"]) / "mpx.sqlite3") as connection:
        connection.execute(
            "INSERT INTO alerts_heartbeat (component, at, progress, detail) "
            "VALUES ('stream', datetime('now'), 0, '{}')"
        )

    done = manage("restore", str(copy), env=desk)

    assert done.returncode == 5
    assert "stream" in done.stderr
