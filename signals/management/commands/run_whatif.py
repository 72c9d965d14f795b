"""`run_whatif`: answer one what-if that was asked for on the rule's page."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from signals import whatif_runs


class Command(BaseCommand):
    help = "Run a what-if that was taken up. The desk starts this by itself, in its own process."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        os.nice(10)  # the live path comes first
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the row is told
        whatif_runs.run(
            options["id"],
            kept_folder=settings.MPX_KEEP_DIR,
            recordings_folder=settings.MPX_RECORDINGS,
        )
