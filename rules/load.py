"""Rules into the database and out again: the acts behind admin, API, command and portal.

Publish a text, switch a rule, roll back to a version, compare two, read what runs. What is
refused says where and what to do, and leaves the version that runs as it is.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from alerts import journal
from alerts.models import AuditEntry
from rules.dsl import RuleDefinition, RuleError, RuleFile, parse_rule, read_dir
from rules.models import Rule, RuleVersion
from rules.strict_yaml import MAX_BYTES, Problem

log = structlog.stdlib.get_logger(__name__)

SHIPPED: Final = Path(__file__).parent / "defs"
CREATE, PUBLISH, SWITCH = "rules.add_rule", "rules.change_rule", "rules.enable_rule"
SYSTEM: Final = "system"  # who acted when nobody did: the desk's own start


class UnknownRule(LookupError):
    """No rule has this code."""

    def __init__(self, code: str) -> None:
        known = ", ".join(Rule.objects.order_by("code").values_list("code", flat=True))
        super().__init__(f"There is no rule {code}. Known: {known or 'none yet'}.")
        self.code = code


class UnknownVersion(LookupError):
    """The rule has no version of this number."""

    def __init__(self, rule: Rule, number: int) -> None:
        has = f"It has 1 to {rule.versions.count()}." if rule.current_id else "It has none yet."
        super().__init__(f"{rule.code} has no version {number}. {has}")
        self.number = number


class Outdated(ValueError):
    """Another version became current since the caller looked; `current` is its number."""

    def __init__(self, rule: Rule, *, current: int) -> None:
        told = f"{rule.code} v{current} became current while you were at it."
        super().__init__(f"{told} Look at it and apply your change there.")
        self.current = current


class TextMismatch(ValueError):
    """The text handed over for publication does not say what the definition says."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing did: a new version, an older one made current again, or nothing."""

    version: RuleVersion
    change: Literal["published", "restored", "unchanged"]


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What became of a folder of rules: the good ones are published, the others told."""

    publications: tuple[Publication, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class RuleState:
    """Whether a rule runs, and why not.

    `definition` is that of the version which runs or would run; None if none can be read.
    `why` is empty while the current version runs.
    """

    definition: RuleDefinition | None
    runs: bool
    why: str


@dataclass(frozen=True, slots=True)
class EnabledRule:
    """A rule as it should run now.

    `problem` is empty, or says why the current version cannot run and an older one does.
    """

    definition: RuleDefinition
    version_id: int
    number: int
    problem: str = ""


# --- acts --------------------------------------------------------------------------------


def validate(text: str | bytes, *, name: str) -> RuleDefinition:
    """Return the rule that a text defines; raise `RuleError` with everything wrong with it.

    `name` is what problems call the text. Nothing is published and no database is asked.
    """
    return parse_rule(_decoded(text), source=name)


def publish_text(
    text: str | bytes,
    *,
    name: str,
    by: User | None,
    at: datetime,
    actor: str = SYSTEM,
    seen: int | None = None,
) -> Publication:
    """Publish the rule that a text defines; the text is kept as it was written.

    `actor` is who acts where `by` is None. `seen` is the number of the version that the
    change was made from (0: there was no rule); None: whichever it was. Raises `RuleError`
    for a broken text and `Outdated` if another version is current by now.
    """
    source = _decoded(text)
    definition = parse_rule(source, source=name)
    return _publish(definition, source=source, by=by, at=at, actor=actor, seen=seen)


def publish(
    definition: RuleDefinition,
    *,
    source: str,
    by: User | None = None,
    at: datetime | None = None,
) -> RuleVersion:
    """Make a definition the current version of its rule and return that version.

    `source` is the YAML text it was parsed from; `by` is None for files; `at` is now
    unless given. What means the same as an earlier version is that version again. Raises
    `TextMismatch` if text and definition differ, `RuleError` if the text is broken.
    """
    if parse_rule(source, source=definition.code) != definition:
        raise TextMismatch(f"the text does not define this {definition.code}")
    return _publish(definition, source=source, by=by, at=at or timezone.now()).version


def publish_dir(
    path: Path, *, by: User | None = None, at: datetime | None = None, actor: str = SYSTEM
) -> FolderResult:
    """Publish every good rule of a folder; a broken file stops none of the others."""
    files, problems = read_dir(path)
    return _publish_files(files, problems, by=by, at=at or timezone.now(), actor=actor)


def publish_missing(path: Path = SHIPPED, *, at: datetime | None = None) -> FolderResult:
    """Publish the rules of a folder that the database does not know yet.

    For a start of the desk: what an operator has published since is left alone.
    """
    files, problems = read_dir(path)
    known = set(Rule.objects.filter(current__isnull=False).values_list("code", flat=True))
    missing = [file for file in files if file.definition.code not in known]
    return _publish_files(missing, problems, by=None, at=at or timezone.now(), actor=SYSTEM)


def roll_back(
    rule: Rule,
    *,
    number: int,
    by: User | None,
    at: datetime,
    actor: str = SYSTEM,
    seen: int | None = None,
) -> Publication:
    """Make an earlier version of a rule current again, as it was published.

    Raises `UnknownVersion`, `RuleError` if this release cannot read that version, and
    `Outdated` if another version than `seen` is current by now (None: whichever is).
    """
    with transaction.atomic():
        held = Rule.objects.select_for_update().get(pk=rule.pk)
        _check_seen(held, seen)
        version = version_of(held, number)
        if version.pk == held.current_id:
            return Publication(version, "unchanged")
        title = definition_of(version).title
        who = _actor(by, actor)
        _make_current(held, version, kind="rule.rolled_back", title=title, actor=who, at=at)
    return Publication(version, "restored")


def switch(rule: Rule, *, on: bool, by: User | None, at: datetime, actor: str = SYSTEM) -> bool:
    """Switch a rule on or off; return whether that changed anything."""
    with transaction.atomic():
        waiting = Rule.objects.filter(pk=rule.pk, enabled=not on)
        if not waiting.update(enabled=on, changed_at=at):
            return False
        journal.record(
            kind="rule.enabled" if on else "rule.disabled",
            subject=_subject(rule.code),
            actor=_actor(by, actor),
            data={},
            at=at,
        )
    return True


# --- what there is -----------------------------------------------------------------------


def rule_of(code: str) -> Rule:
    """Return the rule of a code with its current version; raise `UnknownRule`."""
    rule = Rule.objects.select_related("current").filter(code=code).first()
    if rule is None:
        raise UnknownRule(code)
    return rule


def version_of(rule: Rule, number: int) -> RuleVersion:
    """Return a version of a rule by its number; raise `UnknownVersion`."""
    version = rule.versions.select_related("rule").filter(number=number).first()
    if version is None:
        raise UnknownVersion(rule, number)
    return version


def difference(
    before: RuleVersion | None, after: RuleVersion | RuleDefinition, *, name: str = ""
) -> tuple[str, ...]:
    """Compare what two texts mean, line by line; empty if they mean the same.

    A unified diff of the canonical texts, defaults written out: comments, order and layout
    are no difference. `name` is what the second is called, its own unless given.
    """
    old = before.canonical if before else ""
    new = after.canonical if isinstance(after, RuleVersion) else after.canonical()
    code = str(after) if isinstance(after, RuleVersion) else after.code
    first = str(before) if before else f"{code} (not published)"
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), first, name or code, lineterm=""
    )
    return tuple(lines)


def authors_of(rule: Rule) -> dict[int, str]:
    """Return who first published each version, by number, as the audit chain has it."""
    told = AuditEntry.objects.filter(subject=_subject(rule.code), kind="rule.published")
    first: dict[int, str] = {}
    for actor, data in told.order_by("id").values_list("actor", "data"):
        first.setdefault(data["number"], actor)
    return first


def last_changes(rules: Iterable[Rule]) -> dict[str, AuditEntry]:
    """Return the newest entry of the audit chain about each rule, by code."""
    subjects = [_subject(rule.code) for rule in rules]
    newest = AuditEntry.objects.filter(subject__in=subjects).order_by().values("subject")
    ids = newest.annotate(last=Max("id")).values_list("last", flat=True)
    entries = AuditEntry.objects.filter(pk__in=list(ids))
    return {entry.subject.removeprefix("rule:"): entry for entry in entries}


def history_of(rule: Rule, *, most: int) -> list[AuditEntry]:
    """Return the newest entries of the audit chain about a rule, newest first."""
    told = AuditEntry.objects.filter(subject=_subject(rule.code))
    return list(told.order_by("-id")[:most])


def state_of(rule: Rule) -> RuleState:
    """Say whether a rule runs and, if not, who stops it."""
    found = _readable(rule)
    definition = found.definition if found else None
    if rule.current is None:
        return RuleState(None, False, "no version is published")
    if found is None:
        return RuleState(None, False, "no version can be read by this release")
    if not rule.enabled:
        return RuleState(definition, False, "switched off by the desk")
    if not found.definition.enabled:
        return RuleState(definition, False, "its text says enabled: false")
    instead = f"{found.problem}; v{found.number} runs instead" if found.problem else ""
    return RuleState(definition, True, instead)


def enabled_definitions() -> list[EnabledRule]:
    """Return the rules that run now, by code: switched on by the desk and by their text.

    A version that cannot be read any more gives way to the newest older one that can.
    """
    rules = Rule.objects.enabled().select_related("current").order_by("code")
    readable = filter(None, map(_readable, rules))
    return [rule for rule in readable if rule.definition.enabled]


def definition_of(version: RuleVersion) -> RuleDefinition:
    """Return what a version says; raise `RuleError` if this release cannot read it."""
    if hashlib.sha256(version.canonical.encode()).hexdigest() != version.sha256:
        message, instead = "the text was changed after publication", "publish it again"
        raise RuleError([Problem(str(version), 1, 1, "", message, instead)])
    return _parsed(version.canonical, str(version))


@lru_cache(maxsize=256)
def _parsed(text: str, source: str) -> RuleDefinition:
    """Read a text once: versions never change, and pages ask for the same ones all day."""
    return parse_rule(text, source=source)


# --- steps -------------------------------------------------------------------------------


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    # A byte that is not UTF-8 survives as a lone surrogate, which is refused with its place.
    return text[: MAX_BYTES + 1].decode("utf-8", "surrogateescape")


def _publish(
    definition: RuleDefinition,
    *,
    source: str,
    by: User | None,
    at: datetime,
    actor: str = SYSTEM,
    seen: int | None = None,
) -> Publication:
    with transaction.atomic():
        rule = _locked_rule(definition, at=at)
        _check_seen(rule, seen)
        known = rule.versions.filter(sha256=definition.sha256).first()
        if known and known.pk == rule.current_id:
            return Publication(known, "unchanged")
        version = known or _new_version(rule, definition, source=source, by=by, at=at)
        who = _actor(by, actor)
        _make_current(
            rule, version, kind="rule.published", title=definition.title, actor=who, at=at
        )
    return Publication(version, "restored" if known else "published")


def _check_seen(rule: Rule, seen: int | None) -> None:
    current = rule.current.number if rule.current else 0
    if seen is not None and seen != current:
        raise Outdated(rule, current=current)


def _locked_rule(definition: RuleDefinition, *, at: datetime) -> Rule:
    """Return the rule's row, held until commit so that publishers number one by one."""
    rule, _ = Rule.objects.select_for_update().get_or_create(
        code=definition.code, defaults={"title": definition.title, "changed_at": at}
    )
    return rule


