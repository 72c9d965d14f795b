"""Random days at the desk: whatever is done in whatever order, no illegal state is reached."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal as D
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from execution import fills, intents, positions
from execution.invariants import invariants
from execution.models import Fill, OrderIntent
from markets.models import Market
from risk import breakers, killswitch, limits
from risk.models import KillSwitch
from rules.kernel.finding import EventView
from signals.models import Signal
from tests.desk_cast import Venue, approver, basket, close, endgame, person, prepare, trader

pytestmark = pytest.mark.django_db
PEOPLE = ("dana", "eli", "avi", "bob", "both", "vera")
TRADERS = ("dana", "dana", "dana", "eli", "both", "vera")  # mostly somebody who may
APPROVERS = ("avi", "avi", "avi", "bob", "both", "dana")
CLOSED = {"FILLED", "REJECTED", "EXPIRED", "CANCELLED", "FAILED"}
CAPS = {"order_notional": D(200), "concurrent_orders": 2, "daily_notional": D(1000),
        "event_exposure": D(400)}  # fmt: skip


REACHED: set[str] = set()  # by any example, so that we know the machine gets somewhere


class Desk(RuleBasedStateMachine):
    """Two baskets and a bet, six people, a venue that moves, and every public step of the desk."""

    orders = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.seen: dict[int, str] = {}
        self.keys: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        REACHED.update(OrderIntent.objects.values_list("status", flat=True))
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize()
    def open_the_desk(self) -> None:
        prepare()
        self.people = {
            "dana": trader("dana"), "eli": trader("eli"), "avi": approver("avi"),
            "bob": approver("bob"), "both": person("both", "trader", "approver"),
            "vera": person("vera", "viewer"),
        }  # fmt: skip
        opened = [self.open_signal(event, f"{event:032x}") for event in range(3)]
        self.views = [view for view, _ in opened]
        self.signals = [signal for _, signal in opened]
        self.venue = Venue(self.views).watched()
        self.count = 0

    def open_signal(self, event: int, key: str) -> tuple[EventView, Signal]:
        """Open a signal of an event: the last is an endgame, the others are baskets."""
        if event == 2:
            return endgame(event_id="9", key=key, bankroll=150)
        return basket(event_id=str(7 + event), key=key)

    # --- people ------------------------------------------------------------------------

    @rule(target=orders, event=some.integers(0, 2), who=some.sampled_from(TRADERS),
          capital=some.sampled_from([None, D(8), D(30), D(90)]),
          rehearsal=some.sampled_from(["", "", "", "UNKNOWN", "LEG_FAILS"]))  # fmt: skip
    def suggest(self, event: int, who: str, capital: D | None, rehearsal: str) -> Any:
        answer = intents.suggest(
            self.signals[event], by=self.people[who], at=self.venue.now, capital=capital,
            rehearsal=rehearsal,
        )  # fmt: skip
        assert answer.applied is (answer.intent is not None and answer.intent.status == "SUGGESTED")
        return answer.intent.pk if answer.intent else multiple()

    @rule(
        order=orders, who=some.sampled_from(APPROVERS), old=some.sampled_from([False] * 5 + [True])
    )
    def approve(self, order: int, who: str, old: bool) -> None:
        before = OrderIntent.objects.get(pk=order)
        shown = "0" * 64 if old else before.plan_hash
        answer = intents.approve(order, by=self.people[who], at=self.venue.now, plan_hash=shown)

        if answer.applied:
            assert before.status == "SUGGESTED" and not old
            assert who in ("avi", "bob", "both") and who != before.proposer.username
            assert not KillSwitch.objects.get().tripped
        assert answer.applied is answer.verdict.ok
        assert answer.applied or answer.reasons

    @rule(order=orders, who=some.sampled_from(APPROVERS))
    def approve_twice_with_one_key(self, order: int, who: str) -> None:
        plan_hash = OrderIntent.objects.get(pk=order).plan_hash
        key = f"{order}-{who}-{plan_hash}"

        def ask() -> dict[str, Any]:
            answer = intents.approve(
                order, by=self.people[who], at=self.venue.now, plan_hash=plan_hash,
                idempotency_key=key,
            )  # fmt: skip
            return {"applied": answer.applied, "reasons": answer.reasons}

        first = self.keys.setdefault(key, ask())
        assert ask() == first

    @rule(order=orders, who=some.sampled_from(PEOPLE), reason=some.sampled_from(["", "no"]))
    def reject(self, order: int, who: str, reason: str) -> None:
        self.step(order, lambda: intents.reject(
            order, by=self.people[who], at=self.venue.now, reason=reason))  # fmt: skip

    @rule(order=orders, who=some.sampled_from(PEOPLE))
    def cancel(self, order: int, who: str) -> None:
        self.step(order, lambda: intents.cancel(order, by=self.people[who], at=self.venue.now))

    @rule(order=orders, who=some.sampled_from(PEOPLE), capital=some.sampled_from([None, D(20)]))
    def revise(self, order: int, who: str, capital: D | None) -> None:
        self.step(order, lambda: intents.revise(
            order, by=self.people[who], at=self.venue.now, capital=capital))  # fmt: skip

    def step(self, order: int, act: Callable[[], intents.Answer]) -> None:
        before = OrderIntent.objects.get(pk=order).status
        answer = act()
        after = OrderIntent.objects.get(pk=order).status
        assert answer.applied or after == before
        assert not (answer.applied and before in CLOSED)

    @rule(who=some.sampled_from(PEOPLE), then=some.sampled_from(["", "fill", "sweep"]))
    def kill_switch_for_a_while(self, who: str, then: str) -> None:
        """Trip it, let something happen, and let everybody try to re-arm it."""
        tripped = killswitch.trip(reason="drill", at=self.venue.now, by=self.people[who]).done
        before = Fill.objects.count()
        if then:
            getattr(self, then)()
        assert not (tripped and Fill.objects.count() > before)
        for name in PEOPLE:
            done = killswitch.rearm(reason="over", at=self.venue.now, by=self.people[name]).done
            assert not (done and (name == who or name not in ("avi", "bob", "both")))

    @rule(who=some.sampled_from(PEOPLE), daily=some.sampled_from([D(150), D(1000), None, None]))
    def change_limit(self, who: str, daily: D | None) -> None:
        try:
            changed = limits.change(
                by=self.people[who], at=self.venue.now, reason="x", daily_notional=daily
            )
        except limits.BadLimit:
            return
        if changed.change and not changed.applied:
            limits.confirm(changed.change.pk, by=self.people["bob"], at=self.venue.now)

    @rule(who=some.sampled_from(PEOPLE), event=some.integers(0, 2))
    def reset_breaker(self, who: str, event: int) -> None:
        given = {"by": self.people[who], "at": self.venue.now, "reason": "fine"}
        rule = "ENDGAME_SWEEP" if event == 2 else "DUTCH_BOOK_DETECT"
        breakers.reset(scope="RULE", subject=rule, **given)

    # --- the venue and time ------------------------------------------------------------

    @rule()
    def fill(self) -> None:
        self.venue.fill()

    @rule(event=some.integers(0, 2), leg=some.integers(0, 2),
          ask=some.sampled_from([29, 30, 33, 96, 97, 98]),
          size=some.sampled_from([0, 7, 40, 100, 300]))  # fmt: skip
    def move_an_ask(self, event: int, leg: int, ask: int, size: int) -> None:
        markets = self.views[event].markets
        market = markets[leg % len(markets)].terms.market_id
        self.venue.change(market, "SELL", ask / 100, size)

    @rule(event=some.integers(0, 2), leg=some.integers(0, 2), size=some.sampled_from([0, 50, 100]))
    def move_a_bid(self, event: int, leg: int, size: int) -> None:
        markets = self.views[event].markets
        market = markets[leg % len(markets)].terms.market_id
        self.venue.change(market, "BUY", 0.28, size)

    @rule(seconds=some.sampled_from([0.2, 0.2, 5, 12, 200]))
    def let_time_pass(self, seconds: float) -> None:
        self.venue.at += round(seconds * 1e9)
        self.venue.nudge()
        self.venue.watched()

    @rule()
    def sweep(self) -> None:
        intents.expire_due(at=self.venue.now)
        fills.give_up_lost(at=self.venue.now)
        positions.settle_resolved(at=self.venue.now)

    @rule()
    def cut_the_connection(self) -> None:
        self.venue.cut()
        for view in self.views:
            self.venue.open(view)

    @rule()
    def restart_the_stream(self) -> None:
        self.venue.restart()
        self.venue.desk.remember(at=self.venue.now)
        self.venue.watched()

    @rule(event=some.integers(0, 2))
    def refill_the_books(self, event: int) -> None:
        """The venue offers what it did at first."""
        self.venue.nudge()
        self.venue.open(self.views[event])
        self.venue.watched()

    @rule(target=orders, event=some.integers(0, 2), second=some.sampled_from(["avi", "bob"]),
          capital=some.sampled_from([None, D(30)]), fills=some.booleans())  # fmt: skip
    def trade(self, event: int, second: str, capital: D | None, fills: bool) -> Any:
        """What people mostly do: dana proposes, another approves, the venue fills."""
        self.refill_the_books(event)
        order = self.suggest(event, "dana", capital, "")
        if isinstance(order, int):
            self.approve(order, second, False)
        if fills:
            self.venue.fill()
        return order

    @rule(event=some.integers(0, 2))
    def signal_closes_and_another_opens(self, event: int) -> None:
        close(self.signals[event], at=self.venue.now)
        self.count += 1
        self.signals[event] = self.open_signal(event, f"{self.count + 2:032x}")[1]

    @rule(order=orders)
    def its_market_pauses_for_a_while(self, order: int) -> None:
        legs = OrderIntent.objects.get(pk=order).plan["legs"]
        Market.objects.filter(pk=legs[0]["market_id"]).update(state="PAUSED")
        self.venue.fill()
        Market.objects.update(state="TRADABLE")

    # --- what holds after every step ---------------------------------------------------

    @invariant()
    def record_holds(self) -> None:
        if hasattr(self, "venue"):
            broken = invariants(self.venue.now)
            assert not [each for each in broken if each.rule != "expiry"], broken

    @invariant()
    def what_is_closed_stays_closed(self) -> None:
        for pk, status in OrderIntent.objects.values_list("pk", "status"):
            before = self.seen.get(pk, "")
            assert before not in CLOSED or status == before, (before, status)
            assert before != "APPROVED" or status in ("APPROVED", "FILLED", "FAILED", "CANCELLED")
            self.seen[pk] = status

    @invariant()
    def caps_hold(self) -> None:
        open_now = OrderIntent.objects.open()
        assert open_now.count() <= CAPS["concurrent_orders"]
        assert all(intent.notional <= CAPS["order_notional"] for intent in open_now)
        assert sum(intent.worst_loss for intent in open_now) <= 2 * CAPS["event_exposure"]
        assert OrderIntent.objects.filter(approved_at__isnull=False).notional() <= 1000

    @invariant()
    def every_fill_was_approved_by_another(self) -> None:
        for fill in Fill.objects.select_related("intent"):
            assert fill.intent.approver_id not in (None, fill.intent.proposer_id)


@pytest.mark.timeout(240)
def test_no_order_of_steps_reaches_an_illegal_state():
    run_state_machine_as_test(
        Desk,
        settings=hypothesis(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert REACHED & {"FILLED", "FAILED"}, REACHED
