"""History in formats of others, and one's own CSV, into the columnar store.

`FORMATS` is the table of what can be read: `docs/history.md` describes each by its columns.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from markets.frames import Frame
from markets.past.columns import Price
from markets.past.imports import documents, tables
from markets.past.imports.reading import Loaded, text_of
from markets.past.listed import ListedEvent
from markets.past.recorded import sha256_of
from markets.past.store import Source, Written, write_tops
from markets.past.tops import Top, never_tradable
from markets.past.value import Gap, NotAPast

HEAD = 4_096  # characters looked at to find out what a file is
LISTED = frozenset({"question", "conditionId", "condition_id", "markets", "data", "bids"})
LABELS = frozenset({"slug", "y"})
NS = 1_000_000_000
LEAST_SILENCE = 60 * NS


@dataclass(frozen=True, slots=True)
class Format:
    """One format: its columns (of a CSV) or keys (of a JSON object), and who loads it."""

    name: str
    told: str
    needs: frozenset[str]
    load: tables.Load


def _format(name: str, told: str, needs: str, load: tables.Load) -> Format:
    return Format(name, told, frozenset(needs.split()), load)


FORMATS = (
    _format("quotes", "your own quotes with sizes", "ts market_id bid bid_size ask ask_size",
            tables.quotes),
    _format("bare-quotes", "quotes without sizes", "ts slug bid ask", tables.bare_quotes),
    _format("snapshots", "snapshots of prices with quotes",
            "market_id yes_price snapshot_time best_bid best_ask", tables.snapshots),
    _format("price-rows", "prices of both outcomes", "timestamp market_id yes_price no_price",
            tables.price_rows),
    _format("both-sides", "quotes of both outcomes, recorded apart",
            "timestamp_ms market_ts side bid ask", tables.both_sides),
    _format("price-changes", "entries of price_change messages",
            "ts_ms token type side price size best_bid best_ask", tables.price_changes),
    _format("trades", "fills of the data API",
            "timestamp type conditionId outcomeIndex price title eventSlug", tables.trades),
    _format("price-history", "price histories of events", "events event_count",
            documents.price_history),
    _format("top-dump", "dump of a top-of-book cache", "snapshotAt topOfBookByAssetId",
            documents.top_dump),
)  # fmt: skip


def format_of(path: Path) -> Format:
    """Find out what a file is by its columns or keys; raise `NotAPast` if nobody knows it."""
    found = columns_of(path)
    fitting = [each for each in FORMATS if each.needs <= found]
    if not fitting and found & LISTED:
        raise NotAPast("lists markets at one moment and is no history: `scan` reads it", str(path))
    if not fitting:
        shown = ", ".join(sorted(found)[:12]) or "nothing"
        raise NotAPast(f"is in no format that can be imported; its columns are {shown}", str(path))
    return max(fitting, key=lambda each: len(each.needs))


def named(name: str) -> Format:
    found = next((each for each in FORMATS if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in FORMATS)
        raise NotAPast(f"there is no format {name}; there are {known}", "--format")
    return found


def columns_of(path: Path) -> frozenset[str]:
    """Return the columns of a CSV's first line, or the keys of a JSON object."""
    with text_of(path) as file:
        head = file.read(HEAD)
    if head.lstrip().startswith(("{", "[")):
        return frozenset(_keys(path))
    first = next(csv.reader(head.splitlines()), [])
    return frozenset(name.strip() for name in first)


def _keys(path: Path) -> Iterable[str]:
    """Return the keys of a JSON object, or of the first one of a list or of JSON lines."""
    with text_of(path) as file:
        line = file.readline()
    try:
        told: Any = json.loads(line)
    except ValueError:
        told = documents.document(path)
    first = told[0] if isinstance(told, list) and told else told
    return first.keys() if isinstance(first, dict) else ()


def load(paths: Sequence[Path], *, name: str | None = None) -> Iterator[Loaded]:
    """Load files one after the other; files of labels tell the results of all others.

    Raises `NotAPast` for a file that nobody can read, or that is broken as a whole.
    """
    paid = {}
    data = []
    for path in paths:
        if name is None and columns_of(path) >= LABELS:
            paid.update(documents.labels(path))
        else:
            data.append(path)
    for path in data:
        chosen = named(name) if name else format_of(path)
        if missing := chosen.needs - columns_of(path):
            raise NotAPast(f"lacks {', '.join(sorted(missing))} of {chosen.name}", str(path))
        loaded = chosen.load(path)
        yield documents.with_results(loaded, paid) if paid else loaded


# --- into the store -----------------------------------------------------------------------


def gaps_in(rows: Sequence[Top | Price]) -> tuple[Gap, ...]:
    """Return where rows in the order of their time are missing.

    That is when none of any market came for three times as long as one market usually
    waits for its next.
    """
    last: dict[str, int] = {}
    steps = []
    for row in rows:
        before = last.get(row.market_id, row.t)
        last[row.market_id] = row.t
        if row.t > before:
            steps.append(row.t - before)
    usual = max(int(3 * median(steps)), LEAST_SILENCE) if steps else 0
    return tuple(
        Gap(before.t + usual, after.t, f"no row for {(after.t - before.t) // NS} s")
        for before, after in pairwise(rows)
        if usual and after.t - before.t > usual
    )


def write(parts: Sequence[Loaded], folder: Path) -> list[Written]:
    """Write files of one format as days of a columnar store."""
    whole = tables.joined(parts)
    paths = [part.path for part in parts]
    if not whole.rows:
        raise NotAPast("holds no row that can be used", str(paths[0]))
    gaps = gaps_in(whole.rows)
    notes = f" ({'; '.join(whole.notes)})" if whole.notes else ""
    names = ", ".join(path.name for path in paths)
    source = Source(f"{names}, {whole.format}{notes}", sha256_of(paths), lambda: gaps)
    pages = [_page(t, event, whole) for t, event in whole.pages]
    return [*write_tops(folder, pages, whole.rows, kind=whole.kind, source=source)]


def _page(t: int, event: ListedEvent, loaded: Loaded) -> Frame:
    return (never_tradable(event) if loaded.kind == "prices" else event).frame(t)


def report(loaded: Loaded) -> dict[str, Any]:
    """Return what came of one file, for people and programs."""
    rows, gaps = loaded.rows, gaps_in(loaded.rows)
    span = rows[-1].t - rows[0].t if rows else 0
    return {
        "file": str(loaded.path),
        "format": loaded.format,
        "kind": loaded.kind,
        "read": loaded.read,
        "taken": len(rows),
        "refused": dict(loaded.refused.most_common()),
        "refused_rows": [
            {"path": each.path, "line": each.line, "column": each.column, "why": each.why}
            for each in loaded.samples
        ],
        "markets": len({row.market_id for row in rows}),
        "since": rows[0].t if rows else None,
        "until": rows[-1].t if rows else None,
        "covered_ns": span - sum(gap.until - gap.since for gap in gaps),
        "gaps": [{"since": gap.since, "until": gap.until, "why": gap.why} for gap in gaps],
        "notes": loaded.notes,
    }
