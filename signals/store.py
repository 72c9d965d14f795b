"""Signals in the database: each change with its audit, feed and alert rows, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Q

from alerts import journal, threads, trace
from alerts.models import Manner, OutboxEntry
from markets.frames import moment
from markets.models import Event
from rules.models import RuleVersion
from signals.episodes import ChangeKind, SignalChange
from signals.models import Signal, SignalPoint, SignalQuerySet
from signals.scoring import NOT_MEASURED, Said

log = structlog.stdlib.get_logger(__name__)

TOPIC = "signals"
CENT_BPS = Decimal("0.01")
UNLIKELY = "unlikely to fill"
EARLY_OR_P1 = (threads.OBSERVED, threads.P1)


@transaction.atomic
def save(
    changes: Iterable[SignalChange],
    said: Mapping[str, Said] | None = None,
    *,
    stream: str = "",
) -> None:
    """Store changes in their order. Storing a change twice leaves one signal, told once.

    `said` is what models say, by the signals' keys; None where none was asked. `stream` is
    the name of the one that tells them; empty for the poll.
    """
    for change in changes:
        with trace.tracing(change.key):
            _save(change, (said or {}).get(change.key), stream)


def _save(change: SignalChange, said: Said | None, stream: str) -> None:
    signal = _row(change, said, stream)
    if signal is None:
        return
    at = moment(change.at)
    _tell(signal, change.change, at)
    definition = change.rule.definition
    cooldown = definition.dedupe.cooldown_secs
    unlikely = said is not None and said.unlikely
    if change.change == "closed":
        _alert_end(signal, at=at)
    elif signal.level == Signal.Level.P1:
        _alert(signal, at=at, cooldown=cooldown, unlikely=unlikely)
    elif definition.outputs.level_of(change.finding) == Signal.Level.P1 and not unlikely:
        _alert_early(signal, since=at - timedelta(seconds=cooldown), at=at)


def close_lost(*, at: datetime, among: SignalQuerySet | None = None) -> int:
    """Close what a process that died left open, or only those of it; return how many."""
    lost = Signal.objects.open() if among is None else among.open()
    closed = 0
    for signal in lost.select_related("rule", "event").order_by("id"):
        with trace.tracing(signal.key), transaction.atomic():
            moved = (
                Signal.objects.open()
                .filter(pk=signal.pk)
                .update(
                    status=Signal.Status.CLOSED,
                    closed_at=F("changed_at"),
                    close_reason="process_lost",
                )
            )
            if moved:
                signal.refresh_from_db()
                _tell(signal, "closed", at)
                _alert_end(signal, at=at)
                closed += 1
    return closed


def _row(change: SignalChange, said: Said | None, stream: str) -> Signal | None:
    """Insert or move the signal's row; None if it has already come this far."""
    if change.change == "opened":
        return _opened(change, said, stream)
    behind = Signal.objects.open().filter(key=change.key)
    if change.change == "updated":
        seen = {"observations__lt": change.observations, "changed_at__lt": moment(change.at)}
        behind = behind.filter(Q(**seen, _connector=Q.OR))
    signal = behind.select_related("rule", "event").first()
    if signal is None:
        return None
    fields = _facts(change) | _weight(change, said, signal)
    if change.change == "closed":
        fields |= {
            "status": Signal.Status.CLOSED,
            "closed_at": moment(change.at),
            "close_reason": change.why[:40],
        }
    if not behind.filter(pk=signal.pk).update(**fields):
        return None
    for name, value in fields.items():
        setattr(signal, name, value)
    return signal


def _opened(change: SignalChange, said: Said | None, stream: str) -> Signal | None:
    version = RuleVersion.objects.select_related("rule").get(
        rule__code=change.rule.code, sha256=change.rule.sha256
    )
    event_id = change.finding.event_id
    signal, created = Signal.objects.get_or_create(
        key=change.key,
        defaults={
            "rule": version.rule,
            "rule_version": version,
            "event": Event.objects.filter(pk=event_id).first() if event_id else None,
            "market_ids": list(change.finding.market_ids),
            "kind": change.finding.kind,
            "opened_at": moment(change.opened_at),
            "stream": stream,
            **_facts(change),
            **_weight(change, said, None),
        },
    )
    return signal if created else None


def _facts(change: SignalChange) -> dict[str, Any]:
    """Return the columns that every change rewrites."""
    finding = change.finding
    return {
        "level": change.level,
        "verdict": finding.verdict,
        "blocked_by": list(finding.blocked_by),
        "changed_at": moment(change.at),
        "edge_bps": finding.edge_bps.quantize(CENT_BPS),
        "peak_edge_bps": change.peak_edge_bps.quantize(CENT_BPS),
        "profit": finding.profit,
        "peak_profit": change.peak_profit,
        "cost": finding.cost,
        "observations": change.observations,
        "payload": finding.explained(),
    }


def _weight(change: SignalChange, said: Said | None, before: Signal | None) -> dict[str, Any]:
    """Return what models make of a finding; the end of a signal keeps what was said last.

    Without a chance the score is the rule's own. A chance can only lessen it.
    """
    finding = change.finding
    if change.change == "closed" and before is not None:
        said = Said(before.p_fill, before.expected_usd, before.ml_note)
    elif finding.verdict != "EXECUTABLE":
        said = Said(note="")
    said = said or Said(note=NOT_MEASURED)
    expected = finding.profit if said.expected_usd is None else said.expected_usd
    return {
        "edge_score": edge_score(min(expected, finding.profit), finding.cost),
        "p_fill": said.p_fill,
        "expected_usd": said.expected_usd,
        "ml_note": said.note,
    }


