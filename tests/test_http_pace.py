"""Our own pace and patience: the arithmetic, without a network."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.polymarket.http import (
    LONGEST_PAUSE,
    SHARE,
    WINDOW_SECONDS,
    Pace,
    _routes,
    backoff,
    pause_of,
)

rushes = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60), st.booleans()), max_size=8)


@given(allowed=st.integers(2, 60), rushes=rushes)
def test_no_window_ever_sees_more_than_is_allowed(allowed, rushes):
    pace, now, passed = Pace(allowed), 0.0, []
    for gap, asking, held in rushes:
        now += gap
        if held:
            pace.hold(now + 5)
        for _ in range(asking):
            while wait := pace.wait(now):
                now += wait
            pace.take(now)
            passed.append(now)

    for first, start in enumerate(passed):
        inside = [at for at in passed[first:] if at <= start + WINDOW_SECONDS]
        assert len(inside) <= allowed


@given(allowed=st.integers(2, 2_000))
def test_who_always_asks_is_let_through_at_the_allowed_rate(allowed):
    pace, now, passed = Pace(allowed), 0.0, 0
    while now < WINDOW_SECONDS - 1e-6:
        if wait := pace.wait(now):
            now += wait
            continue
        pace.take(now)
        passed += 1

    assert allowed - 1 <= passed <= allowed  # the last one may fall on the end of the window


def test_routes_of_a_service_also_share_the_limit_of_all_its_routes():
    routes = _routes()
    book, books, gamma = routes["clob", "book"], routes["clob", "books"], routes["gamma", ""]
    for _ in range(9_000 // SHARE // 10):  # as many as may go in one burst
        routes["clob", ""].take(0.0)

    assert book.wait(0.0) > 0
    assert books.wait(0.0) > 0
    assert gamma.wait(0.0) == 0


@given(at=st.floats(0, 1e6), pause=st.floats(0.01, 300), allowed=st.integers(2, 500))
def test_nothing_passes_while_it_is_held_and_no_burst_follows(at, pause, allowed):
    pace = Pace(allowed)

    pace.hold(at + pause)

    assert pace.wait(at) == pytest.approx(pause, abs=1e-6)
    pace.take(at + pause)
    assert pace.wait(at + pause) > 0


@given(
    tried=st.integers(1, 5_000), first=st.floats(0.01, 10), cap=st.floats(0.01, 60),
    drawn=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_backoff_stays_between_nothing_and_the_doubling_bound(tried, first, cap, drawn):
    wait = backoff(tried, first=first, cap=cap, draw=lambda: drawn)

    assert 0 <= wait <= cap
    assert wait <= first * 2 ** min(tried - 1, 30)


def test_backoff_uses_the_whole_range_below_a_bound_that_doubles():
    almost_one = 1 - 2**-53

    bounds = [backoff(n, first=1, cap=30, draw=lambda: almost_one) for n in range(1, 8)]

    assert bounds == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    assert backoff(4, first=1, cap=30, draw=lambda: 0.25) == 2.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("99999999", LONGEST_PAUSE),
        ("inf", LONGEST_PAUSE),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    now = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()

    assert pause_of(value, now=now) == seconds


@given(value=st.text(max_size=40))
def test_no_retry_after_however_odd_gives_an_odd_pause(value):
    pause = pause_of(value, now=1.7e9)

    assert pause is None or 0 <= pause <= LONGEST_PAUSE
