"""The desk's pages: what they show, who may do what, and what every refusal says."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import ROUND_CEILING
from decimal import Decimal as D
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from execution import intents, positions
from execution.models import OrderIntent
from markets.models import Market
from mpx_site.portal import positions_views
from risk import breakers, killswitch, limits
from risk.models import Breaker, KillSwitch, PolicyChange
from signals.models import Signal
from tests import portal_cast as cast
from tests.desk_cast import (
    NOW,
    Venue,
    approved,
    approver,
    basket,
    close,
    endgame,
    person,
    prepare,
    show,
    suggested,
    trader,
)
from tests.test_desk_races import CLIENTS, ROUNDS, afresh, at_once, measured

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
LATER = NOW + timedelta(seconds=1)
TYPED = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{NO-BREAK SPACE}": " "})
Status = OrderIntent.Status


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    monkeypatch.setattr(timezone, "now", lambda: LATER)
    cast.beat(at=LATER)


@pytest.fixture
def signal() -> Signal:
    view, signal = basket()
    show(view)
    return signal


@pytest.fixture
def dana() -> User:
    return trader("dana")


@pytest.fixture
def avi() -> User:
    return approver("avi")


class Visitor:
    """A person at the pages; `post` follows to the page that answers."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user)

    def get(self, address: str) -> str:
        response = self.client.get(address)
        assert response.status_code == 200, response.status_code
        return text_of(response)

    def raw(self, address: str) -> str:
        return self.client.get(address).content.decode()

    def post(self, address: str, **fields: Any) -> str:
        return text_of(self.send(address, **fields))

    def send(self, address: str, **fields: Any) -> Any:
        return self.client.post(address, {"key": "k1", **fields}, follow=True)

    def suggest(self, signal: Signal, **fields: Any) -> str:
        """Press the button of the execution page, as it is now."""
        address = f"/signals/{signal.key}/execute/"
        return self.post(address, **{"plan": hidden(self.raw(address), "plan"), **fields})

    def approve(self, intent: OrderIntent, **fields: Any) -> str:
        return self.post(
            f"/intents/{intent.pk}/approve/", **{"plan": intent.plan_hash, **fields}
        )  # fmt: skip


def text_of(response: Any) -> str:
    words = re.sub(r"<[^>]+>", " ", response.content.decode()).translate(TYPED)
    return " ".join(words.replace("&#x27;", "'").split())


def cents_up(amount: D) -> str:
    return f"${amount.quantize(D('0.01'), ROUND_CEILING)}"


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


# --- the way to an order -------------------------------------------------------------


def test_signal_leads_to_its_order(signal: Signal, dana: User) -> None:
    page = Visitor(dana).raw(f"/signals/{signal.key}/")

    assert f'href="/signals/{signal.key}/execute/"' in page
    close(signal)
    assert "execute" not in Visitor(dana).raw(f"/signals/{signal.key}/")


def test_looking_at_an_order_creates_nothing(signal: Signal, dana: User) -> None:
    page = Visitor(dana).get(f"/signals/{signal.key}/execute/")

    assert not OrderIntent.objects.exists()
    plan = intents.preview(signal, at=LATER).plan
    assert plan
    assert plan.hash[:12] in page
    assert "all 18 checks pass" in page
    assert "3 orders" in page
    assert cents_up(plan.notional) in page
    assert cents_up(plan.worst_loss) in page


def test_order_page_shows_every_check_with_its_numbers(signal: Signal, dana: User) -> None:
    killswitch.trip(reason="drill", at=NOW)

    page = Visitor(dana).get(f"/signals/{signal.key}/execute/")

    for check in intents.preview(signal, at=LATER).verdict.checks:
        assert check.label in page
        assert check.value in page
        assert check.advice in page
    assert "on: drill" in page
    assert "1 check fails: it would be rejected at once" in page


def test_order_page_marks_our_shares_in_the_depth(signal: Signal, dana: User) -> None:
    page = Visitor(dana).raw(f"/signals/{signal.key}/execute/?capital=30")

    plan = intents.preview(signal, at=LATER, capital=D(30)).plan
    assert plan
    assert page.count('data-ours="yes"') == 3
    assert f"<b>{plan.legs[0].size:.2f}</b>" in page
    assert f'class="ours" width="{plan.legs[0].size:.1f}"' in page  # of 100 shares


