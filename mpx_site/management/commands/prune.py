"""`prune`: forget what is past its time, at once instead of by and by."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from mpx_site import pruning

USAGE, UNREACHABLE = 2, 3
NAMES = tuple(kind.name for kind in pruning.kinds())
EXAMPLES = """examples:
  manage.py prune --dry-run
  manage.py prune --only ticks,feed --json

Never forgotten: the audit chain, signals and their alerts, orders, fills, positions, gaps,
daily figures. It works in batches and can run while the desk works.
exit codes: 0 done; 2 wrong call; 3 no database"""


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("--dry-run", action="store_true", help="only say how much it would be")
        parser.add_argument("--only", metavar="NAME[,NAME...]", help=f"of: {', '.join(NAMES)}")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        at, wanted = timezone.now(), _names(options["only"])
        act = pruning.count if options["dry_run"] else pruning.prune
        found: dict[str, int] = {}
        try:
            for kind in pruning.kinds():
                if kind.name in wanted:
                    found[kind.name] = act(kind, at=at)
                    self.stderr.write(f"{kind.name}: {found[kind.name]:,}")
        except DatabaseError as error:
            message = f"database: {error}. Is it up, and `manage.py migrate` done?"
            raise CommandError(message, returncode=UNREACHABLE) from error
        told = {"schema": 1, "dry_run": options["dry_run"], "rows": found}
        verb = "would be forgotten" if options["dry_run"] else "forgotten"
        words = f"{sum(found.values()):,} {verb}"
        self.stdout.write(json.dumps(told) if options["json"] else words)


def _names(only: str | None) -> set[str]:
    wanted = {name.strip() for name in only.split(",")} if only else set(NAMES)
    if unknown := wanted - set(NAMES):
        told = f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        raise CommandError(told, returncode=USAGE)
    return wanted
