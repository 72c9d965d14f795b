"""`bench backtest`: ticks a second with all rules, beside the same rules row by row.

Ways over the same ticks, in one run, by CPU time:

- ours: the parts of a backtest over frames as text, orders and latency curve included;
- rows: a loop over row dicts in memory, levels as text that is read once, each rule called
  for each (`ready`: with all levels in numbers beforehand, at no cost);
- the seed's: a loop over the same ticks in a database, with its two queries a tick.

The ticks are the traffic of `bench stream`: a third of the markets in events of 3 to 55
outcomes, activity by a power law. A ratio is the median over chunks that take turns. That
the first two find the same is checked, not assumed: a hit is a rule, a kind of finding and
what it is about.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import django

from execution.backtest.grid import variants_of
from execution.backtest.passing import Part, lanes_of
from execution.backtest.terms import FillTerms
from markets.book import PRICE_TEXT, Book
from markets.books import Books
from markets.frames import Frame
from markets.listing import EventTerms
from markets.past import past_of_recording
from markets.problems import Problems
from markets.recording import RecordingWriter
from markets.simulator.world import World, frames
from mpx_site.benchmarks.rowwise import Rowwise, Ticks, read
from mpx_site.benchmarks.stream import resident_mb
from mpx_site.benchmarks.traffic import START_MS, traffic
from rules.dsl import RuleDefinition, read_dir
from rules.load import SHIPPED

START = START_MS * 1_000_000
FRAME_NS = 1_000_000  # between two frames: 1,000 a second over so many books is a busy venue
BOOKS = 2_000
LIQUIDITY = Decimal(10_000)  # USD of each market, as its listing would say
CHUNKS = 10
SEED_TICKS = 300  # the seed's way is slow: so many are enough to know how slow
SECOND = 1_000_000_000
EVENTS = 40  # of the simulated venue, for the memory
MEMORY_TICKS = 15_000  # at 1x; ten times as many at 10x


def run(*, ticks: int) -> dict[str, object]:
    """Return the result object of `bench backtest` (DESIGN section 5)."""
    definitions = shipped()
    events, snapshots, feed = made(ticks)
    rows = list(rows_of(events, (*snapshots, *feed)))
    designs, told = _designs(definitions, events, snapshots, rows)
    gc.collect()
    gc.freeze()
    ours_s, rows_s, ready_s = _in_turns(designs, feed, rows)
    designs.ours.finish()
    seed_s = _seed_seconds(definitions, events, rows)
    one, ten = _memory()
    own, stored = sum(ours_s) / len(feed), [row for row in rows if row["at"] >= feed[0].t]
    return {
        "bench": "backtest",
        "ratios": {
            "vs_rows": _ratio(rows_s, ours_s),
            "vs_ready_rows": _ratio(ready_s, ours_s),
            "vs_seed": round(seed_s / own, 1),
        },
        "figures": {
            "ticks_per_s": round(1 / own),
            "rows_per_s": round(len(stored) / sum(rows_s)),
            "ready_rows_per_s": round(len(stored) / sum(ready_s)),
            "seed_ticks_per_s": round(1 / seed_s),
            "ticks": len(feed),
            "rules": len(definitions),
            "hits": len(told),
            "hits_only_rows": len(designs.rows.hits - told),
            "hits_only_ours": len(told - designs.rows.hits),
            "rss_mb_1x": round(one, 1),
            "rss_mb_10x": round(ten, 1),
        },
    }


@dataclass(frozen=True, slots=True)
class Designs:
    """What takes turns, each with every book loaded."""

    ours: Part
    rows: Rowwise
    ready: Rowwise


def _designs(
    definitions: Sequence[RuleDefinition],
    events: Sequence[EventTerms],
    snapshots: Sequence[Frame],
    rows: Sequence[dict[str, Any]],
) -> tuple[Designs, set[tuple[str, str, str]]]:
    part, told = our_part(definitions)
    part.take_events(Frame(START, "gamma", b""), events)
    for frame in snapshots:
        part.take(frame)
    rowwise = Rowwise(definitions, events), Rowwise(definitions, events, ready=True)
    for row in rows:
        if row["at"] <= snapshots[-1].t:
            for each in rowwise:
                each.take(row)
    return Designs(part, *rowwise), told


def shipped() -> list[RuleDefinition]:
    files, _ = read_dir(SHIPPED)
    return [file.definition for file in files]


def made(ticks: int) -> tuple[tuple[EventTerms, ...], list[Frame], list[Frame]]:
    """Return events, the frames that tell of their books first, and so many ticks."""
    traffic_ = traffic(books=BOOKS, messages=ticks)
    bodies = (*traffic_.snapshots, *traffic_.messages)
    feed = [Frame(START + n * FRAME_NS, "ws", body, 1) for n, body in enumerate(bodies)]
    first = len(traffic_.snapshots)
    return tuple(map(_liquid, traffic_.events)), feed[:first], feed[first:]


def _liquid(event: EventTerms) -> EventTerms:
    """Return an event that is in the scope of every rule."""
    markets = tuple(replace(each, liquidity=LIQUIDITY) for each in event.markets)
    return replace(event, markets=markets)


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
            yield {
                "at": frame.t,
                "market": book.market_id,
                "problem": "" if book.evaluable else book.state,
                "bid": book.bid,
                "ask": book.ask,
                "bids": _texts(book.bids, dearest_first=True),
                "asks": _texts(book.asks, dearest_first=False),
                "ladders": (book.asks_of(0), book.asks_of(1)),
            }


def _texts(levels: dict[int, str], *, dearest_first: bool) -> list[tuple[str, str]]:
    """Return one side as it is stored, best price first."""
    return [(PRICE_TEXT[p], levels[p]) for p in sorted(levels, reverse=dearest_first)]


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
    designs: Designs, feed: Sequence[Frame], rows: Sequence[dict[str, Any]]
) -> tuple[list[float], list[float], list[float]]:
    """Let each do a tenth of the time in turn; return their CPU seconds."""
    spent: tuple[list[float], list[float], list[float]] = ([], [], [])
    edges = [feed[len(feed) * n // CHUNKS].t for n in range(CHUNKS)] + [2**63]
    for begin, end in pairwise(edges):
        some = [frame for frame in feed if begin <= frame.t < end]
        stored = [row for row in rows if begin <= row["at"] < end]
        spent[0].append(_seconds(designs.ours.take, some))
        spent[1].append(_seconds(designs.rows.take, stored))
        spent[2].append(_seconds(designs.ready.take, stored))
    return spent


def _seconds(take: Callable[[Any], None], items: Iterable[Any]) -> float:
    begun = time.process_time()
    for item in items:
        take(item)
    return time.process_time() - begun


def _ratio(others: Sequence[float], ours: Sequence[float]) -> float:
    return round(statistics.median(b / a for a, b in zip(ours, others, strict=True) if a > 0), 2)


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
                rowwise.call(code, read(row), latest=ticks.latest)
        spent = time.process_time() - begun
        ticks.close()
    return spent / max(len(some), 1)


# --- memory ---------------------------------------------------------------------------------


def _memory() -> tuple[float, float]:
    """Return the resident memory of a process after a span and after ten times it, in MB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        short, long = Path(folder) / "short.jsonl", Path(folder) / "long.jsonl"
        _write(short, MEMORY_TICKS)
        _write(long, MEMORY_TICKS * 10)
        context = get_context("spawn")
        pools = ProcessPoolExecutor(
            1, mp_context=context, initializer=django.setup, max_tasks_per_child=1
        )
        with pools as pool:
            return pool.submit(resident, short).result(), pool.submit(resident, long).result()


def _write(path: Path, count: int) -> None:
    """Write so many frames of the simulated venue."""
    world = World(seed=7, events=EVENTS, start=START)
    endless = frames(world, until=START + 86_400 * SECOND)
    with RecordingWriter(path, header={}, part_bytes=2**62) as writer:
        for frame in islice(endless, count):
            writer.write(frame)


def resident(path: Path) -> float:
    """Return how much memory a process takes at the end of one recording, all of it."""
    part, _ = our_part(shipped())
    for frame in past_of_recording(path).frames():
        part.take(frame)
    part.finish()
    gc.collect()
    return resident_mb()
