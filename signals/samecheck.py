"""Is a replay what the live path told? Kept spans are replayed and compared with how they ended.

A stretch begins where nothing before matters: with a session, or at a checkpoint. It is
compared span by span with the digest that the live path wrote when the span was over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from django.db import transaction

from alerts import journal
from alerts.models import Heartbeat
from markets.frames import Frame, moment
from markets.past.spans import Span, spans
from markets.recording import NotARecording, Recording
from rules.dsl import RuleError, parse_rule
from rules.engine import ActiveRule
from signals import checkpoints
from signals.kept import Ending, crc_of, ending_of
from signals.pipeline import Pipeline

log = structlog.stdlib.get_logger(__name__)

REPLAY: Final = "replay"  # component of the heartbeat that has the outcome
KIND: Final = "replay.differs"
LOOK_EVERY: Final = 1_000  # frames between two looks at the time

# `same` as far as it was compared; `nothing` kept that is comparable; `other_code`: kept by
# another version of this product, so a difference would say nothing.
Outcome = Literal["same", "differs", "nothing", "other_code"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Spans that follow each other, all of them ended; the first needs nothing before it."""

    spans: tuple[Span, ...]
    endings: tuple[Ending, ...]

    @property
    def name(self) -> str:
        return f"{self.spans[0].session}-{self.spans[-1].number:05d}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check. Times in unix ns; `until` is how far it was compared."""

    outcome: Outcome
    stretch: str = ""
    since: int = 0
    until: int = 0
    compared: int = 0  # spans
    of: int = 0
    frames: int = 0
    changes: int = 0
    seconds: float = 0.0
    detail: str = ""

    @property
    def line(self) -> str:
        """Return one line for people."""
        if not self.compared and self.outcome != "differs":
            return f"{self.outcome.replace('_', ' ')}: {self.detail}"
        return (
            f"{self.outcome}: {self.compared} of {self.of} spans, {moment(self.since):%H:%M:%S} to "
            f"{moment(self.until):%H:%M:%S}, {self.frames} frames, {self.changes} changes in "
            f"{self.seconds:.1f} s{f'; {self.detail}' if self.detail else ''}"
        )


def stretches(folder: Path) -> list[Stretch]:
    """Return what can be compared in a folder of kept spans, oldest first."""
    sessions: dict[str, list[Span]] = {}
    for span in spans(folder):
        sessions.setdefault(span.session, []).append(span)
    found = [each for kept in sessions.values() for each in _of_session(kept)]
    return sorted(found, key=lambda stretch: stretch.spans[0].start)


def _of_session(kept: Sequence[Span]) -> Iterator[Stretch]:
    held: list[tuple[Span, Ending]] = []
    for span in sorted(kept, key=lambda each: each.number):
        ending = ending_of(span)
        begins = span.number == 1 or span.checkpoint_path.exists()
        follows = bool(held) and span.number == held[-1][0].number + 1
        if held and (begins or not follows or ending is None):
            yield _stretch(held)
            held = []
        if ending is not None and (begins or held):
            held.append((span, ending))
    if held:
        yield _stretch(held)


def _stretch(held: Sequence[tuple[Span, Ending]]) -> Stretch:
    return Stretch(tuple(span for span, _ in held), tuple(ending for _, ending in held))


def check(folder: Path, *, seconds: float, but_not: str = "") -> Checked:
    """Replay the newest stretch for so many seconds at most; `but_not` is one to leave alone."""
    found = stretches(folder)
    if not found:
        return Checked("nothing", detail="no kept span has ended since its session began")
    newest = found[-1]
    if newest.name == but_not:
        return Checked("nothing", detail="nothing ended since the last check")
    return compare(newest, until=time.monotonic() + seconds)


def compare(stretch: Stretch, *, until: float) -> Checked:
    """Replay a stretch and compare it span by span; stop at a time of the steady clock."""
    begun = time.monotonic()
    codes = {ending.code for ending in stretch.endings}
    if codes != {checkpoints.code()}:
        return Checked("other_code", stretch.name, detail="kept by another version of the code")
    try:
        pipeline = _start(stretch.spans[0])
    except (checkpoints.NotUsable, NotARecording, OSError) as error:
        return Checked("nothing", stretch.name, detail=str(error))
    told = _Comparing(stretch, pipeline, until)
    detail = told.run()
    return Checked(
        outcome="differs" if told.differs else "same" if told.compared else "nothing",
        stretch=stretch.name,
        since=stretch.spans[0].start,
        until=pipeline.last_frame_at,
        compared=told.compared,
        of=len(stretch.spans),
        frames=told.frames,
        changes=told.changes,
        seconds=round(time.monotonic() - begun, 1),
        detail=detail,
    )


