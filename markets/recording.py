"""Recordings: raw frames with their receive times, one JSON object a line.

The first line is a header `{"mpx_recording": 1, ...}`; each other line is
`{"t", "ch", "conn", "req", "body"}` (DESIGN section 5). A file that ends in
`.gz` is compressed in members, so that a cut loses at most the last one.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self

import msgspec

from markets.frames import Channel, Frame
from markets.problems import Problems

FORMAT = 1
MEMBER_LINES = 2_000  # lines per gzip member
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


class RecordingWriter:
    """Appends frames to a file; `close` (or leaving the `with`) writes the tail."""

    def __init__(self, path: Path, *, header: dict[str, Any]) -> None:
        self.path = path
        self.frames = 0
        self._file = path.open("wb")
        self._zipped = path.suffix == ".gz"
        self._lines: list[bytes] = [json.dumps({"mpx_recording": FORMAT, **header}).encode()]
        self.flush()

    def write(self, frame: Frame) -> None:
        self._lines.append(_written(frame))
        self.frames += 1
        if len(self._lines) >= MEMBER_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand what was written so far to the operating system."""
        if self._lines:
            data = b"\n".join(self._lines) + b"\n"
            self._file.write(gzip.compress(data, 6, mtime=0) if self._zipped else data)
            self._lines = []
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
    """A recorded file. Iterating gives its frames; bad lines are noted and skipped."""

    def __init__(self, path: Path, *, problems: Problems | None = None) -> None:
        self.path = path
        self.problems = problems or Problems()
        self.truncated = False
        self.header = self._read_header()

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        last = 0
        for number, line in enumerate(self._lines(), start=1):
            if number == 1 or not line.strip():
                continue
            try:
                frame = _read(line)
            except (ValueError, RecursionError) as error:  # whatever is wrong with its text
                self._note("bad_line", last, f"line {number}: {error}", line)
                continue
            last = frame.t
            yield frame
        if self.truncated:
            self._note("truncated", last, f"the file ends inside line {number + 1}", b"")

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                for line in file:
                    if line.endswith(b"\n") or _is_object(line):
                        yield line
                    else:
                        self.truncated = True
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.truncated = True

    def _open(self) -> IO[bytes]:
        if self.path.suffix == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")

    def _read_header(self) -> dict[str, Any]:
        first = next(self._lines(), b"")
        self.truncated = False
        try:
            header = json.loads(first)
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict) or header.get("mpx_recording") != FORMAT:
            raise NotARecording(f"{self.path}: the first line is not a recording header")
        return header

    def _note(self, reason: str, at: int, detail: str, line: bytes) -> None:
        self.problems.note(
            "recording", reason, at=at, subject=self.path.name, detail=detail, sample=line
        )
