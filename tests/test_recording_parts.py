"""Recordings in parts: one recording whatever its files, and what a process that ends loses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest
from django.core.management.base import CommandError

from markets.frames import CLOSED, Frame
from markets.problems import Problems
from markets.recording import Recording, RecordingWriter, later_parts, part_path
from mpx_site.management.commands import stream
from signals.live import recording_header
from signals.management.commands import record
from signals.pipeline import Pipeline
from tests.live_cast import run_live, shipped_rules, simulated
from tests.servers import ROOT, settings_for, wait_for
from tests.test_replay import Replayed

NAMES = ("night.jsonl", "night.jsonl.gz")
MOMENT = 1_780_000_000_000_000_000


def frame(number: int) -> Frame:
    return Frame(MOMENT + number, "ws", b'{"number": %d}' % number, 1 + number % 2)


def written(path: Path, count: int, *, part_bytes: int, every: int = 10) -> list[Frame]:
    """Write frames, flushed every so many; return them."""
    frames = [frame(number) for number in range(count)]
    with RecordingWriter(path, header={"seed": 7}, part_bytes=part_bytes) as writer:
        for number, each in enumerate(frames, start=1):
            writer.write(each)
            if number % every == 0:
                writer.flush()
    return frames


def sent(frames: list[Frame]) -> list[Frame]:
    """Leave out what tells of a connection."""
    return [each for each in frames if each.req is None]


# --- one recording -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part_bytes", [1, 200, 600])
def test_parts_are_read_as_one_recording(tmp_path, name, part_bytes):
    frames = written(tmp_path / name, 200, part_bytes=part_bytes)

    recording = Recording(tmp_path / name)

    assert len(later_parts(tmp_path / name)) >= 2
    assert list(recording) == frames
    assert list(recording) == frames  # and once more
    assert (recording.truncated, recording.problems.total) == (False, 0)


def test_each_part_says_what_it_continues(tmp_path):
    first = tmp_path / "night.jsonl.gz"
    written(first, 30, part_bytes=1)

    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "night.jsonl.gz", "night.part-0002.jsonl.gz", "night.part-0003.jsonl.gz",
    ]  # fmt: skip
    assert Recording(first).header == {"mpx_recording": 1, "seed": 7}
    assert Recording(part_path(first, 3)).header == {
        "mpx_recording": 1, "seed": 7, "part": 3, "continues": "night.part-0002.jsonl.gz",
    }  # fmt: skip


def test_parts_stay_near_their_size(tmp_path):
    first = tmp_path / "night.jsonl"
    written(first, 2_000, part_bytes=20_000)

    sizes = [path.stat().st_size for path in (first, *later_parts(first).values())]

    assert len(sizes) > 4
    assert all(20_000 <= size < 22_000 for size in sizes[:-1]), sizes


def test_recording_that_is_small_enough_is_one_file(tmp_path):
    written(tmp_path / "night.jsonl", 200, part_bytes=10**6)

    assert [path.name for path in tmp_path.iterdir()] == ["night.jsonl"]


def test_old_parts_of_the_same_name_do_not_continue_the_new(tmp_path):
    first = tmp_path / "night.jsonl"
    written(first, 100, part_bytes=1)
    written(tmp_path / "night2.jsonl", 20, part_bytes=1)

    frames = written(first, 5, part_bytes=10**6)

    assert list(Recording(first)) == frames
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "night.jsonl", "night2.jsonl", "night2.part-0002.jsonl",
    ]  # fmt: skip


def test_name_with_signs_of_a_pattern_finds_its_own_parts(tmp_path):
    for name in ("a[1].jsonl", "a1.jsonl"):
        frames = written(tmp_path / name, 30, part_bytes=1)

        assert list(Recording(tmp_path / name)) == frames
    assert len(later_parts(tmp_path / "a[1].jsonl")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_replay_of_parts_gives_the_digest_of_the_live_run(tmp_path, name):
    """The same frames in one file and in many: the same signals as the run that wrote them."""
    live = run_live(tmp_path / name, feed=simulated(seconds=30), speed=30)
    with RecordingWriter(
        tmp_path / f"many-{name}", header=recording_header(live.pipeline.engine), part_bytes=50_000
    ) as many:
        for each in Recording(tmp_path / name):
            many.write(each)

    assert many.part >= 3
    replayed = Replayed(tmp_path / f"many-{name}", "--json")
    assert replayed.last["digest"] == live.digest
    assert replayed.last["frames"] == live.pipeline.frames
    assert replayed.err == ""


# --- what is missing -----------------------------------------------------------------


def test_missing_part_is_named_and_its_connections_are_cut_off(tmp_path):
    first = tmp_path / "night.jsonl"
    frames = written(first, 40, part_bytes=1)
    part_path(first, 2).unlink()
    problems = Problems()

    found = list(Recording(first, problems=problems))

    assert sent(found) == frames[:10] + frames[20:]
    assert [(each.conn, each.req) for each in found[10:12]] == [(1, CLOSED), (2, CLOSED)]
    (problem,) = problems.drain()
    assert (problem.source, problem.reason) == ("recording", "missing_part")
    assert problem.subject == "night.part-0002.jsonl"
    assert problem.last_at == frames[9].t


def test_replay_says_which_part_is_missing_and_trusts_no_book_over_the_gap(tmp_path):
    first = tmp_path / "night.jsonl"
    pipeline = Pipeline(shipped_rules())
    with RecordingWriter(
        first, header=recording_header(pipeline.engine), part_bytes=200_000
    ) as writer:
        for each in simulated(seconds=30):
            writer.write(each)
    assert writer.part >= 3
    whole = Replayed(first, "--json").last
    part_path(first, 2).unlink()

    replayed = Replayed(first, "--json")

    assert replayed.code == 0
    assert "missing_part night.part-0002.jsonl" in replayed.err
    assert 0 < replayed.last["frames"] < whole["frames"]
    for each in Recording(first):
        pipeline.feed(each)
        if each.req == CLOSED:
            break
    assert pipeline.books.by_market
    assert not any(book.evaluable for book in pipeline.books.by_market.values())


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (b"", "bad_part"),
        (b"hello\n", "bad_part"),
        (b'{"mpx_recording": 1}\n', "bad_part"),
        (b'{"mpx_recording": 1, "part": 2}\n{"t": 5, "ch": "w', "truncated"),
    ],
    ids=["empty", "text", "another recording", "cut"],
)
def test_spoiled_part_costs_only_itself(tmp_path, left, reason):
    first = tmp_path / "night.jsonl"
    frames = written(first, 40, part_bytes=1)
    part_path(first, 2).write_bytes(left)
    problems = Problems()

    found = list(Recording(first, problems=problems))

    assert sent(found) == frames[:10] + frames[20:]
    (problem,) = problems.drain()
    assert (problem.reason, problem.subject) == (reason, "night.part-0002.jsonl")


def test_later_part_alone_is_said_to_be_no_beginning(tmp_path):
    first = tmp_path / "night.jsonl"
    frames = written(first, 40, part_bytes=1)
    recording = Recording(part_path(first, 3))

    assert list(recording) == frames[20:30]
    (problem,) = recording.problems.drain()
    assert problem.reason == "not_the_first"
    assert "night.part-0002.jsonl" in problem.detail


# --- a process that ends -------------------------------------------------------------

PREPARE = """
import django
django.setup()
from datetime import UTC, datetime
from django.core.management import call_command
from rules.load import publish_missing
call_command("migrate", verbosity=0)
publish_missing(at=datetime.now(UTC))
"""
TELL_EACH_FRAME = """
import os, sys
import django
django.setup()
from django.core.management import call_command
from signals.live import Live

