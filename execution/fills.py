"""What the paper broker does to the database: each answer of the venue in one transaction.

The kill switch and the limits are looked at again under their locks before a
fill is written. Every step moves by a conditional update and can be done again
after a crash: a leg that was answered is not answered twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from execution import positions
from execution.matching import (
    REASONS,
    Match,
    NoMatch,
    Order,
    lowest_limit,
    price_units,
    read_match,
    size_units,
)
from execution.models import Fill, IntentLeg, OrderIntent
from execution.plans import Plan, PlannedLeg, excess, slippage_bps
from execution.sights import situation, state_of, terms_of
from execution.steps import note, reasons
from execution.tickets import BookSeen, Report, Ticket
from markets.fills import FREE, shares
from markets.listing import MarketTerms
from markets.models import Market
from risk import breakers, killswitch, limits
from risk.checks import Kill, Leg, Verdict, judge
from risk.crash import crash_point
from risk.locking import DeskBusy, in_turn
from risk.models import Policy

UNWIND_AFTER = timedelta(seconds=60)  # how long an unwinding sale looks for bids
ANSWER_AFTER = timedelta(seconds=10)  # when a rehearsed lost answer turns up
LOST_AFTER = timedelta(seconds=60)  # past its deadline, an order that no broker answers is given up

State = IntentLeg.State
Unwind = IntentLeg.Unwind
Status = OrderIntent.Status
BUY, SELL = 0, 1  # the sequence numbers of a leg's fills


# --- what is to be done --------------------------------------------------------------


def tickets(*, at: datetime) -> tuple[Ticket, ...]:
    """Return the orders that wait for an answer, also those that a dead process left.

    While the kill switch is on nothing is sold either, so unwinding waits.
    """
    legs = IntentLeg.objects.filter(intent__status=Status.APPROVED).select_related(
        "intent", "market__event"
    )
    waiting = legs.filter(state=State.WAITING).prefetch_related("market__outcomes")
    unwinding = legs.filter(unwind=Unwind.WAITING).prefetch_related("market__outcomes")
    found = [_purchase(leg) for leg in waiting.order_by("intent_id", "number")]
    sales = [_sale(leg, at) for leg in unwinding.order_by("intent_id", "number")]
    if sales and not killswitch.status().tripped:
        found += sales
    return tuple(found)


def _purchase(leg: IntentLeg) -> Ticket:
    intent = leg.intent
    planned = _planned(intent.typed_plan, leg.number)
    last = leg.number == len(intent.plan["legs"])
    return _ticket(
        leg,
        BUY,
        size=size_units(leg.size),
        limit=price_units(leg.limit_price),
        epoch=planned.epoch,
        deadline=intent.fill_by or intent.expires_at,
        refuse=last and intent.rehearsal == OrderIntent.Rehearsal.LEG_FAILS,
    )


def _sale(leg: IntentLeg, at: datetime) -> Ticket:
    return _ticket(
        leg,
        SELL,
        size=size_units(leg.unwind_size),
        limit=0,
        epoch=None,
        deadline=leg.unwind_by or at,
    )


def _ticket(
    leg: IntentLeg,
    seq: int,
    *,
    size: int,
    limit: int,
    epoch: int | None,
    deadline: datetime,
    refuse: bool = False,
) -> Ticket:
    terms = _terms(leg.market)
    order = Order(
        side="BUY" if seq == BUY else "SELL",
        size=size,
        limit=limit or lowest_limit(terms.tick),
        tick=terms.tick,
        min_size=terms.min_size if seq == BUY else 0,
        fee=terms.fee or FREE,
    )
    return Ticket(
        key=(leg.intent_id, leg.number, seq),
        token_id=leg.token_id,
        market_id=leg.market_id,
        condition_id=terms.condition_id,
        outcome=leg.outcome_index,
        order=order,
        place=leg.number - 1,
        epoch=epoch,
        deadline=deadline,
        refuse=refuse,
    )


def _terms(market: Market) -> MarketTerms:
    return terms_of(market, {outcome.index: outcome for outcome in market.outcomes.all()})


def events_of(intent_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return the events of orders' legs; a market without one counts by its own id."""
    legs = IntentLeg.objects.filter(intent__in=set(intent_ids)).order_by("intent_id", "number")
    found: dict[int, list[str]] = {}
    for intent_id, market_id, event_id in legs.values_list(
        "intent_id", "market_id", "market__event_id"
    ):
        found.setdefault(intent_id, []).append(event_id or market_id)
    return found


