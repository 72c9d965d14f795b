"""The dictionary of synonyms as a file: spellings of names, and groups of markets (pure).

Stricter than YAML: no aliases, anchors or tags, no repeated or unknown keys, and
everything but the two numbers is text as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from markets.questions import NO_ALIASES, Aliases, word_list

SHIPPED: Final = Path(__file__).with_name("synonyms.yml")
MAX_BYTES: Final = 256 * 1024
MOST_NAME: Final = 200

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS: Final = ("threshold", "min_size", "words", "groups")
_GROUP_KEYS: Final = ("name", "method", "keywords", "explicit")
_DECIMAL = re.compile(r"[01](?:\.\d{1,6})?")
_WHOLE = re.compile(r"\d{1,4}")
_ID = re.compile(r"[0-9A-Za-z_-]{1,80}")


class BadDictionary(Exception):
    """A file that cannot be used; `problems` say where, what, and what to write instead."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as written. A keyword is a run of words that must stand in the text whole."""

    name: str
    keywords: tuple[tuple[str, ...], ...] = ()
    explicit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dictionary:
    """`threshold` is the least score of a match, from 0 to 1; `min_size` that of a group."""

    threshold: float
    min_size: int
    groups: tuple[GroupSpec, ...] = ()
    aliases: Aliases = NO_ALIASES


def read_file(path: Path) -> Dictionary:
    """Read a dictionary; raise `BadDictionary` or `OSError`."""
    return read_dictionary(path.read_bytes(), source=str(path))


@cache
def shipped() -> Dictionary:
    """Return the desk's own dictionary."""
    return read_file(SHIPPED)


