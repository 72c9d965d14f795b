"""Kept spans as they are read: recordings that follow each other, oldest first."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markets.frames import Frame
from markets.problems import Problems
from markets.recording import NotARecording, Recording, later_parts

_NAME = re.compile(r"kept-(\d{16,20})-([0-9a-f]{8})-(\d{5,})\.jsonl\.gz")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One file: when it begins (unix ns), whose it is, and its number in that session."""

    start: int
    session: str
    number: int
    path: Path

    @classmethod
    def named(cls, path: Path) -> Span | None:
        """Read a file's name; None for a file that is no span."""
        match = _NAME.fullmatch(path.name)
        return cls(int(match[1]), match[2], int(match[3]), path) if match else None

    @classmethod
    def new(cls, folder: Path, *, start: int, session: str, number: int) -> Span:
        name = f"kept-{start:019d}-{session}-{number:05d}.jsonl.gz"
        return cls(start, session, number, folder / name)

    @property
    def ending_path(self) -> Path:
        """Where it is written how the span ended: its digest (`signals.kept.Ending`)."""
        return self.path.with_name(f"{_stem(self.path)}.ending.json")

    @property
    def checkpoint_path(self) -> Path:
        """Where the whole pipeline is kept as it was when the span began, if it is."""
        return self.path.with_name(f"{_stem(self.path)}.pipeline")

    def delete(self) -> None:
        """Delete it with what lies beside it."""
        for path in (self.path, self.ending_path, self.checkpoint_path):
            path.unlink(missing_ok=True)

    @property
    def end(self) -> int:
        """When it was last written to, unix ns; its beginning if it is gone."""
        try:
            return max(self.path.stat().st_mtime_ns, self.start)
        except FileNotFoundError:
            return self.start

    @property
    def size(self) -> int:
        """Bytes, with what lies beside it; 0 if it is gone."""
        paths = (self.path, self.ending_path, self.checkpoint_path)
        return sum(map(_size, paths)) if self.path.exists() else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _stem(path: Path) -> str:
    return path.name.removesuffix(".jsonl.gz")


def spans(folder: Path, *, since: int = 0) -> list[Span]:
    """Return the kept spans, oldest first; with `since` (unix ns) those that reach beyond it."""
    if not folder.is_dir():
        return []
    found = [span for path in folder.iterdir() if (span := Span.named(path))]
    return [span for span in sorted(found) if span.end > since]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is kept of a window, in unix ns. `covered` leaves out the gaps between spans."""

    since: int
    until: int
    covered: int
    spans: int
    size: int  # bytes


def coverage(folder: Path, *, since: int) -> Coverage | None:
    """Say how much there really is since a time; None for nothing."""
    found = spans(folder, since=since)
    if not found:
        return None
    ends = [span.end for span in found]
    covered, reached = 0, since
    for span, end in zip(found, ends, strict=True):
        covered += max(0, end - max(span.start, reached))
        reached = max(reached, end)
    first = max(found[0].start, since)
    return Coverage(first, max(ends), covered, len(found), sum(span.size for span in found))


@dataclass(frozen=True, slots=True)
class Beginning:
    """In a `Reading`: what follows begins anew, from nothing. `header` is its recording's."""

    header: dict[str, Any]


@dataclass(slots=True)
class Reading:
    """Recordings one after the other. Spans that continue each other give one stretch of frames.

    Iterating gives a `Beginning` and frames, for each stretch; none at all if
    nothing could be read. `share` says how much of the bytes has been read.
    """

    paths: tuple[Path, ...]
    problems: Problems = field(default_factory=Problems)
    total: int = 0  # bytes
    _past: int = 0  # bytes of the files before the one at hand
    _now: Recording | None = None

    def __post_init__(self) -> None:
        self.total = sum(map(_whole_size, self.paths))

    @property
    def share(self) -> float:
        """From 0 to 1."""
        under = self._now.bytes_read if self._now else 0
        return min((self._past + under) / max(self.total, 1), 1.0)

    def __iter__(self) -> Iterator[Frame | Beginning]:
        before: dict[str, Any] | None = None
        for path in self.paths:
            recording = self._opened(path)
            if recording is None:
                before = None
                continue
            kept = _kept(recording)
            continues = before is not None and _continues(kept, before)
            if not continues:
                yield Beginning(recording.header)
            whole = yield from self._frames(recording, kept["state_frames"] if continues else 0)
            self._past += recording.bytes_read
            self._now = None
            before = kept if whole else None

    def _frames(self, recording: Recording, leading: int) -> Generator[Frame, None, bool]:
        """Yield all frames but the first few, which tell what is known; return if it was whole."""
        try:
            for number, frame in enumerate(recording):
                if number >= leading:
                    yield frame
        except OSError as error:  # deleted before it was opened: it grew too old meanwhile
            self._note(recording.path, error)
            return False
        return not recording.truncated

    def _opened(self, path: Path) -> Recording | None:
        """Return a recording; None, and a note, if it was deleted or cannot be read."""
        try:
            self._now = Recording(path, problems=self.problems)
        except (OSError, NotARecording) as error:
            self._note(path, error)
            return None
        return self._now

    def _note(self, path: Path, error: Exception) -> None:
        self.problems.note("recording", "unreadable", at=0, subject=path.name, detail=str(error))


def _whole_size(path: Path) -> int:
    """Return the bytes of a recording with its parts; 0 if it is gone."""
    try:
        parts = () if Span.named(path) else later_parts(path).values()
        return sum(part.stat().st_size for part in (path, *parts))
    except FileNotFoundError:
        return 0


def kept_reading(found: Iterable[Span]) -> Reading:
    """Return the frames of spans, session after session."""
    firsts: dict[str, int] = {}
    for span in found:
        firsts[span.session] = min(span.start, firsts.get(span.session, span.start))
    ordered = sorted(found, key=lambda span: (firsts[span.session], span.session, span.number))
    return Reading(tuple(span.path for span in ordered))


def _kept(recording: Recording) -> dict[str, Any]:
    kept = recording.header.get("kept")
    return kept if isinstance(kept, dict) else {}


def _continues(kept: dict[str, Any], before: dict[str, Any]) -> bool:
    """Say whether nothing is missing between two spans, so that the second needs no state."""
    return (
        kept.get("follows") is True
        and kept.get("session") == before.get("session")
        and kept.get("number") == before.get("number", 0) + 1
    )