def _start(span: Span) -> Pipeline:
    """Return the pipeline as it was when a span began."""
    if span.number > 1:
        return checkpoints.read(span.checkpoint_path)
    header = Recording(span.path).header
    return Pipeline(_rules(header, span), confirm_terms=header.get("confirm_terms") is True)


def _rules(header: dict[str, Any], span: Span) -> tuple[ActiveRule, ...]:
    try:
        texts = [str(text) for text in header["rules"]]
        return tuple(ActiveRule.of(parse_rule(text, source=span.path.name)) for text in texts)
    except (KeyError, TypeError, RuleError) as error:
        raise NotARecording(f"{span.path.name}: its rules cannot be read: {error}") from None


class _Comparing:
    """Feeds the spans of a stretch to a pipeline and compares what each came to."""

    def __init__(self, stretch: Stretch, pipeline: Pipeline, until: float) -> None:
        self.compared = self.frames = self.changes = 0
        self.differs = False
        self._stretch = stretch
        self._pipeline = pipeline
        self._until = until

    def run(self) -> str:
        """Return what differs, or why not all was compared; empty if all is the same."""
        pairs = zip(self._stretch.spans, self._stretch.endings, strict=True)
        for span, ending in pairs:
            crc = self._feed(span)
            if crc is None:
                return "the time was up"
            if why := self._difference(span, ending, *crc):
                self.differs = True
                return why
            self.compared += 1
        return ""

    def _feed(self, span: Span) -> tuple[int, int] | None:
        """Return the number and check sum of a span's own frames; None if the time is up."""
        count = crc = 0
        for frame in _own_frames(span):
            if count % LOOK_EVERY == 0 and time.monotonic() > self._until:
                return None
            self._pipeline.feed(frame)
            count, crc = count + 1, crc_of(frame, crc)
        self.frames += count
        return count, crc

    def _difference(self, span: Span, ending: Ending, frames: int, crc: int) -> str:
        if ending.stopped:
            self._pipeline.stop()
        digest, changes = self._pipeline.digest.part()
        self.changes += changes
        if (frames, crc) != (ending.frames, ending.crc):
            return (
                f"{span.path.name}: its frames are not those that were written "
                f"({frames} read of {ending.frames})"
            )
        if digest != ending.digest:
            return (
                f"{span.path.name}: the replay told {changes} changes, {digest}; "
                f"the live path {ending.changes}, {ending.digest}"
            )
        return ""


def _own_frames(span: Span) -> Iterator[Frame]:
    """Yield a span's frames but those that tell what was known when it began."""
    recording = Recording(span.path)
    kept = recording.header.get("kept")
    leading = kept.get("state_frames", 0) if isinstance(kept, dict) else 0
    for number, frame in enumerate(recording):
        if number >= leading:
            yield frame


# --- the scheduled check ------------------------------------------------------------------


def check_and_tell(folder: Path, *, seconds: float, at: datetime) -> Checked:
    """Check what ended since the last time, keep the outcome, and alert if it differs."""
    last = Heartbeat.objects.filter(component=REPLAY).first()
    before = last.detail if last else {}
    checked = check(folder, seconds=seconds, but_not=str(before.get("stretch", "")))
    if checked.outcome == "nothing" and last is not None and before.get("stretch"):
        told = before | {"looked_at": at.isoformat(timespec="seconds")}
        journal.beat(REPLAY, at=at, progress=last.progress, **told)
        return checked
    with transaction.atomic():
        progress = (last.progress if last else 0) + checked.compared
        journal.beat(REPLAY, at=at, progress=progress, **asdict(checked), line=checked.line)
        if checked.outcome == "differs":
            _tell(checked, at)
    log.info(
        "replay.checked", outcome=checked.outcome, spans=checked.compared, detail=checked.detail
    )
    return checked


def _tell(checked: Checked, at: datetime) -> None:
    told = {"stretch": checked.stretch, "detail": checked.detail, "since": checked.since}
    journal.record(kind=KIND, subject=f"replay:{checked.stretch}", data=told, at=at)
    journal.alert(key=f"replay:{checked.stretch}", kind=KIND, payload=told, at=at)
    log.error("replay.differs", **told)
