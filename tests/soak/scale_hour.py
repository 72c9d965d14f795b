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
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.faults.feed_ear import FeedEar
from tests.faults.topology import Desk, Person
from tests.servers import ROOT, manage, wait_for
from tests.soak.watched import Sample, SampleFile, judged, look
from tests.venue import VenueClient, venue_process

PARTS: Final = ("web", "stream", "stream2", "worker", "worker2", "beat")
SHARDS: Final = 2
SAMPLE_SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 30.0  # after both shards are at work, before signals are compared
LONG_ENOUGH_MINUTES: Final = 20.0
COMPARE_SECONDS: Final = 3_600
PAGES: Final = ("/", "/signals/", "/markets/", "/execution/", "/health/", "/metrics",
                "/api/healthz", "/api/v1/signals")  # fmt: skip
BAD_LEVELS: Final = ("error", "critical")
SIGNALS: Final = """
select s.stream, s.key, r.code, s.kind, s.market_ids, s.level, s.close_reason, s.observations,
  (extract(epoch from s.opened_at) * 1000000)::bigint * 1000,
  coalesce((extract(epoch from s.closed_at) * 1000000)::bigint * 1000, 0)
from signals_signal s join rules_rule r on r.id = s.rule_id order by s.key
"""
FIELDS: Final = ("stream", "key", "rule", "kind", "markets", "level", "why", "observations",
                 "opened_at", "closed_at")  # fmt: skip


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
        status, text = self.get("/api/v1/signals?level=P1&status=OPEN&limit=20")
        rows = json.loads(text)["results"] if status == 200 else []
        new = [row["id"] for row in rows if row["id"] not in self.tried]
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
        """Let it run for so long; look, read and trade every ten seconds."""
        self._person.login()
        self._begun = time.monotonic()
        with FeedEar(self.desk.port, self._person.cookie) as ear:
            while time.monotonic() - self._begun < minutes * 60:
                due = self._begun + (len(self.moments) + 1) * SAMPLE_SECONDS
                self._look()
                self._act()
                time.sleep(max(0.0, due - time.monotonic()))
            self._look()
            self.heard, self.holes = len(ear.heard), ear.holes()
        self.trades = dict(self._person.answers)

    def _act(self) -> None:
        path = next(self._reading)
        begun = time.monotonic()
        status, _ = self._person.get(path)
        self.pages[f"{path} {status}"] += 1
        self.moments[-1]["page"] = [path, status, round(1e3 * (time.monotonic() - begun))]
        self._person.trade()

    def _look(self) -> None:
        at = time.monotonic() - self._begun
        seen = [look(part, pid, at=at) for part, pid in self.pids().items()]
        self._file.add(seen)
        self.samples += seen
        self.moments.append({"at": round(at, 1), **self._moment()})
        with (self.out / "moments.jsonl").open("a") as file:
            file.write(json.dumps(self.moments[-1]) + "\n")

    def pids(self) -> dict[str, int]:
        own = {part: process.pid for part, process in self.desk.processes.items()}
        servers = {name: self.desk.process(name).pid for name in ("database", "redis")}
        return {**own, **servers, "venue": self._venue_pid}

    def _moment(self) -> dict[str, Any]:
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
        (home / "span.json").write_text(json.dumps({"since": begun}))
        started, held = hour.pids(), hour.holders()
        hour.work(given.minutes)
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
        holders = hour.holders()
        return len(holders) == SHARDS == len({each.split(":")[1] for each in holders.values()})

    def known() -> bool:
        beats = hour._moment()["beats"]
        books = [beats.get(f"stream-{n}", {}).get("books", {}) for n in range(SHARDS)]
        return all(each.get("fresh", 0) > 0.9 * sum(each.values()) > 0 for each in books)

    wait_for(each_has_one, seconds=90, what="each stream to have a shard")
    wait_for(known, seconds=90, what="the books")
    time.sleep(SETTLE_SECONDS)
    return time.time_ns()


# --- what came of it -------------------------------------------------------------------


