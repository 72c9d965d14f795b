"""What-ifs as the desk runs them: asked for, taken up, read, answered, cancelled.

The row is the truth. Whoever runs one tells its row every second how far it is;
one that falls silent has died, and a sweep says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.utils import timezone

from markets.connections import drop_dead_connections
from markets.frames import unix_ns
from markets.past.spans import Beginning, Coverage, Reading, coverage, kept_reading, spans
from markets.recording import later_parts
from rules.dsl import RuleError, parse_rule
from rules.engine import ActiveRule
from rules.house import HISTORY, RELATIONS
from rules.load import definition_of
from rules.models import Rule, RuleVersion
from signals.whatif import WhatIf
from signals.whatif_models import WhatIfRun

log = structlog.stdlib.get_logger(__name__)

TELL_SECONDS: Final = 1.0
LOOK_EVERY: Final = 200  # frames between two looks at the clock
MOST_WAITING: Final = 10
ANSWERS_KEPT: Final = timedelta(days=90)
NEEDS: Final = {"cross_market": RELATIONS, "temporal": RELATIONS, "endgame": HISTORY}
MISSING: Final = {
    RELATIONS: "No relations were recorded, and this rule finds nothing without them.",
    HISTORY: "No history of resolved markets was recorded; without it every price lacks data.",
}
ENDINGS: Final = (".jsonl", ".jsonl.gz")

Tell = Callable[[float, int], bool]  # share of the bytes and frames so far; False: stop


class CannotRun(Exception):
    """There is nothing to compare over; the text says why and what would help."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class TooManyWaiting(Exception):
    """So many what-ifs wait already that one more would not be answered soon."""


@dataclass(frozen=True, slots=True)
class Data:
    """What is to be read: the frames, from when on they count, and what is kept of a window."""

    reading: Reading
    since: int = 0  # unix ns
    kept: Coverage | None = None
    hours: int | None = None


# --- what can be read ---------------------------------------------------------------------


