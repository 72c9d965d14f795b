"""What closed signals tell: how long opportunities lived, how large they were, when, and whose.

All counting is done by the database over the index `signal_lives`. Directions and bets
(`OBSERVED`) are left out: nothing is sure to be paid there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import BigIntegerField, Func, IntegerField

from rules.models import Rule
from signals.models import Signal, SignalQuerySet

# Edges of the bins of lifetimes, in ms: three a step, from a tenth of a second to a day.
LIFE_MS = (
    *(100, 200, 500),
    *(1_000, 2_000, 5_000),
    *(10_000, 20_000, 30_000),
    *(60_000, 120_000, 300_000),
    *(600_000, 1_200_000, 1_800_000),
    *(3_600_000, 7_200_000, 18_000_000),
    *(36_000_000, 86_400_000),
)
MOST_SPOTS = 500  # dots that a picture can hold
HOURS = 24
NOTHING = Decimal(0)


class Milliseconds(Func):
    """Whole milliseconds from the second moment to the first."""

    arity = 2
    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(ROUND((julianday(%(expressions)s)) * 86400000.0) AS INTEGER)"
        joiner = ") - julianday("
        return self.as_sql(compiler, connection, template=template, arg_joiner=joiner, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(ROUND(EXTRACT(EPOCH FROM (%(expressions)s)) * 1000) AS bigint)"
        return self.as_sql(compiler, connection, template=template, arg_joiner=" - ", **context)


class HourUTC(Func):
    """The hour of a moment in UTC, from 0."""

    arity = 1
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(strftime('%%%%H', %(expressions)s) AS INTEGER)"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "CAST(EXTRACT(HOUR FROM %(expressions)s AT TIME ZONE 'UTC') AS integer)"
        return self.as_sql(compiler, connection, template=template, **context)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which signals: closed in a time, of a rule, of a level (as last seen); empty is all."""

    since: datetime
    until: datetime
    rule: str = ""
    level: str = ""

    def rows(self) -> SignalQuerySet:
        """Return these signals, told by what they are not.

        A rule or level that is asked for by name would let SQLite choose their own indexes,
        and read every row behind them; `signal_lives` alone holds all that is counted.
        """
        closed = Signal.objects.filter(closed_at__gte=self.since, closed_at__lte=self.until)
        rows = closed.exclude(verdict="OBSERVED").order_by()
        if self.rule:
            rows = rows.exclude(rule__in=Rule.objects.exclude(code=self.rule))
        if self.level:
            others = [level for level in Signal.Level.values if level != self.level]
            rows = rows.exclude(level__in=others)
        return rows


@dataclass(frozen=True, slots=True)
class Reach:
    """What lived at least so long: how many signals, and their profit at its peak (USD)."""

    ms: int
    count: int
    profit: Decimal


