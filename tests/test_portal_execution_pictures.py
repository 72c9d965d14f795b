"""The depth behind a leg, and how bounds, deadlines and differences are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import pytest

from mpx_site.portal.ladders import BEYOND, MOST_LEVELS, leg_ladder
from mpx_site.templatetags import orders
from mpx_site.templatetags.desk import NOTHING
from tests.worlds import ladder

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def test_ladder_marks_what_is_ours_and_where_the_limit_is() -> None:
    offers = ladder((0.30, 100), (0.31, 50), (0.33, 200))

    drawn = leg_ladder(
        "A", "1", offers,
        takes=((D("0.30"), D(100), D(0)), (D("0.31"), D(20), D(0))), limit=D("0.31"),
    )  # fmt: skip

    assert [level.ours for level in drawn.levels] == [100, 20, 0]
    assert [level.within for level in drawn.levels] == [True, True, False]
    assert [level.total for level in drawn.levels] == [100, 150, 350]
    assert [level.bar for level in drawn.levels] == [50, 25, 100]
    assert [level.ours_bar for level in drawn.levels] == [50, 10, 0]


def test_ladder_goes_on_past_the_last_level_that_is_taken() -> None:
    offers = ladder(*((0.10 + 0.01 * step, 10) for step in range(20)))
    deep = tuple((D(f"0.{10 + step}"), D(10), D(0)) for step in range(12))

    shown = leg_ladder("A", "1", offers, takes=deep, limit=D("0.21"))
    plain = leg_ladder("A", "1", offers)

    assert (len(shown.levels), shown.hidden) == (12 + BEYOND, 20 - 12 - BEYOND)
    assert (len(plain.levels), plain.hidden) == (MOST_LEVELS, 20 - MOST_LEVELS)
    assert not any(level.within for level in plain.levels)


def test_ladder_of_an_empty_book_is_empty() -> None:
    assert leg_ladder("A", "1", ()).levels == ()


@pytest.mark.parametrize(
    ("value", "written"),
    [("92.523000", "92.523"), ("43.230000", "43.23"), ("100.000000", "100.00"), ("12", "12"),
     ("no order", "no order"), ("100.00 at most 0.3000", "100.00 at most 0.3000")],
)  # fmt: skip
def test_differences_are_written_with_the_digits_they_need(value: str, written: str) -> None:
    assert orders.trimmed(value) == written


def test_bounds_are_rounded_up() -> None:
    assert orders.at_most(D("1092.520001")) == "$1,092.53"
    assert orders.at_most(D("92.52")) == "$92.52"
    assert orders.at_most(None) == NOTHING


@pytest.mark.parametrize(
    ("seconds", "state", "text"),
    [(90, "ok", "1 min 30 s"), (29, "late", "29 s"), (0, "stale", "over")],
)
def test_deadline_says_what_is_left(seconds: int, state: str, text: str) -> None:
    written = orders.left(NOON + timedelta(seconds=seconds), NOON)

    assert f'data-state="{state}">{text}<' in written


def test_age_past_its_limit_is_marked() -> None:
    then = NOON - timedelta(seconds=6)

    assert 'data-state="stale">6 s<' in orders.since(then, NOON, 5_000)
    assert 'data-state="ok">6 s<' in orders.since(then, NOON, 7_000)
    assert orders.since(None, NOON, 5_000) == "unknown"
