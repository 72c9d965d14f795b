"""The doctor's checks of this machine and of what the database knows.

Those that ask the database let its errors through: `mpx_site.doctor` has the words for them.
"""

from __future__ import annotations

import platform
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.utils import timezone

from alerts import journal, voices
from alerts.models import AuditEntry, Heartbeat
from alerts.shared_beats import missed_parts
from execution.invariants import invariants
from markets import watch
from markets.models import Quarantine, SyncRun
from markets.recording import NotARecording
from mpx_site.doctor_words import Seen, fail, first_line, ok, span, warn
from mpx_site.health import unapplied_migrations
from mpx_site.portal.desk import Desk, last_frame_at
from risk import killswitch
from risk.models import Breaker
from rules.load import enabled_definitions
from signals.running import check_source

GB = 10**9
DISK_LOW, DISK_OUT = 2 * GB, GB // 5
CLOCK_WARN, CLOCK_FAIL = timedelta(seconds=2), timedelta(seconds=10)
DEAD_AFTER = timedelta(seconds=20)
POLL_DEAD_AFTER = timedelta(seconds=30)  # a pass over many books takes a while
SYNC_OLD = timedelta(hours=2)
LINKS = 10_000  # of the audit chain, from its end
OLDEST_POSTGRES = 14
DEFAULT_SECRETS = {"change-me", "changeme", "secret", "admin", "password", "token", "test"}
DEFAULT_PASSWORDS = {"mpx_pass", "mpx", "postgres", "password", "changeme", "change-me"}
SHORT_TOKEN = 16
START = "Start `manage.py up`, or the processes of a larger desk"


# --- this machine ----------------------------------------------------------


def configuration() -> Seen:
    """What was read; values that cannot be used stop every command before this."""
    try:
        check_source(settings.DATA_SOURCE)
    except (ImproperlyConfigured, NotARecording, OSError) as error:
        return fail(f"DATA_SOURCE: {first_line(error)}", "Set DATA_SOURCE to what can be read")
    told = f"DATA_SOURCE={settings.DATA_SOURCE}, SERVICE_ROLE={settings.SERVICE_ROLE}"
    if settings.DATA_SOURCE == "real":
        hosts = [urlsplit(url).netloc for url in _venue_urls().values()]
        told += f", venue at {', '.join(dict.fromkeys(hosts))}"
    return ok(told)


def versions() -> Seen:
    packages = ", ".join(f"{name} {version(name)}" for name in ("django", "celery", "channels"))
    return ok(f"Python {platform.python_version()}, {packages}")


def secret_key() -> Seen:
    path = Path(settings.MPX_HOME) / "secret_key"
    if not path.is_file() or path.read_text().strip() != settings.SECRET_KEY:
        return ok("from the environment")
    if _others_can_read(path):
        return warn("others on this machine can read its file", f"chmod 600 {path}")
    return ok("made by the first start, only its owner can read it")


def safety() -> Seen:
    """Settings that are fine for a trial and not for a desk."""
    dangers = list(_dangers())
    if dangers:
        return fail("; ".join(dangers), "Set other values before anybody relies on this desk")
    doubts = list(_doubts())
    if doubts:
        return warn("; ".join(doubts), "Fine for a trial; change it for a desk of several people")
    return ok("no unsafe setting")


def _dangers() -> Iterator[str]:
    token = settings.ADMIN_API_TOKEN
    if settings.DEBUG and settings.DATA_SOURCE == "real":
        yield "DEBUG is on with DATA_SOURCE=real"
    if token and (token.lower() in DEFAULT_SECRETS or len(token) < SHORT_TOKEN):
        yield f"ADMIN_API_TOKEN can be guessed (under {SHORT_TOKEN} characters, or a default)"
    for key, url in _venue_urls().items():
        parts = urlsplit(url)
        if parts.scheme in ("http", "ws") and not _is_loopback(parts.hostname or ""):
            yield f"{key} is not encrypted"


