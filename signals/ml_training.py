"""From data to a model in the registry: where samples come from, and what is made of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from markets.frames import Frame
from markets.past import open_past
from markets.simulator import World
from markets.simulator import frames as world_frames
from rules import ml_registry
from rules.dsl import load_dir
from rules.engine import ActiveRule
from rules.load import SHIPPED, SYSTEM
from rules.ml import checks
from rules.ml.features import NAMES, TRENDS, Vector
from rules.ml.gates import passed
from rules.ml.report import Report
from rules.ml.samples import SECOND, Labels, Sample
from rules.ml.teaching import train
from rules.ml.training import Learnt, Progress, TooFew, in_order, silent, with_shuffled_labels
from rules.ml.trees import SEED, Trees
from rules.ml_models import MlModel
from signals import outcomes
from signals.outcome_models import Outcome
from signals.samples import Pass

MOST_STORED: Final = 20_000  # outcomes that are learnt from at once
TELL_SECONDS: Final = 5.0
LOOK_EVERY: Final = 20_000  # frames between two looks at the clock
MINUTE_NS: Final = 60 * SECOND
WORLDS_START: Final = 1_760_000_000 * SECOND  # of simulated time; any would do
WORLDS_APART: Final = 3_600 * SECOND
LEAKED: Final = "planted feature 1"
CUTS: Final = (1 / 3, 2 / 3)  # of the time: where the future is cut off to see what changes

Read = Callable[[int | None], Iterable[Frame]]  # frames before a time (unix ns), or all


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames that belong together, to be read any number of times."""

    since: int  # unix ns
    until: int
    read: Read


