"""The last hours of the live path, kept as recordings that each can be replayed alone.

The frames of a process are cut into spans of some minutes. A span begins with
what was known when it began, as frames: what the desk itself knew, the last
listing of every event, and every book that could be trusted. So the newest hours
can be read without those before, and old spans are deleted without harm.

The live path only appends frames to a list; a thread writes them.
"""

from __future__ import annotations

import pickle
import queue
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog

from markets.frames import Frame
from markets.listing import OVER
from markets.past.spans import Span, spans
from markets.past.state import HeldBook, Page, State
from markets.recording import RecordingWriter
from rules import house
from signals import checkpoints
from signals.pipeline import Pipeline, Step

log = structlog.stdlib.get_logger(__name__)

SPAN_SECONDS = 900.0
FINISH_SECONDS = 10.0  # for what is still to be written at the end
FLUSH_SECONDS = 5.0  # a process that is killed loses this much of what it kept
RETRY_SECONDS = 60.0  # before a folder that could not be written to is tried again
CHUNK = 2_000  # frames handed to the thread at a time
MOST_CHUNKS = 250  # waiting for the thread; a disk that stands still costs no more memory
PIECES = 16  # a span is over when it has this part of the room
MOST_BOOKS = 2_000  # a checkpoint of more would hold the live path up for too long
CHECKPOINT_NS = 6 * 3_600_000_000_000
HOUR_NS = 3_600_000_000_000
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where spans are kept, for how long, and how much room they may take."""

    folder: Path
    hours: int
    megabytes: int
    span_seconds: float = SPAN_SECONDS

    @property
    def span_bytes(self) -> int:
        return max(self.megabytes * MB // PIECES, 1)


# --- writing ------------------------------------------------------------------------------


class Kept:
    """Keeps the frames that a pipeline takes. Used by the live path's own thread alone.

    A folder that cannot be written to stops nothing: it is logged, what could not
    be kept is missing, and the next span begins anew.
    """

    def __init__(self, pipeline: Pipeline, keeping: Keeping, *, header: dict[str, Any]) -> None:
        """`header` is that of a recording of this pipeline, as of now."""
        self._pipeline = pipeline
        self._keeping = keeping
        self._header = header
        self._session = secrets.token_hex(4)
        checkpoints.code()  # of the code that runs, before anything newer lies there
        self._number = 0
        self._house: dict[str, Frame] = {}  # by request
        self._pages: dict[str, Page] = {}  # by event
        self._frames: list[Frame] = []
        self._due = 0  # unix ns: when the next span begins
        self._checkpoint_due = 0  # unix ns
        self._lost = False  # of this span, from some frame on
        self._scribe = _Scribe(keeping)
        self._scribe.start()

    def take(self, frame: Frame, step: Step) -> None:
        """Keep a frame that the pipeline has just taken, and what that led to."""
        if not self._number:
            self._begin(State(frame.t))
        self._frames.append(frame)
        if frame.ch == "gamma":
            self._remember(frame, step)
        if frame.t >= self._due or self._scribe.wants_new():
            self._cut(frame.t)
        elif len(self._frames) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand over what was taken."""
        if self._frames:
            self._hand_over()

    def close(self) -> None:
        """Write the rest and end. The pipeline has been stopped: that belongs to its signals."""
        self._hand_over()
        self._end(stopped=True)
        self._scribe.finish()

    def vital_signs(self) -> dict[str, object]:
        """Return what the heartbeat tells: whether anything could not be kept."""
        return {"kept_spans": self._number, "kept_failures": self._scribe.failures}

    def _remember(self, frame: Frame, step: Step) -> None:
        if house.is_ours(frame.req):
            self._house[frame.req or ""] = frame
            return
        if step.events:
            page = Page(frame)
            self._pages.update(dict.fromkeys((event.event_id for event in step.events), page))
            self._scribe.put(page)

    def _hand_over(self) -> None:
        if self._frames and not self._lost:
            self._lost = self._scribe.waiting > MOST_CHUNKS
            if self._lost:
                self._scribe.overrun()
            else:
                self._scribe.put(self._frames)
        self._frames = []

    def _cut(self, t: int) -> None:
        """End the span; the next one begins with what is known now."""
        self._hand_over()
        self._end(stopped=False)
        self._begin(self._state(t), self._checkpoint(t))

    def _end(self, *, stopped: bool) -> None:
        digest, changes = self._pipeline.digest.part()
        if self._number and not self._lost:
            self._scribe.put(_End(digest, changes, self._pipeline.last_frame_at, stopped))

    def _checkpoint(self, t: int) -> bytes | None:
        """Return the pipeline as it is now, now and then: some 0.2 ms a book."""
        if t < self._checkpoint_due or len(self._pipeline.books) > MOST_BOOKS:
            return None
        self._checkpoint_due = t + CHECKPOINT_NS
        try:
            return checkpoints.packed(self._pipeline)
        except (RecursionError, pickle.PicklingError, TypeError) as error:
            log.warning("kept.no_checkpoint", error=str(error))
            return None

    def _begin(self, state: State, checkpoint: bytes | None = None) -> None:
        self._number += 1
        self._due = state.t + int(self._keeping.span_seconds * 1e9)
        span = Span.new(
            self._keeping.folder, start=state.t, session=self._session, number=self._number
        )
        if self._number == 1:
            self._checkpoint_due = state.t + CHECKPOINT_NS
        follows = not self._lost
        self._scribe.put(_Begin(span, self._header, state, follows, checkpoint))
        self._lost = False

    def _state(self, t: int) -> State:
        events = self._pipeline.events
        over = [e for e in self._pages if e not in events or _is_over(events[e].markets)]
        for event_id in over:  # no book of theirs is kept, and a later listing tells of them anew
            del self._pages[event_id]
        pages = sorted(dict.fromkeys(self._pages.values()), key=lambda page: page.t)
        books = self._pipeline.books.by_market.values()
        held = tuple(HeldBook.of(book) for book in books if not book.state_note)
        return State(t, tuple(self._house.values()), tuple(pages), held)


