"""The paper venue: which book fills an order, what it gets, and what becomes of the basket."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D

import pytest
from django.contrib.auth.models import User

from alerts.models import AuditEntry, Heartbeat, OutboxEntry
from execution import fills, intents
from execution.desk import Desk, DeskThread
from execution.invariants import invariants
from execution.matching import NoMatch
from execution.models import Fill, IntentLeg, LiveBook, OrderIntent, PositionEntry
from execution.paper import PaperBroker
from markets.models import Market
from risk import killswitch
from risk.locking import DeskBusy, NoPolicy
from risk.models import Breaker, KillSwitch, Policy
from rules.kernel.finding import EventView
from rules.sightings import Sighting
from signals.episodes import Episodes, SignalChange
from tests.desk_cast import NS, Venue, approved, approver, basket, prepare, trader, view_of
from tests.portal_cast import finding_in, list_event, rule
from tests.servers import wait_for
from tests.worlds import bids, event_view, fee, ladder, market_view

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
Status = OrderIntent.Status
LEGS = ("800", "801", "802")  # the markets of the cast's event


@pytest.fixture(autouse=True)
def desk():
    prepare()


@pytest.fixture
def dana() -> User:
    return trader("dana")


@pytest.fixture
def avi() -> User:
    return approver("avi")


def opened(*asks: float, **terms) -> tuple[Venue, OrderIntent]:
    """Return a venue whose basket pays and an order for it that was just approved."""
    view, signal = basket(*asks)
    venue = Venue([view], **terms).watched()
    intent = approved(signal, trader("dana"), approver("avi"), at=venue.now)
    return venue, intent


def found(view: EventView) -> SignalChange:
    """Return what the pipeline tells when it first sees the event's basket pay."""
    seen = Sighting(rule(), "7", (finding_in(view),), "")
    return next(Episodes().take([seen], at=NS))


def states(intent: OrderIntent) -> list[str]:
    return list(intent.legs.order_by("number").values_list("state", flat=True))


def closed(venue: Venue, intent: OrderIntent) -> OrderIntent:
    """Return the order as it ended; the whole record must hold."""
    intent.refresh_from_db()
    assert invariants(venue.now) == ()
    return intent


# --- which book ----------------------------------------------------------------------


def test_order_fills_on_the_first_book_after_its_latency():
    venue, intent = opened(latency_ms=100)
    venue.work()
    venue.wait(0.05)

    venue.change("800", "BUY", 0.27, 60)  # 50 ms: on its way
    venue.wait(0.1)
    assert venue.work() == 0

    venue.change("800", "BUY", 0.26, 60)  # 150 ms: the first book it meets
    assert venue.work() == 1
    assert states(intent) == ["FILLED", "WAITING", "WAITING"]
    assert Fill.objects.get().book["basis"] == "frame"


def test_order_never_fills_on_the_book_that_triggered_it():
    """Not with no latency either, and not if another market's frame comes."""
    venue, intent = opened(latency_ms=0, leg_gap_ms=0, quiet_ms=None)
    venue.work()
    venue.wait(5)
    venue.change("801", "BUY", 0.26, 60)
    venue.wait(5)
    venue.work()

    assert states(intent) == ["WAITING", "FILLED", "WAITING"]


def test_silence_on_an_unbroken_connection_is_a_book_too():
    venue, intent = opened(quiet_ms=1_000)
    venue.work()
    venue.wait(0.9)
    venue.change("800", "BUY", 0.27, 60)
    venue.wait(0.15)
    assert venue.work() == 1
    venue.wait(0.2)

    venue.work()

    assert states(intent) == ["FILLED", "FILLED", "FILLED"]
    assert [fill.book["basis"] for fill in Fill.objects.order_by("leg")] == [
        "frame", "quiet", "quiet",
    ]  # fmt: skip


def test_silence_of_everything_is_no_book():
    """No frame at all since the order arrived: nobody knows whether the connection lives."""
    venue, intent = opened(quiet_ms=1_000)
    venue.work()

    venue.wait(5)
    venue.work()

    assert states(intent) == ["WAITING"] * 3


