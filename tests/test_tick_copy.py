"""What COPY writes is what Django writes: every column, its extremes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DataError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from markets import ticks
from markets.fills import SIZE_ONE
from markets.models import Tick
from markets.tick_copy import FIELDS, ROWS_AT_ONCE
from markets.ticks import Top
from tests.test_ticks import NOON_NS

pytestmark = [pytest.mark.django_db, pytest.mark.postgres(only=True)]

FIRST, LAST = -8 * 10**18, 9 * 10**18  # the years 1716 and 2255, in unix ns
MOST = 10**12 * SIZE_ONE  # `markets.book.MAX_SIZE`
ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)
prices = (
    st.none()
    | st.integers(0, 10_000)
    | st.integers(-999_999, 999_999)
    | st.sampled_from([0, 1, -1, 9_999, 10_000, 999_999])
)
sizes = (
    st.none()
    | st.integers(0, 10**9)
    | st.integers(-MOST, MOST)
    | st.sampled_from([0, 1, -1, 99, 100, 10**10 - 1, 10**10, MOST])
)


@st.composite
def tops(draw: Any) -> Top:
    bid, ask = draw(prices), draw(prices)
    if bid is not None and ask is not None:
        bid, ask = (None, ask) if bid == ask else (min(bid, ask), max(bid, ask))
    at = draw(st.integers(FIRST, LAST))
    return Top(draw(ids), at, "fresh", bid, ask, draw(sizes), draw(sizes))


def rows() -> list[Any]:
    return list(Tick.objects.order_by("market_id", "at").values_list(*FIELDS))


@given(st.lists(tops(), min_size=1, max_size=30))
@settings(max_examples=60)
def test_copy_writes_what_django_writes(given: list[Top]) -> None:
    Tick.objects.all().delete()
    ticks._insert(given)
    expected = rows()
    Tick.objects.all().delete()

    ticks._copy([*{(top.market_id, top.t // 1_000): top for top in reversed(given)}.values()])

    assert rows() == expected


def test_more_rows_than_are_laid_out_at_once() -> None:
    many = 2 * ROWS_AT_ONCE + 1
    given = [
        Top(f"m{n % 7 * 10 ** (n % 5)}", NOON_NS + n * 1_000, "fresh", None, n % 9_999 + 1, n, 5)
        for n in range(many)
    ]
    ticks._insert(given)
    expected = rows()
    Tick.objects.all().delete()

    ticks.add(given)

    assert rows() == expected
    assert len(expected) == many


@pytest.mark.parametrize(
    "wrong",
    [
        {"bid": 1_000_000},
        {"bid": 10**8},
        {"ask": 2**62},
        {"bid": -1_000_000},
        {"market_id": "x" * 81},
        {"market_id": "\U0001f600" * 10_000},
        {"market_id": "a\0"},
    ],
    ids=str,
)
def test_what_a_column_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    good = Top("m1", NOON_NS, "fresh", 4_000, 6_000, 1, 1)

    with pytest.raises(DataError), transaction.atomic():
        ticks.add([good, good._replace(**{"t": NOON_NS + 1_000, **wrong})])

    assert not Tick.objects.exists()


def test_no_ticks_are_no_work(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        ticks.add([])
