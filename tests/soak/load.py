"""The live path under load: can one process follow 1,000 tokens at 5,000 messages a second?

    python -m tests.soak.load --rate 5000 --seconds 60 --out figures.json

A mock venue runs as a process of its own. This process is the live path as `stream`
runs it: catalogue, watch list, connections, pipeline and the writer, on SQLite in a
folder that is gone afterwards. What it measures costs about 2 us a frame.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

from tests.venue import VenueClient, venue_process

STAMP = re.compile(rb'"timestamp":"(\d{13})"')
SAMPLE = 10  # of every so many frames the venue's own time is read
READY_SECONDS = 120.0
WARM_SECONDS = 5.0
PAGE = os.sysconf("SC_PAGE_SIZE")
DRAIN_SECONDS = 30.0


@dataclass
class Second:
    """How it stood at one moment of the run; counts since its start."""

    at: float
    sent: int
    received: int
    venue_queued_bytes: int
    venue_behind_ms: int
    batches_waiting: int
    cpu_seconds: float
    queued_seconds: float  # that the live thread was ready to run and others had the CPU
    rss_mb: float
    lag_ms: list[float] = field(default_factory=list)  # of the frames since the second before

    @property
    def backlog(self) -> int:
        """Return how many frames are under way; below 0, some came while the venue answered."""
        return self.sent - self.received


class Probe:
    """Times what the live path does, from inside."""

    def __init__(self) -> None:
        self.all_us = array("d")  # small, for memory is measured too
        self.changed_us: list[float] = []
        self.work_us = array("d")
        self.committed_ms: list[float] = []
        self.lag_ms: list[float] = []

    def clear(self) -> None:
        for kept in vars(self).values():
            del kept[:]

    def take_lags(self) -> list[float]:
        lags, self.lag_ms = self.lag_ms, []
        return lags

    def watch_feed(self, feed: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap `Pipeline.feed`: from a frame's receive time to what was found in it."""
        numbers = iter(range(10**12))

        def timed(frame: Any) -> Any:
            begun = time.time_ns()
            step = feed(frame)
            now = time.time_ns()
            if frame.ch == "ws" and frame.req is None:
                self.all_us.append((now - frame.t) / 1e3)
                self.work_us.append((now - begun) / 1e3)
                if step.changes:
                    self.changed_us.append((now - frame.t) / 1e3)
                if next(numbers) % SAMPLE == 0 and (found := STAMP.search(frame.body)):
                    self.lag_ms.append(frame.t / 1e6 - int(found[1]))
            return step

        return timed

    def watch_save(self, save: Callable[..., None]) -> Callable[..., None]:
        """Wrap `store.save`: from the frame that opened a signal to its committed row."""

        def timed(told: Iterable[Any], *said: Any) -> None:
            changes = list(told)
            save(changes, *said)
            now = time.time_ns()
            self.committed_ms += [(now - c.at) / 1e6 for c in changes if c.change == "opened"]

        return timed


def quantiles(values: Iterable[float]) -> dict[str, float | int]:
    """Return count, p50, p99 and the largest; only the count where there is nothing."""
    ranked = sorted(values)
    if not ranked:
        return {"count": 0}
    last = len(ranked) - 1
    return {
        "count": len(ranked),
        "p50": round(ranked[round(last * 0.5)], 3),
        "p99": round(ranked[round(last * 0.99)], 3),
        "max": round(ranked[-1], 3),
    }


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def queued_seconds(thread_id: int) -> float:
    """Return how long a thread of ours has waited for a CPU that others had."""
    told = Path(f"/proc/self/task/{thread_id}/schedstat").read_text().split()
    return int(told[1]) / 1e9


def set_up(venue: VenueClient, home: str, tokens: int) -> None:
    """Make a desk of our own that follows the venue, its catalogue read."""
    os.environ |= {
        **venue.environment,
        "DJANGO_SETTINGS_MODULE": "mpx_site.settings",
        "MPX_HOME": home,
        "DATABASE_URL": "",
        "POSTGRES_HOST": "",
        "REDIS_URL": "",
        "DATA_SOURCE": "real",
        "WATCH_TOKENS": str(tokens),
    }
    django.setup()
    call_command("migrate", verbosity=0)
    from django.utils import timezone

    from rules.load import publish_missing

    publish_missing(at=timezone.now())
    call_command("catalogue", "sync", stdout=sys.stderr)


def start_live(profile: Path | None) -> Any:
    """Start the live path in a thread; with a profile of it, written when it ends."""
    from signals.running import LiveThread

    class Profiled(LiveThread):
        def run(self) -> None:
            profiler = cProfile.Profile()
            profiler.runcall(super().run)
            profiler.dump_stats(str(profile))

    thread = Profiled("real") if profile else LiveThread("real")
    thread.start()
    return thread


def until(what: str, look: Callable[[], bool], *, seconds: float, thread: threading.Thread) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        if not thread.is_alive() or time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.25)


