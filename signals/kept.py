"""The last hours of the live path, kept as recordings that each can be replayed alone.

The frames of a process are cut into spans of some minutes. A span begins with
what was known when it began, as frames: what the desk itself knew, the last
listing of every event, and every book that could be trusted. So the newest hours
can be read without those before, and old spans are deleted without harm.

The live path only appends frames to a list; a thread writes them.
"""

from __future__ import annotations

import logging
import queue
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from markets.book import PRICE_TEXT, Book, Stamp
from markets.fills import PRICE_ONE
from markets.frames import Frame
from markets.listing import OVER
from markets.polymarket.wire import last_stamp
from markets.problems import Problems
from markets.recording import NotARecording, Recording, RecordingWriter, later_parts
from rules import house
from signals.pipeline import Pipeline, Step

log = logging.getLogger(__name__)

SPAN_SECONDS = 900.0
FINISH_SECONDS = 10.0  # for what is still to be written at the end
FLUSH_SECONDS = 5.0  # a process that is killed loses this much of what it kept
RETRY_SECONDS = 60.0  # before a folder that could not be written to is tried again
CHUNK = 2_000  # frames handed to the thread at a time
MOST_CHUNKS = 250  # waiting for the thread; a disk that stands still costs no more memory
PIECES = 16  # a span is over when it has this part of the room
HOUR_NS = 3_600_000_000_000
MB = 1024 * 1024
_NAME = re.compile(r"kept-(\d{16,20})-([0-9a-f]{8})-(\d{5,})\.jsonl\.gz")


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


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One file: when it begins (unix ns), whose it is, and its number in that session."""

    start: int
    session: str
    number: int
    path: Path

    @classmethod
    def named(cls, path: Path) -> Span | None:
        """Read a file's name; None for a file that is no span."""
        match = _NAME.fullmatch(path.name)
        return cls(int(match[1]), match[2], int(match[3]), path) if match else None

    @classmethod
    def new(cls, folder: Path, *, start: int, session: str, number: int) -> Span:
        name = f"kept-{start:019d}-{session}-{number:05d}.jsonl.gz"
        return cls(start, session, number, folder / name)

    @property
    def end(self) -> int:
        """When it was last written to, unix ns; its beginning if it is gone."""
        try:
            return max(self.path.stat().st_mtime_ns, self.start)
        except FileNotFoundError:
            return self.start

    @property
    def size(self) -> int:
        """Bytes; 0 if it is gone."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


# --- what a span begins with --------------------------------------------------------------


class _Page:
    """The last listing of some events. The thread packs it; until then it is as it came."""

    __slots__ = ("body", "packed", "req", "t")

    def __init__(self, frame: Frame) -> None:
        self.t, self.req, self.body = frame.t, frame.req, frame.body
        self.packed = False

    def pack(self) -> None:
        if not self.packed:
            self.body, self.packed = zlib.compress(self.body, 6), True

    def frame(self, t: int) -> Frame:
        body = zlib.decompress(self.body) if self.packed else self.body
        return Frame(t, "gamma", body, req=self.req)


@dataclass(frozen=True, slots=True)
class _Held:
    """A book as it was at one moment, still to be written."""

    conn: int | None
    condition_id: str
    tokens: tuple[str, str]
    bids: dict[int, str]
    asks: dict[int, str]
    stamp: Stamp | bytes
    tick_size: str
    min_order_size: str
    neg_risk: bool
    last_trade_price: str
    version: str

    @classmethod
    def of(cls, book: Book) -> _Held:
        return cls(
            book.conn,
            book.condition_id,
            (book.token0, book.token1),
            book.bids.copy(),
            book.asks.copy(),
            book.stamp,
            book.tick_size,
            book.min_order_size,
            book.neg_risk,
            book.last_trade_price,
            book.version,
        )

    def message(self) -> dict[str, object]:
        """Return the venue's `book` message of this state, with the hash it stated itself."""
        stamp = self.stamp
        token, stated, at = (
            last_stamp(stamp, self.condition_id) if isinstance(stamp, bytes) else stamp
        )
        mirrored = token == self.tokens[1]
        bids, asks = (self.asks, self.bids) if mirrored else (self.bids, self.asks)
        return {
            "market": self.condition_id,
            "asset_id": token or self.tokens[0],
            "timestamp": at if at.isdecimal() else "0",
            "hash": stated,
            "bids": _rows(bids, mirrored),
            "asks": _rows(asks, mirrored)[::-1],
            "tick_size": self.tick_size,
            "event_type": "book",
            "last_trade_price": self.last_trade_price,
            "min_order_size": self.min_order_size,
            "neg_risk": self.neg_risk,
            **({"version": self.version} if self.version else {}),
        }