def recent_takes(*, since: datetime) -> Iterable[tuple[Fill, list[list[str]]]]:
    """Return fills since a time with the levels they took, oldest first."""
    return ((fill, fill.takes) for fill in Fill.objects.filter(at__gte=since).order_by("id"))


# --- answers -------------------------------------------------------------------------


def store(report: Report, *, proof: Callable[[], None] | None = None) -> bool:
    """Write what the venue answered; False if that leg had its answer already.

    `proof` is called in the transaction and raises if this process may not answer any more.
    """
    crash_point("broker_before_write")
    act = _bought if report.ticket.key[2] == BUY else _sold

    def answer(policy: Policy) -> bool:
        if proof:
            proof()
        return act(policy, report=report)

    done = in_turn(answer)
    crash_point("fill_after_commit" if report.ticket.key[2] == BUY else "unwind_after_commit")
    return done


def reconcile_due(*, at: datetime, intent_id: int | None = None) -> int:
    """Take in answers that were lost and are known now; return how many.

    With an intent, its answers are asked for at once.
    """
    legs = IntentLeg.objects.filter(state=State.UNKNOWN)
    due = legs.filter(intent=intent_id) if intent_id else legs.filter(answer_due_at__lte=at)
    keys = list(due.order_by("intent_id", "number").values_list("intent_id", "number"))
    return sum(in_turn(partial(_reconcile, intent_id=i, number=n, at=at)) for i, n in keys)


def give_up_lost(*, at: datetime) -> int:
    """Fail orders that no broker answered long after their deadline; return how many.

    What they hold already is unwound when a broker is back.
    """
    lost = OrderIntent.objects.open().filter(fill_by__lt=at - LOST_AFTER, legs__state=State.WAITING)
    ids = sorted(set(lost.values_list("pk", flat=True)))
    return sum(in_turn(partial(_give_up, intent_id=pk, at=at)) for pk in ids)


def stop(intent: OrderIntent, *, why: str, by: str, at: datetime) -> None:
    """Drop the legs that wait, in the caller's turn; what is held and incomplete is unwound."""
    OrderIntent.objects.filter(pk=intent.pk).update(stopped_by=by, reason=why[:600])
    intent.stopped_by, intent.reason = by, why[:600]
    IntentLeg.objects.filter(intent=intent, state=State.WAITING).update(
        state=State.FAILED, reason=why[:600], resolved_at=at
    )
    note(intent, "stopped", at=at, actor=by)
    _settle(intent, at=at)


def _bought(policy: Policy, *, report: Report) -> bool:
    """Answer the purchase of a leg."""
    kill = _switch()
    intent, leg = _locked(report)
    if leg is None or leg.state != State.WAITING or intent.status != Status.APPROVED:
        return False
    result, at = report.result, report.at
    if isinstance(result, NoMatch):
        _fail_leg(intent, leg, f"{result.reason}: {REASONS[result.reason]}", at=at, report=report)
        _settle(intent, at=at)
        return True
    last = leg.number == len(intent.plan["legs"])
    if last and intent.rehearsal == OrderIntent.Rehearsal.UNKNOWN:
        _lose_answer(intent, leg, report)
        return True
    _take_answer(policy, intent, leg, result, report.book, kill=kill, at=at)
    _settle(intent, at=at)
    return True


