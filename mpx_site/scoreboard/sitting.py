"""Sitting the exam: its cases go through the live path, many at a time."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from markets.frames import Frame
from markets.simulator.exam import HISTORY, START, Case
from mpx_site.scoreboard.families import CODES
from rules.dsl import RuleDefinition, load_dir
from rules.engine import ActiveRule
from rules.house import HISTORY as HISTORY_REQ
from rules.house import RELATIONS as RELATIONS_REQ
from rules.kernel.finding import Finding
from signals.episodes import SignalChange
from signals.pipeline import Pipeline

SECOND = 10**9
TOGETHER = 100  # cases that share a pipeline, their frames mixed by time
PAGE = 100  # events of a catalogue page
DEFINITIONS = Path(__file__).resolve().parents[2] / "rules" / "defs"


@dataclass(slots=True)
class Told:
    """One signal as it came out: times are unix ns. `p1` is what it said when it became P1."""

    code: str
    key: str
    opened_at: int
    first: Finding
    took_ns: int  # from the frame's arrival to the signal, as measured
    p1: Finding | None = None
    p1_at: int = 0
    closed_at: int = 2**63
    levels: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A case and all signals about its markets. `baited`: how many differ without its bait."""

    case: Case
    signals: tuple[Told, ...]
    baited: int = 0


def rules(*, capital: int | None = None) -> tuple[ActiveRule, ...]:
    """Return the shipped rules that are examined, all switched on, with a bound on their money."""
    wanted = set(CODES.values())
    found = [each for each in load_dir(DEFINITIONS) if each.code in wanted]
    return tuple(ActiveRule.of(_bounded(each, capital)) for each in found)


def _bounded(rule: RuleDefinition, capital: int | None) -> RuleDefinition:
    params: Any = getattr(rule, "params", None)
    changes: dict[str, Any] = {"enabled": True}
    if capital is not None and hasattr(params, "capital_usd"):
        changes["params"] = params.model_copy(update={"capital_usd": Decimal(capital)})
    return rule.model_copy(update=changes)


def sit(cases: Iterable[Case]) -> Iterator[Answer]:
    """Run cases through the pipeline and yield what was told of each."""
    for _, group in groupby(enumerate(cases), key=lambda pair: pair[0] // TOGETHER):
        by_capital: dict[int | None, list[Case]] = {}
        for _, case in group:
            by_capital.setdefault(case.capital, []).append(case)
        for capital, some in by_capital.items():
            yield from _together(some, rules(capital=capital))


def _together(cases: Sequence[Case], active: Sequence[ActiveRule]) -> Iterator[Answer]:
    owner = {market: at for at, case in enumerate(cases) for market in case.charges}
    signals: list[dict[str, Told]] = [{} for _ in cases]
    for change, took in _changes(cases, active):
        _take(signals[owner[change.finding.market_ids[0]]], change, took)
    for case, told in zip(cases, signals, strict=True):
        yield Answer(case, tuple(told.values()), _baited(case, active) if case.bait else 0)


def _take(told: dict[str, Told], change: SignalChange, took: int) -> None:
    if change.change == "opened":
        told[change.key] = Told(
            change.rule.code, change.key, change.at, change.finding, took_ns=took
        )
    signal = told[change.key]
    signal.levels.append(change.level)
    if change.level == "P1" and signal.p1 is None and change.change != "closed":
        signal.p1, signal.p1_at = change.finding, change.at
    if change.change == "closed":
        signal.closed_at = change.at


def _changes(
    cases: Sequence[Case], active: Sequence[ActiveRule]
) -> Iterator[tuple[SignalChange, int]]:
    """Feed all frames in order of time; yield what they change and how long each took."""
    pipeline = Pipeline(active)
    last = START
    streams = [sorted((*case.frames, *case.bait), key=lambda frame: frame.t) for case in cases]
    for frame in (*_opening(cases), *heapq.merge(*streams, key=lambda frame: frame.t)):
        begun = time.perf_counter_ns()
        step = pipeline.feed(frame)
        took = time.perf_counter_ns() - begun
        last = frame.t
        yield from ((change, took) for change in step.changes)
    yield from ((change, 0) for change in pipeline.advance(last + 5 * SECOND))
    yield from ((change, 0) for change in pipeline.stop())


def _opening(cases: Sequence[Case]) -> Iterator[Frame]:
    """Give what is known before anything is quoted: the catalogue, relations and the past."""
    pages = [page for case in cases for page in case.pages]
    t = START - 10 * SECOND
    for number, first in enumerate(range(0, len(pages), PAGE)):
        body = msgspec.json.encode({"events": pages[first : first + PAGE]})
        yield Frame(t + number, "gamma", body, req=f"/events/keyset?limit={PAGE}&part={number}")
    relations = [relation for case in cases for relation in case.relations]
    t += SECOND
    yield Frame(t, "gamma", msgspec.json.encode({"relations": relations}), req=RELATIONS_REQ)
    yield Frame(t + 1, "gamma", msgspec.json.encode({"cells": HISTORY}), req=HISTORY_REQ)


def _baited(case: Case, active: Sequence[ActiveRule]) -> int:
    """Count the lines by which a case's signals differ with and without its bait."""
    with_bait = [change.line() for change, _ in _changes([case], active)]
    without = [change.line() for change, _ in _changes([replace(case, bait=())], active)]
    return len(set(with_bait).symmetric_difference(without))
