"""How every API view reads its question and words its refusals.

Errors are `application/problem+json` (RFC 9457). A query parameter that a view
does not know is refused by name: a typo must not look like an empty answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from django.http import HttpRequest, JsonResponse
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions, serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler

from alerts import trace
from mpx_site.db.words import trouble_of

log = structlog.stdlib.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_SECONDS = "5"  # of a database that is away, busy or slow
PAGE_SIZE = 50
PAGE_SIZE_MAX = 200


class BadParameters(exceptions.APIException):
    """The query string cannot be used; `errors` has a (name, reason) for each culprit."""

    status_code = HTTPStatus.BAD_REQUEST

    def __init__(self, code: str, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        told = "; ".join(f"{name}: {reason}" for name, reason in self.errors)
        super().__init__(detail=told, code=code)


class DeskSessionScheme(SessionScheme):  # type: ignore[no-untyped-call]
    """Tell OpenAPI that `DeskSession` is the session cookie."""

    target_class = "mpx_site.api_login.DeskSession"


class OwnTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tell OpenAPI of the tokens that people make at `/api/v1/tokens`."""

    target_class = "mpx_site.api_login.OwnToken"
    name = "ownToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "Made at `/api/v1/tokens`."}


def problem(
    status: int, *, code: str, detail: str, instance: str, errors: Iterable[tuple[str, str]] = ()
) -> dict[str, object]:
    """Return an RFC 9457 object; `code` is for programs, `detail` for people."""
    told: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        "instance": instance,
        trace.FIELD: trace.current(),
    }
    named = [{"name": name, "reason": reason} for name, reason in errors]
    return told | {"errors": named} if named else told


def problem_response(request: HttpRequest, status: int, *, code: str, detail: str) -> JsonResponse:
    """Return a problem from a view that is not REST framework's."""
    told = problem(status, code=code, detail=detail, instance=request.path)
    return JsonResponse(told, status=status, content_type=PROBLEM_JSON)


def answer_problem(error: Exception, context: Mapping[str, Any]) -> Response:
    """Word any exception of a view as a problem (REST framework's EXCEPTION_HANDLER)."""
    request: Request = context["request"]
    response = exception_handler(error, dict(context))
    if response is None:
        response = _unexpected(error, request)
    else:
        response.data = _told(error, response, request)
    response.content_type = PROBLEM_JSON
    request.accepted_renderer = JSONRenderer()  # whatever the view itself would speak
    request.accepted_media_type = PROBLEM_JSON
    return response


def _told(error: Exception, response: Response, request: Request) -> dict[str, object]:
    data = response.data if isinstance(response.data, dict) else {}
    detail = data.get("detail", HTTPStatus(response.status_code).phrase)
    code = getattr(detail, "code", "invalid")
    errors = error.errors if isinstance(error, BadParameters) else ()
    return problem(
        response.status_code, code=code, detail=str(detail), instance=request.path, errors=errors
    )


def _unexpected(error: Exception, request: Request) -> Response:
    """Say nothing of the inside to the caller; the log has it."""
    headers = {}
    if trouble := trouble_of(error):
        log.error("api.database", path=request.path, error=str(error))
        status, code = HTTPStatus.SERVICE_UNAVAILABLE, trouble.code
        detail = f"{trouble.title}. Try again in some seconds."
        headers = {"Retry-After": RETRY_AFTER_SECONDS}
    else:
        log.error("api.failed", path=request.path, exc_info=error)
        status, code = HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error"
        detail = "The request failed inside MPX; its log names the reason."
    told = problem(status, code=code, detail=detail, instance=request.path)
    return Response(told, status=status, headers=headers)


class PagedQuery(serializers.Serializer[Any]):
    """The parameters of every list that is paged by cursor."""

    cursor = serializers.CharField(
        required=False, help_text="Opaque; taken from `next` of the page before."
    )
    page_size = serializers.IntegerField(
        required=False, default=PAGE_SIZE, min_value=1, max_value=PAGE_SIZE_MAX
    )


def asked(request: Request, query: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the query string as typed values; raise `BadParameters` naming what is wrong."""
    form = query(data=request.query_params.dict())
    unknown = sorted(set(request.query_params) - set(form.fields))
    if unknown:
        known = ", ".join(sorted(form.fields)) or "none"
        raise BadParameters(
            "unknown_parameter", [(name, f"is not known here; known: {known}") for name in unknown]
        )
    if not form.is_valid():
        raise BadParameters(
            "invalid_parameter",
            [(name, " ".join(map(str, reasons))) for name, reasons in form.errors.items()],
        )
    values: dict[str, Any] = form.validated_data
    return values


class NoQuery(serializers.Serializer[Any]):
    """A view that takes no parameters."""


def read_cursor(text: str | None, shape: type[Any]) -> Any:
    """Return what `write_cursor` packed, or None for the first page."""
    if text is None:
        return None
    try:
        packed = base64.urlsafe_b64decode(text.encode())
        position = msgspec.json.decode(packed, type=shape)
        if any(isinstance(part, datetime) and part.tzinfo is None for part in position):
            raise ValueError("a time without a zone")
        return position
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise BadParameters("invalid_parameter", [("cursor", "was not given by a page")]) from None


def write_cursor(position: tuple[str | int | datetime, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()


def page(
    request: Request, rows: list[dict[str, Any]], *, next_cursor: str | None
) -> dict[str, object]:
    """Return rows with the address of the page after them, null on the last page."""
    if next_cursor is None:
        return {"next": None, "results": rows}
    query = request.query_params.copy()
    query["cursor"] = next_cursor
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return {"next": address, "results": rows}