class Run:
    """A live path beside its venue. `moments` has one entry a second."""

    def __init__(self, venue: VenueClient, thread: Any, probe: Probe) -> None:
        self.venue, self.thread, self.probe = venue, thread, probe
        self.moments: list[Second] = []
        self._zero = (0, 0)

    @property
    def shards(self) -> list[Any]:
        ingest = self.thread.live._source.ingest if self.thread.live._source else None
        return ingest.shards if ingest else []

    @property
    def books(self) -> list[Any]:
        by_token = self.thread.live.pipeline.books.by_token
        followed = [token for shard in self.shards for token in shard.assets]
        return list({id(b): b for token in followed if (b := by_token.get(token))}.values())

    def settled(self) -> bool:
        """Say whether nearly all that is followed is known; a few always wait for the venue."""
        books = self.books
        return len(books) > 10 and sum(not b.state_note for b in books) > 0.97 * len(books)

    def received(self) -> int:
        return sum(shard.counts["frames"] for shard in self.shards)

    def look(self, begun: float) -> Second:
        stats = self.venue.stats()
        return Second(
            at=round(time.monotonic() - begun, 2),
            sent=stats["delivered"] - self._zero[0],
            received=self.received() - self._zero[1],
            venue_queued_bytes=sum(each["queued"] for each in stats["sockets"]),
            venue_behind_ms=stats["behind_ms"],
            batches_waiting=self.thread._writer._queue.qsize(),
            cpu_seconds=time.process_time(),
            queued_seconds=queued_seconds(self.thread.native_id),
            rss_mb=round(rss_mb(), 1),
            lag_ms=self.probe.take_lags(),
        )

    def measure(self, seconds: float) -> None:
        """Look once a second for so long; what came before does not count."""
        self.probe.clear()
        first = self.look(time.monotonic())
        self._zero = (first.sent, first.received)
        begun = time.monotonic()
        while not self.moments or self.moments[-1].at < seconds:
            self.moments.append(self.look(begun))
            time.sleep(max(0.0, len(self.moments) - (time.monotonic() - begun)))

    def figures(self) -> dict[str, Any]:
        first, last = self.moments[0], self.moments[-1]
        span = last.at - first.at
        fifth = max(1, len(self.moments) // 5)
        probe = self.probe
        return {
            "tokens": sum(len(shard.assets) for shard in self.shards),
            "connections": len(self.shards),
            "seconds": round(span, 1),
            "sent_per_s": round((last.sent - first.sent) / span),
            "received_per_s": round((last.received - first.received) / span),
            "cpu_share_percent": round(100 * (last.cpu_seconds - first.cpu_seconds) / span, 1),
            "waits_for_cpu_percent": round(
                100 * (last.queued_seconds - first.queued_seconds) / span, 1
            ),
            "backlog_frames": spread(self.moments, fifth, lambda each: each.backlog),
            "venue_queued_bytes": spread(self.moments, fifth, lambda each: each.venue_queued_bytes),
            "venue_behind_ms": spread(self.moments, fifth, lambda each: each.venue_behind_ms),
            "batches_waiting": spread(self.moments, fifth, lambda each: each.batches_waiting),
            "lag_ms_start": quantiles(lag for m in self.moments[1 : fifth + 1] for lag in m.lag_ms),
            "lag_ms_end": quantiles(lag for m in self.moments[-fifth:] for lag in m.lag_ms),
            "frame_to_finding_us": quantiles(probe.changed_us),
            "frame_to_done_us": quantiles(probe.all_us),
            "feed_us": quantiles(probe.work_us),
            "frame_to_row_ms": quantiles(probe.committed_ms),
            "rss_mb": [first.rss_mb, last.rss_mb],
            "load_average": [round(each, 2) for each in os.getloadavg()],
            "closings": {k: n for s in self.shards for k, n in s.counts.items() if ":" in k},
            "vital_signs": self.thread.live.vital_signs() | {"shards": len(self.shards)},
        }


def spread(moments: list[Second], fifth: int, value: Callable[[Second], float]) -> dict[str, float]:
    """Return the means of the first and last fifth of the run, and the largest of all."""
    values = [value(each) for each in moments]
    return {
        "start": round(sum(values[:fifth]) / fifth, 1),
        "end": round(sum(values[-fifth:]) / fifth, 1),
        "max": max(values),
    }


def run(venue: VenueClient, options: argparse.Namespace) -> dict[str, Any]:
    from signals import store

    probe = Probe()
    vars(store)["save"] = probe.watch_save(store.save)
    thread = start_live(options.profile)
    try:
        until("the start", lambda: thread.live is not None, seconds=30, thread=thread)
        pipeline = thread.live.pipeline
        pipeline.feed = probe.watch_feed(pipeline.feed)
        running = Run(venue, thread, probe)
        until("the books", running.settled, seconds=READY_SECONDS, thread=thread)
        time.sleep(WARM_SECONDS)
        running.measure(options.seconds)
        found = running.figures()
        if options.moments:
            found["moments"] = [
                asdict(each) | {"lag_ms": quantiles(each.lag_ms)} for each in running.moments
            ]
        return found
    finally:
        thread.stop()
        thread.join(DRAIN_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rate", type=float, default=5_000, help="messages a second of all the venue's events"
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--events", type=int, default=114, help="of the venue; some 500 markets")
    parser.add_argument("--tokens", type=int, default=1_000, help="to follow")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the live thread")
    parser.add_argument("--moments", action="store_true", help="print every second too")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    arguments = ("--events", str(options.events), "--rate", str(options.rate))
    with tempfile.TemporaryDirectory() as home, venue_process(*arguments) as venue:
        set_up(venue, home, options.tokens)
        text = json.dumps(run(venue, options), indent=1)
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
