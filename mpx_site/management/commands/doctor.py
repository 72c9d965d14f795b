"""`doctor`: say in plain words what is well, what is not, and what to do about it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mpx_site import doctor
from mpx_site.doctor import Result

USAGE = 2


class Command(BaseCommand):
    help = (
        "Check this desk: configuration, database, what runs, and what must be reachable. "
        "Exit code 0 all well (warnings allowed), 1 something failed, 3 something is unreachable."
    )
    requires_system_checks = []  # it looks further than they do, and must run when they fail

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--only", metavar="NAME[,NAME...]", default="",
                            help=f"of: {', '.join(doctor.NAMES)}")  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        results = doctor.examine(_names(options["only"]))
        code = doctor.exit_code(results)
        if options["json"]:
            told = {"schema": 1, "exit_code": code, "checks": [each.row() for each in results]}
            self.stdout.write(json.dumps(told))
        else:
            self._tell(results)
        self.stdout.flush()
        sys.exit(code)

    def _tell(self, results: Sequence[Result]) -> None:
        width = max(len(result.name) for result in results)
        for result in results:
            seen = result.seen
            self.stdout.write(f"{seen.state:<4}  {result.name:<{width}}  {seen.text}")
            if seen.todo:
                self.stdout.write(f"{'':<{width + 6}}  -> {seen.todo}")
        counted = Counter(result.seen.state for result in results)
        summary = f"{counted['ok']} ok, {counted['warn']} warnings, {counted['fail']} failed"
        self.stdout.write(f"\n{summary}")


def _names(only: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    unknown = [name for name in names if name not in doctor.NAMES]
    if unknown:
        known = ", ".join(doctor.NAMES)
        raise CommandError(f"--only: no {', '.join(unknown)}; there are {known}", returncode=USAGE)
    return names or doctor.NAMES
