"""The state of the desk that every page shows: modes, age of data, figures, health."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from alerts import feedlog, voices
from alerts.feedlog import Place
from alerts.models import Heartbeat, OutboxEntry
from alerts.watchdog import runs_always
from execution.models import OrderIntent
from markets.models import Quarantine
from mpx_site.portal.pictures import Bar, bars
from risk import killswitch
from risk.checks import Kill
from rules.load import enabled_definitions
from signals.models import Signal

STREAM = "stream"
FRESH_SECONDS = 10
LATE_SECONDS = 30
SLOW_BEATS = {"pulse": 20}  # it comes every 15 s
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last sign of life of a component, judged at one moment.

    `at` is None if there never was one. `state` is `ok`, `late`, `stale` or `none`.
    """

    component: str
    at: datetime | None
    age_seconds: float | None
    progress: int = 0
    detail: dict[str, object] = field(default_factory=dict)

    @property
    def state(self) -> str:
        if self.age_seconds is None:
            return "none"
        if self.age_seconds < SLOW_BEATS.get(self.component, FRESH_SECONDS):
            return "ok"
        return "late" if self.age_seconds < LATE_SECONDS else "stale"

    @property
    def trusted(self) -> bool:
        """Say whether prices may be shown as current."""
        return self.state in ("ok", "late")


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers of the KPI cards."""

    open_by_level: dict[str, int]
    p1_by_hour: tuple[int, ...]  # of the last 24 hours, oldest first
    best: Signal | None
    rules: tuple[str, ...]

    @property
    def open_total(self) -> int:
        return sum(self.open_by_level.values())

    @property
    def p1_day(self) -> int:
        return sum(self.p1_by_hour)

    @property
    def p1_bars(self) -> tuple[Bar, ...]:
        return bars(self.p1_by_hour)


@dataclass(frozen=True, slots=True)
class Troubles:
    """What waits for a person: unusable input of a day, alerts not yet told."""

    quarantined: int
    outbox_pending: int
    outbox_failed: int
    outbox_oldest: datetime | None
    alerts_go_out: bool


class Desk:
    """Modes and heartbeats at one moment; nothing is asked of the database before it is used."""

    def __init__(self, *, at: datetime) -> None:
        self.at = at
        self.source, _, recording = str(settings.DATA_SOURCE).partition(":")
        self.recording = Path(recording).name
        self.execution = "paper"
        self.single_operator: bool = settings.MPX_SINGLE_OPERATOR
        self.debug = settings.DEBUG

    @cached_property
    def pulses(self) -> tuple[Pulse, ...]:
        """Return the stream first, even if it never beat, then the others by name."""
        beats = {beat.component: beat for beat in Heartbeat.objects.order_by("component")}
        names = [STREAM, *(name for name in beats if name != STREAM)]
        return tuple(self._pulse(name, beats.get(name)) for name in names)

    @property
    def parts(self) -> tuple[Pulse, ...]:
        """Return the pulses of what runs all the time: of the others the age says nothing."""
        return tuple(each for each in self.pulses if runs_always(each.component))

    @cached_property
    def data(self) -> Pulse:
        """Return how old what we know of the venue is: its last frame, not just a beat.

        A replayed frame carries the time of its recording, so there the beat counts.
        """
        stream = self.pulses[0]
        if stream.at is None or self.source == "replay":
            return stream
        frame_at = last_frame_at(stream)
        if frame_at is None:
            return Pulse(STREAM, None, None)
        return Pulse("data", frame_at, self._age(min(frame_at, stream.at)))

    @cached_property
    def kill(self) -> Kill:
        return killswitch.status()

    @cached_property
    def waiting(self) -> int:
        """Return how many suggestions wait for their approval and still may have it."""
        return OrderIntent.objects.waiting().filter(expires_at__gt=self.at).count()

    def _pulse(self, component: str, beat: Heartbeat | None) -> Pulse:
        if beat is None:
            return Pulse(component, None, None)
        return Pulse(component, beat.at, self._age(beat.at), beat.progress, dict(beat.detail))

    def _age(self, then: datetime) -> float:
        return max((self.at - then).total_seconds(), 0.0)


def last_frame_at(stream: Pulse) -> datetime | None:
    """Return when the stream last received a frame; None before the first one."""
    told = stream.detail.get("last_frame_at", 0)
    if not isinstance(told, int | float):
        return stream.at
    return datetime.fromtimestamp(told / 1_000, UTC) if told > 0 else None


def badges(request: HttpRequest) -> dict[str, object]:
    """Give every template the desk (context processor)."""
    return {"desk": Desk(at=timezone.now())}


def figures(*, at: datetime) -> Figures:
    """Count what is open row by row: it is little, and SQLite would read all there ever was."""
    rows = Signal.objects.open().order_by().values_list("level", "edge_bps", "pk")
    levels = Counter(level for level, _, _ in rows)
    best = max(((edge, pk) for level, edge, pk in rows if level == Signal.Level.P1), default=None)
    return Figures(
        open_by_level={level: levels[level] for level in Signal.Level.values},
        p1_by_hour=Signal.objects.p1_by_hour(at=at),
        best=None if best is None else Signal.objects.newest().filter(pk=best[1]).first(),
        rules=tuple(rule.definition.code for rule in enabled_definitions()),
    )


def troubles(*, at: datetime) -> Troubles:
    waiting = OutboxEntry.objects.filter(state=OutboxEntry.State.PENDING)
    oldest = waiting.order_by("due_at").values_list("due_at", flat=True).first()
    return Troubles(
        quarantined=Quarantine.objects.filter(last_at__gte=at - DAY).count(),
        outbox_pending=waiting.count(),
        outbox_failed=OutboxEntry.objects.filter(state=OutboxEntry.State.FAILED).count(),
        outbox_oldest=oldest,
        alerts_go_out=bool(voices.set_up()),
    )


def feed_position() -> Place:
    """Return where the feed of signals is: a page read after this misses nothing later."""
    return feedlog.place("signals")
