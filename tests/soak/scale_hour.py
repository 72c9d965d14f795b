"""An hour of a desk in many processes: web, two streams, two workers, beat, PostgreSQL, Redis.

    python -m tests.soak.scale_hour --minutes 60 --rate 1500 --out DIR

The venue is a process of its own behind a real socket, with a pinned seed. 150 messages a second
is what `mock_venue` sends by default, so 1500 is ten times its normal rate. One person orders and
approves by the API what is executable, reads pages, and listens to the feed meanwhile.

Afterwards the program says, and exits with 1 if one of them is not so:

- every process is the one that was started, and each shard stayed where it was;
- after a warm-up (a sixth of the time) resident memory and open files are flat
  (`tests.soak.watched`); a run under 20 minutes is too short to say that of memory;
- no log has an error or a traceback;
- what must always hold does: `invariants`, `audit verify`, each P1 in the outbox, no hole in the
  feed, nothing refused, dropped or not kept;
- the signals are those of one process over the same frames (`tests.soak.one_process`, which says
  what is compared and why).

DIR has `samples.csv` (each process every 10 s), `moments.jsonl` (how far behind venue and streams
were), `result.json`, and the desk's logs and kept frames.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from tests.faults.feed_ear import FeedEar
from tests.faults.topology import Desk, Person
from tests.servers import wait_for
from tests.soak.scale_verdict import (
    against_truth,
    compared,
    complaints,
    figures,
    keep_signals,
    logs,
    what_holds,
)
from tests.soak.watched import Sample, SampleFile, look
from tests.venue import VenueClient, venue_process

PARTS: Final = ("web", "stream", "stream2", "worker", "worker2", "beat")
SHARDS: Final = 2
SAMPLE_SECONDS: Final = 10.0
TRADE_SECONDS: Final = 2.5
SETTLE_SECONDS: Final = 30.0  # after both shards are at work, before signals are compared
PAGES: Final = ("/", "/signals/", "/markets/", "/intents/", "/health/", "/metrics",
                "/api/healthz", "/api/v1/signals")  # fmt: skip


class Trader(Person):
    """Somebody who orders what is executable, and may approve it (a single operator)."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.answers: Counter[str] = Counter()
        self.tried: set[int] = set()

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        token = next((each.value for each in self._jar if each.name == "csrftoken"), "")
        headers = {"Content-Type": "application/json", "X-CSRFToken": token}
        status, text = self.send(path, json.dumps(body).encode(), headers)
        return status, json.loads(text or "{}")

    def trade(self) -> None:
        """Order the newest open P1 that was not tried yet, and approve the order."""
        status, text = self.get("/api/signals?level=P1&limit=20")
        rows = json.loads(text) if status == 200 else []
        open_ids = [row["id"] for row in rows if row["status"] == "OPEN"]
        new = [each for each in open_ids if each not in self.tried]
        self.answers[f"signals {status}"] += 1
        if not new:
            return
        self.tried.add(new[0])
        status, made = self.post("/api/execution/intent", {"signal_id": new[0]})
        self.answers[f"intent {status} {made.get('status', '')}".strip()] += 1
        if status == 200 and made["intent_id"]:
            status, done = self.post(f"/api/execution/confirm/{made['intent_id']}", {})
            self.answers[f"confirm {status} {done.get('status', '')}".strip()] += 1


