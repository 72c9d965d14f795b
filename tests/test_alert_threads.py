"""Seen at once, then confirmed or gone, then over: one thread, and only where it was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F

from alerts import delivery, journal
from alerts.models import Manner, OutboxEntry, Voice
from signals import store
from tests import bot_api, hook_receiver, smtp_sink
from tests.bot_api import Answer
from tests.test_signal_store import KEY, NOON, OTHER_KEY, finding_of, later, opened
from tests.test_signal_store import rule as rule

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
telegram, hook, mail = bot_api.telegram, hook_receiver.hook, smtp_sink.mail


@pytest.fixture
def asked() -> None:
    """A desk that wants to hear of what is seen and of what is over."""
    Manner.objects.create(kind="signal.observed", how="ON")
    Manner.objects.create(kind="signal.closed", how="ON")


def seen(rule: Any, key: str = KEY, at: float = 0) -> Any:
    """What is executable and has not stood for long enough to be P1."""
    return opened(rule, at=at, key=key, level="P2")


def confirmed(change: Any, seconds: float = 0.25) -> Any:
    return later(change, "updated", seconds=seconds, level="P1")


def closed(change: Any, seconds: float, *, level: str) -> Any:
    return later(change, "closed", seconds=seconds, level=level, why="edge_gone")


def tell(seconds: float) -> int:
    at = NOON + timedelta(seconds=seconds)
    return delivery.deliver(at=at, clock=lambda: at)


def outbox() -> list[tuple[str, str]]:
    return list(OutboxEntry.objects.order_by("id").values_list("kind", "state"))


def did(telegram: Any) -> list[tuple[str, str]]:
    """Return method and first line of each message."""
    return [(each["method"], each["text"].splitlines()[0]) for each in telegram.taken]


SEEN = "<b>Seen, not yet confirmed: yes basket +1111.1 bps</b>"
P1 = "<b>P1 yes basket +1111.1 bps</b>"
GONE = "<b>Gone before it was confirmed: yes basket +1111.1 bps</b>"
OVER = "<b>Over: yes basket +1111.1 bps</b>"


# --- what is written -------------------------------------------------------------------


def test_nothing_more_is_written_unless_it_is_asked_for(rule):
    first = seen(rule)
    store.save([first, confirmed(first), closed(first, 9, level="P1")])
    store.save([gone := seen(rule, OTHER_KEY, at=900), closed(gone, 900.1, level="P2")])

    assert outbox() == [("signal.p1", "PENDING")]


def test_what_cannot_be_bought_is_not_seen_early(rule, asked):
    store.save([opened(rule, finding_of(verdict="THIN"))])

    assert outbox() == []


def test_each_stage_is_written_once(rule, asked):
    first = seen(rule)
    again = later(first, "updated", seconds=0.1)
    store.save([first, again, confirmed(first), closed(first, 9, level="P1")])

    assert [kind for kind, _ in outbox()] == ["signal.observed", "signal.p1", "signal.closed"]


def test_signal_that_was_p1_is_not_seen_early_again(rule, asked):
    p1 = opened(rule)
    thin = later(p1, "updated", seconds=10, finding=finding_of(verdict="THIN"))
    back = replace(later(thin, "updated", seconds=20, finding=finding_of()), level="P2")

    store.save([p1, thin, back])

    assert [kind for kind, _ in outbox()] == ["signal.p1"]


def test_flicker_is_seen_early_once_in_a_cooldown_and_its_p1_is_told(rule, asked):
    flicker = seen(rule)
    store.save([flicker, closed(flicker, 0.1, level="P2")])
    stays = seen(rule, OTHER_KEY, at=20)
    store.save([stays, confirmed(stays, 20.25)])

    assert outbox() == [
        ("signal.observed", "PENDING"),
        ("signal.unconfirmed", "PENDING"),
        ("signal.observed", "SUPPRESSED"),
        ("signal.p1", "PENDING"),
    ]


def test_signal_that_a_dead_process_left_is_over_too(rule, asked):
    store.save([opened(rule)])

    store.close_lost(at=NOON + timedelta(minutes=5))

    assert [kind for kind, _ in outbox()] == ["signal.p1", "signal.closed"]
    assert OutboxEntry.objects.get(kind="signal.closed").payload["close_reason"] == "process_lost"


# --- what is told by Telegram -----------------------------------------------------------


def test_message_of_what_was_seen_becomes_the_confirmed_one(rule, asked, telegram):
    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([confirmed(first)])
    tell(2)
    store.save([closed(first, 9.5, level="P1")])
    tell(10)

    assert did(telegram) == [
        ("sendMessage", SEEN),
        ("editMessageText", P1),
        ("sendMessage", OVER),
    ]
    assert telegram.taken[1]["message_id"] == "1"
    assert json.loads(telegram.taken[2]["reply_parameters"])["message_id"] == 1
    assert "lived 9.50 s, ended: edge gone" in telegram.texts[2]
    assert {state for _, state in outbox()} == {"SENT"}


def test_message_of_what_was_not_confirmed_says_so(rule, asked, telegram):
    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([closed(first, 0.2, level="P2")])
    tell(2)

    assert did(telegram) == [("sendMessage", SEEN), ("editMessageText", GONE)]
    assert "lived 0.20 s, ended: edge gone" in telegram.texts[1]


def test_edit_that_is_refused_becomes_an_answer(rule, asked, telegram):
    first = seen(rule)
    store.save([first])
    tell(0.1)
    telegram.answers.append(Answer(400, "Bad Request: message can't be edited"))
    store.save([confirmed(first)])
    tell(2)

    assert did(telegram) == [("sendMessage", SEEN), ("sendMessage", P1)]
    answers = json.loads(telegram.taken[1]["reply_parameters"])
    assert (answers["message_id"], answers["allow_sending_without_reply"]) == (1, True)
    assert OutboxEntry.objects.get(kind="signal.p1").message_id == 2


def test_confirmation_is_heard_where_what_was_seen_was_not(rule, asked, telegram):
    Manner.objects.filter(kind="signal.observed").update(how="SILENT")
    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([confirmed(first)])
    tell(2)

    assert did(telegram) == [("sendMessage", SEEN), ("sendMessage", P1)]
    assert [each["disable_notification"] for each in telegram.taken] == ["true", "false"]


def test_what_was_overtaken_is_not_told(rule, asked, telegram):
    first, gone = seen(rule), seen(rule, OTHER_KEY, at=300)
    store.save([first, confirmed(first)])
    tell(2)
    store.save([gone, closed(gone, 300.1, level="P2")])
    tell(302)

    assert did(telegram) == [("sendMessage", P1)]
    reasons = OutboxEntry.objects.filter(state="SUPPRESSED").order_by("id")
    assert list(reasons.values_list("reason", flat=True)) == [
        "confirmed before it was told",
        "gone before it was told",
        "gone before it was told",
    ]


def test_end_waits_for_what_it_goes_on_with(rule, asked, telegram):
    telegram.answers.append(Answer(500, "oops"))
    first = opened(rule)
    store.save([first, closed(first, 1, level="P1")])
    for seconds in (2, 4, 8, 10):
        tell(seconds)

    assert did(telegram) == [("sendMessage", P1), ("sendMessage", OVER)]
    assert "reply_parameters" in telegram.taken[1]


def test_end_of_what_failed_is_not_told(rule, asked, telegram):
    telegram.answers.append(Answer(400, "Bad Request: message text is empty"))
    first = opened(rule)
    store.save([first])
    tell(1)
    store.save([closed(first, 2, level="P1")])
    tell(3)

    assert outbox() == [("signal.p1", "FAILED"), ("signal.closed", "SUPPRESSED")]


def test_crash_after_an_edit_repeats_it_without_a_second_message(
    rule, asked, telegram, monkeypatch
):
    class Killed(BaseException):
        pass

    def die(*_args, **_kwargs):
        raise Killed

    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([confirmed(first)])
    at = NOON + timedelta(seconds=2)
    with monkeypatch.context() as crash:
        crash.setattr(delivery, "_settle", die)
        with pytest.raises(Killed):
            delivery._pass([delivery._turn("telegram")], at, lambda: at)
    telegram.answers.append(Answer(400, "Bad Request: message is not modified"))
    Voice.objects.update(held_until=F("held_until") - timedelta(seconds=61))

    tell(90)

    assert did(telegram) == [("sendMessage", SEEN), ("editMessageText", P1)]
    assert OutboxEntry.objects.get(kind="signal.p1").state == "SENT"


def test_what_was_told_with_others_is_not_changed(rule, asked, telegram):
    first = seen(rule)
    store.save([first])
    for number in range(5):
        journal.alert(key=f"breaker:{number}", kind="breaker.opened", payload={}, at=NOON)
    tell(0.1)
    store.save([confirmed(first)])
    tell(3)

    assert [method for method, _ in did(telegram)] == ["sendMessage"] * 2
    assert "reply_parameters" not in telegram.taken[1]


def test_pace_counts_edits(rule, asked, telegram):
    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([confirmed(first)])

    assert tell(0.3) == 0, "a message a second, whatever kind it is"
    assert tell(1.5) == 1


# --- the other voices -----------------------------------------------------------------------


def test_other_voices_get_each_stage_under_one_thread(rule, asked, hook, mail):
    first = seen(rule)
    store.save([first])
    tell(0.1)
    store.save([confirmed(first)])
    tell(2)
    store.save([closed(first, 9.5, level="P1")])
    tell(10)

    alerts = [body["alerts"][0] for body in hook.taken]
    assert [each["kind"] for each in alerts] == ["signal.observed", "signal.p1", "signal.closed"]
    assert {each["thread"] for each in alerts} == {f"signal:{KEY}"}
    assert [each["id"] for each in alerts] == [
        f"signal:{KEY}:observed", f"signal:{KEY}:P1", f"signal:{KEY}:closed"
    ]  # fmt: skip
    assert len({letter["References"] for letter in mail.letters}) == 1
    assert len({letter["Message-ID"] for letter in mail.letters}) == 3
    assert set(OutboxEntry.objects.values_list("attempts", flat=True)) == {1}


def test_signals_of_the_seed_name_all_that_told_them(rule, telegram, hook, client):
    store.save([opened(rule)])
    tell(1)
    client.force_login(User.objects.create_user("vera"))

    (signal,) = client.get("/api/signals").json()

    assert signal["payload_json"]["transport"] == "telegram,webhook"