def _doubts() -> Iterator[str]:
    if settings.DEBUG:
        yield "DEBUG is on"
    if settings.MPX_SINGLE_OPERATOR:
        yield "MPX_SINGLE_OPERATOR is on: one person may propose and approve"
    if "*" in settings.ALLOWED_HOSTS:
        yield "ALLOWED_HOSTS allows every name"
    if settings.DATABASES["default"].get("PASSWORD") in DEFAULT_PASSWORDS:
        yield "the database has a default password"
    if _others_can_read(settings.BASE_DIR / ".env"):
        yield "others on this machine can read .env"


def _venue_urls() -> dict[str, str]:
    keys = ("POLYMARKET_GAMMA_URL", "POLYMARKET_CLOB_URL", "POLYMARKET_WS_URL")
    return {key: getattr(settings, key) for key in keys}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _others_can_read(path: Path) -> bool:
    return path.is_file() and bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def telegram() -> Seen:
    missing = voices.lacking()
    if not settings.TELEGRAM_ENABLED:
        others = " and ".join(map(voices.label, voices.set_up()))
        return ok(f"off: told by {others}" if others else "off: alerts are only written down")
    if missing:
        return warn(f"on, but without {' and '.join(missing)}", f"Set {' and '.join(missing)}")
    return ok("on")


def disk() -> Seen:
    home = Path(settings.MPX_HOME)
    free = shutil.disk_usage(home).free
    told = f"{free / GB:,.1f} GB free for MPX_HOME"
    todo = "Make room; TICKS_KEPT_DAYS says how long history is kept"
    if free < DISK_OUT:
        return fail(told, todo)
    return warn(told, todo) if free < DISK_LOW else ok(told)


# --- the database ----------------------------------------------------------


def database() -> Seen:
    try:
        connection.ensure_connection()
    except (DatabaseError, ImproperlyConfigured) as error:
        todo = "Check DATABASE_URL or POSTGRES_*, and that the server runs and lets you in"
        return fail(f"{_place()}: {first_line(error)}", todo, unreachable=True)
    return _sqlite() if connection.vendor == "sqlite" else _postgres()


def _place() -> str:
    """Name the database without its password."""
    conf = settings.DATABASES["default"]
    if conf["ENGINE"].endswith("sqlite3"):
        return f"SQLite {conf['NAME']}"
    return f"PostgreSQL {conf.get('HOST') or 'here'}:{conf.get('PORT') or 5432}/{conf['NAME']}"


def _sqlite() -> Seen:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sqlite_version()")
        number = cursor.fetchone()[0]
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
    told = f"SQLite {number}, {mode.upper()}"
    if mode != "wal":
        return warn(told, "Keep the file on a local disk: without WAL readers and writers block")
    return ok(told)


def _postgres() -> Seen:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        number = str(cursor.fetchone()[0])
    if int(number.split(".")[0]) < OLDEST_POSTGRES:
        return warn(f"PostgreSQL {number}", f"Use PostgreSQL {OLDEST_POSTGRES} or newer")
    return ok(f"PostgreSQL {number.split()[0]} at {_place().split(' ', 1)[1]}")


def has_no_tables() -> bool:
    """Say whether this database was never used by MPX."""
    return "django_migrations" not in connection.introspection.table_names()


def migrations() -> Seen:
    missing = unapplied_migrations()
    if missing is None:
        return fail("they cannot be read", "See the check: database", unreachable=True)
    if missing:
        return fail(f"{missing} not applied", "Run `manage.py migrate`; `up` does it by itself")
    return ok("all applied")


def clock_database() -> Seen:
    if connection.vendor != "postgresql":
        return ok("the database is in this process")
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    after = timezone.now()
    return clock_seen(theirs - (before + (after - before) / 2), "the database's clock")


def clock_seen(ahead: timedelta, whose: str) -> Seen:
    """Judge a difference of clocks; `ahead` is theirs minus ours."""
    side = "ahead" if ahead > timedelta() else "behind"
    told = f"{whose} is {abs(ahead.total_seconds()):.1f} s {side}"
    todo = "Let both machines keep time (NTP): ages and leases are judged by it"
    if abs(ahead) > CLOCK_FAIL:
        return fail(told, todo)
    return warn(told, todo) if abs(ahead) > CLOCK_WARN else ok(told)


