"""`/api/v1/tokens`: a person's own tokens, with the session only. See `docs/api.md`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from mpx_site import api_token_book as book
from mpx_site.api_answers import PROBLEM_JSON, BadParameters, NoQuery, asked
from mpx_site.api_execution import posted, who
from mpx_site.api_login import DeskSession
from mpx_site.api_rows import Problem, Row
from mpx_site.api_view import ApiView
from mpx_site.models import TOKEN_STATES, ApiToken, Scope


class TokenBody(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80, help_text="What it is for.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), min_length=1, max_length=len(Scope)
    )
    days = serializers.IntegerField(
        required=False, default=book.DAYS, min_value=1, max_value=book.MOST_DAYS,
        help_text="Until it expires.",
    )  # fmt: skip


class TokenRow(serializers.Serializer[Any]):
    prefix = serializers.CharField(help_text="How the token is named; `mpx_PREFIX_...`.")
    name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    state = serializers.ChoiceField(choices=TOKEN_STATES)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    revoked_at = serializers.DateTimeField(allow_null=True)


class TokenList(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True, help_text="Null: they are all here.")
    results = TokenRow(many=True)


class NewToken(TokenRow):
    token = serializers.CharField(help_text="Shown this once; keep it where secrets are kept.")


class TooManyTokens(exceptions.APIException):
    status_code = HTTPStatus.CONFLICT
    default_code = "too_many_tokens"


class Tokens(ApiView):
    """Your own tokens, newest first; POST makes one."""

    authentication_classes = (DeskSession,)

    @extend_schema(operation_id="tokens_list", responses={200: TokenList})
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        return Response({"next": None, "results": [token_row(each) for each in _own(request)]})

    @extend_schema(
        operation_id="tokens_create",
        request=TokenBody,
        responses={201: NewToken, (409, PROBLEM_JSON): Problem},
    )
    def post(self, request: Request) -> Response:
        body, user = posted(request, TokenBody), who(request)
        if lacking := book.lacking(user, body["scopes"]):
            told = f"your account has no right that {', '.join(lacking)} would use"
            raise BadParameters("invalid_parameter", [("scopes", told)])
        try:
            token, text = book.make(user, at=timezone.now(), **body)
        except book.TooMany as why:
            raise TooManyTokens(str(why)) from why
        return Response(token_row(token) | {"token": text}, status=HTTPStatus.CREATED)


class TokenByPrefix(ApiView):
    """One of your own tokens."""

    authentication_classes = (DeskSession,)

    @extend_schema(
        operation_id="tokens_revoke", responses={204: None, (404, PROBLEM_JSON): Problem}
    )
    def delete(self, request: Request, prefix: str) -> Response:
        """Revoke it; one that was revoked or has expired stays in the list."""
        asked(request, NoQuery)
        token = next((each for each in _own(request) if each.prefix == prefix), None)
        if token is None:
            raise exceptions.NotFound(f"You have no token with the prefix {prefix}.")
        book.revoke(token, by=who(request), at=timezone.now())
        return Response(status=HTTPStatus.NO_CONTENT)


def _own(request: Request) -> list[ApiToken]:
    return book.of(who(request))


def token_row(token: ApiToken) -> Row:
    names = ("prefix", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(token, name) for name in names} | {"state": token.state(timezone.now())}
