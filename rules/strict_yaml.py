"""Read YAML as plain data that remembers its places (pure).

Stricter than YAML: no aliases, anchors, tags or second documents, no repeated keys, and
only the plain spellings of numbers and booleans, because YAML 1.1 reads `1e-3` as text,
`12:30:45` as 45045 and `no` as false. Numbers with a point become Decimal, never float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

import yaml
from yaml.reader import Reader

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 20
MAX_NUMBER_CHARS: Final = 40  # also keeps int() away from Python's limit on digits

Path = tuple[str | int, ...]
Value = str | int | Decimal | bool | None | tuple["Value", ...] | dict[str, "Value"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}
_NUMBER_SIGNS = frozenset("0123456789_.:+-eE")
_TAGGED = (yaml.ScalarEvent, yaml.CollectionStartEvent)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text. Both numbers count characters from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a text, where, and what to write instead."""

    source: str
    line: int
    column: int
    key: str  # dotted, "params.kinds[0]"; empty for the whole text
    message: str
    instead: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.text}"

    @property
    def text(self) -> str:
        """Say the problem without its place."""
        subject = f"{self.key}: " if self.key else ""
        return f"{subject}{self.message}; {self.instead}"

    def row(self) -> dict[str, str | int]:
        """Return it as programs read it."""
        return {
            "path": self.source,
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "instead": self.instead,
        }


@dataclass(slots=True)
class Document:
    """What a text says. `value` is None when the text could not be read to its end.

    `bad` holds the paths whose value was refused and replaced by None.
    """

    source: str
    value: Value = None
    complete: bool = False
    problems: list[Problem] = field(default_factory=list)
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    bad: set[Path] = field(default_factory=set)

    def problem(self, path: Path, mark: Mark, message: str, instead: str) -> Problem:
        """Describe a problem at a place of this text."""
        return Problem(self.source, mark.line, mark.column, dotted(path), message, instead)


class _Unreadable(Exception):
    """Stop reading: what follows cannot be trusted to mean what it looks like."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Refused(Exception):
    """A scalar whose spelling is not accepted; reading goes on."""

    def __init__(self, message: str, instead: str) -> None:
        super().__init__(message)
        self.message = message
        self.instead = instead


def read_yaml(text: str, *, source: str) -> Document:
    """Read a text into a document. Never raises for what the text says.

    `source` names the text in problems. The document is `complete` only if its whole
    structure was read; problems of single values do not stop the reading.
    """
    document = Document(source)
    try:
        _check_characters(document, text)
        document.value = _Reading(document, yaml.parse(text, Loader=_LOADER)).whole()
        document.complete = True
    except _Unreadable as stop:
        document.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(document, error))
    return document


def dotted(path: Path) -> str:
    """Write a path as people do: ("params", "kinds", 0) is params.kinds[0]."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _check_characters(document: Document, text: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        message = f"the text is longer than {MAX_BYTES:,} bytes"
        instead = "keep one rule per file and its description short"
        raise _Unreadable(document.problem((), Mark(1, 1), message, instead))
    if found := Reader.NON_PRINTABLE.search(text):
        before = text[: found.start()]
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise _Unreadable(document.problem((), mark, *_unprintable(ord(found.group()))))


def _unprintable(sign: int) -> tuple[str, str]:
    if 0xDC80 <= sign <= 0xDCFF:  # how Python keeps a byte it could not decode
        return f"the byte 0x{sign - 0xDC00:02X} is not UTF-8", "save the file as UTF-8"
    return f"control character U+{sign:04X}", "remove it"


