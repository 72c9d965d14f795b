"""`/api/v1/intents`, `/positions` and `/risk`: the desk for programs. See `docs/api.md`.

Views translate: they read the request, call the one function that every surface
calls, and word its answer. Who may do what is decided and written down there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from execution import intents, positions
from execution.idempotency import BadKey, KeyReused
from execution.models import IdempotencyKey, OrderIntent
from execution.standing import standing
from mpx_site.api import documented
from mpx_site.api_answers import (
    PROBLEM_JSON,
    BadParameters,
    NoQuery,
    PagedQuery,
    asked,
    page,
    problem,
    read_cursor,
    write_cursor,
)
from mpx_site.api_execution_rows import (
    AnswerRow,
    IntentDetail,
    IntentPage,
    PlanPreview,
    Positions,
    RefusalProblem,
    Risk,
    answer_row,
    event_position_row,
    intent_detail,
    intent_row,
    refusal_extras,
    standing_row,
    totals_row,
)
from mpx_site.api_json import JsonParser
from mpx_site.api_rows import Problem
from mpx_site.api_schema import IF_MATCH
from mpx_site.api_view import ApiView, must_be, seen_version, with_version
from mpx_site.models import Scope
from mpx_site.roles import NEEDS_A_ROLE, SEE_DESK
from risk import killswitch
from risk.checks import Verdict
from risk.locking import DeskBusy, NoPolicy, in_turn
from risk.models import Policy
from signals.models import Signal

View = TypeVar("View", bound=Callable[..., Response])
KEY = "Idempotency-Key"
KEY_REQUIRED = frozenset({"intents_create", "intents_approve"})
# What a refusal is for a program: not allowed, not now, or not any more (409, the rest).
STATUS_OF_CHECK = {
    "PERMISSION": HTTPStatus.FORBIDDEN,
    "FOUR_EYES": HTTPStatus.FORBIDDEN,
    "SECOND_FACTOR": HTTPStatus.FORBIDDEN,
    "REASON": HTTPStatus.BAD_REQUEST,
    "KILL_SWITCH": HTTPStatus.SERVICE_UNAVAILABLE,
    "BOOK_STATE": HTTPStatus.SERVICE_UNAVAILABLE,
    "BOOK_AGE": HTTPStatus.SERVICE_UNAVAILABLE,
}


# --- errors --------------------------------------------------------------------------


class Busy(exceptions.APIException):
    """The desk cannot answer now; nothing was done."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "desk_busy"

    def __init__(self, detail: str, *, wait: int | None = None) -> None:
        super().__init__(detail)
        self.wait = wait  # REST framework sends it as Retry-After


class KeyTaken(exceptions.APIException):
    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"


class KeyUnusable(exceptions.APIException):
    status_code = HTTPStatus.BAD_REQUEST
    default_code = "idempotency_key"


def as_api_error(error: Exception) -> Exception:
    """Return what the desk's own exceptions are for a program; others as they are."""
    if isinstance(error, DeskBusy):
        return Busy(str(error), wait=error.retry_after)
    if isinstance(error, NoPolicy):
        return Busy(str(error))
    if isinstance(error, KeyReused):
        return KeyTaken(str(error))
    if isinstance(error, BadKey):
        return KeyUnusable(str(error))
    if isinstance(error, OrderIntent.DoesNotExist):
        return exceptions.NotFound("There is no such intent.")
    return error


class MaySeeDesk(BasePermission):
    """A role of the desk, from viewer on. What else it takes is checked with the act itself."""

    message = f"{NEEDS_A_ROLE} Ask an administrator."

    def has_permission(self, request: Request, view: object) -> bool:
        return bool(request.user.has_perm(SEE_DESK))


class DeskView(ApiView):
    """A view of the desk: JSON only, its own errors worded as problems."""

    permission_classes = [IsAuthenticated, MaySeeDesk]
    parser_classes = [JsonParser]

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(as_api_error(exc))


# --- reading requests ----------------------------------------------------------------