def test_order_size_stays_within_the_cap(signal: Signal, dana: User) -> None:
    visitor = Visitor(dana)

    plan = intents.preview(signal, at=LATER, capital=D(20)).plan
    assert plan
    assert plan.notional <= 20
    smaller = visitor.get(f"/signals/{signal.key}/execute/?capital=20")
    assert f"at most {cents_up(plan.notional)}" in smaller
    over = visitor.get(f"/signals/{signal.key}/execute/?capital=5000")
    assert "5000 USD is over the cap of 200 USD; the cap is taken" in over
    wrong = visitor.get(f"/signals/{signal.key}/execute/?capital=-1")
    assert "An order size is from 1 to 200 USD" in wrong


def test_order_page_of_a_bet_says_that_it_can_be_lost(dana: User, avi: User) -> None:
    view, bet = endgame()
    show(view)
    facts = bet.payload["facts"]

    seen = Visitor(dana).get(f"/signals/{bet.key}/")
    page = Visitor(dana).get(f"/signals/{bet.key}/execute/")
    order = suggested(bet, dana, at=LATER)
    intent = Visitor(avi).get(f"/intents/{order.pk}/")

    assert "Trade this" in seen and "A bet: all of it can be lost." in seen
    assert "Profit =" not in seen and "add up" not in seen
    for text in (page, intent):
        assert "A bet: all of its cost can be lost." in text
        for name in ("events", "won", "lower_bound", "break_even", "compared_with"):
            assert facts[name] in text, name
        assert "Pays at worst $0.00 if it does not come true" in text
        assert "Lost at worst $" in text and "legs stay open" not in text
        assert "% a year expected" in text
    assert "a bet" in Visitor(avi).get("/approvals/")


def test_direction_has_no_order_and_the_page_says_what_to_do(dana: User) -> None:
    _, bet = endgame()
    Signal.objects.update(kind="spike", payload={**bet.payload, "kind": "spike", "legs": []})

    seen = Visitor(dana).get(f"/signals/{bet.key}/")
    page = Visitor(dana).get(f"/signals/{bet.key}/execute/")

    assert "Trade this" not in seen and "A direction, not an order" in seen
    assert "No order can be made of it now." in page
    assert "a direction, not an order" in page and "Look at its market" in page


def test_order_page_without_books_says_what_is_missing(dana: User) -> None:
    _, signal = basket()

    page = Visitor(dana).raw(f"/signals/{signal.key}/execute/")

    assert "No order can be made of it now." in page
    assert "no live book is kept for a leg" in page or "a leg&#x27;s book is not fresh" in page
    assert re.search(r'data-key-for="d" disabled>Suggest', page)


def test_suggestion_leads_to_its_order(signal: Signal, dana: User) -> None:
    page = Visitor(dana).suggest(signal)

    intent = OrderIntent.objects.get()
    assert (intent.status, intent.proposer) == (Status.SUGGESTED, dana)
    assert f"Order {intent.pk} is suggested. It waits for approval." in page
    assert "You cannot approve this." in page
    assert "Ask another approver; who proposes an order never approves it." in page


def test_double_click_makes_one_order(signal: Signal, dana: User) -> None:
    visitor, address = Visitor(dana), f"/signals/{signal.key}/execute/"
    form = visitor.raw(address)
    sent = {"key": hidden(form, "key"), "plan": hidden(form, "plan")}

    first = visitor.post(address, **sent)
    second = visitor.post(address, **sent)

    intent = OrderIntent.objects.get()
    assert f"Order {intent.pk} is suggested" in first
    assert f"Order {intent.pk} is suggested" in second


def test_second_order_for_a_signal_is_refused_and_leads_to_the_first(
    signal: Signal, dana: User
) -> None:
    intent = suggested(signal, dana)
    visitor = Visitor(dana)

    page = visitor.post(f"/signals/{signal.key}/execute/")

    assert "The suggestion was refused" in page
    assert f"intent {intent.pk} is SUGGESTED" in page
    assert f'href="/intents/{intent.pk}/"' in visitor.raw(f"/signals/{signal.key}/execute/")


def test_order_that_fails_a_check_is_kept_with_its_reasons(signal: Signal, dana: User) -> None:
    killswitch.trip(reason="drill", at=NOW)

    page = Visitor(dana).suggest(signal)

    intent = OrderIntent.objects.get()
    assert intent.status == Status.REJECTED
    assert f"Order {intent.pk} was rejected at once" in page
    assert "Kill switch: on: drill (limit: off). Find out why it was tripped" in page