def _syntax_problem(document: Document, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
    message = " ".join(filter(None, (error.context, error.problem))) or "not YAML"
    instead = "write `key: value` lines indented by two spaces, text with signs in quotes"
    return document.problem((), place, message, instead)


class _Reading:
    """One pass over the events of a text; stops at the first that could hide a trap."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self.document = document
        self.events = events

    def whole(self) -> Value:
        next(self.events)  # the stream starts
        first = next(self.events)
        if isinstance(first, yaml.StreamEndEvent):
            return None
        value = self._value(next(self.events), (), 0)
        next(self.events)  # the document ends
        self._end()
        return value

    def _end(self) -> None:
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._stop(event, (), "a second document starts here", "keep one per file")

    def _value(self, event: yaml.Event, path: Path, depth: int) -> Value:
        self._guard(event, path, depth)
        self.document.values[path] = _mark(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth + 1)
        return self._sequence(path, depth + 1)

    def _guard(self, event: yaml.Event, path: Path, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            message, instead = f"alias *{event.anchor}", "write the value out again"
        elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            message, instead = f"anchor &{event.anchor}", "remove the anchor"
        elif isinstance(event, _TAGGED) and event.tag is not None:
            message, instead = f"tag {event.tag}", "remove the tag"
        elif isinstance(event, yaml.CollectionStartEvent) and depth >= MAX_DEPTH:
            message, instead = f"nested deeper than {MAX_DEPTH}", "flatten it"
        else:
            return
        raise self._stop(event, path, f"{message} is not allowed", instead)

    def _stop(self, event: yaml.Event, path: Path, message: str, instead: str) -> _Unreadable:
        return _Unreadable(self.document.problem(path[:4], _mark(event), message, instead))

    def _mapping(self, path: Path, depth: int) -> Value:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, path, depth)
            place = (*path, key)
            if key in found:
                self._repeated(event, place)
            else:
                self.document.keys[place] = _mark(event)
            found[key] = self._value(next(self.events), place, depth)
        return found

    def _key(self, event: yaml.Event, path: Path, depth: int) -> str:
        self._guard(event, path, depth)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._stop(event, path, "a key that is not one word", "write `key: value`")
        return str(event.value)

    def _repeated(self, event: yaml.Event, place: Path) -> None:
        first = self.document.keys[place]
        message = f"already set on line {first.line}"
        problem = self.document.problem(place, _mark(event), message, "keep one of the two")
        self.document.problems.append(problem)

    def _sequence(self, path: Path, depth: int) -> Value:
        items: list[Value] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth))
        return tuple(items)

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Value:
        if not event.implicit[0]:  # quoted or a block: text, whatever it looks like
            return str(event.value)
        try:
            return _plain_scalar(event.value)
        except _Refused as refused:
            self.document.bad.add(path)
            problem = self.document.problem(path, _mark(event), refused.message, refused.instead)
            self.document.problems.append(problem)
            return None


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start else Mark(1, 1)


def _plain_scalar(text: str) -> Value:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_NUMBER_CHARS:
        return _long_scalar(text)
    tag = _yaml_1_1_type(text)
    if tag is None:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return Decimal(text)
    raise _odd_spelling(tag, text)


def _long_scalar(text: str) -> str:
    # Kept away from PyYAML's number patterns: 5,000 nines take them 0.15 s, growing squared.
    if set(text) <= _NUMBER_SIGNS:
        instead = f"use at most {MAX_NUMBER_CHARS} characters"
        raise _Refused("a number this long is not accepted", instead)
    return text


def _yaml_1_1_type(text: str) -> str | None:
    """Name what other YAML readers would make of a plain scalar; None for text."""
    if _EXPONENT.fullmatch(text):
        return "float"
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[0], ()):
        if pattern.match(text):
            return str(tag).removeprefix(_TAG)
    return None


def _odd_spelling(tag: str, text: str) -> _Refused:
    quoted = f'"{text}" in quotes if it is text'
    if _NOT_FINITE.fullmatch(text):
        return _Refused(f"{text} is not a finite number", "write a number such as 0.50")
    if tag in ("int", "float"):
        return _Refused(
            f"{text} is not how numbers are written here",
            f"write {_in_full(text)}, or {quoted}",
        )
    if tag == "bool":
        word = "true" if text.lower() in ("true", "yes", "on") else "false"
        return _Refused(f"{text} could mean yes, no or text", f"write {word}, or {quoted}")
    if tag == "null":
        return _Refused(f"{text} could mean nothing or text", f"write null, or {quoted}")
    return _Refused(f"{text} has a special meaning in YAML", f"write {quoted}")


def _in_full(text: str) -> str:
    """Write a number in digits: 1e-3 is 0.001, 12:30 is 750."""
    try:
        number = _number(text.replace("_", ""))
    except (InvalidOperation, ValueError):
        return "it in digits"
    if abs(number.adjusted()) > 20:
        return "a smaller number in digits"
    return f"{number:f}"


def _number(text: str) -> Decimal:
    if text.lstrip("+-")[:2].lower() in ("0x", "0b"):
        return Decimal(int(text, 0))
    if ":" in text:
        sign = -1 if text.startswith("-") else 1
        total = Decimal(0)
        for part in text.lstrip("+-").split(":"):
            total = total * 60 + Decimal(part)
        return sign * total
    return Decimal(text)