def _take_answer(
    policy: Policy,
    intent: OrderIntent,
    leg: IntentLeg,
    result: Match,
    book: BookSeen,
    *,
    kill: Kill,
    at: datetime,
) -> None:
    """Judge a purchase that the venue filled; write it, or refuse it."""
    verdict = _judged(policy, intent, leg, result, book, kill=kill, at=at)
    if not verdict.ok:
        _fail_leg(intent, leg, " ".join(verdict.reasons), at=at, verdict=verdict)
        return
    state = State.FILLED if result.complete else State.PARTIAL
    paid, size = result.cash, shares(result.size)
    moved = IntentLeg.objects.filter(pk=leg.pk, state=leg.state).update(
        state=state, filled=size, paid=paid, resolved_at=at, sealed=None, answer_due_at=None
    )
    if not moved:
        raise AssertionError(f"{leg} was answered while we held its intent")
    _write_fill(intent, leg, BUY, result, book, verdict, at=at)
    crash_point("fill_before_commit")


def _sold(policy: Policy, *, report: Report) -> bool:
    """Answer the unwinding sale of a leg."""
    kill = _switch()
    intent, leg = _locked(report)
    if leg is None or leg.unwind != Unwind.WAITING or intent.status != Status.APPROVED:
        return False
    if kill.tripped:
        return False  # it waits until the switch is re-armed
    result, at = report.result, report.at
    if isinstance(result, NoMatch):
        why = f"{result.reason}: {REASONS[result.reason]}"
        IntentLeg.objects.filter(pk=leg.pk).update(unwind=Unwind.FAILED)
        note(
            intent, "unwind_failed", at=at, data={"leg": leg.number, "reason_leg": why}, alert=True
        )
    else:
        done = Unwind.DONE if result.complete else Unwind.PARTIAL
        IntentLeg.objects.filter(pk=leg.pk, unwind=Unwind.WAITING).update(
            unwind=done, unwound=shares(result.size)
        )
        _write_fill(intent, leg, SELL, result, report.book, Verdict(()), at=at)
    crash_point("unwind_before_commit")
    if not intent.legs.filter(unwind=Unwind.WAITING).exists():
        _finish(intent, at=at)
    return True


def _reconcile(policy: Policy, *, intent_id: int, number: int, at: datetime) -> int:
    kill = _switch()
    intent = _intent(intent_id)
    leg = IntentLeg.objects.select_for_update().get(intent=intent, number=number)
    if leg.state != State.UNKNOWN or leg.sealed is None or kill.tripped:
        return 0
    book = leg.sealed["book"]
    seen = BookSeen(datetime.fromisoformat(book["at"]), book["state"], book["epoch"], book["basis"])
    note(intent, "leg_known", at=at, data={"leg": leg.number})
    result = read_match(leg.sealed["match"])
    _take_answer(policy, intent, leg, result, seen, kill=kill, at=at)
    _settle(intent, at=at)
    return 1


def _give_up(policy: Policy, *, intent_id: int, at: datetime) -> int:
    intent = _intent(intent_id)
    if intent.status != Status.APPROVED:
        return 0
    why = "no broker took it up in time. See whether the stream runs."
    dropped = IntentLeg.objects.filter(intent=intent, state=State.WAITING).update(
        state=State.FAILED, reason=why, resolved_at=at
    )
    if not dropped:
        return 0
    note(intent, "given_up", at=at, data={"legs": dropped})
    _settle(intent, at=at)
    return 1


def _switch() -> Kill:
    """Read the kill switch under its lock; one that cannot be read makes the answer wait."""
    kill = killswitch.locked()
    if not kill.readable:
        raise DeskBusy(kill.reason)
    return kill


# --- one leg -------------------------------------------------------------------------


def _judged(
    policy: Policy,
    intent: OrderIntent,
    leg: IntentLeg,
    result: Match,
    book: BookSeen,
    *,
    kill: Kill,
    at: datetime,
) -> Verdict:
    """Make the checks of a fill. Its deadline is that of the order, whenever it is written."""
    plan = intent.typed_plan
    planned = _planned(plan, leg.number)
    share = shares(result.size) / planned.size
    now = Leg(
        label=planned.label,
        market_state=state_of(_terms(leg.market)),
        book_state=book.state,
        book_age_ms=0,
        epoch_planned=planned.epoch,
        epoch_now=book.epoch,
        slippage_bps=slippage_bps(planned.cost * share, result.cash),
        missing=planned.size - shares(result.size),
    )
    found = situation(plan, intent.signal, (now,), kill=kill, at=book.at, intent=intent, lock=True)
    return judge("fill", found, limits.bounds(policy))