def recordings(folder: Path) -> list[Path]:
    """Return the recordings that may be chosen, newest first; parts go with their first file."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if path.name.endswith(ENDINGS) and path.is_file()]
    parts = {part for path in files for part in later_parts(path).values()}
    return sorted(set(files) - parts, key=lambda path: path.stat().st_mtime, reverse=True)


def of_recording(path: Path) -> Data:
    return Data(Reading((path,)))


def of_last_hours(folder: Path, *, hours: int, at: datetime) -> Data:
    """Return what is kept of the last hours; raise `CannotRun` if that is nothing."""
    since = unix_ns(at - timedelta(hours=hours))
    kept = coverage(folder, since=since)
    if kept is None:
        raise CannotRun(
            f"Nothing is kept of the last {hours} h. The stream keeps what it receives while "
            "MPX_KEEP_HOURS is above 0; or choose a recording."
        )
    return Data(kept_reading(spans(folder, since=since)), since, kept, hours)


# --- comparing ----------------------------------------------------------------------------


def compare(
    candidate: ActiveRule, live: ActiveRule | None, data: Data, *, tell: Tell
) -> dict[str, Any]:
    """Run both versions over the data and return the comparison with notes about the data.

    Raises `Cancelled` once `tell`, which is asked every second, says no, and
    `CannotRun` if there was no frame.
    """
    whatif = WhatIf(candidate, live, since=data.since)
    due = time.monotonic() + TELL_SECONDS
    for number, item in enumerate(data.reading):
        if isinstance(item, Beginning):
            whatif.begin(confirm_terms=item.header.get("confirm_terms") is True)
            continue
        whatif.take(item)
        if number % LOOK_EVERY == 0 and time.monotonic() >= due:
            due = time.monotonic() + TELL_SECONDS
            if not tell(data.reading.share, whatif.frames):
                raise Cancelled
    outcome = whatif.finish()
    if not outcome.frames:
        raise CannotRun(f"No frame could be read. {' '.join(_problems(data))}".strip())
    answer = outcome.row()
    answer["notes"] = _notes(candidate, data, told=outcome.told)
    answer["kept"] = _kept_row(data)
    return answer


def _notes(candidate: ActiveRule, data: Data, *, told: dict[str, int]) -> list[str]:
    """Say what an operator must know about the data before trusting the answer."""
    notes = _problems(data)
    needs = NEEDS.get(candidate.definition.detector)
    if needs and needs not in told:
        notes.append(MISSING[needs])
    return notes


def _problems(data: Data) -> list[str]:
    """Write what could not be read. That the newest span ends within a line is as it should be."""
    found = [
        p for p in data.reading.problems.drain() if not (data.kept and p.reason == "truncated")
    ]
    return [
        f"{p.subject}: {p.reason.replace('_', ' ')}"
        f"{f' ({p.count} times)' if p.count > 1 else ''}: {p.detail[:160]}"
        for p in found
    ]


def _kept_row(data: Data) -> dict[str, Any] | None:
    if data.kept is None:
        return None
    return {
        "hours": data.hours,
        "since": data.kept.since,
        "until": data.kept.until,
        "covered_ns": data.kept.covered,
        "spans": data.kept.spans,
        "bytes": data.kept.size,
    }


# --- the row's steps ----------------------------------------------------------------------


def ask(
    rule: Rule,
    *,
    source: str,
    version: RuleVersion | None,
    by: User,
    at: datetime,
    hours: int | None = None,
    recording: str = "",
) -> WhatIfRun:
    """Ask for a comparison of a text with the rule's current version.

    `version` is the published version that the text is, if any. Either `hours`
    or the name of a `recording`. Answers of 90 days ago are forgotten. Raises `TooManyWaiting`.
    """
    if WhatIfRun.objects.waiting().count() >= MOST_WAITING:
        raise TooManyWaiting
    WhatIfRun.objects.filter(ended_at__lt=at - ANSWERS_KEPT).delete()
    return WhatIfRun.objects.create(
        rule=rule,
        live_version=rule.current,
        candidate_version=version,
        candidate_source=source,
        hours=hours,
        recording=recording,
        asked_by=by,
        asked_at=at,
    )


def claim(*, at: datetime) -> WhatIfRun | None:
    """Take up the next one, unless one is running; None if there is nothing to do."""
    if WhatIfRun.objects.running().exists():
        return None
    try:
        return next((run for run in WhatIfRun.objects.waiting() if _start(run, at=at)), None)
    except IntegrityError:  # somebody else has started one since
        return None


def _start(run: WhatIfRun, *, at: datetime) -> bool:
    """Mark one as running; False if it waits no more. Raises `IntegrityError` if another runs."""
    waiting = WhatIfRun.objects.filter(pk=run.pk, state=WhatIfRun.State.WAITING)
    with transaction.atomic():
        return bool(waiting.update(state=WhatIfRun.State.RUNNING, started_at=at, beat_at=at))


def run(run_id: int, *, kept_folder: Path, recordings_folder: Path) -> None:
    """Do what a row that was claimed asks for, and write the answer into it."""
    asked = WhatIfRun.objects.select_related("rule", "live_version__rule").get(pk=run_id)
    try:
        answer = _answer(asked, kept_folder=kept_folder, recordings_folder=recordings_folder)
    except Cancelled:
        log.info("whatif.cancelled", id=run_id)
    except (CannotRun, RuleError) as error:
        _end(run_id, WhatIfRun.State.FAILED, reason=str(error)[:500])
    except (KeyboardInterrupt, SystemExit):
        _end(run_id, WhatIfRun.State.FAILED, reason="Its process was stopped. Ask again.")
        raise
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        _end(run_id, WhatIfRun.State.FAILED, reason=why[:500])
        raise
    else:
        told = {"permille": 1000, "frames": answer["frames"], "result": answer}
        _end(run_id, WhatIfRun.State.DONE, **told)
        log.info("whatif.done", id=run_id, frames=answer["frames"])


def cancel(run_id: int, *, at: datetime) -> bool:
    """End what waits or runs; return whether there was anything to end."""
    under_way = WhatIfRun.objects.unfinished().filter(pk=run_id)
    return bool(under_way.update(state=WhatIfRun.State.CANCELLED, ended_at=at))


def fail_silent(*, at: datetime) -> int:
    """End what has not been heard of for a minute; return how many."""
    reason = "Its process ended without a word. Ask again; its log may say why."
    return (
        WhatIfRun.objects.silent(at)
        .filter(state=WhatIfRun.State.RUNNING)
        .update(state=WhatIfRun.State.FAILED, ended_at=at, reason=reason)
    )


def fail_unstarted(run_id: int, *, reason: str) -> None:
    """End one that was claimed and could not be started."""
    _end(run_id, WhatIfRun.State.FAILED, reason=reason[:500])


def _answer(asked: WhatIfRun, *, kept_folder: Path, recordings_folder: Path) -> dict[str, Any]:
    candidate = ActiveRule.of(parse_rule(asked.candidate_source, source=asked.candidate))
    live = ActiveRule.of(definition_of(asked.live_version)) if asked.live_version else None
    if asked.hours:
        data = of_last_hours(kept_folder, hours=asked.hours, at=timezone.now())
    else:
        data = of_recording(_named(asked.recording, recordings_folder))
    return compare(candidate, live, data, tell=lambda share, frames: _tell(asked.pk, share, frames))


def _named(name: str, folder: Path) -> Path:
    """Return a recording by its name alone; raise `CannotRun` for anything else."""
    found = next((path for path in recordings(folder) if path.name == name), None)
    if found is None:
        raise CannotRun(f"There is no recording {name} any more.")
    return found


def _tell(run_id: int, share: float, frames: int) -> bool:
    """Write down how far it is; say whether anybody still waits for it."""
    drop_dead_connections()
    under_way = WhatIfRun.objects.running().filter(pk=run_id)
    told = {"permille": round(share * 1000), "frames": frames, "beat_at": datetime.now(UTC)}
    try:
        return bool(under_way.update(**told))
    except (DatabaseError, InterfaceError) as error:
        log.warning("whatif.not_told", id=run_id, error=str(error))
        return True


def _end(run_id: int, state: WhatIfRun.State, **told: Any) -> None:
    WhatIfRun.objects.running().filter(pk=run_id).update(
        state=state, ended_at=timezone.now(), **told
    )