@dataclass(frozen=True, slots=True)
class Material:
    """What is learnt from: stretches of frames, or, without any, the desk's own outcomes."""

    name: str
    stretches: tuple[Stretch, ...] = ()
    rules: tuple[ActiveRule, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Gathered:
    """Samples in order of time, and what was dropped on the way by why."""

    samples: list[Sample]
    censored: Counter[str] = field(default_factory=Counter)
    captured: dict[str, tuple[int, Vector]] = field(default_factory=dict)  # as made at the moment
    frames: int = 0


# --- where samples come from -----------------------------------------------------------------


def of_desk() -> Material:
    """Return what became of the signals of this desk."""
    return Material("the desk's own signals")


def of_past(path: Path, rules: tuple[ActiveRule, ...]) -> Material:
    """Return a recording, kept hours or a columnar store; raise `NotAPast`."""
    past = open_past(path)
    notes = [f"{past.share:.1%} of the window has data without a known gap"]
    if past.kind != "books":
        notes.append(f"it holds {past.kind} only, so little or nothing counts as executable")

    def read(until: int | None) -> Iterable[Frame]:
        return past.frames(until=until)

    return Material(past.name, (Stretch(past.since, past.until, read),), rules, tuple(notes))


def of_simulator(seeds: Sequence[int], *, minutes: float, dense: bool = False) -> Material:
    """Return one simulated venue a seed, one after the other, with the shipped rules.

    A dense one opens three times as much in the same time and fills fewer frames with
    ordinary business: more episodes a minute of computing, not easier ones.
    """
    length, stretches = int(minutes * MINUTE_NS), []
    for number, seed in enumerate(seeds):
        start = WORLDS_START + number * (length + WORLDS_APART)

        def read(until: int | None, seed: int = seed, start: int = start) -> Iterable[Frame]:
            world = _dense(seed, start) if dense else World(seed=seed, start=start)
            made = world_frames(world, until=start + length)
            return made if until is None else _before(made, until)

        stretches.append(Stretch(start, start + length, read))
    name = f"simulated venue, seeds {', '.join(map(str, seeds))}, {minutes:g} min each"
    return Material(name, tuple(stretches), shipped_rules())


def _dense(seed: int, start: int) -> World:
    return World(seed=seed, start=start, rate=60.0, plant_every=5.0, jump_every=4.0)


def shipped_rules() -> tuple[ActiveRule, ...]:
    return tuple(
        ActiveRule.of(each.model_copy(update={"enabled": True})) for each in load_dir(SHIPPED)
    )


def _before(frames: Iterable[Frame], until: int) -> Iterable[Frame]:
    for frame in frames:
        if frame.t >= until:
            return
        yield frame


def gather(
    material: Material, labels: Labels, *, leak: bool = False, tell: Progress = silent
) -> Gathered:
    """Return all samples that the material holds. `leak` plants a feature of the future."""
    if not material.stretches:
        return Gathered(outcomes.samples(most=MOST_STORED), Counter(outcomes.censored()))
    found = Gathered([])
    for stretch in material.stretches:
        _take(found, Pass(stretch.read(None), material.rules, labels, leak=leak), stretch, tell)
    found.samples = in_order(found.samples)
    return found


def _take(found: Gathered, taken: Pass, stretch: Stretch, tell: Progress) -> None:
    taken.frames = _told(taken.frames, taken, found, stretch, tell)
    found.samples += taken
    found.frames += taken.seen
    found.censored += taken.censored
    found.captured |= taken.captured


def _told(
    frames: Iterable[Frame], taken: Pass, found: Gathered, stretch: Stretch, tell: Progress
) -> Iterable[Frame]:
    """Say now and then how far it is."""
    begun = due = time.monotonic()
    for number, frame in enumerate(frames, 1):
        if number % LOOK_EVERY == 0 and time.monotonic() - due >= TELL_SECONDS:
            due = time.monotonic()
            share = (frame.t - stretch.since) / max(stretch.until - stretch.since, 1)
            tell(f"{share:.0%} of a stretch, {number / (due - begun):,.0f} frames/s")
        yield frame


# --- training --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trained:
    report: Report
    trees: Trees
    learnt: Learnt

    @property
    def passed(self) -> bool:
        return passed(self.report)


def learn_from(
    material: Material,
    gathered: Gathered,
    labels: Labels,
    *,
    shuffle: bool = False,
    seed: int = SEED,
    tell: Progress = silent,
) -> Trained:
    """Examine and learn; `shuffle` deals the outcomes out at random first. Raises `TooFew`."""
    samples = gathered.samples
    if shuffle:
        samples = with_shuffled_labels(samples, seed=seed)
    trees, learnt, report = train(
        samples,
        labels=labels,
        censored=dict(gathered.censored),
        source=material.name + (", outcomes dealt out at random" if shuffle else ""),
        notes=material.notes,
        seed=seed,
        tell=tell,
    )
    return Trained(report, trees, learnt)


def register(trained: Trained, *, at: datetime, by: str = SYSTEM) -> MlModel:
    """Keep a trained model as a shadow."""
    return ml_registry.register(trained.trees, trained.learnt, trained.report, at=at, by=by)


def worth_training() -> bool:
    """Say whether enough outcomes came in since the newest model to train another one."""
    newest = MlModel.objects.newest().first()
    since = newest.report["window"]["until"] if newest is not None else 0
    return Outcome.objects.known().filter(at__gt=since).count() >= outcomes.NEW_OUTCOMES


# --- looking for leaks -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer in words, and whether all is well."""

    name: str
    answer: str
    ok: bool


def check(
    material: Material,
    gathered: Gathered,
    labels: Labels,
    *,
    leak: bool = False,
    seed: int = SEED,
    tell: Progress = silent,
) -> list[Check]:
    """Look for leaks. `leak`: one was planted when this was gathered, and has to be found.

    Without frames (the desk's own outcomes) there is no future to cut off. Raises `TooFew`.
    """
    names, trends = (*NAMES, LEAKED)[: len(NAMES) + leak], (*TRENDS, 0)[: len(TRENDS) + leak]
    tell("outcomes dealt out at random")
    found = [_shuffled(gathered.samples, names, trends, seed), _single(gathered.samples, names)]
    if not leak:
        found.append(_gate(material, gathered, labels, seed))
    if material.stretches:
        found.append(_cut(material, gathered, labels, leak=leak, tell=tell))
    return found


def _shuffled(
    samples: Sequence[Sample], names: Sequence[str], trends: Sequence[int], seed: int
) -> Check:
    told = checks.shuffled_auc(samples, seed=seed, names=names, trends=trends)
    if told.auc is None:
        raise TooFew(f"{len(samples)} samples are too few to deal outcomes out at random")
    few = "" if told.sharp else "; more samples would tell more sharply"
    answer = (
        f"AUC {told.auc:.3f}, 95 % interval {told.low:.3f} to {told.high:.3f} over "
        f"{told.rounds} deals of {told.samples:,} samples{few}"
    )
    return Check("Outcomes dealt out at random teach nothing", answer, told.ok)


def _single(samples: Sequence[Sample], names: Sequence[str]) -> Check:
    found = checks.suspects(samples, names=names)
    if not found:
        return Check("No feature alone gives the outcome away", "none does", True)
    told = ", ".join(f"{each.name} (AUC {each.auc:.3f})" for each in found)
    return Check("No feature alone gives the outcome away", f"too good to be true: {told}", False)


def _gate(material: Material, gathered: Gathered, labels: Labels, seed: int) -> Check:
    trained = learn_from(material, gathered, labels, shuffle=True, seed=seed)
    purged = trained.report.purged
    answer = f"Brier skill {purged.skill:.3f}, ECE {purged.ece:.3f}"
    name = "With outcomes dealt out at random the gates turn the model off"
    return Check(name, answer, not trained.passed)


def _cut(
    material: Material, gathered: Gathered, labels: Labels, *, leak: bool, tell: Progress
) -> Check:
    """Make the vectors again from frames that end at a moment: none may differ by that."""
    changed: dict[str, None] = {}
    compared = 0
    for stretch in material.stretches:
        whole = {
            key: each
            for key, each in gathered.captured.items()
            if stretch.since <= each[0] <= stretch.until
        }
        for until in _cuts(whole, stretch):
            tell("frames cut off right after a moment")
            taken = Pass(stretch.read(until), material.rules, labels, leak=leak)
            for _ in taken:
                pass
            within = {key: each for key, each in whole.items() if each[0] < until}
            compared += len(within)
            moved = checks.changed_by_future(within, taken.captured, until=until)
            changed |= dict.fromkeys(moved)
    name = "No feature changes when the future is cut off"
    if changed:
        return Check(name, f"changed: {', '.join(changed)}", False)
    return Check(name, f"{compared:,} vectors are the same number for number", True)


def _cuts(whole: Mapping[str, tuple[int, Vector]], stretch: Stretch) -> list[int]:
    """Choose moments of samples: right after one, its outcome is still to come."""
    wanted = [stretch.since + int(share * (stretch.until - stretch.since)) for share in CUTS]
    moments = [at for at, _ in whole.values()]
    return [min(moments, key=lambda at: abs(at - want)) + 1 for want in wanted if moments]