def _fail_leg(
    intent: OrderIntent,
    leg: IntentLeg,
    why: str,
    *,
    at: datetime,
    report: Report | None = None,
    verdict: Verdict | None = None,
) -> None:
    IntentLeg.objects.filter(pk=leg.pk, state=leg.state).update(
        state=State.FAILED, reason=why[:600], resolved_at=at, sealed=None, answer_due_at=None
    )
    data: dict[str, Any] = {"leg": leg.number, "label": leg.label, "reason_leg": why}
    if report is not None:
        data["book"] = report.book.row()
    if verdict is not None:
        data |= reasons(verdict)
    note(intent, "leg_refused" if verdict else "leg_failed", at=at, data=data)


def _lose_answer(intent: OrderIntent, leg: IntentLeg, report: Report) -> None:
    """Rehearse that the venue's answer does not arrive: nobody knows whether the leg filled."""
    if not isinstance(report.result, Match):
        raise TypeError("only a fill can be lost")
    IntentLeg.objects.filter(pk=leg.pk, state=State.WAITING).update(
        state=State.UNKNOWN,
        sealed={"match": report.result.row(), "book": report.book.row()},
        answer_due_at=report.at + ANSWER_AFTER,
    )
    note(intent, "leg_unknown", at=report.at, data={"leg": leg.number}, alert=True)


def _write_fill(
    intent: OrderIntent,
    leg: IntentLeg,
    seq: int,
    result: Match,
    book: BookSeen,
    verdict: Verdict,
    *,
    at: datetime,
) -> None:
    size = shares(result.size)
    bought = seq == BUY
    told = {
        "leg": leg.number,
        "label": leg.label,
        "side": result.side,
        "size": str(size),
        "avg_price": str(result.avg_price),
        "fee": str(result.fee),
        "cash": str(-result.cash if bought else result.cash),
        "book": book.row(),
        **reasons(verdict),
    }
    kind = "leg_unwound" if not bought else "leg_filled" if result.complete else "leg_partial"
    event = note(intent, kind, at=at, data=told)
    fill = Fill.objects.create(
        intent=intent,
        leg=leg.number,
        seq=seq,
        at=at,
        token_id=leg.token_id,
        market_id=leg.market_id,
        outcome_index=leg.outcome_index,
        side=result.side,
        size=size,
        avg_price=result.avg_price,
        fee=result.fee,
        cash=-result.cash if bought else result.cash,
        takes=[take.row() for take in result.takes],
        book=book.row(),
        verdict=verdict.rows(),
        audit_id=event.audit_id,
    )
    positions.record_fill(
        fill_id=fill.pk,
        intent=intent,
        kind=result.side,
        token_id=leg.token_id,
        market_id=leg.market_id,
        outcome_index=leg.outcome_index,
        shares=size if bought else -size,
        cash=fill.cash,
        audit_id=event.audit_id,
        at=at,
    )


# --- the whole basket ----------------------------------------------------------------


def _settle(intent: OrderIntent, *, at: datetime) -> None:
    """When every leg has its answer: unwind what belongs to no basket, or finish."""
    legs = list(intent.legs.order_by("number"))
    if any(leg.state in (State.WAITING, State.UNKNOWN) for leg in legs):
        return
    filled = {leg.number: leg.filled for leg in legs}
    over: Mapping[int, Decimal] = {}
    if any(filled.values()):
        paid = {leg.number: leg.paid for leg in legs}
        over = excess(intent.typed_plan, filled=filled, paid=paid)
    wanted = [leg for leg in legs if over.get(leg.number)]
    for leg in wanted:
        IntentLeg.objects.filter(pk=leg.pk).update(
            unwind=Unwind.WAITING, unwind_size=over[leg.number], unwind_by=at + UNWIND_AFTER
        )
    if wanted:
        told = {f"{leg.label}": str(over[leg.number]) for leg in wanted}
        note(intent, "incomplete", at=at, data={"unwinding": told}, alert=True)
    else:
        _finish(intent, at=at)
    crash_point("settle_before_commit")


