"""`stream`: the live path and the desk on it, until it is told to stop."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from markets.recording import NotARecording
from mpx_site.desk import observers
from signals.commands import add_part_option, exit_code, run_until_stopped
from signals.running import LiveThread, check_source
from signals.share import Share
from signals.sharing import Sharing


class Command(BaseCommand):
    help = (
        "Follow the venue: frames -> books -> rules -> signals, and fill orders on paper. "
        "Several share the venue by MPX_STREAM_SHARDS; one that is not needed waits as a spare. "
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
        def make(share: Share) -> LiveThread:
            return LiveThread(
                options["source"],
                recording=share.file(options["record"]),
                part_bytes=options["part_bytes"],
                observe=partial(observers, share=share),
                share=share,
            )

        try:
            check_source(options["source"])  # before anything is taken
        except (ImproperlyConfigured, NotARecording, OSError) as error:
            self._fail(error)
        sharing = Sharing(settings.MPX_STREAM_SHARDS, make)
        run_until_stopped(sharing, seconds=options["seconds"])
        if sharing.failed:
            self._fail(sharing.failed)

    def _fail(self, error: BaseException) -> NoReturn:
        self.stderr.write(f"stream ended: {error}")
        sys.exit(exit_code(error))