def _rows(ladder: dict[int, str], mirrored: bool) -> list[dict[str, str]]:
    """Return one side by price, as the outcome sees it that is spoken of."""
    seen = {PRICE_ONE - p if mirrored else p: size for p, size in ladder.items()}
    return [{"price": PRICE_TEXT[p], "size": seen[p]} for p in sorted(seen)]


@dataclass(frozen=True, slots=True)
class State:
    """All that must be told again for a replay to begin at `t` (unix ns)."""

    t: int
    house: tuple[Frame, ...] = ()
    pages: tuple[_Page, ...] = ()
    books: tuple[_Held, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.house) + len(self.pages) + len(self._by_conn())

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.house:
            yield msgspec.structs.replace(frame, t=self.t)
        for page in self.pages:
            yield page.frame(self.t)
        # One frame for each connection: no event is looked at with half of its books.
        for conn, books in self._by_conn().items():
            body = msgspec.json.encode([book.message() for book in books])
            yield Frame(self.t, "ws", body, conn)

    def _by_conn(self) -> dict[int | None, list[_Held]]:
        held: dict[int | None, list[_Held]] = {}
        for book in self.books:
            held.setdefault(book.conn, []).append(book)
        return held


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
        self._number = 0
        self._house: dict[str, Frame] = {}  # by request
        self._pages: dict[str, _Page] = {}  # by event
        self._frames: list[Frame] = []
        self._due = 0  # unix ns: when the next span begins
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
        if frame.t >= self._due:
            self._cut(frame.t)
        elif len(self._frames) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Hand over what was taken; begin a new span if the thread wants one."""
        if self._number and self._scribe.wants_new():
            self._cut(self._pipeline.last_frame_at)
        elif self._frames:
            self._hand_over()

    def close(self) -> None:
        """Write the rest and end."""
        self._hand_over()
        self._scribe.finish()

    def vital_signs(self) -> dict[str, object]:
        """Return what the heartbeat tells: whether anything could not be kept."""
        return {"kept_spans": self._number, "kept_failures": self._scribe.failures}

    def _remember(self, frame: Frame, step: Step) -> None:
        if house.is_ours(frame.req):
            self._house[frame.req or ""] = frame
            return
        if step.events:
            page = _Page(frame)
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
        self._begin(self._state(t))

    def _begin(self, state: State) -> None:
        self._number += 1
        self._due = state.t + int(self._keeping.span_seconds * 1e9)
        span = Span.new(
            self._keeping.folder, start=state.t, session=self._session, number=self._number
        )
        self._scribe.put(_Begin(span, self._header, state, follows=not self._lost))
        self._lost = False

    def _state(self, t: int) -> State:
        events = self._pipeline.events
        over = [e for e in self._pages if e not in events or _is_over(events[e].markets)]
        for event_id in over:  # no book of theirs is kept, and a later listing tells of them anew
            del self._pages[event_id]
        pages = sorted(dict.fromkeys(self._pages.values()), key=lambda page: page.t)
        books = self._pipeline.books.by_market.values()
        held = tuple(_Held.of(book) for book in books if not book.state_note)
        return State(t, tuple(self._house.values()), tuple(pages), held)


def _is_over(markets: Iterable[Any]) -> bool:
    return all(market.untradable in OVER for market in markets)


@dataclass(frozen=True, slots=True)
class _Begin:
    span: Span
    header: dict[str, Any]
    state: State
    follows: bool  # nothing is missing between the span before and this one


class _Scribe(threading.Thread):
    """Writes spans and deletes old ones, in the order in which it was told."""

    def __init__(self, keeping: Keeping) -> None:
        super().__init__(name="kept", daemon=True)
        self.failures = 0
        self._keeping = keeping
        self._queue: queue.SimpleQueue[_Begin | list[Frame] | _Page | None] = queue.SimpleQueue()
        self._writer: RecordingWriter | None = None
        self._span: Span | None = None
        self._flushed = 0.0
        self._new_at: float | None = None  # when a new span is wanted, by the steady clock

    def put(self, item: _Begin | list[Frame] | _Page) -> None:
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
        log.error("kept.overrun waiting=%d", self.waiting)

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
        self._guarded(self._end)

    def _do(self, item: _Begin | list[Frame] | _Page) -> None:
        if isinstance(item, _Page):
            self._guarded(item.pack)
        elif isinstance(item, _Begin):
            self._guarded(lambda: self._begin(item))
        else:
            self._guarded(lambda: self._write(item))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # a thread that is dead would fill the memory with frames
            self.failures += 1
            self._new_at = time.monotonic() + RETRY_SECONDS
            self._writer = None  # what was written before stays readable
            log.exception("kept.failed folder=%s", self._keeping.folder)

    def _begin(self, begin: _Begin) -> None:
        whole = self._writer is not None or begin.span.number == 1
        self._end()
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

    def _write(self, frames: list[Frame]) -> None:
        writer = self._writer
        if writer is None:
            return
        for frame in frames:
            writer.write(frame)
        if time.monotonic() >= self._flushed + FLUSH_SECONDS:
            self._flushed = time.monotonic()
            writer.flush()
            if self._span and self._span.size >= self._keeping.span_bytes:
                self._new_at = self._new_at or time.monotonic()

    def _end(self) -> None:
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
        span.path.unlink(missing_ok=True)
        deleted += 1
    return deleted


# --- reading ------------------------------------------------------------------------------


def spans(folder: Path, *, since: int = 0) -> list[Span]:
    """Return the kept spans, oldest first; with `since` (unix ns) those that reach beyond it."""
    if not folder.is_dir():
        return []
    found = [span for path in folder.iterdir() if (span := Span.named(path))]
    return [span for span in sorted(found) if span.end > since]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is kept of a window, in unix ns. `covered` leaves out the gaps between spans."""

    since: int
    until: int
    covered: int
    spans: int
    size: int  # bytes


