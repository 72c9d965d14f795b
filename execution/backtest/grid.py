"""Which rules with which parameters a run tries: `--set path=a,b` makes one set of each value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from execution.backtest.passing import Variant
from rules.dsl import RuleDefinition, RuleError, parse_rule
from rules.engine import ActiveRule

MOST_VARIANTS = 64


class BadGrid(ValueError):
    """A choice of rules or values that cannot be run; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A field of a rule's text and the values to try; `code` empty: of every rule that has it."""

    code: str
    path: tuple[str, ...]
    values: tuple[object, ...]

    @property
    def name(self) -> str:
        return ".".join(self.path)


def read_axis(text: str) -> Axis:
    """Read `[RULE:]section.field=a,b`; raise `BadGrid`."""
    place, sign, values = text.partition("=")
    code, _, path = place.rpartition(":")
    steps = tuple(path.split("."))
    if not sign or not all(steps) or not values.strip():
        raise BadGrid(f"{text}: write it as section.field=value,value")
    return Axis(code, steps, tuple(_value(each) for each in values.split(",")))


def _value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise BadGrid(f"{text}: is no YAML value") from None


def variants_of(
    definitions: Sequence[RuleDefinition], axes: Iterable[Axis] = ()
) -> tuple[Variant, ...]:
    """Return every rule with every combination of values.

    A rule that no axis speaks of runs as it is. Raises `BadGrid`.
    """
    given = tuple(axes)
    used: set[Axis] = set()
    found: list[Variant] = []
    for definition in definitions:
        found += _variants(definition, given, used)
    idle = [axis.name for axis in given if axis not in used]
    if idle:
        raise BadGrid(f"no chosen rule has {', '.join(idle)}")
    if len(found) > MOST_VARIANTS:
        raise BadGrid(f"{len(found)} sets are more than {MOST_VARIANTS} in one run")
    return tuple(found)


def _variants(
    definition: RuleDefinition, axes: Sequence[Axis], used: set[Axis]
) -> Iterable[Variant]:
    base = yaml.safe_load(definition.canonical())
    own = [axis for axis in axes if axis.code in ("", definition.code) and _has(base, axis.path)]
    used.update(own)
    if not own:
        return [_variant(definition, definition.code, "", 0)]
    made = []
    for number, values in enumerate(product(*(axis.values for axis in own))):
        text = _with(base, dict(zip([axis.path for axis in own], values, strict=True)))
        label = " ".join(
            f"{axis.name}={_shown(value)}" for axis, value in zip(own, values, strict=True)
        )
        try:
            changed = parse_rule(text, source=f"{definition.code} with {label}")
        except RuleError as error:
            raise BadGrid(str(error)) from None
        made.append(_variant(changed, definition.code, label, number))
    return made


def _variant(definition: RuleDefinition, code: str, label: str, number: int) -> Variant:
    """The first keeps the rule's own code, so that its signals have the ids they have live."""
    rule = ActiveRule.of(definition)
    if number:
        rule = ActiveRule(
            definition, f"{code}@{number}", definition.sha256, rule.kinds, rule.limits
        )
    return Variant(rule, code, label)


def _has(base: Mapping[str, Any], path: Sequence[str]) -> bool:
    place: Any = base
    for step in path[:-1]:
        place = place.get(step) if isinstance(place, dict) else None
    # A field left out at its default is no part of the canonical text, but of its section.
    return isinstance(place, dict) and (path[-1] in place or tuple(path) in _LATER)


_LATER = frozenset({("dedupe", "persist_ms")})


def _with(base: Mapping[str, Any], changes: Mapping[tuple[str, ...], object]) -> str:
    text = yaml.safe_load(yaml.safe_dump(base))
    for path, value in changes.items():
        place = text
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    return yaml.safe_dump(text, sort_keys=False, allow_unicode=True)


def _shown(value: object) -> str:
    return "null" if value is None else str(value)
