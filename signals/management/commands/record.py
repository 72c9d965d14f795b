"""`record`: write down everything the venue sends; nothing is stored in the database."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from signals.commands import add_part_option, exit_code, run_until_stopped
from signals.running import LiveThread


class Command(BaseCommand):
    help = "Record raw frames with their receive times, for `replay`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", metavar="FILE", type=Path, required=True)
        parser.add_argument(
            "--source", default=settings.DATA_SOURCE, help="mock, real, replay:FILE"
        )
        add_part_option(parser)
        parser.add_argument("--seconds", type=float, help="end by itself after this time")
        parser.add_argument("--json", action="store_true", help="print one object at the end")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = options["out"].parent
        if not folder.is_dir():
            raise CommandError(f"--out {options['out']}: there is no folder {folder}", returncode=2)
        thread = LiveThread(
            options["source"],
            recording=options["out"],
            part_bytes=options["part_bytes"],
            store=False,
        )
        run_until_stopped(thread, seconds=options["seconds"])
        if thread.failed or thread.live is None:
            self.stderr.write(f"record ended: {thread.failed}")
            sys.exit(exit_code(thread.failed))
        told = {
            "file": str(options["out"]),
            "frames": thread.live.pipeline.frames,
            "digest": thread.live.digest,
        }
        self.stdout.write(
            json.dumps(told)
            if options["json"]
            else f"{told['frames']} frames in {told['file']}, digest {told['digest']}"
        )