def test_who_may_not_suggest_is_told_so(signal: Signal) -> None:
    visitor = Visitor(person("vera", "viewer"))

    assert "vera does not have it" in visitor.get(f"/signals/{signal.key}/execute/")
    page = visitor.post(f"/signals/{signal.key}/execute/")

    assert "The suggestion was refused" in page
    assert "needs the permission create_intent" in page
    assert not OrderIntent.objects.exists()


def test_changed_plan_is_not_suggested_unseen(signal: Signal, dana: User) -> None:
    page = Visitor(dana).suggest(signal, plan="0" * 64)

    assert "The suggestion was refused" in page
    assert "The plan has changed." in page
    assert not OrderIntent.objects.exists()


# --- approvals -----------------------------------------------------------------------


def test_inbox_is_most_urgent_first_and_counted_on_every_page(dana: User, avi: User) -> None:
    for number, at in enumerate((NOW, NOW - timedelta(seconds=60))):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}", title=f"E{number}")
        show(view, at=at)
        suggested(signal, dana, at=at)

    page = Visitor(avi).get("/approvals/")

    assert page.index("E1") < page.index("E0")
    assert "2 to approve" in page
    assert "can approve" in page
    assert "cannot: permission" in Visitor(dana).get("/approvals/")
    assert "2 to approve" in Visitor(avi).get("/markets/")


def test_empty_inbox_says_what_would_fill_it(avi: User) -> None:
    page = Visitor(avi).get("/approvals/")

    assert "Nothing waits for approval." in page
    assert "Trade this" in page
    assert "to approve" not in page.replace("to approve it", "")


