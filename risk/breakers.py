"""Circuit breakers: what trips them, when one order is tried again, what closes them.

The functions that note what became of an order run in the turn of that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import Q

from alerts import journal
from risk.checks import BreakerView, Verdict, passes, permitted
from risk.locking import in_turn
from risk.models import Breaker, Policy

TOPIC = "risk"
FAILURES_TO_TRIP = 3
FORGET = timedelta(minutes=10)  # a failure longer ago than this counts no more
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
STALE_WAIT = timedelta(seconds=15)  # after data is back, until a trial
STALE = "stale data"

Scope = Breaker.Scope
State = Breaker.State


@dataclass(frozen=True, slots=True)
class Reset:
    """What became of a person's act on a breaker."""

    done: bool
    verdict: Verdict


def views(
    *, rule: str = "", markets: Iterable[str] = (), lock: bool = False
) -> tuple[BreakerView, ...]:
    """Return the breakers that an order of a rule in these markets must pass.

    With `lock` they are held until the transaction ends.
    """
    rows = Breaker.objects.filter(_about(rule, markets)).order_by("id")
    return tuple(row.view() for row in (rows.select_for_update() if lock else rows))


def trip(
    *,
    scope: str,
    subject: str = "",
    reason: str,
    at: datetime,
    wait: timedelta | None = FIRST_WAIT,
    actor: str = "system",
) -> Breaker:
    """Open a breaker. `wait` None: only a person closes it again."""

    def act(_: Policy) -> Breaker:
        row = _row(scope, subject)
        _open(row, reason=reason, at=at, wait=wait, actor=actor)
        return row

    return in_turn(act)


def trip_by_hand(*, scope: str, subject: str, reason: str, by: User, at: datetime) -> Reset:
    """Open a breaker until a person resets it."""
    verdict = _may(by)

    def act(_: Policy) -> Reset:
        row = _row(scope, subject)
        if not verdict.ok:
            _refused(row, by, at, verdict)
        else:
            _open(row, reason=reason, at=at, wait=None, actor=by.get_username())
        return Reset(verdict.ok, verdict)

    return in_turn(act)


def reset(*, scope: str, subject: str, reason: str, by: User, at: datetime) -> Reset:
    """Close a breaker by hand."""
    verdict = _may(by)

    def act(_: Policy) -> Reset:
        row = _row(scope, subject)
        if not verdict.ok:
            _refused(row, by, at, verdict)
        elif row.state != State.CLOSED:
            _close(row, at=at, actor=by.get_username(), why=reason)
        return Reset(verdict.ok, verdict)

    return in_turn(act)


def claim_trials(found: Sequence[BreakerView], *, trial: str, at: datetime) -> None:
    """Put an approved order on trial in each breaker that is due for one."""
    for each in found:
        if each.state == State.OPEN and passes(each, at=at, trial=trial):
            moved = Breaker.objects.filter(
                scope=each.scope, subject=each.subject, state=State.OPEN
            ).update(state=State.HALF_OPEN, trial=trial)
            if moved:
                row = Breaker.objects.get(scope=each.scope, subject=each.subject)
                _record("breaker.half_open", row, at, actor="system")


def note_done(*, rule: str, markets: Iterable[str], trial: str, at: datetime) -> None:
    """An order was filled: its trials have passed, and failures in a row are over."""
    for row in Breaker.objects.select_for_update().filter(_about(rule, markets)).order_by("id"):
        if row.state == State.HALF_OPEN and row.trial == trial:
            _close(row, at=at, actor="system", why="the trial was filled")
        elif row.state == State.CLOSED and row.failures:
            row.failures, row.failed_at = 0, None
            row.save(update_fields=["failures", "failed_at"])


def note_failed(
    *, rule: str, markets: Iterable[str], trial: str, reason: str, at: datetime
) -> None:
    """An order failed: its trials too, and enough failures in a row trip a breaker.

    `markets` are those whose legs failed.
    """
    failed_in = list(markets)
    for scope, subject in (
        *((Scope.MARKET, market) for market in sorted(set(failed_in))),
        (Scope.RULE, rule),
    ):
        _failed(_row(scope, subject), trial=trial, reason=reason, at=at)
    on_trial = Breaker.objects.select_for_update().filter(state=State.HALF_OPEN, trial=trial)
    for row in on_trial.order_by("id"):
        _open(row, reason=f"the trial failed: {reason}", at=at, wait=_wait(row), actor="system")


