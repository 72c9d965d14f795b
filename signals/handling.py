"""What a person does with a signal: acknowledge, snooze, dismiss, open again, comment.

It changes nothing about the signal itself, and approves nothing: it says who looks after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from alerts import journal
from signals import store
from signals.models import Signal, SignalStep

Act = SignalStep.Act

PERMISSION = "signals.ack_signal"
MOST_KEYS = 50  # one page of the list
MOST_TEXT = 600
MOST_SNOOZE = timedelta(days=7)
NEEDS_TEXT = (Act.DISMISS, Act.COMMENT)


class StepRefused(Exception):
    """Nothing was done; the text says why and what would help."""


class MayNot(StepRefused):
    """The person lacks the permission; the refusal is in the audit chain."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a step: the keys it was done for, and why the others were left."""

    done: tuple[str, ...]
    left: tuple[tuple[str, str], ...]


def take(
    keys: Sequence[str],
    act: SignalStep.Act,
    *,
    by: User,
    at: datetime,
    text: str = "",
    snooze: timedelta | None = None,
) -> Taken:
    """Do one step with each signal, all in one transaction, each with its audit entry.

    Raises `MayNot` without the permission, and `StepRefused` for what cannot be done at all.
    """
    wanted = list(dict.fromkeys(keys))
    if not by.has_perm(PERMISSION):
        _refuse(wanted, act, by=by, at=at)
    _check(wanted, act, text=text, snooze=snooze)
    until = at + snooze if snooze else None
    with transaction.atomic():
        return _take(wanted, act, by=by, at=at, text=text.strip(), until=until)


def _refuse(keys: Sequence[str], act: SignalStep.Act, *, by: User, at: datetime) -> None:
    with transaction.atomic():
        journal.record(
            kind="signal.step_refused",
            subject=f"user:{by.get_username()}",
            data={"act": act.value, "keys": keys[:MOST_KEYS], "needs": PERMISSION},
            at=at,
            actor=by.get_username(),
        )
    raise MayNot("Acknowledging signals takes a role that may: analyst, trader or approver.")


def _check(
    keys: Sequence[str], act: SignalStep.Act, *, text: str, snooze: timedelta | None
) -> None:
    if not keys:
        raise StepRefused("No signal was chosen. Tick the rows that are meant.")
    if len(keys) > MOST_KEYS:
        raise StepRefused(f"At most {MOST_KEYS} signals at once.")
    if act in NEEDS_TEXT and not text.strip():
        raise StepRefused(f"To {'dismiss' if act == Act.DISMISS else 'comment'}, say why.")
    if len(text) > MOST_TEXT:
        raise StepRefused(f"A reason or comment has at most {MOST_TEXT} characters.")
    if (act == Act.SNOOZE) != (snooze is not None):
        raise StepRefused("A snooze, and nothing else, needs its length.")
    if snooze is not None and not timedelta(0) < snooze <= MOST_SNOOZE:
        raise StepRefused("A snooze lasts up to 7 days.")


def _take(
    keys: Sequence[str],
    act: SignalStep.Act,
    *,
    by: User,
    at: datetime,
    text: str,
    until: datetime | None,
) -> Taken:
    found = Signal.objects.select_related("rule", "event").in_bulk(keys, field_name="key")
    current = {
        step.signal_id: step
        for step in SignalStep.objects.filter(signal__in=found.values(), current=True)
    }
    done, left = [], [(key, "unknown") for key in keys if key not in found]
    for key in (key for key in keys if key in found):
        signal = found[key]
        if why := _needless(signal, current.get(signal.pk), act, by=by, at=at):
            left.append((key, why))
            continue
        _write(SignalStep(signal=signal, act=act, by=by, at=at, text=text, until=until))
        done.append(key)
    return Taken(tuple(done), tuple(left))


def _needless(
    signal: Signal, current: SignalStep | None, act: SignalStep.Act, *, by: User, at: datetime
) -> str:
    """Say why a step would change nothing; empty if it does."""
    standing = current if current is not None and current.stands(at) else None
    stands = "" if standing is None else standing.act
    if act == Act.ACK and standing is not None and stands == Act.ACK and standing.by_id == by.pk:
        return "acknowledged by you already"
    if act == Act.SNOOZE and signal.status == Signal.Status.CLOSED:
        return "closed"
    if act == Act.DISMISS and stands == Act.DISMISS:
        return "dismissed already"
    return "new already" if act == Act.REOPEN and not stands else ""


def _write(step: SignalStep) -> None:
    """Put a step into the audit chain, store it, and let open lists show it.

    The journal comes first: its writers take turns, so of two persons at once the later stands.
    """
    data = {"text": step.text, "until": step.until}
    journal.record(
        kind=KINDS[SignalStep.Act(step.act)],
        subject=f"signal:{step.signal.key}",
        data={name: value for name, value in data.items() if value},
        at=step.at,
        actor=step.by.get_username(),
    )
    if step.act != Act.COMMENT:
        SignalStep.objects.filter(signal=step.signal, current=True).update(current=False)
        step.current = step.act != Act.REOPEN
    step.save(force_insert=True)
    told = store.feed_payload(step.signal)
    journal.tell(topic=store.TOPIC, kind="updated", payload=told, at=step.at)


KINDS = {
    Act.ACK: "signal.acknowledged",
    Act.SNOOZE: "signal.snoozed",
    Act.DISMISS: "signal.dismissed",
    Act.REOPEN: "signal.reopened",
    Act.COMMENT: "signal.commented",
}