@dataclass(frozen=True, slots=True)
class Lives:
    """Signals by the bin of their lifetime (`LIFE_MS`), with their profit at its peak."""

    counts: tuple[int, ...]
    profits: tuple[Decimal, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def profit(self) -> Decimal:
        return sum(self.profits, NOTHING)

    @property
    def reaches(self) -> tuple[Reach, ...]:
        """Return what lived at least as long as each edge."""
        return tuple(
            Reach(edge, sum(self.counts[n + 1 :]), sum(self.profits[n + 1 :], NOTHING))
            for n, edge in enumerate(LIFE_MS)
        )

    @property
    def half_life(self) -> int | None:
        """Return the bin in which the middle one of all lifetimes is; None without any."""
        seen = 0
        for number, count in enumerate(self.counts):
            seen += count
            if count and seen * 2 >= self.total:
                return number
        return None


@dataclass(frozen=True, slots=True)
class Spot:
    """One of the newest signals: its cost as last seen and its best edge and profit."""

    cost: Decimal
    edge_bps: Decimal
    profit: Decimal
    level: str


@dataclass(frozen=True, slots=True)
class Opportunities:
    """The picture of a time.

    `executable` were P1 when last seen, worth `executable_profit` USD at their peak. `hours`
    counts by rule and the hour in which they were first seen (UTC).
    """

    asked: Asked
    lives: Lives
    executable: int
    executable_profit: Decimal
    hours: Mapping[str, tuple[int, ...]]
    spots: tuple[Spot, ...]
    caught: Reach

    @property
    def busiest(self) -> int:
        return max((max(counts) for counts in self.hours.values()), default=0)


def opportunities(asked: Asked, *, seconds: Decimal) -> Opportunities:
    """Count what was asked for, and what a person with so many seconds would have caught.

    Three queries.
    """
    seen = _Seen()
    for row in _by_rule_hour_and_life(asked, ms=round(seconds * 1000)):
        seen.add(*row)
    return Opportunities(
        asked=asked,
        lives=seen.lives(),
        executable=seen.executable,
        executable_profit=seen.executable_profit,
        hours=_by_code(seen.hours),
        spots=_spots(asked),
        caught=Reach(round(seconds * 1000), seen.caught, seen.caught_profit),
    )


def lives_of(asked: Asked) -> Lives:
    """Count by lifetime alone: one query."""
    seen = _Seen()
    for row in _by_rule_hour_and_life(asked, ms=0):
        seen.add(*row)
    return seen.lives()


# The inner query reckons each lifetime once, not once for each edge that it is compared with.
_COUNT = """
WITH lives AS MATERIALIZED ({lives})
SELECT rule_id, hour, {bin} AS life, COUNT(*), SUM(peak_profit),
    SUM(CASE WHEN level = 'P1' THEN 1 ELSE 0 END),
    SUM(CASE WHEN level = 'P1' THEN peak_profit ELSE 0 END),
    SUM(CASE WHEN ms >= %s THEN 1 ELSE 0 END),
    SUM(CASE WHEN ms >= %s THEN peak_profit ELSE 0 END)
FROM lives GROUP BY rule_id, hour, life
"""


def _by_rule_hour_and_life(asked: Asked, *, ms: int) -> list[tuple[Any, ...]]:
    """Return rule, hour, bin of lifetime; then count and profit of all, executable, caught."""
    lives = asked.rows().annotate(
        hour=HourUTC("opened_at"),
        ms=Milliseconds("closed_at", "opened_at"),
    )
    inner, parameters = lives.values(
        "rule_id", "hour", "ms", "peak_profit", "level"
    ).query.sql_with_params()
    sql = _COUNT.format(lives=inner, bin=_life_bin())
    with connection.cursor() as cursor:
        cursor.execute(sql, [*parameters, ms, ms])
        return [tuple(row) for row in cursor.fetchall()]


def _life_bin() -> str:
    """Return the number of the bin as SQL over our own constants."""
    steps = " ".join(f"WHEN ms < {edge} THEN {number}" for number, edge in enumerate(LIFE_MS))
    return f"CASE {steps} ELSE {len(LIFE_MS)} END"


def _usd(amount: Decimal | float) -> Decimal:
    """Return an amount of the database with its six decimals: SQLite adds up floats."""
    return Decimal(amount).quantize(Decimal("0.000001"))


@dataclass(slots=True)
class _Seen:
    """What has been added up so far."""

    counts: Counter[int] = field(default_factory=Counter)
    profits: dict[int, Decimal] = field(
        default_factory=lambda: dict.fromkeys(range(len(LIFE_MS) + 1), NOTHING)
    )
    hours: Counter[tuple[int, int]] = field(default_factory=Counter)
    executable: int = 0
    executable_profit: Decimal = NOTHING
    caught: int = 0
    caught_profit: Decimal = NOTHING

    def add(
        self,
        rule: int,
        hour: int,
        life: int,
        count: int,
        profit: Decimal | float,
        executable: int,
        executable_profit: Decimal | float,
        caught: int,
        caught_profit: Decimal | float,
    ) -> None:
        self.counts[life] += count
        self.profits[life] += _usd(profit)
        self.hours[rule, hour] += count
        self.executable += executable
        self.executable_profit += _usd(executable_profit)
        self.caught += caught
        self.caught_profit += _usd(caught_profit)

    def lives(self) -> Lives:
        bins = range(len(LIFE_MS) + 1)
        return Lives(
            tuple(self.counts[each] for each in bins), tuple(self.profits[each] for each in bins)
        )


def _by_code(counted: Mapping[tuple[int, int], int]) -> dict[str, tuple[int, ...]]:
    """Return the counts of each rule by hour, by its code."""
    codes = Rule.objects.in_bulk({rule for rule, _ in counted})
    hours = {
        rule.code: tuple(counted.get((pk, hour), 0) for hour in range(HOURS))
        for pk, rule in codes.items()
    }
    return dict(sorted(hours.items()))


def _spots(asked: Asked) -> tuple[Spot, ...]:
    newest = asked.rows().order_by("-closed_at")[:MOST_SPOTS]
    return tuple(
        Spot(*row) for row in newest.values_list("cost", "peak_edge_bps", "peak_profit", "level")
    )


def of_last(days: int, *, at: datetime, rule: str = "", level: str = "") -> Asked:
    return Asked(at - timedelta(days=days), at, rule, level)
