"""Who looks after a signal: steps of persons, their reasons, and what they may not do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction

from alerts import journal
from alerts.models import AuditEntry, FeedEntry
from signals import handling, store
from signals.models import Signal, SignalStep
from tests import portal_cast as cast
from tests.portal_cast import START

pytestmark = pytest.mark.django_db
Act = SignalStep.Act
HOUR = timedelta(hours=1)


def person(name: str, role: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def dana() -> User:
    return person("dana", "trader")


@pytest.fixture
def signals() -> list[Signal]:
    view = cast.view_of(0.30, 0.30, 0.30)
    cast.list_event(view)
    return cast.many_signals(3, view)


def keys(rows: Any) -> set[str]:
    return {row.key for row in rows}


def handled(name: str, by: User, *, at: Any = START) -> set[str]:
    return keys(Signal.objects.handled(name, by=by, at=at))


def test_acknowledged_signal_has_an_owner_and_is_new_no_more(
    signals: list[Signal], dana: User
) -> None:
    first, *others = signals

    taken = handling.take([first.key, "nope"], Act.ACK, by=dana, at=START)

    assert taken.done == (first.key,)
    assert taken.left == (("nope", "unknown"),)
    assert handled("acked", dana) == handled("mine", dana) == {first.key}
    assert handled("mine", person("kim", "analyst")) == set()
    assert handled("new", dana) == keys(others)
    assert handled("", dana) == keys(signals)


def test_snooze_ends_by_itself(signals: list[Signal], dana: User) -> None:
    handling.take([signals[0].key], Act.SNOOZE, by=dana, at=START, snooze=HOUR)

    before, after = START + HOUR * 0.99, START + HOUR
    assert handled("snoozed", dana, at=before) == {signals[0].key}
    assert signals[0].key not in handled("new", dana, at=before)
    assert handled("snoozed", dana, at=after) == set()
    assert signals[0].key in handled("new", dana, at=after)


def test_the_later_step_stands_and_the_earlier_is_kept(signals: list[Signal], dana: User) -> None:
    key, kim = signals[0].key, person("kim", "approver")
    handling.take([key], Act.ACK, by=dana, at=START)
    handling.take([key], Act.ACK, by=kim, at=START)
    handling.take([key], Act.DISMISS, by=kim, at=START, text="same as yesterday")

    assert handled("dismissed", dana) == {key}
    assert list(signals[0].steps.order_by("id").values_list("act", "by__username", "current")) == [
        ("ACK", "dana", False),
        ("ACK", "kim", False),
        ("DISMISS", "kim", True),
    ]


def test_opened_again_is_new_and_a_comment_changes_nothing(
    signals: list[Signal], dana: User
) -> None:
    key = signals[0].key
    handling.take([key], Act.ACK, by=dana, at=START)
    handling.take([key], Act.COMMENT, by=dana, at=START, text=" looks thin ")
    assert handled("mine", dana) == {key}

    handling.take([key], Act.REOPEN, by=dana, at=START)

    assert key in handled("new", dana)
    assert signals[0].steps.get(act="COMMENT").text == "looks thin"


def test_what_would_change_nothing_is_left_with_its_reason(
    signals: list[Signal], dana: User
) -> None:
    key = signals[0].key
    Signal.objects.filter(key=key).update(status="CLOSED", closed_at=START)

    def left(act: Any, **more: Any) -> str:
        taken = handling.take([key], act, by=dana, at=START, **more)
        return "" if taken.done else taken.left[0][1]

    assert left(Act.REOPEN) == "new already"
    assert left(Act.SNOOZE, snooze=HOUR) == "closed"
    assert (left(Act.ACK), left(Act.ACK)) == ("", "acknowledged by you already")
    assert left(Act.DISMISS, text="no") == ""
    assert left(Act.DISMISS, text="no") == "dismissed already"


@pytest.mark.parametrize(
    ("act", "more", "word"),
    [
        (Act.DISMISS, {"text": " "}, "say why"),
        (Act.COMMENT, {}, "say why"),
        (Act.COMMENT, {"text": "x" * 601}, "600 characters"),
        (Act.SNOOZE, {}, "its length"),
        (Act.ACK, {"snooze": HOUR}, "its length"),
        (Act.SNOOZE, {"snooze": timedelta(days=8)}, "7 days"),
        (Act.SNOOZE, {"snooze": -HOUR}, "7 days"),
    ],
)
def test_step_that_cannot_be_is_refused_whole(
    signals: list[Signal], dana: User, act: Any, more: Any, word: str
) -> None:
    with pytest.raises(handling.StepRefused, match=word):
        handling.take([signals[0].key], act, by=dana, at=START, **more)

    assert not SignalStep.objects.exists()


def test_no_signal_and_too_many_are_refused(dana: User) -> None:
    with pytest.raises(handling.StepRefused, match="Tick"):
        handling.take([], Act.ACK, by=dana, at=START)
    with pytest.raises(handling.StepRefused, match="50"):
        handling.take([str(number) for number in range(51)], Act.ACK, by=dana, at=START)


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_refusal_for_want_of_a_role_is_in_the_audit_chain(signals: list[Signal], role: str) -> None:
    with pytest.raises(handling.MayNot, match="trader"):
        handling.take([signals[0].key], Act.ACK, by=person("vic", role), at=START)

    entry = AuditEntry.objects.get(kind="signal.step_refused")
    assert (entry.actor, entry.subject) == ("vic", "user:vic")
    assert entry.data["keys"] == [signals[0].key]
    assert not SignalStep.objects.exists()


@pytest.mark.parametrize("role", ["trader", "approver", "analyst"])
def test_who_watches_or_decides_may(signals: list[Signal], role: str) -> None:
    assert handling.take([signals[0].key], Act.ACK, by=person("may", role), at=START).done


def test_each_step_is_in_the_audit_chain_and_told_to_open_lists(
    signals: list[Signal], dana: User
) -> None:
    before = FeedEntry.objects.count()

    handling.take(sorted(keys(signals)), Act.SNOOZE, by=dana, at=START, snooze=HOUR)

    entries = AuditEntry.objects.filter(kind="signal.snoozed", actor="dana")
    assert {entry.subject for entry in entries} == {f"signal:{each.key}" for each in signals}
    assert entries[0].data["until"].startswith("2026-05-01T13:00")
    told = FeedEntry.objects.order_by("id")[before:]
    assert {(each.topic, each.kind, each.payload["key"]) for each in told} == {
        (store.TOPIC, "updated", each.key) for each in signals
    }
    journal.verify()


def test_database_holds_one_current_step_and_its_reasons(signals: list[Signal], dana: User) -> None:
    def write(**fields: Any) -> None:
        with transaction.atomic():
            SignalStep.objects.create(signal=signals[0], by=dana, at=START, **fields)

    write(act="ACK", current=True)
    for wrong in (
        {"act": "ACK", "current": True},
        {"act": "SNOOZE"},
        {"act": "ACK", "until": START},
        {"act": "DISMISS"},
        {"act": "COMMENT", "text": "x", "current": True},
    ):
        with pytest.raises(IntegrityError):
            write(**wrong)
