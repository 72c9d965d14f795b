"""Tops of book: what is worth keeping of them, and what the database has of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from markets import ticks
from markets.books import Books
from markets.fills import PRICE_ONE
from markets.frames import moment
from markets.models import Market, Quarantine, Quote, Tick
from markets.problems import Problem, Problems
from markets.ticks import TickSampler, Top, top_of
from tests.api_cast import a_market
from tests.worlds import market_terms

TERMS = market_terms(1)
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NOON_NS = round(NOON.timestamp()) * 10**9
SECOND = 10**9


def book_frame(bids: Any, asks: Any, *, at: int) -> bytes:
    sides = {
        name: [{"price": price, "size": size} for price, size in levels]
        for name, levels in (("bids", bids), ("asks", asks))
    }
    event = {"event_type": "book", "market": TERMS.condition_id, "asset_id": TERMS.token_ids[0]}
    return json.dumps({**event, "timestamp": str(at), **sides}).encode()


@pytest.fixture
def books() -> Books:
    books = Books(Problems())
    books.add(TERMS)
    return books


def says(books: Books, bid: str, ask: str, *, second: int, size: str = "10") -> None:
    """Send the market's whole book with one level a side; "" is an empty side."""
    frame = book_frame(
        [(bid, size)] if bid else [], [(ask, size)] if ask else [], at=NOON_NS // 10**6 + second
    )
    books.feed(frame, NOON_NS + second * SECOND)


# --- what is worth keeping ------------------------------------------------


def test_a_top_has_prices_sizes_state_and_time(books: Books) -> None:
    says(books, "0.4", "0.65", second=3, size="12.345678")

    assert top_of(books.by_market[TERMS.condition_id]) == Top(
        market_id=TERMS.market_id,
        t=NOON_NS + 3 * SECOND,
        state="fresh",
        bid=4_000,
        ask=6_500,
        bid_size=12_345_678,
        ask_size=12_345_678,
    )


def test_an_empty_side_has_no_price(books: Books) -> None:
    says(books, "", "", second=1)

    top = top_of(books.by_market[TERMS.condition_id])

    assert (top.bid, top.ask, top.bid_size, top.ask_size) == (None, None, None, None)


def test_only_a_top_that_is_another_is_taken(books: Books) -> None:
    sampler = TickSampler()
    assert sampler.take(books) == []

    says(books, "0.4", "0.6", second=1)
    assert [(top.bid, top.ask) for top in sampler.take(books)] == [(4_000, 6_000)]
    says(books, "0.4", "0.6", second=2)
    assert sampler.take(books) == []
    says(books, "0.5", "0.6", second=3)
    says(books, "0.4", "0.6", second=4)
    assert sampler.take(books) == []  # it is where it was
    says(books, "0.5", "0.6", second=5)
    assert [top.bid for top in sampler.take(books)] == [5_000]


def test_a_book_that_is_no_longer_known_is_taken_with_its_state(books: Books) -> None:
    sampler = TickSampler()
    says(books, "0.4", "0.6", second=1)
    sampler.take(books)

    books.feed(b'{"market": "' + TERMS.condition_id.encode() + b'", "bids": 5}', NOON_NS + SECOND)

    (top,) = sampler.take(books)
    assert (top.state, top.t) == ("stale", NOON_NS + SECOND)


# --- what the database has ------------------------------------------------


@pytest.fixture
def market(db: None) -> Market:
    return a_market(TERMS.market_id)


def top(second: int, bid: str | None = "0.4", ask: str | None = "0.6", **changes: Any) -> Top:
    values: dict[str, Any] = {
        "market_id": TERMS.market_id,
        "t": NOON_NS + second * SECOND,
        "state": "fresh",
        "bid": None if bid is None else int(Decimal(bid) * PRICE_ONE),
        "ask": None if ask is None else int(Decimal(ask) * PRICE_ONE),
        "bid_size": None if bid is None else 5_500_000,
        "ask_size": None if ask is None else 7_000_000,
    }
    return Top(**values | changes)


