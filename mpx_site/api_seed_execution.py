"""The execution paths that MPX was founded on (`/api/execution/...`), in their shapes.

One row stands for a whole basket: `market_id`, `qty` and `limit_price` are those of
its first leg, `detail_json.plan` has them all. New callers use `/api/v1/intents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from execution import intents
from execution.models import OrderIntent
from mpx_site.api import documented
from mpx_site.api_answers import PROBLEM_JSON, asked
from mpx_site.api_execution import DeskView, capital, key_of, posted, refused, who
from mpx_site.api_execution_rows import RefusalProblem, refusal_extras
from mpx_site.api_rows import Problem, Row
from mpx_site.api_seed import OffsetQuery
from mpx_site.models import Scope
from risk.checks import Check, Verdict
from risk.models import THE_ROW
from signals.models import Signal

STATUSES = [status.lower() for status in OrderIntent.Status.values]
FIXED = "comes from the plan: all legs are sized together; lower `capital` instead"


class SeedIntentBody(serializers.Serializer[Any]):
    signal_id = serializers.IntegerField(min_value=1)
    side = serializers.ChoiceField(
        choices=["buy"], required=False, allow_null=True, help_text="Every leg is a purchase."
    )
    qty_override = serializers.FloatField(required=False, allow_null=True, help_text=FIXED)
    limit_price_override = serializers.FloatField(required=False, allow_null=True, help_text=FIXED)
    ttl_secs = serializers.IntegerField(
        required=False, min_value=1, help_text="Not used: the policy sets it."
    )
    capital = capital()

    def validate_qty_override(self, value: float | None) -> None:
        _only_null(value)

    def validate_limit_price_override(self, value: float | None) -> None:
        _only_null(value)


def _only_null(value: float | None) -> None:
    if value is not None:
        raise serializers.ValidationError(FIXED)


class SeedConfirmBody(serializers.Serializer[Any]):
    plan_hash = serializers.CharField(
        max_length=64,
        required=False,
        help_text="Of the plan that was shown; needed once the plan was revised.",
    )


class SeedAnswer(serializers.Serializer[Any]):
    intent_id = serializers.IntegerField(allow_null=True)
    status = serializers.ChoiceField(choices=STATUSES)
    detail_json = serializers.DictField(
        help_text="`checks.approved`, `checks.reasons`, `checks.rows`, `plan`, `difference`."
    )


class SeedIntentRow(SeedAnswer):
    signal_id = serializers.IntegerField()
    market_id = serializers.CharField()
    side = serializers.CharField()
    qty = serializers.FloatField()
    limit_price = serializers.FloatField()
    ttl_secs = serializers.IntegerField()
    policy_id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SeedIntentList(serializers.Serializer[Any]):
    items = SeedIntentRow(many=True)


class SeedIntentQuery(OffsetQuery):
    status = serializers.CharField(required=False, help_text=f"One of: {', '.join(STATUSES)}.")

    def validate_status(self, value: str) -> str:
        if value.lower() not in STATUSES:
            raise serializers.ValidationError(f"must be one of: {', '.join(STATUSES)}")
        return value.upper()


REFUSALS = {
    **{(status, PROBLEM_JSON): Problem for status in (400, 401, 404, 422, 503)},
    (403, PROBLEM_JSON): RefusalProblem,
}


class SeedIntent(DeskView):
    """Suggest an order for a P1 or P2 signal."""

    scopes = {"POST": (Scope.INTENTS_CREATE,)}

    @extend_schema(
        operation_id="seed_intent_create",
        request=SeedIntentBody,
        responses={200: SeedAnswer, (409, PROBLEM_JSON): RefusalProblem, **REFUSALS},
    )
    def post(self, request: Request) -> Response:
        body = posted(request, SeedIntentBody)
        signal = Signal.objects.filter(pk=body["signal_id"]).first()
        if signal is None:
            raise exceptions.NotFound(f"No signal has the id {body['signal_id']}.")
        answer = intents.suggest(
            signal,
            by=who(request),
            at=timezone.now(),
            capital=body["capital"],
            idempotency_key=key_of(request),
        )
        if answer.intent is None:
            return refused(request, answer.verdict, refusal_extras(answer))
        return Response(_answer(answer.intent, answer))


class SeedConfirm(DeskView):
    """Approve an order as the second person; the checks say why not."""

    scopes = {"POST": (Scope.INTENTS_APPROVE,)}

    @extend_schema(
        operation_id="seed_intent_confirm",
        request=SeedConfirmBody,
        responses={200: SeedAnswer, **REFUSALS},
    )
    def post(self, request: Request, intent_id: int) -> Response:
        shown = posted(request, SeedConfirmBody).get("plan_hash")
        answer = intents.approve(
            intent_id,
            by=who(request),
            at=timezone.now(),
            plan_hash=_only_plan(intent_id) if shown is None else shown,
            idempotency_key=key_of(request),
        )
        if answer.intent is None or "PERMISSION" in answer.verdict.names:
            return refused(request, answer.verdict, refusal_extras(answer))
        return Response(_answer(answer.intent, answer))


def _only_plan(intent_id: int) -> str:
    """Return the hash of a plan that never changed, so that nobody was shown another one."""
    intent = OrderIntent.objects.only("plan_hash", "revision").get(pk=intent_id)
    return intent.plan_hash if intent.revision == 1 else ""


class SeedIntents(DeskView):
    """Order intents, newest first."""

    @documented("seed_intents_list", SeedIntentList, query=SeedIntentQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, SeedIntentQuery)
        found = OrderIntent.objects.newest()
        if "status" in query:
            found = found.filter(status=query["status"])
        start = query["offset"]
        rows = found[start : start + query["limit"]]
        return Response({"items": [_intent(row) for row in rows]})


def _answer(intent: OrderIntent, answer: intents.Answer) -> Row:
    told = answer.row()
    detail = _detail(intent, answer.verdict) | {"difference": told["difference"]}
    return {"intent_id": intent.pk, "status": intent.status.lower(), "detail_json": detail}


def _intent(intent: OrderIntent) -> Row:
    first = intent.plan["legs"][0]
    verdict = Verdict(tuple(_check(row) for row in intent.verdict))
    moments = (intent.closed_at, intent.approved_at, intent.suggested_at)
    return {
        "intent_id": intent.pk,
        "signal_id": intent.signal_id,
        "market_id": first["market_id"],
        "side": "buy",
        "qty": float(first["size"]),
        "limit_price": float(first["limit_price"]),
        "ttl_secs": round((intent.expires_at - intent.suggested_at).total_seconds()),
        "status": intent.status.lower(),
        "policy_id": THE_ROW,
        "detail_json": _detail(intent, verdict),
        "created_at": intent.suggested_at,
        "updated_at": next(moment for moment in moments if moment is not None),
    }


def _check(row: Mapping[str, Any]) -> Check:
    return Check(row["name"], row["ok"], row["limit"], row["value"], row["advice"])


def _detail(intent: OrderIntent, verdict: Verdict) -> Row:
    plan = intent.plan
    edge = plan["bet"]["ev_bps"] if plan.get("bet") else plan["edge_bps"]  # of a bet: expected
    return {
        "checks": {
            "approved": verdict.ok,
            "reasons": list(verdict.reasons),
            "rows": verdict.rows(),
        },
        "rule": intent.signal.rule.code,
        "signal_level": intent.signal.level,
        "edge_score": float(intent.signal.edge_score),
        "estimated_edge_bps": float(edge),
        "plan": plan,
        "plan_hash": intent.plan_hash,
        "reason": intent.reason,
    }
