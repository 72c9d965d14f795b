"""`bench stream`: bytes to findings on one core, beside its yardsticks in the same run."""

from __future__ import annotations

import gc
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import orjson

from markets.frames import Frame
from mpx_site.benchmarks.textbook import Textbook
from mpx_site.benchmarks.traffic import START_MS, Traffic, traffic
from rules.dsl import DutchBookRule
from rules.engine import ActiveRule
from signals.pipeline import Pipeline

CHUNK = 10_000  # long turns: a live process does not start each second with cold caches
MS = 1_000_000
FRAME_NS = 5_000  # between two frames by their receive times: a core that is just kept busy


def run(*, books: int, messages: int) -> dict[str, object]:
    """Return the result object of `bench stream` (DESIGN section 5).

    Each yardstick takes turns with the pipeline, chunk by chunk, on its half of
    the messages; a ratio is the median over chunks of the CPU times, so that the
    machine's noise hits both alike. Only two designs share the caches at a time.
    """
    made = traffic(books=books, messages=messages)
    rss_mb = _measured_memory(made)
    pipeline = loaded(made)
    first, second = _halves(made.messages)
    clock = count(START_MS * MS, FRAME_NS)

    def own(body: bytes) -> None:
        pipeline.feed(Frame(next(clock), "ws", body, 1))

    _settle_memory()
    orjson_s, own_s = _in_turns(orjson.loads, own, first)
    textbook = Textbook(made.events)
    for body in (*made.snapshots, *first):
        textbook.feed(body)
    _settle_memory()
    textbook_s, beside_s = _in_turns(textbook.feed, own, second)
    latencies = _latencies(own, second[-CHUNK:])
    return {
        "bench": "stream",
        "ratios": {
            "vs_orjson": round(_ratio(orjson_s, own_s), 3),
            "vs_textbook": round(_ratio(textbook_s, beside_s), 2),
        },
        "figures": {
            "messages_per_s": round(CHUNK / statistics.median(own_s)),
            "rss_mb": round(rss_mb, 1),
            "p50_us": round(latencies[len(latencies) // 2] / 1_000, 1),
            "p99_us": round(latencies[int(len(latencies) * 0.99)] / 1_000, 1),
            "books": books,
            "messages": len(made.messages),
            "mean_bytes": round(statistics.fmean(map(len, made.messages))),
            "walks": pipeline.engine.looks,
            "changes": pipeline.digest.changes,
            "problems": pipeline.problems.total,
        },
    }


def _halves(messages: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    middle = len(messages) // 2
    return messages[:middle], messages[middle:]


def _settle_memory() -> None:
    """Keep what is loaded out of the garbage collector's sight, as the live process does."""
    gc.collect()
    gc.freeze()


def _pipeline() -> Pipeline:
    rule = DutchBookRule(code="DUTCH_BOOK_DETECT", title="bench", detector="dutch_book")
    return Pipeline((ActiveRule.of(rule),))


def loaded(made: Traffic) -> Pipeline:
    """Return a pipeline that holds every book of the traffic."""
    pipeline = _pipeline()
    for event in made.events:
        pipeline.list_event(event, t=0)
    for number, body in enumerate(made.snapshots):
        pipeline.feed(Frame(number, "ws", body, 1))
    return pipeline


def memory_mb(path: Path) -> float:
    """Return what holding every book takes, in a process that does nothing else."""
    pipeline = _pipeline()
    before = resident_mb()
    with path.open("rb") as file:
        for event in pickle.load(file):  # noqa: S301 - our own file of a moment ago  # nosec B301
            pipeline.list_event(event, t=0)
        for number, body in enumerate(file):
            pipeline.feed(Frame(number, "ws", body, 1))
    gc.collect()
    return resident_mb() - before


def _measured_memory(made: Traffic) -> float:
    with tempfile.NamedTemporaryFile() as file:
        pickle.dump(made.events, file)
        file.writelines(body + b"\n" for body in made.snapshots)
        file.flush()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(memory_mb, Path(file.name)).result()


Design = Callable[[bytes], object]


def _in_turns(
    yardstick: Design, own: Design, messages: tuple[bytes, ...]
) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of both designs per chunk."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for start in range(0, len(messages) - CHUNK + 1, CHUNK):
        chunk = messages[start : start + CHUNK]
        for design, spent in zip((yardstick, own), seconds, strict=True):
            begun = time.process_time()
            for body in chunk:
                design(body)
            spent.append(time.process_time() - begun)
    return seconds


def _ratio(yardstick: list[float], own: list[float]) -> float:
    return statistics.median(y / o for y, o in zip(yardstick, own, strict=True))


def _latencies(design: Design, messages: tuple[bytes, ...]) -> list[int]:
    spent = []
    for body in messages:
        begun = time.perf_counter_ns()
        design(body)
        spent.append(time.perf_counter_ns() - begun)
    return sorted(spent)


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the system does not tell the resident memory")
