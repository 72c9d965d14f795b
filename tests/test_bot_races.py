"""Presses at once on a real PostgreSQL: one decision, whoever presses and however often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from alerts import journal
from alerts.models import AuditEntry
from execution.models import IntentEvent, IntentLeg, OrderIntent
from mpx_site.bot import links
from mpx_site.bot.commands import Asked, answer
from mpx_site.bot.hearing import Heard, Nod, Pressed, Reply, Rewrite
from mpx_site.bot.reception import Reception
from tests.bot_cast import AVI, NOBODY, linked
from tests.desk_cast import NOW, approver, basket, prepare, show, suggested, trader
from tests.test_desk_races import at_once

pytestmark = [pytest.mark.postgres(only=True), pytest.mark.django_db(transaction=True)]
ROUNDS = 5


@pytest.fixture(autouse=True)
def desk() -> None:
    prepare()


@pytest.fixture
def avi() -> User:
    avi = approver("avi")
    linked(avi, AVI)
    return avi


@pytest.fixture
def bea() -> User:
    bea = approver("bea")
    linked(bea, NOBODY)
    return bea


def order(number: int) -> OrderIntent:
    view, signal = basket(event_id=str(20 + number), key=f"{number:032x}")
    show(view)
    return suggested(signal, trader("dana"))


def button(who: int, order: OrderIntent) -> str:
    """Let somebody look at an order; return what its button carries."""
    link = links.holder(who)
    assert link is not None
    heard = Heard(1, who, "", who, True, NOW, "approve", str(order.pk))
    return answer(Asked(link, heard, NOW)).buttons[0].data


def press(who: int, data: str, *, update: int) -> list[Reply]:
    """Press as another reader of the bot would, with a door of its own."""
    return Reception().answer(Pressed(update, who, who, 5, f"p{update}", data), at=NOW)


def told(found: Sequence[Any]) -> list[str]:
    """Return what each press was answered with: by the new words, or by the nod alone."""
    assert not [each for each in found if isinstance(each, Exception)], found
    ends = [replies[-1] for replies in found]
    return sorted(each.words.headline if isinstance(each, Rewrite) else each.text
                  for each in ends if isinstance(each, Rewrite | Nod))  # fmt: skip


def approvals(order: OrderIntent) -> tuple[int, int]:
    """Return how often it was approved, and its legs."""
    events = IntentEvent.objects.filter(intent=order, kind="APPROVED").count()
    return events, IntentLeg.objects.filter(intent=order).count()


def test_of_two_approvers_at_once_one_decides(avi: User, bea: User, settings: Any) -> None:
    settings.EXEC_MAX_CONCURRENT_ORDERS = 100
    for number in range(ROUNDS):
        found = order(number)
        pressed = at_once(
            [
                partial(press, AVI, button(AVI, found), update=10 * number + 1),
                partial(press, NOBODY, button(NOBODY, found), update=10 * number + 2),
            ]
        )

        assert told(pressed) == [
            f"Order {found.pk} is approved. Its legs are on their way",
            f"Order {found.pk}: refused",
        ]
        assert approvals(found) == (1, 3)
    assert journal.verify_head() == AuditEntry.objects.count()


def test_one_button_pressed_ten_times_at_once_decides_once(avi: User) -> None:
    found = order(1)
    data = button(AVI, found)

    pressed = at_once([partial(press, AVI, data, update=number) for number in range(10)])

    assert told(pressed)[0] == f"Order {found.pk} is approved. Its legs are on their way"
    assert set(told(pressed)[1:]) == {"This button was used already."}
    assert approvals(found) == (1, 3)


def test_one_update_at_two_readers_at_once_decides_once(avi: User) -> None:
    found = order(1)
    data = button(AVI, found)

    pressed = at_once([partial(press, AVI, data, update=7)] * 2)

    assert told(pressed) == [f"Order {found.pk} is approved. Its legs are on their way"] * 2
    assert approvals(found) == (1, 3)


def test_one_code_sent_by_two_accounts_at_once_links_one() -> None:
    for number in range(ROUNDS):
        code = links.make_code(trader(f"dana-{number}"), at=NOW)
        made = at_once(
            [
                partial(links.link, code, telegram_id=100 * number + who, name="", at=NOW)
                for who in (1, 2)
            ]
        )

        assert [each is None for each in made].count(False) == 1
