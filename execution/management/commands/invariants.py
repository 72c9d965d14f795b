"""Ask the database everything that must always hold, and name what does not."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from execution.invariants import NAMES, Broken, invariants

NEGATIVE, UNREACHABLE = 1, 3
EXAMPLES = """examples:
  manage.py invariants
  manage.py invariants --json

exit codes: 0 all hold; 1 something does not; 2 wrong call; 3 no database"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        try:
            broken = invariants(at)
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        if options["json"]:
            told = {"schema": 1, "at": at.isoformat(), "ok": not broken, "checked": list(NAMES),
                    "broken": [asdict(each) for each in broken]}  # fmt: skip
            self.stdout.write(json.dumps(told))
        else:
            self._tell(broken)
        if broken:
            sys.exit(NEGATIVE)

    def _tell(self, broken: Sequence[Broken]) -> None:
        for each in broken:
            self.stdout.write(f"BROKEN {each.rule} of {each.subject}: {each.detail}")
        summary = f"{len(broken)} broken" if broken else "all hold"
        self.stdout.write(f"{', '.join(NAMES)}: {summary}")
