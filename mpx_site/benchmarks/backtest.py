"""`bench backtest`: ticks a second with all rules, beside the same rules row by row.

Three ways over the same ticks, in one run, by CPU time:

- ours: the parts of a backtest over frames, orders and latency curve included;
- rows: a loop over row dicts that are in memory already, each rule called for each;
- the seed's: a loop over the same ticks in a database, with its two queries a tick.

A ratio is the median over chunks that take turns. That the first two find the same is
checked, not assumed: a hit is a rule, a kind of finding and what it is about.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from execution.backtest.grid import variants_of
from execution.backtest.passing import Part, lanes_of
from execution.backtest.terms import FillTerms
from markets.book import Book
from markets.books import Books
from markets.frames import Frame
from markets.listing import EventTerms, decode_page, read_page
from markets.past import past_of_recording
from markets.problems import Problems
from markets.recording import RecordingWriter
from markets.simulator.world import World, frames
from mpx_site.benchmarks.rowwise import Rowwise, Ticks
from mpx_site.benchmarks.stream import _resident_mb
from rules.dsl import RuleDefinition, read_dir
from rules.load import SHIPPED

START = 1_770_000_000_000_000_000
SECOND = 1_000_000_000
CHUNKS = 10
SEED_TICKS = 300  # the seed's way is slow: so many are enough to know how slow
EVENTS = 40
MEMORY_TICKS = 15_000  # at 1x; ten times as many at 10x


def run(*, ticks: int) -> dict[str, object]:
    """Return the result object of `bench backtest` (DESIGN section 5)."""
    definitions = shipped()
    listed, feed = made(ticks)
    events = events_of(listed)
    rows = list(rows_of(events, feed))
    part, told = our_part(definitions)
    for frame in listed:
        part.take(frame)
    rowwise = Rowwise(definitions, events)
    gc.collect()
    gc.freeze()
    ours_s, rows_s = _in_turns(part, feed, rowwise, rows)
    part.finish()
    rowwise.finish()
    missing, extra = rowwise.hits - told, told - rowwise.hits
    seed_s = _seed_seconds(definitions, events, rows)
    one, ten = _memory()
    per_tick = sum(ours_s) / len(feed)
    return {
        "bench": "backtest",
        "ratios": {
            "vs_rows": round(statistics.median(_ratios(ours_s, rows_s)), 2),
            "vs_seed": round(seed_s / per_tick, 1),
        },
        "figures": {
            "ticks_per_s": round(len(feed) / sum(ours_s)),
            "rows_per_s": round(len(rows) / sum(rows_s)),
            "seed_ticks_per_s": round(1 / seed_s),
            "ticks": len(feed),
            "rules": len(definitions),
            "hits": len(told),
            "hits_only_rows": len(missing),
            "hits_only_ours": len(extra),
            "rss_mb_1x": round(one, 1),
            "rss_mb_10x": round(ten, 1),
        },
    }


def shipped() -> list[RuleDefinition]:
    files, _ = read_dir(SHIPPED)
    return [file.definition for file in files]


def made(ticks: int, *, seed: int = 7) -> tuple[list[Frame], list[Frame]]:
    """Return the frames that list events, then so many that tell of their books."""
    listed: list[Frame] = []
    feed: list[Frame] = []
    for frame in _endless(seed):
        if frame.ch == "ws" and frame.req is None:
            feed.append(frame)
        elif not feed:
            listed.append(frame)
        if len(feed) == ticks:
            break
    return listed, feed


def _endless(seed: int) -> Iterator[Frame]:
    world = World(seed=seed, events=EVENTS, start=START, plant_every=6, decoy_every=3)
    return frames(world, until=START + 86_400 * SECOND)


def events_of(listed: Iterable[Frame]) -> tuple[EventTerms, ...]:
    pages = (frame for frame in listed if frame.ch == "gamma")
    return tuple(e for frame in pages for e in read_page(decode_page(frame.body), rejected=[]))


def rows_of(events: Iterable[EventTerms], feed: Iterable[Frame]) -> Iterator[dict[str, Any]]:
    """Yield one row for each book that a frame speaks of: what a store of ticks would hold."""
    books = Books(Problems())
    by_condition: dict[str, Book] = {}
    for event in events:
        for market in event.markets:
            by_condition[market.condition_id] = books.add(market)
    for frame in feed:
        books.feed(frame.body, frame.t, frame.conn)
        for book in _spoken_of(frame, by_condition):
            if book.evaluable:
                yield {
                    "at": frame.t,
                    "market": book.market_id,
                    "bid": book.bid,
                    "ask": book.ask,
                    "asks": book.asks_of(0),
                    "no_asks": book.asks_of(1),
                }


def _spoken_of(frame: Frame, books: dict[str, Book]) -> list[Book]:
    told = json.loads(frame.body)
    named = {each.get("market") for each in (told if isinstance(told, list) else [told])}
    return [books[each] for each in sorted(filter(None, named)) if each in books]


def our_part(definitions: Sequence[RuleDefinition]) -> tuple[Part, set[tuple[str, str, str]]]:
    """Return a part with every rule and lane, and the set that its hits go into."""
    terms = FillTerms()
    told: set[tuple[str, str, str]] = set()
    part = Part(
        variants_of(definitions),
        terms,
        lanes_of(terms),
        tell=lambda hit: told.add((hit["rule"], hit["kind"], _about(hit))),
    )
    return part, told


def _about(hit: dict[str, Any]) -> str:
    basket = hit["kind"].endswith("_basket")
    about: str = hit["event_id"] if basket else "+".join(hit["market_ids"])
    return about


def _in_turns(
    part: Part, feed: Sequence[Frame], rowwise: Rowwise, rows: Sequence[dict[str, Any]]
) -> tuple[list[float], list[float]]:
    """Let both do a tenth of the time in turn; return their CPU seconds."""
    ours: list[float] = []
    others: list[float] = []
    edges = [feed[len(feed) * n // CHUNKS].t for n in range(CHUNKS)] + [2**63]
    for begin, end in pairwise(edges):
        frames_ = [frame for frame in feed if begin <= frame.t < end]
        rows_ = [row for row in rows if begin <= row["at"] < end]
        begun = time.process_time()
        for frame in frames_:
            part.take(frame)
        between = time.process_time()
        for row in rows_:
            rowwise.take(row)
        ours.append(between - begun)
        others.append(time.process_time() - between)
    return ours, others


def _ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [other / own for own, other in zip(ours, others, strict=True) if own > 0]


def _seed_seconds(
    definitions: Sequence[RuleDefinition],
    events: Sequence[EventTerms],
    rows: Sequence[dict[str, Any]],
) -> float:
    """Return what a tick costs the seed's way: its last ticks and a window, asked for each."""
    with tempfile.NamedTemporaryFile(suffix=".sqlite3") as file:
        ticks = Ticks(sqlite3.connect(file.name), events, rows)
        some = rows[:: max(1, len(rows) // SEED_TICKS)][:SEED_TICKS]
        rowwise = Rowwise(definitions, events)
        begun = time.process_time()
        for row in some:
            for code in rowwise.codes:
                ticks.seen_by(row)
                rowwise.call(code, row, latest=ticks.latest)
        spent = time.process_time() - begun
        ticks.close()
    return spent / max(len(some), 1)


# --- memory ---------------------------------------------------------------------------------


def _memory() -> tuple[float, float]:
    """Return the resident memory that a pass needs over a span and over ten times it, in MB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        short, long = Path(folder) / "short.jsonl", Path(folder) / "long.jsonl"
        _write(short, MEMORY_TICKS)
        _write(long, MEMORY_TICKS * 10)
        context = get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            return pool.submit(resident, short).result(), pool.submit(resident, long).result()


def _write(path: Path, count: int) -> None:
    with RecordingWriter(path, header={}, part_bytes=2**62) as writer:
        for number, frame in enumerate(_endless(7)):
            if number == count:
                return
            writer.write(frame)


def resident(path: Path) -> float:
    """Return how much memory grew in a process that runs one recording."""
    past = past_of_recording(path)
    part, _ = our_part(shipped())
    before = _resident_mb()
    for frame in past.frames():
        part.take(frame)
    gc.collect()
    return _resident_mb() - before