# --- what runs -------------------------------------------------------------


def rules() -> Seen:
    running = enabled_definitions()
    if not running:
        todo = "Run `manage.py rules load`, or switch one on in the admin; `up` loads what ships"
        return warn("no rule is published and switched on, so nothing is looked for", todo)
    problems = [f"{rule.definition.code}: {rule.problem}" for rule in running if rule.problem]
    if problems:
        return warn("; ".join(problems), "Publish a text that this release reads")
    return ok(", ".join(rule.definition.code for rule in running))


def stream() -> Seen:
    beat, at = _beat("stream"), timezone.now()
    if beat is None:
        return warn("never ran here", START)
    if beat.age(at) > DEAD_AFTER:
        told = f"last sign of life {span(beat.age(at))} ago"
        if missed := missed_parts("stream", settings.MPX_STREAM_SHARDS, at=at, within=DEAD_AFTER):
            told += f" ({', '.join(missed)})"
        alone = [each.component for each in Heartbeat.objects.order_by("component")
                 if each.age(at) <= DEAD_AFTER]  # fmt: skip
        if alone:  # the desk is up, and this part of it is not
            return fail(f"{told}, while {', '.join(alone)} runs", "Start `manage.py stream`")
        return warn(f"{told}: the desk is not running", START)
    books = beat.detail.get("books", {})
    fresh, kept = books.get("fresh", 0), sum(books.values())
    return ok(f"alive, {fresh:,} of {kept:,} books fresh, {beat.progress:,} frames")


def desk() -> Seen:
    """Whether orders can pass: the paper venue in the stream, kill switch, breakers."""
    beat, stream_beat, at = _beat("desk"), _beat("stream"), timezone.now()
    alive = beat is not None and beat.age(at) <= DEAD_AFTER
    if not alive and stream_beat and stream_beat.age(at) <= DEAD_AFTER:
        todo = "Stop and start the stream; its log says why the desk ended"
        return fail("no sign of life of the paper venue, while the stream runs", todo)
    kill = killswitch.status()
    if kill.tripped:
        return warn(f"the kill switch is on: {kill.reason}", "Find out why; another person re-arms")
    opened = Breaker.objects.exclude(state=Breaker.State.CLOSED).order_by("id")
    if opened:
        told = "; ".join(f"{each.view().name}: {each.reason}" for each in opened[:3])
        return warn(
            f"circuit breakers stop orders: {told}", "See the risk page for when they close"
        )
    if not alive or beat is None:
        return warn("the paper venue is not running", START)
    return ok(f"alive, {beat.detail.get('working', 0)} orders at work, no switch or breaker is on")


def poll() -> Seen:
    if settings.DATA_SOURCE != "real":
        return _no_venue()
    beat, at = _beat("poll"), timezone.now()
    if beat is None or beat.age(at) > POLL_DEAD_AFTER:
        told = "never ran here" if beat is None else f"last ran {span(beat.age(at))} ago"
        return warn(told, "It runs with the scheduled jobs; see the check: worker")
    mode, error = beat.detail.get("mode"), beat.detail.get("error")
    counts = ", ".join(f"{name} {n:,}" for name, n in sorted(beat.detail["counts"].items()) if n)
    if error:
        return warn(f"{mode}: {error}", "See the checks gamma and clob")
    if mode == "ingest":
        todo = "Start `manage.py stream`: polling sees a fraction of what the feed shows"
        return warn(f"stands in for the stream: {counts or 'nothing watched'}", todo)
    if beat.detail["counts"].get("drifted"):
        return warn(f"{mode}: {counts}", "See the quarantine (source poll) for where both differ")
    return ok(f"{mode}: {counts or 'nothing watched'}")


def worker() -> Seen:
    beat, at = _beat("worker"), timezone.now()
    if beat is None:
        return warn("scheduled jobs never ran here", START)
    if beat.age(at) > DEAD_AFTER:
        told = f"scheduled jobs last ran {span(beat.age(at))} ago"
        stream_beat = _beat("stream")
        if stream_beat and stream_beat.age(at) <= DEAD_AFTER:
            return fail(f"{told}, while the stream runs", "Start a Celery worker and beat")
        return warn(told, START)
    return ok(f"scheduled jobs ran {span(beat.age(at))} ago")


