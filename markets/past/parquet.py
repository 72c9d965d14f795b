"""A columnar store as a past: the days in a folder, read one row group at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from markets.frames import Frame, unix_ns
from markets.listing import BadListing, decode_page, read_page
from markets.past.columns import FILE_OF, LISTING, DayTold, Price, rows_of, told_of
from markets.past.known import begun_at
from markets.past.tops import NOMINAL, Top, told_frames
from markets.past.value import Gap, Kind, NotAPast, Past, covered, merged

PREFIX = "day="
DAY_NS = 86_400_000_000_000
NAMES: tuple[tuple[Kind, str], ...] = tuple(FILE_OF.items())


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """One day of a store: its folder, what is in it, and what its file says of itself."""

    day: date
    folder: Path
    kind: Kind
    told: DayTold

    @property
    def path(self) -> Path:
        return self.folder / FILE_OF[self.kind]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def listing(self) -> Iterator[Frame]:
        path = self.folder / LISTING
        if path.exists():
            yield from (row for row in rows_of(path) if isinstance(row, Frame))


def start_of(day: date) -> int:
    """Return the first moment of a UTC day in unix ns."""
    return unix_ns(datetime(day.year, day.month, day.day, tzinfo=UTC))


def day_of(t: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=t // DAY_NS)).date()


def days(folder: Path) -> list[Day]:
    """Return the days of a store, oldest first; raise `NotAPast` for one that cannot be read."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            day = date.fromisoformat(path.name.removeprefix(PREFIX))
        except ValueError:
            continue
        kind = next((kind for kind, name in NAMES if (path / name).exists()), None)
        if kind is None:
            raise NotAPast("holds no file of this product", str(path))
        found.append(Day(day, path, kind, told_of(path / FILE_OF[kind])))
    return found


def past_of_days(folder: Path, since: int, until: int) -> Past:
    """Return a window (unix ns) of a store; raise `NotAPast` if it has none of it."""
    found = [day for day in days(folder) if day.told.until >= since and day.told.since < until]
    if not found:
        raise NotAPast("holds no day of that time", str(folder))
    kinds = {day.kind for day in found}
    if len(kinds) > 1:
        raise NotAPast(f"mixes {' and '.join(sorted(kinds))}", str(folder))
    begin = max(found[0].told.since, since)
    end = min(max(day.told.until for day in found), until)
    gaps = merged(gaps_of(found), since=begin, until=end)
    return Past(
        name=f"{folder.name}, {_days_text(found)}",
        sha256=_sha256(found),
        since=begin,
        until=end,
        covered=covered(gaps, since=begin, until=end),
        gaps=gaps,
        kind=found[0].kind,
        read=_Reader(tuple(found), gaps_of(found), begin, until).read,
    )


def gaps_of(found: list[Day]) -> tuple[Gap, ...]:
    """Return what the days say is missing, and the time between them."""
    told = [gap for day in found for gap in day.told.gaps]
    for before, after in pairwise(found):
        next_day = start_of(before.day) + DAY_NS
        if after.day > day_of(next_day):
            told.append(Gap(before.told.until, after.told.since, "no day of that time"))
    return tuple(sorted(told))


def _days_text(found: list[Day]) -> str:
    first, last = found[0].day, found[-1].day
    return f"{first}" if first == last else f"{first} to {last}"


def _sha256(found: list[Day]) -> str:
    told = hashlib.sha256()
    for day in found:
        told.update(f"{day.day} {day.kind} {day.told.sha256}\n".encode())
    return told.hexdigest()


@dataclass(frozen=True, slots=True)
class _Reader:
    found: tuple[Day, ...]
    gaps: tuple[Gap, ...]
    since: int
    until: int

    def read(self, since: int | None, until: int | None) -> Iterator[Frame]:
        first = self.since if since is None else max(since, self.since)
        last = self.until if until is None else min(until, self.until)
        used = [day for day in self.found if day.told.since < last and day.told.until >= first]
        starts = first if used and first > used[0].told.since else None
        if used and used[0].kind == "books":
            return begun_at(_own(used), starts, last)
        pages = list(_listing(used))
        return told_frames(
            pages, _tops(used), self.gaps, ids=ids_of(pages), since=starts, until=last
        )


def _carried_on(before: Day | None, day: Day) -> bool:
    """Say whether a day goes on where the one before ended: its beginning says nothing new."""
    return before is not None and before.day + timedelta(days=1) == day.day


def _rows(used: list[Day]) -> Iterator[Top | Price | Frame]:
    before: Day | None = None
    for day in used:
        skip = day.told.carried if _carried_on(before, day) else 0
        for number, row in enumerate(rows_of(day.path)):
            if number >= skip:
                yield row
        before = day


def _own(used: list[Day]) -> Iterator[Frame]:
    return (row for row in _rows(used) if isinstance(row, Frame))


def _tops(used: list[Day]) -> Iterator[Top]:
    for row in _rows(used):
        if isinstance(row, Top):
            yield row
        elif isinstance(row, Price):
            yield Top(*row, NOMINAL, NOMINAL)


def _listing(used: list[Day]) -> Iterator[Frame]:
    told: dict[str | None, bytes] = {}
    for day in used:
        for page in day.listing():
            if told.get(page.req) != page.body:
                told[page.req] = page.body
                yield page


def ids_of(pages: Iterable[Frame]) -> dict[str, tuple[str, str, str]]:
    """Return condition and tokens of each market that is listed anywhere in these pages."""
    found: dict[str, tuple[str, str, str]] = {}
    for page in pages:
        try:
            events = read_page(decode_page(page.body), rejected=[])
        except BadListing:
            continue
        for event in events:
            for market in event.markets:
                found[market.market_id] = (market.condition_id, *market.token_ids)
    return found
