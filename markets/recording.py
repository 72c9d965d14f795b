"""Recordings: raw frames with their receive times, one JSON object a line.

The first line is a header `{"mpx_recording": 1, ...}`; each other line is
`{"t", "ch", "conn", "req", "body"}` (DESIGN section 5). A file that ends in
`.gz` is compressed in members, so that a cut loses at most the last one.

A long recording goes on in further files: `night.jsonl.gz`, then
`night.part-0002.jsonl.gz` and so on. Each of these has the header of the first
and says which `part` it is and which file it `continues`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import msgspec

from markets.frames import CLOSED, OPENED, Channel, Frame
from markets.problems import Problems

FORMAT = 1
MEMBER_LINES = 2_000  # lines per gzip member
PART_BYTES = 256 * 1024 * 1024  # as written, so compressed where it is
_ENDINGS = (".jsonl.gz", ".jsonl")
MISSING_PART = b"a part of the recording is missing"
_HALF = b"\\udc"  # how half characters begin that stand for bytes that are not UTF-8
_Moment = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # unix ns, up to the year 2262


class NotARecording(Exception):
    """The file has no readable recording header."""


class _Line(msgspec.Struct, frozen=True, gc=False):
    t: _Moment
    ch: Channel
    body: str
    conn: int | None = None
    req: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_encode_line = msgspec.json.Encoder().encode


def _written(frame: Frame) -> bytes:
    """Return a frame as its line.

    Bytes that are not UTF-8 become half characters (`\\udc80` and up), so that
    a body comes back as it was and a replay judges it as the live path did.
    """
    text = frame.body.decode(errors="surrogateescape")
    line = _Line(frame.t, frame.ch, text, frame.conn, frame.req)
    try:
        return _encode_line(line)
    except UnicodeEncodeError:
        return json.dumps(msgspec.structs.asdict(line)).encode()


def _read(line: bytes) -> Frame:
    """Return the frame of a line; raise `ValueError` or `RecursionError` if it is none."""
    try:
        row = _decode_line(line)
    except msgspec.DecodeError:
        if _HALF not in line:
            raise
        row = msgspec.convert(json.loads(line), _Line)
    return Frame(row.t, row.ch, row.body.encode(errors="surrogateescape"), row.conn, row.req)


def _is_object(line: bytes) -> bool:
    """Say whether a last line lacks nothing but its line break."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def part_path(first: Path, number: int) -> Path:
    """Return where a part of a recording lies; part 1 is the file it is named by."""
    if number == 1:
        return first
    ending = _ending(first)
    stem = first.name.removesuffix(ending)
    return first.with_name(f"{stem}.part-{number:04d}{ending}")


def later_parts(first: Path) -> dict[int, Path]:
    """Return the files that go on with a recording, by their number."""
    ending = _ending(first)
    stem = first.name.removesuffix(ending)
    named = re.compile(rf"{re.escape(stem)}\.part-([0-9]{{4,}}){re.escape(ending)}")
    found = ((named.fullmatch(path.name), path) for path in first.parent.iterdir())
    numbered = {int(match[1]): path for match, path in found if match}
    return {number: numbered[number] for number in sorted(numbered) if number > 1}


def _ending(path: Path) -> str:
    return next((each for each in _ENDINGS if path.name.endswith(each)), path.suffix)


