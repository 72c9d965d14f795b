"""The steps of an order intent, one function each, behind every surface.

Page, admin, API and command line call these and nothing else. A refusal is an
answer, not an exception: its checks carry the numbers and what to do, and the
same words go to the audit chain. Only a busy desk (`DeskBusy`), a reused key
(`KeyReused`) and an intent that is not there raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from execution import fills, positions
from execution.authenticators import has_second_factor
from execution.idempotency import once
from execution.models import IntentEvent, IntentLeg, OrderIntent
from execution.plans import (
    ADVICE,
    Basis,
    Change,
    NoPlan,
    Plan,
    basis_of,
    difference,
    make_plan,
    read_plan,
)
from execution.sights import (
    DATA_LATE_SECONDS,
    data_age,
    legs_now,
    sights_of,
    situation,
)
from execution.steps import note, note_no_intent, reasons
from risk import breakers, killswitch, limits
from risk.checks import (
    Bounds,
    Check,
    Kill,
    Step,
    Verdict,
    executable,
    four_eyes,
    judge,
    only_one,
    permitted,
    plan_is,
    reason_given,
    second_factor,
    status_is,
)
from risk.crash import crash_point
from risk.locking import in_turn
from risk.models import Policy
from signals.models import Signal

Status = OrderIntent.Status
# What does not stop a suggestion: by the time of its approval there may be room.
MAY_CHANGE = frozenset({"CONCURRENT_ORDERS"})
DECIDING_FIELDS = ("signal__rule", "event", "proposer", "approver")


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order for a signal would be now. Nothing was created.

    `plan` is None when nothing can be planned; the verdict says why.
    """

    signal: Signal
    plan: Plan | None
    verdict: Verdict
    at: datetime

    def row(self) -> dict[str, Any]:
        return {
            "signal": self.signal.key,
            "plan": self.plan.row() if self.plan else None,
            "at": self.at.isoformat(),
            **reasons(self.verdict),
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a step.

    `applied`: the intent has moved. Else `verdict` says why not, and `difference`
    how the plan that was shown differs from the one held. `intent` is None when
    none was created.
    """

    intent: OrderIntent | None
    applied: bool
    verdict: Verdict
    difference: tuple[Change, ...] = ()
    replayed: bool = False

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.verdict.reasons

    def row(self) -> dict[str, Any]:
        """Return the answer as it is kept under its Idempotency-Key and given to programs."""
        return {
            "intent": self.intent.pk if self.intent else None,
            "status": self.intent.status if self.intent else None,
            "applied": self.applied,
            **reasons(self.verdict),
            "difference": [
                {"what": each.what, "old": each.old, "new": each.new} for each in self.difference
            ],
        }


def read_answer(row: Mapping[str, Any]) -> Answer:
    """Return a kept answer; its intent is as it is now."""
    checks = tuple(
        Check(each["name"], each["ok"], each["limit"], each["value"], each["advice"])
        for each in row["checks"]
    )
    changes = tuple(Change(each["what"], each["old"], each["new"]) for each in row["difference"])
    intent = OrderIntent.objects.newest().filter(pk=row["intent"]).first()
    return Answer(intent, row["applied"], Verdict(checks), changes, replayed=True)


# --- looking -------------------------------------------------------------------------


def preview(signal: Signal, *, at: datetime, capital: Decimal | None = None) -> Preview:
    """Plan an order for a signal on the live books and judge it. Creates nothing.

    `capital` lowers the policy's order size (USD).
    """
    bounds = limits.bounds()
    plan, verdict = _planned(
        signal, bounds=bounds, kill=killswitch.status(), at=at, capital=capital
    )
    return Preview(signal, plan, verdict, at)


def recheck(intent: OrderIntent, *, at: datetime) -> Verdict:
    """Judge a suggested intent as an approval would now, for pages. Changes nothing."""
    return _judged(
        intent.typed_plan,
        intent.signal,
        step="approve",
        bounds=limits.bounds(),
        kill=killswitch.status(),
        at=at,
        intent=intent,
    )


def foresee(intent: OrderIntent, *, by: User, at: datetime) -> Verdict:
    """Judge what an approval by a person would be told now. Changes nothing."""
    return _first_of_approval(intent, by, shown=intent.plan_hash) + recheck(intent, at=at)


# --- steps of people -----------------------------------------------------------------


def suggest(
    signal: Signal,
    *,
    by: User,
    at: datetime,
    capital: Decimal | None = None,
    plan_hash: str | None = None,
    rehearsal: str = "",
    idempotency_key: str | None = None,
) -> Answer:
    """Propose an order for all legs of a signal.

    `plan_hash` is that of the preview that was shown; without it the plan of now
    is taken. An order that fails a check is kept as REJECTED. `rehearsal` asks
    the paper venue for a failure (`OrderIntent.Rehearsal`).
    """
    act = partial(
        _suggest, signal=signal, by=by, at=at, capital=capital, shown=plan_hash, rehearsal=rehearsal
    )
    given = {"signal": signal.key, "capital": capital, "plan": plan_hash, "rehearsal": rehearsal}
    answer = _run(act, what="suggest", by=by, at=at, key=idempotency_key, given=given)
    crash_point("suggest_after_commit")
    return answer


def revise(
    intent_id: int,
    *,
    by: User,
    at: datetime,
    capital: Decimal | None = None,
    idempotency_key: str | None = None,
) -> Answer:
    """Replace the plan of one's own suggestion by that of now, with other capital if given.

    Whoever was shown the old plan cannot approve any more without seeing the difference.
    """
    act = partial(_revise, intent_id=intent_id, by=by, at=at, capital=capital)
    given = {"intent": intent_id, "capital": capital}
    return _run(act, what="revise", by=by, at=at, key=idempotency_key, given=given)


def approve(
    intent_id: int,
    *,
    by: User,
    at: datetime,
    plan_hash: str,
    idempotency_key: str | None = None,
) -> Answer:
    """Approve an intent as the second person, signing the plan that was shown.

    Every check is made again at this moment. An intent that is refused stays
    suggested until its deadline, so it can be tried again.
    """
    act = partial(_approve, intent_id=intent_id, by=by, at=at, shown=plan_hash)
    given = {"intent": intent_id, "plan": plan_hash}
    answer = _run(act, what="approve", by=by, at=at, key=idempotency_key, given=given)
    crash_point("approve_after_commit")
    return answer


def reject(
    intent_id: int, *, by: User, at: datetime, reason: str, idempotency_key: str | None = None
) -> Answer:
    """Turn a suggestion down, with a reason."""
    act = partial(_reject, intent_id=intent_id, by=by, at=at, reason=reason)
    given = {"intent": intent_id, "reason": reason}
    return _run(act, what="reject", by=by, at=at, key=idempotency_key, given=given)


def cancel(
    intent_id: int,
    *,
    by: User,
    at: datetime,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Answer:
    """Take an intent back: its proposer may, and whoever approves.

    An approved one stops where it is: legs that wait are dropped, an incomplete
    basket is unwound.
    """
    act = partial(_cancel, intent_id=intent_id, by=by, at=at, reason=reason)
    given = {"intent": intent_id, "reason": reason}
    return _run(act, what="cancel", by=by, at=at, key=idempotency_key, given=given)


# --- steps of time -------------------------------------------------------------------


def expire_due(*, at: datetime) -> int:
    """Expire suggestions past their deadline or whose signal is gone; return how many."""
    waiting = OrderIntent.objects.filter(status=Status.SUGGESTED)
    late = waiting.filter(expires_at__lte=at)
    orphaned = waiting.filter(signal__status=Signal.Status.CLOSED)
    due = sorted({*late.values_list("pk", flat=True), *orphaned.values_list("pk", flat=True)})
    return sum(in_turn(partial(_expire, intent_id=pk, at=at)) for pk in due)


# --- inside a turn -------------------------------------------------------------------


def _run(
    act: Callable[[Policy], Answer],
    *,
    what: str,
    by: User,
    at: datetime,
    key: str | None,
    given: Mapping[str, Any],
) -> Answer:
    """Run a step in its turn, once per key."""

    def turn(policy: Policy) -> Answer:
        fresh: list[Answer] = []

        def answered() -> dict[str, Any]:
            fresh.append(act(policy))
            return fresh[0].row()

        row, _ = once(answered, by=by, key=key, what=what, given=given, at=at)
        return fresh[0] if fresh else read_answer(row)

    return in_turn(turn)


def _suggest(
    policy: Policy,
    *,
    signal: Signal,
    by: User,
    at: datetime,
    capital: Decimal | None,
    shown: str | None,
    rehearsal: str,
) -> Answer:
    signal = Signal.objects.select_related("rule", "event").get(pk=signal.pk)
    first = Verdict((_may(by, "create_intent"), only_one(open_intent=_open_of(signal))))
    if not first.ok:
        return _no_intent(signal, by, at, first)
    bounds = limits.bounds(policy)
    plan, verdict = _planned(
        signal, bounds=bounds, kill=killswitch.locked(), at=at, capital=capital
    )
    if plan is None:
        return _no_intent(signal, by, at, first + verdict)
    signed = plan_is(shown=shown or plan.hash, held=plan.hash)
    verdict = first + Verdict((signed,)) + verdict
    if not signed.ok:
        return _no_intent(signal, by, at, verdict)
    return _created(signal, plan, verdict, by=by, at=at, bounds=bounds, rehearsal=rehearsal)


def _created(
    signal: Signal,
    plan: Plan,
    verdict: Verdict,
    *,
    by: User,
    at: datetime,
    bounds: Bounds,
    rehearsal: str,
) -> Answer:
    """Create the intent: suggested, or rejected at once with the reasons."""
    stopping = [check for check in verdict.failed if check.name not in MAY_CHANGE]
    intent = OrderIntent.objects.create(
        signal=signal,
        event=signal.event,
        kind=plan.kind,
        status=Status.REJECTED if stopping else Status.SUGGESTED,
        proposer=by,
        suggested_at=at,
        expires_at=at + timedelta(seconds=bounds.intent_ttl_seconds),
        closed_at=at if stopping else None,
        reason=" ".join(check.sentence() for check in stopping)[:600],
        rehearsal=OrderIntent.Rehearsal(rehearsal),
        verdict=verdict.rows(),
        **_plan_fields(plan),
    )
    kind = "rejected" if stopping else "suggested"
    data = {"plan": plan.row(), **reasons(verdict)}
    note(intent, kind, at=at, actor=by.get_username(), data=data, alert=not stopping)
    crash_point("suggest_before_commit")
    return Answer(intent, not stopping, verdict)


def _revise(
    policy: Policy, *, intent_id: int, by: User, at: datetime, capital: Decimal | None
) -> Answer:
    intent = _locked(intent_id)
    own = intent.proposer_id == by.pk
    who = by.get_username()
    first = Verdict(
        (
            _may(by, "create_intent"),
            permitted(allowed=own, who=who, needs=f"to be {intent.proposer.get_username()}"),
            status_is(intent.status, allowed=[Status.SUGGESTED.value]),
        )
    )
    if not first.ok:
        return _refused(intent, "revision_refused", by, at, first)
    bounds = limits.bounds(policy)
    plan, verdict = _planned(
        intent.signal, bounds=bounds, kill=killswitch.locked(), at=at, capital=capital
    )
    verdict = first + verdict
    stopping = [check for check in verdict.failed if check.name not in MAY_CHANGE]
    if plan is None or stopping:
        return _refused(intent, "revision_refused", by, at, verdict)
    changes = difference(intent.typed_plan, plan)
    fields = {
        **_plan_fields(plan),
        "revision": intent.revision + 1,
        "verdict": verdict.rows(),
        "expires_at": at + timedelta(seconds=bounds.intent_ttl_seconds),
    }
    _move(intent, Status.SUGGESTED, Status.SUGGESTED, **fields)
    data = {"plan": plan.row(), "difference": _changes(changes), **reasons(verdict)}
    note(intent, "revised", at=at, actor=who, data=data)
    return Answer(intent, True, verdict, changes)


def _approve(policy: Policy, *, intent_id: int, by: User, at: datetime, shown: str) -> Answer:
    kill = killswitch.locked()
    breakers.watch_data(age_seconds=data_age(at), limit_seconds=DATA_LATE_SECONDS, at=at)
    intent = _locked(intent_id)
    first = _first_of_approval(intent, by, shown=shown)
    if not first.ok:
        changes = _since(intent, shown) if "PLAN" in first.names else ()
        return _refused(intent, "approval_refused", by, at, first, changes)
    bounds = limits.bounds(policy)
    verdict = first + _judged(
        intent.typed_plan,
        intent.signal,
        step="approve",
        bounds=bounds,
        kill=kill,
        at=at,
        intent=intent,
        lock=True,
    )
    if not verdict.ok:
        return _refused(intent, "approval_refused", by, at, verdict)
    return _approved(intent, verdict, by=by, at=at, bounds=bounds)


def _first_of_approval(intent: OrderIntent, by: User, *, shown: str) -> Verdict:
    """Ask what does not depend on the market: who, in which state, which plan."""
    who, single = by.get_username(), bool(settings.MPX_SINGLE_OPERATOR)
    proposer = intent.proposer.get_username()
    return Verdict(
        (
            _may(by, "approve_intent"),
            *_second_factor(by),
            status_is(intent.status, allowed=[Status.SUGGESTED.value]),
            four_eyes(proposer=proposer, approver=who, single_operator=single),
            plan_is(shown=shown, held=intent.plan_hash),
        )
    )


def _second_factor(by: User) -> tuple[Check, ...]:
    """Ask for a second factor where the desk takes one: a login of its holder has been by it."""
    if not settings.MPX_REQUIRE_TOTP:
        return ()
    return (second_factor(has=has_second_factor(by), who=by.get_username()),)


def _approved(
    intent: OrderIntent, verdict: Verdict, *, by: User, at: datetime, bounds: Bounds
) -> Answer:
    moved = _move(
        intent,
        Status.SUGGESTED,
        Status.APPROVED,
        approver=by,
        single_operator=intent.proposer_id == by.pk,
        approved_at=at,
        fill_by=at + timedelta(seconds=bounds.fill_seconds),
        verdict=verdict.rows(),
    )
    if not moved:
        now = status_is(OrderIntent.objects.get(pk=intent.pk).status, allowed=["SUGGESTED"])
        return Answer(intent, False, Verdict((now,)))
    plan = intent.typed_plan
    IntentLeg.objects.bulk_create(
        IntentLeg(
            intent=intent,
            number=leg.number,
            token_id=leg.token_id,
            market_id=leg.market_id,
            outcome_index=leg.outcome_index,
            label=leg.label[:600],
            size=leg.size,
            limit_price=leg.limit_price,
        )
        for leg in plan.legs
    )
    found = breakers.views(rule=plan.rule, markets={leg.market_id for leg in plan.legs})
    breakers.claim_trials(found, trial=intent.trial, at=at)
    allowed = {name: str(value) for name, value in asdict(bounds).items()}
    data = {"bounds": allowed, **reasons(verdict)}
    note(intent, "approved", at=at, actor=by.get_username(), data=data, alert=True)
    crash_point("approve_before_commit")
    return Answer(intent, True, verdict)


def _reject(policy: Policy, *, intent_id: int, by: User, at: datetime, reason: str) -> Answer:
    intent = _locked(intent_id)
    verdict = Verdict(
        (
            _may(by, "approve_intent"),
            status_is(intent.status, allowed=[Status.SUGGESTED.value]),
            reason_given(reason),
        )
    )
    if not verdict.ok:
        return _refused(intent, "rejection_refused", by, at, verdict)
    _move(intent, Status.SUGGESTED, Status.REJECTED, closed_at=at, reason=reason.strip()[:600])
    note(intent, "rejected", at=at, actor=by.get_username(), data=reasons(verdict), alert=True)
    return Answer(intent, True, verdict)


def _cancel(policy: Policy, *, intent_id: int, by: User, at: datetime, reason: str) -> Answer:
    intent = _locked(intent_id)
    who = by.get_username()
    allowed = intent.proposer_id == by.pk or by.has_perm("execution.approve_intent")
    verdict = Verdict(
        (
            permitted(allowed=allowed, who=who, needs="approve_intent, or to have proposed it"),
            status_is(intent.status, allowed=[Status.SUGGESTED.value, Status.APPROVED.value]),
        )
    )
    if not verdict.ok:
        return _refused(intent, "cancel_refused", by, at, verdict)
    why = f"cancelled by {who}" + (f": {reason.strip()}" if reason.strip() else "")
    if intent.status == Status.APPROVED:
        fills.stop(intent, why=why, by=who, at=at)
        return Answer(intent, True, verdict)
    _move(intent, Status.SUGGESTED, Status.CANCELLED, closed_at=at, reason=why[:600])
    note(intent, "cancelled", at=at, actor=who, data=reasons(verdict))
    return Answer(intent, True, verdict)


def _expire(policy: Policy, *, intent_id: int, at: datetime) -> int:
    intent = _locked(intent_id)
    gone = intent.signal.status == Signal.Status.CLOSED
    if intent.status != Status.SUGGESTED or not (gone or intent.expires_at <= at):
        return 0
    why = f"nobody decided by {intent.expires_at:%H:%M:%S} UTC"
    if gone:
        why = f"its signal closed: {intent.signal.close_reason or 'no reason given'}"
    _move(intent, Status.SUGGESTED, Status.EXPIRED, closed_at=at, reason=why)
    note(intent, "expired", at=at)
    crash_point("expire_before_commit")
    return 1


# --- what the steps share ------------------------------------------------------------


def _planned(
    signal: Signal, *, bounds: Bounds, kill: Kill, at: datetime, capital: Decimal | None
) -> tuple[Plan | None, Verdict]:
    """Plan a signal on the books of now and judge the plan."""
    basis = basis_of_signal(signal)
    if basis.bet is not None:
        basis = basis.beside(positions.held_of(basis.legs[0].token_id))
    money = bounds.order_notional if capital is None else min(capital, bounds.order_notional)
    sights = sights_of([leg.token_id for leg in basis.legs], depth_share=bounds.depth_share, at=at)
    plan = make_plan(basis, sights, capital=money, slippage_bps=bounds.slippage_bps, at=at)
    if isinstance(plan, NoPlan):
        return None, Verdict(
            (executable(ok=False, found=plan.text, advice=ADVICE.get(plan.reasons[0], "")),)
        )
    legs = legs_now(plan, sights)
    now = situation(plan, signal, legs, kill=kill, at=at)
    return plan, Verdict((executable(ok=True, found=plan.found),)) + judge("suggest", now, bounds)


def _judged(
    plan: Plan,
    signal: Signal,
    *,
    step: Step,
    bounds: Bounds,
    kill: Kill,
    at: datetime,
    intent: OrderIntent,
    lock: bool = False,
) -> Verdict:
    tokens = [leg.token_id for leg in plan.legs]
    legs = legs_now(plan, sights_of(tokens, depth_share=bounds.depth_share, at=at))
    now = situation(plan, signal, legs, kill=kill, at=at, intent=intent, lock=lock)
    return judge(step, now, bounds)


def basis_of_signal(signal: Signal) -> Basis:
    return basis_of(signal_key=signal.key, rule=signal.rule.code, payload=signal.payload)


def _plan_fields(plan: Plan) -> dict[str, Any]:
    return {
        "plan": plan.row(),
        "plan_hash": plan.hash,
        "notional": plan.notional,
        "cost": plan.cost,
        "min_payoff": plan.min_payoff,
        "worst_loss": plan.worst_loss,
    }


def _locked(intent_id: int) -> OrderIntent:
    """Return the intent, held until the transaction ends. Raises `OrderIntent.DoesNotExist`."""
    OrderIntent.objects.select_for_update().get(pk=intent_id)
    return OrderIntent.objects.select_related(*DECIDING_FIELDS).get(pk=intent_id)


def _move(intent: OrderIntent, before: Status, after: Status, **fields: Any) -> bool:
    """Move the row by asking the database; False if it is not where we think it is."""
    rows = OrderIntent.objects.filter(pk=intent.pk, status=before)
    if not rows.update(status=after, **fields):
        return False
    intent.status = after
    for name, value in fields.items():
        setattr(intent, name, value)
    return True


def _may(by: User, codename: str) -> Check:
    allowed = by.has_perm(f"execution.{codename}")
    return permitted(allowed=allowed, who=by.get_username(), needs=codename)


def _open_of(signal: Signal) -> str:
    intent = OrderIntent.objects.filter(
        signal=signal, status__in=(Status.SUGGESTED, Status.APPROVED)
    ).first()
    return f"intent {intent.pk} is {intent.status}" if intent else ""


def _no_intent(signal: Signal, by: User, at: datetime, verdict: Verdict) -> Answer:
    note_no_intent(
        "suggestion_refused", signal_key=signal.key, at=at, actor=by.get_username(), verdict=verdict
    )
    return Answer(None, False, verdict)


def _refused(
    intent: OrderIntent,
    kind: str,
    by: User,
    at: datetime,
    verdict: Verdict,
    changes: tuple[Change, ...] = (),
) -> Answer:
    data = {"difference": _changes(changes), **reasons(verdict)}
    note(intent, kind, at=at, actor=by.get_username(), data=data)
    return Answer(intent, False, verdict, changes)


def _since(intent: OrderIntent, shown: str) -> tuple[Change, ...]:
    """Return how the plan held differs from the one that was shown; empty if that is not known."""
    for event in IntentEvent.objects.filter(intent=intent, kind__in=("SUGGESTED", "REVISED")):
        plan = event.data.get("plan")
        if plan and plan["hash"] == shown:
            return difference(read_plan(plan), intent.typed_plan)
    return ()


def _changes(changes: tuple[Change, ...]) -> list[dict[str, str]]:
    return [{"what": each.what, "old": each.old, "new": each.new} for each in changes]
