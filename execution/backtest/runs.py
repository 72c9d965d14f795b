"""Backtests as the desk keeps them: asked for, taken up, run, answered, cancelled.

The row is the truth. Whoever runs one tells its row every second how far it is; one that
falls silent has died, and a sweep says so. What its groups came to stays in the run's
folder, so that the same run goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import structlog
from django.contrib.auth.models import User
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    connections,
    transaction,
)
from django.utils import timezone

from execution.backtest import sources
from execution.backtest.asking import DESK, RECORDING, Asked, read_asked
from execution.backtest.grid import BadGrid
from execution.backtest.jobs import (
    Cancelled,
    PartFailed,
    Plan,
    Tell,
    code_version,
    forget_groups,
)
from execution.backtest.report import Answer, answer
from execution.backtest.sources import Opened
from execution.backtest_models import BacktestResult, BacktestRun
from markets.connections import drop_dead_connections
from markets.frames import Frame
from markets.past import NotAPast
from signals import whatif_runs

log = structlog.stdlib.get_logger(__name__)

MOST_WAITING: Final = 10
MOST_TRIALS: Final = 5_000
EPISODES_KEPT: Final = timedelta(days=90)
State = BacktestRun.State


class CannotRun(Exception):
    """There is nothing to run over, or nothing to run; the text says why and what would help."""


class TooManyWaiting(Exception):
    """So many backtests wait already that one more would not be answered soon."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where kept spans, recordings and the folders of runs are."""

    kept: Path
    recordings: Path
    runs: Path