def test_order_is_not_walked_on_a_book_that_cannot_be_trusted():
    venue, intent = opened()
    venue.work()
    venue.wait(0.2)

    venue.change("800", "BUY", 0.40, 60)  # crossed
    venue.work()
    assert states(intent) == ["WAITING"] * 3

    venue.change("800", "BUY", 0.40, 0)
    venue.work()
    assert states(intent) == ["FILLED", "WAITING", "WAITING"]


def test_order_without_a_book_in_time_fails():
    venue, intent = opened(quiet_ms=None)
    venue.work()
    venue.wait(31)
    venue.work()

    assert closed(venue, intent).status == Status.FAILED
    assert "NO_BOOK: no book arrived in time" in intent.reason


def test_gap_in_the_connection_refuses_the_fill():
    venue, intent = opened()
    venue.work()
    venue.cut()
    venue.open(basket_view())
    venue.wait(0.2)

    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    assert "gap since the plan" in intent.legs.get(number=1).reason


def basket_view():
    return event_view([
        market_view(700 + n, ladder((0.30, 100)), bids((0.28, 100)), fee=fee("0.04"))
        for n in range(3)
    ])  # fmt: skip


# --- what it gets --------------------------------------------------------------------


def test_basket_fills_as_planned():
    venue, intent = opened()

    venue.fill()

    closed(venue, intent)
    assert (intent.status, intent.spent, intent.locked_payoff) == (
        Status.FILLED, intent.cost, intent.min_payoff,
    )  # fmt: skip
    assert intent.fees == D("2.52")
    assert [event.kind for event in intent.events.order_by("id")] == [
        "SUGGESTED", "APPROVED", "LEG_FILLED", "LEG_FILLED", "LEG_FILLED", "FILLED",
    ]  # fmt: skip
    assert OutboxEntry.objects.filter(kind="intent.filled").count() == 1


def test_fill_keeps_its_checks_with_values():
    venue, _ = opened()

    venue.fill()

    checks = {check["name"]: check for check in Fill.objects.first().verdict}
    assert checks["SLIPPAGE"]["value"] == "0.0 bps (Outcome 0 Yes)"
    assert checks["DAILY_NOTIONAL"]["value"] == "92.53 USD with this one"
    assert all(check["ok"] for check in checks.values())


def test_price_above_the_limit_is_not_paid():
    venue, intent = opened()
    venue.work()
    venue.change("800", "SELL", 0.30, 0)
    venue.change("800", "SELL", 0.31, 500)
    venue.wait(0.2)

    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    leg = intent.legs.get(number=1)
    assert (leg.state, leg.reason) == ("FAILED", "NO_DEPTH: nothing offered within the limit")


def test_better_price_is_taken():
    venue, intent = opened()
    venue.work()
    venue.change("800", "SELL", 0.29, 500)
    venue.wait(0.2)

    venue.fill()

    assert closed(venue, intent).status == Status.FILLED
    assert Fill.objects.get(leg=1).avg_price == D("0.29")
    assert intent.spent < intent.cost


def test_part_of_the_legs_depth_is_a_part_of_the_basket():
    """40 of leg 2: 40 sets stay, 60 of each other leg are sold at the bid, with fees."""
    venue, intent = opened()
    venue.work()
    venue.change("801", "SELL", 0.30, 40)
    venue.wait(0.2)

    venue.fill()

    closed(venue, intent)
    assert (intent.status, intent.locked_payoff) == (Status.FILLED, D(40))
    assert list(intent.legs.order_by("number").values_list("state", "filled", "unwound")) == [
        ("FILLED", D(100), D(60)), ("PARTIAL", D(40), D(0)), ("FILLED", D(100), D(60)),
    ]  # fmt: skip
    sold = Fill.objects.filter(side="SELL")
    assert {fill.avg_price for fill in sold} == {D("0.28")}
    proceeds = 2 * (60 * D("0.28") - 60 * D("0.04") * D("0.28") * D("0.72"))
    assert intent.recovered == proceeds == sum(fill.cash for fill in sold)
    assert intent.unwind_cost == 2 * 60 * D("0.3084") - proceeds
    assert OutboxEntry.objects.filter(kind="intent.incomplete").count() == 1


