"""Books as the venue's `/book` answers them, read from files (pure).

Numbers arrive as the text they were written in (`snapshot.read_json`), so that
nothing is lost before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from markets.fills import PRICE_ONE, SIZE_ONE, Ladder
from rules.data_quality import DataProblem, shown

MAX_SHARES = Decimal(10) ** 10  # more than the venue ever held; keeps sums within 64 bits
NAMED_LEVELS = 20  # bad levels named one by one; beyond that only their number


@dataclass(frozen=True, slots=True)
class ReadBook:
    """One token's book. Ladders are best first; equal prices are added up.

    `at_ms` is the time of the last change in unix ms, None if unreadable. `whole`
    is False where a level had to be left out. What the book does not state is None.
    """

    token_id: str
    asks: Ladder
    bids: Ladder
    at_ms: int | None
    whole: bool
    condition_id: str | None
    tick: int | None
    min_size: int | None
    neg_risk: bool | None


class _BadValue(Exception):
    """A value that cannot be; the text says why."""


def read_books(pages: Iterable[object]) -> tuple[dict[str, ReadBook], list[DataProblem]]:
    """Return the newest book of each token, and what is wrong with any of them."""
    held: dict[str, list[ReadBook]] = {}
    problems: list[DataProblem] = []
    for obj in _objects(pages):
        book = _read_book(obj, problems)
        if book is not None:
            held.setdefault(book.token_id, []).append(book)
    newest: dict[str, ReadBook] = {}
    for token_id, books in held.items():
        # Of books with the same time the last one given is kept.
        kept = max(reversed(books), key=lambda book: -1 if book.at_ms is None else book.at_ms)
        newest[token_id] = kept
        if len(books) > 1:
            detail = f"{len(books)} books; kept the one of {kept.at_ms}"
            problems.append(DataProblem("duplicate_book", detail, token_id=token_id))
    return newest, problems


def _objects(pages: Iterable[object]) -> Iterator[object]:
    for page in pages:
        if isinstance(page, list):
            yield from page
        else:
            yield page


def _read_book(obj: object, problems: list[DataProblem]) -> ReadBook | None:
    if not isinstance(obj, dict):
        problems.append(DataProblem("bad_value", f"a book must be an object, not {shown(obj)}"))
        return None
    token_id = obj.get("asset_id")
    if not isinstance(token_id, str) or not (token_id.isascii() and token_id.isdigit()):
        problems.append(DataProblem("bad_value", f"a book without a token: {_why_none(obj)}"))
        return None
    bad: list[str] = []
    asks, bids = _side(obj, "asks", bad), _side(obj, "bids", bad)
    whole = not bad
    book = ReadBook(
        token_id=token_id,
        asks=tuple(sorted(asks.items())),
        bids=tuple(sorted(bids.items(), reverse=True)),
        at_ms=_stated(obj, "timestamp", bad, _whole_number),
        whole=whole,
        condition_id=_text(obj.get("market")),
        tick=_stated(obj, "tick_size", bad, _price),
        min_size=_stated(obj, "min_order_size", bad, _size),
        neg_risk=_truth(obj.get("neg_risk")),
    )
    if len(bad) > NAMED_LEVELS:
        bad[NAMED_LEVELS:] = [f"and {len(bad) - NAMED_LEVELS} more bad values"]
    problems += (DataProblem("bad_value", text, token_id=token_id) for text in bad)
    return book


def _why_none(obj: dict[str, object]) -> str:
    return (
        f"error {shown(obj['error'])}"
        if "error" in obj
        else f"asset_id {shown(obj.get('asset_id'))}"
    )


def _side(obj: dict[str, object], side: str, bad: list[str]) -> dict[int, int]:
    """Return size by price of one side; bad levels are named in `bad` and left out."""
    levels = obj.get(side)
    if levels is None and side in obj:
        levels = []
    if not isinstance(levels, list):
        bad.append(f"{side} must be a list, not {shown(levels)}")
        return {}
    ladder: dict[int, int] = {}
    for number, level in enumerate(levels):
        try:
            price, size = _level(level)
        except _BadValue as why:
            bad.append(f"{side}[{number}] {why}")
            continue
        if size:
            ladder[price] = ladder.get(price, 0) + size
    return ladder


def _level(level: object) -> tuple[int, int]:
    if not isinstance(level, dict):
        raise _BadValue(f"must be an object, not {shown(level)}")
    return _field(level, "price", _price), _field(level, "size", _size)


def _field(level: dict[str, object], name: str, read: Callable[[object], int]) -> int:
    try:
        return read(level.get(name))
    except _BadValue as why:
        raise _BadValue(f"{name} {why}") from None


def _stated(
    obj: dict[str, object], name: str, bad: list[str], read: Callable[[object], int]
) -> int | None:
    """Return a field that a book may leave out; None too where it is unreadable."""
    if obj.get(name) in (None, ""):
        return None
    try:
        return _field(obj, name, read)
    except _BadValue as why:
        bad.append(str(why))
        return None


def _price(value: object) -> int:
    price = _number(value) * PRICE_ONE
    if not 0 < price < PRICE_ONE:
        raise _BadValue(f"{shown(value)} is not between 0 and 1")
    if price != int(price):
        raise _BadValue(f"{shown(value)} is finer than 0.0001")
    return int(price)


def _size(value: object) -> int:
    size = _number(value)
    if size < 0:
        raise _BadValue(f"{shown(value)} is negative")
    if size > MAX_SHARES:
        raise _BadValue(f"{shown(value)} is more than there can be")
    return int(size * SIZE_ONE)


def _whole_number(value: object) -> int:
    number = _number(value)
    if number < 0 or number != int(number):
        raise _BadValue(f"{shown(value)} is not a time in milliseconds")
    return int(number)


def _number(value: object) -> Decimal:
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        raise _BadValue(f"{shown(value)} is not a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise _BadValue(f"{shown(value)} is not a number") from None
    if not number.is_finite():
        raise _BadValue(f"{shown(value)} is not a finite number")
    return number


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
