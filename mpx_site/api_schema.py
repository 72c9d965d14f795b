"""What OpenAPI is told of every operation alike, so that no view can forget it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter

from mpx_site.api_answers import PROBLEM_JSON

IF_MATCH = OpenApiParameter(
    "If-Match",
    location="header",
    type=str,
    description="ETag of what you read: 412, and nothing done, if a step has changed it since.",
)
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "ETag of the answer that you have: 304 if it is still the same.",
}
PUBLIC = ("/api/healthz",)  # asked by probes: neither counted nor tagged
PROBLEMS = {
    "400": "A parameter, header or body that cannot be used; `errors` names it.",
    "401": "Not logged in, or a token that opens nothing.",
    "403": "Logged in, but without the right, the scope or the CSRF token.",
    "406": "Only JSON is served.",
    "429": "Asked too often; `Retry-After` says for how many seconds to wait.",
    "500": "A fault of MPX; its log names the reason.",
    "503": "Not now: no database, or the desk is busy or stopped.",
}
WITH_BODY = {"413": "The body is too large.", "415": "Not a media type that is read here."}


def add_refusals(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Describe what any operation may answer besides its own (a drf-spectacular hook)."""
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            if path not in PUBLIC:
                _complete(operation, method)
    return result


def _complete(operation: dict[str, Any], method: str) -> None:
    answers = operation["responses"]
    body = WITH_BODY if "requestBody" in operation else {}
    for status, said in (PROBLEMS | body).items():
        answers.setdefault(status, _problem(said))
    answers["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if method == "get":
        answers["200"]["headers"] = {"ETag": {"schema": {"type": "string"}}}
        answers["304"] = {"description": "You have it already."}
        operation.setdefault("parameters", []).append(IF_NONE_MATCH)


def _problem(said: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": said, "content": {PROBLEM_JSON: {"schema": schema}}}
