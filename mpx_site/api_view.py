"""What all views of the API share: conditional requests, and no NUL in an address.

An ETag is `"HASH"` of what was sent, or `"VERSION.HASH"` where the thing has a version that
its steps change. `If-None-Match` looks at all of it, `If-Match` at the version alone: books
and ages move all the time, and that must not stop a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from django.http import HttpResponse, HttpResponseNotModified
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import parse_etags
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

ANY = "*"


class Changed(exceptions.APIException):
    """The thing is not the version any more that the caller has seen; nothing was done."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "precondition_failed"
    default_detail = "It has changed since you read it; read it again. Nothing was done."


class ApiView(APIView):
    """A view of the API. `scopes` says which scopes of a token each writing method takes."""

    scopes: ClassVar[Mapping[str, Collection[str]]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if any("\0" in str(part) for part in kwargs.values()):
            raise exceptions.NotFound  # PostgreSQL would fail on it

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        told: Response = super().finalize_response(request, response, *args, **kwargs)
        patch_vary_headers(told, ["Authorization", "X-API-Key"])
        patch_cache_control(told, private=True, no_cache=True)
        if request.method in ("GET", "HEAD") and told.status_code == HTTPStatus.OK:
            told.add_post_render_callback(lambda sent: _tagged(request, sent))
        return told


def with_version(data: Any, version: str) -> Response:
    """Return an answer whose ETag begins with the version of what it tells of."""
    return Response(data, headers={"ETag": f'"{version}"'})


def seen_version(request: Request) -> list[str] | None:
    """Return the versions of `If-Match`; None if there is no such header, empty: not one."""
    sent = request.headers.get("If-Match")
    if sent is None:
        return None
    tags = parse_etags(sent)
    return [tag.removeprefix("W/").strip('"').partition(".")[0] for tag in tags]


def must_be(seen: list[str], held: str | None) -> None:
    """Raise `Changed` unless what is held (None: nothing) is a version that was seen."""
    if held is None or (held not in seen and ANY not in seen):
        raise Changed


def _tagged(request: Request, sent: HttpResponse) -> HttpResponse | None:
    """Give an answer its ETag; return 304 instead if the caller has it already."""
    version = sent.headers.get("ETag", "").strip('"')
    digest = hashlib.sha256(sent.content).hexdigest()[:24]
    etag = f'"{version}.{digest}"' if version else f'"{digest}"'
    sent.headers["ETag"] = etag
    known = [
        tag.removeprefix("W/") for tag in parse_etags(request.headers.get("If-None-Match", ""))
    ]
    if etag not in known and ANY not in known:
        return None
    kept = ("ETag", "Cache-Control", "Vary")
    return HttpResponseNotModified(headers={name: sent.headers[name] for name in kept})
