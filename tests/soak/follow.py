"""The live path against the mock venue with every fault in turn, as a table.

    python -m tests.soak.follow --events 230 --rate 400 --out table.json

For each fault: it is on for some seconds, then the venue is well again and the
clock runs until every followed book equals the venue's own. Every signal is
checked when it opens (its books fresh, their hashes proven) and at the end
against the venue's truth log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mpx_site.settings")
django.setup()

from markets.book import PRICE_TEXT, Book  # noqa: E402
from markets.frames import Frame  # noqa: E402
from markets.gaps import HealedGap  # noqa: E402
from markets.ingest import Followed  # noqa: E402
from markets.listing import read_page  # noqa: E402
from markets.polymarket.gamma import Gamma  # noqa: E402
from markets.polymarket.http import VenueError, VenueHttp  # noqa: E402
from markets.simulator.faults import FAULTS  # noqa: E402
from rules.dsl import DutchBookRule  # noqa: E402
from rules.engine import ActiveRule  # noqa: E402
from signals.episodes import SignalChange  # noqa: E402
from signals.live import Live  # noqa: E402
from signals.sources import Clock, Venue  # noqa: E402
from tests.venue import VenueClient, venue_process  # noqa: E402

# Seconds that each fault is on. Silence is noticed after 30 s, a dead asset by the round of 60 s.
SECONDS = {
    "silent_socket": 40,
    "blackhole": 26,
    "dead_asset": 80,
    "refuse_connections": 12,
    "flapping": 20,
    "ghost_book": 65,
    "clock_skew": 20,
}
USUAL = 12
RECOVERY_LIMIT = 60.0


@dataclass
class Row:
    fault: str
    on_seconds: float
    worst_stale: int = 0
    recovery_seconds: float | None = None
    gaps: int = 0
    longest_gap_seconds: float = 0.0
    p1: int = 0
    bad_books: int = 0  # signals opened on a book that was not fresh and proven
    answers: dict[str, int] = field(default_factory=dict)
    closings: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)


class Follower:
    def __init__(self, venue: VenueClient) -> None:
        rule = DutchBookRule(code="DUTCH_BOOK_DETECT", title="soak", detector="dutch_book")
        self.venue = venue
        self.clock = Clock()
        self.live = Live((ActiveRule.of(rule),), clock=self.clock, writer=None, confirm_terms=True)
        self.healed: list[HealedGap] = []
        self._settle_gaps = self.live.gaps.settle
        self.live.gaps.settle = self.settle  # type: ignore[method-assign]
        self.began: dict[str, tuple[int, str, str]] = {}  # at, event id, kind of each P1
        self.ended: dict[str, int] = {}  # when it was P1 no longer
        self.bad_books = 0
        self.fault = ""
        self.source = Venue(
            venue.url, venue.url, venue.ws_url, self.clock, self.live.pipeline.books, self.watched
        )
        feed = self.live.pipeline.feed

        def feed_and_check(frame: Frame) -> Any:
            step = feed(frame)
            for change in step.changes:
                self.judge(change)
            return step

        self.live.pipeline.feed = feed_and_check  # type: ignore[method-assign]

    def judge(self, change: SignalChange) -> None:
        """Note from when to when a signal was P1, and whether its books were sound."""
        if change.key in self.began:
            if change.level != "P1" or change.change == "closed":
                self.ended.setdefault(change.key, change.at)
        elif change.level == "P1" and change.change != "closed":
            kind = f"{change.finding.kind} under {self.fault}"
            self.began[change.key] = (change.at, change.finding.event_id or "", kind)
            self.bad_books += not self.proven(change.finding.market_ids)

    @property
    def books(self) -> list[Book]:
        followed = self.source.ingest._shard_of if self.source.ingest else {}
        return [b for b in self.live.pipeline.books.by_market.values() if b.token0 in followed]

    def proven(self, market_ids: tuple[str, ...]) -> bool:
        books = [
            b for b in self.live.pipeline.books.by_market.values() if b.market_id in market_ids
        ]
        return all(book.state == "fresh" and book.hash_holds() for book in books)

    async def watched(self, now: Sequence[Followed]) -> Sequence[Followed]:
        found = []
        try:
            async with VenueHttp(gamma_url=self.venue.url, clob_url=self.venue.url) as http:
                async for body in Gamma(http).event_pages():
                    for event in read_page(json.loads(body), rejected=[]):
                        pairs = tuple(m.token_ids for m in event.markets if m.untradable is None)
                        if pairs:
                            found.append(Followed(event.event_id, pairs))
        except VenueError:
            return now
        return tuple(found)

    def unequal(self, books: list[Book], theirs: dict[str, Any]) -> list[Book]:
        return [book for book in books if not equal(book, theirs.get(book.token0))]

    def settle(self, *, at: int) -> list[HealedGap]:
        healed = self._settle_gaps(at=at)
        self.healed += healed
        return healed


def equal(book: Book, theirs: dict[str, Any] | None) -> bool:
    """Say whether we hold what the venue holds; a book that is gone there is equal to none here."""
    if theirs is None:
        return bool(book.state_note)
    if book.state_note:
        return False
    ours = (ladder(book.bids), ladder(book.asks))
    return ours == tuple(
        {row["price"]: Decimal(row["size"]) for row in theirs[side]} for side in ("bids", "asks")
    )


def ladder(side: dict[int, str]) -> dict[str, Decimal]:
    return {PRICE_TEXT[price]: Decimal(size) for price, size in side.items()}


async def recovered(follower: Follower, *, limit: float) -> float | None:
    """Return how long it took until every book was equal at least once; None if it never was."""
    begun = time.monotonic()
    left = follower.books
    while time.monotonic() - begun < limit:
        tokens = [book.token0 for book in left]
        left = follower.unequal(left, await asyncio.to_thread(follower.venue.books, *tokens))
        if not left:
            return time.monotonic() - begun
        await asyncio.sleep(0.2)
    print(f"  still unequal: {left[:5]}", file=sys.stderr)
    return None


async def one_fault(follower: Follower, name: str, seconds: float) -> Row:
    row = Row(name, seconds)
    follower.fault = name
    before = (len(follower.began), follower.bad_books, answers(follower), closings(follower))
    follower.live.pipeline.problems.drain()
    target = None
    if name == "refuse_connections":
        await asyncio.to_thread(follower.venue.fault, name, seconds=seconds)
    else:
        await asyncio.to_thread(follower.venue.fault, name, target=target)
    follower.healed.clear()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(0.25)
        row.worst_stale = max(row.worst_stale, sum(b.state_note == "stale" for b in follower.books))
    if name == "refuse_connections":
        await asyncio.sleep(1)
    else:
        await asyncio.to_thread(follower.venue.clear)
    row.recovery_seconds = await recovered(follower, limit=RECOVERY_LIMIT)
    await asyncio.sleep(1)  # the live path settles its gaps every 250 ms
    lengths = [(gap.healed_at - gap.opened_at) / 1e9 for gap in follower.healed]
    row.gaps, row.longest_gap_seconds = len(lengths), max(lengths, default=0.0)
    row.p1 = len(follower.began) - before[0]
    row.bad_books = follower.bad_books - before[1]
    row.answers = dict(answers(follower) - before[2])
    row.closings = dict(closings(follower) - before[3])
    row.problems = {p.reason: p.count for p in follower.live.pipeline.problems.drain()}
    return row


def answers(follower: Follower) -> Counter[str]:
    counts = follower.live.pipeline.books.counts
    return Counter({k: v for k, v in counts.items() if k.startswith("answer:")})


def closings(follower: Follower) -> Counter[str]:
    shards = follower.source.ingest.shards if follower.source.ingest else []
    return sum(
        (Counter({k: v for k, v in s.counts.items() if k.startswith("closed:")}) for s in shards),
        Counter(),
    )


async def soak(venue: VenueClient, faults: list[str]) -> dict[str, Any]:
    follower = Follower(venue)
    stop = asyncio.Event()
    running = asyncio.create_task(follower.live.run(follower.source, stop=stop))
    await asyncio.sleep(8)
    start = await recovered(follower, limit=60)
    print(f"{len(follower.books)} markets, equal after {start} s", file=sys.stderr)
    rows = []
    for name in faults:
        if running.done():
            await running
        row = await one_fault(follower, name, SECONDS.get(name, USUAL))
        rows.append(row)
        print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
    truth = await asyncio.to_thread(venue.truth)
    stop.set()
    await running
    return {
        "markets": len(follower.books),
        "rows": [asdict(row) for row in rows],
        "p1": len(follower.began),
        "phantoms": phantoms(follower, truth),
        "vital_signs": follower.live.vital_signs(),
    }


def phantoms(follower: Follower, truth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the P1 that no window of the truth log explains, and for how long they stood.

    A second of slack is for lags between the venue's clock and ours.
    """
    slack = 1_000_000_000
    real = [t for t in truth if t["family"] in ("planted", "quiet_leg", "jump", "flicker")]
    found = []
    for key, (at, event, kind) in follower.began.items():
        near = [
            t for t in truth if t["event_id"] == event and t["t0"] - slack <= at <= t["t1"] + slack
        ]
        if not any(t in real for t in near):
            stood = (follower.ended.get(key, follower.clock.now()) - at) / 1e9
            decoys = sorted({t["family"] for t in near})
            found.append({"kind": kind, "stood_seconds": round(stood, 3), "decoys": decoys})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=230)
    parser.add_argument("--rate", type=float, default=400)
    parser.add_argument("--faults", default="")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = options.faults.split(",") if options.faults else list(FAULTS)
    with venue_process("--events", str(options.events), "--rate", str(options.rate)) as venue:
        result = asyncio.run(soak(venue, chosen))
    text = json.dumps(result, indent=1)
    if options.out:
        options.out.write_text(text)
    print(json.dumps({k: result[k] for k in ("markets", "p1", "phantoms")}))


if __name__ == "__main__":
    main()
