"""What must always hold, asked of the database in one go (DESIGN section 6).

Called after every fault test, by `doctor`, and at night. Each finding says what
is broken, where, and with which numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, F, Q

from alerts import journal
from alerts.models import AuditEntry, OutboxEntry
from execution.bets import BETS
from execution.holdings import Oversold
from execution.matching import price_units, size_units
from execution.models import Fill, IntentEvent, IntentLeg, LiveBook, OrderIntent, PositionEntry
from execution.plans import Plan, PlannedLeg
from execution.positions import holdings
from markets.models import Quote
from signals.models import Signal

SWEEP = timedelta(seconds=60)  # how late a sweep may be
Status = OrderIntent.Status

EDGES = {
    ("", "SUGGESTED"),
    ("", "REJECTED"),
    ("SUGGESTED", "APPROVED"),
    ("SUGGESTED", "REJECTED"),
    ("SUGGESTED", "EXPIRED"),
    ("SUGGESTED", "CANCELLED"),
    ("APPROVED", "FILLED"),
    ("APPROVED", "FAILED"),
    ("APPROVED", "CANCELLED"),
}


@dataclass(frozen=True, slots=True)
class Broken:
    """One thing that does not hold: which rule, of what, and the numbers."""

    rule: str
    subject: str
    detail: str


def invariants(at: datetime) -> tuple[Broken, ...]:
    """Return everything that does not hold at a time; empty when all is well."""
    return tuple(broken for look in LOOKS for broken in look(at))


def _books(at: datetime) -> Iterator[Broken]:
    for quote in Quote.objects.filter(state="fresh", bid__gte=F("ask")):
        yield Broken("book", f"market:{quote.market_id}", f"fresh at {quote.bid} / {quote.ask}")
    for book in LiveBook.objects.filter(state="fresh"):
        bids, asks = book.bids, book.asks
        if bids and asks and bids[0][0] >= asks[0][0]:
            yield Broken("book", f"market:{book.pk}", f"fresh at {bids[0][0]} / {asks[0][0]}")
        prices = [price for price, _ in bids], [price for price, _ in asks]
        if prices != (sorted(prices[0], reverse=True), sorted(prices[1])):
            yield Broken("book", f"market:{book.pk}", "levels are not sorted")
        if any(size <= 0 for _, size in (*bids, *asks)):
            yield Broken("book", f"market:{book.pk}", "a level without size")


def _plans(at: datetime) -> Iterator[Broken]:
    for intent in OrderIntent.objects.order_by("id").iterator():
        plan, subject = intent.typed_plan, f"intent:{intent.pk}"
        if plan.hash != intent.plan_hash or plan.notional != intent.notional:
            yield Broken("plan_hash", subject, "the plan is not the one that was signed")
        payoff = plan.payoff_of([leg.size for leg in plan.legs])
        if payoff < plan.min_payoff:
            yield Broken("plan_payoff", subject, f"pays {payoff}, states {plan.min_payoff}")
        if plan.kind in BETS:
            yield from _bet(plan, subject)
        elif plan.min_payoff <= plan.cost:
            yield Broken("plan_payoff", subject, f"pays {plan.min_payoff}, costs {plan.cost}")
        if sum((leg.max_cost for leg in plan.legs), Decimal(0)) != plan.notional:
            yield Broken("plan_cost", subject, "legs do not add up to the notional")


def _bet(plan: Plan, subject: str) -> Iterator[Broken]:
    """Ask of a bet: one leg within its rule's size, worth it on average, lost as a whole."""
    if len(plan.legs) != 1 or plan.legs[0].size > plan.legs[0].basis_size:
        yield Broken("plan_bet", subject, "it is more than its rule would bet")
    if plan.min_payoff or plan.worst_loss != plan.notional or (plan.expected_gain or 0) <= 0:
        told = f"{plan.worst_loss} of {plan.notional} lost, {plan.expected_gain} expected"
        yield Broken("plan_bet", subject, told)


