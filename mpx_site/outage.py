"""The answer when a page could not be made, told apart by whether the database was the reason."""

from __future__ import annotations

import sys
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from markets.connections import is_away
from mpx_site.api_answers import problem_response

RETRY_AFTER_SECONDS = "5"


def failed(request: HttpRequest) -> HttpResponse:
    """Say 503 without a database, as long as it is away, and 500 for a mistake of ours."""
    if not is_away(sys.exc_info()[1]):
        return server_error(request)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if request.path.startswith("/api/"):
        detail = "The database does not answer. Ask again in some seconds."
        response: HttpResponse = problem_response(
            request, status, code="no_database", detail=detail
        )
    else:
        # Without the request: what all pages are given is asked of the database.
        response = HttpResponse(render_to_string("503.html"), status=status)
    response["Retry-After"] = RETRY_AFTER_SECONDS
    return response