def read_dictionary(text: bytes, *, source: str) -> Dictionary:
    """Read a dictionary; raise `BadDictionary` with everything that is wrong."""
    reading = _Reading(source)
    try:
        node = reading.document(text)
        found = reading.dictionary(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        reading.syntax(error)
        found = None
    except (yaml.YAMLError, UnicodeDecodeError):
        reading.problems.append(f"{source}:1:1: not UTF-8 text; save the file as UTF-8")
        found = None
    if reading.problems or found is None:
        raise BadDictionary(reading.problems or [f"{source}:1:1: the file is empty"])
    return found


class _Reading:
    """One pass over a file that notes every problem and goes on where it can."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []

    def bad(self, node: yaml.Node | yaml.Event, message: str) -> None:
        mark = node.start_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        self.problems.append(f"{self.source}:{place}: {message}")

    def syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        message = error.problem or "not YAML"
        self.problems.append(f"{self.source}:{place}: {message}; write `key: value` lines")

    def document(self, text: bytes) -> yaml.Node | None:
        if len(text) > MAX_BYTES:
            self.problems.append(f"{self.source}:1:1: longer than {MAX_BYTES:,} bytes; split it")
            return None
        decoded = text.decode()
        if self._has_traps(decoded):
            return None
        node: yaml.Node | None = yaml.compose(decoded, Loader=_LOADER)
        return node

    def _has_traps(self, text: str) -> bool:
        """Look for what could make a small file mean a large or another one."""
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                self.bad(event, "aliases are not allowed; write the value out again")
            elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
                self.bad(event, "anchors are not allowed; remove it")
            elif getattr(event, "tag", None) is not None:
                self.bad(event, "tags are not allowed; remove it")
        return bool(self.problems)

    def dictionary(self, node: yaml.Node) -> Dictionary:
        parts = self.mapping(node, _KEYS)
        threshold = self._number(parts.get("threshold"), "threshold", _DECIMAL, "0.78")
        min_size = self._number(parts.get("min_size"), "min_size", _WHOLE, "2")
        if not 0 < threshold <= 1:
            self.bad(parts["threshold"], "threshold must be above 0 and at most 1")
        if min_size < 2:
            self.bad(parts["min_size"], "min_size must be at least 2: a group relates markets")
        return Dictionary(
            threshold=float(threshold),
            min_size=int(min_size),
            groups=tuple(self._groups(parts.get("groups"))),
            aliases=self._aliases(parts.get("words")),
        )

    def mapping(self, node: yaml.Node, keys: tuple[str, ...]) -> dict[str, yaml.Node]:
        """Return the values by key; unknown and repeated keys are problems."""
        if not isinstance(node, yaml.MappingNode):
            self.bad(node, f"write keys here: {', '.join(keys)}")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in keys:
                self.bad(key, f"unknown key {name!r}; known are {', '.join(keys)}")
            elif name in found:
                self.bad(key, f"{name} is set twice; keep one of the two")
            else:
                found[name] = value
        return found

    def _number(
        self, node: yaml.Node | None, name: str, pattern: re.Pattern[str], default: str
    ) -> Decimal:
        if node is None:
            return Decimal(default)
        if isinstance(node, yaml.ScalarNode) and pattern.fullmatch(node.value):
            return Decimal(node.value)
        self.bad(node, f"{name} is not a number as it is written here; write {default}")
        return Decimal(default)

    def texts(self, node: yaml.Node | None, what: str) -> Iterator[tuple[yaml.Node, str]]:
        """Yield the texts of a list with their places."""
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            self.bad(node, f"{what} must be a list; write [one, two]")
            return
        for item in node.value:
            if isinstance(item, yaml.ScalarNode) and item.value.strip():
                yield item, item.value.strip()
            else:
                self.bad(item, f"{what} must be texts; write one word or name")

    def _groups(self, node: yaml.Node | None) -> Iterator[GroupSpec]:
        if node is None:
            return
        if not isinstance(node, yaml.SequenceNode):
            self.bad(node, "groups must be a list; write `- name: ...`")
            return
        names: set[str] = set()
        for item in node.value:
            group = self._group(item)
            if group is not None and group.name in names:
                self.bad(item, f"a group named {group.name!r} stands above; rename one of the two")
            elif group is not None:
                names.add(group.name)
                yield group

    def _group(self, node: yaml.Node) -> GroupSpec | None:
        parts = self.mapping(node, _GROUP_KEYS)
        name = parts.get("name")
        written = name.value.strip() if isinstance(name, yaml.ScalarNode) else ""
        if not 0 < len(written) <= MOST_NAME:
            self.bad(name or node, f"a group needs a name of at most {MOST_NAME} characters")
            return None
        keywords = tuple(self._keywords(parts.get("keywords")))
        explicit = tuple(dict.fromkeys(self._ids(parts.get("explicit"))))
        self._check_method(node, parts, bool(keywords), bool(explicit))
        return GroupSpec(written, keywords, explicit)

    def _check_method(
        self, node: yaml.Node, parts: Mapping[str, yaml.Node], keywords: bool, explicit: bool
    ) -> None:
        method = parts.get("method")
        said = method.value if isinstance(method, yaml.ScalarNode) else ""
        if method is not None and said not in ("keyword", "explicit"):
            self.bad(method, "method is keyword or explicit")
        elif not keywords and not explicit:
            self.bad(node, "a group needs keywords, or explicit market ids")
        elif said == "keyword" and not keywords:
            self.bad(node, "method keyword needs keywords; write keywords: [one, two words]")
        elif said == "explicit" and not explicit:
            self.bad(node, "method explicit needs ids; write explicit: [123, 456]")

    def _keywords(self, node: yaml.Node | None) -> Iterator[tuple[str, ...]]:
        for item, text in self.texts(node, "keywords"):
            words = word_list(text)
            if words:
                yield words
            else:
                self.bad(item, f"{text!r} has no word in it")

    def _ids(self, node: yaml.Node | None) -> Iterator[str]:
        for item, text in self.texts(node, "explicit"):
            if _ID.fullmatch(text):
                yield text
            else:
                self.bad(item, f"{text!r} is not the id of a market")

    def _aliases(self, node: yaml.Node | None) -> Aliases:
        if node is None:
            return NO_ALIASES
        if not isinstance(node, yaml.SequenceNode):
            self.bad(node, "words must be a list of lists; write `- [bitcoin, btc]`")
            return NO_ALIASES
        aliases: dict[tuple[str, ...], str] = {}
        for item in node.value:
            spellings = [(place, word_list(text)) for place, text in self.texts(item, "words")]
            if len(spellings) < 2 or not all(words for _, words in spellings):
                self.bad(item, "a name needs at least two spellings; write [bitcoin, btc]")
                continue
            name = " ".join(spellings[0][1])
            for place, words in spellings:
                if aliases.setdefault(words, name) != name:
                    self.bad(place, f"{' '.join(words)!r} is a spelling of another name already")
        return Aliases(aliases)