def test_what_is_past_its_deadline_waits_no_more(
    signal: Signal, dana: User, avi: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = suggested(signal, dana)
    monkeypatch.setattr(timezone, "now", lambda: intent.expires_at)

    assert "Nothing waits for approval." in Visitor(avi).get("/approvals/")


def test_second_person_approves_and_it_fills(dana: User, avi: User) -> None:
    view, signal = basket()
    venue = Venue([view]).watched()
    intent = suggested(signal, dana, at=venue.now)

    page = Visitor(avi).approve(intent)

    assert f"Order {intent.pk} is approved. Its legs are on their way." in page
    assert "approved by avi" in page
    venue.fill()
    page = Visitor(dana).get(f"/intents/{intent.pk}/")
    assert "filled · All that came together is held" in page
    assert page.count("leg filled by system") == 3
    assert "100.00 at 0.3000, fee 0.84000" in page
    assert "When suggested When approved" in page
    held = Visitor(dana).get("/positions/")
    assert "Who wins?" in held
    assert held.count("Yes") >= 3


def test_approval_signs_the_plan_that_was_shown(signal: Signal, dana: User, avi: User) -> None:
    intent = suggested(signal, dana)
    old = intent.plan_hash
    assert intents.revise(intent.pk, by=dana, at=NOW, capital=D(50)).applied

    page = Visitor(avi).approve(intent, plan=old)

    intent.refresh_from_db()
    assert intent.status == Status.SUGGESTED
    assert "The approval was refused" in page
    assert "The plan has changed. Read the difference" in page
    assert "What has changed You were shown It is now" in page
    assert intent.plan_hash[:12] in page
    assert "is approved" in Visitor(avi).approve(intent, key="k2")


def test_page_tells_the_difference_to_the_plan_of_an_address(
    signal: Signal, dana: User, avi: User
) -> None:
    intent = suggested(signal, dana)
    intents.revise(intent.pk, by=dana, at=NOW, capital=D(50))

    page = Visitor(avi).get(f"/intents/{intent.pk}/?since={intent.plan_hash}")

    assert "What has changed" in page
    assert "What has changed" not in Visitor(avi).get(f"/intents/{intent.pk}/?since=x")


def test_refusal_at_approval_shows_numbers_and_advice(
    signal: Signal, dana: User, avi: User
) -> None:
    intent = suggested(signal, dana)
    breakers.trip(scope="GLOBAL", reason="drill", at=NOW)

    page = Visitor(avi).get(f"/intents/{intent.pk}/")
    assert "1 check fails now: it would be refused" in page
    page = Visitor(avi).approve(intent)

    reason = "Circuit breakers: GLOBAL OPEN: drill (limit: closed)."
    assert page.count(reason) >= 2  # as the answer, and in the timeline
    assert "The approval was refused" in page
    assert OrderIntent.objects.get().status == Status.SUGGESTED


def test_proposer_sees_why_it_takes_another(signal: Signal, dana: User) -> None:
    dana.groups.add(*approver("avi").groups.all())
    intent = suggested(signal, dana)
    visitor = Visitor(User.objects.get(pk=dana.pk))

    page = visitor.get(f"/intents/{intent.pk}/")

    assert "You cannot approve this." in page
    assert "Second person: dana (limit: someone other than dana)." in page
    assert "Approve this plan" not in page
    assert "The approval was refused" in visitor.approve(intent)
    assert OrderIntent.objects.get().status == Status.SUGGESTED


def test_single_operator_approves_and_is_marked(signal: Signal, dana: User, settings: Any) -> None:
    settings.MPX_SINGLE_OPERATOR = True
    dana.groups.add(*approver("avi").groups.all())
    intent = suggested(signal, dana)
    visitor = Visitor(User.objects.get(pk=dana.pk))

    page = visitor.get(f"/intents/{intent.pk}/")
    assert "SINGLE OPERATOR" in page
    assert "SINGLE OPERATOR" not in text_of(Client().get("/login/"))  # nothing for strangers
    assert "this is your own order; its approval is marked so" in page
    assert "single operator" in visitor.approve(intent)
    assert OrderIntent.objects.get().single_operator


def test_rejection_needs_a_reason_and_shows_it(signal: Signal, dana: User, avi: User) -> None:
    intent = suggested(signal, dana)
    visitor = Visitor(avi)

    page = visitor.post(f"/intents/{intent.pk}/reject/", reason="  ")
    assert "The rejection was refused" in page
    assert "Say why; whoever asked will read it." in page
    page = visitor.post(f"/intents/{intent.pk}/reject/", key="k2", reason="too thin")

    assert OrderIntent.objects.get().status == Status.REJECTED
    assert "rejected by avi" in page
    assert "too thin" in Visitor(dana).get(f"/intents/{intent.pk}/")


def test_proposer_takes_it_back_and_others_cannot(signal: Signal, dana: User) -> None:
    intent = suggested(signal, dana)

    page = Visitor(trader("tom")).post(f"/intents/{intent.pk}/cancel/")
    assert "Cancelling was refused" in page
    page = Visitor(dana).post(f"/intents/{intent.pk}/cancel/", reason="changed my mind")

    assert OrderIntent.objects.get().status == Status.CANCELLED
    assert "cancelled by dana: changed my mind" in page


def test_proposer_makes_a_new_plan(signal: Signal, dana: User) -> None:
    intent = suggested(signal, dana)

    page = Visitor(dana).post(f"/intents/{intent.pk}/revise/", capital="50")

    assert OrderIntent.objects.get().notional <= 50
    assert "revision 2" in page
    assert "revised: a new plan" in page


def test_stale_data_bars_the_button(signal: Signal, dana: User, avi: User) -> None:
    intent = suggested(signal, dana)
    cast.beat(at=LATER - timedelta(seconds=60))

    page = Visitor(avi).raw(f"/intents/{intent.pk}/")

    assert re.search(r'data-key-for="d" disabled>Approve this plan', page)
    assert "The data is stale, so nothing can be approved." in page


def test_busy_desk_says_so_and_does_nothing(
    signal: Signal, dana: User, avi: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = suggested(signal, dana)

    def busy(*args: Any, **kwargs: Any) -> None:
        from risk.locking import DeskBusy

        raise DeskBusy("locked")

    monkeypatch.setattr(intents, "in_turn", busy)
    page = Visitor(avi).approve(intent)

    assert "Nothing was done: the desk is busy with another order; try again in a second" in page
    assert OrderIntent.objects.get().status == Status.SUGGESTED


def test_reused_key_and_unreadable_forms_do_nothing(signal: Signal, dana: User, avi: User) -> None:
    intent = suggested(signal, dana)
    visitor = Visitor(avi)
    visitor.post(f"/intents/{intent.pk}/reject/", reason="")

    for address, fields, words in (
        ("approve", {"plan": intent.plan_hash}, "was used for another request"),
        ("approve", {"plan": "x", "key": "k2"}, "Nothing was done. plan"),
        ("reject", {"reason": "a\0b", "key": "k3"}, "Nothing was done. reason"),
        ("reject", {"reason": "a", "key": ""}, "Nothing was done. key"),
        ("revise", {"capital": "-3", "key": "k4"}, "Nothing was done. capital"),
    ):
        assert words in visitor.post(f"/intents/{intent.pk}/{address}/", **fields)
    assert OrderIntent.objects.get().status == Status.SUGGESTED


@pytest.mark.parametrize(
    "address",
    [
        "/signals/unknown/execute/",
        "/intents/77/",
        "/intents/99999999999999999999999/",
    ],
)
def test_unknown_addresses_say_so(dana: User, address: str) -> None:
    response = Visitor(dana).client.get(address)

    assert response.status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/signals/unknown/execute/",
        "/intents/77/approve/",
        "/risk/breakers/77/reset/",
        "/risk/changes/77/confirm/",
    ],
)
def test_unknown_addresses_take_no_post(dana: User, address: str) -> None:
    assert Visitor(dana).client.post(address, {"key": "k"}).status_code == 404