def data() -> Seen:
    desk = Desk(at=timezone.now())
    frame_at = last_frame_at(desk.pulses[0])
    if desk.pulses[0].at is None or frame_at is None:
        return warn("no frame was ever received", START)
    if not desk.pulses[0].trusted:
        return warn(f"as old as the stream: {span(desk.at - frame_at)}", "See the check: stream")
    if not desk.data.trusted:
        told = f"nothing came for {span(desk.at - frame_at)}, though the stream lives"
        return fail(told, "See the check: websocket")
    return ok(f"last frame {span(timedelta(seconds=desk.data.age_seconds or 0))} ago")


def quarantine() -> Seen:
    rows = Quarantine.objects.filter(last_at__gte=timezone.now() - timedelta(hours=1))
    kinds = rows.count()
    if not kinds:
        return ok("nothing in the last hour")
    worst = rows.order_by("-count", "id").first()
    example = (
        f", most often {worst.source} {worst.reason} {worst.subject}".rstrip() if worst else ""
    )
    return warn(f"{kinds} kinds of unusable input in the last hour{example}",
                "Look at Quarantine in the admin: each row has a sample")  # fmt: skip


def watch_list() -> Seen:
    if settings.DATA_SOURCE != "real":
        return _no_venue()
    events, budget = watch.watched(), settings.WATCH_TOKENS
    tokens = sum(len(event.markets) for event in events) * watch.TOKENS_EACH
    told = f"{len(events):,} events with {tokens:,} of {budget:,} tokens"
    if not events:
        return warn(told, "Run `manage.py catalogue sync`; then see the watch rules in the admin")
    return ok(told)


def catalogue() -> Seen:
    if settings.DATA_SOURCE != "real":
        return _no_venue()
    run = SyncRun.objects.filter(kind=SyncRun.Kind.FULL).order_by("-started_at", "-id").first()
    if run is None:
        return warn("never taken over", "Run `manage.py catalogue sync`")
    ago = span(timezone.now() - run.started_at)
    if run.error:
        return warn(f"{ago} ago: {first_line(ValueError(run.error))}", "See the check: gamma")
    if timezone.now() - run.started_at > SYNC_OLD:
        return warn(f"last taken over {ago} ago", "See the check: worker")
    if run.ended_at is None:
        return ok(f"under way since {ago}")
    return ok(f"{run.markets:,} markets, taken over {ago} ago")


def audit() -> Seen:
    entries = list(AuditEntry.objects.order_by("-id")[: LINKS + 1])
    for entry, before in pairwise(entries):
        if entry.id != before.id + 1 or entry.previous_hash != before.hash:
            return _broken(f"entry {entry.id} does not continue the one before it")
    if 0 < len(entries) <= LINKS and entries[-1].id != 1:
        return _broken(f"it begins with entry {entries[-1].id}")
    for entry in entries[:LINKS]:
        if entry.hash != journal.link_hash(entry):
            return _broken(f"entry {entry.id} was changed after it was written")
    return ok(f"the last {min(len(entries), LINKS):,} links hold")


def _broken(told: str) -> Seen:
    return fail(told, "Run `manage.py audit verify`; compare with a backup before going on")


def broken_invariants() -> Seen:
    """What must always hold; what breaks only while it is read was being written."""
    first = invariants(timezone.now())
    broken = [each for each in invariants(timezone.now()) if each in first] if first else []
    if not broken:
        return ok("all hold")
    worst = broken[0]
    told = f"{len(broken)} broken, first {worst.rule} of {worst.subject}: {worst.detail}"
    return fail(told, "Stop approving (`manage.py killswitch on`) and find out how it came about")


def _beat(component: str) -> Heartbeat | None:
    return Heartbeat.objects.filter(component=component).first()


def _no_venue() -> Seen:
    return ok(f"not used with DATA_SOURCE={settings.DATA_SOURCE}")
