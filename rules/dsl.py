"""What a rule's YAML may say: the schema, the errors with their places, the canonical text.

`parse_rule` is the only way from text to a rule. Everything it refuses is told as
`path:line:col: message` with what to write instead, all problems of a file at once.
A new detector is one subclass of `RuleDefinition` and one row of `DETECTORS`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_core import PydanticCustomError

from markets.listing import EventTerms
from rules.kernel.finding import Finding, Limits, Verdict
from rules.strict_schema import validated
from rules.strict_yaml import MAX_BYTES, Document, Problem, Value, read_yaml

Level = Literal["P1", "P2", "P3"]
BasketKind = Literal["binary", "yes_basket", "no_basket"]


class RuleError(ValueError):
    """A rule's text was refused. `problems` has every reason, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.source, p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))


# --- the values a field may hold ---------------------------------------------------------

_Item = TypeVar("_Item", bound=str)


def _whole_as_decimal(value: object) -> object:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _printable(text: str) -> str:
    # Invisible and direction-changing characters make a text read as what it is not.
    for sign in text:
        if not sign.isprintable() and sign != "\n":
            raise PydanticCustomError("sign", f"has the unprintable character U+{ord(sign):04X}")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise PydanticCustomError("line", "must be one line")
    return text


def _distinct(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """Sort the items, because their order means nothing; refuse one given twice."""
    repeated = sorted(item for item, times in Counter(items).items() if times > 1)
    if repeated:
        raise PydanticCustomError("repeated", f"names {', '.join(repeated)} more than once")
    return tuple(sorted(items))


Number = Annotated[
    Decimal, BeforeValidator(_whole_as_decimal), Field(max_digits=15, decimal_places=6)
]
Weight = Annotated[Number, Field(ge=-1000, le=1000)]
Text = Annotated[str, AfterValidator(_printable)]
Line = Annotated[Text, AfterValidator(_one_line)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
EventId = Annotated[str, Field(pattern=r"^[0-9]+$", max_length=78)]
Slugs = Annotated[tuple[Slug, ...], Field(max_length=500), AfterValidator(_distinct)]
EventIds = Annotated[tuple[EventId, ...], Field(max_length=500), AfterValidator(_distinct)]


# --- the schema --------------------------------------------------------------------------


class _Part(BaseModel):
    """A part of a rule: frozen, no unknown keys, no guessing between types."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )


class Exclude(_Part):
    """Events to leave out. Single markets cannot be: a basket without one is not exhaustive."""

    tags: Slugs = Field(default=(), description="tag slugs", examples=["[sports, weather]"])
    events: EventIds = Field(default=(), description="event ids in quotes", examples=['["16092"]'])


class Scope(_Part):
    """Which events the rule looks at; an empty list means all."""

    tags: Slugs = Field(default=(), description="tag slugs", examples=["[politics, economy]"])
    events: EventIds = Field(default=(), description="event ids in quotes", examples=['["16092"]'])
    min_liquidity_usd: Number = Field(
        default=Decimal(0),
        ge=0,
        description="USD over all markets of the event",
        examples=["400"],
    )
    exclude: Exclude = Field(
        default=Exclude(), description="a mapping", examples=["tags: [sports]"]
    )

    def covers(self, event: EventTerms, *, tags: frozenset[str] = frozenset()) -> bool:
        """Say whether the rule looks at this event. `tags` are the event's tag slugs."""
        if event.event_id in self.exclude.events or tags.intersection(self.exclude.tags):
            return False
        if self.events and event.event_id not in self.events:
            return False
        if self.tags and not tags.intersection(self.tags):
            return False
        liquidity = sum((market.liquidity for market in event.markets), Decimal(0))
        return liquidity >= self.min_liquidity_usd


class Weights(_Part):
    """Points per unit of what a finding measures."""

    edge_bps: Weight = Field(
        default=Decimal(0), description="points per basis point of edge", examples=["0.1"]
    )
    profit_usd: Weight = Field(
        default=Decimal(0), description="points per USD of profit", examples=["0.1"]
    )
    cost_usd: Weight = Field(
        default=Decimal(0), description="points per USD of cost", examples=["0.1"]
    )


class Scoring(_Part):
    """Rank among findings of one level: base + weights x metrics, kept within 0 to 100."""

    base: Number = Field(default=Decimal(50), ge=0, le=100, description="0 to 100", examples=["50"])
    weights: Weights = Field(default=Weights(), description="a mapping", examples=["edge_bps: 0.1"])

    def score(self, finding: Finding) -> Decimal:
        """Return 0 to 100. Says nothing about the verdict; higher is looked at first."""
        points = (
            self.base
            + self.weights.edge_bps * finding.edge_bps
            + self.weights.profit_usd * finding.profit
            + self.weights.cost_usd * finding.cost
        )
        return max(Decimal(0), min(Decimal(100), points))


class Dedupe(_Part):
    """How long the same legs, seen again, are shown without another alert."""

    cooldown_secs: int = Field(
        default=60, ge=0, le=86_400, description="whole seconds, 0 to 86400", examples=["60"]
    )


class Outputs(_Part):
    """The level of a signal by the verdict of its finding; P1 is kept for what executes."""

    EXECUTABLE: Level = Field(default="P1", description="P1, P2 or P3", examples=["P1"])
    THIN: Literal["P2", "P3"] = Field(default="P2", description="P2 or P3", examples=["P2"])
    BLOCKED: Literal["P2", "P3"] = Field(default="P3", description="P2 or P3", examples=["P3"])

    def level(self, verdict: Verdict) -> Level:
        """Return the level for a verdict."""
        levels: dict[Verdict, Level] = {
            "EXECUTABLE": self.EXECUTABLE,
            "THIN": self.THIN,
            "BLOCKED": self.BLOCKED,
        }
        return levels[verdict]


class RuleDefinition(_Part):
    """What every rule has. The subclass of its detector adds `params`."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", min_length=3, max_length=64)] = Field(
        description="capitals, digits and _", examples=["DUTCH_BOOK_DETECT"]
    )
    title: Line = Field(
        min_length=1, max_length=120, description="one line", examples=["Dutch book"]
    )
    description: Text = Field(
        default="",
        max_length=2000,
        description="text",
        examples=["Buys every outcome for under 1 USD."],
    )
    detector: str = Field(description="what looks for the mispricing", examples=["dutch_book"])
    enabled: bool = Field(default=True, description="true or false", examples=["true"])
    scope: Scope = Field(default=Scope(), description="a mapping", examples=["tags: [politics]"])
    scoring: Scoring = Field(default=Scoring(), description="a mapping", examples=["base: 50"])
    dedupe: Dedupe = Field(
        default=Dedupe(), description="a mapping", examples=["cooldown_secs: 60"]
    )
    outputs: Outputs = Field(default=Outputs(), description="a mapping", examples=["THIN: P2"])

    def canonical(self) -> str:
        """Return the rule as YAML with every default written out.

        Two texts that mean the same have the same canonical text, whatever their comments,
        order and spacing; parsing it gives an equal rule.
        """
        return "".join(f"{line}\n" for line in _lines(self))

    @property
    def sha256(self) -> str:
        """The fingerprint of what the rule means."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


class DutchBookParams(_Part):
    """Baskets whose worst payoff is above their cost (fees inside the cost)."""

    ALL: ClassVar[tuple[BasketKind, ...]] = ("binary", "no_basket", "yes_basket")

    kinds: Annotated[tuple[BasketKind, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        Field(default=ALL, description="at least one", examples=["[binary, yes_basket, no_basket]"])
    )
    capital_usd: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="USD that bound one basket's cost, null for no bound",
        examples=["200"],
    )
    min_profit_usd: Number = Field(
        default=Decimal("0.50"), ge=0, description="USD, 0 or more", examples=["0.50"]
    )
    min_edge_bps: Number = Field(
        default=Decimal(20),
        ge=0,
        description="basis points of cost, 0 or more",
        examples=["20"],
    )

    def limits(self) -> Limits:
        """Return what the kernel decides THIN and the size by."""
        return Limits(
            capital=self.capital_usd,
            min_profit=self.min_profit_usd,
            min_edge_bps=self.min_edge_bps,
        )


class DutchBookRule(RuleDefinition):
    """Binary pairs and baskets over the outcomes of one event."""

    detector: Literal["dutch_book"]
    params: DutchBookParams = Field(
        default=DutchBookParams(), description="a mapping", examples=["min_profit_usd: 0.50"]
    )


DETECTORS: Final[dict[str, type[RuleDefinition]]] = {"dutch_book": DutchBookRule}


# --- the canonical text ------------------------------------------------------------------


def _lines(part: BaseModel, indent: str = "") -> Iterator[str]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_written(value)}"


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Decimal):
        return f"{value.normalize() + 0:f}"  # 0.50 and 0.5 are one amount; + 0 turns -0 into 0
    return json.dumps(value, ensure_ascii=False)


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
    schema = DETECTORS.get(detector, RuleDefinition)
    rule, problems = validated(document, schema)
    if schema is RuleDefinition:  # no detector, so nobody can say what its params may be
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
    instead = f"write {' or '.join(DETECTORS)}"
    return document.problem(key, document.values[key], message, instead)


def _code_taken(rule: RuleFile, first: RuleFile) -> Problem:
    message = f"{rule.definition.code} is already defined in {first.path.name}"
    return Problem(str(rule.path), 1, 1, "code", message, "give each rule its own code")


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror}", "check its rights")
