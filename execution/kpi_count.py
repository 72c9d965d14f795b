"""Counting the daily figures from signals and orders themselves.

Closed signals are read from the index `signal_lives` alone, open ones by their state; no payload
is read. All sums are of whole numbers, so that databases agree and order does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    Exists,
    Func,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import Combinable

from execution.kpi import WHOLE, Counts, Kpi, Lives
from execution.models import OrderIntent
from signals.models import Signal, SignalQuerySet
from signals.opportunities import Milliseconds

Key = tuple[date, str]  # day and code of the rule
PRICED = ~Q(verdict="OBSERVED") & Q(peak_edge_bps__gt=-10_000)
MICRO = Decimal(10**6)
Status = OrderIntent.Status
ENDS = {
    Status.SUGGESTED: "waiting",
    Status.FILLED: "filled",
    Status.REJECTED: "rejected",
    Status.EXPIRED: "expired",
    Status.CANCELLED: "cancelled",
    Status.FAILED: "failed",
}


class DayUTC(Func):
    """The UTC day of a moment, as text: 2026-05-01."""

    arity = 1
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="substr(%(expressions)s, 1, 10)")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
        return self.as_sql(compiler, connection, template=template, **context)


class Units(Func):
    """An amount as a whole number of its smallest units."""

    template = "CAST(ROUND(%(expressions)s * %(units)s) AS bigint)"
    output_field = BigIntegerField()


def _whole(number: int) -> Value:
    return Value(number, BigIntegerField())


EDGE = Units("peak_edge_bps", units=100)
# `gap_of` in SQL: whole numbers divided by whole numbers, so nothing is rounded on the way.
GAP = _whole(10**9) - _whole(10**15) / (EDGE + _whole(WHOLE))
PROFIT = Units("peak_profit", units=10**6)
P1 = Signal.Level.P1


def counted(first: date, last: date, *, rule: str | None = None) -> list[Kpi]:
    """Return the figures of days without lifetimes, by day and rule; two queries."""
    found: dict[Key, Counts] = defaultdict(Counts)
    for key, counts in chain(_of_signals(first, last, rule), _of_orders(first, last, rule)):
        found[key] += counts
    return [Kpi(code, day, counts) for (day, code), counts in sorted(found.items())]


def lives(first: date, last: date, *, rule: str | None = None) -> dict[Key, Lives]:
    """Return the lifetimes of the days' signals that have closed; one query."""
    seen: dict[Key, dict[int, int]] = defaultdict(dict)
    closed = _opened(first, last, rule).filter(closed_at__gte=midnight(first))
    rows = closed.annotate(day=DayUTC("opened_at"), ms=Milliseconds("closed_at", "opened_at"))
    for day, code, ms, count in rows.values_list("day", "rule__code", "ms").annotate(n=Count("id")):
        seen[date.fromisoformat(day), code][ms] = count
    return {key: Lives.of(lifetimes) for key, lifetimes in seen.items()}


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _opened(first: date, last: date, rule: str | None) -> SignalQuerySet:
    start, end = midnight(first), midnight(last) + timedelta(days=1)
    # Told by what they are not: else SQLite reads every row by the index of `opened_at`.
    rows = Signal.objects.exclude(opened_at__lt=start).exclude(opened_at__gte=end).order_by()
    return rows if rule is None else rows.filter(rule__code=rule)


def _of_signals(first: date, last: date, rule: str | None) -> Iterator[tuple[Key, Counts]]:
    """Count signals in one statement, so that none is seen both open and closed, or neither."""
    rows = _opened(first, last, rule)
    closed = _sums(rows.filter(closed_at__gte=midnight(first)), closed=1)
    for day, code, level, is_closed, n, *sums in closed.union(
        _sums(rows.filter(status=Signal.Status.OPEN), closed=0), all=True
    ):
        figures = dict(zip(SUMS, map(int, sums), strict=True))
        if level != P1:
            figures |= {"p1_profit": 0}
        if not is_closed:
            figures |= {"missed": 0, "missed_profit": 0, "still_open": n}
        yield (date.fromisoformat(day), code), Counts(signals=n, **{level.lower(): n}, **figures)


SUMS = ("priced", "edge_sum", "gap_sum", "p1_profit", "missed", "missed_profit")


def _sums(rows: SignalQuerySet, *, closed: int) -> QuerySet[Signal, tuple[Any, ...]]:
    taken = OrderIntent.objects.filter(signal=OuterRef("pk"), approved_at__isnull=False)
    untaken = Q(level=P1) & Q(~Exists(taken))
    return (
        rows.annotate(day=DayUTC("opened_at"), closed=Value(closed, IntegerField()))
        .values_list("day", "rule__code", "level", "closed")
        .annotate(
            n=Count("id"),
            priced_n=Count("id", filter=PRICED),
            edges=_sum(EDGE, PRICED),
            gaps=_sum(GAP, PRICED),
            profits=Sum(PROFIT),
            missed_n=Count("id", filter=untaken),
            missed_profits=_sum(PROFIT, untaken),
        )
    )


def _sum(amount: Combinable, which: Q) -> Sum:
    chosen = Case(When(which, then=amount), default=0, output_field=BigIntegerField())
    return Sum(chosen)


def _of_orders(first: date, last: date, rule: str | None) -> Iterator[tuple[Key, Counts]]:
    orders = OrderIntent.objects.filter(
        signal__opened_at__gte=midnight(first),
        signal__opened_at__lt=midnight(last) + timedelta(days=1),
    ).select_related("signal__rule")
    if rule is not None:
        orders = orders.filter(signal__rule__code=rule)
    for order in orders.defer("plan", "verdict", "signal__payload").order_by("id"):
        signal = order.signal
        yield (signal.opened_at.astimezone(UTC).date(), signal.rule.code), _of_order(order)


def _of_order(order: OrderIntent) -> Counts:
    end = {ENDS[Status(order.status)]: 1} if order.status in ENDS else {}
    return Counts(
        suggested=1,
        approved=int(order.approved_at is not None),
        captured=_captured(order),
        still_open=int(order.is_open),
        **end,
    )


def _captured(order: OrderIntent) -> int:
    """Return what an order that is done has brought at worst; a bet brings what it may."""
    if order.is_open or order.signal.verdict == "OBSERVED":
        return 0
    return int((order.locked_payoff + order.recovered - order.spent) * MICRO)