def figures(hour: Hour, given: argparse.Namespace) -> dict[str, Any]:
    warm = given.minutes * 10  # seconds: a sixth
    first, last = hour.moments[0], hour.moments[-1]
    warmed = [each for each in hour.moments if each["at"] >= warm]
    span = last["at"] - first["at"]
    waiting = [b["waiting"] for m in warmed for k, b in m["beats"].items() if "waiting" in b]
    pulses = [m["beats"]["pulse"] for m in warmed if "pulse" in m["beats"]]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "minutes": given.minutes,
        "rate": given.rate,
        "events": given.events,
        "seed": given.seed,
        "warm_seconds": warm,
        "processes": [asdict(each) for each in judged(hour.samples, warm_seconds=warm)],
        "not_flat": [c for e in judged(hour.samples, warm_seconds=warm) for c in e.complaints],
        "delivered_per_s": round((last["delivered"] - first["delivered"]) / span, 1),
        "venue_behind_ms": spread(m["venue_behind_ms"] for m in warmed),
        "venue_queued_bytes": spread(m["venue_queued_bytes"] for m in warmed),
        "overflowed": last["overflowed"],
        "batches_waiting": spread(waiting),
        "pulse_heard_s": spread(p["heard"] for p in pulses if "heard" in p),
        "pulse_stored_s": spread(p["stored"] for p in pulses if "stored" in p),
        "page_ms": spread(m["page"][2] for m in warmed if "page" in m),
        "load": spread(m["load"] for m in warmed),
        "pages": dict(hour.pages),
        "trades": hour.trades,
        "heard_in_feed": hour.heard,
        "last_beats": last["beats"],
    }


def spread(values: Any) -> dict[str, float]:
    """Return median, 99th percentile and the largest."""
    ranked = sorted(values)
    if not ranked:
        return {"count": 0}
    last = len(ranked) - 1
    picked = {"p50": ranked[round(last * 0.5)], "p99": ranked[round(last * 0.99)]}
    return {"count": len(ranked), **picked, "max": ranked[-1]}


def what_holds(hour: Hour) -> dict[str, Any]:
    """Ask everything that says whether something is broken, while the desk still runs."""
    desk = hour.desk
    asked = {
        "invariants": ("invariants", "--json"),
        "audit": ("audit", "verify"),
        "doctor": ("doctor", "--json"),
    }
    told: dict[str, Any] = {}
    for name, words in asked.items():
        done = manage(*words, env=desk.env, timeout=300)
        told[name] = {"code": done.returncode, "said": (done.stdout + done.stderr)[-6_000:]}
    told["p1_without_alert"] = desk.count(
        "signals_signal where level = 'P1' and not exists (select 1 from alerts_outboxentry"
        " where key like 'signal:' || signals_signal.key || '%%')"
    )
    told["outbox"] = desk.rows("select state, count(*) from alerts_outboxentry group by 1")
    told["feed_seq_missing"] = desk.rows(
        "select topic, max(seq) - min(seq) + 1 - count(*) from alerts_feedentry group by 1"
    )
    told["feed_holes"] = hour.holes
    told["intents"] = desk.rows("select status, count(*) from execution_orderintent group by 1")
    told["fills"] = desk.count("execution_fill")
    told["gaps"] = desk.rows(
        "select subject, ending, count(*) from markets_gap group by 1, 2 order by 1, 2"
    )
    told["quarantine"] = desk.rows(
        "select source, reason, sum(count) from markets_quarantine group by 1, 2"
    )
    told["ticks"] = desk.count("markets_tick")
    return told


def logs(home: Path) -> dict[str, Any]:
    """Return what the logs have by event, and every line that tells of an error."""
    counts: dict[str, Counter[str]] = {}
    wrong: dict[str, list[str]] = {}
    for path in sorted(home.glob("*.log")):
        part = path.stem
        counts[part], wrong[part] = Counter(), []
        for line in path.read_text(errors="replace").splitlines():
            level, event = _level_and_event(line)
            counts[part][f"{level} {event}"] += 1
            if level in BAD_LEVELS or "Traceback" in line:
                wrong[part].append(line[:2_000])
    usual = {part: dict(count.most_common(15)) for part, count in counts.items()}
    return {"wrong": {part: lines for part, lines in wrong.items() if lines}, "usual": usual}


