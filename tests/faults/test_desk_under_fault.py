"""A whole desk while its broker fails (fault rows R1 to R4), and parts of it are killed.

The short form (R1, R2, R4, metrics) runs with the suite; `make test-faults` (MPX_FAULTS=1) takes
Redis away for a minute as well, fills it up, and kills every part in turn.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml

from tests.faults.feed_ear import FeedEar
from tests.faults.killed_parts import BOUND, KILLED, measure
from tests.faults.prometheus import DEPLOY, PROGRAM, Prometheus, scraping
from tests.faults.topology import Desk, Person, seconds_until
from tests.servers import ROOT, CannotStart, manage, wait_for

FULL = bool(os.environ.get("MPX_FAULTS"))
pytestmark = pytest.mark.timeout(600)
in_full = pytest.mark.skipif(not FULL, reason="takes minutes: make test-faults")
AWAY = (2.0, 60.0) if FULL else (2.0,)
WORKS_AGAIN = 15.0  # the worker, after Redis is back


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    try:
        with Desk.up(tmp_path_factory.mktemp("desk")) as started:
            yield started
    except CannotStart as missing:
        pytest.skip(f"no servers of our own: {missing}")


@pytest.fixture(autouse=True)
def _nothing_is_lost(desk: Desk) -> Iterator[None]:
    """Whatever a test breaks: what must hold of all rows holds, and the desk is well after it."""
    desk.wait_until_well()
    yield
    desk.wait_until_well()
    assert_nothing_lost(desk)


def assert_nothing_lost(desk: Desk) -> None:
    p1 = "signals_signal where level = 'P1'"
    told = (
        "(select 1 from alerts_outboxentry where key like 'signal:' || signals_signal.key || '%%')"
    )
    assert desk.count(f"{p1} and not exists {told}") == 0
    wait_for(
        lambda: desk.count("alerts_outboxentry where state = 'PENDING' and due_at < now()") == 0,
        seconds=90, what="an outbox without what is due",
    )  # fmt: skip
    numbers = desk.rows(
        "select topic, count(*), max(seq) - min(seq) + 1 from alerts_feedentry group by 1"
    )
    assert all(rows == span for _, rows, span in numbers), numbers
    twice = desk.rows(
        "select subject, kind from alerts_auditentry where kind like 'signal.%%'"
        " group by 1, 2 having count(*) > 1"
    )
    assert twice == []


def worker_beats_after(desk: Desk, moment: float) -> bool:
    sql = "alerts_heartbeat where component = 'worker' and at > to_timestamp(%s)"
    return desk.count(sql, moment) > 0


def send(desk: Desk, task: str, *, countdown: int = 0, times: int = 1) -> None:
    """Publish tasks as any process of the desk would."""
    code = (
        "from mpx_site.celery import app\n"
        f"for _ in range({times}): app.send_task({task!r}, countdown={countdown}, queue='house')"
    )
    subprocess.run([sys.executable, "-c", code], env=desk.env, cwd=ROOT, check=True, timeout=60)


# --- R1 ------------------------------------------------------------------------------


@pytest.mark.parametrize("away", AWAY)
def test_r1_redis_is_killed_and_comes_back(desk: Desk, away: float) -> None:
    olga = Person(desk.port)
    olga.login()
    quotes = "markets_tick where at > to_timestamp(%s)"
    with FeedEar(desk.port, olga.cookie) as ear:
        wait_for(lambda: ear.heard, seconds=20, what="the feed")
        desk.kill("redis")
        gone = time.time()
        switched = manage("killswitch", "on", "--reason", f"drill {away}", env=desk.env)
        assert switched.returncode == 0, switched.stderr
        heard, beats = len(ear.heard), ear.beats

        status, _ = Person(desk.port).get("/login/")
        again = Person(desk.port)
        again.login()
        assert (status, again.get("/health/")[0]) == (200, 200)
        time.sleep(max(0.0, away - (time.time() - gone)))
        wait_for(lambda: desk.count(quotes, gone) > 0, seconds=20, what="ticks without Redis")
        told = f"drill {away}"
        wait_for(
            lambda: any(told in text for text in desk.bot.texts),
            seconds=30, what="an alert without Redis",
        )  # fmt: skip

        desk.start("redis")
        back = time.time()
        for part in ("stream", "worker", "beat", "web"):
            assert desk.is_alive(part), desk.log(part)
        wait_for(lambda: worker_beats_after(desk, back), seconds=WORKS_AGAIN, what="the worker")
        wait_for(lambda: len(ear.heard) > heard and ear.beats > beats, seconds=30, what="the feed")
        assert ear.holes() == []
    switched = manage("killswitch", "off", "--reason", "over", "--by", "olga", env=desk.env)
    assert switched.returncode == 0, switched.stderr
    assert sum(told in text for text in desk.bot.texts) == 1


# --- R2 ------------------------------------------------------------------------------


def test_r2_redis_is_killed_while_tasks_are_under_way(desk: Desk) -> None:
    send(desk, "alerts.tasks.prune_feed", times=30)
    send(desk, "alerts.tasks.prune_feed", countdown=4, times=5)
    desk.kill("redis")
    time.sleep(2)
    desk.start("redis")
    back = time.time()

    took = seconds_until(
        lambda: worker_beats_after(desk, back), within=WORKS_AGAIN, since=time.monotonic()
    )

    assert took is not None, desk.log("worker")
    assert desk.is_alive("worker")
    swept = "markets_lease where name = 'sweep' and until > to_timestamp(%s)"
    wait_for(lambda: desk.count(swept, back + 1), seconds=20, what="what beat sends to be done")


# --- R3 ------------------------------------------------------------------------------


@in_full
def test_r3_redis_forgets_everything_or_is_full(desk: Desk) -> None:
    since = time.time()
    with redis.Redis.from_url(desk.redis.url) as client:
        client.flushall()
        wait_for(lambda: worker_beats_after(desk, since + 1), seconds=20, what="the worker")

        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        full = time.time()
        try:
            said = seconds_until(
                lambda: "broker" in desk.health()["silent"], within=BOUND, since=time.monotonic()
            )
            stored = desk.count("markets_tick where at > to_timestamp(%s)", full)
            page = Person(desk.port)
            page.login()
            assert page.get("/")[0] == 200
        finally:
            client.config_set("maxmemory", 0)

    assert said is not None
    assert stored > 0
    back = time.time()
    if not desk.is_alive("worker"):
        desk.start("worker")  # it ends where it may not even confirm a job; compose restarts it
    wait_for(lambda: worker_beats_after(desk, back), seconds=30, what="the worker")


# --- R4 ------------------------------------------------------------------------------


def threads(desk: Desk, part: str) -> int:
    return len(list(Path(f"/proc/{desk.process(part).pid}/task").iterdir()))


def test_r4_slow_redis_holds_up_no_page(desk: Desk) -> None:
    olga = Person(desk.port)
    olga.login()
    paths = ("/", "/signals/", "/api/v1/signals", "/metrics", "/api/healthz")
    for path in paths:  # the first look at each page makes its templates
        olga.get(path)
    before = threads(desk, "web")
    took: list[float] = []
    with redis.Redis.from_url(desk.redis.url) as client:
        client.client_pause(5_000)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            begun = time.monotonic()
            status, _ = olga.get(paths[len(took) % len(paths)])
            took.append(time.monotonic() - begun)
            assert status == 200

    worst = sorted(took)[int(len(took) * 0.99)]
    print(json.dumps({"requests": len(took), "p99_seconds": round(worst, 3)}))
    # A page waits for nothing in Redis: a wait would last as long as the pause.
    assert worst < 2.5, f"p99 {worst:.2f} s of {len(took)} requests"
    assert threads(desk, "web") <= before + 4


# --- parts killed in turn ------------------------------------------------------------


@in_full
@pytest.mark.parametrize("part", KILLED)
def test_killed_part_is_told_everywhere_and_its_return_too(desk: Desk, part: str) -> None:
    row = measure(desk, part)

    assert row.ok, row


# --- one /metrics of all processes ---------------------------------------------------


def total(samples: dict[Any, float]) -> float:
    return sum(samples.values())


def test_metrics_are_those_of_all_processes(desk: Desk) -> None:
    """Two web processes: each shows what both counted, and the clients of those that live."""
    desk.start("web2")
    first, second = Person(desk.port), Person(desk.port2)
    wait_for(lambda: second.get("/livez")[0] == 200, seconds=40, what="a second web process")
    before = desk.metric("mpx_requests_total")
    for _ in range(10):
        second.get("/livez")
    after = desk.metric("mpx_requests_total")
    assert total(after) - total(before) >= 10
    assert total(desk.metric("mpx_ingest_latency_ms_count")) > 0  # the stream counts it

    first.login()
    second.login()
    with FeedEar(desk.port, first.cookie) as ear, FeedEar(desk.port2, second.cookie) as other:
        wait_for(lambda: ear.heard and other.heard, seconds=20, what="both feeds")
        assert total(desk.metric("mpx_ws_clients")) == 2
        desk.kill("web2")
        del desk.processes["web2"]
        wait_for(
            lambda: total(desk.metric("mpx_ws_clients")) == 1,
            seconds=10, what="a dead process's clients to be gone",
        )  # fmt: skip
    assert total(desk.metric("mpx_requests_total")) > total(after)  # what it counted stays


# --- Prometheus and the dashboard ----------------------------------------------------

ORDER = """
import django
django.setup()
from django.contrib.auth.models import User
from django.utils import timezone
from execution import intents
from execution.models import OrderIntent
from signals.models import Signal
olga = User.objects.get(username="olga")
for signal in Signal.objects.exclude(level="P3").order_by("-id")[:20]:
    answer = intents.suggest(signal, by=olga, at=timezone.now())
    if answer.intent:
        break
