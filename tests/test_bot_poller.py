"""Reading for the bot: from where it stopped, one at a time, through every kind of trouble."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError

from alerts.models import Heartbeat, Trouble
from alerts.watchdog import watched
from markets.models import Lease
from mpx_site.bot import commands, poller
from mpx_site.bot.models import Mailbox
from mpx_site.bot.poller import BotThread, forget_bot
from mpx_site.bot.reception import Reception
from tests import portal_cast
from tests.bot_api import TOKEN
from tests.bot_cast import VERA, Clock, Talk, linked
from tests.bot_cast import clock as clock
from tests.bot_cast import talk as talk
from tests.bot_inbox import FIRST
from tests.desk_cast import NOW, person, prepare
from tests.servers import wait_for

BOT = TOKEN.partition(":")[0]
one_thread = pytest.mark.django_db
threads = pytest.mark.django_db(transaction=True)


@pytest.fixture
def vera(clock: Clock) -> User:
    prepare()
    portal_cast.beat(at=NOW)
    vera = person("vera", "viewer")
    linked(vera, VERA)
    return vera


def place() -> int:
    return Mailbox.objects.get(bot=BOT).last_update


# --- where it is ---------------------------------------------------------------------


@one_thread
def test_another_start_goes_on_behind_what_was_dealt_with(talk: Talk, vera: User) -> None:
    talk.inbox.writes(VERA, "/orders")
    last = talk.inbox.writes(VERA, "/signals")

    assert len(talk.serve()) == 2
    assert place() == last

    assert len(talk.says(VERA, "/orders")) == 1
    assert talk.inbox.offsets[-2:] == [last + 1, last + 2]


@one_thread
def test_what_came_while_nobody_read_is_answered(talk: Talk, vera: User) -> None:
    talk.says(VERA, "/orders")

    talk.inbox.writes(VERA, "/orders")
    talk.inbox.writes(VERA, "/help")

    assert len(talk.serve()) == 2


@one_thread
def test_after_a_week_of_silence_numbers_may_begin_anywhere(talk: Talk, vera: User) -> None:
    talk.says(VERA, "/orders")
    talk.inbox.last = 5  # Telegram has chosen anew

    talk.clock.pass_by(7 * 86_400)

    assert len(talk.says(VERA, "/orders")) == 1
    assert place() == 6


@one_thread
def test_an_update_that_cannot_be_handled_stops_nothing_behind_it(
    talk: Talk, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(asked: commands.Asked) -> commands.Told:
        raise ValueError(asked.words)

    monkeypatch.setitem(commands.COMMANDS, "why", commands.Command("", broken))
    talk.inbox.writes(VERA, "/why x")
    talk.inbox.writes(VERA, "/orders")

    first, second = talk.serve()

    assert "could not be done" in first.text
    assert "Nothing waits" in second.text


@one_thread
def test_while_the_database_is_away_an_update_waits_and_one_that_always_fails_is_left(
    talk: Talk, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = Reception.answer

    def away(self: Reception, said: Any, *, at: Any) -> Any:
        asked.append(said.update)
        if said.update == FIRST + 1 and len(asked) < 3:
            raise OperationalError("away")
        if said.update == FIRST + 2:
            raise OperationalError("always")
        return answer(self, said, at=at)

    monkeypatch.setattr(Reception, "answer", away)
    monkeypatch.setattr(poller, "FIRST_PAUSE", 0.01)
    talk.inbox.writes(VERA, "/orders")
    talk.inbox.writes(VERA, "/orders")

    first, second = talk.serve()

    assert "Nothing waits" in first.text
    assert "could not be done" in second.text
    assert asked == [FIRST + 1] * 3 + [FIRST + 2] * poller.TRIES


# --- troubles of Telegram ------------------------------------------------------------


@one_thread
@pytest.mark.parametrize("status", [500, 502, 409, 401])
def test_polls_that_are_refused_are_made_again_and_nothing_beats_meanwhile(
    talk: Talk, vera: User, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    for name in ("FIRST_PAUSE", "STUBBORN", "CONTENDED"):
        monkeypatch.setattr(poller, name, 0.01)
    talk.inbox.refusals = [status] * 3
    beats: list[int] = []
    beat = BotThread._beat
    monkeypatch.setattr(
        BotThread, "_beat", lambda bot: (beats.append(len(talk.inbox.refusals)), beat(bot))
    )

    assert "Nothing waits" in talk.told(VERA, "/orders")

    assert set(beats) == {0}  # only once a poll had got through
    assert Heartbeat.objects.get(pk="telegram_bot").progress == 1


@one_thread
def test_no_reader_reads_while_another_does(talk: Talk, vera: User) -> None:
    Lease.objects.create(
        name=f"telegram_bot:{BOT}", holder="other", until=NOW + timedelta(seconds=60)
    )
    bot = BotThread()
    talk.inbox.writes(VERA, "/orders")
    timer = threading.Timer(0.3, bot.stop)
    timer.start()

    bot.serve()

    timer.join()
    assert talk.inbox.offsets == []
    assert not Heartbeat.objects.filter(pk="telegram_bot").exists()
    talk.clock.pass_by(61)  # the other died without a word
    assert len(talk.serve()) == 1
    assert Lease.objects.get().holder == ""  # given back at the end


# --- missing it ----------------------------------------------------------------------


@one_thread
def test_a_desk_without_bot_does_not_miss_it(talk: Talk, vera: User, settings: Any) -> None:
    talk.says(VERA, "/orders")
    Trouble.objects.create(component="telegram_bot", since=NOW)
    assert "telegram_bot" in watched()

    settings.TELEGRAM_ENABLED = False
    forget_bot(at=NOW)

    assert "telegram_bot" not in watched()
    assert not Heartbeat.objects.filter(pk="telegram_bot").exists()
    assert not Trouble.objects.filter(ended_at=None).exists()


# --- threads and processes -----------------------------------------------------------


@threads
def test_a_thread_ends_at_once_when_told_to_and_answers_until_then(
    talk: Talk, vera: User, clock: Clock
) -> None:
    bots = [BotThread(), BotThread()]  # two processes of one desk
    for bot in bots:
        bot.start()
    for _ in range(3):
        talk.inbox.writes(VERA, "/orders")
    wait_for(lambda: len(talk.inbox.answered) == 3, seconds=20, what="three answers")

    begun = time.monotonic()
    for bot in bots:
        bot.stop()
    for bot in bots:
        bot.join(20)

    assert not any(bot.is_alive() for bot in bots)
    assert time.monotonic() - begun < poller.LOOK_SECONDS
    assert sorted(bot.handled for bot in bots) == [0, 3]


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Give back how this process ends, which a command changes."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@threads
def test_command_answers_until_sigterm(talk: Talk, vera: User, own_signals: None) -> None:
    def end_once_answered() -> None:
        wait_for(lambda: talk.inbox.answered, seconds=30, what="an answer")
        os.kill(os.getpid(), signal.SIGTERM)

    talk.inbox.writes(VERA, "/orders")
    ender = threading.Thread(target=end_once_answered)
    ender.start()

    call_command("telegram_bot")

    ender.join()
    assert "Nothing waits" in talk.inbox.answered[0].text
    assert place() == talk.inbox.last


@one_thread
@pytest.mark.parametrize("lacking", ["TELEGRAM_ENABLED", "TELEGRAM_BOT_TOKEN"])
def test_command_says_what_it_lacks(talk: Talk, settings: Any, lacking: str) -> None:
    setattr(settings, lacking, "")

    with pytest.raises(CommandError, match="set TELEGRAM_ENABLED and TELEGRAM_BOT_TOKEN") as why:
        call_command("telegram_bot")

    assert why.value.returncode == 2
