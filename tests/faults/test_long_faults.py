"""A whole desk under faults that take minutes: D3, D5, W3, W4, K1. Only by `make test-faults`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests.faults.topology import Desk, Person, seconds_until
from tests.servers import CannotStart, manage, wait_for

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("MPX_FAULTS"), reason="takes minutes: make test-faults"),
]
BOUND = 30.0
BACK = 15.0
AWAY = 60.0
SPOKEN = BOUND + 60  # with the lease of a voice that was killed in the middle of a message
MOST_A_PROCESS = 12
FAKETIME = shutil.which("faketime")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    try:
        with Desk.up(tmp_path_factory.mktemp("desk")) as started:
            yield started
    except CannotStart as missing:
        pytest.skip(f"no servers of our own: {missing}")


@pytest.fixture(autouse=True)
def _invariants_hold(desk: Desk) -> Iterator[None]:
    desk.wait_until_well()
    yield
    desk.wait_until_well()
    for words in (("invariants",), ("audit", "verify")):
        done = manage(*words, env=desk.env, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def tell(**seen: object) -> None:
    print(json.dumps(seen))


def signals_after(desk: Desk, moment: float) -> int:
    return desk.count("signals_signal where opened_at > to_timestamp(%s)", moment)


# --- D3 ------------------------------------------------------------------------------


def test_d3_read_only_database_is_told_and_what_was_found_meanwhile_is_stored(desk: Desk) -> None:
    refused = desk.count("markets_quarantine where source = 'writer'")
    heard = len(desk.bot.texts)
    with psycopg.connect(desk.postgres.url, autocommit=True) as owner:
        owner.execute("alter system set default_transaction_read_only = on")
        owner.execute("select pg_reload_conf()")
        begun, since = time.time(), time.monotonic()
        try:
            said = seconds_until(
                lambda: desk.health().get("status") != "ok", within=BOUND, since=since
            )
            alert = seconds_until(lambda: len(desk.bot.texts) > heard, within=BOUND, since=since)
            switched = manage("killswitch", "on", "--reason", "drill", env=desk.env)
            alive = [part for part in desk.processes if desk.is_alive(part)]
        finally:
            owner.execute("alter system reset default_transaction_read_only")
            owner.execute("select pg_reload_conf()")
    writable = time.time()
    back = seconds_until(
        lambda: desk.count(
            "alerts_heartbeat where component = 'stream' and at > to_timestamp(%s)", writable
        ) > 0,
        within=BACK, since=time.monotonic(),
    )  # fmt: skip
    tell(row="D3", said=said, alert=alert, back=back, killswitch=switched.returncode)

    assert said is not None and alert is not None and back is not None
    assert set(alive) == set(desk.processes)
    assert switched.returncode != 0  # it says that it could not
    meanwhile = "markets_tick where at between to_timestamp(%s) and to_timestamp(%s)"
    wait_for(lambda: desk.count(meanwhile, begun + 1, writable), seconds=20, what="ticks")
    assert desk.count("markets_quarantine where source = 'writer'") == refused


# --- D5 ------------------------------------------------------------------------------


def test_d5_sixty_readers_at_once_leave_connections_for_the_stream(desk: Desk) -> None:
    olga = Person(desk.port)
    olga.login()
    ours = "pg_stat_activity where backend_type = 'client backend'"
    before = desk.count(ours)
    with ThreadPoolExecutor(60) as readers:
        asked = [readers.submit(olga.get, "/signals/") for _ in range(120)]
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, desk.count(ours))
            time.sleep(0.1)
    answers = Counter(each.result()[0] for each in asked)
    tell(row="D5", before=before, most=most, answers=answers)

    assert most < before + MOST_A_PROCESS  # the server gives 60, and each reader took one before
    assert set(answers) <= {200, 503} and answers[200] > 60
    assert desk.health()["status"] == "ok"


# --- W3 ------------------------------------------------------------------------------


def test_w3_two_beats_and_two_workers_do_nothing_twice(desk: Desk) -> None:
    for part in ("beat2", "worker2"):
        desk.start(part)
    wait_for(lambda: "two@" in desk.log("worker2") or True, seconds=1, what="")
    time.sleep(20)
    begun = time.time()
    switched = manage("killswitch", "on", "--reason", "w3 drill", env=desk.env)
    assert switched.returncode == 0, switched.stderr
    wait_for(lambda: any("w3 drill" in t for t in desk.bot.texts), seconds=30, what="an alert")
    wait_for(lambda: signals_after(desk, begun), seconds=90, what="a signal")
    time.sleep(10)
    both = [part for part in ("beat2", "worker2") if desk.is_alive(part)]
    for part in ("beat2", "worker2"):
        desk.kill(part)
        del desk.processes[part]
    off = manage("killswitch", "off", "--reason", "over", "--by", "olga", env=desk.env)
    assert off.returncode == 0, off.stderr

    assert both == ["beat2", "worker2"]
    assert sum("w3 drill" in text for text in desk.bot.texts) == 1
    sent = "select key from alerts_outboxentry group by 1 having count(*) > 1"
    assert desk.rows(sent) == []
    twice = "select subject, kind from alerts_auditentry where kind like 'signal.%%'"
    assert desk.rows(f"{twice} group by 1, 2 having count(*) > 1") == []


# --- W4 ------------------------------------------------------------------------------


def test_w4_worker_that_was_away_does_not_do_what_is_out_of_date(desk: Desk) -> None:
    desk.kill("worker")
    time.sleep(AWAY)
    with redis.Redis.from_url(desk.redis.url) as client:
        waiting = client.llen("house") + client.llen("catalogue")
        desk.start("worker")
        back, since = time.time(), time.monotonic()
        works = seconds_until(
            lambda: desk.count(
                "alerts_heartbeat where component = 'worker' and at > to_timestamp(%s)", back
            ) > 0,
            within=BOUND, since=since,
        )  # fmt: skip
        empty = seconds_until(
            lambda: client.llen("house") + client.llen("catalogue") < 5, within=BOUND, since=since
        )
    tell(row="W4", away=AWAY, waiting=waiting, works=works, empty=empty)

    assert works is not None and empty is not None, desk.log("worker")
    assert waiting < 5 * AWAY


# --- K1 ------------------------------------------------------------------------------


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed (apt-get install faketime)")
@pytest.mark.parametrize("shift", ["-90s", "+90s"])
def test_k1_stream_whose_clock_is_wrong_is_told_and_no_age_is_negative(
    desk: Desk, shift: str
) -> None:
    assert FAKETIME
    desk.kill("stream")
    # A clock that is wrong still goes forward: what waits for an interval is not to notice.
    desk.start("stream", "env", "DONT_FAKE_MONOTONIC=1", FAKETIME, "-m", "-f", shift)
    begun = time.monotonic()
    heard = len(desk.bot.texts)
    ages: list[float] = []

    def found_wrong() -> bool:
        found = desk.health()
        parts = found.get("components", {})
        ages.extend(part["age_seconds"] for part in parts.values() if part["age_seconds"])
        return parts.get(f"clock:{socket.gethostname()}"[:40], {}).get("state") == "stale"

    def alerts(words: str) -> list[str]:
        return [text for text in desk.bot.texts[heard:] if words in text]

    told = seconds_until(found_wrong, within=BOUND, since=begun)
    alert = seconds_until(lambda: bool(alerts("clock is wrong")), within=SPOKEN, since=begun)
    (ahead,) = desk.metric("mpx_clock_ahead_seconds").values()
    seen = manage("doctor", "--only", "clock_stream", env=desk.env)
    time.sleep(20)  # in which it judges the others, and the worker judges it
    alive = desk.is_alive("stream")
    desk.kill("stream")
    desk.start("stream")
    right = seconds_until(
        lambda: bool(alerts("clock is right")), within=SPOKEN, since=time.monotonic()
    )
    silent = [text for text in alerts("is silent") if "component: stream" not in text]
    tell(row="K1", shift=shift, told=told, alert=alert, ahead=ahead, right=right,
         least_age=min(ages))  # fmt: skip

    assert alive, desk.log("stream")
    assert min(ages) >= 0
    assert told is not None and alert is not None and right is not None
    assert abs(ahead - int(shift[:-1])) < 10
    assert seen.returncode == 1 and "the database" in seen.stdout
    assert len(alerts("clock is wrong")) == len(alerts("clock is right")) == 1
    assert not silent, silent  # its wrong clock makes nobody else silent
