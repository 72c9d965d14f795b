"""The kill switch: trip it with a reason; another person re-arms it.

Whoever approves or fills reads it under its row lock (`locked`), so once a trip
has committed nothing is approved or filled any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction

from alerts import journal
from risk.checks import Check, Kill, Verdict, four_eyes, permitted
from risk.crash import crash_point
from risk.models import THE_ROW, KillSwitch

TOPIC = "risk"


@dataclass(frozen=True, slots=True)
class Switched:
    """What became of it. `kill` is the switch as it is now."""

    done: bool
    kill: Kill
    verdict: Verdict


def status() -> Kill:
    """Read the switch; tripped when it cannot be read."""
    try:
        with transaction.atomic():
            return _kill(KillSwitch.objects.filter(pk=THE_ROW).first())
    except DatabaseError as error:
        return Kill(True, f"the switch cannot be read: {error}", readable=False)


def locked() -> Kill:
    """Read the switch and hold it until the transaction ends; tripped when it cannot be read."""
    try:
        with transaction.atomic():
            return _kill(KillSwitch.objects.select_for_update().filter(pk=THE_ROW).first())
    except DatabaseError as error:
        return Kill(True, f"the switch cannot be read: {error}", readable=False)


def trip(*, reason: str, at: datetime, by: User | None = None, actor: str = "") -> Switched:
    """Stop all approvals and fills. Tripping it again keeps the first reason.

    Without a user, `actor` says who did it (the console, or the desk itself).
    """
    who = by.get_username() if by else actor or "system"
    verdict = Verdict((_may(by, "trip_kill", who),))
    with transaction.atomic():
        row = _row()
        if not verdict.ok:
            _refused("killswitch.trip_refused", who, at, verdict)
            return Switched(False, _kill(row), verdict)
        if row.tripped:
            return Switched(False, _kill(row), verdict)
        row.tripped, row.reason, row.tripped_by = True, reason.strip()[:300] or "no reason", by
        row.changed_at, row.changed_by = at, who
        row.save()
        told = _record("killswitch.tripped", row, at)
        journal.alert(key=f"killswitch:{told}:tripped", kind="killswitch.tripped", at=at,
                      payload={"reason": row.reason, "by": who})  # fmt: skip
        crash_point("kill_before_commit")
    crash_point("kill_after_commit")
    return Switched(True, _kill(row), verdict)


def rearm(*, reason: str, at: datetime, by: User) -> Switched:
    """Let approvals and fills go on again; not by the person who tripped it."""
    who = by.get_username()
    with transaction.atomic():
        row = _row()
        verdict = Verdict((_may(by, "rearm_kill", who), _second_person(row, who)))
        if not verdict.ok:
            _refused("killswitch.rearm_refused", who, at, verdict)
            return Switched(False, _kill(row), verdict)
        if not row.tripped:
            return Switched(False, _kill(row), verdict)
        row.tripped, row.reason, row.tripped_by = False, reason.strip()[:300], None
        row.changed_at, row.changed_by = at, who
        row.save()
        told = _record("killswitch.rearmed", row, at)
        journal.alert(key=f"killswitch:{told}:rearmed", kind="killswitch.rearmed", at=at,
                      payload={"reason": row.reason, "by": who})  # fmt: skip
    return Switched(True, _kill(row), verdict)


def _row() -> KillSwitch:
    row, _ = KillSwitch.objects.select_for_update().get_or_create(
        pk=THE_ROW, defaults={"tripped": True, "reason": "its row was missing"}
    )
    return row


def _kill(row: KillSwitch | None) -> Kill:
    if row is None:
        return Kill(True, "its row is missing; run manage.py migrate", readable=False)
    return Kill(row.tripped, row.reason if row.tripped else "")


def _second_person(row: KillSwitch, who: str) -> Check:
    single: bool = settings.MPX_SINGLE_OPERATOR
    tripped_by = row.changed_by if row.tripped else ""
    return four_eyes(proposer=tripped_by, approver=who, single_operator=single)


def _may(by: User | None, codename: str, who: str) -> Check:
    allowed = by is None or by.has_perm(f"risk.{codename}")
    return permitted(allowed=allowed, who=who, needs=codename)


def _record(kind: str, row: KillSwitch, at: datetime) -> int:
    entry = journal.record(
        kind=kind,
        subject="killswitch",
        data={"tripped": row.tripped, "reason": row.reason},
        at=at,
        actor=row.changed_by,
        topic=TOPIC,
    )
    return entry.id


def _refused(kind: str, who: str, at: datetime, verdict: Verdict) -> None:
    told = {"reasons": list(verdict.reasons), "checks": verdict.rows()}
    journal.record(kind=kind, subject="killswitch", data=told, at=at, actor=who)