def _is_over(markets: Iterable[Any]) -> bool:
    return all(market.untradable in OVER for market in markets)


@dataclass(frozen=True, slots=True)
class _Begin:
    span: Span
    header: dict[str, Any]
    state: State
    follows: bool  # nothing is missing between the span before and this one
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class _End:
    """What the signals of a span came to, as the live path told them."""

    digest: str
    changes: int
    last_frame_at: int
    stopped: bool


class Ending(msgspec.Struct, frozen=True):
    """How a span ended, written beside it: a replay must come to the same.

    `digest` is over the signal changes of this span alone, `crc` over its frames.
    `stopped` says that the pipeline was stopped then, which closed what was open.
    """

    digest: str
    changes: int
    frames: int
    crc: int
    last_frame_at: int
    stopped: bool
    code: str


def ending_of(span: Span) -> Ending | None:
    """Return how a span ended; None if it goes on, lost frames, or its process was killed."""
    try:
        return msgspec.json.decode(span.ending_path.read_bytes(), type=Ending)
    except (OSError, msgspec.MsgspecError):
        return None


def crc_of(frame: Frame, before: int) -> int:
    """Return the running check sum of frames' bodies and times."""
    return zlib.crc32(frame.body, zlib.crc32(b"%d" % frame.t, before))