def release_trial(*, trial: str, at: datetime) -> None:
    """An order on trial was taken back before anything was learnt: another may be tried."""
    rows = Breaker.objects.select_for_update().filter(state=State.HALF_OPEN, trial=trial)
    for row in rows.order_by("id"):
        row.state, row.trial, row.reopen_at = State.OPEN, "", at
        row.save(update_fields=["state", "trial", "reopen_at"])
        _record("breaker.opened", row, at, actor="system")


def watch_data(*, age_seconds: float | None, limit_seconds: float, at: datetime) -> bool:
    """Trip the global breaker while data is late; return whether it is late.

    Once data is back, an order is let through on trial after `STALE_WAIT`. Age None: no
    stream has run yet, so there is nothing to judge; without books every order is refused.
    """
    if age_seconds is None:
        return False
    late = age_seconds > limit_seconds
    in_turn(lambda _: _judge_data(age_seconds, limit_seconds, at=at))
    return late


def _judge_data(age_seconds: float, limit_seconds: float, *, at: datetime) -> None:
    late = age_seconds > limit_seconds
    row = _row(Scope.GLOBAL, "")
    stale = row.state == State.OPEN and row.reason.startswith(STALE)
    if late and row.state == State.CLOSED:
        reason = f"{STALE}: {age_seconds:.0f} s old (limit {limit_seconds:.0f} s)"
        _open(row, reason=reason, at=at, wait=None, actor="system")
    elif late and stale and row.reopen_at is not None:
        row.reopen_at = None  # it is late again before anything was tried
        row.save(update_fields=["reopen_at"])
    elif not late and stale and row.reopen_at is None:
        row.reopen_at = at + STALE_WAIT
        row.save(update_fields=["reopen_at"])
        _record("breaker.due", row, at, actor="system")


def _about(rule: str, markets: Iterable[str]) -> Q:
    return (
        Q(scope=Scope.GLOBAL)
        | Q(scope=Scope.RULE, subject=rule)
        | Q(scope=Scope.MARKET, subject__in=list(markets))
    )


def _row(scope: str, subject: str) -> Breaker:
    row, _ = Breaker.objects.select_for_update().get_or_create(scope=scope, subject=subject)
    return row


def _failed(row: Breaker, *, trial: str, reason: str, at: datetime) -> None:
    if row.state != State.CLOSED:
        return
    recent = row.failed_at is not None and at - row.failed_at <= FORGET
    row.failures, row.failed_at = (row.failures + 1 if recent else 1), at
    if row.failures >= FAILURES_TO_TRIP:
        why = f"{row.failures} failures in a row, the last: {reason}"
        _open(row, reason=why, at=at, wait=_wait(row), actor="system")
    else:
        row.save(update_fields=["failures", "failed_at"])


def _wait(row: Breaker) -> timedelta:
    doublings = min(row.trips, 10)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def _open(row: Breaker, *, reason: str, at: datetime, wait: timedelta | None, actor: str) -> None:
    row.state, row.reason, row.trial = State.OPEN, reason[:300], ""
    row.tripped_at, row.failures, row.trips = at, 0, row.trips + 1
    row.reopen_at = at + wait if wait is not None else None
    row.save()
    entry = _record("breaker.opened", row, at, actor=actor)
    journal.alert(key=f"breaker:{row.pk}:{entry}", kind="breaker.opened", payload=_told(row), at=at)


def _close(row: Breaker, *, at: datetime, actor: str, why: str) -> None:
    row.state, row.reason, row.trial = State.CLOSED, why[:300], ""
    row.failures, row.trips, row.failed_at, row.reopen_at = 0, 0, None, None
    row.save()
    _record("breaker.closed", row, at, actor=actor)


def _told(row: Breaker) -> dict[str, object]:
    return {
        "scope": row.scope,
        "subject": row.subject,
        "state": row.state,
        "reason": row.reason,
        "reopen_at": row.reopen_at.isoformat() if row.reopen_at else None,
        "trial": row.trial,
    }


def _record(kind: str, row: Breaker, at: datetime, *, actor: str) -> int:
    subject = f"breaker:{row.scope}:{row.subject}"
    entry = journal.record(
        kind=kind, subject=subject, data=_told(row), at=at, actor=actor, topic=TOPIC
    )
    return entry.id


def _may(by: User) -> Verdict:
    allowed = by.has_perm("risk.reset_breaker")
    return Verdict((permitted(allowed=allowed, who=by.get_username(), needs="reset_breaker"),))


def _refused(row: Breaker, by: User, at: datetime, verdict: Verdict) -> None:
    journal.record(
        kind="breaker.reset_refused",
        subject=f"breaker:{row.scope}:{row.subject}",
        data={"reasons": list(verdict.reasons), "checks": verdict.rows()},
        at=at,
        actor=by.get_username(),
    )
