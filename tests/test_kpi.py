"""Daily figures equal what one counts by hand, however signals and orders came about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import StringIO
from itertools import count, pairwise
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution import kpi_store
from execution.kpi import EDGES, Kpi, Lives, bin_of, gap_of, together
from execution.kpi_models import RuleKpiDaily
from execution.models import OrderIntent
from execution.tasks import count_kpis
from rules.models import RuleVersion
from signals.models import Signal
from tests.api_cast import NOON, a_rule, a_signal

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]

DAY = timedelta(days=1)
FIRST, LAST = date(2026, 4, 28), date(2026, 5, 4)
numbers = count()


# --- a slow obvious oracle -----------------------------------------------------------


def oracle(day: date, code: str) -> dict[str, Any]:
    """Count one rule's day in plain Python, from full rows."""
    signals = [s for s in Signal.objects.select_related("rule") if s.rule.code == code]
    signals = [s for s in signals if s.opened_at.astimezone(UTC).date() == day]
    orders = [o for o in OrderIntent.objects.select_related("signal") if o.signal in signals]
    priced = [s for s in signals if s.verdict != "OBSERVED" and s.peak_edge_bps > -10_000]
    approved = {o.signal for o in orders if o.approved_at}
    p1 = [s for s in signals if s.level == "P1"]
    missed = [s for s in p1 if s.status == "CLOSED" and s not in approved]
    done = [o for o in orders if o.status not in ("SUGGESTED", "APPROVED")]
    ends = {
        status: sum(o.status == status.upper() for o in orders)
        for status in ("filled", "rejected", "expired", "cancelled", "failed")
    }
    return {
        "signals": len(signals),
        **{f"p{n}": sum(s.level == f"P{n}" for s in signals) for n in (1, 2, 3)},
        "priced": len(priced),
        "edge_sum": int(sum((s.peak_edge_bps * 100 for s in priced), Decimal(0))),
        "gap_sum": sum(gap_of(int(s.peak_edge_bps * 100)) for s in priced),
        "p1_profit": int(sum((s.peak_profit for s in p1), Decimal(0)) * 10**6),
        "missed": len(missed),
        "missed_profit": int(sum((s.peak_profit for s in missed), Decimal(0)) * 10**6),
        "suggested": len(orders),
        "waiting": sum(o.status == "SUGGESTED" for o in orders),
        "approved": sum(o.approved_at is not None for o in orders),
        **ends,
        "captured": int(
            sum(
                (
                    o.locked_payoff + o.recovered - o.spent
                    for o in done
                    if o.signal.verdict != "OBSERVED"
                ),
                Decimal(0),
            )
            * 10**6
        ),
        "still_open": sum(s.status == "OPEN" for s in signals)
        + sum(o.status in ("SUGGESTED", "APPROVED") for o in orders),
    }


def lifetimes(day: date, code: str) -> list[int]:
    closed = Signal.objects.filter(rule__code=code, closed_at__isnull=False)
    lived = [(s.closed_at, s.opened_at) for s in closed if s.opened_at.date() == day]
    return sorted(round((end - start).total_seconds() * 1000) for end, start in lived if end)


def assert_counts(kpis: Iterable[Kpi], first: date = FIRST, last: date = LAST) -> None:
    """Compare with the oracle, also that no day and no rule is left out."""
    found = {(kpi.day, kpi.rule): kpi for kpi in kpis}
    rows = Signal.objects.values_list("opened_at", "rule__code")
    there = {(opened.astimezone(UTC).date(), code) for opened, code in rows}
    assert found.keys() == {key for key in there if first <= key[0] <= last}
    for (day, code), kpi in found.items():
        assert asdict(kpi.counts) == oracle(day, code)
        lived = lifetimes(day, code)
        assert kpi.lives.closed == len(lived)
        for percent in (50, 90, 99) if lived else ():
            exact = lived[-(-len(lived) * percent // 100) - 1]
            told = kpi.lives.percentile(percent)
            assert told is not None
            assert told.exact
            assert told.low == exact


# --- any history of signals and orders -----------------------------------------------

MOMENTS = st.integers(0, 5 * 86_400_000 - 1)  # ms after the first midnight
signals = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(("A", "B")),
        "opened": MOMENTS,
        "lived": st.none() | st.integers(0, 3 * 86_400_000),
        "level": st.sampled_from(("P1", "P2", "P3")),
        "verdict": st.sampled_from(("EXECUTABLE", "THIN", "BLOCKED", "OBSERVED")),
        "peak_edge_bps": st.decimals(-10_000, 10**8, places=2),
        "peak_profit": st.decimals(-100, 10**6, places=6),
    }
)
orders = st.fixed_dictionaries(
    {
        "status": st.sampled_from(OrderIntent.Status.values),
        "decided": st.booleans(),
        "money": st.tuples(*[st.decimals(0, 200, places=6)] * 3),
    }
)
steps = st.lists(
    st.tuples(st.just("signal"), signals)
    | st.tuples(st.just("close"), st.tuples(st.integers(0, 9), st.integers(0, 86_400_000)))
    | st.tuples(st.just("order"), st.tuples(st.integers(0, 9), orders))
    | st.tuples(st.just("end order"), st.tuples(st.integers(0, 9), orders))
    | st.tuples(st.just("count"), st.none()),
    min_size=2,
    max_size=14,
)


