"""What the pages of an order show: execution, approvals, one intent, all intents."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.http import QueryDict

from alerts.models import AuditEntry
from execution import intents
from execution.models import Fill, IntentEvent, IntentLeg, IntentQuerySet, OrderIntent
from execution.plans import Change, Plan, PlannedLeg, Sight, difference, read_plan
from execution.sights import sights_of
from mpx_site.portal import words
from mpx_site.portal.filters import Asked
from mpx_site.portal.ladders import LegLadder, leg_ladder
from mpx_site.portal.refusals import Refusal, refusal_of
from risk import limits
from risk.checks import Bounds, Verdict, four_eyes, permitted, status_is
from rules.models import Rule
from signals.models import Signal

Status = OrderIntent.Status
ENDS = ("REJECTED", "CANCELLED", "STOPPED")  # by a person
PLANNED = ("SUGGESTED", "REVISED", "REJECTED")  # steps that keep the checks of a plan


# --- what a person may ask -----------------------------------------------------------


class AskedOrder(forms.Form):
    """The order size that a preview is asked for, within the cap (USD)."""

    capital = forms.DecimalField(
        required=False, min_value=Decimal(1), max_digits=12, decimal_places=2
    )

    def __init__(self, data: QueryDict, *, cap: Decimal) -> None:
        super().__init__(data)
        self.cap = cap
        self.is_valid()

    @property
    def capital_usd(self) -> Decimal | None:
        """Return the size asked for; None means the cap."""
        value: Decimal | None = self.cleaned_data.get("capital")
        return None if value is None else min(value, self.cap)

    @property
    def problem(self) -> str:
        """Say what was not taken as asked; empty if nothing was."""
        if self.errors:
            return f"An order size is from 1 to {self.cap} USD; the cap is taken."
        asked = self.cleaned_data.get("capital")
        if asked is not None and asked > self.cap:
            return f"{asked} USD is over the cap of {self.cap} USD; the cap is taken."
        return ""


class AskedIntents(Asked):
    """Filters of the list of orders."""

    status = forms.ChoiceField(
        choices=[("", "All states"), ("open", "Open"), *Status.choices], required=False
    )
    rule = forms.ModelChoiceField(
        Rule.objects.order_by("code"), to_field_name="code", required=False, empty_label="All rules"
    )
    kind = forms.ChoiceField(
        choices=[("", "All kinds"), *((kind, name) for kind, (name, _) in words.KINDS.items())],
        required=False,
    )
    who = forms.ChoiceField(
        choices=[
            ("", "Everybody's"),
            ("proposed", "Proposed by me"),
            ("approved", "Approved by me"),
        ],
        required=False,
    )
    sort = forms.ChoiceField(
        choices=[("", "Newest first"), ("oldest", "Oldest first"), ("largest", "Largest first")],
        required=False,
        label="Sort",
    )
    field_order = ("status", "rule", "kind", "who", "sort", "size")

    def rows(self, by: User) -> IntentQuerySet:
        rows = OrderIntent.objects.newest()
        if status := self.value("status"):
            chosen = ("SUGGESTED", "APPROVED") if status == "open" else (status,)
            rows = rows.filter(status__in=chosen)
        if rule := self.cleaned_data.get("rule"):
            rows = rows.filter(signal__rule=rule)
        if kind := self.value("kind"):
            rows = rows.filter(kind=kind)
        if who := self.value("who"):
            rows = rows.filter(**{"proposer" if who == "proposed" else "approver": by})
        orders = {"oldest": ("id",), "largest": ("-notional", "-id")}
        return rows.order_by(*orders.get(self.value("sort"), ("-id",)))


# --- the execution page --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Freshness:
    """Until when the signal may be used, and since when the oldest book was not vouched for.

    `books_at` is None if a leg has no live book.
    """

    signal_until: datetime
    books_at: datetime | None
    book_age_ms: int


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """An order for a signal as it would be now. `key` makes sending it twice one intent."""

    preview: intents.Preview
    ladders: tuple[LegLadder, ...]
    asked: AskedOrder
    fresh: Freshness
    may: Verdict
    open_intent: OrderIntent | None
    refusal: Refusal | None
    key: str
    rehearsals: tuple[tuple[str, str], ...]

    @property
    def signal(self) -> Signal:
        return self.preview.signal

    @property
    def plan(self) -> Plan | None:
        return self.preview.plan


def execution(key: str, query: QueryDict, *, by: User, at: datetime) -> ExecutionPage:
    """Preview an order. Creates nothing. Raise `Signal.DoesNotExist` for an unknown key."""
    signal = Signal.objects.select_related("rule", "event").get(key=key)
    bounds = limits.bounds()
    asked = AskedOrder(query, cap=bounds.order_notional)
    preview = intents.preview(signal, at=at, capital=asked.capital_usd)
    tokens = [leg.token_id for leg in intents.basis_of_signal(signal).legs]
    sights = sights_of(tokens, depth_share=bounds.depth_share, at=at)
    return ExecutionPage(
        preview=preview,
        ladders=_ladders(tokens, sights, preview.plan),
        asked=asked,
        fresh=_freshness(signal, sights, bounds, at),
        may=Verdict((may(by, "create_intent"),)),
        open_intent=signal.intents.filter(status__in=("SUGGESTED", "APPROVED")).first(),
        refusal=refusal_of(query.get("refused"), f"signal:{key}"),
        key=new_key(),
        rehearsals=tuple((value, str(name)) for value, name in OrderIntent.Rehearsal.choices),
    )


def new_key() -> str:
    """Return an Idempotency-Key for one form."""
    return secrets.token_hex(16)


def _ladders(
    tokens: Sequence[str], sights: Mapping[str, Sight], plan: Plan | None
) -> tuple[LegLadder, ...]:
    """Draw the ladder of each leg, with our shares where there is a plan."""
    ordered = {leg.token_id: leg for leg in plan.legs} if plan else {}
    return tuple(
        _ladder(sights[token], ordered.get(token)) for token in tokens if token in sights
    )  # fmt: skip


def _ladder(sight: Sight, leg: PlannedLeg | None) -> LegLadder:
    return leg_ladder(
        sight.label,
        sight.terms.market_id,
        sight.ladder,
        takes=leg.takes if leg else (),
        limit=leg.limit_price if leg else None,
    )


def _freshness(
    signal: Signal, sights: Mapping[str, Sight], bounds: Bounds, at: datetime
) -> Freshness:
    ages = [sight.age_ms for sight in sights.values()]
    known = [age for age in ages if age is not None]
    oldest = timedelta(milliseconds=max(known)) if known and len(known) == len(ages) else None
    return Freshness(
        signal_until=signal.opened_at + timedelta(seconds=bounds.signal_age_seconds),
        books_at=None if oldest is None else at - oldest,
        book_age_ms=bounds.book_age_ms,
    )


# --- approvals -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """One suggestion in the inbox; `may` says whether this person can approve it."""

    intent: OrderIntent
    may: Verdict


@dataclass(frozen=True, slots=True)
class Inbox:
    waiting: tuple[Waiting, ...]
    may: Verdict

    @property
    def notional(self) -> Decimal:
        return sum((each.intent.notional for each in self.waiting), Decimal(0))


def inbox(*, by: User, at: datetime) -> Inbox:
    """Return what waits for a decision, the most urgent first."""
    rows = OrderIntent.objects.waiting().filter(expires_at__gt=at)
    return Inbox(
        waiting=tuple(Waiting(intent, may_approve(intent, by)) for intent in rows),
        may=Verdict((may(by, "approve_intent"),)),
    )


def may(by: User, codename: str) -> Any:
    """Ask whether a person has one of the desk's permissions."""
    allowed = by.has_perm(f"execution.{codename}")
    return permitted(allowed=allowed, who=by.get_username(), needs=codename)


