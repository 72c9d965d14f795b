"""The pages about rules: what there is, what each looks for, its versions, its switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from pydantic import BaseModel

from alerts.models import AuditEntry
from mpx_site.portal import exports
from mpx_site.portal.exports import Column
from mpx_site.portal.numbers import row_number
from mpx_site.rule_rows import RuleSummary, named, summaries
from rules.dsl import RuleDefinition, RuleError
from rules.load import (
    PUBLISH,
    SWITCH,
    SYSTEM,
    Outdated,
    UnknownRule,
    UnknownVersion,
    authors_of,
    difference,
    history_of,
    roll_back,
    rule_of,
    switch,
)
from rules.models import Rule, RuleVersion
from signals.models import Signal

MOST_VERSIONS = 50
MOST_HISTORY = 30

EVENTS = {
    "rule.published": "published",
    "rule.rolled_back": "rolled back",
    "rule.enabled": "switched on",
    "rule.disabled": "switched off",
}

RULES = (
    Column("code", "rule.code"),
    Column("title", "rule.title"),
    Column("runs", "state.runs"),
    Column("why_not", "state.why"),
    Column("detector", "state.definition.detector"),
    Column("version", "rule.current.number"),
    Column("sha256", "rule.current.sha256"),
    Column("signals_24h", "signals_total"),
    *(Column(f"{level.lower()}_24h", f"signals.{level}") for level in Signal.Level.values),
    Column("changed_at", "rule.changed_at"),
)

LOOKS = {
    "dutch_book": "Outcomes of one event that together pay more than they cost. At every change.",
    "cross_market": "Outcomes of related markets that together pay more than they cost, in "
    "every joint outcome that the approved relations leave possible. At every change.",
    "spike": "A jump of the mid that stands. At every change.",
    "endgame": "What is near-certain shortly before its listed end, where that is worth it on "
    "average. On the sweep: time alone moves it.",
    "imbalance": "A book with far more shares on one side. At every change.",
    "trend": "A mid that leaves the channel of its last bars. At every change.",
    "temporal": "Ladders along dates that together pay more than they cost. At every change.",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a unified diff as it is; `change` is its first sign: `+`, `-`, `@` or none."""

    change: str
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a rule. `changed`: it is not what the schema gives by itself."""

    name: str
    value: str
    default: str
    about: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version; `change` is what it changed, `back` what going back to it would change."""

    row: RuleVersion
    by: str
    current: bool
    change: tuple[Line, ...]
    back: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done to the rule."""

    entry: AuditEntry
    what: str
    by: str


@dataclass(frozen=True, slots=True)
class RulePage:
    summary: RuleSummary
    looks: str
    params: tuple[Field, ...]
    others: tuple[Field, ...]
    versions: tuple[Version, ...]
    more_versions: int
    history: tuple[Entry, ...]
    open_signals: int


# --- pages ---------------------------------------------------------------------------


@require_safe
@never_cache
def rules(request: HttpRequest) -> HttpResponseBase:
    rows = summaries(list(Rule.objects.select_related("current").order_by("code")), at=_now())
    if (file := exports.answer(request, rows, RULES, name="rules")) is not None:
        return file
    running = sum(row.state.runs for row in rows)
    listed = [(row, _entry(row.last) if row.last else None) for row in rows]
    return render(request, "portal/rules.html", {"rows": listed, "running": running})


@require_safe
@never_cache
def rule(request: HttpRequest, code: str) -> HttpResponse:
    page = rule_page(_found(code), at=_now())
    may = {
        "may_switch": request.user.has_perm(SWITCH),
        "may_edit": request.user.is_staff and request.user.has_perm(PUBLISH),
    }
    return render(request, "portal/rule.html", {"page": page, **may})


@require_POST
def enable(request: HttpRequest, code: str) -> HttpResponse:
    return _switch(request, code, on=True)


@require_POST
def disable(request: HttpRequest, code: str) -> HttpResponse:
    return _switch(request, code, on=False)


@require_POST
def back(request: HttpRequest, code: str) -> HttpResponse:
    """Make the version of the form current again, if the one that was seen still is."""
    by, found = _switcher(request), _found(code)
    number, seen = (row_number(request.POST.get(name)) for name in ("number", "seen"))
    if number is None or seen is None:
        return _told(request, code, "Which version?", done=False)
    try:
        done = roll_back(found, number=number, seen=seen, by=by, at=_now())
    except (Outdated, RuleError, UnknownVersion) as error:
        return _told(request, code, str(error), done=False)
    if done.change == "unchanged":
        return _told(request, code, f"{done.version} was current already.")
    return _told(request, code, f"{done.version} is current again. It runs within 5 s.")


def rule_page(found: Rule, *, at: datetime) -> RulePage:
    (summary,) = summaries([found], at=at)
    definition = summary.state.definition
    versions = versions_of(found)
    return RulePage(
        summary=summary,
        looks=LOOKS.get(definition.detector, "") if definition else "",
        params=tuple(fields_of(definition, ("params",))) if definition else (),
        others=tuple(fields_of(definition, OTHERS)) if definition else (),
        versions=versions,
        more_versions=max(0, found.versions.count() - len(versions)),
        history=tuple(map(_entry, history_of(found, most=MOST_HISTORY))),
        open_signals=Signal.objects.open().filter(rule=found).aggregate(n=Count("id"))["n"],
    )


# --- versions ------------------------------------------------------------------------


def versions_of(found: Rule) -> tuple[Version, ...]:
    """Return the newest versions with who published them and what they changed."""
    newest = list(found.versions.newest_first()[: MOST_VERSIONS + 1])
    authors = authors_of(found)
    before: Sequence[RuleVersion | None] = [*newest[1:], None]
    return tuple(
        Version(
            row=version,
            by=named(authors.get(version.number, SYSTEM)),
            current=version.pk == found.current_id,
            change=lines_of(difference(older, version)) if older else (),
            back=_back(found, version),
        )
        for version, older in list(zip(newest, before, strict=True))[:MOST_VERSIONS]
    )


def _back(found: Rule, version: RuleVersion) -> tuple[Line, ...]:
    if found.current is None or version.pk == found.current_id:
        return ()
    return lines_of(difference(found.current, version))


def lines_of(diff: Iterable[str]) -> tuple[Line, ...]:
    """Take a unified diff apart, without the names of its two sides."""
    kept = [line for line in diff if not line.startswith(("--- ", "+++ "))]
    return tuple(Line(line[0].strip(), line) for line in kept)


# --- fields --------------------------------------------------------------------------

OTHERS = ("enabled", "scope", "scoring", "dedupe", "outputs")


def fields_of(definition: RuleDefinition, names: Iterable[str]) -> Iterator[Field]:
    """Return every field under these names with its value, its default and its meaning."""
    for name in names:
        info = type(definition).model_fields[name]
        value, default = getattr(definition, name), info.default
        if isinstance(value, BaseModel):
            prefix = "" if name == "params" else f"{name}."
            yield from _leaves(value, type(value)(), prefix)
        else:
            yield _field(name, value, default, info.description)


def _leaves(value: BaseModel, default: BaseModel, prefix: str) -> Iterator[Field]:
    for name, info in type(value).model_fields.items():
        inner, usual = getattr(value, name), getattr(default, name)
        if isinstance(inner, BaseModel):
            yield from _leaves(inner, usual, f"{prefix}{name}.")
        else:
            yield _field(f"{prefix}{name}", inner, usual, info.description)


def _field(name: str, value: Any, default: Any, about: str | None) -> Field:
    empty = "none" if ".exclude." in name else "all"
    said, usual = written(value, empty=empty), written(default, empty=empty)
    return Field(name, said, usual, about or "", value != default)


def written(value: object, *, empty: str) -> str:
    """Write a value as the rule's text would, a list as words; `empty` is one of nothing."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        return ", ".join(written(each, empty=empty) for each in value) or empty
    return f"{value.normalize() + 0:f}" if isinstance(value, Decimal) else str(value)


# --- acts ----------------------------------------------------------------------------


def _switch(request: HttpRequest, code: str, *, on: bool) -> HttpResponse:
    by, word = _switcher(request), "on" if on else "off"
    changed = switch(_found(code), on=on, by=by, at=_now())
    text = f"Switched {word}. It counts within 5 s." if changed else f"It was {word} already."
    return _told(request, code, text)


def _switcher(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not request.user.has_perm(SWITCH):
        raise PermissionDenied("Your account may not switch rules or roll them back.")
    return request.user


def _told(request: HttpRequest, code: str, text: str, *, done: bool = True) -> HttpResponse:
    say: Callable[..., None] = messages.success if done else messages.error
    say(request, text)
    return HttpResponseRedirect(reverse("rule", args=[code]))


def _found(code: str) -> Rule:
    try:
        return rule_of(code)
    except UnknownRule as error:
        raise Http404(str(error)) from error


def _entry(entry: AuditEntry) -> Entry:
    what = EVENTS.get(entry.kind, entry.kind)
    number, before = entry.data.get("number"), entry.data.get("before")
    if number:
        what += f" v{number}" if before is None else f" v{number} after v{before}"
    return Entry(entry, what, named(entry.actor))


def _now() -> datetime:
    return timezone.now()
