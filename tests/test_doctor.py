"""`doctor`: what is well, what is not, why, and with which exit code."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from alerts import journal
from markets.models import Event, Market, Outcome, Quarantine, SyncRun
from markets.polymarket.http import Patience
from mpx_site import doctor
from mpx_site import doctor_inside as inside
from mpx_site import doctor_outside as outside
from mpx_site.doctor import Check
from mpx_site.doctor_words import Seen, first_line, ok, span, why_unreachable
from risk import breakers, killswitch
from rules.load import publish_missing
from rules.models import Rule
from tests import forger
from tests.servers import ROOT, free_port, manage, settings_for
from tests.venue import VenueClient, mock_venue

LONG = timedelta(seconds=31)
VENUE = ("gamma", "clob", "clock_venue", "websocket")


@dataclass
class Told:
    """What one run of the command said."""

    code: int
    checks: dict[str, dict[str, Any]]
    seconds: float

    def states(self, *names: str) -> list[str]:
        return [self.checks[name]["state"] for name in names]


def run(env: dict[str, str], *names: str) -> Told:
    only = ("--only", ",".join(names)) if names else ()
    begun = time.monotonic()
    done = manage("doctor", "--json", *only, env=env)
    told = json.loads(done.stdout)
    assert told["schema"] == 1 and told["exit_code"] == done.returncode, done.stderr
    rows = {row["name"]: row for row in told["checks"]}
    return Told(done.returncode, rows, time.monotonic() - begun)


@pytest.fixture(scope="module")
def home(tmp_path_factory: Any) -> Path:
    """A home whose database has its tables."""
    path: Path = tmp_path_factory.mktemp("desk")
    assert manage("migrate", "-v0", env=settings_for(path)).returncode == 0
    return path


@pytest.fixture(scope="module")
def shared() -> Iterator[VenueClient]:
    with mock_venue() as venue:
        yield venue


@pytest.fixture
def venue(shared: VenueClient) -> Iterator[VenueClient]:
    yield shared
    shared.clear()


def real(home: Path, venue: VenueClient) -> dict[str, str]:
    return settings_for(home, DATA_SOURCE="real", **venue.environment)


@pytest.fixture
def ill(venue: VenueClient, settings: Any) -> VenueClient:
    """A venue for checks inside this process; it is well until a test says otherwise."""
    settings.DATA_SOURCE = "real"
    for name, value in venue.environment.items():
        setattr(settings, name, value)
    return venue


def seen_of(*names: str) -> dict[str, Seen]:
    return {result.name: result.seen for result in doctor.examine(names)}


# --- the command, over real sockets -------------------------------------------------


def test_all_is_well_against_a_healthy_venue(home, venue):
    env = real(home, venue)
    assert manage("catalogue", "sync", env=env).returncode == 0
    assert manage("rules", "load", env=env).returncode == 0

    told = run(env)

    assert told.code == 0, told.checks
    assert list(told.checks) == list(doctor.NAMES)
    assert (
        told.states(*VENUE, "database", "migrations", "rules", "catalogue", "watch") == ["ok"] * 9
    )
    assert told.checks["websocket"]["seen"].startswith(f"127.0.0.1:{venue.port} sent a book after")
    assert "8 events" in told.checks["watch"]["seen"]
    assert told.states("stream", "worker", "poll") == ["warn"] * 3  # nothing was started here
    assert all(row["todo"] for row in told.checks.values() if row["state"] != "ok")


def test_venue_that_refuses_is_named_for_each_of_its_services(home):
    port = free_port()
    http, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws/market"
    env = settings_for(
        home, DATA_SOURCE="real", POLYMARKET_GAMMA_URL=http, POLYMARKET_CLOB_URL=http,
        POLYMARKET_WS_URL=ws,
    )  # fmt: skip

    told = run(env, *VENUE)

    assert told.code == 3
    for name in VENUE:
        row = told.checks[name]
        assert (row["state"], row["unreachable"]) == ("fail", True)
        assert f"127.0.0.1:{port}: the connection was refused" in row["seen"]
        assert row["todo"].startswith("Check the network and POLYMARKET_")


def test_wall_in_front_of_the_venue_is_named(home, venue):
    venue.fault("html_403")

    told = run(real(home, venue), *VENUE)

    assert told.code == 3
    for name in VENUE:
        row = told.checks[name]
        assert "access denied (403)" in row["seen"]
        assert row["todo"] == (
            "See from this machine whether the venue blocks its country or address"
        )


@pytest.mark.parametrize(
    ("fault", "target", "name", "seen"),
    [
        ("errors_5xx", "/ok", "clob", "CLOB /ok: it failed (50"),
        ("rate_limit_429", "/ok", "clob", "CLOB /ok: too many requests (429)"),
        ("gzip_bomb", "/time", "clock_venue", "CLOB /time: the answer is compressed"),
    ],
)
def test_one_ill_service_does_not_hide_that_the_others_are_well(ill, fault, target, name, seen):
    ill.fault(fault, target=target, seconds=30)
    begun = time.monotonic()

    told = seen_of(*VENUE)

    assert seen in told[name].text
    assert (told[name].state, told[name].unreachable) == ("fail", True)
    assert {told[other].state for other in VENUE if other != name} == {"ok"}, told
    assert time.monotonic() - begun < doctor.LIMIT_SECONDS


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("html_403", "Gamma /events/keyset: access denied (403) by an HTML page"),
        ("drip", "Gamma /events/keyset: no full answer within 1 s"),
    ],
)
def test_catalogue_that_is_down_leaves_the_feed_its_own_verdict(ill, monkeypatch, fault, seen):
    monkeypatch.setattr(outside, "ONCE", Patience(request=1.0, tries=1))
    ill.fault(fault, target="/events")

    told = seen_of("gamma", "websocket")

    assert (told["gamma"].state, told["websocket"].state) == ("fail", "warn")
    assert told["gamma"].text.startswith(seen)
    assert told["websocket"].text.endswith("connects; no token to ask for")


def test_feed_that_connects_and_says_nothing_is_no_feed(ill, monkeypatch):
    monkeypatch.setattr(outside, "FRAME_SECONDS", 0.3)
    ill.fault("no_snapshot")
    ill.hold()
    try:
        told = seen_of("websocket")["websocket"]
    finally:
        ill.hold(False)

    assert (told.state, told.unreachable) == ("fail", True)
    assert told.text.endswith("connects, but sends nothing within 0.3 s")


def test_feed_that_sends_something_else_is_a_doubt(ill, monkeypatch):
    monkeypatch.setattr(outside, "FRAME_SECONDS", 0.5)
    ill.fault("no_snapshot")
    ill.fault("malformed_frames")

    told = seen_of("websocket")["websocket"]

    assert told.state == "warn"
    assert "sends, but not the book asked for" in told.text


def test_venue_that_takes_no_orders_can_still_be_watched(ill, monkeypatch):
    monkeypatch.setattr(outside.Clob, "ok", lambda self: self.book("1"))
    ill.fault("cancel_only_503", target="/book")

    told = seen_of("clob")["clob"]

    assert told.state == "warn"
    assert "cancel-only mode (503)" in told.text


def test_clock_of_the_venue_is_compared(ill):
    ill.fault("clock_skew")

    told = seen_of("clock_venue")["clock_venue"]

    assert (told.state, told.unreachable) == ("fail", False)
    ahead = float(told.text.removeprefix("the venue's clock is ").split()[0])
    assert ahead == pytest.approx(90, abs=2)


def test_database_that_refuses_is_the_one_thing_that_failed(tmp_path):
    port = free_port()
    env = settings_for(tmp_path, DATABASE_URL=f"postgres://mpx:hidden@127.0.0.1:{port}/mpx")

    told = run(env)

    assert told.code == 3
    failed = [name for name, row in told.checks.items() if row["state"] == "fail"]
    assert failed == ["database"]
    assert f"127.0.0.1:{port}/mpx" in told.checks["database"]["seen"]
    assert "refused" in told.checks["database"]["seen"]
    assert "hidden" not in json.dumps(told.checks)
    assert told.checks["rules"]["seen"] == "not known: the database cannot be reached"


def test_database_that_does_not_exist_is_said_so(tmp_path, postgres_url):
    env = settings_for(tmp_path, DATABASE_URL=postgres_url.rsplit("/", 1)[0] + "/nowhere")

    told = run(env, "database", "audit")

    assert told.code == 3
    assert 'database "nowhere" does not exist' in told.checks["database"]["seen"]


def test_database_without_tables_is_not_ready(tmp_path):
    told = run(settings_for(tmp_path), "database", "migrations", "rules")

    assert told.code == 1
    assert told.states("database", "migrations", "rules") == ["ok", "fail", "warn"]
    assert "manage.py migrate" in told.checks["migrations"]["todo"]


def test_postgres_is_told_with_its_version(tmp_path, postgres_url):
    told = run(settings_for(tmp_path, DATABASE_URL=postgres_url), "database", "clock_database")

    assert told.checks["database"]["seen"].startswith("PostgreSQL 15")


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (("--only", "database,tides"), {}, "no tides; there are configuration"),
        ((), {"DATABASE_URL": "mysql://127.0.0.1/x"}, "configuration: DATABASE_URL must be like"),
        ((), {"DATA_SOURCE": "reel"}, "configuration: DATA_SOURCE='reel' must be"),
    ],
)
def test_wrong_call_or_configuration_is_usage(tmp_path, words, env, message):
    done = manage("doctor", *words, env=settings_for(tmp_path, **env))

    assert done.returncode == 2
    assert message in done.stderr


def test_text_says_under_each_problem_what_to_do(tmp_path):
    done = manage("doctor", "--only", "disk,migrations", env=settings_for(tmp_path))

    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok    disk        ")
    assert lines[1].startswith("fail  migrations  ")
    assert lines[2].strip() == "-> Run `manage.py migrate`; `up` does it by itself"
    assert lines[-1] == "1 ok, 0 warnings, 1 failed"


def test_redis_without_workers_and_a_queue_without_worker_are_failures(home, redis_url):
    env = settings_for(home, REDIS_URL=redis_url)

    alone = run(env, "redis", "celery")
    with celery_worker(env, "house"):
        half = run(env, "celery")
    with celery_worker(env, "house,catalogue"):
        whole = run(env, "celery")

    assert (alone.code, half.code, whole.code) == (1, 1, 0)
    assert alone.states("redis", "celery") == ["ok", "fail"]
    assert alone.checks["celery"]["seen"] == "no worker answers"
    assert half.checks["celery"]["seen"] == "nobody serves the queue catalogue"
    assert whole.checks["celery"]["seen"] == "1 answering, serving catalogue, house"


@contextmanager
def celery_worker(env: dict[str, str], queues: str) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "mpx_site", "worker", "-Q", queues,
               "-P", "solo", "-l", "INFO"]  # fmt: skip
    worker = subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert worker.stderr
    try:
        assert any("ready." in line for line in worker.stderr), "the worker did not start"
        yield
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def test_redis_that_is_away_is_unreachable(home):
    port = free_port()

    told = run(
        settings_for(home, REDIS_URL=f"redis://:hidden@127.0.0.1:{port}/0"), "redis", "celery"
    )

    assert told.code == 3
    assert told.checks["redis"]["seen"] == f"127.0.0.1:{port}: the connection was refused"
    assert told.checks["celery"]["state"] == "warn"
    assert "hidden" not in json.dumps(told.checks)


# --- how checks are done -------------------------------------------------------------


def examined(monkeypatch: Any, *checks: Check) -> list[doctor.Result]:
    monkeypatch.setattr(doctor, "CHECKS", checks)
    return doctor.examine([check.name for check in checks])


def test_stuck_check_is_left_behind_and_named(monkeypatch):
    monkeypatch.setattr(doctor, "LIMIT_SECONDS", 0.3)
    stuck = Check("stuck", "machine", lambda: time.sleep(5) or ok("late"))
    begun = time.monotonic()

    first, then, other = examined(
        monkeypatch,
        stuck,
        Check("then", "machine", lambda: ok("never looked at")),
        Check("other", "network", lambda: ok("in time")),
    )

    assert time.monotonic() - begun < 2
    assert (first.seen.state, first.seen.text) == ("fail", "no answer within 0.3 s")
    assert (then.seen.state, then.seen.text) == ("warn", "not known: the check stuck did not end")
    assert other.seen == ok("in time")


def test_stuck_checks_of_the_network_are_waited_for_together(monkeypatch):
    monkeypatch.setattr(doctor, "LIMIT_SECONDS", 0.5)
    begun = time.monotonic()

    results = examined(
        monkeypatch,
        *(Check(name, "network", lambda: time.sleep(5) or ok("")) for name in "abcd"),
    )

    assert time.monotonic() - begun < 1.5
    assert all(result.seen.unreachable for result in results)
    assert doctor.exit_code(results) == 3


def test_mistake_in_a_check_is_its_own_failure(monkeypatch):
    def wrong() -> Seen:
        raise KeyError("bids")

    bad, good = examined(
        monkeypatch, Check("bad", "machine", wrong), Check("good", "machine", lambda: ok("fine"))
    )

    assert bad.seen.text == "the check itself failed: KeyError: 'bids'"
    assert doctor.exit_code([bad, good]) == 1
    assert doctor.exit_code([good]) == 0


def test_every_check_has_a_name_of_its_own():
    assert len(set(doctor.NAMES)) == len(doctor.NAMES) >= 20


# --- words -----------------------------------------------------------------------------


def test_reason_lies_under_the_error():
    def under(cause: Exception) -> Exception:
        error = RuntimeError("outer")
        error.__cause__ = cause
        return error

    assert why_unreachable(under(socket.gaierror(-2, "x"))) == "its name is not found (DNS)"
    assert why_unreachable(under(ConnectionRefusedError())) == "the connection was refused"
    assert why_unreachable(under(TimeoutError())) == "no answer within the time allowed"
    assert "TLS" in why_unreachable(under(ssl.SSLCertVerificationError(1, "bad")))
    assert why_unreachable(ValueError("odd\nmore")) == "odd"


def test_shown_errors_have_one_line_and_no_control_characters():
    assert first_line(ValueError("a\x1b[31mb\nc")) == "a?[31mb"
    assert first_line(ValueError()) == "ValueError"


def test_spans_have_one_unit():
    seconds = (0, 119, 120, 7_200, 172_800)

    assert [span(timedelta(seconds=each)) for each in seconds] == [
        "0 s", "119 s", "2 min", "2 h", "2 days",
    ]  # fmt: skip


# --- this machine ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({}, "ok", "no unsafe setting"),
        ({"DEBUG": True}, "warn", "DEBUG is on"),
        ({"DEBUG": True, "DATA_SOURCE": "real"}, "fail", "DEBUG is on with DATA_SOURCE=real"),
        ({"ADMIN_API_TOKEN": "change-me"}, "fail", "ADMIN_API_TOKEN can be guessed"),
        ({"ADMIN_API_TOKEN": "short"}, "fail", "ADMIN_API_TOKEN can be guessed"),
        ({"ADMIN_API_TOKEN": "x" * 40}, "ok", "no unsafe setting"),
        ({"MPX_SINGLE_OPERATOR": True}, "warn", "one person may propose and approve"),
        ({"ALLOWED_HOSTS": ["*"]}, "warn", "allows every name"),
        ({"POLYMARKET_WS_URL": "ws://venue.example/ws"}, "fail", "POLYMARKET_WS_URL is not enc"),
        ({"POLYMARKET_WS_URL": "ws://127.0.0.1:1/ws"}, "ok", "no unsafe setting"),
    ],
)
def test_unsafe_settings_are_named(settings, tmp_path, changed, state, words):
    settings.BASE_DIR, settings.DEBUG, settings.ALLOWED_HOSTS = tmp_path, False, ["localhost"]
    for name, value in changed.items():
        setattr(settings, name, value)

    seen = inside.safety()

    assert seen.state == state
    assert words in seen.text
    assert settings.ADMIN_API_TOKEN == "" or settings.ADMIN_API_TOKEN not in seen.text


def test_default_password_and_readable_env_are_doubts(settings, monkeypatch, tmp_path):
    settings.BASE_DIR, settings.DEBUG = tmp_path, False
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "mpx_pass")
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0o644)

    seen = inside.safety()

    assert seen.state == "warn"
    assert "default password" in seen.text and ".env" in seen.text


def test_key_that_others_can_read_is_a_doubt(settings, tmp_path):
    settings.MPX_HOME = tmp_path
    path = tmp_path / "secret_key"
    path.write_text(settings.SECRET_KEY)
    path.chmod(0o600)
    assert inside.secret_key().state == "ok"

    path.chmod(0o640)

    assert inside.secret_key().state == "warn"
    assert inside.secret_key().todo == f"chmod 600 {path}"


@pytest.mark.parametrize(
    ("given", "state", "words"),
    [
        ((False, "", ""), "ok", "only written down"),
        ((True, "t", "c"), "ok", "on"),
        ((True, "", "c"), "warn", "without TELEGRAM_BOT_TOKEN"),
        ((True, "", ""), "warn", "without TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID"),
    ],
)
def test_telegram_is_on_whole_or_not_at_all(settings, given, state, words):
    settings.TELEGRAM_ENABLED, settings.TELEGRAM_BOT_TOKEN, settings.TELEGRAM_CHAT_ID = given

    seen = inside.telegram()

    assert seen.state == state and words in seen.text


@pytest.mark.parametrize(("free", "state"), [(5e9, "ok"), (1e9, "warn"), (1e8, "fail")])
def test_disk_warns_before_it_is_full(monkeypatch, free, state):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(inside.shutil, "disk_usage", lambda _: usage)

    assert inside.disk().state == state


@pytest.mark.parametrize(
    ("seconds", "state", "text"),
    [
        (0.5, "ok", "its clock is 0.5 s ahead"),
        (-3, "warn", "its clock is 3.0 s behind"),
        (11, "fail", "its clock is 11.0 s ahead"),
    ],
)
def test_clocks_may_differ_a_little(seconds, state, text):
    seen = inside.clock_seen(timedelta(seconds=seconds), "its clock")

    assert (seen.state, seen.text) == (state, text)


def test_file_that_is_no_recording_cannot_be_a_source(settings, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("hello\n")
    settings.DATA_SOURCE = f"replay:{path}"

    seen = inside.configuration()

    assert seen.state == "fail" and seen.text.startswith("DATA_SOURCE: ")


# --- what runs ---------------------------------------------------------------------------


def beat(component: str, *, ago: timedelta = timedelta(0), **detail: object) -> None:
    journal.beat(component, at=timezone.now() - ago, progress=5, **detail)


@pytest.mark.django_db
@pytest.mark.postgres
def test_living_stream_tells_of_its_books():
    beat("stream", books={"fresh": 3, "stale": 1})

    assert inside.stream() == ok("alive, 3 of 4 books fresh, 5 frames")


@pytest.mark.django_db
def test_stream_is_dead_only_where_the_rest_of_the_desk_lives():
    assert inside.stream().state == "warn"
    beat("stream", ago=LONG)
    stopped = inside.stream()
    beat("worker")
    dead = inside.stream()

    assert (stopped.state, dead.state) == ("warn", "fail")
    assert stopped.text == "last sign of life 31 s ago: the desk is not running"
    assert dead.text == "last sign of life 31 s ago, while worker runs"


@pytest.mark.django_db
def test_desk_says_whether_orders_can_pass():
    assert inside.desk().state == "warn"  # nothing runs

    beat("stream")
    dead = inside.desk()
    beat("desk", working=2)
    well = inside.desk()
    breakers.trip(scope="RULE", subject="DUTCH", reason="odd fills", at=timezone.now())
    broken = inside.desk()
    killswitch.trip(reason="evening", at=timezone.now())
    stopped = inside.desk()

    assert (dead.state, well.state) == ("fail", "ok")
    assert well.text == "alive, 2 orders at work, no switch or breaker is on"
    assert (broken.state, broken.text) == (
        "warn", "circuit breakers stop orders: RULE DUTCH: odd fills",
    )  # fmt: skip
    assert (stopped.state, stopped.text) == ("warn", "the kill switch is on: evening")


@pytest.mark.django_db
def test_worker_is_missing_only_where_the_stream_lives():
    assert inside.worker().state == "warn"
    beat("worker", ago=LONG)
    stopped = inside.worker()
    beat("stream")
    missing = inside.worker()
    beat("worker")

    assert (stopped.state, missing.state) == ("warn", "fail")
    assert inside.worker().state == "ok"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("detail", "state", "words"),
    [
        ({"mode": "verify", "counts": {"agreed": 7}, "error": ""}, "ok", "verify: agreed 7"),
        ({"mode": "verify", "counts": {"drifted": 2}, "error": ""}, "warn", "drifted 2"),
        ({"mode": "ingest", "counts": {}, "error": ""}, "warn", "stands in for the stream"),
        ({"mode": "verify", "counts": {}, "error": "CLOB /books: slow."}, "warn", "CLOB /books"),
    ],
)
def test_poll_tells_what_it_does(settings, detail, state, words):
    settings.DATA_SOURCE = "real"
    beat("poll", **detail)

    seen = inside.poll()

    assert seen.state == state and words in seen.text


@pytest.mark.django_db
def test_poll_that_does_not_run_is_a_doubt(settings):
    settings.DATA_SOURCE = "real"
    assert inside.poll().text == "never ran here"

    beat("poll", ago=LONG, counts={})

    assert inside.poll().text == "last ran 31 s ago"


@pytest.mark.django_db
def test_data_is_judged_by_the_last_frame_not_by_the_beat():
    def ms(ago: float) -> int:
        return int((time.time() - ago) * 1_000)

    assert inside.data().state == "warn"
    beat("stream", last_frame_at=ms(2))
    assert inside.data().state == "ok"

    beat("stream", last_frame_at=ms(100))

    assert inside.data().state == "fail"
    assert inside.data().text == "nothing came for 100 s, though the stream lives"


@pytest.mark.django_db
def test_quarantine_of_the_last_hour_is_told_with_its_worst():
    now = timezone.now()
    row = {"source": "ws", "subject": "7", "first_at": now}
    Quarantine.objects.create(reason="old", count=9, last_at=now - timedelta(hours=2), **row)
    assert inside.quarantine().state == "ok"

    Quarantine.objects.create(reason="drift", count=3, last_at=now, **row)
    Quarantine.objects.create(reason="bad_value", count=1, last_at=now, **row)

    assert inside.quarantine().text == (
        "2 kinds of unusable input in the last hour, most often ws drift 7"
    )


@pytest.mark.django_db
@pytest.mark.postgres
def test_rules_are_there_or_nothing_is_looked_for():
    assert inside.rules().state == "warn"
    publish_missing()
    assert "DUTCH_BOOK_DETECT" in inside.rules().text

    Rule.objects.update(enabled=False)

    assert inside.rules().state == "warn"


@pytest.mark.django_db
@pytest.mark.postgres
def test_watch_list_is_told_against_its_budget(settings):
    settings.DATA_SOURCE, settings.WATCH_TOKENS = "real", 50
    assert inside.watch_list().state == "warn"
    at = timezone.now()
    Event.objects.create(id="1", title="e", seen_at=at)
    Market.objects.create(id="2", event_id="1", condition_id="0x1", question="q", seen_at=at,
                          state="TRADABLE", tick_size="0.01", min_size=5)  # fmt: skip
    for index in (0, 1):
        Outcome.objects.create(token_id=str(index), market_id="2", index=index, label="x")

    assert inside.watch_list() == ok("1 events with 2 of 50 tokens")


@pytest.mark.django_db
def test_catalogue_is_told_by_its_last_whole_pass(settings):
    settings.DATA_SOURCE = "real"
    now = timezone.now()
    assert inside.catalogue().text == "never taken over"
    SyncRun.objects.create(kind="NEWS", started_at=now, ended_at=now)
    assert inside.catalogue().text == "never taken over"

    run = SyncRun.objects.create(kind="FULL", started_at=now, ended_at=now, markets=1_234)
    assert inside.catalogue() == ok("1,234 markets, taken over 0 s ago")
    SyncRun.objects.filter(pk=run.pk).update(error="Gamma /events: slow.\nmore")
    assert inside.catalogue().text == "0 s ago: Gamma /events: slow."
    SyncRun.objects.filter(pk=run.pk).update(error="", started_at=now - timedelta(hours=3))

    assert inside.catalogue().state == "warn"


@pytest.mark.django_db
@pytest.mark.postgres
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: forger.change(2, actor="x"), "entry 2 was changed"),
        (lambda: forger.remove(2), "entry 3 does not continue"),
        (lambda: forger.remove(1), "it begins with entry 2"),
    ],
)
def test_audit_chain_that_was_bent_fails(transactional_db, spoil, words):
    with transaction.atomic():
        for number in range(3):
            journal.record(kind="a.b", subject=f"s:{number}", data={}, at=timezone.now())
    assert inside.audit() == ok("the last 3 links hold")

    spoil()

    seen = inside.audit()
    assert seen.state == "fail" and words in seen.text


@pytest.mark.django_db
def test_only_the_newest_links_are_looked_at(monkeypatch):
    with transaction.atomic():
        for number in range(5):
            journal.record(kind="a.b", subject=f"s:{number}", data={}, at=timezone.now())
    monkeypatch.setattr(inside, "LINKS", 3)

    forger.change(1, actor="x")

    assert inside.audit() == ok("the last 3 links hold")


@pytest.mark.django_db
@pytest.mark.postgres
def test_what_must_always_hold_is_asked_too():
    assert inside.broken_invariants() == ok("all hold")


def test_what_is_not_used_is_well(settings):
    settings.DATA_SOURCE, settings.REDIS_URL = "mock", ""

    looks = (outside.gamma, outside.clob, outside.websocket, inside.poll, inside.catalogue)

    assert {look() for look in looks} == {ok("not used with DATA_SOURCE=mock")}
    assert outside.redis_server() == outside.celery_workers() == ok(outside.NOT_USED)
