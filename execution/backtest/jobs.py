"""A run over the groups of events, in one process or several, that can be taken up again.

Each part reads the data once and does its groups; a group that is done is kept in the
run's folder, and a run with the same fingerprint goes on without it. What a run comes
to depends on its groups alone, never on how many processes did them.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import json
import multiprocessing
import pickle
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import IO, Any, Final

from execution.backtest.groups import GROUPS, Router, Survey
from execution.backtest.passing import Found, LaneKey, Part, Variant, lanes_of
from execution.backtest.tally import Hit
from execution.backtest.terms import FillTerms
from markets.frames import Frame
from markets.past import Past
from markets.problems import Problem

LOOK_EVERY: Final = 500  # frames between two looks at the clock
TELL_SECONDS: Final = 1.0
PACKAGES: Final = ("markets", "rules", "signals", "execution", "risk")

Tell = Callable[[int, int], bool]  # frames done and frames there are; False: stop
Told = dict[str, Found]  # by the variant's code in the engine


class Cancelled(Exception):
    """Nobody waits for the answer any more. Groups that are done stay done."""


class PartFailed(Exception):
    """A process of the run ended without its answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run comes from. `since` and `until` are unix ns; None: all there is."""

    variants: tuple[Variant, ...]
    terms: FillTerms
    past: Past
    since: int | None = None
    until: int | None = None
    confirm_terms: bool = False
    groups: int = GROUPS
    lanes: tuple[LaneKey, ...] = ()  # others than the run's own and the latency curve

    @property
    def every_lane(self) -> tuple[LaneKey, ...]:
        return self.lanes or lanes_of(self.terms)

    def frames(self) -> Iterator[Frame]:
        return self.past.frames(since=self.since, until=self.until)

    @property
    def fingerprint(self) -> str:
        """Return a hash that is another one if anything is that the results depend on."""
        told = {
            "rules": [[each.rule.code, each.rule.sha256] for each in self.variants],
            "terms": self.terms.row(),
            "lanes": [lane.name for lane in self.every_lane],
            "data": self.past.sha256,
            "window": [self.since, self.until],
            "confirm": self.confirm_terms,
            "groups": self.groups,
            "code": code_version(),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Done:
    """What all groups came to. `resumed` of them had been done before."""

    found: dict[str, list[Found]]
    hits: tuple[Path, ...]
    frames: int
    problems: tuple[str, ...]
    resumed: int = 0


def code_version() -> str:
    """Return the product's version with a hash of what a backtest runs through."""
    told = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if "migrations" not in path.parts:
                told.update(path.read_bytes())
    try:
        number = version("marketpulse-x")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{told.hexdigest()[:12]}"


# --- one part ---------------------------------------------------------------------------


def run_groups(
    plan: Plan,
    numbers: Sequence[int],
    groups: Mapping[str, int],
    folder: Path,
    *,
    tell: Callable[[int], bool],
    frames: Iterator[Frame] | None = None,
) -> tuple[int, list[str]]:
    """Do some groups in one pass and keep each in the folder; return frames and problems.

    Raises `Cancelled` once `tell`, which is asked every second, says no.
    """
    with ExitStack() as files:
        hits = {number: files.enter_context(_hits(folder, number).open("w")) for number in numbers}
        parts = {number: _part(plan, hits[number]) for number in numbers}
        router = Router(parts, groups)
        count = _pass(router, plan.frames() if frames is None else frames, tell)
        told = {number: part.finish() for number, part in parts.items()}
    for number, found in told.items():
        _keep(folder, number, found)
    problems = [*router.problems.drain()]
    for part in parts.values():
        problems += part.problems()
    return count, [_words(problem) for problem in problems]


def _part(plan: Plan, file: IO[str]) -> Part:
    def tell(hit: Hit) -> None:
        file.write(json.dumps(hit, separators=(",", ":")) + "\n")

    return Part(
        plan.variants,
        plan.terms,
        plan.every_lane,
        confirm_terms=plan.confirm_terms,
        executes=plan.past.kind != "prices",
        tell=tell,
    )


def _pass(router: Router, frames: Iterator[Frame], tell: Callable[[int], bool]) -> int:
    due = time.monotonic() + TELL_SECONDS
    count = 0
    take = router.take
    for frame in frames:
        take(frame)
        count += 1
        if count % LOOK_EVERY == 0 and time.monotonic() >= due:
            due = time.monotonic() + TELL_SECONDS
            if not tell(count):
                raise Cancelled
    return count


def _words(problem: Problem) -> str:
    times = f" ({problem.count} times)" if problem.count > 1 else ""
    reason = problem.reason.replace("_", " ")
    return f"{problem.source}: {reason} {problem.subject} {problem.detail}"[:300] + times


# --- what is kept of a run ----------------------------------------------------------------


def _hits(folder: Path, number: int) -> Path:
    return folder / f"hits-{number:03d}.jsonl"


def _group(folder: Path, number: int) -> Path:
    return folder / f"group-{number:03d}.pickle"


def _keep(folder: Path, number: int, found: Told) -> None:
    """Write what a group came to, all of it or nothing."""
    path = _group(folder, number)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        pickle.dump(found, file)
    Path(file.name).replace(path)


