"""Check rule files, publish them, compare versions, switch rules and roll them back."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from rules.dsl import RuleError, RuleFile, read_rule
from rules.load import (
    SHIPPED,
    FolderResult,
    Publication,
    UnknownRule,
    UnknownVersion,
    difference,
    publish_dir,
    publish_text,
    roll_back,
    rule_of,
    state_of,
    switch,
    version_of,
)
from rules.models import Rule, RuleVersion
from rules.strict_yaml import MAX_BYTES, Problem

NEGATIVE, USAGE, UNREACHABLE, MISSING, REFUSED = 1, 2, 3, 4, 5
EXAMPLES = """examples:
  manage.py rules validate rules/defs/*.yaml
  manage.py rules diff rules/defs/dutch_book_detect.yaml
  manage.py rules diff DUTCH_BOOK_DETECT 1 2
  manage.py rules load
  manage.py rules disable SPIKE_DETECT --by alice
  manage.py rules rollback DUTCH_BOOK_DETECT 1
  manage.py rules list --json

exit codes: 0 ok; 1 a rule is broken, or differs (diff); 2 wrong call; 3 no database;
4 there is no such rule or version; 5 refused: this release cannot read that version"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        validate = acts.add_parser("validate", help="check files; print path:line:col: message")
        validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
        load = acts.add_parser("load", help="publish a file, or the good rules of a folder")
        load.add_argument("path", nargs="?", type=Path, default=SHIPPED, metavar="PATH")
        compare = acts.add_parser("diff", help="compare a file with what runs, or two versions")
        compare.add_argument("what", metavar="FILE|CODE")
        compare.add_argument("first", nargs="?", type=int, metavar="FROM")
        compare.add_argument("second", nargs="?", type=int, metavar="TO", help="else the current")
        enable = acts.add_parser("enable", help="switch a rule on")
        disable = acts.add_parser("disable", help="switch a rule off")
        back = acts.add_parser("rollback", help="make an earlier version current again")
        for act in (enable, disable, back):
            act.add_argument("code", metavar="CODE")
        back.add_argument("number", type=int, metavar="NUMBER")
        for act in (load, enable, disable, back):
            act.add_argument("--by", metavar="ACCOUNT", help="else the account of this console")
        listing = acts.add_parser("list", help="list the rules in the database")
        for act in (validate, load, compare, enable, disable, back, listing):
            act.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        acts: dict[str, Callable[[dict[str, Any]], bool]] = {
            "validate": self.validate,
            "load": self.load,
            "diff": self.diff,
            "enable": lambda given: self.switch(given, on=True),
            "disable": lambda given: self.switch(given, on=False),
            "rollback": self.rollback,
            "list": self.list,
        }
        try:
            good = acts[act](options)
        except (OperationalError, ProgrammingError) as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        except (UnknownRule, UnknownVersion) as error:
            raise CommandError(str(error), returncode=MISSING) from error
        if not good:
            sys.exit(NEGATIVE)

    def validate(self, options: dict[str, Any]) -> bool:
        results = [_checked(path) for path in options["files"]]
        if options["json"]:
            self._print_json({"files": [_file_row(*result) for result in results]})
        else:
            for path, rule, problems in results:
                self._print_lines(problems)
                if rule:
                    self._print_lines([f"{path}: ok, {rule.definition.code}"])
        return all(rule for _, rule, _ in results)

    def load(self, options: dict[str, Any]) -> bool:
        path, who = options["path"], _who(options)
        try:
            result = publish_dir(path, **who) if path.is_dir() else _published(path, who)
        except OSError as error:
            raise _cannot_read(path, error) from error
        if options["json"]:
            rows = [_publication_row(one) for one in result.publications]
            problems = [problem.row() for problem in result.problems]
            self._print_json({"rules": rows, "problems": problems})
        else:
            self._print_lines(result.problems)
            self._print_lines(f"{one.version}: {one.change}" for one in result.publications)
        return not result.problems

    def diff(self, options: dict[str, Any]) -> bool:
        if options["first"] is not None:
            return self._diff_versions(options)
        path, rule, problems = _checked(Path(options["what"]))
        if rule is None:
            if options["json"]:
                self._print_json(_file_row(path, rule, problems))
            else:
                self._print_lines(problems)
            return False
        current = _current(rule.definition.code)
        lines = difference(current, rule.definition, name=str(path))
        return self._tell_difference(rule.definition.code, current, lines, options)

    def _diff_versions(self, options: dict[str, Any]) -> bool:
        rule = rule_of(options["what"])
        first = version_of(rule, options["first"])
        number = options["second"]
        second = rule.current if number is None else version_of(rule, number)
        lines = difference(first, second or first)
        return self._tell_difference(rule.code, first, lines, options)

    def _tell_difference(
        self,
        code: str,
        before: RuleVersion | None,
        lines: tuple[str, ...],
        options: dict[str, Any],
    ) -> bool:
        if options["json"]:
            number = before.number if before else None
            self._print_json({"code": code, "current": number, "same": not lines, "diff": [*lines]})
        else:
            self._print_lines(lines or [f"{before}: the same"])
        return not lines

    def switch(self, options: dict[str, Any], *, on: bool) -> bool:
        rule = rule_of(options["code"])
        changed = switch(rule, on=on, **_who(options))
        if options["json"]:
            self._print_json({"code": rule.code, "enabled": on, "changed": changed})
        else:
            word = "on" if on else "off"
            told = f"switched {word}" if changed else f"was {word} already"
            self._print_lines([f"{rule.code}: {told}"])
        return True

    def rollback(self, options: dict[str, Any]) -> bool:
        rule = rule_of(options["code"])
        try:
            done = roll_back(rule, number=options["number"], **_who(options))
        except RuleError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        if options["json"]:
            self._print_json(_publication_row(done))
        else:
            told = "was current already" if done.change == "unchanged" else "is current again"
            self._print_lines([f"{done.version} {told}"])
        return True

    def list(self, options: dict[str, Any]) -> bool:
        rules = list(Rule.objects.select_related("current").order_by("code"))
        if options["json"]:
            self._print_json({"rules": [_rule_row(rule) for rule in rules]})
        elif rules:
            self._print_lines(_rule_line(rule) for rule in rules)
        else:
            self.stderr.write("no rule is published yet; `manage.py rules load` does it")
        return True

    def _print_json(self, answer: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(answer, ensure_ascii=False))

    def _print_lines(self, lines: Iterable[object]) -> None:
        for line in lines:
            self.stdout.write(str(line))


def _who(options: dict[str, Any]) -> dict[str, Any]:
    """Return who acts and when, as `rules.load` takes it."""
    by = _account(options["by"]) if options["by"] else None
    return {"by": by, "actor": f"console:{getpass.getuser()}", "at": datetime.now(UTC)}


def _account(name: str) -> User:
    account = User.objects.filter(username=name, is_active=True).first()
    if account is None:
        raise CommandError(f"There is no active account {name}.", returncode=USAGE)
    return account


def _published(path: Path, who: dict[str, Any]) -> FolderResult:
    try:
        with path.open("rb") as file:
            done = publish_text(file.read(MAX_BYTES + 1), name=str(path), **who)
    except RuleError as error:
        return FolderResult((), error.problems)
    return FolderResult((done,), ())


def _checked(path: Path) -> tuple[Path, RuleFile | None, tuple[Problem, ...]]:
    try:
        return path, read_rule(path), ()
    except RuleError as error:
        return path, None, error.problems
    except OSError as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: OSError) -> CommandError:
    return CommandError(f"{path}: {error.strerror}", returncode=USAGE)


def _current(code: str) -> RuleVersion | None:
    rule = Rule.objects.filter(code=code).select_related("current").first()
    return rule.current if rule else None


def _file_row(path: Path, rule: RuleFile | None, problems: Iterable[Problem]) -> dict[str, Any]:
    return {
        "path": str(path),
        "ok": rule is not None,
        "code": rule.definition.code if rule else None,
        "sha256": rule.definition.sha256 if rule else None,
        "problems": [problem.row() for problem in problems],
    }


def _publication_row(publication: Publication) -> dict[str, Any]:
    version = publication.version
    return {
        "code": version.rule.code,
        "number": version.number,
        "sha256": version.sha256,
        "change": publication.change,
    }


def _rule_row(rule: Rule) -> dict[str, Any]:
    state = state_of(rule)
    return {
        "code": rule.code,
        "title": rule.title,
        "enabled": rule.enabled,
        "runs": state.runs,
        "why": state.why,
        "number": rule.current.number if rule.current else None,
        "sha256": rule.current.sha256 if rule.current else None,
        "changed_at": rule.changed_at.isoformat(),
    }


def _rule_line(rule: Rule) -> str:
    state = state_of(rule)
    runs, why = "on " if state.runs else "off", f" ({state.why})" if state.why else ""
    version = f"v{rule.current.number} {rule.current.sha256[:12]}" if rule.current else "-"
    return f"{rule.code:<24} {runs} {version:<18} {rule.title}{why}"
