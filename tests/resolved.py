"""What really became of near-certain prices, from the shared files.

Mids of `prices-history` and of Polymarket US quotes: good enough to count how often a price
was right, and never a quote that anything could be bought at.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rules.kernel.endgame import DAY, History, Observation, category_of

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
WORDS = {"nhl", "chess", "cricket", "soccer", "fc"}  # of slugs, that make an event sports


def shared(path: str) -> Path:
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"no ../shared/data/{path} here")
    return found


def resolved_events() -> Iterator[Observation]:
    """Every hour or so of 36 events that resolved; the time left is to their listed end."""
    with gzip.open(shared("history/historical_events.json.gz"), "rt") as file:
        events = json.load(file)["events"]
    for event in events:
        end = datetime.fromisoformat(event["end_date"]).timestamp()
        tags = ("sports",) if _is_sport(event["title"], event["slug"]) else ()
        for outcome in event["outcomes"]:
            won = outcome["yes_final_price"] == 1.0
            for point in outcome["history"]:
                yield from _sides(event["id"], category_of(tags), end - point["t"], point["p"], won)


def games() -> Iterator[Observation]:
    """A day of 252 games on Polymarket US; the time left is to the end of the day."""
    with gzip.open(shared("us_quotes/labels_2026-07-12.csv.gz"), "rt") as file:
        won = {row["slug"]: row["y"] == "1" for row in csv.DictReader(file)}
    end = datetime(2026, 7, 13, tzinfo=UTC).timestamp()
    with gzip.open(shared("us_quotes/quotes_2026-07-12_resolved_games.csv.gz"), "rt") as file:
        for row in csv.DictReader(file):
            if row["slug"] not in won or not row["bid"] or not row["ask"]:
                continue
            left = end - datetime.fromisoformat(row["ts"]).timestamp()
            middle = (float(row["bid"]) + float(row["ask"])) / 2
            yield from _sides(row["slug"], "sports", min(left, DAY), middle, won[row["slug"]])


def _is_sport(title: str, slug: str) -> bool:
    words = {*title.lower().split(), *slug.split("-")}
    return " vs. " in title or " vs " in title or bool(words & WORDS)


def _sides(
    event_id: str, category: str, left: float, price: float, won: bool
) -> Iterator[Observation]:
    yes = round(price * 10_000)
    yield Observation(event_id, category, left, yes, won)
    yield Observation(event_id, category, left, 10_000 - yes, not won)


def history_of(observations: Iterable[Observation]) -> History:
    return History.of(observations)
