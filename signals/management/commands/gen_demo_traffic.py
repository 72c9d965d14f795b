"""Put bursts on in the simulated venue of a running desk, so that one sees the desk react."""

from __future__ import annotations

import argparse
import json
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from signals import demo

NEGATIVE, UNREACHABLE, REFUSED = 1, 3, 5
TAKE_SECONDS = 15.0  # within which a running venue takes a burst up
SIGNAL_SECONDS = 10.0  # and within which what was planted is a signal
EXAMPLES = """examples:
  manage.py gen_demo_traffic                       one burst of five
  manage.py gen_demo_traffic --bursts 6 --every 30 --plants 8 --json

The desk must run with DATA_SOURCE=mock (`manage.py up`, or `manage.py stream`).
What is planted goes through books, rules, signals, alerts and feed like everything else.

exit codes: 0 P1 signals came; 1 none came; 2 wrong call; 3 no database;
5 no desk with a simulated venue took it up"""


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--bursts", type=_from(1, 1_000), default=1)
        parser.add_argument("--plants", type=_from(1, demo.MOST_PLANTS), default=5)
        parser.add_argument(
            "--every", type=_from(1, 3_600), default=20, help="seconds from burst to burst"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        begun, planted = timezone.now(), 0
        try:
            for number in range(options["bursts"]):
                if number:
                    time.sleep(options["every"])
                planted += demo.burst(options["plants"], seconds=TAKE_SECONDS)
                self.stderr.write(f"burst {number + 1} of {options['bursts']}: {planted} planted")
            p1 = demo.p1_since(begun, wanted=planted, seconds=SIGNAL_SECONDS)
        except demo.NobodyThere:
            raise CommandError(
                "no desk with a simulated venue took it up. Start `manage.py up` with "
                "DATA_SOURCE=mock, and give this command the same database.",
                returncode=REFUSED,
            ) from None
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        told = {"schema": 1, "bursts": options["bursts"], "planted": planted, "p1": p1}
        words = f"{planted} planted in {options['bursts']} bursts; {p1} P1 signals since"
        self.stdout.write(json.dumps(told) if options["json"] else words)
        if not p1:
            sys.exit(NEGATIVE)


def _from(low: int, high: int) -> Any:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} must be a whole number from {low} to {high}")
        return int(text)

    return number
