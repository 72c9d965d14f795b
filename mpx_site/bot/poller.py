"""Reading what people send to the bot: one reader per bot, from where the last one stopped."""

from __future__ import annotations

import asyncio
import secrets
import threading
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import structlog
from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connections
from django.utils import timezone
from telegram import Update
from telegram.error import Conflict, InvalidToken, TelegramError

from alerts import journal, trace
from alerts.models import Heartbeat, Trouble
from alerts.watchdog import BOT
from alerts.words import Words
from markets import lease
from markets.connections import drop_dead_connections
from mpx_site.bot.hearing import Heard, Nod, Pressed, Reply, Say, read
from mpx_site.bot.line import BotLine, trouble
from mpx_site.bot.models import Mailbox
from mpx_site.bot.reception import Reception

log = structlog.stdlib.get_logger(__name__)

TURN: Final = timedelta(seconds=60)  # longer than a poll and one update can take
LOOK_SECONDS: Final = 5.0  # between two looks at whether another reader has gone
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
STUBBORN: Final = 300.0  # after what only a person can mend: a wrong token
CONTENDED: Final = 30.0  # while another program reads what is for this bot
TRIES: Final = 5  # with one update that fails although all else works
SAME_NUMBERS: Final = timedelta(days=6)  # after a week of silence Telegram counts from anywhere
AWAY = (OperationalError, InterfaceError, InternalError)  # the last: it is read-only
BROKEN: Final = Words("That could not be done", ("Look in the portal; /status may help.",))
T = TypeVar("T")


class BotThread(threading.Thread):
    """Reads and answers until it is stopped. No failure of Telegram or database ends it."""

    def __init__(self) -> None:
        super().__init__(name="telegram-bot", daemon=True)
        self.bot = settings.TELEGRAM_BOT_TOKEN.partition(":")[0][:20]
        self.handled = 0
        self._holder = f"bot:{secrets.token_hex(8)}"
        self._reception = Reception()
        self._halt = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._polling: asyncio.Task[Any] | None = None
        self._tries = (0, 0)  # with which update, how many

    def run(self) -> None:
        try:
            self.serve()
        finally:
            connections.close_all()

    def serve(self) -> None:
        """Read and answer in this thread until `stop` is called from elsewhere."""
        with asyncio.Runner() as self._runner:
            self._loop = self._runner.get_loop()
            line = BotLine()
            try:
                self._work(line)
            finally:
                self._runner.run(line.close())
                with suppress(*AWAY):
                    lease.give_back(self._turn, holder=self._holder, at=timezone.now())

    def stop(self) -> None:
        """Ask it to end: what is under way is answered first. Join it to wait."""
        self._halt.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._give_up_polling)

    def _give_up_polling(self) -> None:
        if self._polling is not None:
            self._polling.cancel()

    @property
    def _turn(self) -> str:
        return f"telegram_bot:{self.bot}"

    def _work(self, line: BotLine) -> None:
        pause, failures = 0.0, 0
        while not self._halt.wait(pause):
            try:
                drop_dead_connections()
                pause, failures = self._round(line), 0
            except asyncio.CancelledError:  # the end was asked for while nothing was new
                return
            except (InvalidToken, Conflict) as error:
                log.error("bot.refused", why=trouble(error))
                pause = STUBBORN if isinstance(error, InvalidToken) else CONTENDED
            except (TelegramError, *AWAY) as error:
                failures += 1
                told = trouble(error) if isinstance(error, TelegramError) else type(error).__name__
                pause = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
                log.warning("bot.waits", seconds=pause, why=told)

    def _round(self, line: BotLine) -> float:
        """Ask for news once and answer it; return how long to wait before the next time."""
        if not self._has_turn():
            return LOOK_SECONDS
        for update in self._poll(line.news(after=self._place())):
            if self._halt.is_set() or not self._has_turn():
                break
            with trace.tracing(trace.new_id(), update=update.update_id):
                self._handle(line, update)
        self._beat()
        return 0.0

    def _has_turn(self) -> bool:
        name, at, until = self._turn, timezone.now(), timezone.now() + TURN
        kept = lease.keep(name, holder=self._holder, at=at, until=until)
        return kept or lease.take(name, holder=self._holder, at=at, until=until)

    def _place(self) -> int | None:
        """Return the last update that was dealt with; None where its number says nothing."""
        box, _ = Mailbox.objects.get_or_create(bot=self.bot)
        known = box.read_at is not None and timezone.now() - box.read_at < SAME_NUMBERS
        return box.last_update if known else None

    def _poll(self, news: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(self._until_stopped(news))

    async def _until_stopped(self, news: Coroutine[Any, Any, T]) -> T:
        polling = asyncio.ensure_future(news)
        self._polling = polling
        if self._halt.is_set():
            polling.cancel()
        try:
            return await polling
        finally:
            self._polling = None

    def _handle(self, line: BotLine, update: Update) -> None:
        """Do, answer, note the place: after a crash an update comes again, and does nothing new."""
        said = read(update)
        replies = self._answered(update, said) if said is not None else []
        for reply in replies:
            self._runner.run(line.tell(reply))
        box = Mailbox.objects.filter(bot=self.bot)
        box.update(last_update=update.update_id, read_at=timezone.now())
        self.handled += 1
        self._beat()

    def _answered(self, update: Update, said: Heard | Pressed) -> list[Reply]:
        """Return what is to be said; what fails for itself alone stops nothing after it."""
        number, tries = self._tries
        self._tries = update.update_id, tries + 1 if number == update.update_id else 1
        try:
            return self._reception.answer(said, at=timezone.now())
        except AWAY:
            if self._tries[1] < TRIES:
                raise  # the database is away: it is asked again, with the same update
            log.error("bot.given_up")
        except Exception as error:  # noqa: BLE001  (one message must not silence the bot for all)
            last = traceback.extract_tb(error.__traceback__)[-1]
            log.error("bot.failed", why=type(error).__name__, at=f"{last.name}:{last.lineno}")
        return (
            [Nod(said.press, BROKEN.headline)]
            if isinstance(said, Pressed)
            else [Say(said.chat, BROKEN)]
        )

    def _beat(self) -> None:
        journal.beat(BOT, at=timezone.now(), progress=self.handled)


def forget_bot(*, at: datetime) -> None:
    """Take away the signs of a bot that this desk has no more: nobody misses it."""
    Heartbeat.objects.filter(pk=BOT).delete()
    Trouble.objects.filter(component=BOT, ended_at=None).update(ended_at=at)
