"""What processes use while they run: resident memory, open files, CPU, every so many seconds.

A part is a process with all that it has started (a worker's children). Of PostgreSQL the
proportional memory is added up, because its processes share most of theirs.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Final

PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
TICKS: Final = os.sysconf("SC_CLK_TCK")
SHARING: Final = ("database",)
# Growth after warm-up that is still called flat: of an hour, and of a part that has some 200 MB.
MOST_GROWTH: Final = 0.05
MOST_GROWTH_MB: Final = 8.0
MOST_FDS: Final = 3.0  # or as many percent as of memory: PostgreSQL has well over a thousand


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a part; `at` in seconds since the start, `cpu_seconds` since its own."""

    at: float
    part: str
    pid: int
    processes: int
    rss_mb: float
    fds: int
    threads: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Judged:
    """How a part stood after its warm-up. Growth is by a straight line through all samples."""

    part: str
    samples: int
    pids: tuple[int, ...]
    rss_first_mb: float
    rss_last_mb: float
    rss_most_mb: float
    growth_mb: float
    growth_mb_per_hour: float
    fds_first: float
    fds_last: float
    fds_most: int
    threads_most: int
    cpu_percent: float

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what is not flat."""
        most = max(MOST_GROWTH_MB, MOST_GROWTH * self.rss_first_mb)
        found = []
        if len(self.pids) != 1:
            found.append(f"{self.part}: it was another process at times, {self.pids}")
        if self.growth_mb > most:
            found.append(f"{self.part}: {self.growth_mb:.1f} MB more, {most:.1f} are called flat")
        if self.fds_last > self.fds_first + max(MOST_FDS, MOST_GROWTH * self.fds_first):
            found.append(f"{self.part}: {self.fds_first} open files became {self.fds_last}")
        return tuple(found)


def look(part: str, pid: int, *, at: float) -> Sample:
    """Look at a part; of one that is gone nothing is there: 0 processes."""
    pids = tree(pid)
    each = _shared_mb if part in SHARING else _rss_mb
    return Sample(
        at=round(at, 1),
        part=part,
        pid=pid,
        processes=len(pids),
        rss_mb=round(sum(map(each, pids)), 1),
        fds=sum(map(_fds, pids)),
        threads=sum(map(_threads, pids)),
        cpu_seconds=round(sum(map(_cpu_seconds, pids)), 2),
    )


def tree(pid: int) -> list[int]:
    """Return a process and all that come from it."""
    if not Path(f"/proc/{pid}/stat").exists():
        return []
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
    return 0.0


def _shared_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _fds(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _threads(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def _cpu_seconds(pid: int) -> float:
    """Return user and system time, that of children which have ended included."""
    with contextlib.suppress(OSError):
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, told[11:15])) / TICKS
    return 0.0


class SampleFile:
    """A CSV that samples are appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("w", newline="") as file:
            csv.writer(file).writerow([field.name for field in fields(Sample)])

    def add(self, samples: Iterable[Sample]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(asdict(sample).values() for sample in samples)


def judged(samples: Sequence[Sample], *, warm_seconds: float) -> list[Judged]:
    """Return how each part stood after the warm-up, in the order in which they came."""
    by_part: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.at >= warm_seconds:
            by_part[sample.part].append(sample)
    return [_judged(part, told) for part, told in by_part.items() if len(told) > 1]


def _judged(part: str, told: list[Sample]) -> Judged:
    fifth = max(1, len(told) // 5)
    span = told[-1].at - told[0].at
    slope = slope_of([s.at for s in told], [s.rss_mb for s in told])
    first, last = told[:fifth], told[-fifth:]
    return Judged(
        part=part,
        samples=len(told),
        pids=tuple(sorted({s.pid for s in told if s.processes} | _gone(told))),
        rss_first_mb=round(median(s.rss_mb for s in first), 1),
        rss_last_mb=round(median(s.rss_mb for s in last), 1),
        rss_most_mb=max(s.rss_mb for s in told),
        growth_mb=round(slope * span, 1),
        growth_mb_per_hour=round(slope * 3600, 1),
        fds_first=median(s.fds for s in first),
        fds_last=median(s.fds for s in last),
        fds_most=max(s.fds for s in told),
        threads_most=max(s.threads for s in told),
        cpu_percent=round(100 * (told[-1].cpu_seconds - told[0].cpu_seconds) / span, 1),
    )


def _gone(told: Iterable[Sample]) -> set[int]:
    """Return 0 for a part that was not there at times."""
    return {0} if any(not sample.processes for sample in told) else set()


def slope_of(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the straight line that fits best (least squares)."""
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return over / sum((x - x_mean) ** 2 for x in xs)


def table(rows: Iterable[Judged]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]