def test_leg_that_fails_unwinds_the_rest():
    venue, intent = opened()
    venue.work()
    venue.change("802", "SELL", 0.30, 0)
    venue.wait(0.2)

    venue.fill()

    closed(venue, intent)
    assert (intent.status, intent.locked_payoff) == (Status.FAILED, D(0))
    assert intent.unwind_cost == intent.spent - intent.recovered > 0
    assert not PositionEntry.objects.filter(shares__gt=0, kind="SELL").exists()


def test_what_cannot_be_sold_stays_and_is_told():
    """The event's other legs have no bids left when the basket breaks."""
    venue, intent = opened()
    venue.work()
    venue.change("802", "SELL", 0.30, 0)
    for market in ("800", "801"):
        venue.change(market, "BUY", 0.28, 0)
    venue.wait(0.2)
    for _ in range(2):
        venue.work()
        venue.wait(0.3)
        for market in LEGS:
            venue.change(market, "SELL", 0.90, 100 + venue.at % 1000)
    venue.work()

    assert closed(venue, intent).status == Status.FAILED
    told = intent.events.get(kind="FAILED").data["not_unwound"]
    assert set(told) == {"Outcome 0 Yes", "Outcome 1 Yes"}
    assert OutboxEntry.objects.filter(kind="intent.unwind_failed").count() == 2


def test_only_the_declared_share_of_depth_is_had():
    venue, intent = opened(depth_share=D("0.5"))

    venue.fill()

    assert closed(venue, intent).locked_payoff == 50


def test_same_depth_is_not_had_twice(dana, avi):
    """A second order meets only what the first has left, though the venue shows it all."""
    view, first = basket(key="a" * 32)
    _, second = basket(key="b" * 32)
    venue = Venue([view]).watched()
    one = approved(first, dana, avi, at=venue.now, capital=D(60))
    two = approved(second, dana, avi, at=venue.now)

    venue.fill()

    one.refresh_from_db()
    two.refresh_from_db()
    assert one.locked_payoff + two.locked_payoff <= 100
    bought = sum(fill.size for fill in Fill.objects.filter(leg=1, side="BUY"))
    assert bought == 100
    assert LiveBook.objects.get(pk="800").asks == []
    assert invariants(venue.now) == ()


def test_footprints_outlive_the_process():
    venue, _ = opened()
    venue.fill()

    venue.restart()
    venue.desk.remember(at=venue.now)
    venue.desk.on_time(venue.at)

    left = venue.desk.broker.footprints.left(
        venue.books.by_token["10700"].asks_of(0), market_id="800", outcome=0, side="BUY"
    )
    assert left == ()


def test_tick_that_changed_under_the_order_fails_it():
    venue, intent = opened(0.301, 0.30, 0.30)
    venue.work()
    book = venue.books.by_token["10700"]
    book.tick_size = "0.01"
    venue.wait(0.2)
    venue.nudge()
    venue.work()

    assert intent.legs.get(number=1).reason.startswith("TICK")


# --- switches, breakers and limits at the fill ---------------------------------------


def test_nothing_fills_after_the_kill_switch(avi):
    venue, intent = opened()
    venue.work()
    venue.wait(0.2)
    venue.nudge()  # the venue has filled; the answer is not written yet

    killswitch.trip(reason="drill", at=venue.now)
    venue.work()

    assert not Fill.objects.exists()
    assert closed(venue, intent).status == Status.FAILED
    assert "Kill switch: on: drill" in intent.reason


