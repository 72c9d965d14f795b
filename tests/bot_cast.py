"""A desk whose people talk to its bot over a real socket; the bot runs in the test's own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from mpx_site.bot import links
from mpx_site.bot.models import TelegramLink
from mpx_site.bot.poller import BotThread
from tests.bot_api import TOKEN
from tests.bot_inbox import Answered, Inbox
from tests.desk_cast import NOW

DANA, AVI, VERA, NOBODY = 11_111, 22_222, 33_333, 99_999  # Telegram's ids of people


class Clock:
    """The time that everything goes by."""

    def __init__(self) -> None:
        self.at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Talk:
    """What people write, and what they are answered."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self.inbox, self.clock = inbox, clock
        self.bot: BotThread | None = None

    def serve(self) -> list[Answered]:
        """Let the bot read what there is, then end; return what it has said meanwhile."""
        before = len(self.inbox.answered)
        bot = BotThread()
        self.bot, self.inbox.idle = bot, bot.stop
        bot.serve()
        return self.inbox.answered[before:]

    def says(self, who: int, text: str, **more: Any) -> list[Answered]:
        self.inbox.writes(who, text, **more)
        return self.serve()

    def told(self, who: int, text: str, **more: Any) -> str:
        """Say something and return the one answer."""
        (answer,) = self.says(who, text, **more)
        return answer.text

    def shown(self, who: int, text: str) -> Answered:
        """Ask for an order and return the message with its buttons."""
        (answer,) = self.says(who, text)
        return answer

    def presses(self, who: int, shown: Answered, button: str, **more: Any) -> list[Answered]:
        data = shown.buttons.get(button, button)
        self.inbox.presses(who, data, message=shown.message, **more)
        return self.serve()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timezone, "now", clock)
    return clock


@pytest.fixture
def talk(clock: Clock, settings: Any) -> Iterator[Talk]:
    settings.TELEGRAM_ENABLED, settings.TELEGRAM_BOT_TOKEN = True, TOKEN
    settings.MPX_PORTAL_URL = "https://desk.example"
    with Inbox(clock) as inbox:
        settings.TELEGRAM_API_URL = inbox.url
        yield Talk(inbox, clock)


def linked(user: User, telegram_id: int, *, at: datetime = NOW) -> TelegramLink:
    """Link an account as its person does."""
    code = links.make_code(user, at=at)
    link = links.link(code, telegram_id=telegram_id, name=f"u{telegram_id}", at=at)
    assert link is not None
    return link


Answering = Callable[[int, str], str]