@pytest.mark.postgres
def test_the_quote_is_rewritten_and_ticks_add_up(market: Market) -> None:
    ticks.store([top(1)])
    ticks.store([top(2, "0.45")])

    quote = Quote.objects.get()
    assert (quote.bid, quote.ask, quote.state) == (Decimal("0.45"), Decimal("0.6"), "fresh")
    assert quote.at == NOON + timedelta(seconds=2)
    kept = Tick.objects.order_by("at").values_list("bid", "ask", "bid_size", "ask_size")
    assert list(kept) == [
        (Decimal("0.4"), Decimal("0.6"), Decimal("5.5"), Decimal(7)),
        (Decimal("0.45"), Decimal("0.6"), Decimal("5.5"), Decimal(7)),
    ]


@pytest.mark.postgres
def test_a_batch_that_repeats_ticks_adds_the_new_ones(market: Market) -> None:
    ticks.store([top(1), top(2)])

    ticks.store([top(2, "0.5"), top(3), top(3, "0.5"), top(4)])

    kept = Tick.objects.order_by("at").values_list("at", "bid")
    assert [(at - NOON).seconds for at, _ in kept] == [1, 2, 3, 4]
    assert {bid for _, bid in kept} == {Decimal("0.4")}  # what is there stays as it is


@pytest.mark.postgres
@pytest.mark.parametrize("state", ["stale", "awaiting", "crossed", "batch"])
def test_a_book_that_cannot_be_evaluated_leaves_no_tick(market: Market, state: str) -> None:
    ticks.store([top(1, "0.7", "0.6", state=state)])

    assert Quote.objects.get().state == state
    assert not Tick.objects.exists()


@pytest.mark.postgres
def test_an_empty_side_is_stored_as_none(market: Market) -> None:
    ticks.store([top(1, None, "0.6"), top(2, None, None)])

    assert list(Tick.objects.order_by("at").values_list("bid", "ask")) == [
        (None, Decimal("0.6")),
        (None, None),
    ]
    assert Quote.objects.get().at == NOON + timedelta(seconds=2)


@pytest.mark.postgres
def test_the_same_moment_twice_is_one_tick(market: Market) -> None:
    ticks.store([top(1)])
    ticks.store([top(1), top(2)])

    assert Tick.objects.count() == 2


@pytest.mark.postgres
def test_many_tops_take_few_queries(db: None, django_assert_max_num_queries: Any) -> None:
    names = [f"m{number}" for number in range(700)]
    for name in names:
        a_market(name)

    with django_assert_max_num_queries(12):  # SQLite takes about 140 rows a statement
        ticks.store([top(1, market_id=name) for name in names])

    assert Quote.objects.count() == Tick.objects.count() == 700


# --- the quarantine -------------------------------------------------------


def problem(**changes: Any) -> Problem:
    values: dict[str, Any] = {
        "source": "ws",
        "reason": "bad_frame",
        "subject": "7",
        "detail": "why",
        "sample": "{}",
        "count": 2,
        "first_at": NOON_NS,
        "last_at": NOON_NS + SECOND,
    }
    return Problem(**values | changes)


@pytest.mark.postgres
def test_a_problem_is_one_row_that_counts(db: None) -> None:
    ticks.quarantine([problem()])
    ticks.quarantine([problem(count=3, sample="other", last_at=NOON_NS + 5 * SECOND)])
    ticks.quarantine([problem(subject="8")])

    row = Quarantine.objects.get(subject="7")
    assert (row.count, row.detail, row.sample) == (5, "why", "{}")
    assert row.first_at == NOON
    assert row.last_at == NOON + timedelta(seconds=5)
    assert Quarantine.objects.count() == 2


@pytest.mark.postgres
def test_time_in_the_quarantine_never_goes_back(db: None) -> None:
    ticks.quarantine([problem(last_at=NOON_NS + 5 * SECOND)])
    ticks.quarantine([problem(last_at=NOON_NS + 1 * SECOND)])

    assert Quarantine.objects.get().last_at == NOON + timedelta(seconds=5)


@pytest.mark.postgres
def test_anything_that_was_refused_can_be_stored(db: None) -> None:
    problems = Problems()
    for number, odd in enumerate(("\0", "\ud800", "é", "\U0001f600", "<script>", "'\"--;%s")):
        for reason in ("bad_value", "bad_frame"):
            problems.note(
                "ws",
                reason,
                at=number,
                subject=odd * 200,
                detail=odd * 900,
                sample=(odd * 3_000).encode(errors="surrogatepass"),
            )

    ticks.quarantine(problems.drain())

    assert Quarantine.objects.count() == 12
    assert Quarantine.objects.order_by("id")[0].first_at == moment(0)
