"""`bench scan`: every watch looked at anew, books to findings, beside the textbook's way."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from mpx_site.benchmarks.stream import loaded
from mpx_site.benchmarks.textbook import Textbook
from mpx_site.benchmarks.traffic import START_MS, traffic

PASSES = 15
AT = START_MS * 1_000_000


def run(*, markets: int) -> dict[str, object]:
    """Return the result object of `bench scan`: medians over passes, designs in turn."""
    made = traffic(books=markets, messages=0)
    pipeline = loaded(made)
    textbook = Textbook(made.events)
    for body in made.snapshots:
        textbook.feed(body)
    gc.collect()
    gc.freeze()
    own: list[float] = []
    other: list[float] = []
    for _ in range(PASSES):
        own.append(_seconds(lambda: pipeline.engine.scan(at=AT)))
        other.append(_seconds(lambda: textbook.scan(made.events)))
    found = sum(len(seen.findings) for seen in pipeline.engine.scan(at=AT))
    per_10k = 10_000 / markets * 1_000
    return {
        "bench": "scan",
        "ratios": {"vs_textbook": round(statistics.median(other) / statistics.median(own), 2)},
        "figures": {
            "ms_per_10k_markets": round(statistics.median(own) * per_10k, 2),
            "textbook_ms_per_10k_markets": round(statistics.median(other) * per_10k, 2),
            "markets": markets,
            "findings": found,
        },
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