class History:
    """Signals and orders that come about in any order, by the words of `steps`."""

    def __init__(self, versions: dict[str, RuleVersion], proposer: User, approver: User) -> None:
        self.versions, self.proposer, self.approver = versions, proposer, approver
        self.signals: list[Signal] = []
        self.orders: list[OrderIntent] = []

    def step(self, act: str, given: Any) -> None:
        if act == "signal":
            self.open(**given)
        elif act == "count":
            kpi_store.count_due(at=NOON)
        elif act == "order":
            self.order(*given)
        elif act == "close":
            self.close(*given)
        else:
            self.end_order(*given)

    def open(self, *, rule: str, opened: int, lived: int | None, **fields: Any) -> None:
        start = datetime(2026, 4, 29, tzinfo=UTC) + timedelta(milliseconds=opened)
        end = None if lived is None else start + timedelta(milliseconds=lived)
        status = "OPEN" if end is None else "CLOSED"
        fields |= {"opened_at": start, "changed_at": end or start, "closed_at": end}
        key = f"key-{next(numbers)}"
        signal = a_signal(self.versions[rule], minutes=0, key=key, status=status, **fields)
        self.signals.append(Signal.objects.get(pk=signal.pk))

    def close(self, number: int, lived: int) -> None:
        still = [signal for signal in self.signals if signal.status == "OPEN"]
        for signal in still[number : number + 1]:
            end = signal.opened_at + timedelta(milliseconds=lived)
            signal.status, signal.closed_at = Signal.Status.CLOSED, end
            signal.level = Signal.Level.P1 if lived % 2 else signal.level
            signal.save()

    def order(self, number: int, given: dict[str, Any]) -> None:
        busy = {order.signal_id for order in self.orders if order.is_open}
        free = [signal for signal in self.signals if signal.pk not in busy]
        for signal in free[number : number + 1]:
            self.orders.append(
                OrderIntent.objects.create(
                    signal=signal, kind=signal.kind, plan={}, plan_hash="", notional=1, cost=1,
                    min_payoff=1, worst_loss=1, proposer=self.proposer, suggested_at=NOON,
                    expires_at=NOON, **self.became(**given),
                )
            )  # fmt: skip

    def end_order(self, number: int, given: dict[str, Any]) -> None:
        still = [order for order in self.orders if order.is_open]
        for order in still[number : number + 1]:
            for name, value in self.became(**given).items():
                setattr(order, name, value)
            order.save()

    def became(self, *, status: str, decided: bool, money: tuple[Decimal, ...]) -> dict[str, Any]:
        approved = status in ("APPROVED", "FILLED", "FAILED") or (decided and status == "CANCELLED")
        spent, recovered, locked = money
        return {
            "status": status,
            "closed_at": None if status in ("SUGGESTED", "APPROVED") else NOON,
            "approver": self.approver if approved else None,
            "approved_at": NOON if approved else None,
            "fill_by": NOON if approved else None,
            "spent": spent, "recovered": recovered, "locked_payoff": locked,
        }  # fmt: skip


@pytest.fixture
def history() -> Callable[[], History]:
    versions = {code: a_rule(code) for code in ("A", "B")}
    people = User.objects.create_user("proposer"), User.objects.create_user("approver")
    return lambda: History(versions, *people)


@given(told=steps)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_figures_equal_the_oracle_whatever_happens_between_two_counts(
    history: Callable[[], History], told: list[tuple[str, Any]]
) -> None:
    with transaction.atomic():
        world = history()
        for step in told:
            world.step(*step)

        assert_counts(kpi_store.daily(FIRST, LAST))
        kpi_store.count_due(at=NOON)
        assert_counts(row.kpi for row in RuleKpiDaily.objects.select_related("rule"))
        kept = list(RuleKpiDaily.objects.order_by("id").values())
        kpi_store.rebuild(None, None, at=NOON)
        assert list(RuleKpiDaily.objects.order_by("id").values()) == kept
        transaction.set_rollback(True)


# --- by hand -------------------------------------------------------------------------


