"""A desk at work on the simulated venue, with an oracle that looks over its shoulders.

Somebody proposes each open signal and somebody else approves it at once, by the same
functions as on any desk; time is that of the frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal as D
from typing import Any

from execution import fills, intents, positions
from execution.desk import Desk
from execution.matching import Match
from execution.models import Fill, IntentLeg, OrderIntent
from execution.paper import PaperTerms
from markets import catalogue
from markets.fills import FREE, Ladder
from markets.frames import moment
from markets.simulator import World, frames
from rules.load import publish_missing
from signals import store
from signals.house import active_rules
from signals.models import Signal
from signals.pipeline import Pipeline
from tests.desk_cast import approver, trader
from tests.oracle import best_profit, one_true

START = 1_780_000_000_000_000_000
PASS_NS = 100_000_000
AGAIN_NS = 1_000_000_000  # until a refused signal is tried again
MINUTE_NS = 60_000_000_000
BASKETS = ("binary", "yes_basket", "no_basket")  # what the oracle knows the states of


class Shift:
    """One run: pipeline, desk, two people, and the ladders that each leg met."""

    def __init__(self, *, seed: int = 11, events: int = 30) -> None:
        publish_missing(at=moment(START))
        self.seed, self.events = seed, events
        self.pipeline = Pipeline(active_rules())
        self.desk = Desk(
            self.pipeline.books, terms=PaperTerms(latency_ms=250, leg_gap_ms=20), started=START
        )
        self.dana, self.avi = trader("dana"), approver("avi")
        self.due = START
        self.answers: Counter[str] = Counter()
        self._met: dict[int, dict[str, tuple[Ladder, Ladder]]] = {}
        self._looked = 0
        self._again: dict[int, int] = {}  # refused signals, and when each is tried again

    def run(self, minutes: float, *, each_minute: Callable[[int], None] | None = None) -> None:
        """Work for so many minutes of simulated time, then let what is under way end."""
        told = 0
        for frame in frames(World(seed=self.seed, events=self.events, start=START)):
            if frame.t > START + minutes * MINUTE_NS:
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
            if each_minute and frame.t - START >= (told + 1) * MINUTE_NS:
                told += 1
                each_minute(told)
        store.save(self.pipeline.stop())
        self._end()

    def _end(self) -> None:
        for _ in range(40):
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
        waiting = Signal.objects.open().filter(level__in=("P1", "P2"), intents=None)
        for signal in waiting.order_by("id"):
            if self._again.get(signal.pk, 0) <= t:
                self._again[signal.pk] = t + AGAIN_NS
                self._trade(signal, at)

    def _work(self, at: datetime) -> None:
        self.desk.work(at=at)
        self._looked = 0  # every answer is stored

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
        for report in reports[self._looked :]:
            intent_id, _, seq = report.ticket.key
            if seq == fills.BUY and isinstance(report.result, Match):
                book = self.pipeline.books.by_market[report.ticket.condition_id]
                seen = (book.asks_of(0), book.asks_of(1))
                self._met.setdefault(intent_id, {})[report.ticket.market_id] = seen
        self._looked = len(reports)

    def best_possible(self, intent: OrderIntent) -> float:
        """Return the LP optimum over the books that the intent's legs met, at its own moment."""
        assert intent.kind in BASKETS, intent.kind
        met = self._met[intent.pk]
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

    def clean(self) -> list[OrderIntent]:
        """Return filled orders of which nothing had to be unwound."""
        return list(OrderIntent.objects.filter(status="FILLED", unwind_cost=0).order_by("id"))

    def over_optimum(self) -> list[str]:
        """Name each clean fill that earned more than the LP says there was (1e-6 USD)."""
        found = []
        for intent in self.clean():
            captured, best = float(intent.locked_payoff - intent.spent), self.best_possible(intent)
            if captured > best + 1e-6:
                found.append(f"{intent}: {captured:.6f} of {best:.6f}")
        return found


def figures(shift: Shift, *, minutes: float) -> dict[str, Any]:
    """Return what was captured, what failed, and what unwinding cost. Money in USD."""
    ended = OrderIntent.objects.exclude(approved_at=None)
    clean, legs, totals = shift.clean(), IntentLeg.objects.all(), positions.totals()
    reasons = legs.filter(state="FAILED").values_list("reason", flat=True)
    best = sum(shift.best_possible(intent) for intent in clean)
    earned = sum((i.locked_payoff - i.spent for i in clean), D(0))
    return {
        "simulated_minutes": minutes,
        "frames": shift.pipeline.frames,
        "signals": Signal.objects.filter(level__in=("P1", "P2")).count(),
        "intents": dict(Counter(OrderIntent.objects.values_list("status", flat=True))),
        "answers": dict(shift.answers.most_common()),
        "legs": dict(Counter(legs.values_list("state", flat=True))),
        "leg_failures": dict(Counter(reason.split(":")[0] for reason in reasons)),
        "fills": Fill.objects.count(),
        "planned_profit": str(sum((i.min_payoff - i.cost for i in ended), D(0))),
        "captured": str(sum((i.locked_payoff - i.spent + i.recovered for i in ended), D(0))),
        "captured_by_clean_fills": str(earned),
        "lp_optimum_of_clean_fills": round(best, 6),
        "clean_fills": len(clean),
        "over_optimum": shift.over_optimum(),
        "unwind_cost": str(sum((i.unwind_cost for i in ended), D(0))),
        "unwound_orders": ended.exclude(recovered=0).count(),
        "fees": str(totals.fees),
        "realised": str(totals.realised),
        "locked": str(totals.locked),
    }