class Hour:
    """A desk at work, and what is taken down of it."""

    def __init__(self, desk: Desk, venue: VenueClient, venue_pid: int, out: Path) -> None:
        self.desk, self.venue, self.out = desk, venue, out
        self.samples: list[Sample] = []
        self.moments: list[dict[str, Any]] = []
        self.pages: Counter[str] = Counter()
        self._venue_pid = venue_pid
        self._file = SampleFile(out / "samples.csv")
        self._begun = time.monotonic()
        self._person = Trader(desk.port)
        self._reading = cycle(PAGES)

    def work(self, minutes: float) -> None:
        """Let it run for so long; look and read every ten seconds, and trade meanwhile."""
        self._person.login()
        self._begun = time.monotonic()
        with FeedEar(self.desk.port, self._person.cookie) as ear:
            while time.monotonic() - self._begun < minutes * 60:
                due = self._begun + (len(self.moments) + 1) * SAMPLE_SECONDS
                self._look()
                self._read()
                while time.monotonic() < due:
                    self._person.trade()
                    time.sleep(max(0.0, min(TRADE_SECONDS, due - time.monotonic())))
            self._look()
            self.heard, self.holes = len(ear.heard), ear.holes()
        self.trades = dict(self._person.answers)

    def _read(self) -> None:
        path = next(self._reading)
        begun = time.monotonic()
        status, _ = self._person.get(path)
        self.pages[f"{path} {status}"] += 1
        self.moments[-1]["page"] = [path, status, round(1e3 * (time.monotonic() - begun))]

    def _look(self) -> None:
        at = time.monotonic() - self._begun
        seen = [look(part, pid, at=at) for part, pid in self.pids().items()]
        self._file.add(seen)
        self.samples += seen
        self.moments.append({"at": round(at, 1), **self.moment()})
        with (self.out / "moments.jsonl").open("a") as file:
            file.write(json.dumps(self.moments[-1]) + "\n")

    def pids(self) -> dict[str, int]:
        own = {part: process.pid for part, process in self.desk.processes.items()}
        servers = {name: self.desk.process(name).pid for name in ("database", "redis")}
        return {**own, **servers, "venue": self._venue_pid}

    def moment(self) -> dict[str, Any]:
        stats = self.venue.stats()
        beats = self.desk.rows(
            "select component, extract(epoch from now() - at)::float, progress, detail"
            " from alerts_heartbeat where component like 'stream-%%' or component = 'pulse'"
        )
        return {
            "load": os.getloadavg()[0],
            "delivered": stats["delivered"],
            "venue_behind_ms": stats["behind_ms"],
            "venue_queued_bytes": sum(each["queued"] for each in stats["sockets"]),
            "overflowed": stats["overflowed"],
            "beats": {name: {"age": age, "progress": done, **detail}
                      for name, age, done, detail in beats},
        }  # fmt: skip

    def holders(self) -> dict[str, str]:
        """Return which process has which shard."""
        rows = self.desk.rows(
            "select name, holder from markets_lease where name like %s and until > now()",
            "stream-shard-%",
        )
        return dict(rows)


def run(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Run the desk for so long and return what came of it."""
    home = out / "home"
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        words = {"--events": given.events, "--rate": given.rate, "--seed": given.seed}
        venue = stack.enter_context(
            venue_process(*(str(word) for pair in words.items() for word in pair))
        )
        desk = stack.enter_context(Desk.up(home, parts=PARTS, **settings_of(venue)))
        hour = Hour(desk, venue, venue_pid(), out)
        begun = at_work(hour)
        started, held = hour.pids(), hour.holders()
        hour.work(given.minutes)
        span = {"since": begun, "until": time.time_ns()}
        (home / "span.json").write_text(json.dumps(span))
        result = figures(hour, given) | {"settled_after": begun}
        result["moved_shards"] = [held, hour.holders()] if held != hour.holders() else []
        result["replaced"] = [k for k, pid in hour.pids().items() if pid != started[k]]
        result["holds"] = what_holds(hour)
        result["logs"] = logs(home)
        result["truth"] = against_truth(hour, begun)
        desk.end()
        keep_signals(hour, home)
    result["signals"] = compared(home)
    result["complaints"] = complaints(result, given)
    return result


def settings_of(venue: VenueClient) -> dict[str, str]:
    return {
        **venue.environment,
        "DATA_SOURCE": "real",
        "MPX_STREAM_SHARDS": str(SHARDS),
        "MPX_SINGLE_OPERATOR": "1",
        "EXEC_MAX_DAILY_NOTIONAL": "1000000",
        "MPX_KEEP_MB": "16384",  # nothing may be missing when it is replayed
    }


def venue_pid() -> int:
    """Return the pid of the venue, our only child that is one."""
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if b"mock_venue" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    raise LookupError("there is no venue")


def at_work(hour: Hour) -> int:
    """Wait until each process has one shard and knows its books; return from when on it counts."""

    def each_has_one() -> bool:
        holders = [each.split(":") for each in hour.holders().values() if each]
        return len(holders) == SHARDS == len({pid for _, pid, _ in holders})

    def known() -> bool:
        beats = hour.moment()["beats"]
        books = [beats.get(f"stream-{n}", {}).get("books", {}) for n in range(SHARDS)]
        return all(each.get("fresh", 0) > 0.5 * sum(each.values()) > 0 for each in books)

    wait_for(each_has_one, seconds=90, what="each stream to have a shard")
    wait_for(known, seconds=90, what="the books")
    time.sleep(SETTLE_SECONDS)
    return time.time_ns()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1_500.0, help="messages a second")
    parser.add_argument("--events", type=int, default=60, help="of the venue, 4 markets in each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    result = run(given, given.out)
    (given.out / "result.json").write_text(json.dumps(result, indent=1, default=str))
    print(json.dumps({k: result[k] for k in ("processes", "signals", "complaints")}, indent=1,
                     default=str))  # fmt: skip
    return 1 if result["complaints"] else 0


if __name__ == "__main__":
    sys.exit(main())
