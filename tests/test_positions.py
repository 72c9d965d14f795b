"""Positions: what is held, what it pays at worst, how baskets become cash, what was earned."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from itertools import product

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some

from alerts.models import AuditEntry
from execution import positions
from execution.holdings import (
    Group,
    Holding,
    Movement,
    Oversold,
    fold,
    layers,
    shared_out,
    worst_loss,
    worst_value,
)
from execution.invariants import invariants
from execution.models import OrderIntent, PositionEntry
from markets.models import Event, Market, Quote
from signals.models import Signal
from tests.desk_cast import Venue, approved, approver, basket, prepare, trader
from tests.portal_cast import finding_in, list_event, rule, tell
from tests.worlds import bids, event_view, fee, ladder, market_view


def move(shares: object, cash: object, token: str = "t", outcome: int = 0) -> Movement:
    return Movement(token, f"m{token}", outcome, D(str(shares)), D(str(cash)))


# --- folding -------------------------------------------------------------------------


def test_sale_earns_against_the_average_cost():
    held = fold([move(100, -30), move(100, -40), move(-50, 20)])["t"]

    assert (held.shares, held.cost, held.realised) == (D(150), D("52.5"), D("2.5"))


def test_last_share_takes_all_the_cost_with_it():
    held = fold([move(3, -1), move(-1, "0.4"), move(-2, "0.8")])["t"]

    assert (held.shares, held.cost) == (0, 0)
    assert held.realised == D("0.2")


def test_more_than_is_held_cannot_be_given_away():
    with pytest.raises(Oversold, match="5 shares of t"):
        fold([move(10, -3), move(-15, 5)])


amounts = some.integers(1, 1_000)


@given(some.lists(some.tuples(amounts, amounts, some.booleans()), max_size=12))
@hypothesis(deadline=None)
def test_money_is_neither_made_nor_lost(steps):
    held, moves = 0, []
    for shares, cents, buys in steps:
        size = shares if buys else min(shares, held)
        if size:
            held += size if buys else -size
            moves.append(move(size if buys else -size, D(-cents if buys else cents) / 100))

    for holding in fold(moves).values():
        paid = -sum(m.cash for m in moves)
        assert holding.shares == held
        assert abs(holding.cost - holding.realised - paid) < D("0.0001")


# --- the worst state -----------------------------------------------------------------

EVENT = Group("Cup", ("a", "b", "c"), True, True, {"a": 0, "b": 0, "c": 0}, {})


def held(**sizes: tuple[float, float]) -> list[Holding]:
    """Return holdings from `market_outcome=(shares, cost)`."""
    found = []
    for name, (shares, cost) in sizes.items():
        market, outcome = name.split("_")
        found.append(Holding(name, market, int(outcome), D(str(shares)), D(str(cost))))
    return found


def test_yes_of_every_outcome_loses_nothing():
    yes = held(a_0=(10, 3), b_0=(10, 3), c_0=(10, 3))

    assert worst_value(EVENT, yes) == 10
    assert worst_loss(EVENT, yes) == 0


def test_yes_of_an_event_that_is_not_exhaustive_can_lose_all():
    augmented = Group("Cup", ("a", "b", "c"), True, False, EVENT.yes, {})

    assert worst_loss(augmented, held(a_0=(10, 3), b_0=(10, 3), c_0=(10, 3))) == 9


def test_no_of_several_outcomes_loses_one():
    no = held(a_1=(10, 6), b_1=(8, 5))

    assert worst_value(EVENT, no) == 8
    assert worst_loss(EVENT, no) == 3


def test_settled_outcomes_pay_what_they_pay():
    over = Group("Cup", ("a", "b", "c"), True, True, EVENT.yes, {"a": D(1)})

    assert worst_value(over, held(a_0=(10, 3), b_1=(5, 4), c_0=(7, 1))) == 15


def test_market_on_its_own_pays_its_worse_side():
    alone = Group("Rain?", ("a",), False, False, {"a": 0}, {})

    assert worst_value(alone, held(a_0=(10, 4), a_1=(7, 3))) == 7


@given(
    sizes=some.lists(some.integers(0, 20), min_size=6, max_size=6),
    exhaustive=some.booleans(), won=some.sampled_from([None, 0, 1]),
)  # fmt: skip
@hypothesis(deadline=None)
def test_worst_state_is_the_least_of_all_states(sizes, exhaustive, won):
    """Against an enumeration of every state that an exclusive event allows."""
    names = [f"{market}_{outcome}" for market, outcome in product("abc", (0, 1))]
    have = held(**{name: (size, 0) for name, size in zip(names, sizes, strict=True)})
    payouts = {} if won is None else {"b": D(won)}
    group = Group("Cup", ("a", "b", "c"), True, exhaustive, EVENT.yes, payouts)

    states = [s for s in product((0, 1), repeat=3) if sum(s) <= 1]
    states = [s for s in states if won is None or s[1] == won]
    states = [s for s in states if sum(s) == 1 or not exhaustive]
    value = min(
        sum(h.shares for h in have if (s["abc".index(h.market_id)] == 1) is (h.outcome == 0))
        for s in states
    )
    assert worst_value(group, have) == value


def test_layers_of_unequal_no_legs():
    sizes = {"a": D(10), "b": D(4), "c": D(7), "d": D(0)}

    assert layers(sizes) == [(D(4), ("a", "b", "c")), (D(3), ("a", "c"))]


@given(amount=some.integers(0, 10**9), parts=some.integers(1, 7))
def test_money_is_shared_out_to_the_last_micro(amount, parts):
    total = D(amount).scaleb(-6)

    shares = shared_out(total, parts)

    assert sum(shares) == total
    assert max(shares) - min(shares) < D("0.00001")


# --- in the database -----------------------------------------------------------------

db = pytest.mark.django_db
postgres = pytest.mark.postgres


@pytest.fixture
def desk():
    prepare()


def filled(view, signal: Signal, **given) -> tuple[Venue, OrderIntent]:
    venue = Venue([view]).watched()
    intent = approved(signal, trader("dana"), approver("avi"), at=venue.now, **given)
    venue.fill()
    intent.refresh_from_db()
    assert intent.status == "FILLED", intent.reason
    assert invariants(venue.now) == ()
    return venue, intent


def no_basket() -> tuple:
    """Return an event whose bids add up to 1.30, the thinnest one lowest, and its signal."""
    markets = [
        market_view(700 + n, ladder((0.60, 50)), bids((bid, 100 - 20 * n)), fee=fee("0"),
                    event_id="7", leg_number=n, label=f"Outcome {n}")
        for n, bid in enumerate((0.50, 0.50, 0.30))
    ]  # fmt: skip
    view = event_view(markets)
    list_event(view)
    return view, tell("opened", finding_in(view), rule(), key="c" * 32)


@db
@postgres
def test_yes_basket_is_held_until_it_resolves(desk):
    view, signal = basket()
    _, intent = filled(view, signal)

    held_now = positions.by_event()[0]

    assert {p.shares for p in held_now.positions} == {D(100)}
    assert (held_now.cost, held_now.worst_value, held_now.worst_loss) == (intent.spent, 100, 0)
    assert held_now.locked_until == Market.objects.get(pk="800").end_at
    assert positions.totals().locked == intent.spent
    assert positions.totals().realised == 0


@db
@postgres
def test_no_basket_becomes_cash_at_once(desk):
    """80, 80 and 60 NO: 60 layers of three pay 2 each, 20 layers of two pay 1.

    What is left are 20 YES of the third outcome, which cost nothing.
    """
    view, signal = no_basket()
    _, intent = filled(view, signal)

    assert intent.kind == "no_basket"
    cash = PositionEntry.objects.filter(kind="CONVERT")
    assert sum(entry.cash for entry in cash) == intent.locked_payoff == 140
    left = {(p.token_id, p.shares, p.cost) for p in positions.positions() if p.shares}
    assert left == {("10702", D(20), D(0))}
    assert positions.totals().realised == 140 - intent.spent == 18


def add(venue: Venue, token: str, outcome: int, shares: int, cash: str) -> None:
    """Give the desk shares from elsewhere (a conversion is what could)."""
    PositionEntry.objects.create(
        at=venue.now, kind="CONVERT", token_id=token, market_id="800", outcome_index=outcome,
        shares=D(shares), cash=D(cash), audit_id=1,
    )  # fmt: skip


@db
@postgres
def test_what_was_held_once_is_looked_at_no_more(desk, django_assert_num_queries):
    """The risk page would take longer with every event that was ever traded."""
    view, signal = basket()
    venue, _ = filled(view, signal)
    Market.objects.filter(pk__in=("800", "801", "802")).update(payout=D(0), state="RESOLVED")
    positions.settle_resolved(at=venue.now)

    with django_assert_num_queries(2):
        assert positions.open_exposures() == ()


@db
@postgres
def test_complete_sets_are_merged_for_a_dollar_each(desk):
    view, signal = basket()
    venue, _ = filled(view, signal)
    add(venue, "20700", 1, 40, "-20")

    assert positions.merge_complete(at=venue.now) == 40
    assert positions.merge_complete(at=venue.now) == 0

    held_now = {p.token_id: p for p in positions.positions(market_ids=["800"])}
    assert (held_now["10700"].shares, held_now["20700"].shares) == (D(60), D(0))
    assert positions.totals().realised == 40 - 20 - 40 * D("0.3084")


@db
def test_both_sides_of_one_market_are_merged_with_their_order(desk):
    view, signal = basket()
    venue, intent = filled(view, signal)
    OrderIntent.objects.filter(pk=intent.pk).update(kind="binary")
    intent.refresh_from_db()
    PositionEntry.objects.create(
        at=venue.now, kind="CONVERT", token_id="20700", market_id="800", outcome_index=1,
        shares=D(25), cash=D(-10), audit_id=1, intent=intent,
    )  # fmt: skip

    assert positions.redeem(intent, at=venue.now) == 25

    assert sum(e.cash for e in PositionEntry.objects.filter(kind="MERGE", intent=intent)) == 25


@db
def test_sets_of_an_open_order_are_left_alone(desk):
    view, signal = basket()
    venue, intent = filled(view, signal)
    add(venue, "20700", 1, 40, "-20")
    OrderIntent.objects.filter(pk=intent.pk).update(status="APPROVED", closed_at=None)

    assert positions.merge_complete(at=venue.now) == 0


@pytest.mark.parametrize(
    ("payouts", "earned"),
    [((1, 0, 0), D("7.48")), ((0, 0, 1), D("7.48")), (("0.5", "0.5", 0), D("7.48")),
     ((0, 0, 0), D("-92.52"))],
    ids=["first wins", "last wins", "two share", "none"],
)  # fmt: skip
@db
@postgres
def test_venue_settles_what_is_held(desk, payouts, earned):
    view, signal = basket()
    venue, _ = filled(view, signal)
    for market, payout in zip(("800", "801", "802"), payouts, strict=True):
        Market.objects.filter(pk=market).update(payout=D(payout), state="RESOLVED")

    assert positions.settle_resolved(at=venue.now) == 3
    assert positions.settle_resolved(at=venue.now) == 0

    totals = positions.totals()
    assert totals.realised == earned
    assert totals.locked == 0
    assert AuditEntry.objects.filter(kind="position.settle").count() == 3
    assert invariants(venue.now) == ()


@db
def test_unresolved_markets_are_not_settled(desk):
    view, signal = basket()
    venue, _ = filled(view, signal)
    Market.objects.filter(pk="800").update(payout=D(1), state="RESOLVED")

    assert positions.settle_resolved(at=venue.now) == 1
    assert positions.by_event()[0].worst_value == 0  # its winner is paid out already


@db
def test_position_is_marked_at_the_bid_after_its_fee(desk):
    view, signal = basket()
    venue, _ = filled(view, signal)
    Quote.objects.create(
        market_id="800", bid=D("0.28"), ask=D("0.30"), bid_size=D(1), ask_size=D(1),
        state="fresh", at=venue.now,
    )  # fmt: skip

    marked = {p.token_id: p for p in positions.positions()}["10700"]

    assert marked.mark == D(28) - 100 * D("0.04") * D("0.28") * D("0.72")
    assert marked.unrealised == marked.mark - D("30.84")
    assert positions.totals().unmarked == 2


@db
def test_stale_quote_marks_nothing(desk):
    view, signal = basket()
    venue, _ = filled(view, signal)
    Quote.objects.create(market_id="800", bid=D("0.28"), state="stale", at=venue.now)

    assert {p.mark for p in positions.positions()} == {None}


@db
def test_exposure_counts_open_orders_with_all_they_can_lose(desk):
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = approved(signal, trader("dana"), approver("avi"), at=venue.now)

    open_now = positions.exposures(["800"], added=D(5))[0]
    venue.fill()
    done = positions.exposures(["800", "801"], added=D(5))

    assert (open_now.event, open_now.held, open_now.added) == ("Who wins?", intent.worst_loss, 5)
    assert [each.held for each in done] == [0]


@db
def test_augmented_event_is_not_taken_as_exhaustive(desk):
    view, signal = basket()
    filled(view, signal)
    Event.objects.update(augmented=True)

    assert positions.exposures(["800"], added=D(0))[0].held == D("92.52")


@db
def test_position_of_a_day_ago_is_still_there(desk):
    view, signal = basket()
    venue, _ = filled(view, signal)

    assert positions.settle_resolved(at=venue.now + timedelta(days=1)) == 0
    assert len(positions.positions()) == 3