def _finish(intent: OrderIntent, *, at: datetime) -> None:
    """Close an order whose legs are all done: filled if a basket that pays, or a bet, is kept."""
    legs = list(intent.legs.order_by("number"))
    plan = intent.typed_plan
    kept = [leg.filled - leg.unwound - _stuck(leg) for leg in legs]
    locked = plan.payoff_of(kept)
    money = _money(intent, legs)
    status = Status.FILLED if locked or (plan.bet and any(kept)) else Status.FAILED
    if not any(leg.filled for leg in legs) and intent.stopped_by:
        status = Status.CANCELLED
    why = intent.reason or ("" if status == Status.FILLED else _why_failed(legs))
    fields = {**money, "locked_payoff": locked, "closed_at": at, "reason": why[:600]}
    rows = OrderIntent.objects.filter(pk=intent.pk, status=Status.APPROVED)
    if not rows.update(status=status, **fields):
        raise AssertionError(f"{intent} moved while we held it")
    intent.status = status
    for name, value in fields.items():
        setattr(intent, name, value)
    cash = positions.redeem(intent, at=at) if locked and plan.instant else Decimal(0)
    stuck = {leg.label: str(_stuck(leg)) for leg in legs if _stuck(leg)}
    told = {name: str(value) for name, value in money.items()}
    data = {**told, "locked_payoff": str(locked), "redeemed": str(cash), "not_unwound": stuck}
    note(intent, status.lower(), at=at, data=data, alert=True)
    _tell_breakers(intent, plan, legs, at=at)


def _stuck(leg: IntentLeg) -> Decimal:
    """Return the shares that should have been unwound and could not be."""
    return leg.unwind_size - leg.unwound


def _money(intent: OrderIntent, legs: Iterable[IntentLeg]) -> dict[str, Decimal]:
    fills = list(intent.fills.all())
    cost_of_sold = sum(
        (leg.paid / leg.filled * leg.unwound for leg in legs if leg.unwound), Decimal(0)
    )
    recovered = sum((fill.cash for fill in fills if fill.seq == SELL), Decimal(0))
    return {
        "spent": -sum((fill.cash for fill in fills if fill.seq == BUY), Decimal(0)),
        "fees": sum((fill.fee for fill in fills), Decimal(0)),
        "recovered": recovered,
        "unwind_cost": (cost_of_sold - recovered).quantize(Decimal("0.000001")),
    }


def _why_failed(legs: Iterable[IntentLeg]) -> str:
    failed = [f"{leg.label}: {leg.reason}" for leg in legs if leg.state == State.FAILED]
    return "; ".join(failed) or "the legs filled too unevenly to keep a basket"


def _tell_breakers(
    intent: OrderIntent, plan: Plan, legs: Iterable[IntentLeg], *, at: datetime
) -> None:
    markets = {leg.market_id for leg in plan.legs}
    if intent.status == Status.FILLED:
        breakers.note_done(rule=plan.rule, markets=markets, trial=intent.trial, at=at)
    elif intent.stopped_by or killswitch.status().tripped:
        breakers.release_trial(trial=intent.trial, at=at)
    else:
        failed = {leg.market_id for leg in legs if leg.state == State.FAILED}
        breakers.note_failed(
            rule=plan.rule, markets=failed, trial=intent.trial, reason=intent.reason[:200], at=at
        )


def _locked(report: Report) -> tuple[OrderIntent, IntentLeg | None]:
    intent_id, number, _ = report.ticket.key
    intent = _intent(intent_id)
    legs = IntentLeg.objects.select_for_update().filter(intent=intent, number=number)
    return intent, legs.first()


def _intent(intent_id: int) -> OrderIntent:
    OrderIntent.objects.select_for_update().get(pk=intent_id)
    return OrderIntent.objects.select_related("signal__rule", "event", "proposer", "approver").get(
        pk=intent_id
    )


def _planned(plan: Plan, number: int) -> PlannedLeg:
    return next(leg for leg in plan.legs if leg.number == number)