def test_steps_take_posts_with_a_token_only(signal: Signal, dana: User, avi: User) -> None:
    intent = suggested(signal, dana)
    client = Client(enforce_csrf_checks=True)
    client.force_login(avi)

    sent = {"key": "k", "plan": intent.plan_hash}
    assert client.post(f"/intents/{intent.pk}/approve/", sent).status_code == 403
    assert client.get(f"/intents/{intent.pk}/approve/").status_code == 405
    assert client.get("/risk/kill/").status_code == 405
    assert OrderIntent.objects.get().status == Status.SUGGESTED


def test_page_of_another_order_does_not_borrow_a_refusal(dana: User, avi: User) -> None:
    made = []
    for number in range(2):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        made.append(suggested(signal, dana))
    visitor = Visitor(avi)
    answer = visitor.send(f"/intents/{made[0].pk}/reject/", reason="")
    found = re.search(r"refused=(\d+)", answer.redirect_chain[0][0])
    assert found

    assert "The rejection was refused" in visitor.get(f"/intents/{made[0].pk}/?refused={found[1]}")
    for asked in (found[1], "x", "9" * 30, "-1"):
        page = visitor.get(f"/intents/{made[1].pk}/?refused={asked}")
        assert "The rejection was refused" not in page


# --- lists ---------------------------------------------------------------------------


def test_orders_are_filtered_by_state_and_person(dana: User, avi: User) -> None:
    for number in range(3):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}", title=f"E{number}")
        show(view)
        if number == 0:
            approved(signal, dana, avi)
        else:
            suggested(signal, trader("tom") if number == 1 else dana)
    visitor = Visitor(dana)

    def seen(query: str) -> set[str]:
        return set(re.findall(r"\bE\d\b", visitor.get(f"/intents/?{query}")))

    assert seen("") == {"E0", "E1", "E2"}
    assert seen("status=APPROVED") == {"E0"}
    assert seen("status=open&who=proposed") == {"E0", "E2"}
    assert seen("kind=binary") == set()
    assert "There is no such status" in visitor.get("/intents/?status=odd")
    assert "No order fits this filter." in visitor.get("/intents/?status=FAILED")


def test_empty_lists_say_what_would_fill_them(dana: User) -> None:
    visitor = Visitor(dana)

    assert "No orders yet." in visitor.get("/intents/")
    assert "Nothing is held." in visitor.get("/positions/")
    page = visitor.get("/risk/")
    assert "No breaker has ever tripped." in page
    assert "The limits have never been changed" in page
    assert "Nothing can be lost now" in page


