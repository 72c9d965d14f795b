"""Telegram's Bot API as one voice of the desk: a message out, an outcome back.

The token is part of every address of that API, so no text of an error leaves here unmasked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

os.environ.setdefault("PTB_TIMEDELTA", "true")  # or each RetryAfter warns of what is to come

from telegram import Bot, LinkPreviewOptions
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    EndPointNotFound,
    Forbidden,
    InvalidToken,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

SECONDS: Final = 10.0  # for one message, whatever the far side does
MOST_DETAIL: Final = 200
CANNOT_PARSE: Final = "can't parse entities"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `plain` is sent instead where Telegram cannot read the markup."""

    html: str
    plain: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """It was taken. `chat` is another than asked if the group has become one of another id."""

    message_id: int
    chat: str


@dataclass(frozen=True, slots=True)
class Later:
    """It was not taken, and may be in `seconds`; None when nobody says how long."""

    reason: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """It will not be taken. `voice` says whether no other message would be either."""

    reason: str
    voice: bool


Outcome = Sent | Later | Never


@dataclass(frozen=True, slots=True)
class Line:
    """A bot and a chat to write to. `api` is the address before the token."""

    token: str
    chat: str
    api: str

    def send(self, messages: Sequence[Message], *, apart: float) -> list[Outcome]:
        """Send one after the other, `apart` seconds; stop at the first that is not taken.

        One bot per call: it belongs to the event loop that it was made in.
        """
        return asyncio.run(self._send_all(messages, apart))

    async def _send_all(self, messages: Sequence[Message], apart: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        request = HTTPXRequest(read_timeout=SECONDS, connect_timeout=SECONDS / 2)
        bot = Bot(self.token, base_url=self.api, request=request)
        chat = self.chat
        try:
            for message in messages:
                if outcomes:
                    await asyncio.sleep(apart)
                outcomes.append(await self._send(bot, chat, message))
                last = outcomes[-1]
                if not isinstance(last, Sent):
                    break
                chat = last.chat
        finally:
            await request.shutdown()
        return outcomes

    async def _send(self, bot: Bot, chat: str, message: Message) -> Outcome:
        try:
            async with asyncio.timeout(SECONDS):
                return await self._told(bot, chat, message)
        except TimeoutError:
            return Later(f"no answer within {SECONDS:g} s")
        except RetryAfter as error:
            return Later("Telegram asks to wait", _seconds(error))
        except (InvalidToken, EndPointNotFound, Forbidden, Conflict) as error:
            return Never(self._reason(error), voice=True)
        except BadRequest as error:
            reason = self._reason(error)
            return Never(reason, voice="chat" in reason.lower())
        except TelegramError as error:
            return Later(self._reason(error))

    async def _told(self, bot: Bot, chat: str, message: Message) -> Sent:
        try:
            return await self._post(bot, chat, message.html, "HTML", message.silent)
        except ChatMigrated as moved:
            return await self._post(
                bot, str(moved.new_chat_id), message.html, "HTML", message.silent
            )
        except BadRequest as error:
            if CANNOT_PARSE not in str(error).lower():
                raise
            return await self._post(bot, chat, message.plain, None, message.silent)

    @staticmethod
    async def _post(bot: Bot, chat: str, text: str, mode: str | None, silent: bool) -> Sent:
        told = await bot.send_message(
            chat,
            text,
            parse_mode=mode,
            disable_notification=silent,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        )
        return Sent(told.message_id, chat)

    def _reason(self, error: Exception) -> str:
        told = f"{type(error).__name__}: {error}".replace(self.token, "[token]")
        return told[:MOST_DETAIL]

    @property
    def group(self) -> bool:
        """Say whether the chat is a group or channel: their ids are negative, or names."""
        return self.chat.startswith(("-", "@"))

    @property
    def masked(self) -> str:
        """Name the chat so that a person knows it again and nobody else learns it."""
        return f"…{self.chat[-4:]}"

    def __repr__(self) -> str:
        return f"<Line to {self.masked}>"


def _seconds(error: RetryAfter) -> float:
    asked = error.retry_after
    return asked.total_seconds() if isinstance(asked, timedelta) else float(asked)
