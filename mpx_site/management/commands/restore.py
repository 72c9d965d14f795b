"""`restore`: make a backup of the embedded database the desk's database again."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from mpx_site import sqlite_copies

USAGE, NO_DATA, REFUSED = 2, 4, 5
EXAMPLES = """Stop the desk first. What was there before is kept beside it.

For PostgreSQL: `make restore FILE=...` (docs/deploy.md).
exit codes: 0 done; 2 wrong call, or the database is a server; 4 the file is no backup;
5 the desk is at work"""


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.epilog, parser.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        file, own, at = options["file"], sqlite_copies.own_file(), timezone.now()
        if own is None:
            raise CommandError(
                "the database is PostgreSQL: use `make restore` (docs/deploy.md)", returncode=USAGE
            )
        if not file.is_file():
            raise CommandError(f"{file}: there is no such file", returncode=USAGE)
        try:
            sqlite_copies.check(file)
        except sqlite_copies.NotABackup as why:
            raise CommandError(f"{file}: {why}", returncode=NO_DATA) from why
        if parts := _at_work(at):
            told = f"the desk is at work ({', '.join(parts)}): stop it first, and wait 30 s"
            raise CommandError(told, returncode=REFUSED)
        before = sqlite_copies.put_back(file, own, at=at)
        self.stdout.write(f"restored {own}; what was there before is {before}")
        self.stdout.write("Now: manage.py migrate, manage.py audit verify")


def _at_work(at: Any) -> list[str]:
    """Return which parts work; a database that cannot be read at all is nobody's."""
    try:
        return sqlite_copies.at_work(at)
    except DatabaseError:
        return []
