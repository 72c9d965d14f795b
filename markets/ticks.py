"""Tops of book on their way to the database: sampled beside the path, written in batches."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction

from markets.book import NO_ASK, NO_BID, Book, size_units
from markets.books import Books
from markets.fills import PRICE_ONE, SIZE_ONE
from markets.frames import moment
from markets.models import Quarantine, Quote, Tick
from markets.problems import Problem
from markets.tick_copy import FIELDS, packed


class Top(NamedTuple):
    """The touch of a market's first outcome at one moment; None is an empty side.

    Prices are in 1e-4 USD, sizes in 1e-6 shares. A tuple, for the live path makes thousands.
    """

    market_id: str
    t: int  # unix ns
    state: str
    bid: int | None
    ask: int | None
    bid_size: int | None
    ask_size: int | None

    @property
    def prices(self) -> tuple[Decimal | None, Decimal | None]:
        """The bid and the ask in USD."""
        return _usd(self.bid), _usd(self.ask)

    def row(self) -> dict[str, Any]:
        """Return what a quote and a tick say alike."""
        bid, ask = self.prices
        return {
            "market_id": self.market_id,
            "at": moment(self.t),
            "bid": bid,
            "ask": ask,
            "bid_size": _shares(self.bid_size),
            "ask_size": _shares(self.ask_size),
        }


def _usd(price: int | None) -> Decimal | None:
    return None if price is None else Decimal(price) / PRICE_ONE


def _shares(size: int | None) -> Decimal | None:
    return None if size is None else Decimal(size) / SIZE_ONE


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
        t=book.received,
        state=book.state,
        bid=None if book.bid == NO_BID else book.bid,
        ask=None if book.ask == NO_ASK else book.ask,
        bid_size=None if book.bid == NO_BID else size_units(book.bids[book.bid]),
        ask_size=None if book.ask == NO_ASK else size_units(book.asks[book.ask]),
    )


_QUOTE_FIELDS = ("bid", "ask", "bid_size", "ask_size", "state", "at")


@transaction.atomic
def store(tops: list[Top]) -> None:
    """Rewrite the quotes and add a tick for each book that can be evaluated."""
    latest = {top.market_id: top for top in tops}  # PostgreSQL writes a row once a statement
    Quote.objects.bulk_create(
        [Quote(state=top.state, **top.row()) for top in latest.values()],
        batch_size=500,
        update_conflicts=True,
        unique_fields=["market"],
        update_fields=list(_QUOTE_FIELDS),
    )
    add([top for top in tops if top.state == "fresh"])


COPY = f"COPY markets_tick ({', '.join(FIELDS)}) FROM STDIN (FORMAT BINARY)"


def add(tops: Sequence[Top]) -> None:
    """Add ticks; one that is there already stays as it is.

    PostgreSQL takes them by COPY, some ten times faster (`bench write`). COPY knows no
    ON CONFLICT, so a batch that repeats something goes the usual way.
    """
    if not tops:
        return
    if connection.vendor == "postgresql":
        try:
            with transaction.atomic():
                _copy(tops)
        except IntegrityError:
            _insert(tops)
    else:
        _insert(tops)


def _copy(tops: Sequence[Top]) -> None:
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(COPY) as copy,
    ):
        ids, times, _, *numbers = zip(*tops, strict=True)
        for part in packed(ids, times, *numbers):
            copy.write(part)


def _insert(tops: Sequence[Top]) -> None:
    ticks = [Tick(**top.row()) for top in tops]
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
