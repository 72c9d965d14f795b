"""`POST /api/alerts/test` and `/api/v1/alerts/test`: one message by the desk's voices, now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from alerts import delivery, voices
from alerts.delivery import Tested
from mpx_site.api_answers import PROBLEM_JSON
from mpx_site.api_login import DeskSession, OwnToken
from mpx_site.api_rows import Problem
from mpx_site.api_token import ACTOR, TokenLogin
from mpx_site.api_view import ApiView
from mpx_site.models import Scope

View = TypeVar("View", bound=Callable[..., Response])

TEXT = "MarketPulse-X reaches you."
MOST_TEXT = 500


class MayTest(BasePermission):
    message = "This takes the permission to send test messages, or the ADMIN_API_TOKEN."

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.auth == ACTOR or bool(request.user.has_perm(delivery.MAY_TEST))


class TestMessage(serializers.Serializer[Any]):
    text = serializers.CharField(required=False, default=TEXT, max_length=MOST_TEXT)

    voice = serializers.ChoiceField(
        choices=voices.NAMES, required=False, help_text="Left out: all that are set up."
    )


class VoiceOutcome(serializers.Serializer[Any]):
    transport = serializers.ChoiceField(
        choices=[*voices.NAMES, delivery.DRY_RUN],
        help_text="dry_run: the voice is off, nothing was sent.",
    )
    sent = serializers.BooleanField()
    chat = serializers.CharField(
        allow_blank=True, help_text="A chat's last digits, a webhook's host, whose mailbox."
    )
    message_id = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField(allow_blank=True, help_text="Why it was not sent.")


class TestOutcome(VoiceOutcome):
    """The first voice's outcome, but `sent` and `reason` are those of all; one by one below."""

    voices = VoiceOutcome(many=True)


def _act(operation: str) -> Callable[[View], View]:
    refusals = (400, 401, 403, 415, 429, 503)
    described: Callable[[View], View] = extend_schema(
        operation_id=operation,
        request=TestMessage,
        responses={200: TestOutcome, **{(each, PROBLEM_JSON): Problem for each in refusals}},
    )
    return described


class TestAlert(ApiView):
    """Send one message. That a voice is refused is an answer (`sent` is false), not an error."""

    authentication_classes = (OwnToken, TokenLogin, DeskSession)
    permission_classes = (IsAuthenticated, MayTest)
    scopes = {"POST": (Scope.ALERTS_TEST,)}

    @_act("alerts_test")
    def post(self, request: Request) -> Response:
        asked = TestMessage(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = asked.validated_data.get("voice")
        names = (wanted,) if wanted else voices.listed()
        text, at = asked.validated_data["text"], timezone.now()
        return Response(_together([delivery.send_test(text, at=at, name=name) for name in names]))


def _together(tested: Sequence[Tested]) -> dict[str, Any]:
    """Return one answer for all voices: sent only if each of them did."""
    rows = [each.row for each in tested]
    reasons = [f"{row['transport']}: {row['reason']}" for row in rows if row["reason"]]
    if len(rows) > 1:
        sent, reason = all(row["sent"] for row in rows), "; ".join(reasons)
        return {**rows[0], "sent": sent, "reason": reason, "voices": rows}
    return {**rows[0], "voices": rows}


class SeedTestAlert(TestAlert):
    @_act("seed_alerts_test")
    def post(self, request: Request) -> Response:
        return super().post(request)
