"""Two markets that sound alike must settle alike before a relation between them counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from rules.kernel.resolution import Resolution, conflicts_of
from tests.related import rel

JUNE = datetime(2026, 6, 30, 23, 59, tzinfo=UTC)
JULY = datetime(2026, 7, 31, 23, 59, tzinfo=UTC)
BY_JUNE = Resolution("AP", JUNE, "UTC", "by", "void pays one half")
BY_JULY = replace(BY_JUNE, cut_off=JULY)
AT_JUNE = replace(BY_JUNE, observed="at")
AT_JULY = replace(AT_JUNE, cut_off=JULY)


def fields(kind: str, first: Resolution, second: Resolution) -> list[str]:
    found = conflicts_of(rel(kind, "a", "b"), {"a": first, "b": second})
    return [conflict.field for conflict in found]


@pytest.mark.parametrize(
    ("kind", "first", "second", "conflicting"),
    [
        ("equivalent", BY_JUNE, BY_JUNE, []),
        ("ladder", BY_JUNE, BY_JULY, []),
        ("ladder", BY_JULY, BY_JUNE, ["cut_off"]),  # the wrong way round
        ("implies", AT_JUNE, AT_JUNE, []),
        ("implies", AT_JUNE, AT_JULY, ["cut_off"]),  # measured at two moments
        ("implies", BY_JUNE, AT_JULY, ["observed", "cut_off"]),  # touch against close
        ("equivalent", BY_JUNE, BY_JULY, ["cut_off"]),
        ("exclusive", BY_JUNE, BY_JULY, ["cut_off"]),
    ],
)
def test_cut_offs_must_fit_the_direction_of_the_relation(kind, first, second, conflicting):
    assert fields(kind, first, second) == conflicting


@pytest.mark.parametrize(
    ("field", "value"),
    [("source", "Reuters"), ("zone", "ET"), ("ties", "the earlier name wins")],
)
@pytest.mark.parametrize("kind", ["equivalent", "ladder", "union"])
def test_another_source_zone_or_rule_for_ties_is_a_conflict(kind, field, value):
    assert fields(kind, BY_JUNE, replace(BY_JUNE, **{field: value})) == [field]


def test_the_same_day_in_two_time_zones_is_two_cut_offs():
    eastern = replace(
        BY_JUNE,
        cut_off=JUNE.replace(tzinfo=timezone(timedelta(hours=-4))),
        zone="ET",
    )

    assert fields("equivalent", BY_JUNE, eastern) == ["zone", "cut_off"]


def test_one_moment_written_in_two_zones_is_one_cut_off():
    shifted = replace(BY_JUNE, cut_off=JUNE.astimezone(timezone(timedelta(hours=5))))

    assert fields("equivalent", BY_JUNE, shifted) == []


@pytest.mark.parametrize("field", ["source", "zone", "observed", "ties"])
def test_what_nobody_knows_of_either_side_is_a_conflict(field):
    unknown = replace(BY_JUNE, **{field: ""})

    assert fields("equivalent", unknown, unknown) == [field]


def test_a_market_without_any_resolution_conflicts_with_everything():
    (conflict, *_) = conflicts_of(rel("implies", "a", "b"), {"a": BY_JUNE})

    assert str(conflict) == "source: AP against not known"


def test_every_neighbour_of_a_long_relation_is_compared():
    late = replace(BY_JUNE, source="Reuters")
    resolutions = {"a": BY_JUNE, "b": BY_JUNE, "c": late, "d": late}

    found = conflicts_of(rel("exclusive", "a", "b", "c", "d"), resolutions)

    assert [(each.field, each.first, each.second) for each in found] == [
        ("source", "AP", "Reuters")
    ]