intent = OrderIntent.objects.get()
given = {"by": olga, "at": timezone.now()}
assert not intents.approve(intent.pk, plan_hash=intent.plan_hash, **given).applied
intents.cancel(intent.pk, **given)
"""
SET_ASIDE = """
insert into markets_quarantine (source, reason, subject, detail, sample, count, first_at, last_at)
values ('ws', 'drill', '', '', '', 1, now(), now())
"""
no_prometheus = PROGRAM is None and "CI" not in os.environ


def panels() -> list[str]:
    board = json.loads((DEPLOY / "grafana" / "mpx.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def named_in_rules() -> set[str]:
    text = (DEPLOY / "prometheus" / "rules.yml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return {name for rule in rules for name in re.findall(r"\bmpx_[a-z_]+", rule["expr"])}


@pytest.mark.skipif(no_prometheus, reason="prometheus is not installed; .ci/run fetches it")
def test_every_query_of_the_dashboard_and_every_metric_of_the_rules_has_data(
    desk: Desk, tmp_path: Path
) -> None:
    traded = subprocess.run(
        [sys.executable, "-c", ORDER], env=desk.env, cwd=ROOT, capture_output=True, text=True
    )
    assert traded.returncode == 0, traded.stderr
    with psycopg.connect(desk.postgres.url) as connection:
        connection.execute(SET_ASIDE)
    olga = Person(desk.port)
    olga.login()
    with FeedEar(desk.port, olga.cookie) as ear:
        ear.shout()
    asked = [*panels(), *sorted(named_in_rules())]

    with scraping(desk.port, tmp_path) as prometheus:
        missing = asked
        deadline = time.monotonic() + 30
        while missing and time.monotonic() < deadline:
            missing = without_data(prometheus, missing)
        assert missing == []
        groups = prometheus.ask("rules")["groups"]

    assert [rule["lastError"] for group in groups for rule in group["rules"] if
            rule.get("lastError")] == []  # fmt: skip
    states = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
    assert states["Watchdog"] == "firing"
    assert states["MpxPartSilent"] == states["MpxDatabaseDown"] == "inactive"


def without_data(prometheus: Prometheus, asked: list[str]) -> list[str]:
    return [expression for expression in asked if not prometheus.values(expression)]