def coverage(folder: Path, *, since: int) -> Coverage | None:
    """Say how much there really is since a time; None for nothing."""
    found = spans(folder, since=since)
    if not found:
        return None
    ends = [span.end for span in found]
    covered, reached = 0, since
    for span, end in zip(found, ends, strict=True):
        covered += max(0, end - max(span.start, reached))
        reached = max(reached, end)
    first = max(found[0].start, since)
    return Coverage(first, max(ends), covered, len(found), sum(span.size for span in found))


@dataclass(frozen=True, slots=True)
class Beginning:
    """In a `Reading`: what follows begins anew, from nothing. `header` is its recording's."""

    header: dict[str, Any]


@dataclass(slots=True)
class Reading:
    """Recordings one after the other. Spans that continue each other give one stretch of frames.

    Iterating gives a `Beginning` and frames, for each stretch; none at all if
    nothing could be read. `share` says how much of the bytes has been read.
    """

    paths: tuple[Path, ...]
    problems: Problems = field(default_factory=Problems)
    total: int = 0  # bytes
    _past: int = 0  # bytes of the files before the one at hand
    _now: Recording | None = None

    def __post_init__(self) -> None:
        self.total = sum(map(_whole_size, self.paths))

    @property
    def share(self) -> float:
        """From 0 to 1."""
        under = self._now.bytes_read if self._now else 0
        return min((self._past + under) / max(self.total, 1), 1.0)

    def __iter__(self) -> Iterator[Frame | Beginning]:
        before: dict[str, Any] | None = None
        for path in self.paths:
            recording = self._opened(path)
            if recording is None:
                before = None
                continue
            kept = _kept(recording)
            continues = before is not None and _continues(kept, before)
            if not continues:
                yield Beginning(recording.header)
            whole = yield from self._frames(recording, kept["state_frames"] if continues else 0)
            self._past += recording.bytes_read
            self._now = None
            before = kept if whole else None

    def _frames(self, recording: Recording, leading: int) -> Generator[Frame, None, bool]:
        """Yield all frames but the first few, which tell what is known; return if it was whole."""
        try:
            for number, frame in enumerate(recording):
                if number >= leading:
                    yield frame
        except OSError as error:  # deleted before it was opened: it grew too old meanwhile
            self._note(recording.path, error)
            return False
        return not recording.truncated

    def _opened(self, path: Path) -> Recording | None:
        """Return a recording; None, and a note, if it was deleted or cannot be read."""
        try:
            self._now = Recording(path, problems=self.problems)
        except (OSError, NotARecording) as error:
            self._note(path, error)
            return None
        return self._now

    def _note(self, path: Path, error: Exception) -> None:
        self.problems.note("recording", "unreadable", at=0, subject=path.name, detail=str(error))


def _whole_size(path: Path) -> int:
    """Return the bytes of a recording with its parts; 0 if it is gone."""
    try:
        parts = () if Span.named(path) else later_parts(path).values()
        return sum(part.stat().st_size for part in (path, *parts))
    except FileNotFoundError:
        return 0


def kept_reading(found: Iterable[Span]) -> Reading:
    """Return the frames of spans, session after session."""
    firsts: dict[str, int] = {}
    for span in found:
        firsts[span.session] = min(span.start, firsts.get(span.session, span.start))
    ordered = sorted(found, key=lambda span: (firsts[span.session], span.session, span.number))
    return Reading(tuple(span.path for span in ordered))


def _kept(recording: Recording) -> dict[str, Any]:
    kept = recording.header.get("kept")
    return kept if isinstance(kept, dict) else {}


def _continues(kept: dict[str, Any], before: dict[str, Any]) -> bool:
    """Say whether nothing is missing between two spans, so that the second needs no state."""
    return (
        kept.get("follows") is True
        and kept.get("session") == before.get("session")
        and kept.get("number") == before.get("number", 0) + 1
    )
