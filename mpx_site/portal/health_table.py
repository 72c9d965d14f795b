"""How each part of the desk is, decided by the doctor's checks.

The quick checks are looked at when a page asks, at most every five seconds for all pages
together. Those that ask the network or read a lot are only looked at when somebody wants it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from alerts.watchdog import WATCHDOG
from mpx_site import doctor
from mpx_site.doctor_words import Seen
from mpx_site.health import Remembered
from mpx_site.portal.desk import Desk, Pulse

QUICK_SECONDS = 5.0
# What reads the audit chain's end, every order or tick, and what waits for others.
READS = ("audit", "invariants", "ticks", "timescale")
SLOW = (*READS, *(each.name for each in doctor.CHECKS if each.asks == "network"))
STAFF_ONLY = ("safety", "secret_key")  # what they find is nobody else's to know
STATES = {"ok": "ok", "warn": "degraded", "fail": "down"}
# Per state: how it looks, its sign.
LOOKS = {"ok": ("ok", "●"), "degraded": ("late", "◐"), "down": ("stale", "■"),
         "no data": ("none", "□")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the desk: the check that judges it, its heartbeat, and how that is decided.

    `anchor` is its entry in the runbook, empty where the check's own words are enough.
    """

    name: str
    check: str
    decided: str
    beat: str = ""
    anchor: str = ""


