"""The daily figures, kept: a day is counted again while anything of it may change.

Rows are never added to, only counted anew from the signals and orders themselves; so they cannot
drift, and any number of writers may count the same day. What may have changed is known without a
clock: rows that say so themselves (`still_open`), and days of signals and orders that are newer
than all that were counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Min

from execution.kpi import COUNTED, Kpi, Lives
from execution.kpi_count import DayUTC, counted, lives
from execution.kpi_models import RuleKpiDaily
from execution.models import OrderIntent
from rules.models import Rule
from signals.models import Signal

# Ids are given before they are committed: so many of the newest are looked at again each time.
LATE_IDS = 500
DAY = timedelta(days=1)
SPAN = 31  # days that are counted in one piece


def daily(first: date, last: date, *, rule: str | None = None) -> list[Kpi]:
    """Return the figures of each day and rule that had signals, oldest day first.

    They are exact at the moment of asking: kept rows where a day is final, else counted now.
    """
    kept, due = _kept(first, last, rule)
    fresh = [kpi for span in spans(due) for kpi in _with_lives(*span, rule=rule)]
    return _ordered([*kept, *fresh])


def figures(first: date, last: date) -> list[Kpi]:
    """Return what `daily` does, for readers who want no lifetimes."""
    kept, due = _kept(first, last, None)
    return _ordered([*kept, *(kpi for span in spans(due) for kpi in counted(*span))])


def _ordered(kpis: Iterable[Kpi]) -> list[Kpi]:
    return sorted(kpis, key=lambda kpi: (kpi.day, kpi.rule))


def _kept(first: date, last: date, rule: str | None) -> tuple[list[Kpi], set[date]]:
    """Return the rows of days that are final, and the days that are not."""
    rows = list(RuleKpiDaily.objects.filter(day__range=(first, last)).select_related("rule"))
    due = {row.day for row in rows if row.still_open} | _with_news(first, last)
    wanted = (row for row in rows if row.day not in due)
    return [row.kpi for row in wanted if rule is None or row.rule.code == rule], due


def _with_news(first: date = date.min, last: date = date.max) -> set[date]:
    """Return the days, between two, that have signals or orders which no row may have counted."""
    newest = RuleKpiDaily.objects.aggregate(signal=Max("last_signal"), intent=Max("last_intent"))
    signals = Signal.objects.filter(id__gt=(newest["signal"] or 0) - LATE_IDS)
    orders = OrderIntent.objects.filter(id__gt=(newest["intent"] or 0) - LATE_IDS)
    found = signals.order_by().annotate(day=DayUTC("opened_at")).values_list("day", flat=True)
    signalled = orders.order_by().annotate(day=DayUTC("signal__opened_at"))
    days = found.distinct().union(signalled.values_list("day", flat=True).distinct())
    return {day for text in days if first <= (day := date.fromisoformat(text)) <= last}


def _with_lives(first: date, last: date, *, rule: str | None = None) -> list[Kpi]:
    found = counted(first, last, rule=rule)
    closed = lives(first, last, rule=rule)
    return [replace(kpi, lives=closed.get((kpi.day, kpi.rule), Lives())) for kpi in found]


# --- keeping -------------------------------------------------------------------------


def count_due(*, at: datetime) -> int:
    """Count all days anew that may have changed; return how many."""
    not_final = RuleKpiDaily.objects.filter(still_open__gt=0).values_list("day", flat=True)
    return recount({*not_final, *_with_news()}, at=at)


def rebuild(first: date | None, last: date | None, *, at: datetime) -> int:
    """Count every day anew between two, which are those of all signals if None; return how many."""
    oldest, newest = _whole_span()
    first, last = first or oldest, last or newest
    if first is None or last is None or first > last:
        return 0
    return recount((first + n * DAY for n in range((last - first).days + 1)), at=at)


def recount(days: Iterable[date], *, at: datetime) -> int:
    """Count days anew and keep the figures; return how many days.

    The newest ids are read first: what comes in between is counted again next time.
    """
    done = 0
    for first, last in spans(days):
        fields = _marks() | {"counted_at": at}
        kpis = _with_lives(first, last)
        _keep(kpis, first, last, fields)
        done += (last - first).days + 1
    return done


def spans(days: Iterable[date]) -> list[tuple[date, date]]:
    """Join days that follow each other, `SPAN` at most."""
    found: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if found and day - found[-1][1] == DAY and (day - found[-1][0]).days < SPAN:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def _whole_span() -> tuple[date | None, date | None]:
    ends = Signal.objects.aggregate(first=Min("opened_at"), last=Max("opened_at"))
    if ends["first"] is None:
        return None, None
    return ends["first"].astimezone(UTC).date(), ends["last"].astimezone(UTC).date()


def _marks() -> dict[str, int]:
    signal = Signal.objects.aggregate(newest=Max("id"))["newest"]
    intent = OrderIntent.objects.aggregate(newest=Max("id"))["newest"]
    return {"last_signal": signal or 0, "last_intent": intent or 0}


@transaction.atomic
def _keep(kpis: Sequence[Kpi], first: date, last: date, fields: Mapping[str, Any]) -> None:
    """Write these figures and drop what has none any more."""
    rules = dict(Rule.objects.values_list("code", "pk"))
    wanted = {(kpi.day, rules[kpi.rule]) for kpi in kpis}
    kept = RuleKpiDaily.objects.filter(day__range=(first, last))
    gone = [pk for pk, *key in kept.values_list("pk", "day", "rule") if tuple(key) not in wanted]
    RuleKpiDaily.objects.filter(pk__in=gone).delete()
    RuleKpiDaily.objects.bulk_create(
        [
            RuleKpiDaily(rule_id=rules[kpi.rule], day=kpi.day, **_fields(kpi), **fields)
            for kpi in kpis
        ],
        update_conflicts=True,
        unique_fields=["rule", "day"],
        update_fields=[*COUNTED, "lives", "life_ms", *fields],
    )


def _fields(kpi: Kpi) -> dict[str, Any]:
    bins = {str(number): count for number, count in sorted(kpi.lives.bins.items())}
    return {**asdict(kpi.counts), "lives": bins, "life_ms": list(kpi.lives.exact)}
