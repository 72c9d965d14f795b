"""Ticks as PostgreSQL's binary COPY takes them, many rows at once (pure).

A row is the number of its fields, then each field's length in bytes and its bytes; a field of
length -1 is NULL and has no bytes. All rows are laid out alike, with room for the longest id
and for every number; then what a row does not have is left out.

A numeric is how many digits it has in base 10,000, which power of that the first is for, its
sign and its decimals, then the digits (`numeric_recv` in PostgreSQL's source).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

FIELDS = ("market_id", "at", "bid", "ask", "bid_size", "ask_size")
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH = 946_684_800_000_000  # unix us of 2000-01-01, from which PostgreSQL counts
ROWS_AT_ONCE = 2_500  # the server reads them while the next are laid out
LONGEST = 324  # bytes of an id: 81 characters, more than the column takes
EMPTY = -(2**63)  # stands for None
BASE = 10_000
NEGATIVE = 0x4000

HEAD = ("count", "power", "sign", "decimals")
# How a value gives each digit: divided by the first, the rest by the second, times the third.
Digits = tuple[tuple[int, int, int], ...]
PRICE: Digits = tuple((10**power, BASE, 1) for power in (16, 12, 8, 4, 0))  # of 1e-4 USD
SIZE: Digits = (  # of 1e-6 shares: the last two decimals are half a digit
    *((10**power, BASE, 1) for power in (18, 14, 10, 6, 2)),
    (1, 100, 100),
)
NUMBERS = {"bid": (PRICE, 4), "ask": (PRICE, 4), "bid_size": (SIZE, 6), "ask_size": (SIZE, 6)}

Integers = npt.NDArray[np.int64]
Column = Sequence[int | None]


def packed(ids: Sequence[str], times: Sequence[int], *numbers: Column) -> Iterator[bytes]:
    """Yield what COPY reads, by market; columns are in the order of `FIELDS`.

    Times are unix ns, prices in 1e-4 USD, sizes in 1e-6 shares. What the table's columns
    cannot hold is written so that the server refuses it.
    """
    names = [name.encode()[:LONGEST] for name in ids]
    texts = np.array(names)
    columns = {
        "length": np.fromiter(map(len, names), np.int64, len(names)),
        "at": np.array(times, np.int64) // 1_000 - EPOCH,
    } | {
        field: np.array([EMPTY if value is None else value for value in column], np.int64)
        for field, column in zip(NUMBERS, numbers, strict=True)
    }
    order = np.argsort(texts, kind="stable")  # the key's order: its pages are near
    yield HEADER
    for first in range(0, len(order), ROWS_AT_ONCE):
        some = order[first : first + ROWS_AT_ONCE]
        yield _rows(texts[some], {field: column[some] for field, column in columns.items()})
    yield TRAILER


def _rows(texts: npt.NDArray[np.bytes_], columns: dict[str, Integers]) -> bytes:
    digits = {field: _digits(columns[field], *NUMBERS[field]) for field in NUMBERS}
    rows = np.zeros(len(texts), _layout(texts.dtype, digits))
    there = np.ones((len(rows), rows.dtype.itemsize), np.bool_)
    rows["fields"] = len(FIELDS)
    rows["market_id"] = texts
    rows["market_id length"] = lengths = columns["length"]
    there[:, _place(rows.dtype, "market_id")] = np.arange(texts.itemsize) < lengths[:, None]
    rows["at"] = columns["at"]
    rows["at length"] = rows.dtype["at"].itemsize
    for field, (_, decimals) in NUMBERS.items():
        values = columns[field]
        rows[f"{field} length"] = np.where(values == EMPTY, -1, rows.dtype[field].itemsize)
        there[:, _place(rows.dtype, field)] = (values != EMPTY)[:, None]
        _write(values, rows[field], digits[field], decimals)
    return rows.view(np.uint8)[there.ravel()].tobytes()


def _digits(values: Integers, digits: Digits, decimals: int) -> Digits:
    """Return the digits that the largest of the values needs."""
    after = math.ceil(decimals / 4)
    most = np.abs(values[values != EMPTY]).max(initial=0)
    return (*(each for each in digits[:-after] if each[0] <= most), *digits[-after:])


def _layout(text: np.dtype[np.bytes_], digits: dict[str, Digits]) -> np.dtype[np.void]:
    kinds = {"market_id": text, "at": ">i8"} | {
        field: [*((part, ">i2") for part in HEAD), ("digits", ">i2", len(digits[field]))]
        for field in digits
    }
    fields = [part for name in FIELDS for part in ((f"{name} length", ">i4"), (name, kinds[name]))]
    return np.dtype([("fields", ">i2"), *fields])


def _place(row: np.dtype[np.void], field: str) -> slice:
    kind, offset, *_ = row.fields[field]  # type: ignore[index]  # it has fields
    return slice(offset, offset + kind.itemsize)


def _write(values: Integers, numeric: npt.NDArray[np.void], digits: Digits, decimals: int) -> None:
    numeric["count"] = len(digits)
    numeric["power"] = len(digits) - 1 - math.ceil(decimals / 4)
    numeric["sign"] = np.where(values < 0, NEGATIVE, 0)
    numeric["decimals"] = decimals
    values = np.abs(values)
    for number, (unit, rest, times) in enumerate(digits):
        numeric["digits"][:, number] = values // unit % rest * times
