"""Rules into the database and out again: publish a text, switch a rule, read what runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from alerts import journal
from rules.dsl import RuleDefinition, RuleError, RuleFile, parse_rule, read_dir
from rules.models import Rule, RuleVersion
from rules.strict_yaml import Problem

log = logging.getLogger(__name__)

SHIPPED: Final = Path(__file__).parent / "defs"


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
class EnabledRule:
    """A rule as it should run now.

    `problem` is empty, or says why the current version cannot run and an older one does.
    """

    definition: RuleDefinition
    version_id: int
    number: int
    problem: str = ""


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
    return _publish(definition, source=source, by=by, at=at or timezone.now()).version


def publish_dir(path: Path, *, by: User | None = None, at: datetime | None = None) -> FolderResult:
    """Publish every good rule of a folder; a broken file stops none of the others."""
    files, problems = read_dir(path)
    return _publish_files(files, problems, by=by, at=at or timezone.now())


def publish_missing(path: Path = SHIPPED, *, at: datetime | None = None) -> FolderResult:
    """Publish the rules of a folder that the database does not know yet.

    For a start of the desk: what an operator has published since is left alone.
    """
    files, problems = read_dir(path)
    known = set(Rule.objects.filter(current__isnull=False).values_list("code", flat=True))
    missing = [file for file in files if file.definition.code not in known]
    return _publish_files(missing, problems, by=None, at=at or timezone.now())


def switch(rule: Rule, *, on: bool, by: User | None, at: datetime) -> bool:
    """Switch a rule on or off; return whether that changed anything."""
    with transaction.atomic():
        waiting = Rule.objects.filter(pk=rule.pk, enabled=not on)
        if not waiting.update(enabled=on, changed_at=at):
            return False
        journal.record(
            kind="rule.enabled" if on else "rule.disabled",
            subject=f"rule:{rule.code}",
            actor=_actor(by),
            data={},
            at=at,
        )
    return True


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
    return parse_rule(version.canonical, source=str(version))


def _publish(
    definition: RuleDefinition, *, source: str, by: User | None, at: datetime
) -> Publication:
    if parse_rule(source, source=definition.code) != definition:
        raise TextMismatch(f"the text does not define this {definition.code}")
    with transaction.atomic():
        rule = _locked_rule(definition, at=at)
        known = rule.versions.filter(sha256=definition.sha256).first()
        if known and known.pk == rule.current_id:
            return Publication(known, "unchanged")
        version = known or _new_version(rule, definition, source=source, by=by, at=at)
        _make_current(rule, version, title=definition.title, by=by, at=at)
    return Publication(version, "restored" if known else "published")


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
    rule: Rule, version: RuleVersion, *, title: str, by: User | None, at: datetime
) -> None:
    before = rule.current
    rule.current, rule.title, rule.changed_at = version, title, at
    rule.save(update_fields=["current", "title", "changed_at"])
    journal.record(
        kind="rule.published",
        subject=f"rule:{rule.code}",
        actor=_actor(by),
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
) -> FolderResult:
    done = [_publish(file.definition, source=file.text, by=by, at=at) for file in files]
    return FolderResult(tuple(done), tuple(problems))


def _readable(rule: Rule) -> EnabledRule | None:
    problem = ""
    for version in _current_then_older(rule):
        try:
            return EnabledRule(definition_of(version), version.pk, version.number, problem)
        except RuleError as error:
            problem = problem or f"v{version.number} cannot run: {error.problems[0]}"
            log.error("rule.version_unreadable", extra={"rule": str(version), "why": str(error)})
    log.error("rule.no_readable_version", extra={"rule": rule.code})
    return None


def _current_then_older(rule: Rule) -> Iterator[RuleVersion]:
    if rule.current is None:
        return
    yield rule.current
    yield from rule.versions.filter(number__lt=rule.current.number).order_by("-number")


def _actor(by: User | None) -> str:
    return by.get_username() if by else "system"
