"""Rules over HTTP: read, publish, check, switch, roll back. See `docs/api.md`.

A person comes with the session, a program with ADMIN_API_TOKEN. What is refused names line,
column and what to write instead, in the words of command and admin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from io import BytesIO
from typing import Any, NoReturn, TypeVar

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from mpx_site.api_answers import (
    PROBLEM_JSON,
    BadParameters,
    NoQuery,
    PagedQuery,
    asked,
    page,
    read_cursor,
    write_cursor,
)
from mpx_site.api_json import JsonParser
from mpx_site.api_login import DeskSession, OwnToken
from mpx_site.api_rows import Problem, Row
from mpx_site.api_schema import IF_MATCH
from mpx_site.api_token import ACTOR, TokenLogin
from mpx_site.api_view import ApiView, must_be, seen_version, with_version
from mpx_site.models import Scope
from mpx_site.rule_rows import RuleSummary, summaries, versions_of
from rules.dsl import RuleError
from rules.load import (
    CREATE,
    PUBLISH,
    SWITCH,
    Outdated,
    Publication,
    UnknownRule,
    UnknownVersion,
    difference,
    publish_text,
    roll_back,
    rule_of,
    switch,
    validate,
    version_of,
)
from rules.models import Rule
from rules.strict_yaml import MAX_BYTES

View = TypeVar("View", bound=Callable[..., Response])

# Escaped, a byte of text takes up to six of JSON.
MOST_JSON = 6 * MAX_BYTES + 1024
NAME = "text"  # what the problems call a text that came over HTTP
CHANGES = ("published", "restored", "unchanged")


# --- what comes in -------------------------------------------------------------------


class YamlText(BaseParser):
    """A rule's text as it is. One byte more than may be is read, so that it is told."""

    media_type = "text/yaml"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, Any]:
        return {"text": stream.read(MAX_BYTES + 1)}


class YamlApplication(YamlText):
    media_type = "application/yaml"


class YamlOfOld(YamlText):
    media_type = "application/x-yaml"


class JsonBody(JsonParser):
    """JSON of bounded size; what is larger is told like a text that is too long."""

    most_bytes = MOST_JSON

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, Any]:
        raw = stream.read(self.most_bytes + 1)
        if len(raw) > self.most_bytes:
            return {"text": raw[: MAX_BYTES + 1]}
        given = super().parse(BytesIO(raw), media_type, parser_context)
        if not isinstance(given, dict):
            raise exceptions.ParseError('The body is not an object such as {"text": "code: ..."}.')
        return given


class RuleText(serializers.Serializer[Any]):
    text = serializers.CharField(help_text="The rule's YAML.")
    seen = serializers.IntegerField(
        required=False,
        min_value=0,
        help_text="Version that you changed, 0 for a new rule: 409 if another is current by now.",
    )


class RollBack(serializers.Serializer[Any]):
    number = serializers.IntegerField(min_value=1, help_text="The version to make current.")
    seen = serializers.IntegerField(
        required=False, min_value=1, help_text="409 if another version is current by now."
    )


class SeenQuery(serializers.Serializer[Any]):
    seen = serializers.IntegerField(
        required=False, min_value=0, help_text="As in the JSON body, for a body of YAML."
    )


class DiffQuery(serializers.Serializer[Any]):
    to = serializers.IntegerField(required=False, min_value=1, help_text="Else the current one.")

    def get_fields(self) -> dict[str, Any]:
        first = serializers.IntegerField(min_value=1, help_text="Number of the first version.")
        return {"from": first, **super().get_fields()}


# --- what goes out -------------------------------------------------------------------


class ProblemRow(serializers.Serializer[Any]):
    path = serializers.CharField(help_text="What the text is called.")
    line = serializers.IntegerField()
    column = serializers.IntegerField()
    key = serializers.CharField(help_text="Such as `params.kinds[0]`; empty for the whole text.")
    message = serializers.CharField()
    instead = serializers.CharField(help_text="What to write instead.")


class RuleProblem(Problem):
    problems = ProblemRow(many=True, required=False)


class SignalsOfDay(serializers.Serializer[Any]):
    P1 = serializers.IntegerField()
    P2 = serializers.IntegerField()
    P3 = serializers.IntegerField()