def test_answer_waits_while_the_switch_cannot_be_read():
    venue, intent = opened()
    venue.work()
    venue.wait(0.2)
    venue.nudge()
    KillSwitch.objects.all().delete()

    with pytest.raises(DeskBusy, match="row is missing"):
        venue.work()
    assert states(intent) == ["WAITING"] * 3

    prepare()
    venue.work()
    assert closed(venue, intent).status == Status.FILLED


def test_unwinding_waits_for_the_kill_switch(avi):
    venue, intent = opened()
    venue.work()
    venue.change("802", "SELL", 0.30, 0)
    venue.wait(0.2)
    venue.nudge()
    venue.work()
    killswitch.trip(reason="drill", at=venue.now)
    venue.fill()
    assert intent.legs.filter(unwind="WAITING").count() == 2
    assert not Fill.objects.filter(side="SELL").exists()

    killswitch.rearm(reason="over", at=venue.now, by=approver("bob"))
    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    assert Fill.objects.filter(side="SELL").count() == 2


def test_limit_lowered_after_approval_refuses_the_fill():
    venue, intent = opened()
    Policy.objects.update(daily_notional=D(50))

    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    assert "Daily volume" in intent.legs.get(number=1).reason
    assert intent.events.filter(kind="LEG_REFUSED").count() == 3


def test_market_that_closed_after_approval_refuses_the_fill():
    venue, intent = opened()
    Market.objects.filter(pk="800").update(state="CLOSED")

    venue.fill()

    assert "CLOSED" in intent.legs.get(number=1).reason
    assert closed(venue, intent).status == Status.FAILED


def test_failures_in_a_row_trip_the_breakers(dana, avi):
    view, _ = basket()
    venue = Venue([view])
    for number in range(3):
        signal = basket(key=f"{number:032x}")[1]
        venue.watched()
        intent = approved(signal, dana, avi, at=venue.now, rehearsal="LEG_FAILS", capital=D(20))
        venue.fill()
        assert closed(venue, intent).status == Status.FAILED

    open_now = {(row.scope, row.subject) for row in Breaker.objects.filter(state="OPEN")}
    assert open_now == {("RULE", "DUTCH_BOOK_DETECT"), ("MARKET", "802")}
    signal = basket(key="f" * 32)[1]
    answer = intents.suggest(signal, by=dana, at=venue.now)
    assert answer.verdict.names == ("BREAKERS",)
    assert "3 failures in a row" in answer.reasons[0]


def test_trial_that_fills_closes_the_breaker(dana, avi):
    view, signal = basket()
    venue = Venue([view])
    Breaker.objects.create(
        scope="RULE", subject="DUTCH_BOOK_DETECT", state="OPEN", reason="3 failures",
        reopen_at=venue.now,
    )  # fmt: skip
    venue.watched()

    intent = approved(signal, dana, avi, at=venue.now)
    assert Breaker.objects.get(scope="RULE").trial == f"intent:{intent.pk}"
    other = basket(key="e" * 32)[1]
    assert intents.preview(other, at=venue.now).verdict.names == ("BREAKERS",)
    venue.fill()

    assert closed(venue, intent).status == Status.FILLED
    assert Breaker.objects.get(scope="RULE").state == "CLOSED"


def test_trial_that_fails_opens_the_breaker_for_longer(dana, avi):
    view, signal = basket()
    venue = Venue([view])
    Breaker.objects.create(
        scope="RULE", subject="DUTCH_BOOK_DETECT", state="OPEN", reason="x", trips=2,
        reopen_at=venue.now,
    )  # fmt: skip
    venue.watched()
    approved(signal, dana, avi, at=venue.now, rehearsal="LEG_FAILS")

    venue.fill()

    row = Breaker.objects.get(scope="RULE")
    assert (row.state, row.trips, row.trial) == ("OPEN", 3, "")
    assert row.tripped_at and row.reopen_at == row.tripped_at + timedelta(minutes=4)


# --- answers that get lost -----------------------------------------------------------


