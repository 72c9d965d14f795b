"""The policy: what it allows now, and how it is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from alerts import journal
from risk.checks import LABELS, Bounds, Verdict, four_eyes, permitted, status_is
from risk.locking import NoPolicy, in_turn
from risk.models import THE_ROW, Policy, PolicyChange

TOPIC = "risk"
Value = Decimal | int | None


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: which way is looser, and how far anybody may go."""

    looser: Literal["up", "down"]
    kind: type[Decimal] | type[int]
    setting: str = ""  # the environment's key that holds its ceiling
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(10**9)

    def range(self) -> tuple[Decimal, Decimal]:
        return self.low, Decimal(getattr(settings, self.setting)) if self.setting else self.high


LIMITS: Mapping[str, Limit] = {
    "order_notional": Limit("up", Decimal, "EXEC_MAX_NOTIONAL_PER_ORDER"),
    "concurrent_orders": Limit("up", int, "EXEC_MAX_CONCURRENT_ORDERS"),
    "daily_notional": Limit("up", Decimal, "EXEC_MAX_DAILY_NOTIONAL"),
    "event_exposure": Limit("up", Decimal, "EXEC_MAX_EVENT_EXPOSURE"),
    "slippage_bps": Limit("up", int, "EXEC_SLIPPAGE_BPS"),
    "book_age_ms": Limit("up", int, high=Decimal(30_000)),
    "signal_age_seconds": Limit("up", int, high=Decimal(7 * 86_400)),
    "intent_ttl_seconds": Limit("up", int, low=Decimal(1), high=Decimal(3_600)),
    "fill_seconds": Limit("up", int, low=Decimal(1), high=Decimal(600)),
    "min_annualised_pct": Limit("down", Decimal, high=Decimal(100_000)),
    "depth_share": Limit("up", Decimal, low=Decimal("0.01"), high=Decimal(1)),
}


# The check that holds an order to each limit: its name is the limit's name too.
CHECK_OF = {
    "order_notional": "ORDER_NOTIONAL",
    "concurrent_orders": "CONCURRENT_ORDERS",
    "daily_notional": "DAILY_NOTIONAL",
    "event_exposure": "EVENT_EXPOSURE",
    "slippage_bps": "SLIPPAGE",
    "book_age_ms": "BOOK_AGE",
    "signal_age_seconds": "SIGNAL_AGE",
    "min_annualised_pct": "MIN_RETURN",
}
OTHER_LABELS = {
    "intent_ttl_seconds": "Time to approve",
    "fill_seconds": "Time to fill",
    "depth_share": "Depth counted on",
}


UNIT_OF = {
    "order_notional": "USD",
    "concurrent_orders": "orders",
    "daily_notional": "USD",
    "event_exposure": "USD",
    "slippage_bps": "bps",
    "book_age_ms": "ms",
    "signal_age_seconds": "s",
    "intent_ttl_seconds": "s",
    "fill_seconds": "s",
    "min_annualised_pct": "% a year",
    "depth_share": "of 1",
}


def label_of(name: str) -> str:
    """Return what people call a limit."""
    return LABELS[CHECK_OF[name]] if name in CHECK_OF else OTHER_LABELS[name]


def meaning_of(name: str) -> str:
    return str(getattr(Policy._meta.get_field(name), "help_text", ""))


class BadLimit(Exception):
    """A limit that cannot be; `field` names it and `reason` says what is possible."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a change: applied, waiting for a second person, or refused."""

    change: PolicyChange | None
    verdict: Verdict

    @property
    def applied(self) -> bool:
        return self.change is not None and self.change.state == PolicyChange.State.APPLIED


def bounds(policy: Policy | None = None) -> Bounds:
    """Return what is allowed now: the policy, but never beyond the environment's ceilings.

    Raises `NoPolicy`.
    """
    policy = policy or Policy.objects.filter(pk=THE_ROW).first()
    if policy is None:
        raise NoPolicy
    return Bounds(**{name: _bound(policy, name) for name in LIMITS})


def _bound(policy: Policy, name: str) -> Any:
    value, limit = getattr(policy, name), LIMITS[name]
    ceiling = limit.kind(limit.range()[1])
    return ceiling if value is None else min(limit.kind(value), ceiling)


def change(*, by: User, at: datetime, reason: str, **values: Value) -> Changed:
    """Change limits. What loosens any of them waits for `confirm` by another person.

    None puts a limit back to its ceiling. Raises `BadLimit`.
    """
    for name, value in values.items():
        _check_range(name, value)
    if not reason.strip():
        raise BadLimit("reason", "say why; it is kept with the change")
    return in_turn(partial(_change, by=by, at=at, reason=reason.strip()[:300], values=values))


def confirm(change_id: int, *, by: User, at: datetime) -> Changed:
    """Apply a proposed change as the second person."""
    return in_turn(partial(_confirm, change_id=change_id, by=by, at=at))


def refuse(change_id: int, *, by: User, at: datetime, reason: str) -> Changed:
    """Drop a proposed change; its proposer may do so too."""
    return in_turn(partial(_refuse, change_id=change_id, by=by, at=at, reason=reason))


