"""What every rule's YAML may say, whatever it looks for: scope, scoring, cooldown, levels.

Each field's `description` says what may stand there and its first example is what to
write instead: they are the error messages (`rules.strict_schema`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_core import PydanticCustomError

from markets.listing import EventTerms
from rules.kernel.finding import Finding, Verdict

Level = Literal["P1", "P2", "P3"]

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


def distinct(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
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
Slugs = Annotated[tuple[Slug, ...], Field(max_length=500), AfterValidator(distinct)]
EventIds = Annotated[tuple[EventId, ...], Field(max_length=500), AfterValidator(distinct)]


# --- the schema --------------------------------------------------------------------------


class Part(BaseModel):
    """A part of a rule: frozen, no unknown keys, no guessing between types."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )


class Exclude(Part):
    """Events to leave out. Single markets cannot be: a basket without one is not exhaustive."""

    tags: Slugs = Field(default=(), description="tag slugs", examples=["[sports, weather]"])
    events: EventIds = Field(default=(), description="event ids in quotes", examples=['["16092"]'])


class Scope(Part):
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


class Weights(Part):
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


class Scoring(Part):
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


class ObservedWeights(Part):
    """Points per unit of what is observed."""

    strength: Weight = Field(
        default=Decimal(0), description="points per unit of strength", examples=["10"]
    )


class ObservedScoring(Part):
    """Rank among findings of one level: base + weight x strength, kept within 0 to 100."""

    base: Number = Field(default=Decimal(50), ge=0, le=100, description="0 to 100", examples=["50"])
    weights: ObservedWeights = Field(
        default=ObservedWeights(), description="a mapping", examples=["strength: 10"]
    )

    def score(self, finding: Finding) -> Decimal:
        """Return 0 to 100; what is certain to be gained does not count, because nothing is."""
        points = self.base + self.weights.strength * finding.strength
        return max(Decimal(0), min(Decimal(100), points))


class Dedupe(Part):
    """How long the same legs, seen again, are shown without another alert, and what flickers."""

    cooldown_secs: int = Field(
        default=60, ge=0, le=86_400, description="whole seconds, 0 to 86400", examples=["60"]
    )
    persist_ms: int = Field(
        default=250,
        ge=0,
        le=60_000,
        description="whole milliseconds that a finding stands before it is P1, 0 to 60000",
        examples=["250"],
    )


class Outputs(Part):
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
            "OBSERVED": "P3",
        }
        return levels[verdict]

    def level_of(self, finding: Finding) -> Level:
        """Return the level of a finding."""
        return self.level(finding.verdict)


class ObservedOutputs(Part):
    """The level of what is observed, and of what is too little to act on; never P1."""

    OBSERVED: Literal["P2", "P3"] = Field(default="P2", description="P2 or P3", examples=["P2"])
    BLOCKED: Literal["P2", "P3"] = Field(default="P3", description="P2 or P3", examples=["P3"])

    def level(self, verdict: Verdict) -> Level:
        """Return the level for a verdict."""
        return self.OBSERVED if verdict == "OBSERVED" else self.BLOCKED

    def level_of(self, finding: Finding) -> Level:
        """Return the level of a finding: that of BLOCKED where anything speaks against it."""
        return self.BLOCKED if finding.blocked_by else self.level(finding.verdict)


class RuleDefinition(Part):
    """What every rule has. The subclass of its detector adds `params`.

    Rules are of two sorts: an `ArbitrageRule` finds what pays for certain, an
    `ObservedRule` what is only likely.
    """

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
    scoring: Scoring | ObservedScoring = Field(
        default=Scoring(), description="a mapping", examples=["base: 50"]
    )
    dedupe: Dedupe = Field(
        default=Dedupe(), description="a mapping", examples=["cooldown_secs: 60"]
    )
    outputs: Outputs | ObservedOutputs = Field(
        default=Outputs(), description="a mapping", examples=["THIN: P2"]
    )

    def canonical(self) -> str:
        """Return the rule as YAML with the defaults written out.

        Two texts that mean the same have the same canonical text, whatever their comments,
        order and spacing; parsing it gives an equal rule.
        """
        return "".join(f"{line}\n" for line in _lines(self))

    @property
    def sha256(self) -> str:
        """The fingerprint of what the rule means."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


class ArbitrageRule(RuleDefinition):
    """A rule whose findings pay for certain."""

    scoring: Scoring = Field(default=Scoring(), description="a mapping", examples=["base: 50"])
    outputs: Outputs = Field(default=Outputs(), description="a mapping", examples=["THIN: P2"])


class ObservedRule(RuleDefinition):
    """A rule whose findings are directions or bets: OBSERVED, and never P1."""

    scoring: ObservedScoring = Field(
        default=ObservedScoring(), description="a mapping", examples=["base: 50"]
    )
    outputs: ObservedOutputs = Field(
        default=ObservedOutputs(), description="a mapping", examples=["OBSERVED: P2"]
    )


# --- the canonical text ------------------------------------------------------------------


# Fields that came after rules were published: left out at their default, so that what a
# rule meant before has the fingerprint it had.
_LATER = frozenset({"persist_ms"})


def _lines(part: BaseModel, indent: str = "") -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if name in _LATER and value == field.default:
            continue
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