class RecordingWriter:
    """Appends frames to a file; `close` (or leaving the `with`) writes the tail.

    A file that has reached `part_bytes` is closed and the next part begun. What
    a recording of this name left before, its parts too, is written over.
    """

    def __init__(self, path: Path, *, header: dict[str, Any], part_bytes: int = PART_BYTES) -> None:
        self.path = path
        self.frames = 0
        self.part = 1
        self._header = {"mpx_recording": FORMAT, **header}
        self._part_bytes = part_bytes
        self._zipped = path.suffix == ".gz"
        self._lines: list[bytes] = []
        self._bytes = 0
        for old in later_parts(path).values():
            old.unlink()
        self._begin(self._header)

    def write(self, frame: Frame) -> None:
        self._lines.append(_written(frame))
        self.frames += 1
        if len(self._lines) >= MEMBER_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand what was written so far to the operating system."""
        if not self._lines:
            return
        if self._bytes >= self._part_bytes:
            self._next_part()
        self._put(self._lines)
        self._lines = []

    def _next_part(self) -> None:
        before = part_path(self.path, self.part).name
        self._file.close()
        self.part += 1
        self._begin({**self._header, "part": self.part, "continues": before})

    def _begin(self, header: dict[str, Any]) -> None:
        self._file = part_path(self.path, self.part).open("wb")
        self._put([json.dumps(header).encode()])
        self._bytes = 0  # of frames: no part is without any

    def _put(self, lines: list[bytes]) -> None:
        data = b"\n".join(lines) + b"\n"
        self._bytes += self._file.write(gzip.compress(data, 6, mtime=0) if self._zipped else data)
        self._file.flush()

    def close(self) -> None:
        self.flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Recording:
    """A recorded file with the parts that go on with it.

    Iterating gives their frames. Bad lines, and parts that are missing or cut,
    are noted and skipped; after such a gap the connections are told as closed,
    since what they sent in it is not known. `truncated` says of the last pass
    whether any file was cut.
    """

    def __init__(self, path: Path, *, problems: Problems | None = None) -> None:
        self.path = path
        self.problems = problems or Problems()
        self.truncated = False
        self.header = _header(path)
        self._under: _File | None = None
        self._past = 0  # bytes of the parts before the one at hand

    @property
    def bytes_read(self) -> int:
        """How far the last pass has come, in bytes of the files."""
        return self._past + (self._under.position if self._under else 0)

    def __iter__(self) -> Iterator[Frame]:
        self.truncated = False
        self._past, self._under = 0, None
        parts = {1: self.path, **self._later()}
        following: set[int] = set()  # connections
        last = 0
        whole = True
        for number in range(1, max(parts) + 1):
            if not whole:
                yield from cut_off(following, last)
            whole = False
            file = self._part(number, parts.get(number), last)
            self._past, self._under = self.bytes_read, file
            for frame in file or ():
                last = frame.t
                follow(following, frame)
                yield frame
            whole = file is not None and not file.truncated
            self.truncated |= file is not None and file.truncated

    def _later(self) -> dict[int, Path]:
        """Return the parts after this file; a later part is read for itself alone."""
        before = self.header.get("continues")
        if before is None:
            return later_parts(self.path)
        self._note("not_the_first", 0, self.path, f"it continues {before}")
        return {}

    def _part(self, number: int, path: Path | None, last: int) -> _File | None:
        """Open one part; None, and a note, if there is nothing to be read."""
        if path is None:
            path = part_path(self.path, number)
            self._note("missing_part", last, path, f"part {number} is not there")
            return None
        try:
            header = self.header if number == 1 else _header(path)
        except NotARecording as error:
            self._note("bad_part", last, path, str(error))
            return None
        if number > 1 and header.get("part") != number:
            self._note("bad_part", last, path, f"its header does not say that it is part {number}")
            return None
        return _File(path, self.problems, last)

    def _note(self, reason: str, at: int, path: Path, detail: str) -> None:
        self.problems.note("recording", reason, at=at, subject=path.name, detail=detail)


def follow(following: set[int], frame: Frame) -> None:
    """Keep which connections are open."""
    if frame.ch != "ws" or frame.conn is None:
        return
    if frame.req == CLOSED:
        following.discard(frame.conn)
    elif frame.req in (None, OPENED):
        following.add(frame.conn)


def cut_off(following: set[int], at: int, *, why: bytes = MISSING_PART) -> Iterator[Frame]:
    """Say that connections broke: what they sent is lost, so their books are not known now."""
    for conn in sorted(following):
        yield Frame(at, "ws", why, conn, CLOSED)
    following.clear()


class _File:
    """One file of a recording. Iterating gives its frames."""

    def __init__(self, path: Path, problems: Problems, last: int) -> None:
        self.path = path
        self.problems = problems
        self.truncated = False
        self._raw: IO[bytes] | None = None
        self._last = last  # time of the frame before, unix ns

    @property
    def position(self) -> int:
        """Bytes read of the file so far."""
        if self._raw is None:
            return 0
        return self.path.stat().st_size if self._raw.closed else self._raw.tell()

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        for number, line in enumerate(self.lines(), start=1):
            if number == 1 or not line.strip():
                continue
            try:
                frame = _read(line)
            except (ValueError, RecursionError) as error:  # whatever is wrong with its text
                self._note("bad_line", f"line {number}: {error}", line)
                continue
            self._last = frame.t
            yield frame
        if self.truncated:
            self._note("truncated", f"the file ends inside line {number + 1}", b"")

    def lines(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as raw, _unpacked(self.path, raw) as file:
                self._raw = raw
                for line in file:
                    if line.endswith(b"\n") or _is_object(line):
                        yield line
                    else:
                        self.truncated = True
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.truncated = True

    def _note(self, reason: str, detail: str, line: bytes) -> None:
        self.problems.note(
            "recording", reason, at=self._last, subject=self.path.name, detail=detail, sample=line
        )


def _unpacked(path: Path, raw: IO[bytes]) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(raw, "rb")  # type: ignore[return-value]
    return raw


def _header(path: Path) -> dict[str, Any]:
    """Return the first line of a file; raise `NotARecording` if it is no header."""
    first = next(_File(path, Problems(), 0).lines(), b"")
    try:
        header = json.loads(first)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("mpx_recording") != FORMAT:
        raise NotARecording(f"{path}: the first line is not a recording header")
    return header
