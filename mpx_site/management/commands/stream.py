"""`stream`: the live path and the desk on it, until it is told to stop."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from mpx_site.desk import observers
from signals.commands import add_part_option, exit_code, run_until_stopped
from signals.running import LiveThread


class Command(BaseCommand):
    help = (
        "Follow the venue: frames -> books -> rules -> signals, and fill orders on paper. "
        "Ends on SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--source", default=settings.DATA_SOURCE, help="mock, real, replay:FILE"
        )
        parser.add_argument("--record", metavar="FILE", type=Path, help="also record every frame")
        add_part_option(parser)
        parser.add_argument("--seconds", type=float, help="end by itself after this time")

    def handle(self, *args: Any, **options: Any) -> None:
        thread = LiveThread(
            options["source"],
            recording=options["record"],
            part_bytes=options["part_bytes"],
            observe=observers,
        )
        run_until_stopped(thread, seconds=options["seconds"])
        if thread.failed:
            self.stderr.write(f"stream ended: {thread.failed}")
            sys.exit(exit_code(thread.failed))
