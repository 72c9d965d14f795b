"""The bot's commands: who is answered, what they hear, what it changes, what is on record."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from alerts.models import AuditEntry, Silence
from mpx_site.bot import links
from mpx_site.bot.models import LinkCode, TelegramLink
from risk.models import KillSwitch
from tests import portal_cast
from tests.bot_cast import AVI, DANA, NOBODY, VERA, Clock, Talk, linked
from tests.bot_cast import clock as clock
from tests.bot_cast import talk as talk
from tests.bot_inbox import GROUP
from tests.desk_cast import NOW, approver, basket, person, prepare, show, suggested, trader

pytestmark = pytest.mark.django_db
HOSTILE = '<b>/kill_now</b> \u202e_*[x](tg://user?id=1) "quoted"'
STRANGERS_HEAR = "This bot speaks with people of one desk"


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
def vera() -> User:
    vera = person("vera", "viewer")
    linked(vera, VERA)
    return vera


def last_audit() -> tuple[str, str]:
    entry = AuditEntry.objects.order_by("-id")[0]
    return entry.kind, entry.actor


# --- who is it -----------------------------------------------------------------------


def test_strangers_hear_one_sentence_whatever_they_say_and_not_often(talk: Talk) -> None:
    said = ["/status", "/approve 1", "/link abcd-efgh-jkmn", "/help", "/nonsense", "/status"]

    for text in said:
        talk.inbox.writes(NOBODY, text)
    answers = talk.serve()

    assert len(answers) == 5
    assert len({answer.text for answer in answers}) == 1
    assert STRANGERS_HEAR in answers[0].text
    talk.clock.pass_by(601)
    assert STRANGERS_HEAR in talk.told(NOBODY, "/status")


def test_name_of_somebody_linked_is_no_link(talk: Talk, dana: User) -> None:
    assert STRANGERS_HEAR in talk.told(NOBODY, "/status", username=f"u{DANA}")


def test_whatever_is_no_command_of_its_writer_is_let_be(talk: Talk, dana: User) -> None:
    origin = {"type": "hidden_user", "sender_user_name": "x", "date": 1}
    talk.inbox.writes(DANA, "hello")
    talk.inbox.writes(DANA, "/kill forwarded", forward_origin=origin)
    talk.inbox.writes(DANA, "/kill as the group", chat=GROUP, sender_chat={"id": GROUP, "type": "supergroup", "title": "d"})  # fmt: skip  # noqa: E501

    assert talk.serve() == []
    assert not KillSwitch.objects.get().tripped


def test_a_switched_off_account_is_refused_everything(talk: Talk, dana: User) -> None:
    User.objects.filter(pk=dana.pk).update(is_active=False)

    assert "Your account is switched off." in talk.told(DANA, "/status")
    assert "Your account is switched off." in talk.told(DANA, "/kill stop")
    assert not KillSwitch.objects.get().tripped


def test_a_person_without_role_may_only_leave(talk: Talk) -> None:
    linked(person("nora"), 44_444)

    assert "This takes a role of the desk" in talk.told(44_444, "/signals")
    assert "Unlinked" in talk.told(44_444, "/unlink")
    assert not TelegramLink.objects.exists()


# --- linking -------------------------------------------------------------------------


def test_a_code_links_once_and_is_on_record(talk: Talk) -> None:
    code = links.make_code(trader("dana"), at=NOW)

    assert "You are linked" in talk.told(DANA, f"/link {code}", username=HOSTILE)

    link = TelegramLink.objects.get()
    assert (link.user.username, link.telegram_id) == ("dana", DANA)
    assert "\u202e" not in link.name
    assert last_audit() == ("telegram.linked", "dana via telegram")
    assert STRANGERS_HEAR in talk.told(NOBODY, f"/link {code}")
    assert "You are linked already" in talk.told(DANA, f"/link {code}")


@pytest.mark.parametrize("spoilt", ["late", "replaced", "inactive"])
def test_codes_that_open_nothing_are_answered_like_any_word(talk: Talk, spoilt: str) -> None:
    dana = trader("dana")
    code = links.make_code(dana, at=NOW)
    if spoilt == "late":
        talk.clock.pass_by(600)
    elif spoilt == "replaced":
        links.make_code(dana, at=NOW)
    else:
        User.objects.filter(pk=dana.pk).update(is_active=False)

    assert STRANGERS_HEAR in talk.told(DANA, f"/link {code}")
    assert not TelegramLink.objects.exists()


def test_a_code_said_in_a_group_is_burnt(talk: Talk) -> None:
    code = links.make_code(trader("dana"), at=NOW)

    assert talk.says(DANA, f"/link {code}", chat=GROUP) == []

    assert not LinkCode.objects.exists()
    assert STRANGERS_HEAR in talk.told(NOBODY, f"/link {code}")


def test_a_code_of_somebody_linked_is_burnt_in_a_group_too(talk: Talk, dana: User) -> None:
    code = links.make_code(dana, at=NOW)

    (answer,) = talk.says(DANA, f"/link {code}", chat=GROUP)

    assert "Not in a group" in answer.text
    assert not LinkCode.objects.exists()


def test_another_account_takes_the_place_of_the_first(talk: Talk, dana: User) -> None:
    code = links.make_code(dana, at=NOW)

    talk.says(NOBODY, f"/link {code}")

    assert TelegramLink.objects.get().telegram_id == NOBODY
    assert STRANGERS_HEAR in talk.told(DANA, "/status")


def test_a_code_is_kept_as_a_hash_only() -> None:
    code = links.make_code(trader("dana"), at=NOW)

    row = LinkCode.objects.get()
    assert len(code.replace("-", "")) == 12
    assert code.replace("-", "") not in (row.sha256, str(row.__dict__))


# --- looking -------------------------------------------------------------------------


def test_status_says_feed_switches_limits_and_orders(talk: Talk, vera: User) -> None:
    view, signal = basket()
    show(view)
    suggested(signal, trader("dana"))

    told = talk.told(VERA, "/status")

    assert told.splitlines()[:2] == [
        "<b>The desk sees the market</b>",
        "Feed: ok, last frame 0 ms ago (mock)",
    ]
    assert "Kill switch: off" in told
    assert "Open orders: 0 of 2 used" in told
    assert "Orders: 1 wait for approval, 0 at the paper venue" in told
    assert 'href="https://desk.example/health/"' in told
    talk.clock.pass_by(60)
    assert talk.told(VERA, "/status").startswith("<b>The feed is stale</b>")


def test_signals_name_ids_that_why_explains(talk: Talk, vera: User) -> None:
    basket(title=HOSTILE)

    told = talk.told(VERA, "/signals")
    why = talk.told(VERA, "/why_aaaaaaaa")

    assert "/why_aaaaaaaa" in told
    assert "/kill" not in told  # nothing of a title is a command to touch
    assert "<b>/" not in told
    assert "&lt;b&gt;" in told
    assert "\u202e" not in told + why
    assert "EXECUTABLE" in why
    assert "100.00 Yes of Outcome 0 at" in why
    assert "Profit " in why
    assert f'href="https://desk.example/signals/{"a" * 32}/"' in why


def test_why_asks_for_more_where_an_id_says_too_little(talk: Talk, vera: User) -> None:
    basket(key="ab" * 16)
    basket(event_id="8", key="ac" * 16)

    assert "More than one" in talk.told(VERA, "/why a")
    assert "no such signal" in talk.told(VERA, "/why zz' OR 1=1")
    assert "Which signal?" in talk.told(VERA, "/why")


def test_orders_say_who_may_decide(talk: Talk, dana: User) -> None:
    linked(approver("avi"), AVI)
    view, signal = basket()
    show(view)
    order = suggested(signal, dana)

    assert "not for you to approve" in talk.told(DANA, "/orders")
    assert f"/approve_{order.pk}" in talk.told(AVI, "/orders")


def test_help_names_every_command_and_an_unknown_one_leads_to_it(talk: Talk, vera: User) -> None:
    told = talk.told(VERA, "/help@some_bot")

    assert [re.split("[: ]", line)[0] for line in told.splitlines()[1:]] == [
        "/status", "/signals", "/why", "/orders", "/approve", "/reject", "/pause", "/resume",
        "/kill", "/unlink", "/help",
    ]  # fmt: skip
    assert "/help names what I know" in talk.told(VERA, "/nonsense")


# --- switching -----------------------------------------------------------------------


def test_pause_is_the_desks_silence_with_a_name_and_resume_ends_it(talk: Talk, dana: User) -> None:
    told = talk.told(DANA, "/pause 30 venue works on it")

    silence = Silence.objects.get()
    assert (silence.scope, silence.by, silence.reason) == ("ALL", dana, "venue works on it")
    assert silence.until == NOW.replace(microsecond=0) + timedelta(minutes=30)
    assert "No alerts until" in told
    assert last_audit() == ("silence.began", "dana via telegram")
    assert "trace_id" in AuditEntry.objects.order_by("-id")[0].data

    assert "told again" in talk.told(DANA, "/resume")
    assert Silence.objects.get().until == talk.clock.at
    assert last_audit() == ("silence.ended", "dana via telegram")
    assert "not silenced" in talk.told(DANA, "/resume")


def test_pause_takes_the_right_that_the_admin_asks_for(talk: Talk, vera: User) -> None:
    assert "silenced by trader, approver or admin" in talk.told(VERA, "/pause")
    assert not Silence.objects.exists()


def test_pause_takes_a_day_at_most(talk: Talk, dana: User) -> None:
    for text in ("/pause 0", "/pause 1441", f"/pause {'9' * 80}"):
        assert "from 1 to 1440" in talk.told(DANA, text)
    assert not Silence.objects.exists()


def test_what_was_said_long_ago_is_not_done(talk: Talk, dana: User) -> None:
    told = talk.told(DANA, "/pause 60", at=talk.clock.at - timedelta(minutes=3))

    assert "came too late" in told
    assert not Silence.objects.exists()


def test_kill_stops_the_desk_even_late_and_in_a_group(talk: Talk, dana: User) -> None:
    late = talk.clock.at - timedelta(hours=1)

    (answer,) = talk.says(DANA, "/kill odd <fills>", chat=GROUP, at=late)

    switch = KillSwitch.objects.get()
    assert (switch.tripped, switch.reason, switch.changed_by) == (True, "odd <fills>", "dana")
    assert answer.chat == GROUP
    assert "KILL SWITCH ON" in answer.text
    assert "odd &lt;fills&gt;" in answer.text
    assert last_audit() == ("killswitch.tripped", "dana via telegram")
    assert "It was on already" in talk.told(DANA, "/kill again")
    assert "I do not know that" in talk.told(DANA, "/rearm")


def test_kill_is_refused_in_the_portals_words(talk: Talk, vera: User) -> None:
    told = talk.told(VERA, "/kill for fun")

    assert "needs the permission trip_kill" in told
    assert not KillSwitch.objects.get().tripped
    assert last_audit() == ("killswitch.trip_refused", "vera via telegram")


def test_people_of_the_desk_may_ask_thirty_times_a_minute_and_stop_it_always(
    talk: Talk, dana: User
) -> None:
    for _ in range(33):
        talk.inbox.writes(DANA, "/orders")
    talk.inbox.writes(DANA, "/kill flood")

    assert len(talk.serve()) == 31
    assert KillSwitch.objects.get().tripped


# --- what is said stays short and unseen ---------------------------------------------


def test_a_long_answer_is_cut_to_one_message(talk: Talk, vera: User) -> None:
    for number in range(20):
        basket(event_id=str(20 + number), key=f"{number:032x}", title=f"{'&' * 300}{number}")

    told = talk.told(VERA, "/signals")

    assert "20 open P1 and P2" in told
    assert "and 12 more" in told
    assert len(told.replace("&amp;", "&")) < 4096


def test_no_log_line_has_text_of_people_or_the_token(
    talk: Talk, dana: User, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    caplog.set_level(logging.INFO)

    talk.says(DANA, "/pause 5 canary-reason")
    talk.says(NOBODY, "/link canary-code")

    told = "\n".join(str(record.__dict__) for record in caplog.records)
    assert "bot.command" in told
    assert "canary" not in told
    assert settings.TELEGRAM_BOT_TOKEN not in told
