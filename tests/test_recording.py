"""Recordings: what was written is read again, and what was cut or spoiled costs only itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markets.frames import Frame
from markets.problems import Problems
from markets.recording import MEMBER_LINES, NotARecording, Recording, RecordingWriter

NAMES = ("a.jsonl", "a.jsonl.gz")
MOMENT = 1_780_000_000_000_000_000

bodies = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode())
    | st.sampled_from(
        [
            b"",
            b"\n",
            b'{"a": "\\ud800"}',
            b"\r\n\xff\xfe",
            b"\xed\xa0\x80",
            b'"\\udcff"',
            b"\x00\x1f",
        ]
    )
)
frames = st.builds(
    Frame,
    t=st.integers(0, 2**63 - 1),
    ch=st.sampled_from(["ws", "clob", "gamma"]),
    body=bodies,
    conn=st.none() | st.integers(0, 50),
    req=st.none() | st.text(max_size=20),
)


def written(path: Path, recorded: list[Frame], **header: Any) -> Path:
    with RecordingWriter(path, header=header) as writer:
        for frame in recorded:
            writer.write(frame)
    return path


def read(path: Path) -> tuple[list[Frame], Recording]:
    recording = Recording(path)
    return list(recording), recording


def frame(number: int, body: bytes = b"{}") -> Frame:
    return Frame(MOMENT + number, "ws", body, 1)


# --- what was written is read ---------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recorded=st.lists(frames, max_size=8))
def test_every_frame_comes_back_exactly(tmp_path: Path, name: str, recorded: list[Frame]) -> None:
    found, recording = read(written(tmp_path / name, recorded))

    assert found == recorded
    assert not recording.truncated
    assert recording.problems.total == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_header_comes_back(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, [], rules=["über"], seed=7)

    assert Recording(path).header == {"mpx_recording": 1, "rules": ["über"], "seed": 7}


def test_a_recording_is_lines_of_json_that_anything_can_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [Frame(5, "clob", b'{"a": 1}', None, "/book?token_id=1")])

    header, line = map(json.loads, path.read_text().splitlines())

    assert header["mpx_recording"] == 1
    assert line == {
        "t": 5,
        "ch": "clob",
        "conn": None,
        "req": "/book?token_id=1",
        "body": '{"a": 1}',
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_can_be_read_twice_and_while_it_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with RecordingWriter(path, header={}) as writer:
        writer.write(frame(1))
        writer.flush()
        recording = Recording(path)
        assert [each.t - MOMENT for each in recording] == [1]
        writer.write(frame(2))
        writer.flush()
        assert [each.t - MOMENT for each in recording] == [1, 2]
        assert writer.frames == 2


def test_long_recordings_are_compressed_in_parts(tmp_path: Path) -> None:
    recorded = [frame(number) for number in range(MEMBER_LINES * 2)]
    path = written(tmp_path / "a.jsonl.gz", recorded)
    data = path.read_bytes()

    path.write_bytes(data[:-20])
    found, recording = read(path)

    assert recording.truncated
    assert len(found) >= MEMBER_LINES  # the part that was cut is all that can be lost
    assert found == recorded[: len(found)]


# --- what was cut ---------------------------------------------------------

FEW = [frame(1, b'{"a": 1}'), frame(2, "é€".encode()), frame(3, b"\xff\xfe"), frame(4, b"")]


def test_a_file_cut_at_any_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", FEW)
    data = path.read_bytes()
    ends = [at for at, byte in enumerate(data) if byte == 0x0A]

    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)  # its line break itself may be missing
        if whole == 0:
            with pytest.raises(NotARecording):
                Recording(path)
            continue
        problems = Problems()
        recording = Recording(path, problems=problems)
        assert list(recording) == FEW[: whole - 1], cut
        assert recording.truncated is (cut not in {*ends, *(end + 1 for end in ends)}), cut
        assert problems.counts() == ({"truncated": 1} if recording.truncated else {}), cut


def test_a_compressed_file_cut_at_any_byte_keeps_every_whole_part(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    ends = []
    with RecordingWriter(path, header={}) as writer:
        ends.append(path.stat().st_size)
        for each in FEW:
            writer.write(each)
            writer.flush()
            ends.append(path.stat().st_size)
    data = path.read_bytes()

    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        try:
            found, recording = read(path)
        except NotARecording:
            assert cut < ends[0]
            continue
        whole = sum(end <= cut for end in ends[1:])
        assert found[:whole] == FEW[:whole], cut
        assert found == FEW[: len(found)], cut
        assert recording.truncated is (cut not in ends) or len(found) == len(FEW), cut


@pytest.mark.parametrize("name", NAMES)
def test_the_cut_is_said_with_its_line(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, FEW)
    data = path.read_bytes()
    path.write_bytes(data[:-12])
    problems = Problems()

    found = list(Recording(path, problems=problems))

    (problem,) = problems.drain()
    assert (problem.source, problem.reason, problem.subject) == ("recording", "truncated", name)
    assert problem.detail == f"the file ends inside line {len(found) + 2}"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_a_spoiled_file_never_stops_the_reader(tmp_path: Path, data: Any, name: str) -> None:
    path = written(tmp_path / name, FEW)
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(body)

    try:
        for each in Recording(path):
            assert 0 <= each.t < 2**63
    except NotARecording:
        pass


# --- what is no line ------------------------------------------------------

GOOD_LINE = b'{"t": 7, "ch": "ws", "body": "{}"}'
BAD_LINES = {
    "text": b"hello",
    "half an object": b'{"t": 7, "ch": "ws"',
    "no body": b'{"t": 7, "ch": "ws"}',
    "another channel": b'{"t": 7, "ch": "radio", "body": ""}',
    "time as text": b'{"t": "7", "ch": "ws", "body": ""}',
    "time before 1970": b'{"t": -1, "ch": "ws", "body": ""}',
    "time after 2262": b'{"t": 9223372036854775808, "ch": "ws", "body": ""}',
    "time of no end": b'{"t": 1e400, "ch": "ws", "body": ""}',
    "connection as text": b'{"t": 7, "ch": "ws", "conn": "1", "body": ""}',
    "a list": b"[1, 2]",
    "not UTF-8": b'{"t": 7, "ch": "ws", "body": "\xff"}',
    "deep": b'{"t": 7, "ch": "ws", "body": "", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "binary": bytes(set(range(256)) - {0x0A}),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_counted_with_its_number_and_skipped(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"mpx_recording": 1}\n\n' + BAD_LINES[name] + b"\n" + GOOD_LINE + b"\n")
    problems = Problems()

    found = list(Recording(path, problems=problems))

    assert [each.t for each in found] == [7]
    (problem,) = problems.drain()
    assert (problem.reason, problem.count) == ("bad_line", 1)
    assert problem.detail.startswith("line 3: ")
    assert problem.sample


def test_fields_that_a_later_version_adds_are_let_through(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"mpx_recording": 1}\n{"t": 7, "ch": "ws", "body": "x", "seq": 5}\n')

    assert read(path)[0] == [Frame(7, "ws", b"x")]


# --- what is no recording -------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"hello\n",
        b'{"t": 7, "ch": "ws", "body": ""}\n',
        b'{"mpx_recording": 2}\n',
        b'{"mpx_recording": "1"}\n',
        b"[1]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"\x1f\x8b\x08",
        bytes(range(256)) * 10,
    ],
)
def test_another_file_is_no_recording(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(NotARecording, match=name):
        Recording(path)

    path.write_bytes(gzip.compress(data))
    with pytest.raises(NotARecording, match=name):
        Recording(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "none.jsonl")
