"""Tops of book on their way to the database: sampled beside the path, written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter, itemgetter

from django.db import IntegrityError, connection, transaction

from markets.book import NO_ASK, NO_BID, Book
from markets.books import Books
from markets.fills import PRICE_ONE
from markets.frames import moment
from markets.models import Quarantine, Quote, Tick
from markets.problems import Problem


@dataclass(frozen=True, slots=True)
class Top:
    """The touch of a market's first outcome at one moment; None is an empty side."""

    market_id: str
    at: datetime
    state: str
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None


class TickSampler:
    """Knows what of each book was kept last, so that only changes are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, ...]] = {}

    def take(self, books: Books) -> list[Top]:
        """Return the tops that changed since the last call."""
        tops = []
        for book in books.take_moved():
            seen = (book.bid, book.ask, book.state)
            if self._kept.get(book.market_id) != seen:
                self._kept[book.market_id] = seen
                tops.append(top_of(book))
        return tops


def top_of(book: Book) -> Top:
    return Top(
        market_id=book.market_id,
        at=moment(book.received),
        state=book.state,
        bid=None if book.bid == NO_BID else Decimal(book.bid) / PRICE_ONE,
        ask=None if book.ask == NO_ASK else Decimal(book.ask) / PRICE_ONE,
        bid_size=None if book.bid == NO_BID else Decimal(book.bids[book.bid]),
        ask_size=None if book.ask == NO_ASK else Decimal(book.asks[book.ask]),
    )


_QUOTE_FIELDS = ("bid", "ask", "bid_size", "ask_size", "state", "at")


@transaction.atomic
def store(tops: list[Top]) -> None:
    """Rewrite the quotes and add a tick for each book that can be evaluated."""
    latest = {top.market_id: top for top in tops}  # PostgreSQL writes a row once a statement
    Quote.objects.bulk_create(
        [
            Quote(market_id=top.market_id, **{name: getattr(top, name) for name in _QUOTE_FIELDS})
            for top in latest.values()
        ],
        batch_size=500,
        update_conflicts=True,
        unique_fields=["market"],
        update_fields=list(_QUOTE_FIELDS),
    )
    add([top for top in tops if top.state == "fresh"])


_TICK_FIELDS = ("market_id", "at", "bid", "ask", "bid_size", "ask_size")
_values = attrgetter(*_TICK_FIELDS)
_in_order = itemgetter(0, 1)
COPY = f"COPY markets_tick ({', '.join(_TICK_FIELDS)}) FROM STDIN"


def add(tops: Sequence[Top]) -> None:
    """Add ticks; one that is there already stays as it is.

    PostgreSQL takes them by COPY, some ten times faster (`bench write`). COPY knows no
    ON CONFLICT, so a batch that repeats something goes the usual way.
    """
    if connection.vendor == "postgresql":
        try:
            with transaction.atomic():
                _copy(tops)
        except IntegrityError:
            _insert(tops)
    else:
        _insert(tops)


def _copy(tops: Sequence[Top]) -> None:
    rows = sorted(map(_values, tops), key=_in_order)  # the key's order: its pages are near
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(COPY) as copy,
    ):
        for row in rows:
            copy.write_row(row)


def _insert(tops: Sequence[Top]) -> None:
    ticks = [Tick(**dict(zip(_TICK_FIELDS, _values(top), strict=True))) for top in tops]
    Tick.objects.bulk_create(ticks, batch_size=500, ignore_conflicts=True)


@transaction.atomic
def quarantine(problems: list[Problem]) -> None:
    """Add what could not be used to the quarantine, one row per kind of problem."""
    for problem in problems:
        row, _ = Quarantine.objects.get_or_create(
            source=problem.source,
            reason=problem.reason,
            subject=_text(problem.subject),
            defaults={
                "detail": _text(problem.detail),
                "sample": _text(problem.sample),
                "first_at": moment(problem.first_at),
                "last_at": moment(problem.last_at),
            },
        )
        row.count += problem.count
        row.last_at = max(row.last_at, moment(problem.last_at))
        row.save(update_fields=["count", "last_at"])


def _text(value: str) -> str:
    """Return text as any database takes it; what was refused may hold anything."""
    return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
