"""`telegram_bot`: answer what people of the desk send to its bot, until told to stop."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from alerts.watchdog import bot_is_set_up
from mpx_site.bot.poller import BotThread, forget_bot

USAGE = 2
EXAMPLES = """Ends on SIGTERM or Ctrl-C. One process answers at a time; others wait for their turn.
`up` has the bot inside.

exit codes: 0 told to stop; 2 TELEGRAM_ENABLED or TELEGRAM_BOT_TOKEN is missing"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, RawDescriptionHelpFormatter
        parser.add_argument("--seconds", type=float, help="end by itself after this time")

    def handle(self, *args: Any, **options: Any) -> None:
        if not bot_is_set_up():
            with suppress(DatabaseError):  # away, there is nothing to miss either
                forget_bot(at=timezone.now())
            raise CommandError("set TELEGRAM_ENABLED and TELEGRAM_BOT_TOKEN", returncode=USAGE)
        bot = BotThread()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: bot.stop())
        bot.start()
        bot.join(options["seconds"])
        if bot.is_alive():
            bot.stop()
            bot.join()