def _new_version(
    rule: Rule,
    definition: RuleDefinition,
    *,
    source: str,
    by: User | None,
    at: datetime,
) -> RuleVersion:
    newest = rule.versions.order_by("-number").first()
    return RuleVersion.objects.create(
        rule=rule,
        number=newest.number + 1 if newest else 1,
        sha256=definition.sha256,
        source=source,
        canonical=definition.canonical(),
        created_at=at,
        created_by=by,
    )


def _make_current(
    rule: Rule, version: RuleVersion, *, kind: str, title: str, actor: str, at: datetime
) -> None:
    before = rule.current
    rule.current, rule.title, rule.changed_at = version, title, at
    rule.save(update_fields=["current", "title", "changed_at"])
    journal.record(
        kind=kind,
        subject=_subject(rule.code),
        actor=actor,
        data={
            "number": version.number,
            "sha256": version.sha256,
            "before": before.number if before else None,
        },
        at=at,
    )


def _publish_files(
    files: Iterable[RuleFile],
    problems: Iterable[Problem],
    *,
    by: User | None,
    at: datetime,
    actor: str,
) -> FolderResult:
    done = [
        _publish(file.definition, source=file.text, by=by, at=at, actor=actor) for file in files
    ]
    return FolderResult(tuple(done), tuple(problems))


def _readable(rule: Rule) -> EnabledRule | None:
    problem = ""
    for version in _current_then_older(rule):
        try:
            return EnabledRule(definition_of(version), version.pk, version.number, problem)
        except RuleError as error:
            problem = problem or f"v{version.number} cannot run: {error.problems[0]}"
            log.error("rule.version_unreadable", rule=str(version), why=str(error))
    log.error("rule.no_readable_version", rule=rule.code)
    return None


def _current_then_older(rule: Rule) -> Iterator[RuleVersion]:
    if rule.current is None:
        return
    rule.current.rule = rule  # so that its name costs no query
    yield rule.current
    yield from rule.versions.filter(number__lt=rule.current.number).order_by("-number")


def _actor(by: User | None, otherwise: str) -> str:
    return by.get_username() if by else otherwise


def _subject(code: str) -> str:
    return f"rule:{code}"
