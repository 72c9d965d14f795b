"""What closed signals tell: counted by the database, as it would be by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from signals.models import Signal
from signals.opportunities import (
    LIFE_MS,
    MOST_SPOTS,
    Asked,
    Lives,
    lives_of,
    of_last,
    opportunities,
)
from tests import portal_cast as cast
from tests.portal_cast import START

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
NOW = START + timedelta(days=2)
TEN = Decimal(10)


def closed(seconds: float, *, key: str, ago: timedelta = timedelta(hours=3), **fields: Any) -> None:
    """Close a signal that lived so long; it has a peak profit of 2 USD unless told otherwise."""
    at = NOW - ago
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    cast.tell("opened", cast.finding_in(view), cast.rule(), key=key, at=at)
    told = {"peak_profit": Decimal(2), "cost": Decimal(90), "peak_edge_bps": Decimal(100)}
    Signal.objects.filter(key=key).update(
        status="CLOSED",
        opened_at=at - timedelta(seconds=seconds),
        closed_at=at,
        **(told | fields),
    )


def seen(days: int = 1, *, seconds: Decimal = TEN, **asked: Any) -> Any:
    return opportunities(of_last(days, at=NOW, **asked), seconds=seconds)


def test_edges_of_lifetimes_rise() -> None:
    assert list(LIFE_MS) == sorted(set(LIFE_MS))


def test_lifetimes_fall_into_their_bins_to_the_millisecond() -> None:
    for number, ms in enumerate((0, 99, 100, 9_999, 10_000, 86_399_999, 86_400_000, 10**9)):
        closed(ms / 1000, key=f"k{number}")

    counts = seen().lives.counts

    last = len(LIFE_MS)
    assert {n: count for n, count in enumerate(counts) if count} == {
        0: 2,
        1: 1,
        LIFE_MS.index(10_000): 1,
        LIFE_MS.index(10_000) + 1: 1,
        last - 1: 1,
        last: 2,
    }
    assert lives_of(of_last(1, at=NOW)).counts == counts


def test_person_catches_what_lived_as_long_as_they_need() -> None:
    for key, seconds, profit in (("a", 9.999, "1"), ("b", 10, "2"), ("c", 60, "4.5")):
        closed(seconds, key=key, peak_profit=Decimal(profit))

    found = seen()

    assert (found.caught.count, found.caught.profit) == (2, Decimal("6.5"))
    assert (found.lives.total, found.lives.profit) == (3, Decimal("7.5"))
    reach = {each.ms: (each.count, each.profit) for each in found.lives.reaches}
    assert reach[5_000] == (3, Decimal("7.5"))
    assert reach[10_000] == (2, Decimal("6.5"))
    assert reach[60_000] == (1, Decimal("4.5"))
    assert reach[120_000] == (0, Decimal(0))


@pytest.mark.parametrize("seconds", ["0", "0.1", "9.999", "10", "61"])
def test_any_number_of_seconds_is_counted_exactly(seconds: str) -> None:
    lived = [0.05, 0.1, 9.999, 10, 60, 61]
    for number, each in enumerate(lived):
        closed(each, key=f"k{number}")

    assert seen(seconds=Decimal(seconds)).caught.count == sum(x >= float(seconds) for x in lived)


def test_only_what_closed_in_the_time_and_fits_is_counted() -> None:
    closed(1, key="today", level="P1")
    closed(1, key="thin", level="P2")
    closed(1, key="week", ago=timedelta(days=3))
    closed(1, key="bet", verdict="OBSERVED")
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.tell("opened", cast.finding_in(view), cast.rule(), key="open", at=NOW)

    assert (seen().lives.total, seen().executable, seen().executable_profit) == (2, 1, 2)
    assert seen(7).lives.total == 3
    assert seen(level="P2").lives.total == 1
    assert seen(rule="DUTCH_BOOK_DETECT").lives.total == 2
    assert seen(rule="NO_SUCH_RULE").lives.total == 0


def test_hours_are_those_of_the_first_sight_in_utc() -> None:
    """Closed at 09:00 UTC; opened one second or one hour before."""
    closed(1, key="a")
    closed(1, key="b")
    closed(3_600, key="c")

    found = seen()

    hours = found.hours["DUTCH_BOOK_DETECT"]
    assert (sum(hours), hours[8], found.busiest) == (3, 3, 3)


def test_dots_are_of_the_newest_signals() -> None:
    closed(1, key="old", ago=timedelta(hours=5), cost=Decimal(5))
    closed(1, key="new", cost=Decimal("7.25"), peak_edge_bps=Decimal("81.5"))

    newest, older = seen().spots

    assert (newest.cost, newest.edge_bps, newest.profit) == (Decimal("7.25"), Decimal("81.5"), 2)
    assert older.cost == 5
    assert MOST_SPOTS == 500


def test_middle_lifetime_is_the_bin_of_the_middle_signal() -> None:
    def half(*counts: int) -> int | None:
        bins = (*counts, *[0] * (len(LIFE_MS) + 1 - len(counts)))
        return Lives(bins, (Decimal(0),) * len(bins)).half_life

    assert half() is None
    assert half(0, 4) == 1
    assert half(1, 1, 1) == 1
    assert half(2, 0, 2) == 0


def test_nothing_closed_is_nothing_counted() -> None:
    found = seen()

    assert (found.lives.total, found.caught.count, found.hours, found.spots) == (0, 0, {}, ())
    assert found.lives.half_life is None


def test_counting_takes_three_queries_and_never_reads_a_payload(
    django_assert_num_queries: Any,
) -> None:
    for number in range(5):
        closed(number, key=f"k{number}")

    with django_assert_num_queries(3) as captured:
        opportunities(Asked(NOW - timedelta(days=1), NOW), seconds=TEN)

    assert not any("payload" in query["sql"] for query in captured)


@pytest.mark.parametrize("asked", [{}, {"rule": "DUTCH_BOOK_DETECT"}, {"level": "P1"}])
def test_index_holds_all_that_is_counted(asked: dict[str, str]) -> None:
    """Without it, SQLite would read whole signals, payloads and all."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL chooses by what the table holds")
    closed(1, key="a")

    with CaptureQueriesContext(connection) as captured:
        seen(**asked)

    counts = next(query["sql"] for query in captured if "MATERIALIZED" in query["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {counts}")
        plan = [row[3] for row in cursor.fetchall()]
    assert any("signals_signal USING COVERING INDEX signal_lives" in step for step in plan), plan
