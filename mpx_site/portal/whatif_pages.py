"""What the what-if pages show: what can be asked, and an answer as tiles, bars and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.conf import settings

from markets.frames import moment, unix_ns
from markets.models import Event, Market
from markets.past.spans import coverage
from mpx_site.portal.rules_views import Line, lines_of
from rules.dsl import RuleError, parse_rule
from rules.load import difference
from rules.models import Rule, RuleVersion
from rules.strict_yaml import Problem
from signals import whatif_runs
from signals.models import Signal
from signals.whatif_models import WhatIfRun

HOURS = (1, 6, 24)
RECENT = 10
MOST_VERSIONS = 20
MOST_RECORDINGS = 50
MOST_SIGNALS = 2_000  # looked at for links
MB = 1024 * 1024

LISTS = (
    ("new", "New", "The candidate tells of these, the current version does not."),
    ("lost", "Lost", "The current version tells of these, the candidate does not."),
    ("changed", "Changed", "Both tell of these, but not the same. Figures: current → candidate."),
)


# --- what can be asked --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hours:
    """A window that may be asked for, and how much of it there really is (None: nothing)."""

    hours: int
    kept: timedelta | None


@dataclass(frozen=True, slots=True)
class RecordingChoice:
    name: str
    megabytes: Decimal
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """What the form says: which candidate, its text if it is one, over which data."""

    text: str
    chosen: str  # "text" or a version's number
    data: str  # the hours, or "recording:NAME"


@dataclass(frozen=True, slots=True)
class FormPage:
    rule: Rule
    versions: Sequence[RuleVersion]
    hours: tuple[Hours, ...]
    recordings: tuple[RecordingChoice, ...]
    runs: Sequence[WhatIfRun]
    sent: Sent
    problems: tuple[Problem, ...] = ()
    refusal: str = ""

    @property
    def anything(self) -> bool:
        """Say whether there is anything to compare over."""
        return bool(self.recordings) or any(each.kept for each in self.hours)


def form_page(
    rule: Rule,
    *,
    at: datetime,
    sent: Sent | None = None,
    chosen: str = "text",
    problems: tuple[Problem, ...] = (),
    refusal: str = "",
) -> FormPage:
    """`sent` is what was sent before; else the current version's text stands there to edit."""
    hours = kept_hours(at)
    recordings = tuple(recording_choices())
    first = next((str(each.hours) for each in hours if each.kept), "")
    fallback = f"recording:{recordings[0].name}" if recordings else ""
    others = rule.versions.newest_first()
    if rule.current:
        others = others.exclude(pk=rule.current.pk)
    return FormPage(
        rule=rule,
        versions=list(others[:MOST_VERSIONS]),
        hours=hours,
        recordings=recordings,
        runs=list(WhatIfRun.objects.newest().filter(rule=rule).defer("result")[:RECENT]),
        sent=sent or Sent(rule.current.source if rule.current else "", chosen, first or fallback),
        problems=problems,
        refusal=refusal,
    )


def kept_hours(at: datetime) -> tuple[Hours, ...]:
    """Return the windows that may be asked for, with what is kept of each."""
    return tuple(_hours(each, at) for each in HOURS)


