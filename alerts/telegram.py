"""Telegram's Bot API as one voice of the desk: a message out, an outcome back.

The token is part of every address of that API, so no text of an error leaves here unmasked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final

os.environ.setdefault("PTB_TIMEDELTA", "true")  # or each RetryAfter warns of what is to come

from telegram import Bot, LinkPreviewOptions, ReplyParameters
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

from alerts.messages import Later, Message, Never, Outcome, Sent
from alerts.pace import CHAT, GROUP, SECOND, Limits

SECONDS: Final = 10.0  # for one message, whatever the far side does
MOST_DETAIL: Final = 200
CANNOT_PARSE: Final = "can't parse entities"
NOT_MODIFIED: Final = "message is not modified"


@dataclass(frozen=True, slots=True)
class Line:
    """A bot and a chat to write to. `api` is the address before the token."""

    token: str
    chat: str
    api: str

    most: ClassVar[int] = 1_000

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send one after the other; stop at the first that is not taken.

        One bot per call: it belongs to the event loop that it was made in.
        """
        return asyncio.run(self._send_all(messages))

    async def _send_all(self, messages: Sequence[Message]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        request = HTTPXRequest(read_timeout=SECONDS, connect_timeout=SECONDS / 2)
        bot = Bot(self.token, base_url=self.api, request=request)
        chat = self.chat
        try:
            for message in messages:
                if outcomes:
                    await asyncio.sleep(SECOND)
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
        if message.edit and message.about is not None and await self._edited(bot, chat, message):
            return Sent(message.about, chat)
        try:
            return await self._post(bot, chat, message)
        except ChatMigrated as moved:
            return await self._post(bot, str(moved.new_chat_id), message)
        except BadRequest as error:
            if CANNOT_PARSE not in str(error).lower():
                raise
            return await self._post(bot, chat, message, plain=True)

    @staticmethod
    async def _edited(bot: Bot, chat: str, message: Message) -> bool:
        """Change the earlier message into this one; False if that is refused."""
        try:
            await bot.edit_message_text(
                message.html,
                chat_id=chat,
                message_id=message.about,
                parse_mode="HTML",
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            )
        except BadRequest as error:
            return NOT_MODIFIED in str(error).lower()  # it was done, and not written down
        except ChatMigrated:
            return False
        return True

    @staticmethod
    async def _post(bot: Bot, chat: str, message: Message, *, plain: bool = False) -> Sent:
        answers = None
        if message.about is not None:
            answers = ReplyParameters(message.about, allow_sending_without_reply=True)
        told = await bot.send_message(
            chat,
            message.plain if plain else message.html,
            parse_mode=None if plain else "HTML",
            disable_notification=message.silent,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
            reply_parameters=answers,
        )
        return Sent(told.message_id, chat)

    def _reason(self, error: Exception) -> str:
        told = f"{type(error).__name__}: {error}".replace(self.token, "[token]")
        return told[:MOST_DETAIL]

    @property
    def limits(self) -> Limits:
        """Return the limits of the chat; ids of groups and channels are negative, or names."""
        return GROUP if self.chat.startswith(("-", "@")) else CHAT

    @property
    def masked(self) -> str:
        """Name the chat so that a person knows it again and nobody else learns it."""
        return f"…{self.chat[-4:]}"

    def __repr__(self) -> str:
        return f"<Line to {self.masked}>"


def _seconds(error: RetryAfter) -> float:
    asked = error.retry_after
    return asked.total_seconds() if isinstance(asked, timedelta) else float(asked)
