"""A desk at work on the simulated venue: what it captures, what fails, what unwinding costs.

Somebody proposes each open signal and somebody else approves it at once. The full form is
an hour of simulated time: `MPX_DESK_MINUTES=60`. `MPX_DESK_REPORT=FILE` keeps the figures.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from datetime import datetime
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

from execution import fills, intents, positions
from execution.desk import Desk
from execution.invariants import invariants
from execution.matching import Match
from execution.models import Fill, IntentLeg, OrderIntent
from execution.paper import PaperTerms
from markets import catalogue
from markets.fills import FREE, Ladder
from markets.frames import moment
from rules.load import publish_missing
from signals import store
from signals.house import active_rules
from signals.models import Signal
from signals.pipeline import Pipeline
from signals.sources import simulated
from tests.desk_cast import approver, prepare, trader
from tests.oracle import best_profit, one_true

MINUTES = float(os.environ.get("MPX_DESK_MINUTES", "1.5"))
START = 1_780_000_000_000_000_000
PASS_NS = 100_000_000
EVENTS = 30

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300 + 240 * MINUTES)]


class Shift:
    """One run: pipeline, desk, two people, and an oracle that looks over their shoulders."""

    def __init__(self) -> None:
        publish_missing(at=moment(START))
        self.pipeline = Pipeline(active_rules())
        self.desk = Desk(
            self.pipeline.books, terms=PaperTerms(latency_ms=250, leg_gap_ms=20), started=START
        )
        self.dana, self.avi = trader("dana"), approver("avi")
        self.due = START
        self.met: dict[int, dict[str, tuple[Ladder, Ladder]]] = {}  # ladders the legs met
        self.looked = 0
        self.answers: Counter[str] = Counter()

    def run(self, minutes: float) -> None:
        for frame in simulated(seed=11, events=EVENTS, start=START):
            if frame.t > START + minutes * 60e9:
                break
            step = self.pipeline.feed(frame)
            if step.events:
                catalogue.store(step.events, seen_at=moment(frame.t))
            store.save(step.changes)
            self.desk.on_frame(frame.t)
            self._look_over_shoulders()
            if frame.t >= self.due:
                self.due = frame.t + PASS_NS
                self._pass(frame.t)
        store.save(self.pipeline.stop())
        for _ in range(40):  # what is under way comes to its end
            self.due += PASS_NS * 10
            self.desk.on_frame(self.due)
            self.desk.on_time(self.due)
            self._look_over_shoulders()
            self._work(moment(self.due))

    def _pass(self, t: int) -> None:
        at = moment(t)
        self.desk.on_time(t)
        self._look_over_shoulders()
        self._work(at)
        intents.expire_due(at=at)
        for signal in Signal.objects.open().filter(level__in=("P1", "P2"), intents=None):
            self._trade(signal, at)

    def _work(self, at: datetime) -> None:
        self.desk.work(at=at)
        self.looked = 0  # every answer is stored

    def _trade(self, signal: Signal, at: datetime) -> None:
        seen = intents.preview(signal, at=at)
        if not seen.verdict.ok:
            self.answers["not proposed: " + ", ".join(seen.verdict.names)] += 1
            return
        answer = intents.suggest(signal, by=self.dana, at=at)
        if answer.applied and answer.intent:
            given = {"by": self.avi, "at": at, "plan_hash": answer.intent.plan_hash}
            approved = intents.approve(answer.intent.pk, **given)
            self.answers["approved" if approved.applied else "refused"] += 1

    def _look_over_shoulders(self) -> None:
        """Keep the ladders of an event's markets as each leg met them."""
        reports = list(self.desk.broker.reports)
        for report in reports[self.looked :]:
            intent_id, _, seq = report.ticket.key
            if seq == fills.BUY and isinstance(report.result, Match):
                book = self.pipeline.books.by_market[report.ticket.condition_id]
                seen = (book.asks_of(0), book.asks_of(1))
                self.met.setdefault(intent_id, {})[report.ticket.market_id] = seen
        self.looked = len(reports)

    def best_possible(self, intent: OrderIntent) -> float:
        """Return the LP optimum over the books that the intent's legs met, at its own moment."""
        met = self.met[intent.pk]
        terms = {m.market_id: m for e in self.pipeline.events.values() for m in e.markets}
        sides, fees = [], []
        for outcome in (0, 1):
            for market_id, ladders in met.items():
                sides.append(ladders[outcome])
                fees.append(terms[market_id].fee or FREE)
        if intent.kind == "binary":
            return best_profit(sides, fees, [[1, 0], [0, 1]])
        or_none = intent.kind != "yes_basket"  # its legs are all that can still win
        return best_profit(sides, fees, one_true(len(met), or_none=or_none))


def test_desk_captures_profit_and_never_more_than_there_was(settings):
    prepare()
    settings.EXEC_MAX_DAILY_NOTIONAL = D(10_000_000)
    settings.EXEC_MAX_CONCURRENT_ORDERS = 50
    settings.EXEC_MAX_EVENT_EXPOSURE = D(100_000)
    shift = Shift()

    shift.run(MINUTES)

    told = figures(shift)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    if path := os.environ.get("MPX_DESK_REPORT"):
        Path(path).write_text(json.dumps(told, indent=1))
    done = OrderIntent.objects.filter(status="FILLED", unwind_cost=0)
    for intent in done:
        captured = float(intent.locked_payoff - intent.spent)
        assert captured <= shift.best_possible(intent) + 1e-6, intent
    assert done.exists()
    assert not OrderIntent.objects.open().exists()
    assert invariants(moment(shift.due)) == ()


def figures(shift: Shift) -> dict[str, Any]:
    ended = OrderIntent.objects.exclude(approved_at=None)
    filled = [intent for intent in ended if intent.status == "FILLED"]
    legs = IntentLeg.objects.all()
    captured = sum((i.locked_payoff - i.spent + i.recovered for i in ended), D(0))
    best = sum(shift.best_possible(intent) for intent in filled if intent.unwind_cost == 0)
    clean = sum((i.locked_payoff - i.spent for i in filled if i.unwind_cost == 0), D(0))
    totals = positions.totals()
    return {
        "simulated_minutes": MINUTES,
        "frames": shift.pipeline.frames,
        "signals": Signal.objects.filter(level__in=("P1", "P2")).count(),
        "intents": dict(Counter(OrderIntent.objects.values_list("status", flat=True))),
        "answers": dict(shift.answers),
        "legs": dict(Counter(legs.values_list("state", flat=True))),
        "leg_failures": dict(
            Counter(
                r.split(":")[0]
                for r in legs.filter(state="FAILED").values_list("reason", flat=True)
            )
        ),
        "fills": Fill.objects.count(),
        "planned_profit_usd": str(sum((i.min_payoff - i.cost for i in ended), D(0))),
        "captured_usd": str(captured),
        "captured_of_clean_fills_usd": str(clean),
        "lp_optimum_of_clean_fills_usd": round(best, 6),
        "unwind_cost_usd": str(sum((i.unwind_cost for i in ended), D(0))),
        "fees_usd": str(totals.fees),
        "realised_usd": str(totals.realised),
        "locked_usd": str(totals.locked),
    }