class _Scribe(threading.Thread):
    """Writes spans and deletes old ones, in the order in which it was told."""

    def __init__(self, keeping: Keeping) -> None:
        super().__init__(name="kept", daemon=True)
        self.failures = 0
        self._keeping = keeping
        self._queue: queue.SimpleQueue[_Begin | _End | list[Frame] | Page | None] = (
            queue.SimpleQueue()
        )
        self._writer: RecordingWriter | None = None
        self._span: Span | None = None
        self._frames = self._crc = 0  # of this span, what it begins with not counted
        self._flushed = 0.0
        self._new_at: float | None = None  # when a new span is wanted, by the steady clock

    def put(self, item: _Begin | _End | list[Frame] | Page) -> None:
        self._queue.put(item)

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def wants_new(self) -> bool:
        """Say whether the span is full, or broken long enough ago to try again."""
        wanted = self._new_at is not None and time.monotonic() >= self._new_at
        if wanted:
            self._new_at = None
        return wanted

    def overrun(self) -> None:
        """Frames were thrown away because this thread cannot follow."""
        self.failures += 1
        self._new_at = time.monotonic() + RETRY_SECONDS
        log.error("kept.overrun", waiting=self.waiting)

    def finish(self) -> None:
        self._queue.put(None)
        self.join(FINISH_SECONDS)

    def run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=FLUSH_SECONDS)
            except queue.Empty:
                item = []
            if item is None:
                break
            self._do(item)
        self._guarded(self._close)

    def _do(self, item: _Begin | _End | list[Frame] | Page) -> None:
        if isinstance(item, Page):
            self._guarded(item.pack)
        elif isinstance(item, _Begin):
            self._guarded(lambda: self._begin(item))
        elif isinstance(item, _End):
            self._guarded(lambda: self._end(item))
        else:
            self._guarded(lambda: self._write(item))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # a thread that is dead would fill the memory with frames
            self.failures += 1
            self._new_at = time.monotonic() + RETRY_SECONDS
            self._writer = None  # what was written before stays readable
            log.exception("kept.failed", folder=str(self._keeping.folder))

    def _begin(self, begin: _Begin) -> None:
        whole = self._writer is not None or begin.span.number == 1
        self._close()
        self._keeping.folder.mkdir(parents=True, exist_ok=True)
        prune(self._keeping, at=begin.span.start)
        kept = {
            "session": begin.span.session,
            "number": begin.span.number,
            "state_frames": begin.state.frames,
            "follows": whole and begin.follows,
        }
        header = {**begin.header, "kept": kept}
        # Never in parts: a span ends before it is large.
        writer = RecordingWriter(begin.span.path, header=header, part_bytes=2**62)
        for frame in begin.state:
            writer.write(frame)
        writer.flush()
        self._writer, self._span = writer, begin.span
        self._frames = self._crc = 0
        if begin.checkpoint is not None:
            checkpoints.write(begin.span.checkpoint_path, begin.checkpoint)

    def _write(self, frames: list[Frame]) -> None:
        writer = self._writer
        if writer is None:
            return
        for frame in frames:
            writer.write(frame)
            self._crc = crc_of(frame, self._crc)
        self._frames += len(frames)
        if time.monotonic() >= self._flushed + FLUSH_SECONDS:
            self._flushed = time.monotonic()
            writer.flush()
            if self._span and self._span.size >= self._keeping.span_bytes:
                self._new_at = self._new_at or time.monotonic()

    def _end(self, end: _End) -> None:
        """Write how a span ended, once all of it is written."""
        if self._writer is None or self._span is None:
            return
        self._writer.flush()
        ending = Ending(
            digest=end.digest,
            changes=end.changes,
            frames=self._frames,
            crc=self._crc,
            last_frame_at=end.last_frame_at,
            stopped=end.stopped,
            code=checkpoints.code(),
        )
        self._span.ending_path.write_bytes(msgspec.json.encode(ending))
        span = self._span.path.name
        log.info("kept.ended", span=span, digest=end.digest, changes=end.changes)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def prune(keeping: Keeping, *, at: int) -> int:
    """Delete what is too old or too much, oldest first; return how many spans.

    Room for one more span is left. `at` is unix ns.
    """
    found = spans(keeping.folder)
    room = keeping.megabytes * MB - keeping.span_bytes
    total = sum(span.size for span in found)
    deleted = 0
    for span in found:
        if span.end >= at - keeping.hours * HOUR_NS and total <= room:
            continue
        total -= span.size
        span.delete()
        deleted += 1
    return deleted
