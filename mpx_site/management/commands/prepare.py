"""`prepare`: bring the database up to this release: tables, rules, a first account."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from rules.load import publish_missing

UNREACHABLE = 3


class Command(BaseCommand):
    help = (
        "Apply migrations, publish the shipped rules that are missing, make a first account. "
        "Safe to run again, and while the desk works. Exit code 3: no database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="say nothing of migrations")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0 if options["quiet"] else 1)
        except DatabaseError as error:
            raise CommandError(f"database: {error}", returncode=UNREACHABLE) from error
        for problem in publish_missing(at=datetime.now(UTC)).problems:
            self.stderr.write(str(problem))
        if not User.objects.exists():
            self._first_account()

    def _first_account(self) -> None:
        password = secrets.token_urlsafe(9)
        User.objects.create_superuser("operator", password=password)
        self.stdout.write(f"First start. Log in as: operator   password: {password}")
        self.stdout.write("It is shown only now; `manage.py changepassword operator` sets another.")
