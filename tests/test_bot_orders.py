"""Approving and rejecting by the bot: what was shown, by whom, once, in sixty seconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from alerts import journal
from alerts.models import AuditEntry
from execution import intents
from execution.models import IntentEvent, OrderIntent
from mpx_site.bot import shown
from mpx_site.bot.models import Mailbox, ShownOrder
from risk import killswitch
from risk.locking import DeskBusy
from signals.models import Signal
from tests import portal_cast
from tests.bot_cast import AVI, DANA, NOBODY, Clock, Talk, linked
from tests.bot_cast import clock as clock
from tests.bot_cast import talk as talk
from tests.bot_inbox import GROUP, Answered
from tests.desk_cast import NOW, approver, basket, prepare, show, suggested, trader

pytestmark = pytest.mark.django_db
Status = OrderIntent.Status


@pytest.fixture(autouse=True)
def desk(clock: Clock) -> None:
    prepare()
    portal_cast.beat(at=NOW)


@pytest.fixture
def dana() -> User:
    dana = trader("dana")
    linked(dana, DANA)
    return dana


@pytest.fixture
def avi() -> User:
    avi = approver("avi")
    linked(avi, AVI)
    return avi


@pytest.fixture
def signal() -> Signal:
    view, signal = basket()
    show(view)
    return signal


@pytest.fixture
def order(signal: Signal, dana: User) -> OrderIntent:
    return suggested(signal, dana)


def status(order: OrderIntent) -> str:
    return OrderIntent.objects.get(pk=order.pk).status


def last_audit() -> tuple[str, str]:
    entry = AuditEntry.objects.order_by("-id")[0]
    return entry.kind, entry.actor


def nod(answers: list[Answered]) -> str:
    """Return what a press was answered with, and nothing else was said."""
    (answer,) = answers
    assert answer.method == "answerCallbackQuery"
    return answer.text


def rewritten(answers: list[Answered]) -> str:
    """Return the new words of the message whose button was pressed; its buttons are gone."""
    assert [answer.method for answer in answers] == ["answerCallbackQuery", "editMessageText"]
    assert not answers[1].buttons
    return answers[1].text


# --- two steps -----------------------------------------------------------------------


def test_an_order_is_shown_with_all_that_is_signed_then_approved(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")

    assert status(order) == Status.SUGGESTED  # looking does nothing
    text = asked.text
    assert f"<b>Order {order.pk}, suggested</b>" in text
    assert len(re.findall(r"Buy 100.00 of Outcome \d Yes, limit 30¢", text)) == 3
    assert "by dana, version 1" in text
    assert f"Plan {order.plan_hash[:8]}" in text
    assert "Costs at most $" in text
    assert "Pays at worst $100.00" in text
    assert "Lost if legs stay open: $" in text
    assert "Time to decide: " in text
    assert re.search(r"all \d+ checks pass now", text)
    assert set(asked.buttons) == {"Approve", "Leave"}
    assert all(len(data.encode()) <= 64 for data in asked.buttons.values())

    told = rewritten(talk.presses(AVI, asked, "Approve"))

    assert f"<b>Order {order.pk} is approved. Its legs are on their way</b>" in told
    done = OrderIntent.objects.get(pk=order.pk)
    assert (done.status, done.approver) == (Status.APPROVED, avi)
    assert IntentEvent.objects.get(intent=order, kind="APPROVED").actor == "avi"
    assert last_audit() == ("intent.approved", "avi via telegram")
    assert journal.verify_head() == AuditEntry.objects.count()


def test_a_rejection_takes_a_reason_and_whoever_asked_reads_it(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    assert "the reason" in talk.told(AVI, f"/reject {order.pk}")
    asked = talk.shown(AVI, f"/reject_{order.pk} too <thin> for me")
    assert "because: too &lt;thin&gt; for me" in asked.text

    told = rewritten(talk.presses(AVI, asked, "Reject"))

    assert "is rejected" in told
    done = OrderIntent.objects.get(pk=order.pk)
    assert (done.status, done.reason) == (Status.REJECTED, "too <thin> for me")
    assert last_audit() == ("intent.rejected", "avi via telegram")


def test_left_as_it_is_an_order_stays_and_its_buttons_are_used_up(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")

    assert "left as it is" in rewritten(talk.presses(AVI, asked, "Leave"))

    assert "used already" in nod(talk.presses(AVI, asked, "Approve"))
    assert status(order) == Status.SUGGESTED


@pytest.mark.parametrize("number", ["", "x", "0", "-1", "99999", "1 OR 1=1", "9" * 400, "²"])
def test_what_is_no_order_is_asked_for(talk: Talk, avi: User, number: str) -> None:
    assert "Which order?" in talk.told(AVI, f"/approve {number}")


# --- who -----------------------------------------------------------------------------


def test_the_proposer_never_approves_and_is_told_as_on_the_page(
    talk: Talk, signal: Signal, avi: User
) -> None:
    avi.groups.add(Group.objects.get(name="trader"))
    order = suggested(signal, User.objects.get(pk=avi.pk))

    asked = talk.shown(AVI, f"/approve {order.pk}")

    assert "who proposes an order never approves it" in asked.text
    assert not asked.buttons
    assert not ShownOrder.objects.exists()


def test_a_proposer_who_gets_hold_of_a_button_is_refused_by_the_step(
    talk: Talk, order: OrderIntent, dana: User
) -> None:
    dana.groups.add(Group.objects.get(name="approver"))
    nonce = shown.offer(
        dana.telegram_link, order, act=shown.Act.APPROVE, chat=DANA, reason="", at=NOW
    )
    message = talk.shown(DANA, "/orders")

    told = rewritten(talk.presses(DANA, message, f"approve:{nonce}"))

    assert "who proposes an order never approves it" in told
    assert status(order) == Status.SUGGESTED
    assert last_audit() == ("intent.approval_refused", "dana via telegram")


def test_one_without_the_right_sees_the_order_and_no_buttons(
    talk: Talk, order: OrderIntent
) -> None:
    linked(trader("otto"), NOBODY)

    asked = talk.shown(NOBODY, f"/approve {order.pk}")

    assert "needs the permission approve_intent" in asked.text
    assert not asked.buttons


def test_a_right_lost_between_look_and_press_is_lost(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    avi.groups.clear()

    told = rewritten(talk.presses(AVI, asked, "Approve"))

    assert "needs the permission approve_intent" in told
    assert status(order) == Status.SUGGESTED
    assert last_audit() == ("intent.approval_refused", "avi via telegram")


def test_an_account_switched_off_between_look_and_press_does_nothing(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    User.objects.filter(pk=avi.pk).update(is_active=False)

    assert "not yours" in nod(talk.presses(AVI, asked, "Approve"))
    assert status(order) == Status.SUGGESTED


def test_buttons_of_somebody_else_do_nothing(talk: Talk, order: OrderIntent, avi: User) -> None:
    linked(approver("bea"), NOBODY)
    asked = talk.shown(AVI, f"/approve {order.pk}")

    assert "not yours" in nod(talk.presses(NOBODY, asked, "Approve"))
    assert "not yours" in nod(talk.presses(55_555, asked, "Approve"))  # linked to nobody
    assert status(order) == Status.SUGGESTED
    assert "is approved" in rewritten(talk.presses(AVI, asked, "Approve"))


def test_buttons_of_another_chat_do_nothing(talk: Talk, order: OrderIntent, avi: User) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")

    assert "not from this chat" in nod(talk.presses(AVI, asked, "Approve", chat=GROUP))
    assert status(order) == Status.SUGGESTED


def test_buttons_end_with_the_link(talk: Talk, order: OrderIntent, avi: User) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    talk.says(AVI, "/unlink")
    linked(avi, AVI)

    assert "not yours" in nod(talk.presses(AVI, asked, "Approve"))
    assert status(order) == Status.SUGGESTED


def test_in_a_group_nothing_is_decided_and_only_people_of_the_desk_are_heard(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    (answer,) = talk.says(AVI, f"/approve {order.pk}", chat=GROUP)
    assert "Not in a group" in answer.text
    assert not answer.buttons

    assert talk.says(NOBODY, f"/approve {order.pk}", chat=GROUP) == []
    (answer,) = talk.says(AVI, "/orders", chat=GROUP)
    assert f"/approve_{order.pk}" in answer.text


# --- when, and which plan ------------------------------------------------------------


def test_buttons_last_sixty_seconds(talk: Talk, order: OrderIntent, avi: User) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    talk.clock.pass_by(60)

    assert "60 seconds of this button are over" in nod(talk.presses(AVI, asked, "Approve"))
    assert status(order) == Status.SUGGESTED


def test_a_button_works_once(talk: Talk, order: OrderIntent, avi: User) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    talk.presses(AVI, asked, "Approve")

    assert "used already" in nod(talk.presses(AVI, asked, "Approve"))
    assert "used already" in nod(talk.presses(AVI, asked, "Leave"))
    assert IntentEvent.objects.filter(intent=order, kind="APPROVED").count() == 1


@pytest.mark.parametrize(
    "data", ["approve:", "reject:{nonce}", "approve:nonsense", "x", ":", "…" * 30]
)
def test_forged_buttons_do_nothing(talk: Talk, order: OrderIntent, avi: User, data: str) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    nonce = asked.buttons["Approve"].partition(":")[2]

    assert nod(talk.presses(AVI, asked, data.replace("{nonce}", nonce)))

    assert status(order) == Status.SUGGESTED


def test_a_plan_that_changed_is_refused_with_the_difference(
    talk: Talk, order: OrderIntent, avi: User, dana: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    revised = intents.revise(order.pk, by=dana, at=NOW, capital=Decimal(50))
    assert revised.applied, revised.reasons

    told = rewritten(talk.presses(AVI, asked, "Approve"))

    assert "refused" in told
    assert "The plan has changed" in told
    assert "Costs at most: " in told
    assert f"It waits still: /approve_{order.pk}" in told
    assert status(order) == Status.SUGGESTED


def test_a_version_that_changed_is_neither_approved_nor_rejected(
    talk: Talk, order: OrderIntent, avi: User, dana: User
) -> None:
    """The plan may come out as it was; the order is another version all the same."""
    yes = talk.shown(AVI, f"/approve {order.pk}")
    no = talk.shown(AVI, f"/reject {order.pk} thin")
    revised = intents.revise(order.pk, by=dana, at=NOW)
    assert revised.applied, revised.reasons
    assert OrderIntent.objects.get(pk=order.pk).plan_hash == order.plan_hash

    for asked, name in ((yes, "Approve"), (no, "Reject")):
        assert "has changed since it was shown" in rewritten(talk.presses(AVI, asked, name))

    assert status(order) == Status.SUGGESTED


def test_checks_of_the_moment_refuse_in_the_portals_words(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    killswitch.trip(reason="drill", at=NOW, actor="console")

    told = rewritten(talk.presses(AVI, asked, "Approve"))

    (check,) = [
        each
        for each in intents.recheck(order, at=talk.clock.at).failed
        if each.name == "KILL_SWITCH"
    ]
    assert check.value in told
    assert status(order) == Status.SUGGESTED


# --- crashes and races ---------------------------------------------------------------


def test_a_press_that_comes_again_after_a_crash_gets_its_answer_and_does_nothing_new(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    talk.inbox.presses(AVI, asked.buttons["Approve"], message=asked.message)
    update = talk.inbox.waiting()[-1]
    before = talk.inbox.last - 1
    rewritten(talk.serve())

    Mailbox.objects.update(last_update=before)  # it died before it had noted its place
    talk.clock.pass_by(300)
    talk.inbox.again(update)

    assert "is approved" in rewritten(talk.serve())
    assert IntentEvent.objects.filter(intent=order, kind="APPROVED").count() == 1


def test_a_press_that_was_noted_and_not_done_is_not_done_later(
    talk: Talk, order: OrderIntent, avi: User
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")
    talk.inbox.presses(AVI, asked.buttons["Approve"], message=asked.message)
    ShownOrder.objects.update(used_by=talk.inbox.last)  # it died right after taking the button
    talk.clock.pass_by(61)

    assert "60 seconds" in nod(talk.serve())
    assert status(order) == Status.SUGGESTED


def test_while_the_desk_is_busy_a_button_stays_good(
    talk: Talk, order: OrderIntent, avi: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = talk.shown(AVI, f"/approve {order.pk}")

    def busy(*_: Any, **__: Any) -> None:
        raise DeskBusy("lock")

    with monkeypatch.context() as patch:
        patch.setattr(shown, "in_turn", busy)
        assert "The desk is busy" in nod(talk.presses(AVI, asked, "Approve"))

    assert "is approved" in rewritten(talk.presses(AVI, asked, "Approve"))
