"""What to do when: symptom, how it is right now, what to run, where to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.urls import reverse

from alerts.models import AuditHead
from execution.models import OrderIntent
from mpx_site.doctor import looked
from mpx_site.doctor_words import Seen, fail, ok, span, warn
from mpx_site.portal import audit_views, health_table
from mpx_site.portal.health_table import LOOKS, STATES
from risk import killswitch
from risk.models import Breaker
from signals.models import Signal

DAY = timedelta(days=1)
QUICK_MS, SLOW_MS = 50, 300
WORST = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to run, and what for. `secret` parts are named, never filled in."""

    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    page: str
    query: str = ""

    @property
    def address(self) -> str:
        return f"{reverse(self.page)}{self.query}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One symptom. `checks` are quick ones of the doctor, `look` is one of its own."""

    anchor: str
    title: str
    symptom: str
    advice: str
    steps: tuple[Step, ...]
    links: tuple[Link, ...]
    checks: tuple[str, ...] = ()
    look: Callable[[datetime], Seen] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An entry with what its checks see right now, the worst of them first."""

    entry: Entry
    seen: tuple[Seen, ...]

    @property
    def state(self) -> str:
        return STATES[self.seen[0].state] if self.seen else "no data"

    @property
    def look(self) -> tuple[str, str]:
        return LOOKS[self.state]


def answers(*, at: datetime) -> tuple[Answer, ...]:
    """Look at everything the entries ask for; what is shared is looked at once."""
    quick = health_table.quick()
    return tuple(Answer(entry, _seen(entry, quick, at)) for entry in ENTRIES)


def _seen(entry: Entry, quick: Mapping[str, Seen], at: datetime) -> tuple[Seen, ...]:
    found = [quick[name] for name in entry.checks]
    look = entry.look
    if look is not None:
        found.insert(0, looked(lambda: look(at)))
    return tuple(sorted(found, key=lambda seen: -WORST.index(seen.state)))


# --- looks of their own --------------------------------------------------------------


def last_signal(at: datetime) -> Seen:
    """How long ago the last signal opened; a calm market is no fault."""
    newest = Signal.objects.order_by("-opened_at", "-id").values_list("opened_at", flat=True)
    opened = newest.first()
    if opened is None:
        return ok("no signal was ever opened here")
    return ok(f"the last signal opened {span(max(at - opened, timedelta(0)))} ago")


def rejections(at: datetime) -> Seen:
    """What was turned down within a day, and the newest reason."""
    rejected = OrderIntent.objects.filter(status="REJECTED", suggested_at__gte=at - DAY)
    count = rejected.count()
    if not count:
        return ok("no order was rejected in 24 h")
    newest = rejected.order_by("-id").values_list("pk", "reason").first()
    number, reason = newest or (0, "")
    told = f"{count:,} rejected in 24 h, last order {number}: {reason}"
    return warn(told, "Its page lists every check with its limit and its value")


def stops(at: datetime) -> Seen:
    """Whether anything stops all orders now."""
    kill = killswitch.status()
    if kill.tripped:
        return fail(f"the kill switch is on: {kill.reason}", "Another person re-arms it")
    opened = Breaker.objects.exclude(state=Breaker.State.CLOSED).count()
    if opened:
        return warn(f"{opened:,} circuit breakers stop orders", "The risk page says until when")
    return ok("the kill switch is off and no breaker is open")


def round_trip(at: datetime) -> Seen:
    """How long the smallest question to the database takes."""
    begun = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    taken = (time.perf_counter() - begun) * 1_000
    told = f"the smallest question takes {taken:,.1f} ms"
    if taken > SLOW_MS:
        return fail(told, "See its load, its disk and who holds locks")
    return warn(told, "See its load and its disk") if taken > QUICK_MS else ok(told)


def chain(at: datetime) -> Seen:
    """What the last verification found, which may be a while ago."""
    last, head = audit_views.memory.last, AuditHead.objects.first()
    length = head.length if head else 0
    if last is None:
        return ok(f"{length:,} entries, not verified since this process started")
    told = f"{last.told}, read {span(max(at - last.at, timedelta(0)))} ago"
    return ok(told) if last.ok else fail(told, "Approve nothing; compare with a backup")


def invariants_seen(at: datetime) -> Seen:
    last = health_table.on_demand.last
    seen = last.seen.get("invariants") if last else None
    return seen or ok("not looked at since this process started")


# --- the entries ---------------------------------------------------------------------

DOCTOR = Step("Look at everything, with what to do", "python manage.py doctor")
HEALTH = Link("Health", "health")
TEST_ALERT = """curl -X POST http://localhost:8080/api/alerts/test \\
  -H 'Content-Type: application/json' -H "X-API-Key: $ADMIN_API_TOKEN" \\
  -d '{"text":"MarketPulse-X"}'"""
SLOW_QUERIES = """SELECT now() - query_start AS runs, state, wait_event_type, left(query, 120)
FROM pg_stat_activity WHERE state <> 'idle' ORDER BY query_start;"""

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "no-signals",
        "No signals",
        "Markets move, but the list of signals stays empty.",
        "Mispricings that pay after fees are rare; a market's page says how far its event is "
        "from paying. If data are fresh and rules run, nothing is wrong.",
        (
            Step(
                "See which rules run, and what keeps others from it", "python manage.py rules list"
            ),
            Step("Publish the rules that ship", "python manage.py rules load"),
            Step("See that frames are evaluated", "curl -s localhost:8080/metrics | grep mpx_rule"),
        ),
        (Link("Rules", "rules"), Link("Markets", "markets"), Link("Scoreboard", "scoreboard")),
        checks=("rules", "data", "stream"),
        look=last_signal,
    ),
    Entry(
        "markets-stale",
        "Markets stale",
        "The data age is red, prices are struck through, nothing can be approved.",
        "Nothing is decided on old data. The stream reconnects and heals by itself; if it does "
        "not within a minute, see whether the venue can be reached from here.",
        (
            Step(
                "See whether the venue answers",
                "python manage.py doctor --only gamma,websocket",
            ),
            Step("Start the stream if it does not run", "python manage.py stream"),
            Step(
                "See when the last tick came",
                "curl -s localhost:8080/metrics | grep mpx_ingest_last_tick_timestamp",
            ),
        ),
        (HEALTH, Link("Markets", "markets")),
        checks=("data", "stream", "poll"),
    ),
    Entry(
        "telegram-silent",
        "Telegram silent",
        "Signals appear here, but nobody is told of them.",
        "Alerts are written in the moment of their signal, whether or not anything sends them; "
        "none is lost by turning sending on later.",
        (
            Step(
                "Set these in .env and start again",
                "TELEGRAM_ENABLED=true\nTELEGRAM_BOT_TOKEN=<token>\nTELEGRAM_CHAT_ID=<chat id>",
            ),
            Step("Send a test message", "python manage.py telegram_test"),
            Step("Or over the API", TEST_ALERT),
            Step("See what the settings lack", "python manage.py doctor --only telegram"),
        ),
        (Link("Alerts", "alerts"), Link("Failed alerts", "alerts", "?state=FAILED")),
        checks=("alerts", "telegram", "worker"),
    ),
    Entry(
        "execution-rejected",
        "Execution rejected",
        "An order was turned down, at once or at its approval.",
        "Every check is on the order's page with its limit and its value, and what to do. Under "
        "/api they are in checks.reasons. Close other orders, or let the limits be changed.",
        (Step("See what limits the environment sets", "grep EXEC_ .env"),),
        (Link("Rejected orders", "intents", "?status=REJECTED"), Link("Limits", "risk")),
        checks=("desk",),
        look=rejections,
    ),
    Entry(
        "kill-switch-on",
        "Kill switch on, or a breaker open",
        "Nothing is approved or filled.",
        "Whoever tripped it said why. Find the cause first; then another person re-arms it. A "
        "breaker closes by itself after its time, with one order on trial.",
        (
            Step("See who tripped it, and why", "python manage.py killswitch status"),
            Step("Stop everything", "python manage.py killswitch on --reason '<why>'"),
            Step(
                "Re-arm it",
                "python manage.py killswitch off --by <account> --reason '<cause>'",
            ),
        ),
        (Link("Risk", "risk"), Link("Who did it", "audit", "?about=killswitch")),
        look=stops,
    ),
    Entry(
        "stream-dead",
        "The stream is dead",
        "The stream's heartbeat is old while other parts run.",
        "Start it again; it takes up its open signals and asks for every book anew. What was "
        "missed meanwhile is shown as a gap and never guessed.",
        (
            Step("Start it", "python manage.py stream"),
            Step("Or everything in one process", "python manage.py up"),
        ),
        (HEALTH, Link("Gaps", "health", "#gaps")),
        checks=("stream", "data"),
    ),
    Entry(
        "jobs-stopped",
        "Scheduled jobs stopped",
        "The worker's heartbeat is old: no sync, no expiry, no delivery.",
        "One process runs the jobs itself; a larger desk has a worker and one beat.",
        (
            Step("Start a worker and beat", "celery -A mpx_site worker --beat -Q house,catalogue"),
            Step("See whether workers answer", "python manage.py doctor --only redis,celery"),
        ),
        (HEALTH,),
        checks=("worker",),
    ),
    Entry(
        "drift",
        "Books drift",
        "Polling finds other books than the stream has.",
        "A book that drifted is not evaluated until its next snapshot, which is asked for at "
        "once. Drift that stays says that the feed's format or its hash has changed.",
        (
            Step("See what differs", "python manage.py doctor --only poll,quarantine"),
            Step(
                "Keep frames to look at",
                "python manage.py record --out drift.jsonl.gz",
            ),
        ),
        (Link("Unusable input", "health", "#input"), HEALTH),
        checks=("poll", "data"),
    ),
    Entry(
        "input-unusable",
        "Input cannot be used",
        "Frames or pages of the venue are put into quarantine.",
        "A few a day are the venue's own mistakes. Many of one reason say that a format changed; "
        "each row keeps a sample.",
        (DOCTOR,),
        (Link("Unusable input", "health", "#input"),),
        checks=("quarantine",),
    ),
    Entry(
        "database-slow",
        "The database is slow",
        "Pages take seconds, heartbeats come late, writes pile up.",
        "Detection does not wait for the database: books and windows are in memory. Make room "
        "first; then see who holds locks.",
        (
            Step("See how it is", "python manage.py doctor --only database,disk,clock_database"),
            Step("PostgreSQL: who runs and waits", SLOW_QUERIES),
        ),
        (HEALTH,),
        checks=("database", "migrations", "clock_database"),
        look=round_trip,
    ),
    Entry(
        "disk-full",
        "The disk is filling",
        "Little room is left for the database and kept frames.",
        "History of ticks is pruned by the schedule; kept frames by their hours and megabytes.",
        (
            Step("Keep less", "TICKS_KEPT_DAYS=3\nMPX_KEEP_HOURS=6\nMPX_KEEP_MB=512"),
            Step("See how much is left", "python manage.py doctor --only disk"),
        ),
        (HEALTH,),
        checks=("disk",),
    ),
    Entry(
        "audit-broken",
        "The audit chain is broken",
        "An entry was changed, or some are missing.",
        "Somebody or something wrote to the database past the desk. Approve nothing, keep a copy "
        "of the database, and compare with a backup from before the named entry.",
        (
            Step("Stop approving", "python manage.py killswitch on --reason 'audit chain'"),
            Step("Read every link", "python manage.py audit verify --json"),
        ),
        (Link("Audit", "audit"),),
        look=chain,
    ),
    Entry(
        "invariant-broken",
        "An invariant is broken",
        "Orders, fills and positions do not add up.",
        "What must always hold does not: that is a fault of the desk. Stop approving, keep the "
        "output, and tell whoever looks after MPX.",
        (
            Step("Stop approving", "python manage.py killswitch on --reason 'invariant'"),
            Step("See which, and of what", "python manage.py invariants --json"),
        ),
        (Link("Looked at on demand", "health", "#demand"), Link("Orders", "intents")),
        look=invariants_seen,
    ),
)


def anchors() -> Iterable[str]:
    """Return the anchors that alerts and pages may point at."""
    return (entry.anchor for entry in ENTRIES)
