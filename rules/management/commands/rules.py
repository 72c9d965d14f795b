"""Check rule files, publish them, compare them with what runs, list what runs."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from rules.dsl import RuleError, RuleFile, read_rule
from rules.load import SHIPPED, Publication, publish_dir
from rules.models import Rule, RuleVersion
from rules.strict_yaml import Problem

NEGATIVE, USAGE, UNREACHABLE = 1, 2, 3
EXAMPLES = """examples:
  manage.py rules validate rules/defs/*.yaml
  manage.py rules diff rules/defs/dutch_book_detect.yaml
  manage.py rules load
  manage.py rules list --json

exit codes: 0 ok; 1 a rule is broken, or differs (diff); 2 wrong call; 3 no database"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        validate = acts.add_parser("validate", help="check files; print path:line:col: message")
        validate.add_argument("files", nargs="+", type=Path, metavar="FILE")
        load = acts.add_parser("load", help="publish the good rules of a folder")
        load.add_argument("folder", nargs="?", type=Path, default=SHIPPED, metavar="DIR")
        compare = acts.add_parser("diff", help="compare a file with the current version")
        compare.add_argument("file", type=Path, metavar="FILE")
        listing = acts.add_parser("list", help="list the rules in the database")
        for act in (validate, load, compare, listing):
            act.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        acts = {
            "validate": self.validate,
            "load": self.load,
            "diff": self.diff,
            "list": self.list,
        }
        try:
            good = acts[act](options)
        except (OperationalError, ProgrammingError) as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
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
        try:
            result = publish_dir(options["folder"])
        except OSError as error:
            raise _cannot_read(options["folder"], error) from error
        if options["json"]:
            rows = [_publication_row(one) for one in result.publications]
            problems = [_problem_row(problem) for problem in result.problems]
            self._print_json({"rules": rows, "problems": problems})
        else:
            self._print_lines(result.problems)
            self._print_lines(f"{one.version}: {one.change}" for one in result.publications)
        return not result.problems

    def diff(self, options: dict[str, Any]) -> bool:
        path, rule, problems = _checked(options["file"])
        if rule is None:
            if options["json"]:
                self._print_json(_file_row(path, rule, problems))
            else:
                self._print_lines(problems)
            return False
        current = _current(rule.definition.code)
        lines = _difference(current, rule)
        if options["json"]:
            self._print_json(
                {
                    "code": rule.definition.code,
                    "current": current.number if current else None,
                    "same": not lines,
                    "diff": lines,
                }
            )
        else:
            self._print_lines(lines or [f"{current}: the same"])
        return not lines

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


def _difference(current: RuleVersion | None, file: RuleFile) -> list[str]:
    """Compare what both mean, defaults written out: comments and layout are no difference."""
    before = current.canonical.splitlines() if current else []
    after = file.definition.canonical().splitlines()
    name = str(current) if current else f"{file.definition.code} (not published)"
    return list(difflib.unified_diff(before, after, name, str(file.path), lineterm=""))


def _problem_row(problem: Problem) -> dict[str, Any]:
    return {
        "path": problem.source,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "instead": problem.instead,
    }


def _file_row(path: Path, rule: RuleFile | None, problems: Iterable[Problem]) -> dict[str, Any]:
    return {
        "path": str(path),
        "ok": rule is not None,
        "code": rule.definition.code if rule else None,
        "sha256": rule.definition.sha256 if rule else None,
        "problems": [_problem_row(problem) for problem in problems],
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
    return {
        "code": rule.code,
        "title": rule.title,
        "enabled": rule.enabled,
        "number": rule.current.number if rule.current else None,
        "sha256": rule.current.sha256 if rule.current else None,
        "changed_at": rule.changed_at.isoformat(),
    }


def _rule_line(rule: Rule) -> str:
    state = "on " if rule.enabled else "off"
    version = f"v{rule.current.number} {rule.current.sha256[:12]}" if rule.current else "-"
    return f"{rule.code:<24} {state} {version:<18} {rule.title}"
