"""Bets: an endgame becomes an order of one leg that never counts as certain, won or lost."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from execution import intents, positions
from execution.invariants import invariants
from execution.models import IntentEvent, OrderIntent, PositionEntry
from execution.plans import Basis, NoPlan, Plan, Sight, basis_of, excess, make_plan, read_plan
from markets.fills import Ladder
from markets.models import Market
from risk import limits
from risk.models import Breaker
from rules.kernel.finding import EventView, Finding
from signals.models import Signal
from tests.desk_cast import (
    NOW,
    Venue,
    approved,
    approver,
    certain,
    endgame,
    history,
    near_end,
    prepare,
    trader,
)
from tests.portal_cast import START
from tests.worlds import ladder


def basis(finding: Finding) -> Basis:
    return basis_of(signal_key="k" * 32, rule="ENDGAME_SWEEP", payload=finding.explained())


def seen(view: EventView, asks: Ladder | None = None, **changes: Any) -> dict[str, Sight]:
    (market,) = view.markets
    values = {"book_state": "fresh", "epoch": 1, "age_ms": 10, **changes}
    sight = Sight(terms=market.terms, outcome=0, ladder=asks or market.asks[0], **values)
    return {market.terms.token_ids[0]: sight}


def planned(finding: Finding, sights: dict[str, Sight], **given: Any) -> Plan | NoPlan:
    values = {"capital": D(10_000), "slippage_bps": 80, "at": START, **given}
    return make_plan(basis(finding), sights, **values)


def plan(view: EventView, *, bankroll: float = 100, **given: Any) -> Plan:
    made = planned(certain(view, bankroll_usd=bankroll), seen(view), **given)
    assert isinstance(made, Plan), made
    return made


# --- the plan ------------------------------------------------------------------------


def test_bet_is_the_leg_of_its_finding_and_counts_as_lost():
    view = near_end((0.970, 10), (0.972, 1000))
    (leg,) = certain(view, bankroll_usd=100).legs

    made = plan(view)

    (ours,) = made.legs
    assert (ours.token_id, ours.size, ours.limit_price, ours.cost) == (
        leg.token_id, leg.size, leg.limit_price, leg.cost,
    )  # fmt: skip
    assert (made.structure, made.instant, made.min_payoff) == ("bet", False, 0)
    assert made.worst_loss == made.notional == ours.max_cost
    assert made.profit == -made.cost
    assert "does not come true" in made.worst_case
    assert made.worst_state == f"{ours.market_id}=No"


def test_what_is_expected_is_the_rules_own_number_and_no_part_of_what_is_signed():
    view = near_end()
    finding = certain(view, bankroll_usd=100)

    made = plan(view)

    assert made.expected_gain == pytest.approx(D(dict(finding.facts)["ev_usd"]), abs=D("0.01"))
    assert replace(made, expected_gain=D(99)).hash == made.hash
    assert "expected" in made.found and "can be lost" in made.found


def test_bet_is_never_larger_than_its_rule_sizes_it_nor_than_the_capital():
    view = near_end()
    (leg,) = certain(view, bankroll_usd=100).legs

    assert plan(view).legs[0].size == leg.size
    assert plan(view, capital=D(10)).notional <= 10
    assert plan(view, capital=D(10)).bound_by == "capital"


def test_bet_takes_no_level_that_its_finding_does_not():
    view = near_end((0.970, 50))
    finding = certain(view, bankroll_usd=1000)

    made = planned(finding, seen(view, ladder((0.970, 20), (0.971, 500))))

    assert isinstance(made, Plan)
    assert (made.legs[0].size, made.legs[0].limit_price) == (20, D("0.9700"))


def test_no_level_beyond_the_slippage_is_taken():
    view = near_end((0.970, 20), (0.975, 500))

    made = planned(certain(view), seen(view), slippage_bps=10)

    assert isinstance(made, Plan)
    assert (made.legs[0].size, made.legs[0].limit_price) == (20, D("0.9700"))


def test_return_a_year_is_that_of_what_is_expected():
    made = plan(near_end())

    assert made.annualised_pct == pytest.approx(made.expected_gain / made.cost * 36500, abs=D(1))


@pytest.mark.parametrize(
    ("asks", "reason"),
    [(((0.94, 500),), "other_band"), (((0.985, 500),), "other_band"),
     (((0.975, 500),), "one_sided"), (((0.970, 3),), "min_size")],
)  # fmt: skip
def test_book_that_its_history_does_not_speak_of_is_no_bet(asks, reason):
    """A price that fell out of its band is news, however much it seems to earn."""
    view = near_end()

    made = planned(certain(view), seen(view, ladder(*asks)))

    assert made == NoPlan((reason,))
    assert made.text


def test_bet_survives_its_way_through_the_database():
    made = plan(near_end())

    again = read_plan(json.loads(json.dumps(made.row())))

    assert (again, again.hash) == (made, made.hash)


def test_plan_that_was_stored_before_there_were_bets_is_read():
    row = plan(near_end()).row()

    older = {key: value for key, value in row.items() if key not in ("bet", "expected_gain")}

    assert read_plan(older).bet is None


def test_part_of_a_bet_is_kept_to_the_last_share():
    made = plan(near_end())

    assert excess(made, filled={1: D("7.123456")}, paid={1: D("6.9")}) == {1: 0}
    assert made.payoff_of([D("7.123456")]) == 0


@given(
    asks=some.lists(some.tuples(some.integers(955, 985), some.integers(1, 400)), min_size=1,
                    max_size=4, unique_by=lambda level: level[0]),
    bankroll=some.integers(20, 2000), capital=some.integers(3, 400),
    slippage=some.sampled_from([0, 80, 500]),
)  # fmt: skip
@hypothesis(max_examples=150, deadline=None)
def test_any_bet_stays_within_its_stake_its_limit_and_the_capital(
    asks, bankroll, capital, slippage
):
    view = near_end()
    finding = certain(view, bankroll_usd=bankroll)
    offered = ladder(*((price / 1000, size) for price, size in sorted(asks)))

    made = planned(finding, seen(view, offered), capital=D(capital), slippage_bps=slippage)

    if isinstance(made, NoPlan):
        return
    (leg,), (told,) = made.legs, finding.legs
    assert leg.size <= told.size and leg.limit_price <= told.limit_price
    assert made.cost <= made.notional <= capital
    assert (made.min_payoff, made.worst_loss) == (0, made.notional)
    assert made.expected_gain is not None and made.expected_gain > 0


# --- what is no order ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spike", "imbalance", "trend"])
def test_direction_is_no_order(kind):
    view = near_end()
    direction = replace(certain(view), kind=kind, legs=())

    made = planned(direction, seen(view))

    assert made == NoPlan(("not_certain",))
    assert "a direction, not an order" in made.text


def test_bet_without_enough_history_says_so():
    view = near_end()

    made = planned(certain(view, history(20, 0)), seen(view))

    assert made == NoPlan(("insufficient_data",))
    assert "too little history" in made.text


# --- a day at the desk ---------------------------------------------------------------


def bet(*levels: tuple[float, float], **sizes: float) -> tuple[EventView, Signal, Venue]:
    """Return the event, its signal as stored, and a venue that shows its book."""
    prepare()
    view, signal = endgame(*levels, **sizes)
    return view, signal, Venue([view]).watched()


def held_order(signal: Signal, venue: Venue, **given: Any) -> OrderIntent:
    """Suggest, approve and fill."""
    order = approved(signal, trader("dana"), approver("avi"), at=venue.now, **given)
    venue.fill()
    order.refresh_from_db()
    return order


def resolve(view: EventView, payout: int, venue: Venue) -> positions.Totals:
    Market.objects.update(payout=payout, state="RESOLVED")
    assert positions.settle_resolved(at=venue.now) == 1
    return positions.totals()


def broken(venue: Venue) -> list[Any]:
    return [each for each in invariants(venue.now) if each.rule != "p1_is_alerted"]


@pytest.mark.django_db
@pytest.mark.parametrize("payout", [1, 0], ids=["won", "lost"])
def test_bet_is_suggested_approved_filled_held_and_settled(payout):
    view, signal, venue = bet()

    order = held_order(signal, venue)

    assert (signal.level, order.status, order.kind) == ("P2", "FILLED", "endgame")
    assert (order.locked_payoff, order.min_payoff, order.recovered) == (0, 0, 0)
    assert order.worst_loss == order.notional >= order.spent > 0
    (held,) = positions.by_event()
    assert (held.cost, held.worst_value, held.worst_loss) == (order.spent, 0, order.spent)
    assert broken(venue) == []
    done = resolve(view, payout, venue)
    size = order.legs.get().filled
    assert done.realised == (size - order.spent if payout else -order.spent)
    assert (done.locked, positions.by_event()) == (0, ())
    assert broken(venue) == []


@pytest.mark.django_db
def test_part_of_a_bet_is_kept_and_nothing_is_sold():
    _, signal, venue = bet()
    order = approved(signal, trader("dana"), approver("avi"), at=venue.now)
    venue.change(order.legs.get().market_id, "SELL", 0.970, 12)

    venue.fill()

    order.refresh_from_db()
    leg = order.legs.get()
    assert (order.status, leg.state, leg.filled, leg.unwind) == ("FILLED", "PARTIAL", 12, "")
    assert set(PositionEntry.objects.values_list("kind", flat=True)) == {"BUY"}
    assert not Breaker.objects.exclude(failures=0).exists()
    assert broken(venue) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rehearsal", "status"), [("LEG_FAILS", "FAILED"), ("UNKNOWN", "FILLED")]
)  # fmt: skip
def test_failures_of_a_bet_can_be_rehearsed(rehearsal, status):
    _, signal, venue = bet()

    order = held_order(signal, venue, rehearsal=rehearsal)
    venue.wait(12)
    venue.nudge()
    venue.work()

    order.refresh_from_db()
    assert order.status == status
    assert broken(venue) == []


@pytest.mark.django_db
@pytest.mark.parametrize("price", [0.95, 0.60])
def test_price_that_falls_before_the_fill_buys_nothing(price):
    """Of a basket cheaper is better; of a bet it is news that history does not know."""
    _, signal, venue = bet()
    order = approved(signal, trader("dana"), approver("avi"), at=venue.now)
    market = order.legs.get().market_id
    venue.change(market, "BUY", 0.965, 0)
    venue.change(market, "SELL", price, 500)

    venue.fill()

    order.refresh_from_db()
    assert (order.status, order.spent) == ("FAILED", 0)
    assert "Slippage" in order.reason
    assert broken(venue) == []


@pytest.mark.django_db
def test_what_is_held_already_is_not_bet_again():
    _, signal, venue = bet()
    first = held_order(signal, venue, capital=D(10))
    venue.open(near_end())
    venue.watched()

    second = held_order(signal, venue)
    third = intents.preview(signal, at=venue.now)

    told = D(signal.payload["legs"][0]["size"])
    assert first.legs.get().filled + second.legs.get().filled == pytest.approx(told, abs=D("0.02"))
    assert third.plan is None
    (check,) = third.verdict.failed
    assert "held" in check.value or "minimum" in check.value
    assert broken(venue) == []


@pytest.mark.django_db
def test_whole_cost_counts_in_the_exposure_of_the_event():
    _, signal, venue = bet(bankroll=400)
    held_order(signal, venue, capital=D(20))
    limits.change(by=approver("avi"), at=NOW, reason="less", event_exposure=D(30))
    venue.open(near_end())
    venue.watched()

    verdict = intents.preview(signal, at=venue.now, capital=D(20)).verdict

    (check,) = verdict.failed
    assert check.name == "EVENT_EXPOSURE"
    assert "legs stay open" not in check.advice


@pytest.mark.django_db
def test_checks_say_that_its_return_is_expected():
    _, signal, venue = bet()

    checks = {each.name: each for each in intents.preview(signal, at=venue.now).verdict.checks}

    assert "can be lost" in checks["EXECUTABLE"].value
    assert checks["MIN_RETURN"].value.endswith("% a year expected")


@pytest.mark.django_db
def test_direction_is_refused_with_what_to_do():
    _, signal, venue = bet()
    Signal.objects.update(kind="spike", payload={**signal.payload, "kind": "spike", "legs": []})
    signal.refresh_from_db()

    answer = intents.suggest(signal, by=trader("dana"), at=venue.now)

    (check,) = answer.verdict.failed
    assert (answer.intent, check.name) == (None, "EXECUTABLE")
    assert "a direction, not an order" in check.value
    assert "Look at its market" in check.advice


@pytest.mark.django_db
@pytest.mark.parametrize(
    "bent",
    [{"min_payoff": "50.000000"}, {"worst_loss": "1.000000"}, {"expected_gain": None},
     {"expected_gain": "-1.000000"}],
)  # fmt: skip
def test_bet_that_claims_to_be_more_is_named(bent):
    _, signal, venue = bet()
    order = held_order(signal, venue)

    OrderIntent.objects.update(plan={**order.plan, **bent})

    assert "plan_bet" in {each.rule for each in broken(venue)}


@pytest.mark.django_db
def test_bet_that_is_cancelled_in_time_ends_without_a_purchase():
    _, signal, venue = bet()
    dana = trader("dana")
    order = approved(signal, dana, approver("avi"), at=venue.now)

    intents.cancel(order.pk, by=dana, at=venue.now)

    order.refresh_from_db()
    assert (order.status, order.spent) == ("CANCELLED", 0)
    assert IntentEvent.objects.filter(intent=order, kind="INCOMPLETE").count() == 0