def test_lost_answer_leaves_the_order_open_until_it_is_known(dana, avi):
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = approved(signal, dana, avi, at=venue.now, rehearsal="UNKNOWN")

    venue.fill()
    intent.refresh_from_db()
    assert states(intent) == ["FILLED", "FILLED", "UNKNOWN"]
    assert intent.status == Status.APPROVED
    assert Fill.objects.count() == 2
    assert OutboxEntry.objects.filter(kind="intent.leg_unknown").exists()

    venue.wait(10)
    venue.work()
    assert closed(venue, intent).status == Status.FILLED
    assert intent.locked_payoff == 100


def test_lost_answer_can_be_asked_for(dana, avi):
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = approved(signal, dana, avi, at=venue.now, rehearsal="UNKNOWN")
    venue.fill()

    assert fills.reconcile_due(at=venue.now, intent_id=intent.pk) == 1
    assert fills.reconcile_due(at=venue.now, intent_id=intent.pk) == 0

    assert closed(venue, intent).status == Status.FILLED


def test_lost_answer_stays_lost_while_the_switch_is_on(dana, avi):
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = approved(signal, dana, avi, at=venue.now, rehearsal="UNKNOWN")
    venue.fill()
    killswitch.trip(reason="drill", at=venue.now)

    assert fills.reconcile_due(at=venue.now, intent_id=intent.pk) == 0
    assert states(intent)[2] == "UNKNOWN"


# --- once ----------------------------------------------------------------------------


def test_report_that_comes_twice_fills_once():
    venue, _ = opened()
    venue.work()
    venue.wait(0.2)
    venue.nudge()
    reports = list(venue.desk.broker.reports)
    assert len(reports) == 3

    assert [fills.store(report) for report in (*reports, *reports)] == [True] * 3 + [False] * 3

    assert Fill.objects.count() == 3


def test_two_brokers_fill_an_order_once():
    """As when an old process is still there while its successor starts."""
    venue, intent = opened()
    other = Desk(venue.books, terms=venue.terms, started=0)
    venue.work()
    other.work(at=venue.now)
    venue.wait(0.2)
    other.on_time(venue.at - 200_000_000)
    venue.nudge()
    other.on_frame(venue.at)
    venue.nudge()
    other.on_frame(venue.at)

    venue.work()
    other.work(at=venue.now)

    assert Fill.objects.count() == 3
    assert closed(venue, intent).status == Status.FILLED


def test_order_of_a_dead_broker_is_wound_up_by_the_next():
    """A restart is a gap in what we know of the books: nothing more is bought on that plan."""
    venue, intent = opened()
    venue.work()
    venue.wait(0.2)
    venue.change("800", "BUY", 0.27, 60)
    venue.work()
    assert states(intent) == ["FILLED", "WAITING", "WAITING"]

    venue.restart()
    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    assert states(intent) == ["FILLED", "FAILED", "FAILED"]
    assert "gap since the plan" in intent.legs.get(number=2).reason
    assert intent.legs.get(number=1).unwound == 100


def test_order_that_no_broker_takes_up_is_given_up():
    venue, intent = opened()
    late = venue.now + timedelta(seconds=30 + 61)

    assert fills.give_up_lost(at=late) == 1
    assert fills.give_up_lost(at=late) == 0

    assert closed(venue, intent).status == Status.FAILED
    assert "no broker took it up" in intent.reason


def test_cancelled_order_keeps_what_pays_and_sells_the_rest(dana):
    venue, intent = opened()
    venue.work()
    venue.wait(0.2)
    venue.change("800", "BUY", 0.27, 60)
    venue.work()

    assert intents.cancel(intent.pk, by=User.objects.get(username="dana"), at=venue.now).applied
    venue.fill()

    assert closed(venue, intent).status == Status.FAILED
    assert intent.reason.startswith("cancelled by dana")
    leg = intent.legs.get(number=1)
    assert (leg.state, leg.unwound) == ("FILLED", D(100))