def edge_score(profit: Decimal, cost: Decimal) -> Decimal:
    """Return profit over cost, six decimals; 0 for a finding that costs nothing."""
    return (profit / cost).quantize(Decimal("0.000001")) if cost else Decimal(0)


def _tell(signal: Signal, change: ChangeKind, at: datetime) -> None:
    """Write timeline and journal: audit for opening and closing, feed for all."""
    SignalPoint.objects.create(
        signal=signal,
        at=signal.closed_at or at,
        change=change,
        level=signal.level,
        edge_bps=signal.edge_bps,
        profit=signal.profit,
    )
    told = feed_payload(signal)
    _log_stored(signal, change)
    if change == "updated":
        journal.tell(topic=TOPIC, kind=change, payload=told, at=at)
        return
    journal.record(
        kind=f"signal.{change}", subject=f"signal:{signal.key}", data=told, at=at, topic=TOPIC
    )


def _log_stored(signal: Signal, change: ChangeKind) -> None:
    if change != "updated":
        _log(
            f"signal.{change}",
            rule=signal.rule.code,
            signal_level=signal.level,
            verdict=signal.verdict,
        )


def _log(event: str, **fields: object) -> None:
    """Log once it is in the database, under the signal's trace."""
    line = partial(log.info, event, trace_id=trace.current(), **fields)
    transaction.on_commit(line)


def _alert(signal: Signal, *, at: datetime, cooldown: int, unlikely: bool) -> None:
    """Put a P1 into the outbox once; held back if its legs were alerted `cooldown` seconds ago.

    One that is unlikely to fill is held back too, until it is not any more.
    """
    key = alert_key(signal.key)
    told = OutboxEntry.objects.filter(key=key)
    if told.exists():
        if not unlikely:
            waiting = told.filter(state=OutboxEntry.State.SUPPRESSED, reason=UNLIKELY)
            waiting.update(state=OutboxEntry.State.PENDING, reason="", due_at=at)
        return
    _log("alert.queued", key=key)
    journal.alert(
        key=key,
        kind="signal.p1",
        payload=feed_payload(signal),
        at=at,
        held_back=_held_back(signal, since=at - timedelta(seconds=cooldown), unlikely=unlikely),
    )


def _held_back(signal: Signal, *, since: datetime, unlikely: bool) -> str:
    if _alerted_since(signal, since):
        return "cooldown"
    return UNLIKELY if unlikely else ""


def _alert_early(signal: Signal, *, since: datetime, at: datetime) -> None:
    """Tell of what is executable and not yet confirmed, once, where somebody asked for that."""
    kind, thread = threads.OBSERVED, _thread(signal.key)
    if kind not in Manner.asked_for():
        return
    keys = [threads.key_of(each, thread) for each in EARLY_OR_P1]
    if OutboxEntry.objects.filter(key__in=keys).exists():
        return
    held_back = "cooldown" if _alerted_since(signal, since, kinds=EARLY_OR_P1) else ""
    payload = feed_payload(signal)
    key = threads.key_of(kind, thread)
    journal.alert(key=key, kind=kind, payload=payload, at=at, held_back=held_back)


def _alert_end(signal: Signal, *, at: datetime) -> None:
    """Tell where somebody asked for it that what was alerted is over, or never was confirmed."""
    asked, thread = Manner.asked_for(), _thread(signal.key)
    if not asked:
        return
    keys = [threads.key_of(each, thread) for each in EARLY_OR_P1]
    alerted = OutboxEntry.objects.filter(key__in=keys).exclude(state=OutboxEntry.State.SUPPRESSED)
    told = set(alerted.values_list("kind", flat=True))
    kind = threads.CLOSED if threads.P1 in told else threads.UNCONFIRMED
    if told and threads.MANNER_OF.get(kind, kind) in asked:
        key = threads.key_of(kind, thread)
        journal.alert(key=key, kind=kind, payload=feed_payload(signal), at=at)


def _alerted_since(
    signal: Signal, since: datetime, *, kinds: Sequence[str] = (threads.P1,)
) -> bool:
    """Say whether another signal on the same legs was alerted after a time.

    A basket is known by its event, whichever of its legs it buys this time.
    """
    basket = signal.event is not None and signal.kind.endswith("_basket")
    legs = {"event": signal.event} if basket else {"market_ids": signal.market_ids}
    others = Signal.objects.filter(
        **legs, rule=signal.rule, kind=signal.kind, changed_at__gte=since
    ).exclude(pk=signal.pk)
    keys = [
        threads.key_of(kind, _thread(key))
        for key in others.values_list("key", flat=True)
        for kind in kinds
    ]
    alerted = OutboxEntry.objects.filter(key__in=keys, due_at__gt=since)
    return alerted.exclude(state=OutboxEntry.State.SUPPRESSED).exists()


def _thread(signal_key: str) -> str:
    return f"signal:{signal_key}"


def alert_key(signal_key: str) -> str:
    return threads.key_of(threads.P1, _thread(signal_key))


def feed_payload(signal: Signal) -> dict[str, Any]:
    """Return what the live feed tells of a signal."""
    return {
        "key": signal.key,
        "rule": signal.rule.code,
        "kind": signal.kind,
        "level": signal.level,
        "status": signal.status,
        "verdict": signal.verdict,
        "event_id": signal.event_id,
        "event_title": signal.event.title if signal.event else "",
        "edge_bps": str(signal.edge_bps),
        "peak_edge_bps": str(signal.peak_edge_bps),
        "profit": str(signal.profit),
        "cost": str(signal.cost),
        "opened_at": signal.opened_at.isoformat(),
        "closed_at": signal.closed_at.isoformat() if signal.closed_at else None,
        "close_reason": signal.close_reason,
        "blocked_by": signal.blocked_by,
        "p_fill": _text(signal.p_fill),
        "expected_usd": _text(signal.expected_usd),
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)