def posted(request: Request, form: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the body as typed values; raise `BadParameters` naming what is wrong."""
    asked(request, NoQuery)
    given = request.data
    if not isinstance(given, Mapping):
        raise BadParameters("invalid_parameter", [("body", "must be one JSON object")])
    filled = form(data=given)
    unknown = sorted(str(name) for name in set(given) - set(filled.fields))
    if unknown:
        known = ", ".join(filled.fields) or "none"
        told = [(name, f"is not known here; known: {known}") for name in unknown]
        raise BadParameters("unknown_parameter", told)
    if not filled.is_valid():
        told = [(name, " ".join(map(str, why))) for name, why in filled.errors.items()]
        raise BadParameters("invalid_parameter", told)
    values: dict[str, Any] = filled.validated_data
    return values


def key_of(request: Request, *, required: bool = False) -> str | None:
    """Return the Idempotency-Key; raise `KeyUnusable` where one is required and none was sent."""
    key: str | None = request.headers.get(KEY)
    if key is None and required:
        raise KeyUnusable(f"Send an {KEY} of your own, so that asking again acts only once.")
    return key


def who(request: Request) -> User:
    if not isinstance(request.user, User):
        raise exceptions.NotAuthenticated
    return request.user


def capital() -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=14,
        decimal_places=2,
        min_value=1,
        required=False,
        allow_null=True,
        default=None,
        help_text="USD; lowers the policy's order size.",
    )


class SuggestBody(serializers.Serializer[Any]):
    signal = serializers.CharField(max_length=64, help_text="Key of the signal.")
    capital = capital()
    plan_hash = serializers.CharField(
        max_length=64,
        required=False,
        allow_null=True,
        default=None,
        help_text="Of the preview that was shown; without it the plan of now is taken.",
    )
    rehearsal = serializers.ChoiceField(
        choices=OrderIntent.Rehearsal.choices, required=False, default="", allow_blank=True
    )


class PreviewBody(serializers.Serializer[Any]):
    signal = serializers.CharField(max_length=64, help_text="Key of the signal.")
    capital = capital()


class ApproveBody(serializers.Serializer[Any]):
    plan_hash = serializers.CharField(max_length=64, help_text="Of the plan that was shown.")


class RejectBody(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=600, allow_blank=True)


class CancelBody(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=600, required=False, default="", allow_blank=True)


class ReviseBody(serializers.Serializer[Any]):
    capital = capital()


class SwitchBody(serializers.Serializer[Any]):
    tripped = serializers.BooleanField(help_text="true stops approvals and fills, false re-arms.")
    reason = serializers.CharField(max_length=300)


class IntentQuery(PagedQuery):
    status = serializers.ChoiceField(choices=OrderIntent.Status.choices, required=False)
    signal = serializers.CharField(required=False, help_text="Key of the signal.")
    rule = serializers.CharField(required=False, help_text="Code of the rule.")
    event = serializers.CharField(required=False, help_text="Id of the event.")
    proposer = serializers.CharField(required=False, help_text="Account that suggested it.")
    since = serializers.DateTimeField(required=False, help_text="Suggested at or after.")
    until = serializers.DateTimeField(required=False, help_text="Suggested before.")


INTENT_FILTERS = {
    "status": "status",
    "signal": "signal__key",
    "rule": "signal__rule__code",
    "event": "event_id",
    "proposer": "proposer__username",
    "since": "suggested_at__gte",
    "until": "suggested_at__lt",
}


class PositionQuery(serializers.Serializer[Any]):
    open = serializers.BooleanField(
        required=False, default=True, help_text="false: also what is held no more."
    )


# --- writing answers -----------------------------------------------------------------


def acted(
    operation: str, body: type[serializers.Serializer[Any]], *, made: bool = False
) -> Callable[[View], View]:
    """Describe a step to OpenAPI, its refusals included."""
    refused = {(status, PROBLEM_JSON): RefusalProblem for status in (403, 409, 503)}
    wrong = {
        (status, PROBLEM_JSON): Problem
        for status in (400, 401, 404, 422, *(() if made else (412,)))
    }
    answers: dict[Any, Any] = {200: AnswerRow, **({201: AnswerRow} if made else {})}
    key = OpenApiParameter(
        KEY, location="header", required=operation in KEY_REQUIRED, type=str,
        description="Asking again with the same key gives the same answer and acts once.",
    )  # fmt: skip
    described: Callable[[View], View] = extend_schema(
        operation_id=operation,
        parameters=[key] if made else [key, IF_MATCH],
        request=body,
        responses={**answers, **refused, **wrong},
    )
    return described


def answered(request: Request, answer: intents.Answer, *, made: bool = False) -> Response:
    """Word what became of a step: its row, or a problem with the checks."""
    if answer.applied:
        status = HTTPStatus.CREATED if made and not answer.replayed else HTTPStatus.OK
        return Response(answer_row(answer), status=status)
    if made and answer.intent is not None:  # kept as REJECTED, with the reasons
        return Response(
            answer_row(answer), status=HTTPStatus.OK if answer.replayed else HTTPStatus.CREATED
        )
    return refused(request, answer.verdict, refusal_extras(answer))


def refused(request: Request, verdict: Verdict, extras: Mapping[str, object]) -> Response:
    """Return a problem that carries the checks it was decided on."""
    status, name = _most_telling(verdict)
    told = problem(
        status, code=name.lower(), detail=" ".join(verdict.reasons), instance=request.path
    )
    return Response({**told, **extras}, status=status, content_type=PROBLEM_JSON)


def _most_telling(verdict: Verdict) -> tuple[HTTPStatus, str]:
    """Return the status and the check that a refusal is named for."""
    names = verdict.names
    name = next((each for each in STATUS_OF_CHECK if each in names), names[0])
    return STATUS_OF_CHECK.get(name, HTTPStatus.CONFLICT), name


def signal_of(key: str) -> Signal:
    signal = Signal.objects.select_related("rule", "event").filter(key=key).first()
    if signal is None:
        raise exceptions.NotFound(f"No signal has the key {key}.")
    return signal


# --- intents -------------------------------------------------------------------------


def _stepped(
    request: Request,
    step: Callable[..., intents.Answer],
    intent_id: int,
    *,
    key: str | None,
    **body: Any,
) -> Response:
    """Take a step of an intent, if it still is what `If-Match` says.

    A key that was used before is answered as it was then: the step itself changed the version.
    """
    by, seen = who(request), seen_version(request)
    act = partial(step, intent_id, by=by, at=timezone.now(), idempotency_key=key, **body)
    if seen is None or IdempotencyKey.objects.filter(user=by, key=key).exists():
        return answered(request, act())
    return answered(request, in_turn(partial(_unchanged, intent_id, seen, act)))


def _unchanged(
    intent_id: int, seen: list[str], act: Callable[[], intents.Answer], _: Policy
) -> intents.Answer:
    """Act in the desk's turn, in which nobody else can change the intent; raise `Changed`."""
    must_be(seen, _version(OrderIntent.objects.get(pk=intent_id)))
    return act()


def _version(intent: OrderIntent) -> str:
    """Return what every step of an intent changes."""
    return f"{intent.pk}-{intent.revision}-{intent.status}"


class Intents(DeskView):
    """Order intents, newest first; POST suggests one for a signal."""

    scopes = {"POST": (Scope.INTENTS_CREATE,)}

    @documented("intents_list", IntentPage, query=IntentQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, IntentQuery)
        wanted = {INTENT_FILTERS[name]: query[name] for name in INTENT_FILTERS if name in query}
        found = OrderIntent.objects.newest().filter(**wanted)
        position = read_cursor(query.get("cursor"), tuple[int])
        if position:
            found = found.filter(id__lt=position[0])
        size = query["page_size"]
        rows = list(found[: size + 1])
        cursor = write_cursor((rows[size - 1].pk,)) if len(rows) > size else None
        return Response(page(request, list(map(intent_row, rows[:size])), next_cursor=cursor))

    @acted("intents_create", SuggestBody, made=True)
    def post(self, request: Request) -> Response:
        key = key_of(request, required=True)
        body = posted(request, SuggestBody)
        signal = signal_of(body.pop("signal"))
        answer = intents.suggest(
            signal, by=who(request), at=timezone.now(), idempotency_key=key, **body
        )
        return answered(request, answer, made=True)


class Preview(DeskView):
    """What an order for a signal would be now, with every check. Creates nothing."""

    scopes = {"POST": (Scope.READ,)}

    @extend_schema(
        operation_id="intents_preview",
        request=PreviewBody,
        responses={
            200: PlanPreview,
            **{(status, PROBLEM_JSON): Problem for status in (400, 401, 403, 404, 503)},
        },
    )
    def post(self, request: Request) -> Response:
        body = posted(request, PreviewBody)
        seen = intents.preview(
            signal_of(body["signal"]), at=timezone.now(), capital=body["capital"]
        )
        return Response(seen.row())


class IntentById(DeskView):
    """One intent: plan, checks, orders, fills, every step, and what it was decided on."""

    @documented("intents_retrieve", IntentDetail)
    def get(self, request: Request, intent_id: int) -> Response:
        asked(request, NoQuery)
        intent = OrderIntent.objects.newest().get(pk=intent_id)
        return with_version(intent_detail(intent, at=timezone.now()), _version(intent))


class Approve(DeskView):
    """Approve as the second person, signing the plan that was shown."""

    scopes = {"POST": (Scope.INTENTS_APPROVE,)}

    @acted("intents_approve", ApproveBody)
    def post(self, request: Request, intent_id: int) -> Response:
        key = key_of(request, required=True)
        body = posted(request, ApproveBody)
        return _stepped(request, intents.approve, intent_id, key=key, **body)


class Reject(DeskView):
    """Turn a suggestion down, with a reason."""

    scopes = {"POST": (Scope.INTENTS_APPROVE,)}

    @acted("intents_reject", RejectBody)
    def post(self, request: Request, intent_id: int) -> Response:
        key, body = key_of(request), posted(request, RejectBody)
        return _stepped(request, intents.reject, intent_id, key=key, **body)


class Cancel(DeskView):
    """Take an intent back; an approved one stops where it is."""

    scopes = {"POST": (Scope.INTENTS_CREATE, Scope.INTENTS_APPROVE)}

    @acted("intents_cancel", CancelBody)
    def post(self, request: Request, intent_id: int) -> Response:
        key, body = key_of(request), posted(request, CancelBody)
        return _stepped(request, intents.cancel, intent_id, key=key, **body)


class Revise(DeskView):
    """Replace the plan of one's own suggestion by that of now."""

    scopes = {"POST": (Scope.INTENTS_CREATE,)}

    @acted("intents_revise", ReviseBody)
    def post(self, request: Request, intent_id: int) -> Response:
        key, body = key_of(request), posted(request, ReviseBody)
        return _stepped(request, intents.revise, intent_id, key=key, **body)


# --- positions and risk --------------------------------------------------------------


class PositionList(DeskView):
    """What is held, by event, and what it has earned."""

    @documented("positions_list", Positions, query=PositionQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, PositionQuery)
        held = positions.by_event(open_only=query["open"])
        return Response(
            {
                "totals": totals_row(positions.totals()),
                "events": [event_position_row(each) for each in held],
            }
        )


class RiskNow(DeskView):
    """Limits with their use, exposures, circuit breakers and the kill switch."""

    @documented("risk_retrieve", Risk)
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        return Response(_risk())


class Switch(DeskView):
    """Trip the kill switch, or re-arm it as another person."""

    scopes = {"POST": (Scope.INTENTS_APPROVE,)}

    @extend_schema(
        operation_id="risk_kill_switch",
        request=SwitchBody,
        responses={
            200: Risk,
            **{(status, PROBLEM_JSON): RefusalProblem for status in (403, 409)},
            **{(status, PROBLEM_JSON): Problem for status in (400, 401, 503)},
        },
    )
    def post(self, request: Request) -> Response:
        body, at, by = posted(request, SwitchBody), timezone.now(), who(request)
        act = killswitch.trip if body["tripped"] else killswitch.rearm
        done = act(reason=body["reason"], at=at, by=by)
        if done.verdict.ok:
            return Response(_risk())
        extras = {"intent": None, "intent_status": None, "difference": [],
                  "reasons": list(done.verdict.reasons), "checks": done.verdict.rows()}  # fmt: skip
        return refused(request, done.verdict, extras)


def _risk() -> dict[str, Any]:
    now = standing(at=timezone.now())
    return standing_row(now, single_operator=bool(settings.MPX_SINGLE_OPERATOR))