def may_approve(intent: OrderIntent, by: User) -> Verdict:
    """Say whether a person can approve an intent at all, whatever the market does."""
    single: bool = settings.MPX_SINGLE_OPERATOR
    return Verdict(
        (
            may(by, "approve_intent"),
            status_is(intent.status, allowed=[Status.SUGGESTED.value]),
            four_eyes(
                proposer=intent.proposer.get_username(),
                approver=by.get_username(),
                single_operator=single,
            ),
        )
    )


# --- one intent ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check at several moments; None where it was not made. `advice` is the newest."""

    label: str
    answers: tuple[Mapping[str, Any] | None, ...]
    limit: str
    advice: str


@dataclass(frozen=True, slots=True)
class CheckTable:
    moments: tuple[str, ...]
    rows: tuple[CheckRow, ...]

    @property
    def failing(self) -> int:
        """Return how many checks fail at the last moment."""
        last = [row.answers[-1] for row in self.rows]
        return sum(1 for answer in last if answer is not None and not answer["ok"])


@dataclass(frozen=True, slots=True)
class LegLine:
    """A planned leg, what became of it, and its book now."""

    planned: PlannedLeg
    leg: IntentLeg | None
    bought: Fill | None
    sold: Fill | None
    sight: Sight | None

    @property
    def dearer_bps(self) -> Decimal | None:
        """Return how much more than planned a share cost, fee included; None if not bought."""
        if self.bought is None:
            return None
        planned = self.planned.cost / self.planned.size
        return (-self.bought.cash / self.bought.size / planned - 1) * 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline, with its link in the audit chain."""

    event: IntentEvent
    hash: str

    @property
    def failed(self) -> tuple[Mapping[str, Any], ...]:
        """Return the checks that stopped it."""
        stopped = self.event.kind.endswith("REFUSED") or self.event.kind == "REJECTED"
        checks = self.event.data.get("checks", ()) if stopped else ()
        return tuple(check for check in checks if not check["ok"])

    @property
    def detail(self) -> str:
        """Return what else the step says: which leg, why, how much."""
        data = self.event.data
        parts = [str(data[name]) for name in ("label", "reason_leg") if data.get(name)]
        if "cash" in data:
            size, price, fee = (Decimal(data[name]) for name in ("size", "avg_price", "fee"))
            parts.append(f"{size:.2f} at {price:.4f}, fee {fee:.5f}")
        if self.event.kind in ("REJECTED", "CANCELLED", "EXPIRED", "FAILED", "STOPPED"):
            parts += [data["reason"]] if data.get("reason") and not self.failed else []
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class IntentPage:
    intent: OrderIntent
    plan: Plan
    legs: tuple[LegLine, ...]
    ladders: tuple[LegLadder, ...]
    checks: CheckTable
    steps: tuple[Step, ...]
    may: Verdict
    may_cancel: bool
    may_revise: bool
    single: bool
    before: OrderIntent | None  # the neighbours among those that wait
    after: OrderIntent | None
    refusal: Refusal | None
    changes: tuple[Change, ...]  # since the plan that the address names
    worst_end: str  # in which of the possible ends the legs pay least
    states: int | None  # possible ends that the certificate counts; None if it does not
    key: str

    @property
    def closer(self) -> str:
        """Return who rejected it, took it back or stopped it; empty if nobody did."""
        ends = [step.event for step in self.steps if step.event.kind in ENDS]
        return ends[-1].actor if ends and not self.intent.is_open else ""

    @property
    def result(self) -> Decimal | None:
        """Return what the kept basket pays at worst and what was sold, less what was spent."""
        if self.intent.status not in (Status.FILLED, Status.FAILED):
            return None
        return self.intent.locked_payoff + self.intent.recovered - self.intent.spent


def intent(number: int, query: QueryDict, *, by: User, at: datetime) -> IntentPage:
    """Raise `OrderIntent.DoesNotExist` for an unknown number."""
    found = OrderIntent.objects.newest().get(pk=number)
    plan = found.typed_plan
    events = list(found.events.order_by("id"))
    tokens = [leg.token_id for leg in plan.legs]
    sights = sights_of(tokens, depth_share=limits.bounds().depth_share, at=at)
    suggested = found.status == Status.SUGGESTED
    own = found.proposer_id == by.pk
    before, after = _neighbours(found, at) if suggested else (None, None)
    return IntentPage(
        intent=found,
        plan=plan,
        legs=_legs(found, plan, sights),
        ladders=_ladders(tokens, sights, plan) if found.is_open else (),
        checks=_checks(found, events, at=at),
        steps=_steps(events),
        may=may_approve(found, by),
        may_cancel=_may_take_back(found, by),
        may_revise=suggested and own and by.has_perm("execution.create_intent"),
        single=settings.MPX_SINGLE_OPERATOR and own,
        before=before,
        after=after,
        refusal=refusal_of(query.get("refused"), f"intent:{number}"),
        changes=_since(query.get("since", ""), events, plan),
        worst_end=_worst_end(plan, sights),
        states=found.signal.payload.get("certificate", {}).get("states"),
        key=new_key(),
    )


def _may_take_back(found: OrderIntent, by: User) -> bool:
    """Say whether taking it back is for this person; whoever approves rejects a suggestion."""
    own = found.proposer_id == by.pk
    if found.status == Status.APPROVED:
        return own or by.has_perm("execution.approve_intent")
    return own and found.status == Status.SUGGESTED


def _worst_end(plan: Plan, sights: Mapping[str, Sight]) -> str:
    """Return the worst end with the market's name instead of its id, where known."""
    market_id, _, outcome = plan.worst_state.partition("=")
    for sight in sights.values():
        if sight.terms.market_id == market_id:
            return f"{sight.terms.label or sight.terms.question}: {outcome}"
    return plan.worst_state


