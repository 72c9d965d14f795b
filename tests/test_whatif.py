"""The comparison: what is the same, new, lost and changed, and what would have been alerted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.models import OutboxEntry
from markets import catalogue
from markets.frames import Frame, moment
from markets.models import Event
from rules.dsl import parse_rule
from rules.engine import ActiveRule
from rules.load import publish
from signals import store, whatif
from signals.episodes import SignalChange
from signals.pipeline import Pipeline
from signals.whatif import BPS, SECONDS, Histogram, Life, Tally, WhatIf, differences, matched
from tests.live_cast import SECOND, SHIPPED, START, rule, simulated


@pytest.fixture(scope="module")
def minute() -> list[Frame]:
    return list(simulated(seconds=60))


def compared(frames: list[Frame], candidate: ActiveRule, live: ActiveRule | None) -> Any:
    running = WhatIf(candidate, live)
    for frame in frames:
        running.take(frame)
    return json.loads(json.dumps(running.finish().row()))


def life(**changed: Any) -> Life:
    values: dict[str, Any] = {
        "key": "a",
        "kind": "yes_basket",
        "event_id": "7",
        "market_ids": ("1", "2"),
        "level": "P1",
        "opened_at": 10 * SECOND,
        "closed_at": 20 * SECOND,
        "peak_edge_bps": Decimal(50),
        "peak_profit": Decimal(2),
        "strength": Decimal(0),
    }
    return Life(**{**values, **changed})


# --- over real frames ----------------------------------------------------------------


def test_a_version_beside_itself_is_all_the_same(minute):
    row = compared(minute, rule(), rule())

    assert row["counts"]["same"] > 15
    assert row["counts"] == {"same": row["live"]["signals"], "changed": 0, "new": 0, "lost": 0}
    assert row["live"] == row["candidate"]
    assert row["edge"]["live"] == row["edge"]["candidate"]
    assert sum(row["edge"]["live"]) == sum(row["lifetime"]["live"]) == row["live"]["signals"]


def test_a_kind_that_is_left_out_is_lost_and_one_that_is_added_is_new(minute):
    both, one = rule(), rule(kinds="[yes_basket]")

    fewer, more = compared(minute, one, both), compared(minute, both, one)

    lost = Counter(row["kind"] for row in fewer["lost"]["rows"])
    assert lost["no_basket"] > 3 and "yes_basket" not in lost
    assert fewer["counts"]["new"] == fewer["counts"]["changed"] == 0
    assert more["counts"]["new"] == fewer["counts"]["lost"] == sum(lost.values())
    assert more["new"]["rows"][0] | {"key": ""} == fewer["lost"]["rows"][0] | {"key": ""}


def test_a_higher_threshold_changes_levels_and_alerts_and_nothing_else(minute):
    row = compared(minute, rule(min_profit_usd="3"), rule())

    assert row["counts"]["changed"] > 3
    assert row["counts"]["new"] == row["counts"]["lost"] == 0
    for pair in row["changed"]["rows"]:
        assert set(pair["differs"]) <= {"level", "alert"}
        pays_enough = Decimal(pair["candidate"]["peak_profit"]) >= 3
        assert (pair["live"]["level"], pair["candidate"]["level"]) == (
            ("P1", "P1") if pays_enough else ("P1", "P2")
        )
        # What pays enough is alerted where the one before it, of the same legs, was not.
        assert not pays_enough or pair["candidate"]["alert"] == "sent"
    assert row["candidate"]["alerts"] < row["live"]["alerts"]


def test_less_capital_changes_profits(minute):
    row = compared(minute, rule(capital_usd="20"), rule())

    changed = [pair for pair in row["changed"]["rows"] if "peak_profit" in pair["differs"]]
    assert changed
    for pair in changed:
        assert Decimal(pair["candidate"]["peak_profit"]) < Decimal(pair["live"]["peak_profit"])


def test_a_longer_cooldown_changes_alerts_alone(minute):
    row = compared(minute, rule(cooldown_secs="86400"), rule(cooldown_secs="0"))

    assert row["candidate"]["alerts_held_back"] > 0 == row["live"]["alerts_held_back"]
    assert row["candidate"]["by_level"] == row["live"]["by_level"]
    assert {name for pair in row["changed"]["rows"] for name in pair["differs"]} == {"alert"}


def test_where_no_version_is_published_all_is_new(minute):
    row = compared(minute[:4000], rule(), None)

    assert row["live"] is None
    assert row["counts"]["new"] == row["candidate"]["signals"] > 0
    assert row["counts"]["same"] == row["counts"]["lost"] == row["counts"]["changed"] == 0


def test_the_rules_that_ran_then_are_left_out(minute):
    body = json.dumps({"rules": []}).encode()
    switched_off = Frame(minute[10].t, "gamma", body, req="house/rules")

    row = compared([*minute[:10], switched_off, *minute[10:]], rule(), rule())

    assert row == compared(minute, rule(), rule())


def test_what_the_desk_knew_is_counted(minute):
    relations = Frame(START, "gamma", b'{"relations": []}', req="house/relations")

    row = compared([relations, *minute[:100]], rule(), rule())

    assert row["told"] == {"house/relations": 1}


def test_after_a_new_beginning_nothing_goes_on(minute):
    running = WhatIf(rule(), None)
    for frame in minute[: len(minute) // 2]:
        running.take(frame)
    running.begin()

    row = running.finish().row()

    open_then = [each for each in row["new"]["rows"] if each["why"] == "end_of_data"]
    assert open_then
    assert all(each["opened_at"] + each["lived_ns"] <= running.last_at for each in open_then)


def test_signals_have_the_keys_that_the_live_path_gave_them(minute):
    pipeline = Pipeline((rule(),))
    changes = [change for frame in minute for change in pipeline.feed(frame).changes]

    row = compared(minute, rule(), None)

    opened = {change.key for change in changes if change.change == "opened"}
    assert {each["key"] for each in row["new"]["rows"]} == opened


@pytest.mark.django_db
@pytest.mark.parametrize("cooldown", ["5", "60"])
def test_alerts_are_those_that_the_desk_would_have_put_into_its_outbox(minute, cooldown):
    active = rule(cooldown_secs=cooldown)
    text = active.definition.canonical()
    publish(parse_rule(text, source="test"), source=text)
    pipeline, tally = Pipeline((active,)), Tally(active)
    for frame in minute:
        changes = pipeline.feed(frame).changes
        list_unknown(pipeline, changes)
        store.save(each for each in changes if each.change != "updated" or each.level == "P1")
        tally.take(changes)

    held = OutboxEntry.objects.filter(state=OutboxEntry.State.SUPPRESSED).count()
    alerts = Counter(each.alert for each in tally.lives)
    assert alerts["held back"] == held
    assert alerts["sent"] == OutboxEntry.objects.count() - held > 3


def list_unknown(pipeline: Pipeline, changes: Iterable[SignalChange]) -> None:
    """Store the events of what changed that are not stored yet."""
    for event_id in {change.finding.event_id for change in changes}:
        if event_id and not Event.objects.filter(pk=event_id).exists():
            catalogue.store([pipeline.events[event_id]], seen_at=moment(START))


def test_what_ended_before_the_window_is_left_out(minute):
    since = START + 40 * SECOND
    whole, late = WhatIf(rule(), None), WhatIf(rule(), None, since=since)
    for frame in minute:
        whole.take(frame)
        late.take(frame)

    everything, window = whole.finish(), late.finish()

    wanted = [each for each in everything.candidate.lives if each.closed_at >= since]
    assert [each.key for each in window.candidate.lives] == [each.key for each in wanted]
    assert 0 < len(wanted) < len(everything.candidate.lives)
    earlier = [each for each in window.candidate.lives if each.alert == "earlier"]
    assert all(each.opened_at < since for each in earlier)
    assert window.candidate.row()["alerts"] <= everything.candidate.row()["alerts"]


# --- matching ------------------------------------------------------------------------


def test_a_basket_is_the_same_whichever_of_its_legs_it_buys():
    before, after = life(), life(key="b", market_ids=("1", "2", "3"))

    assert matched([before], [after]) == [(before, after)]


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "no_basket"},
        {"event_id": "8"},
        {"opened_at": 21 * SECOND, "closed_at": 22 * SECOND},
        {"opened_at": 1 * SECOND, "closed_at": 9 * SECOND},
    ],
)
def test_another_kind_place_or_time_is_another_signal(other):
    assert matched([life()], [life(key="b", **other)]) == []


def test_pairs_of_markets_are_told_apart_by_their_legs():
    def pair(key: str, *markets: str) -> Life:
        return life(key=key, kind="implies", event_id=None, market_ids=markets)

    live = [pair("a", "1", "2"), pair("b", "1", "3")]
    candidate = [pair("c", "1", "3"), pair("d", "1", "2")]

    pairs = matched(live, candidate)

    assert [(before.key, after.key) for before, after in pairs] == [("a", "d"), ("b", "c")]


def test_one_that_is_cut_in_two_is_changed_and_new():
    whole = life()
    parts = [
        life(key="b", closed_at=13 * SECOND),
        life(key="c", opened_at=14 * SECOND, closed_at=20 * SECOND),
    ]

    assert matched([whole], parts) == [(whole, parts[0])]


def test_differences_are_named():
    other = life(
        level="P2",
        peak_edge_bps=Decimal(51),
        peak_profit=Decimal(1),
        closed_at=21 * SECOND,
        alert="sent",
    )

    assert differences(life(), life(key="b", why="stopped")) == []
    assert differences(life(), other) == ["level", "peak_edge", "peak_profit", "lifetime", "alert"]


times = st.tuples(st.integers(0, 60), st.integers(0, 30))
lives = st.lists(st.tuples(st.sampled_from("78"), times), max_size=12)


def made(rows: list[Any], side: str) -> list[Life]:
    return [
        life(key=f"{side}{n}", event_id=event, opened_at=at, closed_at=at + lasted)
        for n, (event, (at, lasted)) in enumerate(rows)
    ]


@given(lives, lives)
def test_no_life_is_in_two_pairs_and_no_possible_pair_is_left(live_rows, candidate_rows):
    live, candidate = made(live_rows, "l"), made(candidate_rows, "c")

    pairs = matched(live, candidate)

    used = [each.key for pair in pairs for each in pair]
    assert len(used) == len(set(used))
    for before, after in pairs:
        assert before.event_id == after.event_id and before.overlaps(after)
    for before in live:
        for after in candidate:
            together = before.event_id == after.event_id and before.overlaps(after)
            assert not together or before.key in used or after.key in used


# --- histograms and lists ------------------------------------------------------------


@given(st.lists(st.decimals(0, 10_000, places=2)))
def test_every_value_lies_in_one_bin_whose_edges_enclose_it(values):
    histogram = Histogram.of(BPS, values, [])

    assert len(histogram.live) == len(BPS) + 1
    for number, count in enumerate(histogram.live):
        low = BPS[number - 1] if number else Decimal("-Infinity")
        high = BPS[number] if number < len(BPS) else Decimal("Infinity")
        assert count == sum(low <= value < high for value in values)
    assert sum(histogram.candidate) == 0


def test_bins_grow_by_the_same_steps():
    for edges in (BPS, whatif.STRENGTH, SECONDS):
        assert list(edges) == sorted(set(edges))
        assert all(1.5 <= high / low <= 3.1 for low, high in pairwise(edges))


def test_long_lists_say_how_much_they_leave_out(minute, monkeypatch):
    monkeypatch.setattr(whatif, "MOST_LISTED", 3)

    row = compared(minute, rule(), None)

    assert len(row["new"]["rows"]) == 3
    assert row["new"]["left_out"] == row["counts"]["new"] - 3
    profits = [Decimal(each["peak_profit"]) for each in row["new"]["rows"]]
    assert profits == sorted(profits, reverse=True)
    assert {each["level"] for each in row["new"]["rows"]} == {"P1"}


def test_what_is_observed_is_compared_by_its_strength(minute):
    text = (SHIPPED.parent / "spike_detect.yaml").read_text()
    spike = ActiveRule.of(parse_rule(text, source="test"))

    row = compared(minute[:200], spike, spike)

    assert row["measure"] == "strength"
    assert len(row["edge"]["edges"]) == len(whatif.STRENGTH)