@dataclass(slots=True)
class Pace:
    """How fast it goes: frames done, frames a second, and seconds left (None: not known yet)."""

    begun: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0

    def at(self, done: int, total: int) -> Pace:
        self.done, self.total = done, total
        return self

    @property
    def rate(self) -> float:
        return self.done / max(time.monotonic() - self.begun, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.done else None

    @property
    def permille(self) -> int:
        return min(1000, round(1000 * self.done / self.total)) if self.total else 0


# --- asking --------------------------------------------------------------------------------


def ask(
    asked: Asked, places: Places, *, by: User | None, at: datetime, by_desk: bool = True
) -> BacktestRun:
    """Ask for a run; raise `TooManyWaiting`, or `BadGrid` for what cannot be run."""
    asked.variants()
    forget_old(places.runs, at=at)
    if by_desk and BacktestRun.objects.waiting().count() >= MOST_WAITING:
        raise TooManyWaiting
    return BacktestRun.objects.create(
        title=asked.title, asked=asked.row(), asked_by=by, asked_at=at, by_desk=by_desk
    )


def claim(*, at: datetime) -> BacktestRun | None:
    """Take up the next one of the desk, unless one is running; None if there is nothing to do."""
    if BacktestRun.objects.running().filter(by_desk=True).exists():
        return None
    waiting = BacktestRun.objects.waiting().filter(by_desk=True)
    try:
        return next((run for run in waiting if start(run.pk, at=at)), None)
    except IntegrityError:  # somebody else has started one since
        return None


def start(run_id: int, *, at: datetime) -> bool:
    """Mark one as running; False if it waits no more."""
    waiting = BacktestRun.objects.filter(pk=run_id, state=State.WAITING)
    with transaction.atomic():
        return bool(waiting.update(state=State.RUNNING, started_at=at, beat_at=at))


def again(run_id: int, *, at: datetime) -> bool:
    """Let one that failed or was cancelled wait again; what it has done counts."""
    over = BacktestRun.objects.filter(pk=run_id, state__in=(State.FAILED, State.CANCELLED))
    told: dict[str, Any] = {"started_at": None, "beat_at": None, "ended_at": None}
    return bool(over.update(state=State.WAITING, reason="", permille=0, asked_at=at, **told))


def cancel(run_id: int, *, at: datetime) -> bool:
    """End what waits or runs; return whether there was anything to end."""
    under_way = BacktestRun.objects.unfinished().filter(pk=run_id)
    return bool(under_way.update(state=State.CANCELLED, ended_at=at))


def fail_silent(*, at: datetime) -> int:
    """End what has not been heard of for a minute; return how many."""
    reason = "Its process ended without a word. Start it again: what it has done is kept."
    silent = BacktestRun.objects.silent(at).filter(state=State.RUNNING)
    return silent.update(state=State.FAILED, ended_at=at, reason=reason)


def fail_unstarted(run_id: int, *, reason: str) -> None:
    """End one that was claimed and could not be started."""
    _end(run_id, State.FAILED, reason=reason[:500])


def forget_old(folder: Path, *, at: datetime) -> None:
    """Delete what runs of long ago left in their folders; their figures stay in the database."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.stat().st_mtime < (at - EPISODES_KEPT).timestamp():
            shutil.rmtree(path, ignore_errors=True)


# --- running -------------------------------------------------------------------------------


def run(
    run_id: int,
    places: Places,
    *,
    processes: int = 1,
    parts: int | None = None,
    tell: Callable[[Pace], None] = lambda pace: None,
    speed: float | None = None,
) -> Answer | None:
    """Do what a row that was started asks for, and write the answer into it.

    None if it was cancelled meanwhile. Raises `CannotRun` once the row says so too.
    """
    row = BacktestRun.objects.get(pk=run_id)
    folder = places.runs / str(run_id)
    try:
        told = _answered(row, places, folder, processes, parts, tell, speed)
    except Cancelled:
        log.info("backtest.cancelled", id=run_id)
        return None
    except (CannotRun, PartFailed) as error:
        _end(run_id, State.FAILED, reason=str(error)[:500])
        raise CannotRun(str(error)) from None
    except (KeyboardInterrupt, SystemExit):
        cancel(run_id, at=timezone.now())
        raise
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        _end(run_id, State.FAILED, reason=why[:500])
        raise
    _store(run_id, told)
    forget_groups(folder)  # the episodes stay, for those who want them as CSV
    return told


def _answered(
    row: BacktestRun,
    places: Places,
    folder: Path,
    processes: int,
    parts: int | None,
    tell: Callable[[Pace], None],
    speed: float | None,
) -> Answer:
    asked = read_asked(row.asked)
    plan = plan_of(asked, open_source(asked, places))
    BacktestRun.objects.filter(pk=row.pk).update(
        fingerprint=plan.fingerprint, code_version=code_version()
    )
    if processes > 1:
        connections.close_all()  # a connection must not be shared with the processes to come
    pace = Pace()

    def told(done: int, total: int) -> bool:
        tell(pace.at(done, total))
        return _tell(row.pk, pace)

    return answered(
        plan,
        folder,
        processes=processes,
        parts=parts,
        trials=trials(asked, without=row.pk),
        tell=told,
        speed=speed,
    )


def answered(
    plan: Plan,
    folder: Path,
    *,
    processes: int,
    parts: int | None,
    trials: dict[str, list[float]],
    tell: Tell,
    speed: float | None,
) -> Answer:
    """Run a plan at a pace and say `CannotRun` where there is nothing in the window."""
    frames: Iterator[Frame] | None = None
    if speed is not None:
        frames = sources.paced(plan.frames(), speed)
    try:
        told = answer(
            plan,
            folder,
            processes=processes,
            parts=parts,
            trials=trials,
            tell=tell,
            speed=frames,
        )
    except NotAPast as error:
        raise CannotRun(str(error)) from None
    if not told.data["frames"]:
        raise CannotRun("There is no frame in that window.")
    return told


def open_source(asked: Asked, places: Places) -> Opened:
    """Open the data that was asked for; raise `CannotRun`."""
    try:
        if asked.source == DESK:
            since, until = asked.since or 0, asked.until or sources.FOREVER
            return sources.desk_past(places.kept, since=since, until=until)
        if asked.source.startswith(RECORDING):
            return sources.opened(_named(asked.source.removeprefix(RECORDING), places.recordings))
        return sources.opened(Path(asked.source))
    except NotAPast as error:
        raise CannotRun(str(error)) from None


def plan_of(asked: Asked, data: Opened) -> Plan:
    """Return what is run; raise `CannotRun` for rules that cannot be read any more."""
    try:
        variants = asked.variants()
    except BadGrid as error:
        raise CannotRun(str(error)) from None
    return Plan(
        variants,
        asked.terms,
        data.past,
        since=asked.since,
        until=asked.until,
        confirm_terms=data.confirm_terms,
        groups=asked.groups,
    )


def _named(name: str, folder: Path) -> Path:
    """Return a recording by its name alone; raise `CannotRun` for anything else."""
    found = next((path for path in whatif_runs.recordings(folder) if path.name == name), None)
    if found is None:
        raise CannotRun(f"There is no recording {name} any more.")
    return found


def names_of(run: BacktestRun) -> dict[str, tuple[str, str]]:
    """Return rule and set by the code that the engine knew them by; empty for old rules."""
    try:
        variants = read_asked(run.asked).variants()
    except BadGrid:
        return {}
    return {each.rule.code: (each.code, each.label) for each in variants}


def trials(asked: Asked, *, without: int | None = None) -> dict[str, list[float]]:
    """Return the Sharpe ratios of all that was ever tried with these rules, by rule."""
    codes = [definition.code for definition in asked.definitions]
    rows = BacktestResult.objects.filter(
        directional=True, rule__in=codes, sharpe__isnull=False
    ).exclude(run=without)
    found: dict[str, list[float]] = {}
    pairs = rows.order_by("-pk").values_list("rule", "sharpe")[:MOST_TRIALS]
    for code, ratio in pairs:
        if ratio is not None:
            found.setdefault(code, []).append(ratio)
    return found


# --- the row -------------------------------------------------------------------------------


def _tell(run_id: int, pace: Pace) -> bool:
    """Write down how far it is; say whether anybody still waits for it."""
    drop_dead_connections()
    told = {
        "permille": pace.permille,
        "frames_per_s": round(pace.rate, 1),
        "seconds_left": pace.seconds_left,
        "beat_at": datetime.now(UTC),
    }
    try:
        return bool(BacktestRun.objects.running().filter(pk=run_id).update(**told))
    except (DatabaseError, InterfaceError) as error:
        log.warning("backtest.not_told", id=run_id, error=str(error))
        return True


def _store(run_id: int, told: Answer) -> None:
    """Write the answer and every result, or nothing."""
    with transaction.atomic():
        done = _end(
            run_id,
            State.DONE,
            permille=1000,
            seconds_left=None,
            data=told.data,
            notes=list(told.notes),
        )
        if done:
            BacktestResult.objects.filter(run_id=run_id).delete()
            BacktestResult.objects.bulk_create(
                _result(run_id, place, row) for place, row in enumerate(told.results)
            )
    log.info("backtest.done", id=run_id, frames=told.data["frames"], stored=done)


def _result(run_id: int, place: int, row: dict[str, Any]) -> BacktestResult:
    return BacktestResult(
        run_id=run_id,
        place=place,
        rule=row["rule"],
        label=row["set"][:400],
        sha256=row["sha256"],
        directional=row["sort"] == "directional",
        signals=row["signals"],
        p1=row["p1"],
        trades=row["trades"],
        captured=Decimal(row["captured"]),
        capture=row["capture"],
        sharpe=(row["sharpe"] or {}).get("sharpe"),
        summary=row,
    )


def _end(run_id: int, state: BacktestRun.State, **told: Any) -> bool:
    running = BacktestRun.objects.running().filter(pk=run_id)
    return bool(running.update(state=state, ended_at=timezone.now(), **told))
