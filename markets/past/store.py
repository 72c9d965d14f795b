"""Writing a columnar store: a day at a time, whole or not at all."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from markets.frames import Frame
from markets.past.columns import FILE_OF, LISTING, ColumnWriter, DayTold, Price, Row, rows_of
from markets.past.known import Known
from markets.past.parquet import DAY_NS, PREFIX, Day, day_of, days, start_of
from markets.past.tops import Top
from markets.past.value import Gap, Kind, merged


@dataclass(frozen=True, slots=True)
class Source:
    """What days are written from: its name for people and the hash of its content.

    `gaps` is asked when a day has been read, for some are only found by reading.
    """

    name: str
    sha256: str
    gaps: Callable[[], Iterable[Gap]] = tuple


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one day: `rows` without those that repeat what was known before."""

    day: date
    rows: int
    bytes: int
    skipped: bool = False  # it is there already, from the same source


def write_tops(
    folder: Path,
    pages: Iterable[Frame],
    rows: Iterable[Top | Price | Frame],
    *,
    kind: Kind,
    source: Source,
) -> Iterator[Written]:
    """Write tops or prices with their listings; yield each day when it is in its place.

    Listings may as well come among the rows.
    """
    streams: list[Iterable[Top | Price | Frame]] = [pages, rows]
    yield from _write(folder, heapq.merge(*streams, key=_time), kind, source, _KnownTops())


def write_frames(folder: Path, frames: Iterable[Frame], *, source: Source) -> Iterator[Written]:
    """Write the frames of a recording as they are: full depth, replayable."""
    yield from _write(folder, frames, "books", source, _KnownFrames())


def _time(row: Row) -> int:
    return row.t


class _KnownTops:
    """What is known at a moment of tops: the last listing of each event, the last row of each."""

    def __init__(self) -> None:
        self._pages: dict[str | None, Frame] = {}
        self._rows: dict[str, Top | Price] = {}

    def take(self, row: Row) -> None:
        if isinstance(row, Frame):
            self._pages[row.req] = row
        elif isinstance(row, Top) and row.unknown:
            self._rows.pop(row.market_id, None)
        else:
            self._rows[row.market_id] = row

    def at(self, t: int) -> Iterator[Row]:
        for page in self._pages.values():
            yield Frame(t, page.ch, page.body, page.conn, page.req)
        for row in self._rows.values():
            yield row._replace(t=t)


class _KnownFrames:
    def __init__(self) -> None:
        self._known = Known()

    def take(self, row: Row) -> None:
        if isinstance(row, Frame):
            self._known.take(row)

    def at(self, t: int) -> Iterator[Row]:
        return iter(self._known.at(t))


def _write(
    folder: Path,
    rows: Iterable[Row],
    kind: Kind,
    source: Source,
    known: _KnownTops | _KnownFrames,
) -> Iterator[Written]:
    folder.mkdir(parents=True, exist_ok=True)
    _clear_left_behind(folder)
    there = {day.day: day for day in days(folder)}
    writing: _Writing | None = None
    try:
        for row in rows:
            if writing is None or row.t >= writing.end:
                if writing is not None:
                    yield writing.finish(source)
                day = day_of(row.t)
                if writing is None:
                    _recall(known, there.get(day - timedelta(days=1)), source)
                writing = _Writing(folder, day, kind, there.get(day))
                writing.carry(known.at(writing.start))
            known.take(row)
            writing.take(row)
        if writing is not None:
            last, writing = writing, None
            yield last.finish(source)
    finally:
        if writing is not None:
            writing.give_up()


def _recall(known: _KnownTops | _KnownFrames, before: Day | None, source: Source) -> None:
    """Take over what was known when the day before ended, if it is of the same source."""
    if before is not None and before.told.source == source.name:
        for page in before.listing():
            known.take(page)
        for row in rows_of(before.path):
            known.take(row)


class _Writing:
    """One day on its way: into a folder beside its own, which is then put in its place."""

    def __init__(self, folder: Path, day: date, kind: Kind, there: Day | None) -> None:
        self.day, self.kind = day, kind
        self.start = start_of(day)
        self.end = self.start + DAY_NS
        self._there = there
        self._place = folder / f"{PREFIX}{day}"
        self._temporary = folder / f".{PREFIX}{day}.{os.getpid()}"
        self._temporary.mkdir()
        name = FILE_OF[kind]
        self._main = ColumnWriter(self._temporary / name, name)
        self._listing = (
            None if kind == "books" else ColumnWriter(self._temporary / LISTING, LISTING)
        )
        self._carried = 0
        self._since = self._until = 0

    def carry(self, rows: Iterable[Row]) -> None:
        """Begin with what was known at midnight, so that the day can be read alone."""
        for row in rows:
            self._carried += self._put(row)

    def take(self, row: Row) -> None:
        self._since = self._since or row.t
        self._until = row.t
        self._put(row)

    def _put(self, row: Row) -> int:
        if self._listing is not None and isinstance(row, Frame):
            self._listing.write(row)
            return 0
        self._main.write(row)
        return 1

    def finish(self, source: Source) -> Written:
        if self._listing is not None:
            self._listing.close()
        carried = self.start if self._carried else self._since
        told = DayTold(
            source=source.name,
            source_sha256=source.sha256,
            rows=0,
            carried=self._carried,
            since=min(carried, self._since),
            until=self._until,
            gaps=merged(source.gaps(), since=self.start, until=self.end),
            sha256="",
        )
        digest = self._main.close(told)
        rows = self._main.rows - self._carried
        if self._there is not None and _same(self._there.told, told, digest):
            size = self._there.bytes
            self.give_up()
            return Written(self.day, rows, size, skipped=True)
        self._put_in_place()
        size = sum(path.stat().st_size for path in self._place.iterdir())
        return Written(self.day, rows, size)

    def _put_in_place(self) -> None:
        for path in self._temporary.iterdir():
            _to_disk(path)
        before = self._temporary.with_name(self._temporary.name + ".before")
        if self._place.exists():
            self._place.rename(before)
        self._temporary.rename(self._place)
        _to_disk(self._place.parent)
        shutil.rmtree(before, ignore_errors=True)

    def give_up(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)


def _same(there: DayTold, told: DayTold, digest: str) -> bool:
    return (there.sha256, there.gaps, there.source) == (digest, told.gaps, told.source)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear_left_behind(folder: Path) -> None:
    """Put back a day that was being replaced when its process died; delete what is half written."""
    for path in sorted(folder.glob(f".{PREFIX}*")):
        place = folder / path.name.split(".")[1]
        if path.name.endswith(".before") and not place.exists():
            path.rename(place)
        elif not _is_alive(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(path: Path) -> bool:
    """Say whether the process whose number is in a temporary folder's name still runs."""
    try:
        os.kill(int(path.name.split(".")[2]), 0)
    except (IndexError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def prune(folder: Path, *, before: date) -> int:
    """Delete the days before one; return how many."""
    old = [day for day in days(folder) if day.day < before]
    for day in old:
        shutil.rmtree(day.folder)
    return len(old)