class RuleRow(serializers.Serializer[Any]):
    code = serializers.CharField()
    title = serializers.CharField()
    detector = serializers.CharField(allow_null=True, help_text="Null: no version can be read.")
    enabled = serializers.BooleanField(help_text="The desk's switch.")
    runs = serializers.BooleanField(help_text="Both the desk and the text say so.")
    why = serializers.CharField(help_text="Who stops it; empty while the current version runs.")
    version = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField(allow_null=True)
    changed_at = serializers.DateTimeField()
    changed_by = serializers.CharField(allow_null=True)
    change = serializers.CharField(allow_null=True, help_text="Such as `rule.published`.")
    signals_24h = SignalsOfDay()


class RulePage(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True)
    results = RuleRow(many=True)


class VersionRow(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    published_at = serializers.DateTimeField()
    published_by = serializers.CharField()
    current = serializers.BooleanField()


class RuleDetail(RuleRow):
    text = serializers.CharField(allow_null=True, help_text="As it was written.")
    canonical = serializers.CharField(allow_null=True, help_text="Every default written out.")
    versions = VersionRow(many=True, help_text="Newest first.")


class Published(serializers.Serializer[Any]):
    code = serializers.CharField()
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    change = serializers.ChoiceField(choices=CHANGES)


class Checked(serializers.Serializer[Any]):
    code = serializers.CharField()
    sha256 = serializers.CharField()
    current = serializers.IntegerField(allow_null=True)
    same = serializers.BooleanField(help_text="It means what the current version means.")
    diff = serializers.ListField(child=serializers.CharField())


class Compared(serializers.Serializer[Any]):
    same = serializers.BooleanField()
    diff = serializers.ListField(child=serializers.CharField())


class Switched(serializers.Serializer[Any]):
    code = serializers.CharField()
    enabled = serializers.BooleanField()
    changed = serializers.BooleanField(help_text="False: it was so already.")


class SeedRule(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField(help_text="The rule's code.")
    title = serializers.CharField()
    enabled = serializers.BooleanField()
    version = serializers.IntegerField(allow_null=True)
    dsl = serializers.CharField(allow_null=True, help_text="The text as it was written.")
    updated_at = serializers.DateTimeField()


class Refused(exceptions.APIException):
    """An act on a rule that was refused, in the words of the act."""

    def __init__(self, error: Exception, *, status: int, code: str, said: str = "") -> None:
        self.status_code = status
        self.problems = error.problems if isinstance(error, RuleError) else ()
        super().__init__(detail=said or str(error), code=code)


# --- the views -----------------------------------------------------------------------

TEXT = {
    "text/yaml": OpenApiTypes.STR,
    "application/yaml": OpenApiTypes.STR,
    "application/json": RuleText,
}
WRITES = {"POST": (Scope.RULES_WRITE,)}
REFUSALS = {(status, PROBLEM_JSON): RuleProblem for status in (400, 401, 403, 404, 409, 413, 503)}


def act(
    operation: str,
    answer: Any,
    *,
    body: Any = None,
    query: type[serializers.Serializer[Any]] | None = None,
    status: Sequence[int] = (200,),
    changes: bool = False,
) -> Callable[[View], View]:
    """Describe one operation to OpenAPI, its refusals included."""
    described: Callable[[View], View] = extend_schema(
        operation_id=operation,
        request=body,
        parameters=[*([query] if query else []), *([IF_MATCH] if changes else [])],
        responses={
            **dict.fromkeys(status, answer),
            **REFUSALS,
            **({(412, PROBLEM_JSON): Problem} if changes else {}),
        },
    )
    return described


class RuleView(ApiView):
    """What all views of rules share: who may come, and how refusals are worded."""

    authentication_classes = (OwnToken, TokenLogin, DeskSession)
    parser_classes = (YamlText, YamlApplication, YamlOfOld, JsonBody)

    def handle_exception(self, exc: Exception) -> Response:
        error = _worded(exc)
        answer: Response = super().handle_exception(error)
        if isinstance(error, Refused) and error.problems:
            answer.data["problems"] = [problem.row() for problem in error.problems]
        return answer

    def needs(self, permission: str) -> None:
        if not self.request.user.has_perm(permission):
            raise exceptions.PermissionDenied(f"Your account lacks the right `{permission}`.")

    def who(self) -> dict[str, Any]:
        """Return who acts and when, as `rules.load` takes it."""
        by = self.request.user if isinstance(self.request.user, User) else None
        return {"by": by, "actor": ACTOR, "at": timezone.now()}


class Rules(RuleView):
    """Rules by code; publish one."""

    scopes = WRITES

    @act("rules_list", RulePage, query=PagedQuery)
    def get(self, request: Request) -> Response:
        query = asked(request, PagedQuery)
        found = Rule.objects.select_related("current").order_by("code")
        position = read_cursor(query.get("cursor"), tuple[str])
        if position:
            found = found.filter(code__gt=position[0])
        size = query["page_size"]
        rules = list(found[: size + 1])
        cursor = write_cursor((rules[size - 1].code,)) if len(rules) > size else None
        rows = [_rule_row(each) for each in summaries(rules[:size], at=timezone.now())]
        return Response(page(request, rows, next_cursor=cursor))

    @act("rules_publish", Published, body=TEXT, query=SeenQuery, status=(200, 201), changes=True)
    def post(self, request: Request) -> Response:
        """Publish a text: 201 with a new version, 200 if it means one that there is."""
        return _publish(self, request)


class SeedRules(RuleView):
    """The seed's path: rules as a bare array; publish one."""

    scopes = WRITES

    @act("seed_rules_list", SeedRule(many=True))
    def get(self, request: Request) -> Response:
        asked(request, NoQuery)
        rules = Rule.objects.select_related("current").order_by("code")
        return Response(list(map(_seed_row, rules)))

    @act(
        "seed_rules_publish", Published, body=TEXT, query=SeenQuery, status=(200, 201), changes=True
    )
    def post(self, request: Request) -> Response:
        """Publish a text, as at `/api/v1/rules`."""
        return _publish(self, request)


class RuleByCode(RuleView):
    """One rule with its text and its versions."""

    @act("rules_retrieve", RuleDetail)
    def get(self, request: Request, code: str) -> Response:
        asked(request, NoQuery)
        rule = rule_of(code)
        (summary,) = summaries([rule], at=timezone.now())
        current = rule.current
        more = {
            "text": current.source if current else None,
            "canonical": current.canonical if current else None,
            "versions": versions_of(rule),
        }
        return with_version(_rule_row(summary) | more, _version(rule))


class RuleDiff(RuleView):
    """What changed between two versions of a rule, defaults written out."""

    @act("rules_diff", Compared, query=DiffQuery)
    def get(self, request: Request, code: str) -> Response:
        query = asked(request, DiffQuery)
        rule = rule_of(code)
        first = version_of(rule, query["from"])
        second = version_of(rule, query["to"]) if "to" in query else rule.current
        lines = difference(first, second or first)
        return Response({"same": not lines, "diff": lines})


class ValidateRule(RuleView):
    """Read a text and compare it with what is current; publishes nothing."""

    scopes = {"POST": (Scope.READ,)}

    @act("rules_validate", Checked, body=TEXT)
    def post(self, request: Request) -> Response:
        asked(request, NoQuery)
        definition = validate(_given(request, RuleText)["text"], name=NAME)
        rule = Rule.objects.select_related("current").filter(code=definition.code).first()
        current = rule.current if rule else None
        lines = difference(current, definition, name=NAME)
        told = {"code": definition.code, "sha256": definition.sha256}
        number = current.number if current else None
        return Response(told | {"current": number, "same": not lines, "diff": lines})


class EnableRule(RuleView):
    """Switch a rule on."""

    scopes = WRITES

    @act("rules_enable", Switched, changes=True)
    def post(self, request: Request, code: str) -> Response:
        return _switch(self, request, code, on=True)


class DisableRule(RuleView):
    """Switch a rule off."""

    scopes = WRITES

    @act("rules_disable", Switched, changes=True)
    def post(self, request: Request, code: str) -> Response:
        return _switch(self, request, code, on=False)


class RollBackRule(RuleView):
    """Make an earlier version of a rule current again."""

    scopes = WRITES

    @act("rules_rollback", Published, body={"application/json": RollBack}, changes=True)
    def post(self, request: Request, code: str) -> Response:
        self.needs(SWITCH)
        asked(request, NoQuery)
        rule, given = rule_of(code), _given(request, RollBack)
        try:
            with unchanged(request, code):
                done = roll_back(rule, **given, **self.who())
        except RuleError as error:
            said = "This release cannot read that version; the one that runs stays."
            status = HTTPStatus.CONFLICT
            raise Refused(error, status=status, code="version_unreadable", said=said) from error
        return Response(_published_row(done))


def _publish(view: RuleView, request: Request) -> Response:
    query, given = asked(request, SeenQuery), _given(request, RuleText)
    text = given["text"]
    code = validate(text, name=NAME).code
    view.needs(PUBLISH if Rule.objects.filter(code=code).exists() else CREATE)
    seen = given.get("seen", query.get("seen"))
    with unchanged(request, code):
        done = publish_text(text, name=NAME, seen=seen, **view.who())
    status = HTTPStatus.CREATED if done.change == "published" else HTTPStatus.OK
    return Response(_published_row(done), status=status)


def _switch(view: RuleView, request: Request, code: str, *, on: bool) -> Response:
    view.needs(SWITCH)
    asked(request, NoQuery)
    rule = rule_of(code)
    with unchanged(request, code):
        changed = switch(rule, on=on, **view.who())
    return Response({"code": code, "enabled": on, "changed": changed})


@contextmanager
def unchanged(request: Request, code: str) -> Iterator[None]:
    """Act only while a rule is the version of `If-Match`, if there is one; raise `Changed`."""
    seen = seen_version(request)
    if seen is None:
        yield
        return
    with transaction.atomic():
        rule = Rule.objects.select_for_update().filter(code=code).first()
        must_be(seen, _version(rule) if rule else None)
        yield


def _version(rule: Rule) -> str:
    """Return what every act on a rule changes: its current version and its switch."""
    number = rule.current.number if rule.current else 0
    return f"{number}-{'on' if rule.enabled else 'off'}"


def _given(request: Request, body: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the body's values; raise `BadParameters` naming what is wrong with it."""
    data: dict[str, Any] = dict(request.data)
    form = body(data=data)
    if isinstance(data.get("text"), bytes) and "text" in form.fields:
        return data
    if unknown := sorted(set(data) - set(form.fields)):
        known = ", ".join(form.fields)
        _wrong({str(name): [f"is not known here; known: {known}"] for name in unknown})
    if "text" in form.fields and isinstance(data.get("text"), str):
        # As it is: a CharField would strip it and refuse signs in words of its own.
        form.fields["text"] = serializers.JSONField()
    if not form.is_valid():
        _wrong(form.errors)
    values: dict[str, Any] = form.validated_data
    return values


def _wrong(errors: Mapping[str, Sequence[Any]]) -> NoReturn:
    told = [(name, " ".join(map(str, reasons))) for name, reasons in errors.items()]
    raise BadParameters("invalid_body", told)


def _worded(error: Exception) -> Exception:
    if isinstance(error, RuleError):
        told = error.problems[0].message
        too_long = told.startswith("the text is longer than")
        return Refused(
            error,
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_long else HTTPStatus.BAD_REQUEST,
            code="rule_too_long" if too_long else "rule_refused",
            said="Nothing was published: `problems` says where and what to write instead.",
        )
    if isinstance(error, Outdated):
        return Refused(error, status=HTTPStatus.CONFLICT, code="outdated")
    if isinstance(error, UnknownRule | UnknownVersion):
        return exceptions.NotFound(str(error))
    return error


def _rule_row(summary: RuleSummary) -> Row:
    rule, state, last = summary.rule, summary.state, summary.last
    return {
        "code": rule.code,
        "title": rule.title,
        "detector": state.definition.detector if state.definition else None,
        "enabled": rule.enabled,
        "runs": state.runs,
        "why": state.why,
        "version": rule.current.number if rule.current else None,
        "sha256": rule.current.sha256 if rule.current else None,
        "changed_at": rule.changed_at,
        "changed_by": last.actor if last else None,
        "change": last.kind if last else None,
        "signals_24h": summary.signals,
    }


def _seed_row(rule: Rule) -> Row:
    return {
        "id": rule.pk,
        "name": rule.code,
        "title": rule.title,
        "enabled": rule.enabled,
        "version": rule.current.number if rule.current else None,
        "dsl": rule.current.source if rule.current else None,
        "updated_at": rule.changed_at,
    }


def _published_row(done: Publication) -> Row:
    version = done.version
    told = {"code": version.rule.code, "number": version.number, "sha256": version.sha256}
    return told | {"change": done.change}
