"""Send one message to the desk's Telegram chat now, and say what became of it."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from alerts import delivery
from alerts.messages import Later, Outcome, Sent

REFUSED, UNREACHABLE = 1, 3
TEXT = "MarketPulse-X reaches this chat."
EXAMPLES = """examples:
  manage.py telegram_test
  manage.py telegram_test --text "Drill at noon"
  manage.py telegram_test --json

without TELEGRAM_ENABLED, TELEGRAM_BOT_TOKEN and TELEGRAM_CHAT_ID it is a dry run: the
message is only logged.

exit codes: 0 sent, or a dry run; 1 Telegram refuses it; 3 Telegram or the database cannot be
reached"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--text", default=TEXT, help="what to say")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tested = delivery.send_test(options["text"], at=timezone.now())
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        told = tested.row
        self.stdout.write(json.dumps({"schema": 1, **told}) if options["json"] else _words(told))
        sys.exit(_code(tested.outcome))


def _code(outcome: Outcome | None) -> int:
    if outcome is None or isinstance(outcome, Sent):
        return 0
    return UNREACHABLE if isinstance(outcome, Later) else REFUSED


def _words(told: dict[str, Any]) -> str:
    if told["transport"] == delivery.DRY_RUN:
        return (
            "dry run: Telegram is off. Set TELEGRAM_ENABLED, TELEGRAM_BOT_TOKEN, TELEGRAM_CHAT_ID"
        )
    if told["sent"]:
        return f"sent to {told['chat']} as message {told['message_id']}"
    return f"not sent to {told['chat']}: {told['reason']}"
