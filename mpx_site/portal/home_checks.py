"""The runbook's four symptoms, each with its check now, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from execution.models import OrderIntent
from mpx_site.portal.desk import Desk, Pulse, Troubles
from signals.models import Signal

DAY = timedelta(days=1)
LONG = timedelta(hours=1)  # without a signal: worth a look, and usual on a calm day


@dataclass(frozen=True, slots=True)
class Symptom:
    """`state` is `ok`, `late` or `stale`; `at` is the moment that `told` ends with, if any."""

    anchor: str
    title: str
    state: str
    told: str
    at: datetime | None = None


def symptoms(desk: Desk, *, rules: Sequence[str], troubles: Troubles) -> tuple[Symptom, ...]:
    """Check the symptoms in the order a person meets them; two queries."""
    return (
        _no_signals(desk, rules),
        _markets_stale(desk),
        _telegram_silent(troubles),
        _execution_rejected(desk),
    )


def _no_signals(desk: Desk, rules: Sequence[str]) -> Symptom:
    anchor, title = "no-signals", "No signals"
    if not rules:
        return Symptom(anchor, title, "stale", "No rule runs, so nothing can be found.")
    running = f"{len(rules)} rule{'s' * (len(rules) != 1)} run"
    if not desk.data.trusted:
        return Symptom(anchor, title, "stale", f"{running}, but no data come in.")
    last = Signal.objects.order_by("-opened_at", "-id").values_list("opened_at", flat=True).first()
    if last is None:
        return Symptom(anchor, title, "late", f"{running}; none has found anything yet.")
    state = "ok" if desk.at - last < LONG else "late"
    return Symptom(anchor, title, state, f"{running}; the newest signal came", last)


def _markets_stale(desk: Desk) -> Symptom:
    anchor, title = "markets-stale", "Markets stale"
    if desk.data.at is None:
        return Symptom(anchor, title, "stale", "Nothing has been heard from the venue.")
    fresh, every = books_of(desk.pulses[0])
    told = f"{fresh:,} of {every:,} books are fresh; last frame" if every else "Last frame"
    state = "ok" if desk.data.state == "ok" and fresh * 2 >= every else "late"
    return Symptom(anchor, title, state if desk.data.trusted else "stale", told, desk.data.at)


def books_of(stream: Pulse) -> tuple[int, int]:
    """Return how many books the stream says are fresh, and how many it has."""
    told = stream.detail.get("books")
    counts = told if isinstance(told, dict) else {}
    known = {state: count for state, count in counts.items() if isinstance(count, int)}
    return known.get("fresh", 0), sum(known.values())


def _telegram_silent(troubles: Troubles) -> Symptom:
    anchor, title = "telegram-silent", "Telegram silent"
    if troubles.outbox_failed:
        return Symptom(anchor, title, "stale", f"{troubles.outbox_failed:,} alerts failed.")
    if not troubles.alerts_go_out:
        told = "Telegram is off; alerts are only written down."
        return Symptom(anchor, title, "late", told)
    if not troubles.outbox_pending:
        return Symptom(anchor, title, "ok", "Alerts go out and none waits.")
    told = f"{troubles.outbox_pending:,} wait, the oldest since"
    return Symptom(anchor, title, "late", told, troubles.outbox_oldest)


def _execution_rejected(desk: Desk) -> Symptom:
    anchor, title = "execution-rejected", "Execution rejected"
    if desk.kill.tripped:
        return Symptom(anchor, title, "stale", "The kill switch is on: nothing is approved.")
    rejected = OrderIntent.objects.filter(status="REJECTED", closed_at__gte=desk.at - DAY)
    times = list(rejected.order_by("-closed_at", "-id").values_list("closed_at", flat=True))
    if not times:
        return Symptom(anchor, title, "ok", "No order was rejected in 24 h.")
    return Symptom(anchor, title, "late", f"{len(times):,} rejected in 24 h, the last", times[0])