def _caps(at: datetime) -> Iterator[Broken]:
    """Walk the steps in the order they were committed; after each approval the caps must hold.

    Each approval is held to the limits of its own moment, which it carries.
    """
    intents = OrderIntent.objects.in_bulk()
    days: dict[str, Decimal] = {}
    still_open: set[int] = set()
    for event in IntentEvent.objects.order_by("audit_id").iterator():
        if event.status != Status.APPROVED:
            still_open.discard(event.intent_id)
        if event.kind != "APPROVED":
            continue
        still_open.add(event.intent_id)
        intent, bounds = intents[event.intent_id], event.data["bounds"]
        day = event.at.date().isoformat()
        days[day] = days.get(day, Decimal(0)) + intent.notional
        same_event = [intents[pk] for pk in still_open if intents[pk].event_id == intent.event_id]
        at_risk = sum((each.worst_loss for each in same_event), Decimal(0))
        values = {
            "order_notional": intent.notional,
            "daily_notional": days[day],
            "concurrent_orders": Decimal(len(still_open)),
            "event_exposure": at_risk if intent.event_id else intent.worst_loss,
        }
        for name, value in values.items():
            if value > Decimal(bounds[name]):
                yield Broken(name, f"intent:{intent.pk}", f"{value}, {bounds[name]} allowed")


def _approvals(at: datetime) -> Iterator[Broken]:
    single = Q(single_operator=True)
    for intent in OrderIntent.objects.filter(approver=F("proposer")).exclude(single):
        yield Broken("four_eyes", f"intent:{intent.pk}", "approved by its proposer")
    for fill in Fill.objects.filter(intent__approver__isnull=True):
        yield Broken("fill_approved", f"fill:{fill.pk}", "its intent was never approved")
    approved = IntentEvent.objects.filter(kind="APPROVED").values("intent")
    for fill in Fill.objects.exclude(intent__in=approved):
        yield Broken("fill_approved", f"fill:{fill.pk}", "there is no step of its approval")
    for event in IntentEvent.objects.filter(kind="APPROVED"):
        if not event.data.get("ok"):
            yield Broken("approval_checked", f"intent:{event.intent_id}", "a check had failed")


def _fills(at: datetime) -> Iterator[Broken]:
    twice = Fill.objects.values("intent", "leg", "seq").annotate(n=Count("id")).filter(n__gt=1)
    for row in twice:
        yield Broken("one_fill_per_leg", f"intent:{row['intent']}", f"leg {row['leg']}: {row['n']}")
    plans = {i.pk: i.typed_plan for i in OrderIntent.objects.filter(fills__isnull=False).distinct()}
    for fill in Fill.objects.order_by("id").iterator():
        leg = next((each for each in plans[fill.intent_id].legs if each.number == fill.leg), None)
        yield from _fill_within(fill, leg)
    for leg_row in IntentLeg.objects.order_by("id").iterator():
        yield from _leg_matches_fills(leg_row)


def _fill_within(fill: Fill, leg: PlannedLeg | None) -> Iterator[Broken]:
    subject = f"fill:{fill.pk}"
    if leg is None or leg.token_id != fill.token_id:
        yield Broken("fill_planned", subject, "the plan has no such leg")
        return
    if any(not check["ok"] for check in fill.verdict):
        yield Broken("fill_checked", subject, "a check had failed")
    if fill.side != Fill.Side.BUY:
        return
    if fill.size > leg.size or -fill.cash > leg.max_cost:
        yield Broken("fill_within_plan", subject, f"{fill.size} shares for {-fill.cash}")
    limit = price_units(leg.limit_price)
    if any(price_units(Decimal(price)) > limit for price, *_ in fill.takes):
        yield Broken("fill_within_limit", subject, f"above {leg.limit_price}")


def _leg_matches_fills(leg: IntentLeg) -> Iterator[Broken]:
    got = {
        fill.seq: fill.size for fill in Fill.objects.filter(intent=leg.intent_id, leg=leg.number)
    }
    if got.get(0, Decimal(0)) != leg.filled or got.get(1, Decimal(0)) != leg.unwound:
        told = f"says {leg.filled} and {leg.unwound}, fills say {got}"
        yield Broken("leg_matches_fills", f"intent:{leg.intent_id}", f"leg {leg.number} {told}")


def _steps(at: datetime) -> Iterator[Broken]:
    """Walk the events of every intent: no step out of a closed state, each in the chain."""
    last: dict[int, str] = {}
    for event in IntentEvent.objects.order_by("id").iterator():
        before = last.get(event.intent_id, "")
        if event.status != before:
            if (before, event.status) not in EDGES:
                subject = f"intent:{event.intent_id}"
                yield Broken("legal_steps", subject, f"{before or 'nothing'} to {event.status}")
            last[event.intent_id] = event.status
    for intent in OrderIntent.objects.order_by("id").iterator():
        if last.get(intent.pk) != intent.status:
            told = f"is {intent.status}, its last step says {last.get(intent.pk)}"
            yield Broken("every_step_written", f"intent:{intent.pk}", told)


