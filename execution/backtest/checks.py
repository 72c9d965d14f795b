"""The seven lookahead checks of `detection.md` 5, over anybody's own data (`backtest --check`).

Each says what it measured. What the data do not allow to be tested is said as such, and is
neither passed nor failed. A `Way` is how frames become signals and trades; a check is good
for something only if it finds a way that cheats, which its tests plant.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec.structs import replace as with_fields

from execution.backtest.endings import endings, other_ending
from execution.backtest.groups import survey
from execution.backtest.jobs import Plan
from execution.backtest.passing import LaneKey, Part
from execution.backtest.sources import paced
from execution.backtest.trades import NOTHING, Trade
from markets.frames import Frame
from rules.ml.checks import NEAR, shuffled_auc
from rules.ml.samples import Labels, Sample
from signals.episodes import SignalChange
from signals.samples import Sampler

NS: Final = 1_000_000_000
CUTS: Final = (1 / 3, 2 / 3)  # of the signal changes: where the past is cut off
LATENCIES_MS: Final = (0, 200, 500, 1_000, 2_000, 5_000)
FEES: Final = (Decimal(1), Decimal("1.5"), Decimal(2))
HAIRCUTS: Final = (Decimal(1), Decimal("0.5"), Decimal("0.25"))
ROUNDING: Final = Decimal("0.001")  # USD: what rounding of fees may add
LUCK: Final = Decimal("0.02")  # of the gain at once: how much waiting may bring by chance
PACED_SECONDS: Final = 3.0
PACED_FRAMES: Final = 5_000
SPEEDS: Final = (1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `ok` None: the data do not allow to tell."""

    number: int
    name: str
    ok: bool | None
    told: str

    def row(self) -> dict[str, object]:
        return {"number": self.number, "name": self.name, "ok": self.ok, "told": self.told}


def check_lines(found: Iterable[Check]) -> Iterator[str]:
    """Yield a line for each check."""
    words = {True: "pass", False: "FAIL", None: "none"}
    for each in found:
        yield f"{words[each.ok]}  {each.number} {each.name}: {each.told}"


