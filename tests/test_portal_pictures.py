"""Step lines and bars: a gap stays a gap, nothing leaves the box, little is drawn."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpx_site.portal.pictures import HEIGHT, WIDTH, Point, bars, chart

START = datetime(2026, 5, 1, tzinfo=UTC)
END = START + timedelta(seconds=600)


def after(seconds: float, value: float | None) -> Point:
    return START + timedelta(seconds=seconds), value


def drawn(points: list[Point]) -> str:
    picture = chart([("edge", points)], start=START, end=END)
    assert picture is not None
    return picture.lines[0].path


def test_value_holds_until_the_next_one_and_the_last_until_the_end() -> None:
    assert drawn([after(0, 10), after(300, 20)]) == "M0.0 114.0H300.0V6.0H600.0"


def test_gap_lifts_the_pen() -> None:
    path = drawn([after(0, 10), after(100, None), after(300, 20)])

    assert path == "M0.0 114.0H100.0M300.0 6.0H600.0"


def test_gap_at_the_end_draws_nothing_after_it() -> None:
    assert drawn([after(0, 10), after(100, 10), after(200, None)]).endswith("H200.0")


def test_nothing_but_gaps_is_no_picture() -> None:
    assert chart([("edge", [after(0, None)])], start=START, end=END) is None
    assert chart([("edge", [])], start=START, end=END) is None


def test_threshold_is_inside_the_picture_even_when_no_value_is_near_it() -> None:
    picture = chart([("edge", [after(0, 100)])], start=START, end=END, threshold=20)

    assert picture is not None
    assert (picture.low, picture.high, picture.threshold) == (20, 100, 114.0)


def test_moment_without_length_is_drawn() -> None:
    assert chart([("edge", [after(0, 5)])], start=START, end=START) is not None


def test_burst_in_one_column_keeps_its_extremes() -> None:
    burst = [after(300 + number / 1000, number % 50) for number in range(500)]

    path = drawn([after(0, 10), *burst])

    assert path.count("V") <= 6
    assert "114.0" in path
    assert "V6.0" in path


@given(
    st.lists(
        st.tuples(
            st.floats(0, 600), st.one_of(st.none(), st.floats(-1e6, 1e6, allow_subnormal=False))
        ),
        min_size=1,
        max_size=60,
    )
)
def test_line_never_leaves_the_box(raw: list[tuple[float, float | None]]) -> None:
    points = [after(seconds, value) for seconds, value in sorted(raw, key=lambda pair: pair[0])]
    picture = chart([("edge", points)], start=START, end=END)
    if picture is None:
        assert all(value is None for _, value in points)
        return

    path = picture.lines[0].path

    assert re.fullmatch(r"(M[\d.]+ [\d.]+|H[\d.]+|V[\d.]+)+", path)
    across = [float(x) for x in re.findall(r"[MH]([\d.]+)", path)]
    heights = [float(y) for y in re.findall(r"(?:V|M[\d.]+ )([\d.]+)", path)]
    assert across == sorted(across)
    assert max(across) <= WIDTH
    assert all(0 <= y <= HEIGHT for y in heights)


@pytest.mark.parametrize("counts", [(), (0, 0, 0)])
def test_no_count_is_no_bar(counts: tuple[int, ...]) -> None:
    assert bars(counts) == ()


def test_bars_are_as_high_as_their_counts() -> None:
    drawn_bars = bars((1, 0, 2))

    assert [bar.height for bar in drawn_bars] == [57.0, 114.0]
    assert drawn_bars[1].x > 2 / 3 * WIDTH
