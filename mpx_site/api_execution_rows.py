"""What the API says of orders, positions and risk: rows, and their schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from rest_framework import serializers

from execution import intents
from execution.models import Fill, IntentEvent, IntentLeg, LiveBook, OrderIntent
from execution.positions import EventPosition, Position, Totals
from execution.standing import LimitNow, Standing
from mpx_site.api_rows import Problem, Row, plain
from risk.limits import UNIT_OF
from risk.models import Breaker

BOOK_LEVELS = 10


# --- rows ----------------------------------------------------------------------------


def intent_row(intent: OrderIntent) -> Row:
    """Shape one intent; its signal, event and people come with it."""
    return plain(
        {
            "id": intent.pk,
            "status": intent.status,
            "signal": intent.signal.key,
            "rule": intent.signal.rule.code,
            "event_id": intent.event_id,
            "event_title": intent.event.title if intent.event else None,
            "kind": intent.kind,
            "plan_hash": intent.plan_hash,
            "revision": intent.revision,
            "notional": intent.notional,
            "cost": intent.cost,
            "min_payoff": intent.min_payoff,
            "worst_loss": intent.worst_loss,
            "proposer": intent.proposer.get_username(),
            "approver": intent.approver.get_username() if intent.approver else None,
            "single_operator": intent.single_operator,
            "rehearsal": intent.rehearsal,
            "reason": intent.reason,
            "suggested_at": intent.suggested_at,
            "expires_at": intent.expires_at,
            "approved_at": intent.approved_at,
            "fill_by": intent.fill_by,
            "closed_at": intent.closed_at,
            "spent": intent.spent,
            "fees": intent.fees,
            "recovered": intent.recovered,
            "unwind_cost": intent.unwind_cost,
            "locked_payoff": intent.locked_payoff,
        }
    )


def intent_detail(intent: OrderIntent, *, at: datetime) -> Row:
    """Shape one intent with everything it was decided on."""
    waiting = intent.status == OrderIntent.Status.SUGGESTED
    return intent_row(intent) | {
        "plan": intent.plan,
        "checks": intent.verdict,
        "checks_now": intents.recheck(intent, at=at).rows() if waiting else None,
        "legs": [_leg_row(leg) for leg in intent.legs.order_by("number")],
        "fills": [_fill_row(fill) for fill in intent.fills.order_by("id")],
        "timeline": [_event_row(event) for event in intent.events.order_by("id")],
        "evidence": {"signal": intent.signal.payload, "books": _books_of(intent, at)},
    }


def _leg_row(leg: IntentLeg) -> Row:
    names = ("number", "token_id", "market_id", "outcome_index", "label", "size", "limit_price",
             "state", "filled", "paid", "reason", "resolved_at", "unwind", "unwind_size",
             "unwound")  # fmt: skip
    return plain({name: getattr(leg, name) for name in names})


def _fill_row(fill: Fill) -> Row:
    names = ("leg", "seq", "at", "side", "token_id", "size", "avg_price", "fee", "cash", "takes",
             "book", "audit_id")  # fmt: skip
    return plain({name: getattr(fill, name) for name in names}) | {"checks": fill.verdict}


def _event_row(event: IntentEvent) -> Row:
    names = ("at", "kind", "actor", "status", "data", "audit_id")
    return {name: getattr(event, name) for name in names}


def _books_of(intent: OrderIntent, at: datetime) -> list[Row]:
    """Return the live books of the plan's markets, in the space of each market's outcome 0."""
    wanted = [leg["market_id"] for leg in intent.plan["legs"]]
    rows = LiveBook.objects.filter(pk__in=wanted).order_by("pk")
    return [
        {
            "market_id": book.market_id,
            "state": book.state,
            "epoch": book.epoch,
            "age_ms": max(round((at - book.seen_at).total_seconds() * 1_000), 0),
            "bids": _levels(book.bids),
            "asks": _levels(book.asks),
        }
        for book in rows
    ]


def _levels(levels: list[list[int]]) -> list[list[str]]:
    return [
        [f"{Decimal(price) / 10_000:.4f}", f"{Decimal(size) / 1_000_000:.6f}"]
        for price, size in levels[:BOOK_LEVELS]
    ]


def answer_row(answer: intents.Answer) -> Row:
    """Shape what became of a step."""
    intent = answer.intent
    return answer.row() | {
        "plan_hash": intent.plan_hash if intent else None,
        "replayed": answer.replayed,
    }


def event_position_row(held: EventPosition) -> Row:
    return plain(
        {
            "label": held.label,
            "event_id": held.event.pk if held.event else None,
            "cost": held.cost,
            "worst_value": held.worst_value,
            "worst_loss": held.worst_loss,
            "locked_until": held.locked_until,
        }
    ) | {"positions": [position_row(each) for each in held.positions]}


def position_row(held: Position) -> Row:
    return plain(
        {
            "token_id": held.token_id,
            "market_id": held.market.pk,
            "question": held.market.question,
            "outcome": held.outcome,
            "shares": held.shares,
            "avg_cost": held.avg_cost.quantize(Decimal("0.000001")),
            "cost": held.cost,
            "realised": held.realised,
            "mark": held.mark,
            "unrealised": held.unrealised,
            "until": held.until,
        }
    )


def totals_row(totals: Totals) -> Row:
    names = ("realised", "unrealised", "unmarked", "fees", "locked", "worst_value")
    return plain({name: getattr(totals, name) for name in names})


def standing_row(now: Standing, *, single_operator: bool) -> Row:
    return {
        "at": now.at,
        "single_operator": single_operator,
        "limits": [_limit_row(each) for each in now.limits],
        "exposures": [
            {"event": each.event, "worst_loss": format(each.held, "f")} for each in now.exposures
        ],
        "breakers": [_breaker_row(each) for each in now.breakers],
        "kill_switch": {
            "tripped": now.kill.tripped,
            "reason": now.kill.reason,
            "readable": now.kill.readable,
        },
    }


def _limit_row(limit: LimitNow) -> Row:
    names = ("name", "label", "meaning", "allowed", "policy", "ceiling", "setting", "used")
    return plain({name: getattr(limit, name) for name in names}) | {"unit": UNIT_OF[limit.name]}


def _breaker_row(breaker: Breaker) -> Row:
    names = ("scope", "subject", "state", "reason", "failures", "tripped_at", "reopen_at", "trial")
    return {name: getattr(breaker, name) for name in names}


# --- the schema ----------------------------------------------------------------------


def usd(*, allow_null: bool = False) -> serializers.DecimalField:
    return serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=allow_null)


class CheckRow(serializers.Serializer[Any]):
    """One check in the words that page and audit show too."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    ok = serializers.BooleanField()
    limit = serializers.CharField()
    value = serializers.CharField()
    advice = serializers.CharField(allow_blank=True, help_text="What to do; empty if it passed.")
    sentence = serializers.CharField()


