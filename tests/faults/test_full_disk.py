"""A disk that is really full, under the data of a desk's database (D3). Only by `make test-faults`.

The disk is a tmpfs of its own, so this takes root, and a machine where that may mount.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.faults.topology import Desk, seconds_until
from tests.servers import CannotStart, manage, wait_for

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("MPX_FAULTS"), reason="takes minutes: make test-faults"),
]
SIZE = "400m"
TOLD, FULL, BACK = 60.0, 20.0, 30.0
LEFT = 4_096  # the smallest file that still fits would take this


@pytest.fixture
def disk() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="mpx-disk-"))
    made = run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "tmpfs", str(place))
    if made.returncode:
        place.rmdir()
        pytest.skip(f"no disk of our own can be mounted here: {made.stderr.strip()}")
    place.chmod(0o755)  # PostgreSQL is not root and has to pass
    yield place
    wait_for(lambda: run("umount", str(place)).returncode == 0, seconds=20, what="an unused disk")
    place.rmdir()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take every byte that is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 2**20)
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 512)
    try:
        yield
    finally:
        filler.unlink()


def test_desk_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    try:
        with Desk.up(home, disk=disk) as desk:
            fill_up(desk, disk)
    except CannotStart as missing:
        pytest.skip(f"no servers of our own: {missing}")


def fill_up(desk: Desk, disk: Path) -> None:
    wait_for(lambda: desk.count("markets_tick") > 100, seconds=60, what="ticks")
    begun, since = time.time(), time.monotonic()
    with filled(disk):
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize < LEFT
        told = seconds_until(lambda: desk.health().get("status") != "ok", within=TOLD, since=since)
        time.sleep(FULL)
        said = desk.health()
        refused = "No space left on device" in desk.log("stream") + database_log(desk)
        alive = [part for part in desk.processes if desk.is_alive(part)]
        died = not desk.is_alive("database")
    free = time.time()
    if died:  # as it may, where there was no room for its log; who frees the disk starts it
        desk.start("database")
    back = seconds_until(lambda: beat_after(desk, free), within=BACK, since=time.monotonic())
    desk.wait_until_well()
    print({"row": "D3 full disk", "told": told, "said": said.get("status"), "back": back,
           "database_died": died})  # fmt: skip

    assert refused, "the disk was not full"
    assert told is not None and back is not None
    assert set(alive) == set(desk.processes)
    gaps = desk.count("markets_gap where opened_at > to_timestamp(%s)", begun)
    meanwhile = "markets_tick where at between to_timestamp(%s) and to_timestamp(%s)"
    wait_for(lambda: desk.count(meanwhile, begun + 1, free) or gaps, seconds=30, what="ticks")
    assert desk.count("markets_quarantine where source = 'writer'") == 0
    for words in (("invariants",), ("audit", "verify")):
        done = manage(*words, env=desk.env, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def database_log(desk: Desk) -> str:
    return (desk.postgres.home / "log").read_text(errors="replace")


def beat_after(desk: Desk, moment: float) -> bool:
    with suppress(psycopg.OperationalError):
        since = "alerts_heartbeat where component = 'stream' and at > to_timestamp(%s)"
        return desk.count(since, moment) > 0
    return False
