"""What came of an hour of a desk (`tests.soak.scale_hour`), and which promise was broken."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.servers import ROOT, manage
from tests.soak.watched import judged

if TYPE_CHECKING:
    from tests.soak.scale_hour import Hour

LONG_ENOUGH_MINUTES: Final = 20.0
COMPARE_SECONDS: Final = 3_600
BAD_LEVELS: Final = ("error", "critical")
SIGNALS: Final = """
select s.stream, s.key, r.code, s.kind, s.market_ids, s.level, s.close_reason, s.observations,
  (extract(epoch from s.opened_at) * 1000000)::bigint * 1000,
  coalesce((extract(epoch from s.closed_at) * 1000000)::bigint * 1000, 0)
from signals_signal s join rules_rule r on r.id = s.rule_id order by s.key
"""
FIELDS: Final = ("stream", "key", "rule", "kind", "markets", "level", "why", "observations",
                 "opened_at", "closed_at")  # fmt: skip


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


def spread(values: Iterable[float]) -> dict[str, float]:
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
