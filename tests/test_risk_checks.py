"""Every check at its limit, past it and without knowledge, with the words people read."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from pathlib import Path

import pytest

from risk import checks
from risk.checks import (
    Bounds,
    BreakerView,
    Exposure,
    Kill,
    Leg,
    Order,
    SignalView,
    Situation,
    Use,
    judge,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BOUNDS = Bounds(
    order_notional=D(200),
    concurrent_orders=2,
    daily_notional=D(1000),
    event_exposure=D(400),
    slippage_bps=80,
    book_age_ms=5_000,
    signal_age_seconds=3_600,
    intent_ttl_seconds=180,
    fill_seconds=30,
    min_annualised_pct=D(5),
    depth_share=D(1),
)
LEG = Leg("Spain Yes", "TRADABLE", "fresh", 200, 3, 3, D(0), D(0))
CALM = Situation(
    at=NOON,
    order=Order(D(150), False, D(40), (LEG, replace(LEG, label="France Yes"))),
    use=Use(0, D(0), (Exposure("Cup", D(0), D(100)),)),
    kill=Kill(False),
    breakers=(),
    signal=SignalView(True, "P1", D(4)),
    seconds_left=D(90),
)


def leg(**changes) -> Situation:
    """The calm situation with a second leg that is different."""
    return replace(CALM, order=replace(CALM.order, legs=(LEG, replace(LEG, **changes))))


def order(**changes) -> Situation:
    return replace(CALM, order=replace(CALM.order, **changes))


def use(**changes) -> Situation:
    return replace(CALM, use=replace(CALM.use, **changes))


def signal(**changes) -> Situation:
    return replace(CALM, signal=replace(CALM.signal, **changes))


def breaker(**changes) -> BreakerView:
    values = {"scope": "RULE", "subject": "DUTCH", "state": "OPEN", "reason": "3 failures",
              "reopen_at": NOON + timedelta(minutes=1)}  # fmt: skip
    return BreakerView(**{**values, **changes})


def with_breaker(**changes) -> Situation:
    return replace(CALM, breakers=(breaker(**changes),))


@pytest.mark.parametrize("step", ["suggest", "approve", "fill"])
def test_calm_situation_passes_every_check(step):
    verdict = judge(step, CALM, BOUNDS)

    assert verdict.ok, verdict.reasons
    assert not verdict.failed
    assert all(check.advice == "" for check in verdict.checks)


AT_LIMIT = {
    "order": order(notional=D(200)),
    "concurrent": use(open_orders=1),
    "daily": use(day_notional=D(850)),
    "exposure": use(exposures=(Exposure("Cup", D(300), D(100)),)),
    "signal age": signal(age_seconds=D(3600)),
    "P2": signal(level="P2"),
    "book age": leg(book_age_ms=5_000),
    "slippage": leg(slippage_bps=D(80)),
    "return": order(annualised_pct=D(5)),
    "instant without a return": order(annualised_pct=None, instant=True),
    "plan before books were numbered": leg(epoch_planned=None),
    "no deadline": replace(CALM, seconds_left=None),
    "breaker of another time": with_breaker(state="CLOSED"),
    "breaker due for a trial": with_breaker(reopen_at=NOON),
    "breaker on this trial": replace(
        CALM, breakers=(breaker(state="HALF_OPEN", trial="intent:1"),), trial="intent:1"
    ),
}


@pytest.mark.parametrize("situation", AT_LIMIT.values(), ids=AT_LIMIT)
def test_what_lies_on_the_limit_passes(situation):
    verdict = judge("approve", situation, BOUNDS)

    assert verdict.ok, verdict.reasons


PAST_LIMIT = {
    "KILL_SWITCH": (replace(CALM, kill=Kill(True, "fills look wrong")), "on: fills look wrong"),
    "BREAKERS": (with_breaker(), "RULE DUTCH OPEN: 3 failures"),
    "SIGNAL_OPEN": (signal(is_open=False, close_reason="edge_gone"), "closed: edge_gone"),
    "SIGNAL_LEVEL": (signal(level="P3"), "P3"),
    "SIGNAL_AGE": (signal(age_seconds=D("3600.1")), "3600.1 s"),
    "INTENT_TTL": (replace(CALM, seconds_left=D("-1.5")), "1.5 s too late"),
    "ORDER_NOTIONAL": (order(notional=D("200.004")), "200.01 USD"),
    "CONCURRENT_ORDERS": (use(open_orders=2), "3 with this one"),
    "DAILY_NOTIONAL": (use(day_notional=D("850.01")), "1000.01 USD with this one"),
    "EVENT_EXPOSURE": (use(exposures=(Exposure("Cup", D(301), D(100)),)),
                       "401.00 USD at worst in Cup"),
    "MARKET_STATE": (leg(market_state="PAUSED"), "Spain Yes: PAUSED"),
    "BOOK_STATE": (leg(book_state="stale"), "Spain Yes: stale"),
    "BOOK_AGE": (leg(book_age_ms=5_001), "5001 ms"),
    "BOOK_CONTINUITY": (leg(epoch_now=4), "Spain Yes: gap since the plan"),
    "DEPTH": (leg(missing=D("12.5")), "Spain Yes: 12.50 shares short"),
    "SLIPPAGE": (leg(slippage_bps=D("80.1")), "80.1 bps (Spain Yes)"),
    "MIN_RETURN": (order(annualised_pct=D("4.99")), "4.99 % a year"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAST_LIMIT)
def test_what_lies_past_the_limit_is_refused_with_numbers_and_advice(name):
    situation, value = PAST_LIMIT[name]

    verdict = judge("approve", situation, BOUNDS)

    assert verdict.names == (name,)
    failed = verdict.failed[0]
    assert failed.value == value
    assert failed.limit and failed.advice
    assert verdict.reasons == (f"{failed.label}: {value} (limit: {failed.limit}). {failed.advice}",)


UNKNOWN = {
    "no market": (leg(market_state=None), {"MARKET_STATE"}),
    "no book state": (leg(book_state=None), {"BOOK_STATE"}),
    "no age": (leg(book_age_ms=None), {"BOOK_AGE"}),
    "no epoch": (leg(epoch_now=None), {"BOOK_CONTINUITY"}),
    "no depth": (leg(missing=None), {"DEPTH"}),
    "no price": (leg(slippage_bps=None), {"SLIPPAGE"}),
    "no end": (order(annualised_pct=None), {"MIN_RETURN"}),
    "no legs": (order(legs=()), {"BOOK_AGE", "SLIPPAGE"}),
    "unreadable switch": (replace(CALM, kill=Kill(True, "gone", readable=False)), {"KILL_SWITCH"}),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_counts_as_failed(case):
    situation, names = UNKNOWN[case]

    assert set(judge("approve", situation, BOUNDS).names) == names


def test_every_question_of_a_step_is_answered_though_others_failed():
    bad = replace(leg(book_state="stale", missing=D(3)), kill=Kill(True, "x"))

    verdict = judge("approve", bad, BOUNDS)

    assert len(verdict.checks) == len(checks.QUESTIONS["approve"])
    assert set(verdict.names) == {"KILL_SWITCH", "BOOK_STATE", "DEPTH"}


def test_order_that_was_sent_stands_on_its_limits():
    """The signal may be gone and depth may lack: that is a partial fill, not a refusal."""
    gone = replace(leg(missing=D(30)), signal=SignalView(False, "P1", D(9_999), "edge_gone"))

    assert judge("fill", gone, BOUNDS).ok


ASKED_AT_THE_FILL = (
    "KILL_SWITCH",
    "BREAKERS",
    "INTENT_TTL",
    "ORDER_NOTIONAL",
    "CONCURRENT_ORDERS",
    "DAILY_NOTIONAL",
    "EVENT_EXPOSURE",
    "MARKET_STATE",
    "BOOK_STATE",
    "BOOK_CONTINUITY",
    "SLIPPAGE",
)


@pytest.mark.parametrize("name", ASKED_AT_THE_FILL)
def test_caps_switches_and_the_book_are_asked_again_at_the_fill(name):
    situation, _ = PAST_LIMIT[name]

    assert judge("fill", situation, BOUNDS).names == (name,)


def test_daily_advice_names_what_is_left():
    refused = judge("approve", use(day_notional=D("880.005")), BOUNDS).failed[0]

    assert "Lower the order to 119.99 USD" in refused.advice


def test_only_the_order_on_trial_passes_a_half_open_breaker():
    half_open = BreakerView("GLOBAL", "", "HALF_OPEN", "stale data", None, "intent:7")

    assert checks.passes(half_open, at=NOON, trial="intent:7")
    assert not checks.passes(half_open, at=NOON, trial="intent:8")
    assert not checks.passes(half_open, at=NOON)


def test_breaker_without_a_time_waits_for_a_person():
    verdict = judge("approve", with_breaker(reopen_at=None), BOUNDS)

    assert "reset_breaker" in verdict.failed[0].advice


@pytest.mark.parametrize(
    ("same", "single", "ok"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_four_eyes(same, single, ok):
    check = checks.four_eyes(
        proposer="ann", approver="ann" if same else "bob", single_operator=single
    )

    assert check.ok is ok
    assert bool(check.advice) is not ok


def test_checks_import_nothing_that_could_reach_outside():
    tree = ast.parse(Path(checks.__file__).read_text())
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    } | {n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names}

    assert imported <= {"__future__", "collections", "dataclasses", "datetime", "decimal", "typing"}