@dataclass(slots=True)
class Ran:
    """What a pass told. `marks` are digests of all that was told before certain times."""

    digest: str = ""
    changes: int = 0
    opened_at: list[int] = field(default_factory=list)  # of changes, when they were told
    marks: dict[int, tuple[str, int]] = field(default_factory=dict)
    trades: dict[str, list[Trade]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


Way = Callable[[Plan, Iterator[Frame], Sequence[int]], Ran]
Say = Callable[[str], None]


def honest(plan: Plan, frames: Iterator[Frame], marks: Sequence[int]) -> Ran:
    """Run the plan's own parts over frames; `marks` are unix ns, in order."""
    ran, sha, left = Ran(), hashlib.sha256(), list(marks)
    now = 0

    def heard(change: SignalChange) -> None:
        sha.update(change.line().encode())
        ran.changes += 1
        ran.opened_at.append(now)

    part = Part(
        plan.variants,
        plan.terms,
        plan.every_lane,
        confirm_terms=plan.confirm_terms,
        executes=plan.past.kind != "prices",
        heard=heard,
    )
    sampler = Sampler(part.pipeline, Labels())
    told: list[SignalChange] = []
    part.beside = told.extend
    for frame in frames:
        while left and frame.t >= left[0]:
            ran.marks[left.pop(0)] = (sha.hexdigest(), ran.changes)
        now = frame.t
        part.take(frame)
        sampler.on_frame(frame.t)
        sampler.on_changes(told)
        told.clear()
    for mark in left:
        ran.marks[mark] = (sha.hexdigest(), ran.changes)
    found = part.finish()
    sampler.finish()
    ran.digest, ran.samples = sha.hexdigest(), sampler.take()
    for each in found.values():
        for name, trades in each.trades.items():
            ran.trades.setdefault(name, []).extend(trades)
    return ran


def checked(plan: Plan, scratch: Path, *, tell: Say, way: Way = honest) -> Iterator[Check]:
    """Run the seven checks over a plan's data."""
    plan = replace(plan, lanes=_lanes(plan))
    tell("all of it once")
    surveyed = survey(plan.frames())
    if not surveyed.frames:
        yield Check(0, "data", False, "there is no frame in that window")
        return
    first = way(plan, plan.frames(), ())
    cuts = _cuts(first, surveyed.since, surveyed.until)
    tell("again, with marks")
    whole = way(plan, plan.frames(), cuts)
    yield _prefix(plan, whole, cuts, way, tell)
    yield _scrambled(plan, whole, cuts, way, tell)
    yield _unreadable(plan, way, tell)
    yield _bounded(whole)
    yield _monotone(plan, whole)
    yield _speeds(plan, whole, way, tell)
    yield _shuffled(whole)


def _lanes(plan: Plan) -> tuple[LaneKey, ...]:
    """Return the run's own lane, and those that differ from it in one thing each."""
    own = replace(plan.terms, latencies_ms=(), plan_share=plan.terms.depth_share)
    return (
        LaneKey("own", plan.terms, plan.terms.latency_ms),
        *(LaneKey(f"latency {ms}", own, ms) for ms in LATENCIES_MS),
        *(LaneKey(f"fee {x}", replace(own, fee_factor=x), own.latency_ms) for x in FEES),
        *(LaneKey(f"haircut {x}", replace(own, depth_share=x), own.latency_ms) for x in HAIRCUTS),
    )


# --- 1 and 2: nothing depends on what comes later -------------------------------------------


def _cuts(ran: Ran, since: int, until: int) -> tuple[int, ...]:
    """Return where to cut: between changes, so that there is something on both sides."""
    times = ran.opened_at
    if not times:
        return ((since + until) // 2,)
    return tuple(sorted({times[int(len(times) * share)] for share in CUTS}))


def _before(frames: Iterable[Frame], end: int) -> Iterator[Frame]:
    return itertools.takewhile(lambda frame: frame.t < end, frames)


def _prefix(plan: Plan, whole: Ran, cuts: Sequence[int], way: Way, tell: Say) -> Check:
    """Signals of the beginning alone are those that the whole gave up to there."""
    differ, told = [], []
    for cut in cuts:
        tell("the beginning alone")
        part = way(plan, _before(plan.frames(), cut), (cut,))
        same = part.marks[cut] == whole.marks[cut] and _settled(part, cut) == _settled(whole, cut)
        differ += [] if same else [cut]
        told.append(f"{whole.marks[cut][1]}")
    ok = not differ if whole.changes else None
    text = f"the first {' and '.join(told)} of {whole.changes} changes, and the trades until then"
    return Check(1, "prefix invariance", ok, text + (", differ" if differ else ", byte for byte"))


def _settled(ran: Ran, cut: int) -> str:
    """Return the trades that were over before a time, as one text."""
    rows = [
        (name, trade.row())
        for name, trades in ran.trades.items()
        for trade in trades
        if trade.ended_at < cut and not trade.open_at_end
    ]
    return json.dumps(sorted(rows, key=lambda row: (row[0], row[1]["decided_at"], row[1]["key"])))


def _scrambled(plan: Plan, whole: Ran, cuts: Sequence[int], way: Way, tell: Say) -> Check:
    """Another future changes nothing that was told before."""
    cut = cuts[0]
    tell("another future")
    other = way(plan, scrambled(plan.frames(), cut), (cut,))
    same = other.marks[cut] == whole.marks[cut] and _settled(other, cut) == _settled(whole, cut)
    changed = other.digest != whole.digest
    text = (
        f"{whole.marks[cut][1]} changes before, {other.changes - other.marks[cut][1]} after "
        f"(were {whole.changes - whole.marks[cut][1]})"
    )
    return Check(2, "future scramble", same if changed and whole.changes else None, text)


def scrambled(frames: Iterable[Frame], cut: int, *, seed: int = 7) -> Iterator[Frame]:
    """Yield frames with another future: from a time on bodies are swapped or left out."""
    rng = random.Random(seed)
    held: Frame | None = None
    for frame in frames:
        if frame.t < cut:
            yield frame
        elif rng.random() < 0.3:
            continue
        elif held is None:
            held = frame
        else:
            yield with_fields(frame, t=held.t)
            yield with_fields(held, t=frame.t)
            held = None


# --- 3: how it ended is not known before -----------------------------------------------------


def _unreadable(plan: Plan, way: Way, tell: Say) -> Check:
    """Other endings change nothing before the first of them is told."""
    tell("other endings")
    ends, early = endings(plan.frames())
    if not ends:
        return Check(3, "resolution unreadable", None, "no market resolves in these data")
    first = min(ends.values())
    whole = way(plan, plan.frames(), (first,))
    other = way(plan, (other_ending(frame, ends) for frame in plan.frames()), (first,))
    same = other.marks[first] == whole.marks[first]
    text = (
        f"{len(ends)} markets resolve; {whole.marks[first][1]} changes before the first, "
        f"{'the same' if same else 'others'} with other winners; {early} of them quoted on after"
    )
    return Check(3, "resolution unreadable", same, text)


# --- 4 and 5: no more than there was, and less with every burden -------------------------------


def _bounded(ran: Ran) -> Check:
    """Nothing gains more than the linear program says there was at the decision."""
    known = [
        trade
        for trades in ran.trades.values()
        for trade in trades
        if trade.sort == "basket" and trade.optimum is not None
    ]
    if not known:
        return Check(4, "captured <= LP", None, "no basket was ordered")
    over = [
        trade
        for trade in known
        if trade.captured > _most(trade) or trade.claimed > _most(trade) + ROUNDING
    ]
    captured, claimed = _sum(known, "captured"), _sum(known, "claimed")
    most = sum((_most(trade) for trade in known), NOTHING)
    text = (
        f"{len(known)} trades captured {captured:.2f} and claimed {claimed:.2f} of "
        f"{most:.2f} USD, {len(over)} more than there was"
    )
    return Check(4, "captured <= LP", not over, text)


def _most(trade: Trade) -> Decimal:
    return Decimal(trade.optimum or 0.0)


def _sum(trades: Iterable[Trade], name: str) -> Decimal:
    return sum((getattr(trade, name) for trade in trades), NOTHING)


def _monotone(plan: Plan, ran: Ran) -> Check:
    """The same orders gain no more with a longer way, dearer fees or thinner books.

    For latency and haircut it is the gain of complete baskets that cannot grow: what is lost
    on loose legs may, because an order that gets nothing at all loses nothing.
    """
    by_lane = {
        name: [trade for trade in trades if trade.sort == "basket"]
        for name, trades in ran.trades.items()
    }
    if not by_lane.get("own"):
        return Check(5, "monotone", None, "no basket was ordered")
    latency = [_sum(by_lane[f"latency {ms}"], "secured") for ms in LATENCIES_MS]
    fees = [_sum(by_lane[f"fee {x}"], "gained") for x in FEES]
    thin = [_sum(by_lane[f"haircut {x}"], "secured") for x in HAIRCUTS]
    luck = _luck([by_lane[f"latency {ms}"] for ms in LATENCIES_MS])
    room = [abs(latency[0]) * LUCK + each + ROUNDING for each in luck]
    ok = (
        all(b <= a + more for (a, b), more in zip(itertools.pairwise(latency), room, strict=True))
        and all(b <= a + ROUNDING for a, b in itertools.pairwise(fees))
        and all(b <= a + ROUNDING for a, b in itertools.pairwise(thin))
    )
    text = (
        f"whole baskets by latency {_words(latency)} ({sum(luck, NOTHING):.2f} by better books), "
        f"by haircut 1, 0.5, 0.25 {_words(thin)}; all by fees x1, x1.5, x2 {_words(fees)} USD"
    )
    return Check(5, "monotone", ok, text)


def _luck(lanes: Sequence[Sequence[Trade]]) -> list[Decimal]:
    """Return what waiting longer brought where the later books offered visibly more."""
    found = []
    for sooner, later in itertools.pairwise(lanes):
        before = {(trade.rule, trade.key): trade for trade in sooner}
        found.append(
            sum(
                (
                    trade.secured - before[trade.rule, trade.key].secured
                    for trade in later
                    if trade.secured > before[trade.rule, trade.key].secured
                    and _offered_more(before[trade.rule, trade.key], trade)
                ),
                NOTHING,
            )
        )
    return found


def _offered_more(before: Trade, after: Trade) -> bool:
    """Say whether the books at the later arrival were cheaper or deeper for any leg."""
    pairs = list(zip(before.legs, after.legs, strict=True))
    cheaper = any(b.bought and a.bought and b.best < a.best for a, b in pairs)
    return cheaper or any(b.offered > a.offered for a, b in pairs)


def _words(values: Iterable[Decimal]) -> str:
    return " >= ".join(f"{value:.2f}" for value in values)


# --- 6 and 7: the pace and the labels ----------------------------------------------------------


def _speeds(plan: Plan, whole: Ran, way: Way, tell: Say) -> Check:
    """The pace of a replay changes nothing."""
    start = whole.opened_at[0] - NS if whole.opened_at else plan.past.since
    stretch = list(itertools.islice(plan.past.frames(since=start), PACED_FRAMES))
    if plan.until is not None:
        stretch = list(_before(stretch, plan.until))
    if not stretch:
        return Check(6, "speed invariance", None, "no frames")
    end = max(start, stretch[0].t) + int(60 * NS)
    stretch = [frame for frame in stretch if frame.t <= end] or stretch
    span = max(stretch[-1].t - stretch[0].t, 1) / NS
    unit = max(1.0, span / PACED_SECONDS)
    told = {way(plan, iter(stretch), ()).digest}
    for speed in SPEEDS:
        tell(f"at {speed * unit:.0f}x")
        told.add(way(plan, paced(iter(stretch), speed * unit), ()).digest)
    shown = ", ".join(f"{speed * unit:.3g}x" for speed in SPEEDS)
    text = f"{len(stretch)} frames of {span:.1f} s at {shown} and max: {len(told)} digest"
    return Check(6, "speed invariance", len(told) == 1, text + ("s" if len(told) > 1 else ""))


def _shuffled(ran: Ran) -> Check:
    """With outcomes dealt out at random nothing may be left to learn."""
    if not ran.samples:
        return Check(7, "shuffled labels", None, "no labels: nothing was executable long enough")
    told = shuffled_auc(ran.samples)
    if told.auc is None:
        text = f"no labels enough: {told.samples} samples of what became of findings"
        return Check(7, "shuffled labels", None, text)
    text = (
        f"AUC {told.auc:.3f} (within {NEAR} of 0.5, or the interval {told.low:.3f} to "
        f"{told.high:.3f}) over {told.samples} samples"
    )
    return Check(7, "shuffled labels", told.ok, text)