def _deadlines(at: datetime) -> Iterator[Broken]:
    late = OrderIntent.objects.filter(status=Status.SUGGESTED, expires_at__lt=at - SWEEP)
    for intent in late:
        yield Broken("expiry", f"intent:{intent.pk}", f"should have expired at {intent.expires_at}")
    stuck = OrderIntent.objects.open().filter(
        fill_by__lt=at - 3 * SWEEP, legs__state=IntentLeg.State.WAITING
    )
    for intent in stuck.distinct():
        yield Broken("expiry", f"intent:{intent.pk}", "approved and never answered")


def _positions(at: datetime) -> Iterator[Broken]:
    try:
        held = holdings(PositionEntry.objects.order_by("id"))
    except Oversold as error:
        yield Broken("positions", f"token:{error.token_id}", str(error))
        return
    bought: Counter[str] = Counter()
    for token, size, side in Fill.objects.values_list("token_id", "size", "side"):
        bought[token] += size_units(size) if side == Fill.Side.BUY else -size_units(size)
    entries = PositionEntry.objects.filter(kind__in=("BUY", "SELL"))
    for token, size in entries.values_list("token_id", "shares"):
        bought[token] -= size_units(size)
    for token, units in bought.items():
        if units:
            yield Broken("positions", f"token:{token}", f"{units} units differ from the fills")
    for token, holding in held.items():
        if holding.shares < 0 or holding.cost < 0:
            yield Broken("positions", f"token:{token}", f"{holding.shares} for {holding.cost}")


def _kill_switch(at: datetime) -> Iterator[Broken]:
    """Read the chain, whose order is that of the commits: nothing fills while the switch is on."""
    tripped = False
    kinds = (
        "killswitch.tripped",
        "killswitch.rearmed",
        "intent.approved",
        "intent.leg_filled",
        "intent.leg_partial",
        "intent.leg_unwound",
    )
    for entry in AuditEntry.objects.filter(kind__in=kinds).order_by("id").iterator():
        if entry.kind.startswith("killswitch"):
            tripped = entry.kind == "killswitch.tripped"
        elif tripped:
            yield Broken("kill_switch", entry.subject, f"{entry.kind} while it was on")


def _journal(at: datetime) -> Iterator[Broken]:
    try:
        length = journal.verify_head()
    except journal.ChainBroken as error:
        yield Broken("audit_chain", f"audit:{error.entry_id}", error.reason)
        return
    head = IntentEvent.objects.order_by("-audit_id").values_list("audit_id", flat=True).first()
    if head is not None and head > length:
        yield Broken("audit_chain", f"audit:{head}", f"the chain ends at {length}")
    steps = IntentEvent.objects.values_list("audit_id", "intent_id", "kind")
    audits = dict(
        AuditEntry.objects.filter(kind__startswith="intent.").values_list("id", "subject")
    )
    for audit_id, intent_id, kind in steps:
        if audits.get(audit_id) != f"intent:{intent_id}":
            yield Broken("every_step_audited", f"intent:{intent_id}", f"{kind} is not in the chain")


def _signals(at: datetime) -> Iterator[Broken]:
    alerted = set(OutboxEntry.objects.filter(kind="signal.p1").values_list("key", flat=True))
    for key in Signal.objects.filter(level="P1").values_list("key", flat=True):
        if f"signal:{key}:P1" not in alerted:
            yield Broken("p1_is_alerted", f"signal:{key}", "it has no outbox row")
    opened = set(AuditEntry.objects.filter(kind="signal.opened").values_list("subject", flat=True))
    for key in Signal.objects.values_list("key", flat=True):
        if f"signal:{key}" not in opened:
            yield Broken("signal_is_audited", f"signal:{key}", "its opening is not in the chain")


LOOKS: tuple[Callable[[datetime], Iterator[Broken]], ...] = (
    _books,
    _plans,
    _caps,
    _approvals,
    _fills,
    _steps,
    _deadlines,
    _positions,
    _kill_switch,
    _journal,
    _signals,
)
NAMES = tuple(look.__name__.strip("_") for look in LOOKS)