class ChangeRow(serializers.Serializer[Any]):
    what = serializers.CharField()
    old = serializers.CharField()
    new = serializers.CharField()


class AnswerRow(serializers.Serializer[Any]):
    """What became of a step. `applied`: the intent has moved."""

    intent = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(choices=OrderIntent.Status.choices, allow_null=True)
    applied = serializers.BooleanField()
    plan_hash = serializers.CharField(allow_null=True)
    ok = serializers.BooleanField(help_text="All checks passed.")
    reasons = serializers.ListField(child=serializers.CharField())
    checks = CheckRow(many=True)
    difference = ChangeRow(many=True, help_text="From the plan that was shown to the one held.")
    replayed = serializers.BooleanField(help_text="The answer that the key got before.")


class RefusalProblem(Problem):
    """A problem with the checks it was decided on; `code` is the first that failed.

    Without them where nothing was judged: no role, scope or CSRF token, or no database.
    """

    intent = serializers.IntegerField(allow_null=True, required=False)
    intent_status = serializers.CharField(allow_null=True, required=False)
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    checks = CheckRow(many=True, required=False)
    difference = ChangeRow(many=True, required=False)


class PlanPreview(serializers.Serializer[Any]):
    """What an order would be now. Nothing was created."""

    signal = serializers.CharField()
    plan = serializers.DictField(allow_null=True, help_text="Null when nothing can be planned.")
    at = serializers.DateTimeField()
    ok = serializers.BooleanField()
    reasons = serializers.ListField(child=serializers.CharField())
    checks = CheckRow(many=True)


class IntentRow(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=OrderIntent.Status.choices)
    signal = serializers.CharField(help_text="Key of the signal.")
    rule = serializers.CharField()
    event_id = serializers.CharField(allow_null=True)
    event_title = serializers.CharField(allow_null=True)
    kind = serializers.CharField()
    plan_hash = serializers.CharField(help_text="What an approval signs.")
    revision = serializers.IntegerField()
    notional = usd()
    cost = usd()
    min_payoff = usd()
    worst_loss = usd()
    proposer = serializers.CharField()
    approver = serializers.CharField(allow_null=True)
    single_operator = serializers.BooleanField()
    rehearsal = serializers.CharField(allow_blank=True)
    reason = serializers.CharField(allow_blank=True)
    suggested_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    approved_at = serializers.DateTimeField(allow_null=True)
    fill_by = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    spent = usd()
    fees = usd()
    recovered = usd()
    unwind_cost = usd()
    locked_payoff = usd()