@pytest.mark.parametrize("address", ["/intents/?size=50", "/approvals/"])
def test_lists_take_the_same_queries_for_many_rows(
    dana: User, address: str, django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
        show(view)
        suggested(signal, dana)
    visitor = Visitor(dana)

    with django_assert_max_num_queries(15):
        visitor.get(address)


def test_intent_page_takes_few_queries(
    signal: Signal, dana: User, avi: User, django_assert_max_num_queries: Any
) -> None:
    intent = suggested(signal, dana)
    visitor = Visitor(avi)

    with django_assert_max_num_queries(50):
        visitor.get(f"/intents/{intent.pk}/")


# --- risk ----------------------------------------------------------------------------


def test_limits_are_shown_with_their_use(signal: Signal, dana: User, avi: User) -> None:
    intent = approved(signal, dana, avi)

    page = Visitor(dana).get("/risk/")

    assert f"{intent.notional:.2f}" in page
    assert "EXEC_MAX_DAILY_NOTIONAL" in page
    assert "50 %" in page  # one of two orders
    assert "Who wins?" in page


def test_kill_switch_takes_one_click_and_another_person_to_re_arm(dana: User, avi: User) -> None:
    page = Visitor(avi).post("/risk/kill/", reason="odd prices")
    assert "The kill switch is on" in page
    assert "KILL SWITCH ON" in page
    assert "odd prices" in page
    assert "You cannot re-arm it." in page

    page = Visitor(avi).post("/risk/rearm/", reason="fine")
    assert "Re-arming was refused" in page
    assert "someone other than avi" in page
    page = Visitor(dana).post("/risk/rearm/", reason="fine")
    assert "needs the permission rearm_kill" in page
    assert KillSwitch.objects.get().tripped
    page = Visitor(approver("bo")).post("/risk/rearm/", reason="fine")
    assert "The kill switch is off." in page


def test_viewer_cannot_trip_the_switch(dana: User) -> None:
    visitor = Visitor(person("vera", "viewer"))

    assert "vera does not have it" in visitor.get("/risk/")
    assert "Tripping the kill switch was refused" in visitor.post("/risk/kill/", reason="x")
    assert not KillSwitch.objects.get().tripped


def test_looser_limit_waits_for_a_second_person(avi: User) -> None:
    limits.change(by=avi, at=NOW, reason="careful", order_notional=D(50))
    limits.change(by=avi, at=NOW, reason="bolder", order_notional=D(100))
    change = PolicyChange.objects.get(state="PROPOSED")

    page = Visitor(avi).get("/risk/")
    assert "Looser limits wait for a second person" in page
    assert "You cannot confirm this." in page
    assert "careful" in page
    page = Visitor(avi).post(f"/risk/changes/{change.pk}/confirm/")
    assert "Confirming the limits was refused" in page
    page = Visitor(approver("bo")).post(f"/risk/changes/{change.pk}/confirm/")

    assert "The limits are changed." in page
    assert "confirmed by bo" in page
    assert limits.bounds().order_notional == 100


def test_proposed_limit_can_be_dropped(avi: User) -> None:
    limits.change(by=avi, at=NOW, reason="careful", order_notional=D(50))
    limits.change(by=avi, at=NOW, reason="bolder", order_notional=D(100))
    change = PolicyChange.objects.get(state="PROPOSED")

    page = Visitor(avi).post(f"/risk/changes/{change.pk}/refuse/", reason="no")

    assert "The proposed limits are dropped." in page
    assert limits.bounds().order_notional == 50


def test_breaker_shows_why_and_is_closed_by_who_may(signal: Signal, dana: User, avi: User) -> None:
    market = signal.market_ids[0]
    row = breakers.trip(scope="MARKET", subject=market, reason="three failures", at=NOW)

    page = Visitor(dana).get("/risk/")
    assert "three failures" in page
    assert "Outcome 0" in page
    assert "One order is let through on trial from" in page
    assert "needs the permission reset_breaker" in page
    page = Visitor(dana).post(f"/risk/breakers/{row.pk}/reset/", reason="x")
    assert "Resetting the breaker was refused" in page
    page = Visitor(avi).post(f"/risk/breakers/{row.pk}/reset/", reason="looked at it")

    assert "The breaker is closed." in page
    assert Breaker.objects.get(pk=row.pk).state == "CLOSED"


# --- positions -----------------------------------------------------------------------


def test_positions_show_cost_mark_and_when_the_money_is_back(dana: User, avi: User) -> None:
    view, signal = basket()
    venue = Venue([view]).watched()
    cast.quote(view, at=venue.now)
    approved(signal, dana, avi, at=venue.now)
    venue.fill()

    page = Visitor(dana).get("/positions/")

    assert "2026-07-01 00:00 UTC" in page
    assert "can lose $0.00 of $400.00 allowed" in page
    assert "no bid" not in page
    assert re.search(r"Unrealised -\$\d+\.\d\d at the bids", page)


def settled(dana: User, avi: User) -> None:
    """Three outcomes that the venue has paid out, one after the other, and three still held."""
    for event_id, key in (("7", "a" * 32), ("8", "b" * 32)):
        view, signal = basket(event_id=event_id, key=key)
        venue = Venue([view]).watched()
        cast.quote(view, at=venue.now)
        approved(signal, dana, avi, at=venue.now)
        venue.fill()
    for market_id, payout in (("801", 0), ("800", 1), ("802", 0)):
        Market.objects.filter(pk=market_id).update(payout=payout, state="RESOLVED")
        positions.settle_resolved(at=venue.now)


def test_closed_positions_come_last_first_and_say_how_many_are_left_out(
    dana: User, avi: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions_views, "MOST_CLOSED", 2)
    settled(dana, avi)

    page = Visitor(dana).get("/positions/")
    closed = page.partition("sold, merged, converted or settled")[2]

    assert closed.index("Outcome 2") < closed.index("Outcome 0")
    assert "Outcome 1" not in closed
    assert "1 closed before is not shown; the totals count it." in closed


def test_positions_are_read_twice_and_add_up_to_the_totals(dana: User, avi: User) -> None:
    settled(dana, avi)

    with CaptureQueriesContext(connection) as asked:
        page = positions_views.page()

    folds = [each for each in asked.captured_queries if '"shares", "execution_' in each["sql"]]
    assert len(folds) == 2
    assert page.totals == positions.totals()
    assert page.totals.realised > 0 and page.totals.locked > 0


# --- races ---------------------------------------------------------------------------


@pytest.fixture
def crowd(settings: Any) -> list[Visitor]:
    """Twenty approvers who are logged in."""
    settings.EXEC_MAX_CONCURRENT_ORDERS = 100
    return [Visitor(approver(f"approver-{number}")) for number in range(CLIENTS)]


def insistent(press: Callable[[], str]) -> Callable[[], str]:
    """Press again while the desk is busy, as the page asks to."""

    def run() -> str:
        page = press()
        while "the desk is busy" in page:
            page = press()
        return page

    return run


def fresh_order() -> OrderIntent:
    afresh()
    view, signal = basket()
    show(view)
    return suggested(signal, trader("dana"))


@pytest.mark.postgres(only=True)
@pytest.mark.django_db(transaction=True)
def test_of_many_approvers_at_once_one_wins_and_the_others_learn_who(crowd: list[Visitor]) -> None:
    seen = []
    for _ in range(ROUNDS):
        intent = fresh_order()
        pages = at_once([insistent(partial(each.approve, intent)) for each in crowd])

        intent.refresh_from_db()
        assert intent.approver is not None
        winner = intent.approver.username
        won = [f"Order {intent.pk} is approved." in page for page in pages]
        lost = ["Intent state: APPROVED (limit: SUGGESTED)." in page for page in pages]
        assert won == [each.user.username == winner for each in crowd]
        assert lost == [not each for each in won]
        assert all(f"approved by {winner}" in page for page in pages)
        seen.append((sum(won), intent.events.filter(kind="APPROVED").count(), intent.legs.count()))
    measured("portal: approve one intent", seen, "(1, 1, 3)")
    assert set(seen) == {(1, 1, 3)}


@pytest.mark.postgres(only=True)
@pytest.mark.django_db(transaction=True)
def test_of_those_who_approve_reject_and_take_back_at_once_one_wins(crowd: list[Visitor]) -> None:
    dana = Visitor(trader("dana"))
    seen = []
    for _ in range(ROUNDS):
        intent = fresh_order()
        way = f"/intents/{intent.pk}/"
        presses = [
            insistent(partial(each.approve, intent))
            if number % 2
            else insistent(partial(each.post, f"{way}reject/", reason="no"))
            for number, each in enumerate(crowd)
        ]
        pages = at_once([*presses, insistent(partial(dana.post, f"{way}cancel/"))])

        intent.refresh_from_db()
        done = sum(f"Order {intent.pk} is" in page for page in pages)
        told = sum("was refused" in page for page in pages)
        steps = intent.events.filter(kind__in=("APPROVED", "REJECTED", "CANCELLED")).count()
        stopped = intent.status == Status.CANCELLED and intent.approver is not None
        assert done + told == len(pages)
        # Who takes back may also be the second: what was approved a moment ago is stopped.
        seen.append((done - stopped, steps - stopped))
    measured("portal: approve, reject, take back one intent", seen, "(1, 1)")
    assert set(seen) == {(1, 1)}
