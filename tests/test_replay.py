"""Replay: a recording gives the same signals as the live run, at any speed, whatever is left."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from msgspec.structs import replace

from markets.frames import Frame
from markets.recording import RecordingWriter
from signals.live import Live
from signals.pipeline import Pipeline
from signals.sources import Clock
from tests.live_cast import rule, run_live, simulated
from tests.servers import manage, settings_for


class Replayed:
    """What `replay` printed and how it ended."""

    def __init__(self, file: Path, *options: str) -> None:
        out, err = StringIO(), StringIO()
        self.code = 0
        try:
            call_command("replay", str(file), *options, stdout=out, stderr=err)
        except SystemExit as end:
            self.code = end.code
        self.lines, self.err = out.getvalue().splitlines(), err.getvalue()

    @property
    def last(self) -> dict[str, Any]:
        last: dict[str, Any] = json.loads(self.lines[-1])
        return last


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int]:
    """A recording of some live seconds, the digest of that run, and its frames."""
    file = tmp_path_factory.mktemp("recording") / "minute.jsonl"
    live = run_live(file)
    return file, live.digest, live.pipeline.frames


# --- the same signals ----------------------------------------------------------------


@pytest.mark.parametrize("speed", ["max", "50", "10"])
def test_replay_gives_the_digest_of_the_live_run(recorded, speed):
    file, digest, frames = recorded

    replayed = Replayed(file, "--json", "--speed", speed)

    changes = [json.loads(line) for line in replayed.lines[:-1]]
    opened = [change for change in changes if change["change"] == "opened"]
    assert replayed.code == 0
    assert replayed.last == {"digest": digest, "frames": frames, "signals": len(opened)}
    assert len(opened) > 5
    assert {change["change"] for change in changes} == {"opened", "updated", "closed"}


def test_each_signal_is_printed_with_its_finding(recorded):
    first = json.loads(Replayed(recorded[0], "--json").lines[0])

    assert first["change"] == "opened"
    assert len(first["id"]) == 32
    assert first["rule"] == "DUTCH_BOOK_DETECT"
    assert first["finding"]["verdict"] in ("EXECUTABLE", "THIN", "BLOCKED")


def test_for_people_one_line_says_each_change(recorded):
    file, digest, frames = recorded

    lines = Replayed(file).lines

    assert " opened  P" in lines[0]
    assert lines[-1] == f"{frames} frames, {Replayed(file, '--json').last['signals']} signals, " + (
        digest
    )


def test_compressed_recording_gives_the_same(recorded, tmp_path):
    file = tmp_path / "minute.jsonl.gz"
    live = run_live(file, feed=simulated(seconds=10), speed=40)

    assert live.pipeline.digest.changes
    assert Replayed(file, "--json").last["digest"] == live.digest


def until_found() -> list[Frame]:
    """Return frames of which the last completes what can be executed."""
    pipeline, taken = Pipeline([rule()]), []
    for frame in simulated():
        taken.append(frame)
        changes = pipeline.feed(frame).changes
        if any(each.finding.verdict == "EXECUTABLE" for each in changes):
            return taken
    raise AssertionError("nothing can be executed in this world")


class Silent:
    """Gives frames at once, and then nothing for a while."""

    def __init__(self, frames: list[Frame], clock: Clock, seconds: float) -> None:
        self.frames, self.clock, self.seconds = frames, clock, seconds

    async def run(self, take: Callable[[Frame], None]) -> None:
        for frame in self.frames:
            take(replace(frame, t=self.clock.now()))
        await asyncio.sleep(self.seconds)

    def confirm(self, event_id: str) -> None: ...

    def vital_signs(self) -> dict[str, object]:
        return {}


def test_what_became_p1_in_the_silence_at_the_end_does_so_in_a_replay(tmp_path):
    file, clock = tmp_path / "silent.jsonl", Clock()
    live = Live((rule(),), clock=clock, writer=None, recording=file)
    asyncio.run(live.run(Silent(until_found(), clock, seconds=0.8), stop=asyncio.Event()))

    replayed = Replayed(file, "--json")

    changes = [json.loads(line) for line in replayed.lines[:-1]]
    assert ("updated", "P1") in {(change["change"], change["level"]) for change in changes}
    assert [change["at"] for change in changes] == sorted(change["at"] for change in changes)
    assert replayed.last["digest"] == live.digest


def test_bad_frames_are_replayed_as_bad_as_they_came(tmp_path):
    def disturbed(rng: random.Random) -> Any:
        for frame in simulated(seconds=10):
            body = bytearray(frame.body)
            if rng.random() < 0.1:
                body[rng.randrange(len(body))] = rng.randrange(256)
            if rng.random() < 0.02:
                body = body[: rng.randrange(len(body))]
            yield Frame(frame.t, frame.ch, bytes(body), frame.conn, frame.req)

    file = tmp_path / "bad.jsonl"
    live = run_live(file, feed=disturbed(random.Random(1)), speed=40)

    replayed = Replayed(file, "--json")
    assert replayed.last["digest"] == live.digest
    assert "bad_frame" in replayed.err


# --- the rules that ran --------------------------------------------------------------


def test_rules_of_the_recording_are_used(tmp_path):
    """A desk that only told of two dollars and more; the shipped rule tells of half a dollar."""
    file = tmp_path / "strict.jsonl"
    strict = rule(min_profit_usd="2", kinds="[yes_basket]")
    live = run_live(file, rules=(strict,), feed=simulated(seconds=30), speed=40)

    replayed = Replayed(file, "--json")
    changes = [json.loads(line) for line in replayed.lines[:-1]]

    assert replayed.last["digest"] == live.digest
    assert {change["finding"]["kind"] for change in changes} == {"yes_basket"}
    assert min(float(c["finding"]["profit"]) for c in changes if c["level"] == "P1") >= 2


def test_recording_that_names_no_rules_is_replayed_with_the_shipped_ones(recorded, tmp_path):
    file = tmp_path / "foreign.jsonl"
    _, *lines = recorded[0].read_text().splitlines()
    file.write_text("\n".join(['{"mpx_recording": 1}', *lines, ""]))

    assert Replayed(file, "--json").last["digest"] == recorded[1]


# --- what is left of a recording -----------------------------------------------------


@pytest.mark.parametrize("cut", [0.2, 0.6])
def test_truncated_recording_replays_what_is_whole_and_says_so(recorded, tmp_path, cut):
    whole = recorded[0].read_bytes()
    place = whole.index(b"\n", int(len(whole) * cut)) - 20
    file, clean = tmp_path / "cut.jsonl", tmp_path / "clean.jsonl"
    file.write_bytes(whole[:place])
    clean.write_bytes(whole[: whole.rindex(b"\n", 0, place) + 1])

    replayed = Replayed(file, "--json")

    assert replayed.code == 0
    assert "truncated" in replayed.err
    assert replayed.last == Replayed(clean, "--json").last
    assert replayed.last["frames"] == whole[:place].count(b"\n") - 1


def test_bad_line_is_said_and_left_out(recorded, tmp_path):
    header, first, *rest = recorded[0].read_text().splitlines()
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join([header, first, '{"t": "noon"}', "no json", *rest, ""]))

    replayed = Replayed(file, "--json")

    assert replayed.last["digest"] == recorded[1]
    assert "bad_line" in replayed.err
    assert "(2 times)" in replayed.err


def test_recording_without_a_frame_has_no_signals(tmp_path):
    file = tmp_path / "empty.jsonl"
    RecordingWriter(file, header={}).close()

    assert Replayed(file, "--json").last | {"digest": ""} == {
        "digest": "",
        "frames": 0,
        "signals": 0,
    }


# --- how it ends ---------------------------------------------------------------------

NO_RECORDINGS = {
    "empty": b"",
    "text": b"hello\n",
    "json": b'{"some": "json"}\n',
    "future": b'{"mpx_recording": 2}\n',
    "rules": b'{"mpx_recording": 1, "rules": ["no: rule"]}\n',
    "zip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("name", NO_RECORDINGS)
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_what_is_no_recording_ends_with_4_and_its_name(tmp_path, name, suffix):
    file = tmp_path / f"{name}.{suffix}"
    file.write_bytes(NO_RECORDINGS[name])

    replayed = Replayed(file, "--json")

    assert (replayed.code, replayed.lines) == (4, [])
    assert str(file) in replayed.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere.jsonl"], 4, "nowhere.jsonl"),
        ([], 2, "file"),
        (["x.jsonl", "--speed", "0"], 2, "--speed"),
        (["x.jsonl", "--speed", "nan"], 2, "--speed"),
        (["x.jsonl", "--spede", "1"], 2, "--spede"),
    ],
    ids=str,
)
def test_exit_code_says_what_kind_of_failure_it_was(tmp_path, words, code, said):
    ended = manage("replay", *words, env=settings_for(tmp_path))

    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_replay_needs_and_leaves_no_database(recorded, tmp_path):
    file = shutil.copy(recorded[0], tmp_path / "minute.jsonl")
    home = tmp_path / "home"

    ended = manage("replay", str(file), "--json", env=settings_for(home))

    assert json.loads(ended.stdout.splitlines()[-1])["digest"] == recorded[1]
    assert not (home / "mpx.sqlite3").exists()
