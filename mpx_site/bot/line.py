"""The Bot API as the bot uses it: what is new, and an answer. Nothing here raises with a token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

os.environ.setdefault("PTB_TIMEDELTA", "true")  # or each RetryAfter warns of what is to come

import structlog
from django.conf import settings
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, Update
from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from alerts.words import as_html, as_text
from mpx_site.bot.hearing import Nod, Reply, Rewrite, Say
from mpx_site.bot.words import fitted
from mpx_site.secret_words import masked

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS: Final = 8  # how long Telegram keeps a question for news open
SECONDS: Final = 10.0  # for any other answer of Telegram's, whatever the far side does
AT_ONCE: Final = 50
TRIES: Final = 2
LONGEST_WAIT: Final = 5.0  # that an answer is worth
MOST_NOD: Final = 190  # of 200 characters
CANNOT_PARSE: Final = "can't parse entities"


class BotLine:
    """One bot within one event loop; `close` it there."""

    def __init__(self) -> None:
        token, api = settings.TELEGRAM_BOT_TOKEN, settings.TELEGRAM_API_URL
        self._requests = [
            HTTPXRequest(read_timeout=SECONDS, connect_timeout=SECONDS / 2) for _ in range(2)
        ]
        asking, news = self._requests
        self._bot = Bot(token, base_url=api, request=asking, get_updates_request=news)

    async def news(self, *, after: int | None) -> tuple[Update, ...]:
        """Wait for updates beyond one, or any; what came before is done with.

        Raises `TelegramError`.
        """
        try:
            async with asyncio.timeout(POLL_SECONDS + SECONDS):
                return await self._bot.get_updates(
                    offset=None if after is None else after + 1,
                    limit=AT_ONCE,
                    timeout=POLL_SECONDS,
                    allowed_updates=[Update.MESSAGE, Update.CALLBACK_QUERY],
                )
        except TimeoutError:
            raise NetworkError("no answer in time") from None

    async def tell(self, reply: Reply) -> bool:
        """Say something; an answer that does not get through is dropped after some tries."""
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(SECONDS):
                    await self._tell(reply)
                return True
            except RetryAfter as error:
                await asyncio.sleep(min(_seconds(error), LONGEST_WAIT))
            except (TimeoutError, NetworkError) as error:
                if isinstance(error, BadRequest):
                    return _dropped(error)
                await asyncio.sleep(0.2)
            except TelegramError as error:
                return _dropped(error)
        return _dropped(NetworkError(f"not taken in {TRIES} tries"))

    async def _tell(self, reply: Reply) -> None:
        if isinstance(reply, Nod):
            await self._bot.answer_callback_query(reply.press, reply.text[:MOST_NOD])
            return
        words, portal = fitted(reply.words), settings.MPX_PORTAL_URL
        send = self._sender(reply)
        try:
            await send(as_html(words, portal=portal), "HTML")
        except BadRequest as error:
            if CANNOT_PARSE not in str(error).lower():
                raise
            await send(as_text(words, portal=portal), None)

    def _sender(self, reply: Say | Rewrite) -> Callable[[str, str | None], Awaitable[object]]:
        quiet = LinkPreviewOptions(is_disabled=True)
        if isinstance(reply, Rewrite):
            return lambda text, mode: self._bot.edit_message_text(
                text, reply.chat, reply.message, parse_mode=mode, link_preview_options=quiet
            )
        rows = [[InlineKeyboardButton(each.text, callback_data=each.data)
                 for each in reply.buttons]]  # fmt: skip
        keys = InlineKeyboardMarkup(rows) if reply.buttons else None
        return lambda text, mode: self._bot.send_message(
            reply.chat, text, parse_mode=mode, reply_markup=keys, link_preview_options=quiet
        )

    async def close(self) -> None:
        for request in self._requests:
            await request.shutdown()


def _dropped(error: TelegramError) -> bool:
    log.warning("bot.answer_lost", why=trouble(error))
    return False


def trouble(error: TelegramError) -> str:
    """Name an error of the Bot API without what it may quote of an address."""
    return masked(f"{type(error).__name__}: {error}")[:200]


def _seconds(error: RetryAfter) -> float:
    asked = error.retry_after
    return asked.total_seconds() if isinstance(asked, timedelta) else float(asked)