COMPONENTS = (
    Component(
        "Market data",
        "data",
        "Age of the last frame: ok under 10 s, degraded under 30 s, then down.",
        anchor="markets-stale",
    ),
    Component(
        "Stream",
        "stream",
        "Its heartbeat: down when over 20 s old while other parts of the desk run.",
        beat="stream",
        anchor="stream-dead",
    ),
    Component(
        "Paper venue",
        "desk",
        "Its heartbeat, and that neither the kill switch nor a breaker stops orders.",
        beat="desk",
        anchor="execution-rejected",
    ),
    Component(
        "REST poll",
        "poll",
        "Its heartbeat and last answer: degraded when it finds drift or stands in for the stream.",
        beat="poll",
        anchor="drift",
    ),
    Component(
        "Scheduled jobs",
        "worker",
        "Their heartbeat: down when over 20 s old while the stream runs.",
        beat="worker",
        anchor="jobs-stopped",
    ),
    Component(
        "Beat",
        "beat",
        "Its heartbeat: down when over 15 s old while another part runs; not used in one process.",
        beat="beat",
        anchor="jobs-stopped",
    ),
    Component(
        "Broker",
        "broker",
        "Redis took what stream or worker wrote within 15 s; not used in one process.",
        beat="broker",
        anchor="jobs-stopped",
    ),
    Component(
        "Pulse",
        "pulse",
        "Our own mispricing came through within 30 s; degraded when it took over 5 s.",
        beat="pulse",
        anchor="stream-dead",
    ),
    Component(
        "Rules",
        "rules",
        "At least one is switched on, and the text of each can be read.",
        anchor="no-signals",
    ),
    Component(
        "Alerts",
        "alerts",
        "Degraded when alerts failed; down when Telegram has stopped or one waits over 2 min.",
        anchor="telegram-silent",
    ),
    Component(
        "Telegram",
        "telegram",
        "Off, or on with all that it takes.",
        anchor="telegram-silent",
    ),
    Component(
        "Telegram bot",
        "telegram_bot",
        "Its heartbeat: down when over 30 s old while another part runs, or off.",
        beat="telegram_bot",
    ),
    Component(
        "Input",
        "quarantine",
        "Degraded when something could not be used in the last hour.",
        anchor="input-unusable",
    ),
    Component("Catalogue", "catalogue", "Taken over within two hours, without an error."),
    Component("Watch list", "watch", "Something is watched, within the budget of tokens."),
    Component(
        "Database",
        "database",
        "It answers, and is of a version that MPX knows.",
        anchor="database-slow",
    ),
    Component("Tables", "migrations", "All migrations of this release are applied."),
    Component("Clock", "clock_database", "Within 2 s of the database's clock; down from 10 s on."),
    Component(
        "Clock of the stream",
        "clock_stream",
        "Within 2 s of the database's clock, as the stream saw it; down from 10 s on.",
    ),
    Component("Disk", "disk", "Degraded under 2 GB free, down under 0.2 GB.", anchor="disk-full"),
    Component("Configuration", "configuration", "What is set can be used."),
    Component("Safety", "safety", "Down for a setting that no desk should have."),
    Component("Secret key", "secret_key", "Only its owner can read its file."),
    Component("Versions", "versions", "What runs here."),
)
ON_DEMAND = (
    Component("Gamma", "gamma", "Answers within 4 s and lists something."),
    Component("CLOB", "clob", "Answers within 4 s that it is well."),
    Component("Venue's clock", "clock_venue", "Within 2 s of ours; down from 10 s on."),
    Component("WebSocket", "websocket", "Connects and sends the book of a token.",
              anchor="markets-stale"),
    Component("Redis", "redis", "Answers, and never drops what is queued."),
    Component("Room for ticks", "ticks", "What they take now, and with all days kept."),
    Component("TimescaleDB", "timescale", "Used as it could be, and its jobs are done."),
    Component("Workers", "celery", "All queues are served.", anchor="jobs-stopped"),
    Component("Audit chain", "audit", "The last 10,000 links hold.", anchor="audit-broken"),
    Component("Invariants", "invariants", "What must always hold of orders and fills does.",
              anchor="invariant-broken"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """How a component is now. `state` is ok, degraded, down or no data."""

    component: Component
    state: str
    seen: Seen | None
    pulse: Pulse | None

    @property
    def look(self) -> tuple[str, str]:
        return LOOKS[self.state]


def table(desk: Desk, *, staff: bool) -> tuple[Row, ...]:
    """Return the rows of what is quickly looked at; to others than staff without what is theirs."""
    found = quick()
    pulses = {pulse.component: pulse for pulse in desk.pulses} | {"data": desk.data}
    known = {WATCHDOG, *(each.beat for each in COMPONENTS)}
    rows = [
        _row(each, found.get(each.check), pulses.get(each.beat or each.check))
        for each in COMPONENTS
        if staff or each.check not in STAFF_ONLY
    ]
    others = (pulse for name, pulse in pulses.items() if name not in known and name != "data")
    return (*rows, *map(_other, others))


def _row(component: Component, seen: Seen | None, pulse: Pulse | None) -> Row:
    silent = component.beat and (pulse is None or pulse.at is None)
    if seen is None or (silent and seen.state == "warn"):
        return Row(component, "no data", seen, pulse)
    return Row(component, STATES[seen.state], seen, pulse)


def _other(pulse: Pulse) -> Row:
    """A program that beats and that no check knows: it is shown, and not judged."""
    unjudged = Component(pulse.component.capitalize(), "", "Not judged: it runs when it has work.")
    return Row(unjudged, "ok", None, pulse)


# --- looking -------------------------------------------------------------------------


def _look() -> Mapping[str, Seen]:
    checks = (each for each in doctor.CHECKS if each.name not in SLOW)
    return {check.name: doctor.looked(check.look) for check in checks}


_quick = Remembered(_look, seconds=QUICK_SECONDS)


def quick() -> Mapping[str, Seen]:
    """Return what the quick checks saw within the last seconds."""
    return _quick.get()


def forget() -> None:
    """Look anew the next time: after something was done, and in tests."""
    _quick.forget()
    on_demand.last = None


@dataclass(frozen=True, slots=True)
class Examined:
    """What the slow checks saw when somebody last wanted to know."""

    at: datetime
    seen: Mapping[str, Seen]


class OnDemand:
    """The slow checks; who asks while they run waits for their answer and shares it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.last: Examined | None = None

    def examine(self, names: Iterable[str] = SLOW) -> Examined:
        asked = timezone.now()
        with self._lock:
            if self.last is None or self.last.at < asked:
                results = doctor.examine(names)
                self.last = Examined(timezone.now(), {each.name: each.seen for each in results})
            return self.last

    def rows(self) -> tuple[Row, ...]:
        seen = self.last.seen if self.last else {}
        return tuple(_row(each, seen.get(each.check), None) for each in ON_DEMAND)


on_demand = OnDemand()