def _level_and_event(line: str) -> tuple[str, str]:
    try:
        told = json.loads(line)
        return str(told["level"]), str(told["event"])[:80]
    except (ValueError, KeyError, TypeError):
        return "plain", re.sub(r"\d+", "N", line)[:60]


def against_truth(hour: Hour, since: int) -> dict[str, Any]:
    """Count the P1 that no window of the venue's truth log explains."""
    real = [t for t in hour.venue.truth() if t["family"] in
            ("planted", "quiet_leg", "jump", "flicker")]  # fmt: skip
    by_event: dict[str, list[tuple[int, int]]] = {}
    for each in real:
        by_event.setdefault(each["event_id"], []).append((each["t0"], each["t1"]))
    slack = 2 * 10**9
    p1 = hour.desk.rows(
        "select key, event_id, (extract(epoch from opened_at) * 1e9)::bigint, kind"
        " from signals_signal where level = 'P1' and opened_at >= to_timestamp(%s)", since / 1e9
    )  # fmt: skip
    unexplained = [
        (key, kind)
        for key, event_id, at, kind in p1
        if not any(a - slack <= at <= b + slack for a, b in by_event.get(event_id, ()))
    ]
    return {"real_windows": len(real), "p1": len(p1), "p1_not_explained": unexplained}


def keep_signals(hour: Hour, home: Path) -> None:
    """Write down the signals of the database, for the comparison."""
    with psycopg.connect(hour.desk.postgres.url) as connection:
        rows = connection.execute(SIGNALS).fetchall()
    told = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    (home / "stored.json").write_text(json.dumps(told))


def compared(home: Path) -> dict[str, Any]:
    """Compare with one process, in a process of its own."""
    command = [sys.executable, "-m", "tests.soak.one_process", str(home)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=COMPARE_SECONDS,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "mpx_site.settings", "MPX_HOME": str(home)},
    )  # fmt: skip
    if not (home / "compared.json").exists():
        return {"failed": done.stderr[-4_000:]}
    told: dict[str, Any] = json.loads((home / "compared.json").read_text())
    return told


def complaints(result: dict[str, Any], given: argparse.Namespace) -> list[str]:
    """Return every promise of this program that was not kept, in one line each."""
    holds, signals = result["holds"], result["signals"]
    checks = {
        "processes were replaced": result["replaced"],
        "shards moved": result["moved_shards"],
        "not flat": result["not_flat"] if given.minutes >= LONG_ENOUGH_MINUTES else [],
        "errors in logs": {part: len(lines) for part, lines in result["logs"]["wrong"].items()},
        "P1 without an alert": holds["p1_without_alert"],
        "holes in the feed": holds["feed_holes"],
        "numbers missing in the feed": [row for row in holds["feed_seq_missing"] if row[1]],
        "clients that the venue cut off": result["overflowed"],
        "no comparison of signals": signals.get("failed"),
        "P1 that nothing explains": result["truth"]["p1_not_explained"],
    }
    found = [f"{what}: {told}" for what, told in checks.items() if told]
    found += [f"{name}: exit code {holds[name]['code']}" for name in ("invariants", "audit")
              if holds[name]["code"]]  # fmt: skip
    found += list(_unkept(result["last_beats"]))
    if "failed" not in signals:
        for row in (*signals["alone"], {"stream": "all in one", **signals["together"]}):
            if row["differences"]:
                found.append(f"{row['stream']}: {row['differences']} signals differ")
    return found


def _unkept(beats: dict[str, Any]) -> Iterator[str]:
    for name, beat in beats.items():
        for what in ("dropped_tops", "refused", "kept_failures"):
            if beat.get(what):
                yield f"{name}: {what} {beat[what]}"


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