def _neighbours(found: OrderIntent, at: datetime) -> tuple[OrderIntent | None, OrderIntent | None]:
    rows = list(OrderIntent.objects.waiting().filter(expires_at__gt=at))
    places = [place for place, row in enumerate(rows) if row.pk == found.pk]
    if not places:
        return None, rows[0] if rows else None
    place = places[0]
    before = rows[place - 1] if place else None
    return before, rows[place + 1] if place + 1 < len(rows) else None


def _legs(found: OrderIntent, plan: Plan, sights: Mapping[str, Sight]) -> tuple[LegLine, ...]:
    legs = {leg.number: leg for leg in found.legs.all()}
    fills = {(fill.leg, fill.seq): fill for fill in found.fills.all()}
    return tuple(
        LegLine(
            planned=leg,
            leg=legs.get(leg.number),
            bought=fills.get((leg.number, 0)),
            sold=fills.get((leg.number, 1)),
            sight=sights.get(leg.token_id),
        )
        for leg in plan.legs
    )


def _checks(found: OrderIntent, events: Sequence[IntentEvent], *, at: datetime) -> CheckTable:
    """Put the checks of the suggestion, of the approval and of now side by side."""
    moments: list[tuple[str, list[Mapping[str, Any]]]] = []
    planned = [event for event in events if event.kind in PLANNED and "plan" in event.data]
    if planned:
        name = "When revised" if planned[-1].kind == "REVISED" else "When suggested"
        moments.append((name, planned[-1].data.get("checks", [])))
    for event in events:
        if event.kind == "APPROVED":
            moments.append(("When approved", event.data.get("checks", [])))
    if found.status == Status.SUGGESTED:
        moments.append(("Now", list(intents.recheck(found, at=at).rows())))
    return _table(moments)


def _table(moments: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> CheckTable:
    by_name = [{check["name"]: check for check in checks} for _, checks in moments]
    names = dict.fromkeys(name for checks in reversed(by_name) for name in checks)
    return CheckTable(
        moments=tuple(name for name, _ in moments),
        rows=tuple(_row([checks.get(name) for checks in by_name]) for name in names),
    )


def _row(answers: Sequence[Mapping[str, Any] | None]) -> CheckRow:
    newest = next(answer for answer in reversed(answers) if answer is not None)
    last = answers[-1]
    advice = last["advice"] if last is not None else ""
    return CheckRow(newest["label"], tuple(answers), newest["limit"], advice)


def _steps(events: Sequence[IntentEvent]) -> tuple[Step, ...]:
    audit = AuditEntry.objects.in_bulk([event.audit_id for event in events])
    return tuple(
        Step(event, audit[event.audit_id].hash if event.audit_id in audit else "")
        for event in events
    )


def _since(shown: str, events: Sequence[IntentEvent], plan: Plan) -> tuple[Change, ...]:
    """Return how the plan differs from the one of this hash; empty if that is not known."""
    for event in events:
        old = event.data.get("plan")
        if shown and old and old["hash"] == shown:
            return difference(read_plan(old), plan)
    return ()