def _kept(folder: Path, number: int) -> Told | None:
    path = _group(folder, number)
    if not path.exists():
        return None
    with path.open("rb") as file:
        found: Told = pickle.load(file)  # noqa: S301 - of this run  # nosec B301
    return found


def prepare(folder: Path, fingerprint: str) -> None:
    """Make the folder of a run ready; what another run left in it is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / "fingerprint"
    if not mark.exists() or mark.read_text() != fingerprint:
        for path in (*folder.glob("group-*.pickle"), *folder.glob("hits-*.jsonl")):
            path.unlink()
        mark.write_text(fingerprint)


def forget_groups(folder: Path) -> None:
    """Delete what a run would go on from; its episodes stay."""
    for path in (*folder.glob("group-*.pickle"), folder / "fingerprint"):
        path.unlink(missing_ok=True)


def hits_in_order(paths: Sequence[Path]) -> Iterator[Hit]:
    """Yield the episodes of all groups by their close."""
    with ExitStack() as files:
        opened = [files.enter_context(path.open()) for path in paths]
        yield from heapq.merge(*(map(json.loads, file) for file in opened), key=_close)


def _close(hit: Hit) -> tuple[int, str]:
    return hit["closed_at"], hit["key"]


# --- all of them ----------------------------------------------------------------------------


def run(
    plan: Plan,
    found: Survey,
    folder: Path,
    *,
    jobs: int = 1,
    parts: int | None = None,
    tell: Tell,
    frames: Iterator[Frame] | None = None,
) -> Done:
    """Run all groups that have events and that the folder does not hold yet.

    `parts` is in how many passes the work is cut (default: as many as `jobs`); each is
    kept once it is done. `frames`, where given, are those of the plan at another pace.
    Raises `Cancelled` and `PartFailed`.
    """
    prepare(folder, plan.fingerprint)
    groups = found.groups(plan.groups)
    numbers = sorted(set(groups.values())) or [0]
    left = [number for number in numbers if not _group(folder, number).exists()]
    cut = [left[start :: parts or jobs] for start in range(min(parts or jobs, len(left)))]
    problems: list[str] = []
    if jobs == 1 or len(cut) <= 1:
        total = found.frames * max(len(cut), 1)
        for done, part in enumerate(cut):
            before = done * found.frames

            def told(count: int, before: int = before) -> bool:
                return tell(before + count, total)

            _, more = run_groups(plan, part, groups, folder, tell=told, frames=frames)
            problems += more
    else:
        problems = _in_processes(plan, cut, groups, folder, jobs, found.frames, tell)
    return _gathered(plan, folder, numbers, found.frames, problems, len(numbers) - len(left))


def _gathered(
    plan: Plan, folder: Path, numbers: Sequence[int], frames: int, problems: list[str], resumed: int
) -> Done:
    by_code: dict[str, list[Found]] = {each.rule.code: [] for each in plan.variants}
    for number in numbers:
        for code, found in (_kept(folder, number) or {}).items():
            by_code[code].append(found)
    hits = tuple(path for number in numbers if (path := _hits(folder, number)).exists())
    return Done(by_code, hits, frames, tuple(dict.fromkeys(problems)), resumed)


def _in_processes(
    plan: Plan,
    cut: Sequence[Sequence[int]],
    groups: Mapping[str, int],
    folder: Path,
    jobs: int,
    frames: int,
    tell: Tell,
) -> list[str]:
    """Do the parts in processes of their own, so many at a time."""
    waiting = list(cut)
    running: dict[Connection, ForkProcess] = {}
    done: dict[Connection, int] = {}
    problems: list[str] = []
    fork = multiprocessing.get_context("fork")  # a past reads through a function of its own
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                ours, theirs = fork.Pipe(duplex=False)
                args = (plan, waiting.pop(0), groups, folder, theirs)
                process = fork.Process(target=_child, args=args, daemon=True)
                gc.freeze()
                process.start()
                theirs.close()
                running[ours], done[ours] = process, 0
            ready = wait(list(running), timeout=TELL_SECONDS)
            for each in [end for end in running if end in ready]:
                problems += _heard(each, running, done, frames)
            if not tell(sum(done.values()), frames * len(cut)):
                raise Cancelled
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    return problems


def _heard(
    end: Connection, running: dict[Connection, ForkProcess], done: dict[Connection, int], all_: int
) -> list[str]:
    """Take what a process says: how far it is, or what it came to."""
    try:
        message: Any = end.recv()
    except EOFError:
        running.pop(end).join()
        raise PartFailed("a process ended without its answer") from None
    if isinstance(message, int):
        done[end] = message
        return []
    running.pop(end).join()
    end.close()
    done[end] = all_
    if isinstance(message, str):
        raise PartFailed(message)
    return list(message)


def _child(
    plan: Plan, numbers: Sequence[int], groups: Mapping[str, int], folder: Path, end: Connection
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def tell(count: int) -> bool:
        end.send(count)
        return True

    try:
        _, problems = run_groups(plan, numbers, groups, folder, tell=tell)
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")
        raise
    end.send(problems)