take = Live.take
def told(live, frame):
    take(live, frame)
    os.write(2, b"%d\\n" % frame.t)
Live.take = told
call_command("record", "--out", sys.argv[1], "--source", "mock", "--part-mb", "0.02", "--json")
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a desk with its tables and rules."""
    home = tmp_path_factory.mktemp("home")
    environment = settings_for(home, DJANGO_SETTINGS_MODULE="mpx_site.settings")
    subprocess.run([sys.executable, "-c", PREPARE], env=environment, cwd=ROOT, check=True)
    return environment


class Recorder:
    """`record` in a process that says on its stderr, of each frame, that it took it."""

    def __init__(self, file: Path, env: dict[str, str]) -> None:
        self.file = file
        said = file.with_name("said")
        with said.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", TELL_EACH_FRAME, str(file)],
                env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=err,
            )  # fmt: skip
        self._said = said

    def __enter__(self) -> Self:
        third = part_path(self.file, 3)
        self.process.__enter__()
        try:
            wait_for(third.exists, seconds=40, what="the third part")
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.kill()
        self.process.__exit__(*error)

    def taken(self) -> list[int]:
        """Return the receive times of all frames that it took."""
        return [int(word) for word in self._said.read_bytes().split() if word.isdigit()]


def test_sigterm_loses_nothing(tmp_path, env):
    """`record` in small parts: all that it took and reported is in its files."""
    file = tmp_path / "night.jsonl.gz"
    with Recorder(file, env) as recorder:
        recorder.process.terminate()
        told = json.loads(recorder.process.communicate(timeout=20)[0])

    recording = Recording(file)
    kept = [each.t for each in recording]
    assert recorder.process.returncode == 0
    assert kept == recorder.taken()
    assert len(kept) == told["frames"] > 100
    assert (recording.truncated, recording.problems.total) == (False, 0)
    assert Replayed(file, "--json").last["digest"] == told["digest"]


def test_kill_loses_at_most_the_last_second(tmp_path, env):
    """Killed in the middle of a second, and of a part: only the newest frames are not kept."""
    file = tmp_path / "night.jsonl.gz"
    with Recorder(file, env) as recorder:
        time.sleep(1.3)
        recorder.process.kill()
        killed_at = time.time_ns()

    taken = recorder.taken()
    kept = [each.t for each in Recording(file)]
    safe = [t for t in taken if t <= killed_at - 10**9]
    assert len(taken) > 100
    assert taken[-1] > killed_at - 10**9  # it was at work
    assert kept == taken[: len(kept)]
    assert len(kept) >= len(safe) > 0


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "big"])
@pytest.mark.parametrize("command", [record, stream])
def test_size_of_a_part_must_be_a_number_above_zero(tmp_path, command, given):
    parser = command.Command().create_parser("manage.py", command.__name__.rpartition(".")[2])

    with pytest.raises(CommandError, match="--part-mb: must be a number above 0"):
        parser.parse_args(["--part-mb", given])
