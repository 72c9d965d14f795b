"""From YAML to rules: the errors with their places (the schema is in `rules.rule_schema`).

`parse_rule` is the only way from text to a rule. Everything it refuses is told as
`path:line:col: message` with what to write instead, all problems of a file at once.
What a rule may say of its detector is in `rules.rule_kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rules.rule_kinds import DETECTORS, DutchBookParams, DutchBookRule
from rules.rule_schema import (
    ArbitrageRule,
    Dedupe,
    Exclude,
    ObservedRule,
    Outputs,
    RuleDefinition,
    Scope,
    Scoring,
    Weights,
)
from rules.strict_schema import validated
from rules.strict_yaml import MAX_BYTES, Document, Problem, Value, read_yaml

__all__ = [
    "DETECTORS",
    "ArbitrageRule",
    "Dedupe",
    "DutchBookParams",
    "DutchBookRule",
    "Exclude",
    "ObservedRule",
    "Outputs",
    "RuleDefinition",
    "RuleError",
    "RuleFile",
    "Scope",
    "Scoring",
    "Weights",
    "load_dir",
    "parse_rule",
    "read_dir",
    "read_rule",
]


class RuleError(ValueError):
    """A rule's text was refused. `problems` has every reason, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.source, p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))


# --- from text to rule -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A rule and the file it came from."""

    path: Path
    text: str
    definition: RuleDefinition


def parse_rule(text: str, *, source: str) -> RuleDefinition:
    """Return the rule a text defines; raise `RuleError` with everything wrong with it.

    `source` is the name of the text in the problems, usually its path.
    """
    document = read_yaml(text, source=source)
    if not document.complete:
        raise RuleError(document.problems)
    detector = _detector_of(document.value)
    schema = DETECTORS.get(detector, ArbitrageRule)
    rule, problems = validated(document, schema)
    if schema is ArbitrageRule:  # no detector, so nobody can say what its params may be
        problems = [p for p in problems if not p.key.startswith("params")]
        problems += [_unknown_detector(document, detector)] if detector else []
    if problems or rule is None:
        raise RuleError(problems)
    return rule


def read_rule(path: Path) -> RuleFile:
    """Return a file's rule; raise `RuleError`, or OSError if the file cannot be read."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    # A byte that is not UTF-8 survives as a lone surrogate, which is refused with its place.
    text = raw.decode("utf-8", "surrogateescape")
    return RuleFile(path, text, parse_rule(text, source=str(path)))


def read_dir(path: Path) -> tuple[list[RuleFile], list[Problem]]:
    """Return the good rules of a folder's .yaml files and what is wrong with the others.

    Raises OSError if the folder cannot be read. Of two files with one code, the second
    in the order of names is the wrong one.
    """
    files: dict[str, RuleFile] = {}
    problems: list[Problem] = []
    for file in sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")):
        try:
            rule = read_rule(file)
            first = files.setdefault(rule.definition.code, rule)
            if first is not rule:
                problems.append(_code_taken(rule, first))
        except RuleError as error:
            problems.extend(error.problems)
        except OSError as error:
            problems.append(_unreadable(file, error))
    return list(files.values()), problems


def load_dir(path: Path) -> list[RuleDefinition]:
    """Return all rules of a folder; raise `RuleError` with every problem of every file."""
    files, problems = read_dir(path)
    if problems:
        raise RuleError(problems)
    return [file.definition for file in files]


def _detector_of(value: Value) -> str:
    detector = value.get("detector") if isinstance(value, dict) else None
    return detector if isinstance(detector, str) else ""


def _unknown_detector(document: Document, detector: str) -> Problem:
    key = ("detector",)
    message = f'"{detector}" is not a detector'
    *others, last = DETECTORS
    instead = f"write {', '.join(others)} or {last}"
    return document.problem(key, document.values[key], message, instead)


def _code_taken(rule: RuleFile, first: RuleFile) -> Problem:
    message = f"{rule.definition.code} is already defined in {first.path.name}"
    return Problem(str(rule.path), 1, 1, "code", message, "give each rule its own code")


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror}", "check its rights")
