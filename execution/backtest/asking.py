"""What a run was asked for, as it is stored: enough to run it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from execution.backtest.grid import Axis, BadGrid, read_axis, variants_of
from execution.backtest.groups import GROUPS
from execution.backtest.passing import Variant
from execution.backtest.terms import FillTerms, read_terms
from markets.frames import moment
from rules.dsl import RuleDefinition, RuleError, parse_rule

DESK = "desk"  # what the desk itself has kept; other sources are a path, or `recording:NAME`
RECORDING = "recording:"
ALL = "all"


@dataclass(frozen=True, slots=True)
class Asked:
    """Rules by their canonical texts, sets, terms, data and window (unix ns, None: all)."""

    rules: tuple[str, ...]
    sets: tuple[str, ...] = ()
    terms: FillTerms = field(default_factory=FillTerms)
    source: str = DESK
    since: int | None = None
    until: int | None = None
    groups: int = GROUPS

    @property
    def definitions(self) -> tuple[RuleDefinition, ...]:
        """Read the rules; raise `BadGrid` for one that this release cannot read."""
        try:
            return tuple(parse_rule(text, source="backtest") for text in self.rules)
        except RuleError as error:
            raise BadGrid(str(error)) from None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(map(read_axis, self.sets))

    def variants(self) -> tuple[Variant, ...]:
        """Return what runs side by side; raise `BadGrid`."""
        return variants_of(self.definitions, self.axes)

    @property
    def title(self) -> str:
        """Say in words what runs over what."""
        codes = [definition.code for definition in self.definitions]
        what = codes[0] if len(codes) == 1 else f"{len(codes)} rules"
        sets = f" ({', '.join(self.sets)})" if self.sets else ""
        return f"{what}{sets} over {self.where}"[:200]

    @property
    def where(self) -> str:
        name = "kept data" if self.source == DESK else self.source.removeprefix(RECORDING)
        name = name.rpartition("/")[2]
        if self.since is None or self.until is None:
            return name
        return f"{name} {_minute(self.since)} to {_minute(self.until)}"

    def row(self) -> dict[str, Any]:
        return {
            "rules": list(self.rules),
            "sets": list(self.sets),
            "terms": self.terms.row(),
            "source": self.source,
            "since": self.since,
            "until": self.until,
            "groups": self.groups,
        }


def read_asked(row: Mapping[str, Any]) -> Asked:
    """Return stored wishes as they were."""
    return Asked(
        rules=tuple(row["rules"]),
        sets=tuple(row["sets"]),
        terms=read_terms(row["terms"]),
        source=row["source"],
        since=row["since"],
        until=row["until"],
        groups=row["groups"],
    )


def chosen(definitions: Sequence[RuleDefinition], codes: Iterable[str]) -> list[RuleDefinition]:
    """Return the rules that were named, or all of them for `all`; raise `BadGrid`."""
    wanted = list(dict.fromkeys(codes))
    if ALL in wanted:
        return list(definitions)
    by_code = {definition.code: definition for definition in definitions}
    unknown = [code for code in wanted if code not in by_code]
    if unknown:
        known = ", ".join(sorted(by_code))
        raise BadGrid(f"there is no rule {', '.join(unknown)}; there are {known}")
    return [by_code[code] for code in wanted]


def _minute(at: int) -> str:
    when: datetime = moment(at)
    return f"{when:%Y-%m-%d %H:%M}"