def _change(
    policy: Policy, *, by: User, at: datetime, reason: str, values: Mapping[str, Value]
) -> Changed:
    verdict = Verdict((_may_edit(by),))
    if not verdict.ok:
        _record_refusal("policy.change_refused", by, at, verdict, {"after": _plain(values)})
        return Changed(None, verdict)
    news = {name: value for name, value in values.items() if value != getattr(policy, name)}
    if not news:
        raise BadLimit("values", "these are the limits already")
    loosens = sorted(name for name, value in news.items() if _looser(policy, name, value))
    row = PolicyChange.objects.create(
        at=at,
        state=PolicyChange.State.PROPOSED,
        reason=reason,
        before=_plain({name: getattr(policy, name) for name in news}),
        after=_plain(news),
        loosens=loosens,
        proposer=by,
    )
    if loosens:
        _record("policy.proposed", row, by, at)
    else:
        _apply(policy, row, by, at, confirmer=None)
    return Changed(row, verdict)


def _confirm(policy: Policy, *, change_id: int, by: User, at: datetime) -> Changed:
    row = PolicyChange.objects.select_for_update().get(pk=change_id)
    single: bool = settings.MPX_SINGLE_OPERATOR
    verdict = Verdict(
        (
            _may_edit(by),
            status_is(row.state, allowed=[PolicyChange.State.PROPOSED.value]),
            four_eyes(
                proposer=row.proposer.get_username(),
                approver=by.get_username(),
                single_operator=single,
            ),
        )
    )
    if not verdict.ok:
        _record_refusal("policy.confirm_refused", by, at, verdict, {"change": row.pk})
        return Changed(None, verdict)
    row.single_operator = row.proposer_id == by.pk
    _apply(policy, row, by, at, confirmer=by)
    return Changed(row, verdict)


def _refuse(policy: Policy, *, change_id: int, by: User, at: datetime, reason: str) -> Changed:
    row = PolicyChange.objects.select_for_update().get(pk=change_id)
    verdict = Verdict(
        (_may_edit(by), status_is(row.state, allowed=[PolicyChange.State.PROPOSED.value]))
    )
    if not verdict.ok:
        _record_refusal("policy.refuse_refused", by, at, verdict, {"change": row.pk})
        return Changed(None, verdict)
    row.state, row.confirmer, row.decided_at = PolicyChange.State.REFUSED, by, at
    row.save(update_fields=["state", "confirmer", "decided_at"])
    _record("policy.refused", row, by, at, reason=reason)
    return Changed(row, verdict)


def _apply(
    policy: Policy, row: PolicyChange, by: User, at: datetime, *, confirmer: User | None
) -> None:
    for name, value in row.after.items():
        setattr(policy, name, None if value is None else LIMITS[name].kind(value))
    policy.changed_at = at
    policy.save(update_fields=[*row.after, "changed_at"])
    row.state, row.confirmer, row.decided_at = PolicyChange.State.APPLIED, confirmer, at
    row.save(update_fields=["state", "confirmer", "decided_at", "single_operator"])
    _record("policy.changed", row, by, at)


def _looser(policy: Policy, name: str, value: Value) -> bool:
    limit = LIMITS[name]
    before, after = (
        limit.range()[1] if each is None else Decimal(each)
        for each in (getattr(policy, name), value)
    )
    return after > before if limit.looser == "up" else after < before


def _check_range(name: str, value: Value) -> None:
    if name not in LIMITS:
        raise BadLimit(name, "is not a limit")
    limit = LIMITS[name]
    low, high = limit.range()
    if value is None:
        if not limit.setting:
            raise BadLimit(name, "needs a value")
        return
    if not low <= Decimal(value) <= high:
        ceiling = f" ({limit.setting} in the environment)" if limit.setting else ""
        raise BadLimit(name, f"{value} must be from {low} to {high}{ceiling}")


def _may_edit(by: User) -> Any:
    return permitted(
        allowed=by.has_perm("risk.edit_policy"), who=by.get_username(), needs="edit_policy"
    )


def _record(kind: str, row: PolicyChange, by: User, at: datetime, **more: object) -> None:
    told = {
        "change": row.pk,
        "before": row.before,
        "after": row.after,
        "loosens": row.loosens,
        "reason": row.reason,
        "proposer": row.proposer.get_username(),
        **more,
    }
    journal.record(
        kind=kind, subject="policy", data=told, at=at, actor=by.get_username(), topic=TOPIC
    )


def _record_refusal(
    kind: str, by: User, at: datetime, verdict: Verdict, data: dict[str, object]
) -> None:
    with transaction.atomic():
        told = {**data, "reasons": list(verdict.reasons), "checks": verdict.rows()}
        journal.record(kind=kind, subject="policy", data=told, at=at, actor=by.get_username())


def _plain(values: Mapping[str, Value]) -> dict[str, object]:
    return {
        name: str(value) if isinstance(value, Decimal) else value for name, value in values.items()
    }
