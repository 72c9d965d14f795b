"""The reference jumps: prices to measure what a spike rule finds (`detection.md` 4.1).

Markets are random walks in logit space with heavy-tailed steps (Student t, 4 degrees of
freedom), volatility that differs between markets (lognormal) and switches between calm,
usual and nervous; half of them quote in cents, half in tenths of a cent. A third of the
jumps comes as one step, a third over 5 ticks, a third over 15; sizes are 0.25 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from markets.fills import FREE, SIZE_ONE
from markets.listing import MarketTerms
from rules.kernel.spike import NS, SpikeParams, SpikeWatch

RAMPS = (1, 5, 15)
FOUND_WITHIN = 25  # ticks
EXCUSED = 60  # ticks after a jump in which an alarm is not a false one

Alarms = list[list[int]]  # ticks of each market's alarms
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Jumps:
    """Mids (bid + ask in 1e-4 USD, a row per market) and the jumps: market, tick, ramp."""

    mids: Ints
    ticks: list[int]  # 1e-4 USD, per market
    planted: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Score:
    """What a rule found, and its false alarms per update."""

    recall: float
    by_ramp: tuple[float, ...]
    false_alarms: float
    false: int

    def __str__(self) -> str:
        ramps = "/".join(f"{share:.2f}" for share in self.by_ramp)
        return f"recall {self.recall:.2f} ({ramps}), {self.false_alarms * 1e4:.2f} per 10,000"


def planted_jumps(
    seed: int, *, markets: int, length: int = 6_000, each: int = 3, fine: float = 0.5
) -> Jumps:
    """Return quotes of markets with `each` jumps; `fine` is the share with ticks of 0.1 cent."""
    rng = np.random.default_rng(seed)
    ticks = np.where(np.arange(markets) < fine * markets, 10, 100)
    steps = _walk(rng, markets, length)
    planted = []
    gap = (length - 700) // each
    for market in range(markets):
        for number in range(each):
            at = 500 + number * gap + int(rng.integers(0, gap - 150))
            ramp = RAMPS[(market + number) % len(RAMPS)]
            steps[market, at : at + ramp] += rng.uniform(0.25, 1) * rng.choice((-1, 1)) / ramp
            planted.append((market, at, ramp))
    level = rng.uniform(-2, 2, markets)
    logits = np.empty_like(steps)
    drawn = level.copy()
    for tick in range(length):
        drawn = level + (drawn - level) * 0.9995 + steps[:, tick]
        logits[:, tick] = drawn
    chance = 10_000 / (1 + np.exp(-logits))
    bids = np.clip(np.floor(chance / ticks[:, None]), 1, 10_000 // ticks[:, None] - 2)
    mids = (2 * bids + 1) * ticks[:, None]
    return Jumps(mids.astype(int), ticks.tolist(), planted)


def _walk(rng: np.random.Generator, markets: int, length: int) -> Floats:
    usual = np.exp(rng.normal(np.log(0.006), 0.8, markets))
    moods, odds = np.array([0.5, 1.0, 3.0]), (0.4, 0.45, 0.15)
    mood = rng.choice(3, markets, p=odds)
    nervous = np.empty((markets, length))
    for tick in range(length):
        changes = rng.random(markets) < 1 / 500
        mood = np.where(changes, rng.choice(3, markets, p=odds), mood)
        nervous[:, tick] = moods[mood]
    steps: Floats = usual[:, None] * nervous * rng.standard_t(4, (markets, length)) / np.sqrt(2)
    return steps


def score(alarms: Alarms, jumps: Jumps) -> Score:
    """Match alarms with jumps; several alarms for one jump are one."""
    hits = dict.fromkeys(RAMPS, 0)
    excused = 0
    for market, at, ramp in jumps.planted:
        hits[ramp] += any(at <= tick <= at + FOUND_WITHIN for tick in alarms[market])
        excused += sum(at <= tick <= at + EXCUSED for tick in alarms[market])
    counts = {ramp: sum(1 for _, _, r in jumps.planted if r == ramp) for ramp in RAMPS}
    return Score(
        recall=sum(hits.values()) / len(jumps.planted),
        by_ramp=tuple(hits[ramp] / max(1, counts[ramp]) for ramp in RAMPS),
        false_alarms=(sum(map(len, alarms)) - excused) / jumps.mids.size,
        false=sum(map(len, alarms)) - excused,
    )


def watched(jumps: Jumps, params: SpikeParams, *, only_changes: bool = False) -> Alarms:
    """Run the rule over every market, one tick a second.

    With `only_changes` a tick that changes nothing is not told, except to a
    watch that waits for one.
    """
    return [
        _watched(row.tolist(), tick, params, only_changes)
        for row, tick in zip(jumps.mids, jumps.ticks, strict=True)
    ]


def _watched(mids: Sequence[int], tick: int, params: SpikeParams, only_changes: bool) -> list[int]:
    watch = SpikeWatch(_terms(tick), params)
    found, before = [], 0
    for number, mid in enumerate(mids):
        if only_changes and mid == before and not watch.waiting:
            continue
        before, bid = mid, (mid - tick) // 2
        if watch.update(number * NS, bid, bid + tick, 10**9, 10**9) is not None:
            found.append(number)
    return found


def _terms(tick: int) -> MarketTerms:
    return MarketTerms(
        market_id="1",
        condition_id="0x1",
        question="Will it jump?",
        token_ids=("1", "2"),
        outcomes=("Yes", "No"),
        tick=tick,
        min_size=5 * SIZE_ONE,
        fee=FREE,
        untradable=None,
        payout=None,
        end_at=None,
    )


def by_fixed_threshold(jumps: Jumps, least: float, *, window: int = 20) -> Alarms:
    """Run the rule to compare with: the mid moved by `least` USD within so many ticks."""
    moved = np.abs(jumps.mids[:, window:] - jumps.mids[:, :-window]) > least * 20_000
    alarms: Alarms = []
    for row in moved:
        found: list[int] = []
        for tick in (np.nonzero(row)[0] + window).tolist():
            if not found or tick - found[-1] > 50:
                found.append(tick)
        alarms.append(found)
    return alarms


def at_false_alarms(
    rate: float, jumps: Jumps, alarms_at: Callable[[float], Alarms], low: float, high: float
) -> tuple[float, Score]:
    """Return the lowest threshold between two with no more false alarms than `rate`."""
    for _ in range(9):
        middle = (low + high) / 2
        if score(alarms_at(middle), jumps).false_alarms > rate:
            low = middle
        else:
            high = middle
    return high, score(alarms_at(high), jumps)
