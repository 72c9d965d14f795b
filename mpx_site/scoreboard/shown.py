"""The scoreboard as its page shows it: every number as text, never rounded up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpx_site.scoreboard.families import CODES, FAMILIES, Family
from mpx_site.scoreboard.result import GOALS, Goal, Result, RuleResult

NONE = "\N{EN DASH}"
COMMAND = "python manage.py scoreboard --seed 11"


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule against its goal."""

    code: str
    planted: int
    told: int
    recall: str
    precision: str
    captured: str
    size_error: str
    to_detect: str
    to_p1: str
    goal: str
    met: bool


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One family of decoys; `cases` 0: this exam was too short to have any."""

    family: Family
    cases: int
    wrong: int


@dataclass(frozen=True, slots=True)
class EarlierRow:
    """An exam of another seed in one line."""

    result: Result
    recall: str
    precision: str
    captured: str
    wrong: int


@dataclass(frozen=True, slots=True)
class Board:
    """The newest result in full, the others in a line each."""

    result: Result
    rules: tuple[RuleRow, ...]
    families: tuple[FamilyRow, ...]
    earlier: tuple[EarlierRow, ...]
    spike: str

    @property
    def met(self) -> int:
        """Rules that reached their goal."""
        return sum(row.met for row in self.rules)

    @property
    def wrong(self) -> int:
        """Decoys taken for real."""
        return sum(row.wrong for row in self.families)

    @property
    def decoy_cases(self) -> int:
        """All decoys of the exam."""
        return sum(row.cases for row in self.families)


def board(results: Sequence[Result]) -> Board | None:
    """Return what the page shows; None where no exam was sat yet."""
    if not results:
        return None
    newest, *others = results
    return Board(
        result=newest,
        rules=tuple(_rule_rows(newest)),
        families=tuple(
            FamilyRow(family, newest.decoy_cases.get(family.code, 0),
                      newest.decoys.get(family.code, 0))
            for family in FAMILIES
        ),
        earlier=tuple(map(_earlier, others)),
        spike=_spike(newest),
    )  # fmt: skip


def share(number: float | None, digits: int = 4) -> str:
    """Write a share; what is less than all never reads as all."""
    if number is None:
        return NONE
    scale = 10**digits
    return f"{int(number * scale + 1e-9) / scale:.{digits}f}"


def _rule_rows(result: Result) -> Iterator[RuleRow]:
    for code, goal in GOALS.items():
        rule = result.rules[code]
        yield RuleRow(
            code=code,
            planted=rule.planted,
            told=rule.told,
            recall=share(rule.recall),
            precision=share(rule.precision),
            captured=share(rule.captured, 5),
            size_error=share(rule.size_error, 5),
            to_detect=_ms(rule.time_to_detect_ms_p50, rule.time_to_detect_ms_p99),
            to_p1=_ms(rule.time_to_p1_ms_p50, rule.time_to_p1_ms_p99),
            goal=_goal(goal),
            met=rule.meets(goal),
        )


def _goal(goal: Goal) -> str:
    named = (("recall", goal.recall), ("precision", goal.precision), ("captured", goal.captured))
    return ", ".join(f"{name} {least:g}" for name, least in named if least is not None)


def _ms(median: float | None, most: float | None) -> str:
    if median is None or most is None:
        return NONE
    return f"{median:,.1f} / {most:,.1f}"


def _spike(result: Result) -> str:
    spike = result.spike
    return (
        f"{spike.recall:.3f} of {spike.jumps:,} reference jumps at "
        f"{spike.false_alarms_per_10k:.2f} false alarms in 10,000 updates. A fixed threshold on "
        f"the same prices finds {spike.fixed_recall:.3f} at {spike.fixed_false_alarms_per_10k:.2f}."
    )


def _earlier(result: Result) -> EarlierRow:
    rule: RuleResult = result.rules[CODES["dutch_book"]]
    return EarlierRow(
        result=result,
        recall=share(rule.recall),
        precision=share(rule.precision),
        captured=share(rule.captured, 5),
        wrong=sum(result.decoys.values()),
    )
