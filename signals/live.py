"""The live path as a running thing: a source drives the pipeline, a writer stores beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from markets.books import Books
from markets.frames import ENDED, Frame
from markets.gaps import Gaps
from markets.recording import PART_BYTES, RecordingWriter
from markets.ticks import TickSampler
from rules.engine import ActiveRule, Engine
from rules.house import is_ours
from rules.ml.samples import Labels
from rules.sightings import UNCONFIRMED
from signals.episodes import SignalChange
from signals.house import ASK_SECONDS, House
from signals.kept import Keeping, Kept
from signals.pipeline import Pipeline, Step
from signals.pulse import Beat, NoPulse, Pulse
from signals.samples import Sampler, Told
from signals.sources import Clock, Source
from signals.writer import Batch, Writer

log = structlog.stdlib.get_logger(__name__)

FLUSH_SECONDS = 1.0
MARK_SECONDS = 0.25
FINISH_SECONDS = 10.0


class Observer(Protocol):
    """Works beside the pipeline, on its books, in its thread."""

    def on_frame(self, t: int) -> None:
        """A frame was taken (unix ns)."""

    def on_signals(self, changes: Sequence[SignalChange]) -> None:
        """The frame led to these changes of signals."""

    def on_time(self, now: int) -> None:
        """Called a few times a second, whether frames come or not (unix ns)."""

    def stop(self) -> None: ...


class Live:
    """One run over a source. `digest` is what a replay of its recording must give.

    `house` is asked every other second, in a thread, for what the desk itself knows; it
    goes the way of all frames. `keeping` is where the last hours are kept, if they are.
    """

    def __init__(
        self,
        rules: tuple[ActiveRule, ...],
        *,
        clock: Clock,
        writer: Writer | None,
        recording: Path | None = None,
        part_bytes: int = PART_BYTES,
        confirm_terms: bool = False,
        house: House | None = None,
        keeping: Keeping | None = None,
        observe: Callable[[Books], Sequence[Observer]] | None = None,
        labels: Labels | None = None,
        pulse_seconds: float = 0,
    ) -> None:
        self.pipeline = Pipeline(rules, confirm_terms=confirm_terms)
        self.clock = clock
        self.writer = writer
        self.sampler = TickSampler()
        self.gaps = Gaps()
        self._healing_seconds: float | None = None  # of the gap that healed last
        self._source: Source | None = None
        self.busy_ns = 0  # time spent between a frame and what it led to
        self._recorder = (
            RecordingWriter(
                recording, header=recording_header(self.pipeline.engine), part_bytes=part_bytes
            )
            if recording
            else None
        )
        self._house = house
        header = recording_header(self.pipeline.engine)
        self._kept = Kept(self.pipeline, keeping, header=header) if keeping else None
        self._observers = observe(self.pipeline.books) if observe else ()
        self._pulse_seconds = pulse_seconds
        self._sampler = Sampler(self.pipeline, labels) if labels else None

    @property
    def digest(self) -> str:
        return self.pipeline.digest.hexdigest()

    async def run(self, source: Source, *, stop: asyncio.Event) -> None:
        """Take frames until the source ends or `stop` is set, then close everything."""
        self._source = source
        await self._ask_house()
        helpers = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._mark()),
            asyncio.create_task(self._flush()),
            asyncio.create_task(self._send_pulses()),
        ]
        reading = asyncio.create_task(source.run(self.take))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({reading, stopping, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._settle()  # before the end cuts all connections, which is no gap
            for task in (reading, stopping, *helpers):
                task.cancel()
            ended = await asyncio.gather(reading, stopping, *helpers, return_exceptions=True)
            self._finish()
        for result in ended:
            if isinstance(result, Exception):
                raise result

    def take(self, frame: Frame) -> None:
        """Record a frame, run it through the pipeline and hand on what it led to."""
        if self._recorder:
            self._recorder.write(frame)
        begun = time.perf_counter_ns()
        step = self.pipeline.feed(frame)
        self.busy_ns += time.perf_counter_ns() - begun
        if self._kept:
            self._kept.take(frame, step)
        told = self._sampled(step, at=frame.t)
        for observer in self._observers:
            observer.on_frame(frame.t)
            if step.changes:
                observer.on_signals(step.changes)
        if step.changes:
            _note(frame, step.changes)
            self._confirm(step)
        self._store(step, page=frame.body if _is_listing(frame) else None, told=told)

    def _sampled(self, step: Step, *, at: int | None = None) -> list[Told]:
        """Return what a model may be asked about; models are never a reason to stop.

        `at` is the time of the frame that did it; None: time passed without one.
        """
        if self._sampler is None:
            return []
        try:
            if at is not None:
                self._sampler.on_frame(at)
            return self._sampler.on_changes(step.changes) if step.changes else []
        except Exception:
            log.exception("sampler.failed")
            self._sampler = None
            return []

    def _confirm(self, step: Step) -> None:
        """Have the terms of what was just found read again, or of what waits for that."""
        for change in step.changes:
            waits = change.change == "updated" and UNCONFIRMED in change.finding.blocked_by
            if self._source and (waits or change.change == "opened"):
                for event_id in self.pipeline.engine.event_ids(change.finding.market_ids):
                    self._source.confirm(event_id)

    async def _listen(self) -> None:
        """Hear of rules and relations that changed while this runs."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            await self._ask_house()

    async def _ask_house(self) -> None:
        if self._house is None:
            return
        try:
            news = await asyncio.to_thread(self._house.news)
        except Exception:  # whatever it is: what was told last goes on
            log.exception("house.failed")
            return
        for req, body in news:
            self.take(Frame(self.clock.now(), "gamma", body, None, req))

    def _store(self, step: Step, *, page: bytes | None = None, told: Sequence[Told] = ()) -> None:
        if self.writer is None:
            return
        if step.changes or step.events or page:
            self.writer.put(
                Batch(
                    self.pipeline.last_frame_at,
                    events=list(step.events),
                    pages=[page] if page else [],
                    changes=list(step.changes),
                    told=list(told),
                    horizon_ns=self._sampler.labels.horizon_ns if self._sampler else 0,
                )
            )

    async def _mark(self) -> None:
        """Let time pass for the episodes when no frame does it; hand on what was recorded."""
        while True:
            await asyncio.sleep(MARK_SECONDS)
            if self._recorder:
                self._recorder.flush()
            now = self.clock.now()
            step = Step(tuple(self.pipeline.advance(now)))
            self._store(step, told=self._sampled(step))
            for observer in self._observers:
                observer.on_time(now)
            self._settle()

    def _settle(self) -> None:
        """See which books broke and which gaps have healed since the last look."""
        at = self.clock.now()
        breaks = self.gaps.begin(self.pipeline.books.take_breaks())
        healed = self.gaps.settle(at=at)
        for gap in healed:
            self._healing_seconds = (gap.healed_at - gap.opened_at) / 1e9
        if self.writer:
            self.writer.put(Batch(at, breaks=breaks, healed=healed))
        self._tell_outcomes()

    def _tell_outcomes(self) -> None:
        """Hand on what has become of signals that were told."""
        if self.writer and self._sampler:
            samples, dropped = self._sampler.take(), self._sampler.take_dropped()
            self.writer.put(Batch(self.pipeline.last_frame_at, samples=samples, dropped=dropped))

    async def _send_pulses(self) -> None:
        """Send a mispricing of our own through the same code and the same writer."""
        if not self._pulse_seconds or self.writer is None:
            await asyncio.Event().wait()  # for ever: the end of one helper ends them all
        pulse, due = Pulse(), self.clock.now()
        while True:
            self._send_pulse(pulse, due)
            due = max(due + int(self._pulse_seconds * 1e9), self.clock.now())
            await asyncio.sleep((due - self.clock.now()) / 1e9)

    def _send_pulse(self, pulse: Pulse, due: int) -> None:
        try:
            key = pulse.send(at=self.clock.now())
        except NoPulse:  # it will be missed
            log.exception("pulse.not_found")
            return
        if self.writer:
            self.writer.put(Batch(due, pulses=[Beat(key, due, self.clock.now())]))

    async def _flush(self) -> None:
        while True:
            self._flush_once()
            await asyncio.sleep(FLUSH_SECONDS)

    def _flush_once(self) -> None:
        if self._recorder:
            self._recorder.flush()
        if self._kept:
            self._kept.flush()
        if self.writer is None:
            return
        pipeline = self.pipeline
        self.writer.put(
            Batch(
                pipeline.last_frame_at,
                tops=self.sampler.take(pipeline.books),
                problems=pipeline.problems.drain(),
                beat=self.vital_signs(),
                progress=pipeline.frames,
            )
        )

    def vital_signs(self) -> dict[str, object]:
        """Return what the heartbeat tells: how much came in, and how it was dealt with."""
        pipeline = self.pipeline
        states: dict[str, int] = {}
        for book in pipeline.books.by_market.values():
            states[book.state] = states.get(book.state, 0) + 1
        return {
            "frames": pipeline.frames,
            "last_frame_at": pipeline.last_frame_at // 1_000_000,
            "books": states,
            "watches": len(pipeline.engine.watches),
            "walks": pipeline.engine.looks,
            "unsolved": pipeline.engine.unsolved,
            "open_signals": len(pipeline.episodes),
            "problems": pipeline.problems.total,
            "open_gaps": len(self.gaps.open),
            "last_healing_seconds": self._healing_seconds,
            **(self._source.vital_signs() if self._source else {}),
            **(self._kept.vital_signs() if self._kept else {}),
            "mean_us": round(self.busy_ns / max(pipeline.frames, 1) / 1_000, 1),
        }

    def _finish(self) -> None:
        if self.pipeline.frames:  # a replay has to know how long nothing came
            self.take(Frame(self.clock.now(), "ws", b"", None, ENDED))
        for observer in self._observers:
            observer.stop()
        changes = self.pipeline.stop()
        self._store(Step(tuple(changes)))
        if self._sampler:
            self._sampler.finish()
            self._tell_outcomes()
        self._flush_once()
        if self._kept:
            self._kept.close()
        if self._recorder:
            self._recorder.close()
            log.info(
                "recording.closed",
                file=str(self._recorder.path),
                parts=self._recorder.part,
                frames=self._recorder.frames,
                changes=self.pipeline.digest.changes,
                digest=self.digest,
            )


def _note(frame: Frame, changes: Sequence[SignalChange]) -> None:
    """Name the frame that each new signal began with; the signal's key is its trace."""
    for change in changes:
        if change.change == "opened":
            log.info(
                "frame.found",
                trace_id=change.key,
                t=frame.t,
                channel=frame.ch,
                conn=frame.conn,
                rule=change.rule.code,
                signal_level=change.level,
            )


def _is_listing(frame: Frame) -> bool:
    return frame.ch == "gamma" and not is_ours(frame.req)


def recording_header(engine: Engine) -> dict[str, object]:
    """Return what a replay needs besides the frames: the rules, and how they ran."""
    return {
        "rules": [rule.definition.canonical() for rule in engine.rules],
        "confirm_terms": engine.confirm_terms,
    }