def _hours(hours: int, at: datetime) -> Hours:
    since = unix_ns(at - timedelta(hours=hours))
    found = coverage(settings.MPX_KEEP_DIR, since=since)
    return Hours(hours, timedelta(microseconds=found.covered // 1_000) if found else None)


def recording_choices() -> Iterator[RecordingChoice]:
    """Yield the newest recordings that may be read, for a form."""
    for path in whatif_runs.recordings(settings.MPX_RECORDINGS)[:MOST_RECORDINGS]:
        yield RecordingChoice(path.name, megabytes(path), moment(path.stat().st_mtime_ns))


def megabytes(path: Path) -> Decimal:
    return (Decimal(path.stat().st_size) / MB).quantize(Decimal("0.1"))


# --- an answer ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bin: counts of both versions, and the widths of their bars (0 to 100)."""

    label: str
    live: int
    candidate: int
    live_width: float
    candidate_width: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One episode of one version, with what is known of it in the database."""

    level: str
    kind: str
    title: str
    signal_key: str  # "" where the desk never stored such a signal
    market_id: str  # "" where it is not listed
    opened_at: datetime
    lived: timedelta
    edge_bps: Decimal
    profit: Decimal
    strength: Decimal
    alert: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list: the episode as the candidate has it, and as it was before if it changed."""

    seen: Seen
    before: Seen | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    left_out: int

    @property
    def total(self) -> int:
        return len(self.rows) + self.left_out


@dataclass(frozen=True, slots=True)
class Answer:
    first_at: datetime
    last_at: datetime
    covered: timedelta | None  # of the window that was asked for; None for a recording
    observes: bool
    live: dict[str, Any] | None
    candidate: dict[str, Any]
    counts: dict[str, int]
    alerts_more: int
    notes: tuple[str, ...]
    edge: tuple[BarRow, ...]
    lifetime: tuple[BarRow, ...]
    lists: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class RunPage:
    run: WhatIfRun
    answer: Answer | None
    difference: tuple[Line, ...]  # from the current version to the candidate
    before: int  # how many wait before it


def run_page(rule: Rule, run_id: int) -> RunPage:
    """Raise `WhatIfRun.DoesNotExist` for one that is not there, or is of another rule."""
    runs = WhatIfRun.objects.select_related("rule", "asked_by", "live_version", "candidate_version")
    run = runs.get(pk=run_id, rule=rule)
    return RunPage(
        run=run,
        answer=answer_of(run) if run.result else None,
        difference=_difference(run),
        before=before(run),
    )


def _difference(run: WhatIfRun) -> tuple[Line, ...]:
    """Compare what both mean; empty where there is no other version, or no readable candidate."""
    if run.live_version is None:
        return ()
    try:
        candidate = parse_rule(run.candidate_source, source=run.candidate)
    except RuleError:
        return ()
    return lines_of(difference(run.live_version, candidate))


def before(run: WhatIfRun) -> int:
    """Return how many are to be answered before one that waits."""
    if run.state != WhatIfRun.State.WAITING:
        return 0
    return WhatIfRun.objects.unfinished().filter(asked_at__lt=run.asked_at).count()


def answer_of(run: WhatIfRun) -> Answer:
    row: dict[str, Any] = run.result or {}
    known = _Known(run.rule, row)
    live_alerts = row["live"]["alerts"] if row["live"] else 0
    stored = row.get("kept")
    return Answer(
        first_at=moment(row["first_at"]),
        last_at=moment(row["last_at"]),
        covered=timedelta(microseconds=stored["covered_ns"] // 1_000) if stored else None,
        observes=row["measure"] == "strength",
        live=row["live"],
        candidate=row["candidate"],
        counts=row["counts"],
        alerts_more=row["candidate"]["alerts"] - live_alerts,
        notes=tuple(row["notes"]),
        edge=_bars(row["edge"], _plain),
        lifetime=_bars(row["lifetime"], _span),
        lists=tuple(_listed(known, row[name], name, *words) for name, *words in LISTS),
    )


def _listed(known: _Known, listed: dict[str, Any], name: str, title: str, about: str) -> Listed:
    rows = tuple(known.row(each) for each in listed["rows"])
    return Listed(name, title, about, rows, listed["left_out"])


class _Known:
    """What the database knows of the episodes of an answer, asked in four queries."""

    def __init__(self, rule: Rule, answer: dict[str, Any]) -> None:
        lives = list(_lives(answer))
        self._events = Event.objects.in_bulk({life["event_id"] for life in lives} - {None})
        self._markets = Market.objects.in_bulk({_first_market(life) for life in lives})
        keys = [life["key"] for life in lives]
        stored = Signal.objects.filter(key__in=keys).values_list("key", flat=True)
        self._keys = set(stored)
        self._stored = list(_stored(rule, answer)) if len(self._keys) < len(lives) else []

    def row(self, listed: dict[str, Any]) -> Row:
        if "differs" not in listed:
            return Row(self.seen(listed))
        before, after = self.seen(listed["live"]), self.seen(listed["candidate"])
        return Row(after, before, tuple(name.replace("_", " ") for name in listed["differs"]))

    def seen(self, life: dict[str, Any]) -> Seen:
        event, market = self._events.get(life["event_id"]), self._markets.get(_first_market(life))
        return Seen(
            level=life["level"],
            kind=life["kind"],
            title=event.title if event else market.question if market else "",
            signal_key=self._key(life),
            market_id=market.pk if market else "",
            opened_at=moment(life["opened_at"]),
            lived=timedelta(microseconds=life["lived_ns"] // 1_000),
            edge_bps=Decimal(life["peak_edge_bps"]),
            profit=Decimal(life["peak_profit"]),
            strength=Decimal(life["strength"]),
            alert=life["alert"],
            why=life["why"],
        )

    def _key(self, life: dict[str, Any]) -> str:
        """Return the key of the desk's own signal: the very same, or one at that place and time.

        An episode that was open when the data begin has another first sight, so another key.
        """
        if life["key"] in self._keys:
            return str(life["key"])
        opened = moment(life["opened_at"])
        closed = opened + timedelta(microseconds=life["lived_ns"] // 1_000)
        same = (
            each.key
            for each in self._stored
            if _same_place(each, life)
            and each.opened_at <= closed
            and (each.closed_at is None or each.closed_at >= opened)
        )
        return next(same, "")


def _first_market(life: dict[str, Any]) -> str:
    return str(next(iter(life["market_ids"]), ""))


def _same_place(signal: Signal, life: dict[str, Any]) -> bool:
    if signal.kind != life["kind"]:
        return False
    if signal.kind.endswith("_basket") and signal.event_id:
        return bool(signal.event_id == life["event_id"])
    return bool(signal.market_ids == life["market_ids"])


def _lives(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("new", "lost"):
        yield from answer[name]["rows"]
    for pair in answer["changed"]["rows"]:
        yield from (pair["live"], pair["candidate"])


def _stored(rule: Rule, answer: dict[str, Any]) -> Iterable[Signal]:
    """Return the rule's own signals of the answer's time, newest first."""
    return (
        Signal.objects.filter(
            rule=rule,
            opened_at__lte=moment(answer["last_at"]),
            changed_at__gte=moment(answer["first_at"]),
        )
        .only("key", "kind", "event_id", "market_ids", "opened_at", "closed_at")
        .order_by("-opened_at", "-id")[:MOST_SIGNALS]
    )


# --- bars ---------------------------------------------------------------------------------


def _bars(bins: dict[str, Any], words: Callable[[Decimal], str]) -> tuple[BarRow, ...]:
    """Return the bins from the first to the last that anything lies in; none if nothing does."""
    live, candidate = bins["live"], bins["candidate"]
    used = [n for n, pair in enumerate(zip(live, candidate, strict=True)) if any(pair)]
    if not used:
        return ()
    labels, most = _labels(list(map(Decimal, bins["edges"])), words), max(*live, *candidate)
    return tuple(
        BarRow(
            labels[n],
            live[n],
            candidate[n],
            round(live[n] / most * 100, 1),
            round(candidate[n] / most * 100, 1),
        )
        for n in range(used[0], used[-1] + 1)
    )


def bin_labels(edges: Sequence[str], *, seconds: bool) -> list[str]:
    """Name the bins between edges (text), as spans of time or as plain numbers."""
    return _labels(list(map(Decimal, edges)), _span if seconds else _plain)


def _labels(edges: Sequence[Decimal], words: Callable[[Decimal], str]) -> list[str]:
    between = [f"{words(low)} to {words(high)}" for low, high in pairwise(edges)]
    return [f"below {words(edges[0])}", *between, f"from {words(edges[-1])}"]


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():,f}"


def _span(seconds: Decimal) -> str:
    for size, unit in ((3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1_000:.0f} ms"
