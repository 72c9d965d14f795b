"""What processes count while they work: counters and histograms for Prometheus.

On a desk of several processes each keeps its numbers in files of one folder, which
`/metrics` adds up; what a process that died has counted stays counted.
"""

from __future__ import annotations

import os
import re
import socket
from glob import glob
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

MULTIPROC: Final = "PROMETHEUS_MULTIPROC_DIR"  # set: the counters of all processes on this host

# A second series per counter that nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


def identity() -> str:
    """Name this process among all that share the folder, containers with a pid 1 each included."""
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", ".", socket.gethostname())


def shared_folder() -> Path | None:
    """Return the folder of all processes' numbers; None where there is only this one."""
    folder = os.environ.get(MULTIPROC)
    return Path(folder) if folder else None


if (_folder := shared_folder()) is not None:
    _folder.mkdir(parents=True, exist_ok=True)
    values.ValueClass = values.MultiProcessValue(process_identifier=identity)  # type: ignore[no-untyped-call]


def forget_the_dead() -> None:
    """Remove what processes of this host that are no more had at the moment they ended.

    A live gauge, such as the number of clients, ends with its process, however it ended.
    """
    folder = shared_folder()
    if folder is None:
        return
    for file in glob(f"{folder}/gauge_live*_{_host()}-*.db"):
        pid = Path(file).stem.rpartition("-")[2]
        if pid.isdigit() and not _lives(int(pid)):
            Path(file).unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


REGISTRY = CollectorRegistry()

INGEST_LATENCY_MS = Histogram(
    "mpx_ingest_latency_ms",
    "From a frame's receipt to its findings; one frame in 32.",
    ("source",),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2000),
    registry=REGISTRY,
)
REQUESTS = Counter("mpx_requests_total", "HTTP requests begun.", registry=REGISTRY)
FEED_CLIENTS = Gauge(
    "mpx_ws_clients",
    "Clients of the live feed.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
FEED_DROPPED = Counter(
    "mpx_ws_dropped_total", "Clients closed by the live feed.", ("class",), registry=REGISTRY
)
FEED_COALESCED = Counter(
    "mpx_ws_coalesced_total", "Values replaced by newer ones before they were sent.",
    registry=REGISTRY,
)  # fmt: skip
TRANSITION_SECONDS = Histogram(
    "mpx_intent_transition_seconds",
    "From an order's suggestion to a status.",
    ("to",),
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900),
    registry=REGISTRY,
)
CHECK_FAILURES = Counter(
    "mpx_check_failures_total", "Checks that refused an order.", ("check",), registry=REGISTRY
)
