"""What every loader gives, and how it says what it could not use (pure but for reading files)."""

from __future__ import annotations

import csv
import gzip
import lzma
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import unix_ns
from markets.past.columns import Price
from markets.past.listed import ListedEvent
from markets.past.tops import Top
from markets.past.value import Kind, NotAPast

SAMPLES = 20  # refused rows shown per file; all are counted
MOST_SHARES = 10**12
OPENERS: Mapping[str, Callable[..., IO[str]]] = {".gz": gzip.open, ".xz": lzma.open}
_UNITS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6))  # at least so large: ns, us, ms


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was not taken: where it is and why. `column` is empty for a whole row."""

    path: str
    line: int
    column: str
    why: str


class BadCell(Exception):
    """A cell that cannot be; the row is refused for it."""

    def __init__(self, column: str, why: str) -> None:
        super().__init__(f"{column}: {why}")
        self.column = column
        self.why = why


@dataclass(slots=True)
class Loaded:
    """What a file holds: rows by time, the events they are of, and what was refused.

    `pages` are events with the time (unix ns) from which on they are as they are told.
    """

    path: Path
    format: str
    kind: Kind
    read: int = 0
    rows: list[Top | Price] = field(default_factory=list)
    pages: list[tuple[int, ListedEvent]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    samples: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, line: int, column: str, why: str) -> None:
        self.refused[why] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(Refused(str(self.path), line, column, why))

    @contextmanager
    def row(self, line: int) -> Iterator[None]:
        """Count a row; refuse it if a cell of it is bad."""
        self.read += 1
        try:
            yield
        except BadCell as error:
            self.refuse(line, error.column, error.why)


@contextmanager
def text_of(path: Path) -> Iterator[IO[str]]:
    """Open a text file, plain, `.gz` or `.xz`; raise `NotAPast` if it cannot be read."""
    try:
        with OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise NotAPast(f"cannot be read: {error}", str(path)) from None


def table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with their line numbers; a short row has empty cells."""
    with text_of(path) as file:
        rows = csv.DictReader(file, restval="")
        for row in rows:
            yield rows.line_num, {key: value for key, value in row.items() if key is not None}


def moment_of(text: str, column: str) -> int:
    """Read ISO 8601 (UTC where it says nothing) or unix s, ms, us or ns; return unix ns."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return _iso(text, column)
    if not number.is_finite() or not 0 < number < 2**63:
        raise BadCell(column, "is no time")
    unit = next((unit for least, unit in _UNITS if number >= least), 10**9)
    return int(number * unit)


def _iso(text: str, column: str) -> int:
    try:
        at = datetime.fromisoformat(text)
        return unix_ns(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise BadCell(column, "is no time") from None


def price_of(text: str, column: str) -> int:
    """Read a price in USD strictly between 0 and 1; return 1e-4 USD, rounded."""
    units = round(_number(text, column) * PRICE_ONE)
    if not 0 < units < PRICE_ONE:
        raise BadCell(column, "is no price between 0 and 1")
    return units


def side_of(text: str, column: str, *, empty: int) -> int:
    """Read a price of a side that may have nobody (no text, 0 or 1): then `empty`."""
    if not text:
        return empty
    units = round(_number(text, column) * PRICE_ONE)
    if not 0 <= units <= PRICE_ONE:
        raise BadCell(column, "is no price between 0 and 1")
    return units if 0 < units < PRICE_ONE else empty


def fraction_of(text: str, column: str) -> Decimal:
    """Read a rate from 0 to below 1."""
    rate = _number(text, column)
    if not 0 <= rate < 1:
        raise BadCell(column, "is no rate from 0 to 1")
    return rate


def size_of(text: str, column: str) -> int:
    """Read shares; return 1e-6 shares."""
    size = _number(text or "0", column)
    if not 0 <= size < MOST_SHARES:
        raise BadCell(column, "is no number of shares")
    return int(size * SIZE_ONE)


def _number(text: str, column: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise BadCell(column, "is no number") from None
    if not number.is_finite():
        raise BadCell(column, "is no number")
    return number
