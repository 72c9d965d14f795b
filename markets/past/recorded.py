"""A recording, or what is kept of the last hours, as a past."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from markets.frames import Frame
from markets.past.known import begun_at
from markets.past.spans import Beginning, Span, kept_reading, spans
from markets.past.value import NotAPast, Past, covered, merged
from markets.past.window import Window, window_of
from markets.recording import NotARecording, Recording, cut_off, follow, later_parts

CHUNK = 1024 * 1024
NOT_KEPT = b"nothing was kept here"


def past_of_recording(path: Path) -> Past:
    """Read a recording through once and return it; raise `NotAPast` if it is none."""
    files = _files(path)
    window = window_of(_frames(path))
    if not window.frames:
        raise NotAPast("holds no frame", str(path))

    def read(since: int | None, until: int | None) -> Iterator[Frame]:
        return begun_at(_frames(path), since, until)

    gaps = window.gaps()
    return Past(
        name=path.name,
        sha256=sha256_of(files),
        since=window.since,
        until=window.until,
        covered=covered(gaps, since=window.since, until=window.until),
        gaps=gaps,
        kind="books",
        read=read,
    )


def past_of_kept(folder: Path, since: int, until: int) -> Past:
    """Return what is kept of a window (unix ns); raise `NotAPast` if that is nothing."""
    found = tuple(span for span in spans(folder, since=since) if span.start < until)
    window = Window()
    for frame in _stretches(found):
        if frame.t >= until:
            break
        window.show(frame)
    if not window.frames or window.until < since:
        raise NotAPast("nothing is kept of that time", str(folder))

    def read(first: int | None, end: int | None) -> Iterator[Frame]:
        last = until if end is None else min(end, until)
        return begun_at(_stretches(found), since if first is None else max(first, since), last)

    begin, end = max(window.since, since), min(window.until, until)
    gaps = merged(window.gaps(), since=begin, until=end)
    return Past(
        name=f"{len(found)} kept spans in {folder.name}",
        sha256=sha256_of([span.path for span in found]),
        since=begin,
        until=end,
        covered=covered(gaps, since=begin, until=end),
        gaps=gaps,
        kind="books",
        read=read,
    )


def sha256_of(files: Iterable[Path]) -> str:
    """Hash the content of files in their order; one that is gone counts as empty."""
    told = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    told.update(chunk)
        except FileNotFoundError:  # grew too old meanwhile
            continue
    return told.hexdigest()


def _files(path: Path) -> list[Path]:
    try:
        return [path, *later_parts(path).values()]
    except OSError as error:
        raise NotAPast(str(error), str(path)) from None


def _frames(path: Path) -> Iterator[Frame]:
    try:
        yield from Recording(path)
    except (OSError, NotARecording) as error:
        raise NotAPast(str(error), str(path)) from None


def _stretches(found: tuple[Span, ...]) -> Iterator[Frame]:
    """Yield the frames of spans; where nothing continues, connections are told as cut."""
    following: set[int] = set()
    last = 0
    for item in kept_reading(found):
        if isinstance(item, Beginning):
            yield from cut_off(following, last, why=NOT_KEPT)
            continue
        follow(following, item)
        last = max(last, item.t)
        yield item
