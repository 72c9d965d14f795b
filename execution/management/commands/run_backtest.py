"""`run_backtest`: run one backtest that was asked for on the portal."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from execution.backtest import runs
from execution.backtest.places import desk_places


class Command(BaseCommand):
    help = "Run a backtest that was taken up. The desk starts this by itself, in its own process."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        os.nice(10)  # the live path comes first
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the row is told
        try:
            runs.run(options["id"], desk_places())
        except runs.CannotRun as error:
            self.stderr.write(f"backtest {options['id']}: {error}")
            sys.exit(4)
