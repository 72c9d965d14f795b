"""`backup`: a whole copy of the embedded database, while the desk works."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from mpx_site import sqlite_copies

USAGE, UNREACHABLE = 2, 3
EXAMPLES = """examples:
  manage.py backup /backups/mpx-2026-11-24.sqlite3

For PostgreSQL: `make backup`, or deploy/compose/scripts/backup.sh (docs/deploy.md).
exit codes: 0 written; 2 wrong call, or the database is a server; 3 it cannot be read"""


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path, help="that is not there yet")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"]
        if sqlite_copies.own_file() is None:
            raise CommandError(
                "the database is PostgreSQL: use `make backup` (docs/deploy.md)", returncode=USAGE
            )
        try:
            size = sqlite_copies.copy_to(file)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}", returncode=USAGE) from error
        except DatabaseError as error:
            file.unlink(missing_ok=True)
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        told = {"schema": 1, "file": str(file), "bytes": size}
        self.stdout.write(json.dumps(told) if options["json"] else f"{file}: {size:,} bytes")
