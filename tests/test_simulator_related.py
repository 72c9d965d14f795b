"""What the simulated venue relates on purpose, and that nothing else in it is related."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain

import pytest

from markets.frames import Frame
from markets.ladders import find_ladders
from markets.matching import match
from markets.questions import Wording, read
from markets.related import BASES, Proposal
from markets.simulator.latent import ByDate, Common
from markets.simulator.truth import Truth
from markets.simulator.world import World, frames
from rules.dsl import read_dir
from rules.engine import ActiveRule
from signals.pipeline import Pipeline
from tests.servers import ROOT

START = 1_781_000_040 * 10**9
SECOND = 10**9
SEEDS = [1, 2, 3]
BETWEEN = {"equivalent", "ladder"}
RULES = ("CROSS_MARKET_MISPRICE", "TEMPORAL_ARB")


def wordings(world: World) -> dict[str, Wording]:
    """What the desk would store of a world's open markets."""
    found = {}
    for event in world.gamma_events():
        for market in event["markets"]:  # type: ignore[attr-defined]
            if market["active"] and not market["closed"]:
                found[market["id"]] = Wording(
                    market_id=market["id"],
                    question=market["question"],
                    outcomes=tuple(json.loads(market["outcomes"])),
                    label=market["groupItemTitle"],
                    event_id=str(event["id"]),
                    event_title=str(event["title"]),
                    end_at=datetime.fromisoformat(market["endDate"]),
                    rules=market["description"],
                    source=market["resolutionSource"],
                    neg_risk=bool(event["negRisk"]),
                    payout=None,
                    opened_at=datetime.fromisoformat(market["startDate"]),
                )
    return found


def proposals(listed: dict[str, Wording]) -> list[Proposal]:
    readings = [(wording, read(wording)) for wording in listed.values()]
    return [*match(readings, threshold=0.78), *find_ladders(readings).proposed]


def events_of(proposal: Proposal, listed: dict[str, Wording]) -> frozenset[str]:
    return frozenset(listed[market].event_id for market in proposal.members)


def tied(world: World) -> Counter[tuple[str, frozenset[str]]]:
    """The pairs of events that the world ties: how, and which."""
    ties = {id(tie): tie for event in world.stage.events.values() for tie in event.ties}
    return Counter(
        (tie.kind, frozenset((tie.first.spec.event_id, tie.second.spec.event_id)))
        for tie in ties.values()
    )


@pytest.mark.parametrize("events", [20, 60, 200])
@pytest.mark.parametrize("seed", SEEDS)
def test_events_are_related_on_purpose_only(seed: int, events: int) -> None:
    world = World(seed=seed, events=events, start=START)
    listed = wordings(world)
    found = proposals(listed)

    across = [each for each in found if len(events_of(each, listed)) > 1]
    assert Counter((each.type, events_of(each, listed)) for each in across) == tied(world)
    assert {each.type for each in found} <= {"equivalent", "ladder"}
    assert len(across) == events // 20


@pytest.mark.parametrize("seed", SEEDS)
def test_no_question_is_asked_twice_but_by_an_equivalent_event(seed: int) -> None:
    world = World(seed=seed, events=300, start=START)
    asked = Counter(wording.question for wording in wordings(world).values())

    twice = sum(count - 1 for count in asked.values())
    assert twice == sum(kind == "equivalent" for kind, _ in tied(world).elements())


def test_every_date_ladder_is_proposed_whole() -> None:
    world = World(seed=1, events=60, start=START)
    listed = wordings(world)
    rungs = Counter(len(each.members) for each in proposals(listed) if each.method == "date ladder")

    ladders = [event for event in world.stage.events.values() if event.spec.kind == "date_ladder"]
    first = [event for event in ladders if not any(tie.second is event for tie in event.ties)]
    later = Counter({id(event): sum(len(kin.legs) for kin in event.kin) for event in first})
    assert rungs == Counter(len(event.legs) + later[id(event)] for event in first)


@pytest.mark.parametrize("seed", range(20))
def test_tied_events_end_without_contradicting_each_other(seed: int) -> None:
    rng = random.Random(seed)
    whole = ByDate(5, rng, floor=0.01)
    common = Common(whole)
    early, late = common.part(slice(3)), common.part(slice(3, 5))

    first = early.outcomes(rng)
    early.jump(rng)
    after = [*first, *late.outcomes(rng)]

    assert after == sorted(after)  # once it has happened it has by every later date
    assert not first[-1] or min(late.p) > 0.9


# --- on the desk -------------------------------------------------------------------------


def house(found: list[Proposal], *, approved: bool) -> Frame:
    rows = [
        {
            "type": each.type,
            "members": each.members,
            "approved": approved,
            "basis": BASES.get(each.method, ""),
        }
        for each in found
    ]
    body = json.dumps({"relations": rows}).encode()
    return Frame(START, "gamma", body, req="house/relations")


@dataclass(frozen=True)
class Told:
    """A change of a signal about related markets, with the events of its legs."""

    change: str
    level: str
    at: int
    events: frozenset[str]


@cache
def watched(seed: int, *, approved: bool) -> tuple[tuple[Truth, ...], tuple[Told, ...]]:
    """Three simulated minutes with all that is proposed, and what was told of related markets."""
    world = World(seed=seed, start=START)
    files, _ = read_dir(ROOT / "rules" / "defs")
    rules = tuple(ActiveRule.of(file.definition) for file in files)
    pipeline = Pipeline(tuple(rule for rule in rules if rule.code in RULES))
    listed = wordings(world)
    feed = [house(proposals(listed), approved=approved)]
    told = [
        Told(each.change, each.level, each.at,
             frozenset(listed[market].event_id for market in each.finding.market_ids))
        for frame in chain(feed, frames(world, until=START + 180 * SECOND))
        for each in pipeline.feed(frame).changes
    ]  # fmt: skip
    return tuple(world.truth), tuple(told)


def is_of(told: Told, row: Truth) -> bool:
    """Whether it tells of what a window of the truth log is about."""
    return told.events <= {row.event_id, row.other_event_id} and row.t0 <= told.at <= row.t1


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_related_markets_are_mispriced_where_the_log_says_so_only(seed: int) -> None:
    truth, told = watched(seed, approved=True)

    said = [each for each in told if each.change != "closed"]
    assert [each for each in said if not any(is_of(each, row) for row in truth)] == []
    assert "spontaneous" not in {row.family for row in truth}


def test_a_planted_pair_is_p3_until_its_relation_is_approved_and_p1_then() -> None:
    for approved, level in ((False, "P3"), (True, "P1")):
        truth, told = watched(1, approved=approved)
        planted = [row for row in truth if row.family == "planted" and row.kind in BETWEEN]

        assert planted
        for row in planted:
            assert row.other_event_id
            assert 7 * SECOND < row.t1 - row.t0 < 27 * SECOND
            assert level in {each.level for each in told if is_of(each, row)}
        assert approved or "P1" not in {each.level for each in told}


def test_a_newcomer_sees_a_pair_soon_and_then_every_couple_of_minutes() -> None:
    truth, _ = watched(1, approved=True)
    starts = [(row.t0 - START) / SECOND for row in truth
              if row.family == "planted" and row.kind in BETWEEN]  # fmt: skip

    assert {row.kind for row in truth if row.other_event_id and row.planted} == BETWEEN
    assert starts[0] < 45
    assert 2 <= len(starts) <= 4
