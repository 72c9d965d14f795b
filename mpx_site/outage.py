"""The answer when a page could not be made, told apart by whether the database was the reason."""

from __future__ import annotations

import sys
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views.defaults import server_error

from alerts import trace
from mpx_site.api_answers import RETRY_AFTER_SECONDS, problem_response
from mpx_site.db.words import trouble_of


def failed(request: HttpRequest) -> HttpResponse:
    """Say 503 without a database, as long as it is away, and 500 for a mistake of ours."""
    trouble = trouble_of(sys.exc_info()[1])
    if trouble is None:
        return server_error(request)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    if request.path.startswith("/api/"):
        detail = f"{trouble.title}. Ask again in some seconds."
        response: HttpResponse = problem_response(request, status, code=trouble.code, detail=detail)
    else:
        # Without the request: what all pages are given is asked of the database.
        told = {"trouble": trouble, "trace_id": trace.current()}
        response = HttpResponse(render_to_string("503.html", told), status=status)
    response["Retry-After"] = RETRY_AFTER_SECONDS
    return response