class IntentPage(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    results = IntentRow(many=True)


class LegRow(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    token_id = serializers.CharField()
    market_id = serializers.CharField()
    outcome_index = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    size = usd()
    limit_price = serializers.DecimalField(max_digits=6, decimal_places=4)
    state = serializers.ChoiceField(choices=IntentLeg.State.choices)
    filled = usd()
    paid = usd()
    reason = serializers.CharField(allow_blank=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    unwind = serializers.CharField(allow_blank=True)
    unwind_size = usd()
    unwound = usd()


class FillRow(serializers.Serializer[Any]):
    leg = serializers.IntegerField()
    seq = serializers.IntegerField(help_text="0 the purchase, 1 the unwinding sale.")
    at = serializers.DateTimeField()
    side = serializers.ChoiceField(choices=Fill.Side.choices)
    token_id = serializers.CharField()
    size = usd()
    avg_price = serializers.DecimalField(max_digits=8, decimal_places=6)
    fee = usd()
    cash = usd()
    takes = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Per level: price, shares, fee, shares displayed.",
    )
    book = serializers.DictField(help_text="The book it was walked on: at, state, epoch, basis.")
    audit_id = serializers.IntegerField()
    checks = CheckRow(many=True)


class EventRow(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    actor = serializers.CharField()
    status = serializers.CharField(help_text="Of the intent, after it.")
    data = serializers.DictField()  # type: ignore[assignment]
    audit_id = serializers.IntegerField(help_text="Its entry in the audit chain.")


class BookRow(serializers.Serializer[Any]):
    market_id = serializers.CharField()
    state = serializers.CharField()
    epoch = serializers.IntegerField()
    age_ms = serializers.IntegerField(help_text="Since the stream last vouched for it.")
    bids = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))
    asks = serializers.ListField(child=serializers.ListField(child=serializers.CharField()))


class Evidence(serializers.Serializer[Any]):
    signal = serializers.DictField(help_text="The signal's arithmetic, as it was last seen.")
    books = BookRow(many=True, help_text="Live books of now, best first: price, shares.")


class IntentDetail(IntentRow):
    plan = serializers.DictField()
    checks = CheckRow(many=True, help_text="Of the last step, with the values of then.")
    checks_now = CheckRow(
        many=True, allow_null=True, help_text="As an approval would make them; null once decided."
    )
    legs = LegRow(many=True, help_text="Orders; none before the approval.")
    fills = FillRow(many=True)
    timeline = EventRow(many=True)
    evidence = Evidence()


class PositionRow(serializers.Serializer[Any]):
    token_id = serializers.CharField()
    market_id = serializers.CharField()
    question = serializers.CharField()
    outcome = serializers.CharField()
    shares = usd()
    avg_cost = usd()
    cost = usd()
    realised = usd()
    mark = usd(allow_null=True)
    unrealised = usd(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)


class EventPositionRow(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    event_id = serializers.CharField(allow_null=True)
    cost = usd()
    worst_value = usd()
    worst_loss = usd()
    locked_until = serializers.DateTimeField(allow_null=True)
    positions = PositionRow(many=True)


class TotalsRow(serializers.Serializer[Any]):
    realised = usd()
    unrealised = usd()
    unmarked = serializers.IntegerField(help_text="Positions without a bid.")
    fees = usd()
    locked = usd()
    worst_value = usd()


class Positions(serializers.Serializer[Any]):
    totals = TotalsRow()
    events = EventPositionRow(many=True)


class LimitRow(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    meaning = serializers.CharField(allow_blank=True)
    unit = serializers.CharField()
    allowed = serializers.CharField(help_text="What counts: the policy within the ceiling.")
    policy = serializers.CharField(allow_null=True, help_text="Null: the ceiling counts.")
    ceiling = serializers.CharField()
    setting = serializers.CharField(allow_blank=True, help_text="The environment's key of it.")
    used = serializers.CharField(allow_null=True)


class ExposureRow(serializers.Serializer[Any]):
    event = serializers.CharField()
    worst_loss = usd()


class BreakerRow(serializers.Serializer[Any]):
    scope = serializers.ChoiceField(choices=Breaker.Scope.choices)
    subject = serializers.CharField(allow_blank=True)
    state = serializers.ChoiceField(choices=Breaker.State.choices)
    reason = serializers.CharField(allow_blank=True)
    failures = serializers.IntegerField()
    tripped_at = serializers.DateTimeField(allow_null=True)
    reopen_at = serializers.DateTimeField(allow_null=True)
    trial = serializers.CharField(allow_blank=True)


class KillRow(serializers.Serializer[Any]):
    tripped = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    readable = serializers.BooleanField(help_text="Unreadable counts as tripped.")


class Risk(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    single_operator = serializers.BooleanField()
    limits = LimitRow(many=True)
    exposures = ExposureRow(many=True)
    breakers = BreakerRow(many=True)
    kill_switch = KillRow()


def refusal_extras(answer: intents.Answer) -> Mapping[str, object]:
    """Return what a refusal says besides the problem itself."""
    told = answer.row()
    kept = {name: told[name] for name in ("intent", "reasons", "checks", "difference")}
    return kept | {"intent_status": told["status"]}
