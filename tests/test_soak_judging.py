"""What an hour's program calls flat, and what it calls the same signal: it must be able to fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.one_process import SECOND, Told, differing, moved
from tests.soak.watched import Sample, judged

T0 = 1_800_000_000 * SECOND


def samples(*, mb_per_hour: float = 0.0, fds_per_hour: float = 0.0, pid: int = 7) -> list[Sample]:
    """An hour of a part that begins with 200 MB and 30 open files."""
    return [
        Sample(
            at=at,
            part="stream",
            pid=pid,
            processes=1,
            rss_mb=200 + mb_per_hour * at / 3_600,
            fds=round(30 + fds_per_hour * at / 3_600),
            threads=9,
            cpu_seconds=at / 4,
        )
        for at in range(0, 3_601, 10)
    ]


def test_what_stays_as_it_is_is_flat_and_its_figures_are_those_after_the_warm_up():
    (row,) = judged(samples(mb_per_hour=5), warm_seconds=600)

    assert row.complaints == ()
    assert row.growth_mb == pytest.approx(5 * 3_000 / 3_600, abs=0.1)
    assert (row.samples, row.cpu_percent) == (301, 25.0)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (samples(mb_per_hour=30), "25.0 MB more"),
        (samples(fds_per_hour=20), "open files became"),
        (samples()[:180] + samples(pid=8)[180:], "another process"),
        ([*samples()[:-1], replace(samples()[-1], processes=0)], "another process"),
    ],
)
def test_what_grows_or_is_replaced_is_not_flat(told: list[Sample], complaint: str):
    (row,) = judged(told, warm_seconds=600)

    assert complaint in " ".join(row.complaints)


def spike(key: str, *, late_ms: int = 0, **changes: object) -> Told:
    at = T0 + late_ms * SECOND // 1_000
    told = Told(key, "SPIKE", "spike", ("1",), "P2", "moved_back", 5, at, at + 9 * SECOND)
    return replace(told, **changes)  # type: ignore[arg-type]


def paired(one: Told, other: Told, at_once: tuple[str, ...] = ()) -> tuple[int, int]:
    """Return how many pairs were only moved, and how many signals differ."""
    wrong = differing({one.key: one}, {other.key: other})
    pairs, left, right = moved(wrong, at_once=at_once)
    return len(pairs), len(left) + len(right)


def test_the_same_signal_is_no_difference():
    assert differing({"a": spike("a")}, {"a": spike("a")}) == []


def test_what_only_began_a_moment_later_is_moved():
    assert paired(spike("a"), spike("b", late_ms=3)) == (1, 0)


def test_no_rule_that_frames_alone_move_is_ever_moved():
    assert paired(spike("a"), spike("b", late_ms=3), at_once=("SPIKE",)) == (0, 2)


@pytest.mark.parametrize(
    "other",
    [
        spike("b", late_ms=1_500),
        spike("b", level="P1"),
        spike("b", why="book_stale"),
        spike("b", markets=("2",)),
        spike("b", closed_at=0),
    ],
)
def test_what_is_told_otherwise_is_a_difference(other: Told):
    assert paired(spike("a"), other) == (0, 2)