def test_broker_leaves_markets_of_other_streams_alone():
    venue, intent = opened()
    elsewhere = PaperBroker(type(venue.books)(venue.books.problems), started=0)

    elsewhere.accept(fills.tickets(at=venue.now))
    elsewhere.on_frame(venue.at + 60_000_000_000)

    assert not elsewhere.reports
    assert states(intent) == ["WAITING"] * 3


# --- books for others ----------------------------------------------------------------


def test_live_books_are_written_for_open_signals():
    view, _ = basket()
    venue = Venue([view])

    venue.work()
    assert not LiveBook.objects.exists()  # what is wanted is known after the first pass
    venue.wait(0.6)
    venue.work()

    book = LiveBook.objects.get(pk="800")
    assert (book.state, book.epoch) == ("fresh", 1)
    assert book.asks == [[3000, 100_000_000]]
    assert book.bids == [[2800, 100_000_000]]


def test_live_books_of_what_was_just_found_are_written_at_once():
    view, _ = basket()
    venue = Venue([view])
    venue.work()

    venue.desk.on_signals([found(view)])
    venue.work()

    shown = LiveBook.objects.values_list("pk", "state").order_by("pk")
    assert list(shown) == [(market, "fresh") for market in LEGS]


def test_live_book_waits_until_its_market_is_stored():
    view = view_of(0.30, 0.30, 0.30)
    venue = Venue([view])
    venue.work()

    venue.desk.on_signals([found(view)])
    venue.work()
    assert not LiveBook.objects.exists()
    list_event(view)
    venue.wait(0.6)
    venue.work()

    assert LiveBook.objects.count() == len(LEGS)


def test_quiet_book_is_vouched_for_as_long_as_frames_come():
    view, _ = basket()
    venue = Venue([view]).watched()
    first = LiveBook.objects.get(pk="800")

    venue.wait(3)
    venue.change("801", "BUY", 0.27, 5)
    venue.work()

    again = LiveBook.objects.get(pk="800")
    assert again.changed_at == first.changed_at
    assert again.seen_at - first.seen_at > timedelta(seconds=3)


def test_book_of_a_cut_connection_is_shown_as_stale():
    view, _ = basket()
    venue = Venue([view]).watched()

    venue.cut()
    venue.wait(0.6)
    venue.work()

    assert set(LiveBook.objects.values_list("state", flat=True)) == {"stale"}


@pytest.mark.django_db(transaction=True)
def test_thread_carries_orders_to_the_venue_and_answers_back():
    """The stream's side runs here, the database's side in its thread, as in `up`."""
    venue, intent = opened()
    thread = DeskThread(venue.desk, clock=lambda: venue.now)
    thread.start()
    try:
        wait_for(lambda: frame_by_frame(venue, intent), seconds=20, what="the order to fill")
    finally:
        assert thread.finish()

    assert thread.failed is None
    assert closed(venue, intent).status == Status.FILLED
    assert Heartbeat.objects.get(pk="desk").detail["working"] == 0


def frame_by_frame(venue: Venue, intent: OrderIntent) -> bool:
    venue.wait(0.05)
    venue.nudge()
    return not OrderIntent.objects.get(pk=intent.pk).is_open


@pytest.mark.django_db(transaction=True)
def test_thread_says_what_ended_it():
    venue, _ = opened()
    Policy.objects.all().delete()
    thread = DeskThread(Desk(venue.books), clock=lambda: venue.now)

    thread.start()
    thread.join(20)

    assert isinstance(thread.failed, NoPolicy)
    assert thread.finish()


def test_refusal_of_the_venue_is_no_fill():
    venue, intent = opened()
    ticket = fills.tickets(at=venue.now)[0]
    seen = fills.BookSeen(venue.now, "fresh", 1, "frame")

    assert fills.store(fills.Report(ticket, NoMatch("MIN_SIZE"), seen, venue.now))

    assert intent.legs.get(number=1).state == IntentLeg.State.FAILED
    assert AuditEntry.objects.filter(kind="intent.leg_failed").count() == 1