def test_averages_of_any_days_are_sums_over_counts() -> None:
    version = a_rule()
    for minutes, edge in ((0, 100), (1, 300), (24 * 60, 1_000)):
        a_signal(version, minutes=minutes, peak_edge_bps=edge)

    counts, _ = together(kpi_store.daily(FIRST, LAST))

    assert counts.edge_bps == Decimal(1400) / 3  # not the mean of 200 and 1,000
    gaps = sum(Fraction(edge, edge + 10_000) for edge in (100, 300, 1_000)) / 3
    assert counts.gap is not None
    assert abs(Fraction(counts.gap) - gaps) < Fraction(1, 10**9)


def test_directions_are_counted_but_have_no_edge() -> None:
    a_signal(a_rule(), minutes=0, verdict="OBSERVED", level="P3", peak_edge_bps=0)

    [kpi] = kpi_store.daily(FIRST, LAST)

    assert (kpi.counts.signals, kpi.counts.priced) == (1, 0)
    assert kpi.counts.edge_bps is None
    assert kpi.counts.gap is None


def test_signal_of_yesterday_that_closes_today_counts_for_yesterday() -> None:
    signal = a_signal(a_rule(), minutes=0)
    count_kpis()
    a_signal(signal.rule_version, minutes=24 * 60)
    end = signal.opened_at + DAY
    Signal.objects.filter(pk=signal.pk).update(status="CLOSED", closed_at=end)

    count_kpis()

    first, second = RuleKpiDaily.objects.order_by("day").select_related("rule")
    assert (first.day, first.still_open, first.missed) == (date(2026, 5, 1), 0, 1)
    assert first.life_ms == [86_400_000] * 3
    assert (second.day, second.still_open) == (date(2026, 5, 2), 1)


def test_final_day_is_not_counted_again() -> None:
    version = a_rule()
    old = a_signal(version, minutes=0, status="CLOSED", closed_at=NOON)
    for minutes in range(kpi_store.LATE_IDS):
        a_signal(version, minutes=60 * 24 * 30 + minutes % 60, key=f"k{minutes}")
    kpi_store.count_due(at=NOON)
    Signal.objects.filter(pk=old.pk).delete()

    kpi_store.count_due(at=NOON + DAY)

    days = RuleKpiDaily.objects.order_by("day").values_list("counted_at", flat=True)
    assert list(days) == [NOON, NOON + DAY]
    kpi_store.rebuild(FIRST, LAST, at=NOON)  # which sees that there is nothing any more
    assert not RuleKpiDaily.objects.filter(day__range=(FIRST, LAST)).exists()


@given(st.lists(st.lists(st.integers(0, 3 * 10**9), max_size=30), min_size=1, max_size=5))
def test_percentiles_of_several_days_are_bounds_of_the_true_ones(days: list[list[int]]) -> None:
    lives = [Lives.of({ms: day.count(ms) for ms in day}) for day in days]
    every = sorted(ms for day in days for ms in day)
    total = sum(lives[1:], lives[0])

    assert total.closed == len(every)
    for percent in (50, 90, 99) if every else ():
        true = every[-(-len(every) * percent // 100) - 1]
        told = total.percentile(percent)
        assert told is not None
        assert told.low <= true
        assert told.high is None or true <= told.high


def test_bins_are_narrow_from_a_tenth_of_a_second() -> None:
    assert list(EDGES) == sorted(set(EDGES))
    wide = [high / low for low, high in pairwise(EDGES) if low >= 100]
    assert max(wide) < 1.13
    assert bin_of(0) == 0
    assert bin_of(EDGES[-1]) == len(EDGES)


# --- the command ---------------------------------------------------------------------


def kpi(*words: str) -> Any:
    out = StringIO()
    call_command("kpi", *words, "--json", stdout=out, stderr=StringIO())
    return json.loads(out.getvalue())


def test_command_shows_and_rebuilds() -> None:
    version = a_rule()
    a_signal(version, minutes=0)
    a_signal(version, minutes=24 * 60)

    assert kpi("rebuild") == {"schema": 1, "days": 2}
    assert RuleKpiDaily.objects.count() == 2
    told = kpi("show", "--since", "2026-05-01", "--until", "2026-05-01")
    assert [(row["day"], row["rule"], row["signals"]) for row in told["rows"]] == [
        ("2026-05-01", "DUTCH_BOOK_DETECT", 1)
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "--rule", "NONE"), 2),
        (("show", "--since", "2026-05-02", "--until", "2026-05-01"), 2),
    ],
)
def test_command_refuses_what_makes_no_sense(words: tuple[str, ...], code: int) -> None:
    with pytest.raises(CommandError) as refused:
        kpi(*words)
    assert refused.value.returncode == code


def test_command_says_that_there_was_nothing() -> None:
    with pytest.raises(SystemExit) as ended:
        kpi("show")
    assert ended.value.code == 4
