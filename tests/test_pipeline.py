"""The spine on the simulated venue, judged by what was really there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from markets.frames import Frame
from markets.simulator.truth import DECOYS, PLANTED, Truth
from markets.simulator.world import World, frames
from rules.dsl import read_dir
from rules.engine import ActiveRule
from signals.episodes import SignalChange
from signals.pipeline import Pipeline
from tests.servers import ROOT

START = 1_770_000_000_000_000_000
SECOND = 1_000_000_000
MS = 1_000_000
PERSIST = 250 * MS  # that a finding stands before it is P1
SEEDS = [1, 2, 3, 4]
REAL = PLANTED | {"jump", "spontaneous"}


def shipped_rules() -> tuple[ActiveRule, ...]:
    files, problems = read_dir(ROOT / "rules" / "defs")
    assert not problems
    return tuple(ActiveRule.of(file.definition) for file in files)


def run(feed: Iterable[Frame]) -> tuple[Pipeline, list[SignalChange]]:
    pipeline = Pipeline(shipped_rules())
    changes = [change for frame in feed for change in pipeline.feed(frame).changes]
    return pipeline, [*changes, *pipeline.stop()]


@dataclass(frozen=True)
class Watched:
    """Two and a half simulated minutes, and what was made of them."""

    truth: tuple[Truth, ...]
    changes: tuple[SignalChange, ...]
    problems: int

    def executable(self) -> Iterator[SignalChange]:
        for change in self.changes:
            if change.level == "P1" and change.change != "closed":
                yield change

    def within(self, row: Truth) -> list[SignalChange]:
        return [change for change in self.executable() if speaks_of(change, row)]

    def seen(self, row: Truth) -> list[SignalChange]:
        """Return what was told of it, P1 or not yet."""
        found = (change for change in self.changes if change.finding.verdict == "EXECUTABLE")
        return [change for change in found if speaks_of(change, row)]


def speaks_of(change: SignalChange, row: Truth) -> bool:
    same = (change.finding.event_id, change.finding.kind) == (row.event_id, row.kind)
    return same and row.t0 <= change.at <= row.t1


@cache
def watched(seed: int) -> Watched:
    world = World(seed=seed, events=40, start=START, plant_every=6, decoy_every=3)
    pipeline, changes = run(frames(world, until=START + 150 * SECOND))
    return Watched(tuple(world.truth), tuple(changes), pipeline.problems.total)


def planted_in_one_event(seed: int) -> list[Truth]:
    """Return what can be seen without knowing how events are related."""
    planted = (row for row in watched(seed).truth if row.family in PLANTED)
    return [row for row in planted if not row.other_event_id]


# --- nothing missed, no phantoms -----------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_every_planted_arbitrage_is_a_p1_while_it_lives(seed):
    planted = planted_in_one_event(seed)

    assert len(planted) > 15
    assert [row for row in planted if not watched(seed).within(row)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_arbitrage_is_found_by_the_frame_that_completes_it(seed):
    planted = planted_in_one_event(seed)
    late = [watched(seed).seen(row)[0].at - row.t0 for row in planted]
    risen = [watched(seed).within(row)[0].at - row.t0 for row in planted]

    assert sorted(late)[len(late) // 2] < SECOND / 10_000  # a batch comes back to back
    assert sorted(risen)[len(risen) // 2] < PERSIST + SECOND / 10_000
    assert max(risen) < PERSIST + 0.3 * SECOND


@pytest.mark.parametrize("seed", SEEDS)
def test_no_decoy_is_a_p1(seed):
    """A flicker is one of them: it could be executed, by whoever is faster than people."""
    decoys = [row for row in watched(seed).truth if row.family in DECOYS]

    assert {row.family for row in decoys} == DECOYS
    assert [row for row in decoys if watched(seed).within(row)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_every_p1_speaks_of_something_that_was_there(seed):
    real = [row for row in watched(seed).truth if row.family in REAL]
    told = list(watched(seed).executable())

    assert len(told) > 20
    assert [
        change.row() for change in told if not any(speaks_of(change, row) for row in real)
    ] == []


def test_a_flicker_is_one_signal_and_never_p1():
    flickers = [(seed, row) for seed in SEEDS for row in watched(seed).truth
                if row.family == "flicker"]  # fmt: skip

    told = [watched(seed).seen(row) for seed, row in flickers]
    opened = [sum(change.change == "opened" for change in each) for each in told]
    assert len(flickers) > 15
    assert max(opened) == 1
    assert sum(opened) > len(flickers) / 2
    assert {change.level for each in told for change in each} == {"P2"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_only_likely_is_never_p1(seed):
    observed = [each for each in watched(seed).changes if each.finding.verdict == "OBSERVED"]

    assert {change.rule.code for change in observed} >= {"SPIKE_DETECT", "ORDER_BOOK_IMBALANCE"}
    assert "P1" not in {change.level for change in observed}


@pytest.mark.parametrize("seed", SEEDS)
def test_watch_list_names_what_spoils_a_decoy(seed):
    """A decoy that is shown at all is shown with its reason."""
    reasons = {
        "augmented": "augmented",
        "below_min_size": "min_size",
        "empty_leg": "one_sided",
        "paused_leg": "not_tradable",
    }
    for row in watched(seed).truth:
        shown = [
            change
            for change in watched(seed).changes
            if change.level == "P3" and change.change == "opened" and speaks_of(change, row)
        ]
        for change in shown if row.family in reasons else ():
            assert reasons[row.family] in change.finding.blocked_by, (row, change.row())


@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_venue_gives_no_problem(seed):
    assert watched(seed).problems == 0


# --- order ---------------------------------------------------------------------------


@cache
def minute(seed: int = 7, *, events: int = 20, seconds: int = 25) -> tuple[Frame, ...]:
    world = World(seed=seed, events=events, start=START, plant_every=3, decoy_every=2)
    return tuple(frames(world, until=START + seconds * SECOND))


@cache
def once() -> tuple[Pipeline, tuple[SignalChange, ...]]:
    """Return a pipeline that has ended, and what it told of the usual frames."""
    pipeline, changes = run(minute())
    return pipeline, tuple(changes)


def usual() -> tuple[SignalChange, ...]:
    return once()[1]


def test_changes_come_in_the_order_of_each_signals_life():
    pipeline, lives = Pipeline(shipped_rules()), {}
    for frame in minute():
        for change in pipeline.feed(frame).changes:
            assert change.at <= frame.t
            lives.setdefault(change.key, []).append(change)
    for change in pipeline.stop():
        lives.setdefault(change.key, []).append(change)

    assert len(lives) > 10
    for life in lives.values():
        assert [life[0].change, life[-1].change] == ["opened", "closed"]
        assert {change.change for change in life[1:-1]} <= {"updated"}
        assert [change.at for change in life] == sorted(change.at for change in life)


def test_stop_closes_everything_once():
    pipeline, changes = once()

    opened = [change.key for change in changes if change.change == "opened"]
    closed = [change.key for change in changes if change.change == "closed"]
    assert sorted(opened) == sorted(closed)
    assert len(pipeline.episodes) == 0
    assert pipeline.stop() == []


# --- the same again ------------------------------------------------------------------

PRINT_DIGEST = """
from tests.test_pipeline import minute, run
print(run(minute())[0].digest.hexdigest())
"""


def test_same_frames_give_the_same_digest_in_any_process():
    digests = {pipeline.digest.hexdigest() for pipeline in (once()[0], run(minute())[0])}
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", PRINT_DIGEST]
        digests.add(subprocess.check_output(command, cwd=ROOT, env=env, text=True).strip())

    assert len(digests) == 1


def test_other_frames_give_another_digest():
    some, other = (run(minute(seed, seconds=5))[0].digest for seed in (7, 8))

    assert some.hexdigest() != other.hexdigest()


def test_frames_that_come_twice_give_the_same_signals():
    def lives(changes: Iterable[SignalChange]) -> list[tuple[Any, ...]]:
        return [(c.change, c.key, c.at) for c in changes if c.change != "updated"]

    _, twice = run(frame for frame in minute() for _ in range(2))

    assert lives(usual()) == lives(twice)


# --- bad input -----------------------------------------------------------------------

DEEP = b"[" * 100_000
NONSENSE = (
    ("ws", b""),
    ("ws", b"null"),
    ("ws", b"\xff\xfe"),
    ("ws", DEEP),
    ("ws", b'{"event_type":"moon_phase"}'),
    ("ws", b'{"event_type":"price_change","market":"0xdead"}'),
    ("ws", b'[{"event_type":"book"},7,null]'),
    ("clob", b"<html>"),
    ("clob", b'[{"market":"0xdead","bids":7}]'),
    ("gamma", b"\xff\xfe"),
    ("gamma", DEEP),
    ("gamma", b'{"events":null}'),
    ("gamma", b'{"id":"1","markets":[null]}'),
    ("gamma", b'[{"id":"1","conditionId":"0xdead","clobTokenIds":"[1"}]'),
    ("gamma", b'{"id":"1","markets":[{"id":"2","orderPriceMinTickSize":1e999}]}'),
)


def test_nonsense_between_the_frames_changes_nothing():
    def disturbed() -> Iterator[Frame]:
        for number, frame in enumerate(minute()):
            channel, body = NONSENSE[number % len(NONSENSE)]
            yield frame
            yield Frame(frame.t, channel, body, frame.conn)

    pipeline, changes = run(disturbed())

    assert [change.line() for change in changes] == [change.line() for change in usual()]
    counts = pipeline.problems.counts()
    assert {"bad_frame", "unknown_event", "bad_answer", "bad_page", "bad_listing"} <= set(counts)


HOSTILE = (
    None, True, -1, 0, 1.7, 1e999, -0.0, "", "NaN", "-1", "0", "1", "0.5", "1.5", "1e999", "\x00",
    "9" * 5_000, "9" * 78, ".5", "0.123456789", "2026-13-45", "[]", '["a"]', [], {}, [[]], 10**30,
)  # fmt: skip


def spoil(value: Any, rng: random.Random) -> Any:
    """Change one thing somewhere inside a JSON value."""
    if isinstance(value, dict) and value:
        key, luck = rng.choice(list(value)), rng.random()
        rest = {name: each for name, each in value.items() if name != key}
        if luck < 0.15:
            return rest
        return {**rest, key: rng.choice(HOSTILE) if luck < 0.5 else spoil(value[key], rng)}
    if isinstance(value, list) and value:
        place, luck = rng.randrange(len(value)), rng.random()
        if luck < 0.2:
            return [*value, value[place]]
        new = [] if luck < 0.3 else [spoil(value[place], rng)]
        return [*value[:place], *new, *value[place + 1 :]]
    return rng.choice(HOSTILE)


@pytest.mark.parametrize("seed", range(12))
def test_no_spoilt_frame_stops_the_pipeline(seed):
    rng = random.Random(seed)
    pipeline = Pipeline(shipped_rules())

    for frame in minute(seed, events=12, seconds=4):
        for _ in range(2):
            body = json.dumps(spoil(json.loads(frame.body), rng)).encode()
            if rng.random() < 0.2:
                body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(3))
            pipeline.feed(Frame(frame.t, frame.ch, body, frame.conn, frame.req))
        pipeline.feed(frame)

    assert all(change.change == "closed" for change in pipeline.stop())
    assert pipeline.problems.total > 20
